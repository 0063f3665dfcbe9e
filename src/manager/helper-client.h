/* Calls to the root helper, org.banger.Privileged on the system bus.
 * Called by the VM verbs and by reconcile; manager-dbus.c reads the availability.
 * Never blocks, never retries a call by itself: a call fails, the connection comes back. */
#pragma once

#include <gio/gio.h>

typedef struct BangerHelper BangerHelper;

/** BangerHelperNotify: the helper's availability changed, or it has just come back. */
typedef void (*BangerHelperNotify) (gboolean available, gpointer user_data);

/** banger_helper_new: connects in the background, again with backoff (0.1 s to 10 s) whenever the bus is lost. */
BangerHelper *banger_helper_new (void);
void banger_helper_free (BangerHelper *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerHelper, banger_helper_free)

/** banger_helper_available: the system bus is connected and the helper's name has an owner or can be activated. */
gboolean banger_helper_available (BangerHelper *helper);
/** banger_helper_add_notify: @func for every change, in the main loop. Returns: an id for
 * banger_helper_remove_notify(). */
guint banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data);
void banger_helper_remove_notify (BangerHelper *helper, guint id);

/* Who asks: goes with every call. */
typedef struct {
  const char *op_id;    /* nullable */
  gboolean interactive; /* the client allowed a prompt */
} BangerHelperCaller;

/*
 * One row per method: strings and numbers in, at most one string out, or pid and pidfd.
 * Every call is bounded (30 s, LaunchVmm 60 s; two minutes more if a prompt is allowed). Errors keep the code that the
 * helper sent; no bus, no helper, no answer: %BANGER_ERROR_HELPER_UNAVAILABLE.
 */
void banger_helper_ensure_bridge (BangerHelper *, const BangerHelperCaller *, const char *bridge, const char *address,
                                  GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_create_tap (BangerHelper *, const BangerHelperCaller *, const char *vm, const char *bridge,
                               const char *address, GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_delete_tap (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                               GAsyncReadyCallback, gpointer);
void banger_helper_ensure_nat (BangerHelper *, const BangerHelperCaller *, const char *vm, const char *guest_address,
                               GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_remove_nat (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                               GAsyncReadyCallback, gpointer);
void banger_helper_create_snapshot (BangerHelper *, const BangerHelperCaller *, const char *vm, const char *image,
                                    guint64 cow_bytes, GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_remove_snapshot (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                                    GAsyncReadyCallback, gpointer);
void banger_helper_launch_vmm (BangerHelper *, const BangerHelperCaller *, const char *vm, const char *kernel,
                               const char *root, guint32 memory_mib, GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_open_vmm (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                             GAsyncReadyCallback, gpointer);
void banger_helper_get_vmm (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                            GAsyncReadyCallback, gpointer);
void banger_helper_signal_vmm (BangerHelper *, const BangerHelperCaller *, const char *vm, const char *signal,
                               GCancellable *, GAsyncReadyCallback, gpointer);
void banger_helper_kill_vmm (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                             GAsyncReadyCallback, gpointer);
void banger_helper_release_vm (BangerHelper *, const BangerHelperCaller *, const char *vm, GCancellable *,
                               GAsyncReadyCallback, gpointer);
void banger_helper_list_leases (BangerHelper *, const BangerHelperCaller *, GCancellable *, GAsyncReadyCallback,
                                gpointer);

/** banger_helper_finish: of every method without a result of its own. */
gboolean banger_helper_finish (BangerHelper *, GAsyncResult *result, GError **error);
/** banger_helper_string_finish: of create_tap and create_snapshot. Returns: (transfer full). */
char *banger_helper_string_finish (BangerHelper *, GAsyncResult *result, GError **error);
/** banger_helper_vmm_finish: of launch_vmm and open_vmm. Returns: a close-on-exec pidfd, -1 on error. */
int banger_helper_vmm_finish (BangerHelper *, GAsyncResult *result, guint32 *ret_pid, GError **error);

/* How a VMM ended, as far as the helper knows. */
typedef struct {
  gboolean running;
  guint32 pid;
  int exit_code;   /* -1 unknown */
  int exit_signal; /* 0 none or unknown */
} BangerVmmStatus;
gboolean banger_helper_status_finish (BangerHelper *, GAsyncResult *result, BangerVmmStatus *ret, GError **error);

typedef struct {
  char *vm;
  char **resources;
  guint32 pid; /* 0: no live VMM */
} BangerLeaseInfo;
/** banger_helper_leases_finish: Returns: (transfer full): BangerLeaseInfo with its free function set. */
GPtrArray *banger_helper_leases_finish (BangerHelper *, GAsyncResult *result, GError **error);
