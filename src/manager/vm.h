/* A virtual machine as the manager sees it: record, states, verbs. Knows no D-Bus.
 * Called by manager.c (the table, reconcile) and vm-dbus.c (properties and verbs).
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

/** banger_vm_state_to_string: Returns: (transfer none): the word of the State property. */
const char *banger_vm_state_to_string (BangerVmState state);
int banger_vm_state_from_string (const char *word); /* -1 if unknown */

/* What record.json holds. Strings are never NULL: "" is unknown or none. */
typedef struct {
  char *id, *name;
  int state;    /* BangerVmState */
  char *reason; /* why it is in this state, for people; "" if as asked */
  char *image, *image_id, *kernel, *kernel_id;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes; /* work disk */
  gboolean nat, ephemeral;
  char *address; /* of the guest, without prefix; given at creation, kept for life */
  char *mac;
  char *root;         /* "snapshot", "file"; "" before the first start */
  guint64 created_at; /* µs since the epoch */
  guint64 started_at; /* µs since the epoch, 0 when it does not run */
  guint32 pid;        /* of the VMM, 0 when none */
  char *boot_id;      /* of the running guest */
} BangerVmRecord;

/* CreateVM's options; 0 and NULL mean the default. Keys: image kernel vcpu memory-mib disk-bytes nat ephemeral. */
typedef struct {
  const char *image;  /* name or id; "default" if NULL */
  const char *kernel; /* name or id; "default" if NULL */
  guint32 vcpus;      /* 1..32; default 2 */
  guint32 memory_mib; /* 128..1048576; default 1024 */
  guint64 disk_bytes; /* work disk, at least the seed's size; rounded up to 4096; default 8 GiB */
  gboolean nat;       /* set it: the D-Bus default is TRUE */
  gboolean ephemeral; /* deleted when it ends, for whatever reason */
} BangerVmSpec;

/* An image or a kernel as a VM needs it; strings and descriptor are the receiver's. */
typedef struct {
  char *id, *name;
  int dir_fd;           /* its folder, readable */
  guint64 rootfs_bytes; /* images: size of rootfs.ext4 */
  guint64 seed_bytes;   /* images: size of seed.ext4, 0 if it has none */
} BangerVmSource;
void banger_vm_source_clear (BangerVmSource *source);

/* What the VMs ask of the rest of the manager. @name NULL: the default one; an id is accepted too. Errors: NoSuchImage,
 * NoSuchKernel, WrongState while it is not ready. */
typedef struct {
  gboolean (*find_image) (const char *name, BangerVmSource *ret, gpointer user_data, GError **error);
  gboolean (*find_kernel) (const char *name, BangerVmSource *ret, gpointer user_data, GError **error);
} BangerVmSources;

/* What the VMs announce, in the main thread, after the table is as announced. */
typedef struct {
  void (*added) (const char *id, gpointer user_data);
  void (*removed) (const char *id, gpointer user_data);
  /* @properties: NULL-terminated names of org.banger.VM, one call per transition. */
  void (*changed) (const char *id, const char *const *properties, gpointer user_data);
  /* A folder whose record is unreadable was renamed to @new_name. */
  void (*set_aside) (const char *new_name, const GError *why, gpointer user_data);
} BangerVmObserver;

/**
 * banger_vms_new:
 * Reads every record below <state>/<uid>/vms. Nothing is done to any VM before banger_vms_reconcile().
 * @install, @helper, @sources, @observer: borrowed, outlive the table; callbacks get @user_data.
 */
BangerVms *banger_vms_new (const BangerInstall *install, BangerHelper *helper, const BangerVmSources *sources,
                           const BangerVmObserver *observer, gpointer user_data, GError **error);
/** banger_vms_free: drops connections and watches; every running VM stays as it is. */
void banger_vms_free (BangerVms *vms);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVms, banger_vms_free)

/**
 * banger_vms_reconcile:
 * Holds records against the helper's leases (requirements F5, H1), in the background. Verbs given before its end wait
 * for it. When the helper cannot be reached VMs keep the state of their record, waiting verbs go on (and fail where
 * they need the helper), and it runs again by itself when the helper is back.
 */
void banger_vms_reconcile (BangerVms *vms);

/** banger_vms_find: by name, then by id. Returns: (transfer none): %NULL with %BANGER_ERROR_NO_SUCH_VM. */
BangerVm *banger_vms_find (BangerVms *vms, const char *name, GError **error);
/** banger_vms_find_id: by id alone. Returns: (transfer none) (nullable). */
BangerVm *banger_vms_find_id (BangerVms *vms, const char *id);
/** banger_vms_list: Returns: (transfer container): BangerVm *, oldest first. */
GPtrArray *banger_vms_list (BangerVms *vms);

BangerVm *banger_vm_ref (BangerVm *vm);
void banger_vm_unref (BangerVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVm, banger_vm_unref)
const BangerVmRecord *banger_vm_record (BangerVm *vm);

const char *banger_vm_identity_file (BangerVm *vm); /* the owner's client key, absolute */
const char *banger_vm_known_hosts_file (BangerVm *vm);
const char *banger_vm_host_key_alias (BangerVm *vm); /* banger-<id> */
const char *banger_vm_console_log (BangerVm *vm);    /* absolute path */
/** banger_vm_open_console: Returns: a read-only descriptor of the console log, -1 with error. */
int banger_vm_open_console (BangerVm *vm, GError **error);

typedef enum {
  BANGER_VM_VERB_CREATE,
  BANGER_VM_VERB_START,
  BANGER_VM_VERB_STOP,
  BANGER_VM_VERB_KILL,
  BANGER_VM_VERB_RESTART,
  BANGER_VM_VERB_DELETE,
  BANGER_VM_VERB_IMPORT_WORKSPACE,
  BANGER_N_VM_VERBS,
} BangerVmVerb;

typedef struct {
  guint64 timeout_usec; /* stop, restart: how long the guest may take by itself; 0: 20 s. Key timeout-us */
  gboolean force;       /* delete: a running VM is killed first. Key force */
  const char *path; /* import-workspace: absolute, inside a git work tree; appears as /root/<name of its top folder> */
} BangerVmVerbOptions;

/**
 * banger_vms_add:
 * First half of CreateVM, before a job is made: checks name, spec and limits, gives id and address, writes the record
 * in `creating`, announces the VM. Nothing is left behind on error. Returns: (transfer none): follow with
 * banger_vm_verb_async(BANGER_VM_VERB_CREATE) or banger_vm_drop() at once.
 */
BangerVm *banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error);
/** banger_vm_drop: undoes banger_vms_add() when no job could be made. */
void banger_vm_drop (BangerVm *vm);

/** banger_vm_check: whether the verb would be refused now (WrongState, InvalidPath): call it before a job is made. */
gboolean banger_vm_check (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, GError **error);

/**
 * banger_vm_verb_async:
 * Runs @verb on @vm. One verb per VM at a time (else %BANGER_ERROR_WRONG_STATE); stop, kill and a forced delete
 * interrupt a start under way and go on when it is undone. The job's op id goes into every helper call, its cancellable
 * ends the verb.
 * @options: copied. @job: its end is the caller's (banger_job_finish with the error of _finish).
 * Create ends in `stopped` or the VM is gone; start ends in `running` or everything it made is undone.
 */
void banger_vm_verb_async (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *job,
                           GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_verb_finish (BangerVm *vm, GAsyncResult *result, GError **error);

/** banger_vm_fault_stages: Returns: NULL-ended names of every fault point of a start, in order (bangerd
 * --list-fault-stages). */
const char *const *banger_vm_fault_stages (void);
