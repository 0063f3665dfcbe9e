/* Firecracker's HTTP API over its unix socket: configures a VMM, starts it, presses Ctrl-Alt-Del, pauses it.
 * Never knows which engine answers, nor for how long to wait: who calls cancels. */
#pragma once

#include <gio/gio.h>

/* What one VM's VMM is told. Paths are those inside the chroot. */
typedef struct {
  guint vcpus, memory_mib;
  const char *boot_args;
  gboolean work_disk; /* second drive */
  gboolean durable;   /* what the guest flushed outlives the host's power, and it is told of a host disk that is full */
  const char *tap, *mac;
  guint32 vsock_cid;
} BangerVmmConfig;

/**
 * banger_vmm_configure_async:
 * PUT machine-config, boot-source, drives, network interface, vsock, in this order. @socket_path: short enough for
 * sun_path. @pid: the VMM, which must be who listens there; nothing is said to anybody else. A refusal is
 * %BANGER_ERROR_ENGINE_FAILED with the request and the engine's fault message.
 */
void banger_vmm_configure_async (const char *socket_path, pid_t pid, const BangerVmmConfig *config,
                                 GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** banger_vmm_action_async: @action is "InstanceStart" or "SendCtrlAltDel". */
void banger_vmm_action_async (const char *socket_path, pid_t pid, const char *action, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data);
/** banger_vmm_pause_async: PATCH /vm. That it is so already is success. */
void banger_vmm_pause_async (const char *socket_path, pid_t pid, gboolean paused, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer user_data);
/** banger_vmm_save_async: PUT /snapshot/create of a paused guest, into the jail's files for that. */
void banger_vmm_save_async (const char *socket_path, pid_t pid, GCancellable *cancellable, GAsyncReadyCallback callback,
                            gpointer user_data);
/** banger_vmm_load_async: PUT /snapshot/load from the jail's files for that, in a fresh VMM: the guest is paused then.
 * @tap: (nullable): %NULL: the one that it was saved with. */
void banger_vmm_load_async (const char *socket_path, pid_t pid, const char *tap, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vmm_finish (GAsyncResult *result, GError **error);

/* Exposed for the unit test. */
typedef struct {
  const char *method;
  char *path, *body;
  guint seconds; /* for the answer */
} BangerVmmRequest;
/** banger_vmm_requests: Returns: (transfer full): BangerVmmRequest, in the order in which they are sent. */
GPtrArray *banger_vmm_requests (const BangerVmmConfig *config);
