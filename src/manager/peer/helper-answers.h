/* What the root helper answered, read and held to what was asked for: one of these ends each banger_helper_call().
 * Never believes a name, a number or a length because the helper says it. */
#pragma once

#include <gio/gio.h>

/** banger_helper_bad_answer: @r: a negative errno; else what was read is not what it was to be. */
gboolean banger_helper_bad_answer (GError **error, int r);

/** banger_helper_finish: of every method, also where the answer is not asked for. */
gboolean banger_helper_finish (GAsyncResult *result, GError **error);
/** banger_helper_name_finish: of CreateTap: what was made is called @expected. */
gboolean banger_helper_name_finish (GAsyncResult *result, const char *expected, GError **error);
/** banger_helper_place_finish: of PrepareVm: what was made is called @tap and @device; @ret_device: whether there is one. */
gboolean banger_helper_place_finish (GAsyncResult *result, const char *tap, const char *device, gboolean *ret_device,
                                     GError **error);
/** banger_helper_vmm_finish: of LaunchVmm and OpenVmm. Returns: a close-on-exec pidfd of @ret_pid, -1 on error. */
int banger_helper_vmm_finish (GAsyncResult *result, guint32 *ret_pid, GError **error);
/** banger_helper_disk_finish: of OpenDisk. Returns: a descriptor of a file that can only be read, -1 on error. */
int banger_helper_disk_finish (GAsyncResult *result, GError **error);

/* How a VMM ended, as far as the helper knows. */
typedef struct {
  gboolean running;
  guint32 pid;
  int exit_code;   /* -1 unknown */
  int exit_signal; /* 0 none or unknown */
} BangerVmmStatus;
gboolean banger_helper_status_finish (GAsyncResult *result, BangerVmmStatus *ret, GError **error);

/* What VMs are started with: of GetEngine. */
typedef struct {
  char *name;    /* "": none can be */
  char *problem; /* why; or why not the one that is preferred; "" */
  char *kvm;     /* why guests are emulated; "": they are not */
} BangerEngineInfo;
gboolean banger_helper_engine_finish (GAsyncResult *result, BangerEngineInfo *ret, GError **error);
void banger_engine_info_clear (BangerEngineInfo *info);

typedef struct {
  char *vm;
  char **resources;
  guint32 pid; /* 0: no live VMM */
} BangerLeaseInfo;
/** banger_helper_leases_finish: Returns: (transfer full): BangerLeaseInfo with its free function set. */
GPtrArray *banger_helper_leases_finish (GAsyncResult *result, GError **error);
