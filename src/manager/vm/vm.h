/* A virtual machine as the manager sees it: record, states, verbs. Knows no D-Bus.
 * Never blocks the main loop, never makes anything before its record names it. */
#pragma once

#include <gio/gio.h>

#include "common/config.h"
#include "common/install.h"
#include "manager/core/job.h"
#include "manager/core/record.h"
#include "manager/core/writer.h"
#include "manager/peer/exec.h"
#include "manager/peer/helper.h"
#include "manager/workspace/workspace.h"

typedef struct BangerVms BangerVms; /* the table of all VMs of this owner */
typedef struct BangerVm BangerVm;

typedef enum {
  BANGER_VM_CREATING,
  BANGER_VM_STOPPED,
  BANGER_VM_STARTING,
  BANGER_VM_RUNNING,
  BANGER_VM_STOPPING,
  BANGER_VM_DELETING,
  BANGER_VM_SUSPENDED,  /* nothing runs; a start has its guest go on where it was */
  BANGER_VM_PAUSED,     /* its VMM runs, and its guest does not: nothing but the word resumes it */
  BANGER_VM_UNREADABLE, /* its record cannot be read, and so not what it is: it may run */
  BANGER_N_VM_STATES,
} BangerVmState;

/** banger_vm_state_to_string: Returns: (transfer none): the word of the State property. */
const char *banger_vm_state_to_string (BangerVmState state);

/* Of the scripts that run once in a new guest. */
#define BANGER_SETUP_PENDING "pending"
#define BANGER_SETUP_FAILED "failed" /* the next start tries again */
#define BANGER_SETUP_DONE "done"

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
  char *root;             /* "snapshot", "file"; "" before the first start */
  guint64 created_at;     /* µs since the epoch */
  guint64 started_at;     /* µs since the epoch, 0 when it does not run */
  guint64 starts;         /* how many were begun */
  guint32 pid;            /* of the VMM, 0 when none */
  char *boot_id;          /* of the running guest */
  char *suspended;        /* of what was saved of its guest, see saved.c; "": nothing is */
  char *client;           /* that it goes with, see banger_follow_client(); "" for nobody */
  char *init;             /* path in the image that is to be process 1, "": the image's own */
  char *ssh_server;       /* "found", "missing", "starting": of the run at hand or the last one; "": not known yet */
  char *login_user;       /* by ssh; "root" in guests that an older banger started */
  char **forwards;        /* "127.0.0.1:8080:80", see banger_vm_forward_add(); NULL: none */
  char **links;           /* ids of the VMs that it may reach; NULL: none */
  char **host_ports;      /* TCP ports of the bridge's address that it may reach; NULL: none */
  char *workspace;        /* top folder of the host whose tree was sent last, "": none, or no UTF-8 */
  char *workspace_folder; /* where it is in the guest */
  char *workspace_head;   /* the commit that HEAD was then, "": none */
  char **workspace_words; /* how it was asked for: no-git, tracked-only, depth=N; so it is sent again */
  char *setup;            /* BANGER_SETUP_*, "": there is none to be run */
  char *setup_script;     /* of the owner's, that is to run once with those of config.toml; "": none, or it has run */
  char **published;       /* those of forwards that are config.toml's: without them a start goes on */
  gboolean providing;     /* it runs, and files of the home folder or its setup are on their way, or never got there */
  char **setup_done;      /* digests of those that have run, until all have */
  char *restoring;        /* "copying ID", "changing ID": how far it is put back to that; "": it is not */
  char *forked; /* id of the VM that it is a copy of and that it has yet to become: else it goes; "": it is not */
  gboolean stands_still; /* it is paused for as long as a verb takes, and goes on whatever becomes of that */
} BangerVmRecord;

extern const BangerRecordField banger_vm_fields[]; /* of a BangerVmRecord */

/* What a VM may reach, changed. Each NULL: nothing of it. */
typedef struct {
  const char *const *link;   /* names or ids of VMs */
  const char *const *unlink; /* likewise */
  const char *const *allow;  /* TCP ports of the host. Key allow-host */
  const char *const *deny;   /* likewise. Key deny-host */
} BangerVmReach;

/* CreateVM's options; 0 and NULL mean the default, of the owner's config.toml. Keys: image kernel vcpu memory-mib disk-bytes nat ephemeral
 * init publish link allow-host setup. */
typedef struct {
  const char *image;             /* name or id; the owner's default if NULL */
  const char *kernel;            /* name or id; "default" if NULL */
  guint32 vcpus;                 /* 1..32 */
  guint32 memory_mib;            /* 128..1048576 */
  guint64 disk_bytes;            /* work disk, at least the seed's size; rounded up to 4096 */
  gboolean nat;                  /* set it: the default is of the owner's config.toml, too */
  gboolean ephemeral;            /* deleted when it ends, for whatever reason */
  const char *client;            /* NULL: it does not go with one */
  const char *init;              /* see BangerVmRecord; NULL: the image's own */
  const char *const *publish;    /* as banger_vm_forward_add() takes them; NULL: none */
  BangerVmReach reach;           /* no more than is added */
  gboolean bare;                 /* without what config.toml publishes */
  const char *setup;             /* text of a script that runs once in the guest; NULL: none */
  const BangerVmRecord *fork_of; /* NULL; or of whose memory it is to be a copy */
} BangerVmSpec;

/* An image or a kernel as a VM needs it; strings and descriptor are the receiver's. */
typedef struct {
  char *id, *name;
  int dir_fd;           /* its folder, readable */
  guint64 rootfs_bytes; /* images: size of rootfs.ext4 */
  guint64 seed_bytes;   /* images: size of seed.ext4, 0 if it has none */
} BangerVmSource;
void banger_vm_source_clear (BangerVmSource *source);

/* What a first start may restore its guest from; strings and descriptor are the receiver's. */
typedef struct {
  char *id;
  int dir_fd;             /* its folder */
  char *files, *programs; /* stamps, see stamp.h, of banger_vm_template_files and banger_vm_template_programs() */
  gboolean snapshot;      /* its root disk is the helper's, of its id; else a file in its folder */
} BangerVmTemplate;
void banger_vm_template_clear (BangerVmTemplate *template);
extern const char *const banger_vm_template_files[]; /* in its folder: state, memory, disks */
/** banger_vm_template_programs: the VMMs and the guest's agent: what is restored needs the same. In a worker. */
char *banger_vm_template_programs (const BangerInstall *install);

/* A VM as it was once: its disks and, if it ran, its guest's memory, in a folder of its own. Counted; strings are not NULL but
 * where it says so. */
typedef struct {
  char *id;        /* its disk, where that is the helper's, has it, too */
  char *name;      /* of all of that VM its own; "" is nobody's to see */
  char *vm;        /* id */
  gboolean memory; /* a restored VM goes on where it was; else it is booted */
  char *saved;     /* of its guest, see saved.c; "": it has none */
  char *files;     /* stamp, see stamp.h, of banger_vm_template_files */
  char *programs;  /* stamp, see banger_vm_template_programs() */
  char *root;      /* "snapshot": the root disk is the helper's; "file" */
  guint32 vcpus, memory_mib;
  guint64 disk_bytes;
  guint64 size_bytes;
  guint64 starts;      /* how many of the VM's were begun */
  guint64 created_at;  /* µs since the epoch */
  guint64 paused_usec; /* that its guest stood still for it */
  /* What the VM's record said of what is in the guest, see BangerVmRecord; strings NULL: an earlier version made it. */
  char *ssh_server, *login_user, *workspace, *workspace_folder, *setup, *setup_script, **setup_done;
  gboolean providing;
  int dir_fd;     /* its folder, -1 until there is one */
  guint restores; /* verbs that its VM is to be put back to it by, under way or held */
  gboolean going; /* it is being deleted */
} BangerVmSnapshot;
BangerVmSnapshot *banger_vm_snapshot_new (void);
BangerVmSnapshot *banger_vm_snapshot_ref (BangerVmSnapshot *snapshot);
void banger_vm_snapshot_unref (BangerVmSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVmSnapshot, banger_vm_snapshot_unref)
extern const BangerRecordField banger_vm_snapshot_fields[]; /* of a BangerVmSnapshot */

/** banger_vm_restores: whether @vm is being put back to @snapshot, or is to be as that ended in the middle. */
gboolean banger_vm_restores (const BangerVm *vm, const BangerVmSnapshot *snapshot);

/* What the VMs ask of the rest of the manager. @name NULL: the default one; an id is accepted too. Errors: NoSuchImage,
 * NoSuchKernel, WrongState while it is not ready. */
typedef struct {
  gboolean (*find_image) (const char *name, BangerVmSource *ret, gpointer user_data, GError **error);
  gboolean (*find_kernel) (const char *name, BangerVmSource *ret, gpointer user_data, GError **error);
  const BangerConfig *(*config) (gpointer user_data); /* the owner's, as it is now */
  /* The template for a VM of @record, if there is one; NULL: there are none. */
  gboolean (*find_template) (const BangerVmRecord *record, BangerVmTemplate *ret, gpointer user_data);
  /* A guest was restored from it, or @why (nullable) it is not good for that. */
  void (*template_ended) (const char *id, const char *why, gpointer user_data);
  /* A VM of @record was booted for the first time, and runs; NULL: nobody cares. */
  void (*booted) (const BangerVmRecord *record, gpointer user_data);
} BangerVmSources;

/* What the VMs announce. */
typedef struct {
  BangerObserver objects;
  /* The record in the folder @name is unreadable: it is left as it is. */
  void (*unreadable) (const char *name, const GError *why, gpointer user_data);
} BangerVmObserver;

/**
 * banger_vms_new:
 * Reads every record below <state>/<uid>/vms. Nothing is done to any VM before banger_vms_reconcile().
 * @install, @helper, @writer, @sources, @observer: borrowed, outlive the table; callbacks get @user_data.
 */
BangerVms *banger_vms_new (const BangerInstall *install, BangerHelper *helper, BangerWriter *writer,
                           const BangerVmSources *sources, const BangerVmObserver *observer, gpointer user_data,
                           GError **error);
/** banger_vms_free: drops connections and watches; every running VM stays as it is. */
void banger_vms_free (BangerVms *vms);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVms, banger_vms_free)

/**
 * banger_vms_reconcile:
 * Holds records against the helper's leases (requirements F5, H1), in the background. Verbs given before its end wait
 * for it. When the helper cannot be reached VMs keep the state of their record, waiting verbs go on (and fail where
 * they need the helper), and it runs again by itself when the helper is back.
 * @looked: (nullable): called once, when what can be known for now is; what it returns is not looked at.
 */
void banger_vms_reconcile (BangerVms *vms, GSourceFunc looked, gpointer looked_data);

/** banger_vm_known: %FALSE while the state is that of a record which nobody has held against the leases: the host may
 * have been booted since. */
gboolean banger_vm_known (BangerVm *vm);

/** banger_vms_find: by id, then by name. Returns: (transfer none): %NULL with %BANGER_ERROR_NO_SUCH_VM. */
BangerVm *banger_vms_find (BangerVms *vms, const char *name, GError **error);
/** banger_vms_find_id: by id alone. Returns: (transfer none) (nullable). */
BangerVm *banger_vms_find_id (BangerVms *vms, const char *id);
/** banger_vms_list: Returns: (transfer container): BangerVm *, oldest first. */
GPtrArray *banger_vms_list (BangerVms *vms);

BangerVm *banger_vm_ref (BangerVm *vm);
void banger_vm_unref (BangerVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVm, banger_vm_unref)
/** banger_vm_record: what was announced last, which is what is on the disk (docs/architecture.md, "Records"). */
const BangerVmRecord *banger_vm_record (BangerVm *vm);

const char *banger_vm_identity_file (BangerVm *vm); /* the owner's client key, absolute */
const char *banger_vm_known_hosts_file (BangerVm *vm);
const char *banger_vm_host_key_alias (BangerVm *vm); /* banger-<id> */
const char *banger_vm_console_log (BangerVm *vm);    /* absolute path */
/** banger_vm_open_log_async: @setup: what its setup wrote, and not the console log. */
void banger_vm_open_log_async (BangerVm *vm, gboolean setup, GAsyncReadyCallback callback, gpointer user_data);
/** banger_vm_open_log_finish: @ret_path: (transfer full). Returns: a read-only descriptor of the log, -1 with error. */
int banger_vm_open_log_finish (GAsyncResult *result, char **ret_path, GError **error);
/**
 * banger_vm_exec_async:
 * Has its agent run a command. One that is not connected, as just after a start of this daemon, is waited for a while.
 * WrongState, InvalidArgs; NotSupported for an agent of an older banger, else as banger_exec_start_async().
 */
void banger_vm_exec_async (BangerVm *vm, const BangerExecSpec *spec, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer user_data);
/** banger_vm_exec_finish: @ret_fds: as banger_exec_start_finish(). */
BangerExec *banger_vm_exec_finish (GAsyncResult *result, int *ret_fds, GError **error);

/**
 * banger_vm_forward_add:
 * @text: "[ADDRESS:]PORT:PORT": a port of this host, at 127.0.0.1 if nothing else is said, that leads to a TCP port in the
 * guest while the VM runs. It is in the record until it is removed. InvalidArgs, InUse, LimitsExceeded, WrongState.
 * Returns: (transfer full): as it is recorded.
 */
char *banger_vm_forward_add (BangerVm *vm, const char *text, GError **error);
/** banger_vm_forward_remove: connections that are open stay. Returns: (transfer full): as it was recorded. */
char *banger_vm_forward_remove (BangerVm *vm, const char *text, GError **error);

/** banger_vm_forward_undo: what was @added, or else removed, could not be recorded: it is as it was. */
void banger_vm_forward_undo (BangerVm *vm, const char *full, gboolean added);

/** BangerVmTold: @error: (nullable): why it is not on the disk; Timeout: it may yet be. */
typedef void (*BangerVmTold) (BangerVm *vm, const GError *error, gpointer data);
/**
 * banger_vm_when_recorded:
 * Tells when what was set is on the disk and announced: who asks then sees it. Of a disk that does not take it after a few
 * seconds, too, with an error.
 */
void banger_vm_when_recorded (BangerVm *vm, BangerVmTold told, gpointer data);

typedef enum {
  BANGER_VM_VERB_CREATE,
  BANGER_VM_VERB_START,
  BANGER_VM_VERB_STOP,
  BANGER_VM_VERB_KILL,
  BANGER_VM_VERB_RESTART,
  BANGER_VM_VERB_PAUSE,
  BANGER_VM_VERB_RESUME,
  BANGER_VM_VERB_SUSPEND,
  BANGER_VM_VERB_DELETE,
  BANGER_VM_VERB_IMPORT_WORKSPACE,
  BANGER_VM_VERB_SET,
  BANGER_VM_VERB_HOLD,
  BANGER_VM_VERB_SNAPSHOT,
  BANGER_VM_VERB_FORK,
  BANGER_VM_VERB_RESTORE,
  BANGER_N_VM_VERBS,
} BangerVmVerb;

typedef struct BangerVmHold BangerVmHold;

typedef enum { BANGER_VM_NAT_KEEP, BANGER_VM_NAT_ON, BANGER_VM_NAT_OFF } BangerVmNat;

typedef struct {
  guint64 timeout_usec; /* stop, restart: how long the guest may take by itself; 0: 20 s. Key timeout-us */
  gboolean discard;     /* start: a suspended one is booted, what was in its memory is lost. Key discard */
  gboolean mapped;      /* start: booted on a file as its memory, to be saved */
  gboolean idle;        /* start: its VMM has the least priority that there is */
  gboolean paused;      /* suspend: saved, and no more: it stays paused */
  gboolean force;       /* delete: a running VM is killed first. Key force */
  gboolean only_starts; /* delete: only if it has been started as often as that */
  guint64 starts;       /* the number of it. Key starts */
  gboolean start;       /* create: it is started then, as a verb of its own */
  const char *path; /* import-workspace: absolute, inside a git work tree; appears as /root/<name of its top folder> */
  BangerWorkspaceWish wish; /* of it. Keys tracked-only branch from depth no-git */
  const char *signal;       /* kill: that its VMM gets, as the helper knows it; NULL: it ends. Key signal */
  /* set: what is 0 or NULL stays. Keys name vcpu memory-mib disk-bytes nat, and those of the reach */
  const char *name;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes;
  BangerVmNat nat;
  const char *setup;  /* in the place of the script that is to run once. Key setup */
  BangerVmHold *hold; /* hold: who does */
  BangerVmReach reach;
  /* snapshot, fork: to be filled; restore: what it is put back to; start: of another VM, whose copy it is. A reference is
   * kept. */
  BangerVmSnapshot *snapshot;
} BangerVmVerbOptions;

/**
 * banger_vms_add:
 * First half of CreateVM, before a job is made: checks name, spec and limits, gives id and address, announces the VM in
 * `creating`. Its record is written by BANGER_VM_VERB_CREATE: follow with that, or with
 * banger_vm_drop(), at once. Nothing is left behind on error. Returns: (transfer none).
 */
BangerVm *banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error);
#define BANGER_VM_MOST_COPIES 32
/**
 * banger_vms_add_copies:
 * Likewise @count of them that become copies of @of, which runs: with its size and what it may reach, but none of its forwarded
 * ports. One is called @name; more are called NAME-1, NAME-2 and so on. None runs before it is started from what
 * BANGER_VM_VERB_FORK of @of has filled, by %BANGER_VM_VERB_START with that as snapshot; one that fails goes by itself.
 * Returns: (transfer full): of BangerVm: all or, with error, %NULL.
 */
GPtrArray *banger_vms_add_copies (BangerVms *vms, BangerVm *of, const char *name, guint count, GError **error);
/** banger_vms_drop_copies: as banger_vm_drop(), those that no %BANGER_VM_VERB_CREATE was begun of. */
void banger_vms_drop_copies (GPtrArray *copies);
/** banger_vm_reserve: of what is asked for on the bus only its end is done from here on, by whoever. */
void banger_vm_reserve (BangerVm *vm);
/** banger_vm_check_free: it is not reserved: what is done in its guest would be in each copy of it. */
gboolean banger_vm_check_free (const BangerVm *vm, GError **error);
/** banger_vm_is_gone: it is deleted. */
gboolean banger_vm_is_gone (const BangerVm *vm);
/** banger_vm_drop: undoes banger_vms_add() when no job could be made. */
void banger_vm_drop (BangerVm *vm);

/**
 * banger_vm_job_new:
 * The job that is @verb on @vm, to be begun (banger_job_begin()). One verb per VM at a time (else %BANGER_ERROR_WRONG_STATE); stop, kill and a forced delete
 * interrupt a start under way and go on when it is undone. The job's op id goes into every helper call.
 * Create ends in `stopped` or the VM is gone; start ends in `running` or everything it made is undone.
 * @options: copied. @spec: who asked. Returns: as banger_job_new(): %NULL with an error, also if the verb
 * would be refused now: WrongState, InvalidPath.
 */
BangerJob *banger_vm_job_new (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJobs *jobs,
                              const BangerJobSpec *spec, GError **error);

/** banger_vm_may: whether that verb would be refused now. */
gboolean banger_vm_may (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, GError **error);

/** banger_vm_run_async: likewise, as a part of what @whole (nullable) is for, which does not end with it. */
void banger_vm_run_async (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *whole,
                          GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_vm_run_finish (GAsyncResult *result, GError **error);

/** banger_vms_look_at_names: whom guests know by name may have changed: those that run are told. */
void banger_vms_look_at_names (BangerVms *vms);

/* Its disks, for reading. */
typedef struct {
  int root_fd; /* of the VM, or of its image */
  int cow_fd;  /* what the VM wrote over that; -1: the first is its own */
  int work_fd; /* -1: it has no work disk */
} BangerVmDisks;

/**
 * banger_vm_hold_async:
 * As long as the hold lives, a stopped VM stays that: whoever would start it, change it or delete it is told to wait. A
 * deletion by force does not wait; what is open can be read to its end all the same. @caller: (nullable). WrongState, and
 * what opening them fails with.
 */
void banger_vm_hold_async (BangerVm *vm, const BangerCaller *caller, GAsyncReadyCallback callback, gpointer user_data);
/** banger_vm_hold_finish: Returns: (transfer full). */
BangerVmHold *banger_vm_hold_finish (GAsyncResult *result, GError **error);
const BangerVmDisks *banger_vm_hold_disks (const BangerVmHold *hold);
void banger_vm_hold_free (BangerVmHold *hold);

/** banger_vm_boot_args: Returns: (transfer none): what every guest's kernel is told. */
const char *banger_vm_boot_args (void);

/** banger_vm_fault_stages: Returns: NULL-ended names of every fault point of a start, in order (bangerd
 * --list-fault-stages). */
const char *const *banger_vm_fault_stages (void);
