/* A virtual machine as the manager sees it: record, states, verbs. Knows no D-Bus.
 * Called by manager.c (life of the table) and vm-dbus.c (properties and verbs).
 * Never blocks the main loop, never makes anything before its record names it. */
#pragma once

#include <gio/gio.h>
#include "common/install.h"
#include "manager/helper-client.h"
#include "manager/job.h"

typedef struct BangerVms BangerVms; /* the table of all VMs of this owner */
typedef struct BangerVm BangerVm;

typedef enum {
  BANGER_VM_CREATING,
  BANGER_VM_STOPPED,
  BANGER_VM_STARTING,
  BANGER_VM_RUNNING,
  BANGER_VM_STOPPING,
  BANGER_VM_DELETING,
  BANGER_N_VM_STATES,
} BangerVmState;

/** banger_vm_state_to_string: Returns: (transfer none): the word of the VM interface's State property. */
const char *banger_vm_state_to_string (BangerVmState state);
/** banger_vm_state_from_string: Returns: -1 for a word that is not in the table. */
int banger_vm_state_from_string (const char *word);

/* What record.json holds. Strings are never NULL: "" is unknown or none. Times are microseconds since the epoch, 0 = never. */
typedef struct {
  char *id, *name;
  BangerVmState state;
  char *reason; /* why it is in this state, for people; "" if as asked */
  char *image, *image_id, *kernel, *kernel_id;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes; /* work disk */
  gboolean nat, ephemeral;
  char *address; /* of the guest, without prefix; given at creation, kept for life */
  char *mac;
  char *root; /* "snapshot", "file", "" before the first start */
  gint64 created_at, started_at;
  guint32 pid;   /* of the VMM, 0 when none */
  char *boot_id; /* of the running guest */
} BangerVmRecord;

/** banger_vm_record_read / _write: <dir_fd>/record.json, written whole. A record that is not as we write it is %BANGER_ERROR_STATE_CORRUPT. */
BangerVmRecord *banger_vm_record_read (int dir_fd, const char *id, GError **error);
gboolean banger_vm_record_write (const BangerVmRecord *record, int dir_fd, GError **error);
void banger_vm_record_free (BangerVmRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVmRecord, banger_vm_record_free)

/* CreateVM's options; 0 and NULL mean the default. Option keys: image kernel vcpus memory-mib disk-bytes nat ephemeral. */
typedef struct {
  const char *image;  /* name or id; default image if NULL */
  const char *kernel; /* name or id; default kernel if NULL */
  guint32 vcpus;      /* 1..32; default 2 */
  guint32 memory_mib; /* 128..; default 1024 */
  guint64 disk_bytes; /* multiple of 4096, at least the seed's size; default 8 GiB */
  gboolean nat;       /* set it: the D-Bus default is TRUE */
  gboolean ephemeral; /* deleted when it stops, for whatever reason */
} BangerVmSpec;

/* An image or a kernel as a VM needs it. */
typedef struct {
  char *id, *name;
  int dir_fd;            /* its folder, O_PATH|O_DIRECTORY or readable */
  guint64 rootfs_bytes;  /* images: size of rootfs.ext4 */
  guint64 seed_bytes;    /* images: size of seed.ext4, 0 if it has none */
} BangerVmSource;
void banger_vm_source_clear (BangerVmSource *source);

/* What the VMs ask of the rest of the manager. @name_or_id NULL: the default one. Errors: NoSuchImage, NoSuchKernel, WrongState (not ready). */
typedef struct {
  gboolean (*find_image) (const char *name_or_id, BangerVmSource *ret, gpointer user_data, GError **error);
  gboolean (*find_kernel) (const char *name_or_id, BangerVmSource *ret, gpointer user_data, GError **error);
} BangerVmSources;

typedef enum { BANGER_VM_EVENT_ADDED, BANGER_VM_EVENT_CHANGED, BANGER_VM_EVENT_REMOVED } BangerVmEvent;
/** BangerVmNotify: one call per transition. @properties: NULL-ended names of org.banger.VM's properties that changed (CHANGED only). */
typedef void (*BangerVmNotify) (BangerVm *vm, BangerVmEvent event, const char *const *properties, gpointer user_data);

/**
 * banger_vms_new:
 * Reads every record below <state>/<uid>/vms. Nothing is done to any VM before banger_vms_reconcile_async().
 * @install, @helper: borrowed, outlive the table. @sources, @notify: called in the main loop with @user_data.
 * A folder with a corrupt record is logged, left alone and not listed.
 */
BangerVms *banger_vms_new (const BangerInstall *install, BangerHelper *helper, const BangerVmSources *sources,
                           BangerVmNotify notify, gpointer user_data, GError **error);
/** banger_vms_free: drops connections and watches; every running VM stays as it is. */
void banger_vms_free (BangerVms *vms);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVms, banger_vms_free)

/**
 * banger_vms_reconcile_async:
 * Holds records against the helper's leases (requirements F5, H1). Verbs wait for its end. If the helper cannot be reached
 * it ends with %BANGER_ERROR_HELPER_UNAVAILABLE and runs again by itself when the helper is back.
 */
void banger_vms_reconcile_async (BangerVms *vms, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vms_reconcile_finish (BangerVms *vms, GAsyncResult *result, GError **error);

/** banger_vms_find: by name, then by id. Returns: (transfer none): %NULL with %BANGER_ERROR_NO_SUCH_VM. */
BangerVm *banger_vms_find (BangerVms *vms, const char *name_or_id, GError **error);
/** banger_vms_find_id: by id alone. Returns: (transfer none) (nullable). */
BangerVm *banger_vms_find_id (BangerVms *vms, const char *id);
/** banger_vms_list: Returns: (transfer container): BangerVm, oldest first. */
GPtrArray *banger_vms_list (BangerVms *vms);
/** banger_vms_using: Returns: (transfer none) (nullable): a VM made from the image or kernel of that id. */
BangerVm *banger_vms_using (BangerVms *vms, const char *image_or_kernel_id);

const BangerVmRecord *banger_vm_record (BangerVm *vm);
const char *banger_vm_identity_file (BangerVm *vm);    /* the owner's client key */
const char *banger_vm_known_hosts_file (BangerVm *vm);
const char *banger_vm_host_key_alias (BangerVm *vm);   /* banger-<id> */
const char *banger_vm_console_log (BangerVm *vm);      /* absolute path */
/** banger_vm_open_console: Returns: a read-only descriptor of the console log, -1 with error. */
int banger_vm_open_console (BangerVm *vm, GError **error);
BangerVm *banger_vm_ref (BangerVm *vm);
void banger_vm_unref (BangerVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVm, banger_vm_unref)

/*
 * Verbs. `_check` tells at once whether the verb would be refused (WrongState): call it before a job is made, so that the
 * caller gets the error as the reply. The `_async` part checks again. One verb per VM at a time; stop, kill and a forced
 * delete interrupt a start. @job must not be NULL; its op id and cancellable are used; the caller ends the job with the
 * result of `_finish`.
 */
typedef enum { BANGER_VM_START, BANGER_VM_STOP, BANGER_VM_KILL, BANGER_VM_RESTART, BANGER_VM_DELETE, BANGER_VM_DELETE_FORCE, BANGER_VM_IMPORT_WORKSPACE, BANGER_N_VM_VERBS } BangerVmVerb;
gboolean banger_vm_check (BangerVm *vm, BangerVmVerb verb, GError **error);

/**
 * banger_vms_add:
 * First half of CreateVM: checks name, spec, limits; gives id and address; writes the record in `creating`.
 * Nothing is left behind on error. Returns: (transfer none): follow with banger_vm_create_async() at once.
 */
BangerVm *banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error);
/** banger_vm_create_async: second half: keys and known_hosts; ends in `stopped`, or the VM is gone. */
void banger_vm_create_async (BangerVm *vm, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_create_finish (BangerVm *vm, GAsyncResult *result, GError **error);

void banger_vm_start_async (BangerVm *vm, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_start_finish (BangerVm *vm, GAsyncResult *result, GError **error);

/* @timeout_usec: how long the guest may take to shut down before it is powered off; 0: 20 s. Option key timeout-us. */
void banger_vm_stop_async (BangerVm *vm, guint64 timeout_usec, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_stop_finish (BangerVm *vm, GAsyncResult *result, GError **error);

void banger_vm_kill_async (BangerVm *vm, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_kill_finish (BangerVm *vm, GAsyncResult *result, GError **error);

void banger_vm_restart_async (BangerVm *vm, guint64 timeout_usec, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_restart_finish (BangerVm *vm, GAsyncResult *result, GError **error);

/* @force: a running VM is killed first; else %BANGER_ERROR_WRONG_STATE. Option key force. */
void banger_vm_delete_async (BangerVm *vm, gboolean force, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_delete_finish (BangerVm *vm, GAsyncResult *result, GError **error);

/* @path: absolute, in a git work tree. The tree appears as /root/<name of its top folder> in the guest. */
void banger_vm_import_workspace_async (BangerVm *vm, const char *path, BangerJob *job, GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_import_workspace_finish (BangerVm *vm, GAsyncResult *result, GError **error);

/** banger_vm_fault_stages: Returns: NULL-ended names of every fault point of a start, in order (bangerd --list-fault-stages). */
const char *const *banger_vm_fault_stages (void);

/*
 * Needed of job.h (owned by the same room's other half):
 *   const char *banger_job_op_id (BangerJob *);             "op-..."
 *   GCancellable *banger_job_cancellable (BangerJob *);     cancelled by Job.Cancel
 *   gboolean banger_job_interactive (BangerJob *);          client's allow-interactive-authorization flag, forwarded to the helper
 *   void banger_job_set_stage (BangerJob *, const char *);  main thread
 *   void banger_job_set_progress (BangerJob *, double);     main thread; -1 unknown
 *   void banger_job_set_cancelable (BangerJob *, gboolean);
 *   BangerJob *banger_job_ref / banger_job_unref
 * Needed of fault.h: void banger_fault_point (const char *stage);
 */
