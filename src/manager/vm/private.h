/* What the files of the VM domain share: the table, one VM, one verb under way.
 *Never included from outside of that domain. */
#pragma once

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/record.h"
#include "manager/net/address.h"
#include "manager/peer/agent.h"
#include "manager/peer/guest-clock.h"
#include "manager/peer/helper-answers.h"
#include "manager/peer/helper.h"
#include "manager/peer/relays.h"
#include "manager/peer/ssh-keys.h"
#include "manager/vm/vm.h"
#include "manager/workspace/receiver.h"

typedef struct VmOp VmOp;
typedef struct VmRecording VmRecording; /* state.c */
typedef struct VmForwards VmForwards;   /* forward.c */
typedef struct VmNames VmNames;         /* guest-names.c */
typedef struct VmShape VmShape;         /* set.c */
/** VmNext: how a verb goes on after something. @error: (transfer full) (nullable). */
typedef void (*VmNext) (VmOp *op, GError *error);

/* One thing that a verb does. */
typedef struct {
  const char *name;
  void (*run) (VmOp *op);                         /* ends with vm_go_on(), now or later */
  gboolean (*skip) (VmOp *op);                    /* whether there is nothing to do; NULL: there always is */
  enum { VM_IF_GOOD, VM_IF_BAD, VM_ALWAYS } when; /* as to whether anything failed before */
  void (*on_death) (VmOp *op);                    /* the VMM ended meanwhile; NULL: that changes nothing */
  void (*on_interrupt) (VmOp *op);                /* another verb waits for the end; besides, the job is cancelled */
} VmStep;

/* What verbs are made of. */
typedef struct {
  const VmStep *steps;         /* one after the other; the last has no name */
  gboolean (*skip) (VmOp *op); /* of all of it, looked at when its turn comes */
} VmPart;

struct BangerVms {
  const BangerInstall *install;
  BangerHelper *helper;
  BangerWriter *writer;
  const BangerVmSources *sources;
  const BangerVmObserver *observer;
  gpointer user_data;
  int vms_fd, runtime_fd;
  char *vms_path, *runtime_path;
  BangerSshPaths *ssh;
  BangerSubnet subnet;
  GHashTable *table;    /* id -> BangerVm */
  BangerRelays *relays; /* of all forwarded ports; NULL: nobody has asked for one */
  gboolean reconciling; /* verbs are held */
  gboolean reconciled;  /* against the helper, at least once */
  gboolean orphans;     /* a lease that no VM owns could not be released */
  guint to_reconcile;   /* parts under way */
  GSourceFunc looked;   /* waits for the end of the first look; NULL */
  gpointer looked_data;
  guint helper_notify, clock_watch;
  guint retry_id, retry_seconds;    /* when the helper is asked again */
  GQueue held;                      /* VmOp: until their VM is known, or reconciling ends */
  gboolean late;                    /* a call that nobody waited for has ended: what it made may be left */
  void (*vmm_ended) (BangerVm *vm); /* that no verb has to do with: verbs.c */
  void (*again) (BangerVms *vms);   /* the helper is asked again: reconcile.c */
  guint end_seconds;                /* END_SECONDS; the test has less time */
  guint sync_seconds;               /* SYNC_SECONDS, likewise */
};

struct BangerVm {
  grefcount refs;
  BangerVms *vms;                    /* NULL once the table is gone */
  BangerVmRecord record;             /* as it is */
  BangerVmRecord announced;          /* what the observer knows and everybody is shown: as it is on the disk */
  guint64 set_number;                /* of the last state that was set */
  guint64 announced_number;          /* of the one that is announced */
  guint rewrite_id, rewrite_seconds; /* when one that could not be written is tried again */
  GError *unwritten;                 /* why the last one was not */
  int dir_fd;                        /* vms/<id>; -1 while it is being created */
  char *alias, *dir_path, *console_log, *run_path, *api_socket, *vsock_socket;
  int pidfd; /* of the VMM, -1 */
  guint death_watch, console_watch;
  gboolean died;                       /* the VMM ended and nobody has dealt with it */
  gboolean killed;                     /* that was asked for, and given up: it may end yet */
  gboolean unknown, announced_unknown; /* its record was not held against the helper's leases yet */
  gboolean unreleased;                 /* a lease may be left that could not be released */
  gboolean old_tap;                    /* an older version's: its helper knows no guest of it */
  gboolean console_told;               /* that its log cannot be cut */
  gboolean console_busy;               /* its log is being looked at */
  gboolean gone;                       /* not in the table any more */
  gboolean unreadable;                 /* its record is left as it is */
  gboolean found;                      /* its record was there when the daemon started */
  guint looks;                         /* threads that look what it uses, see stats.c */
  guint behind;                        /* workers that write in its folder and that nobody waits for any more */
  gboolean tried;                      /* a start was begun since it is known here */
  gboolean reserved;                   /* a template is made of it: see banger_vm_reserve() */
  BangerAgent *agent;
  BangerGuestClock *clock; /* as long as there is an agent */
  VmNames *names;          /* likewise; NULL: it was told nothing yet */
  VmForwards *forwards;    /* NULL: nobody listens */
  VmOp *op;                /* the verb under way */
  VmOp *queue;             /* the verb that interrupted it */
};

/* For who asks in vain: what to do first, by the state the VM is in. */
typedef struct {
  guint32 states;   /* bits of BangerVmState */
  const char *text; /* ": start it first" */
} VmAdvice;

/* How a verb behaves. */
typedef struct VmVerbRow VmVerbRow;
struct VmVerbRow {
  BangerVmVerb verb;
  const char *word;       /* "start" */
  const char *doing;      /* "being started" */
  guint32 states;         /* bits of BangerVmState in which it may begin */
  guint32 interrupts;     /* bits of BangerVmVerb that it ends first */
  guint32 reached;        /* states in which an interrupted verb leaves nothing to do; that it is gone counts as one */
  const VmAdvice *advice; /* the first that fits; the last has no states; NULL: there is none */
  /* What else would refuse it, before there is a job; NULL: nothing. */
  gboolean (*check) (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);
  const VmVerbRow *forced;    /* the same verb with option `force`: more rights; NULL: it takes none */
  const VmVerbRow *paused;    /* likewise with option `paused` */
  const VmVerbRow *signalled; /* likewise with a `signal` that does not kill */
  gboolean bounded;    /* it ends within END_SECONDS, and has what it interrupts end so, whoever does not answer */
  const VmPart *parts; /* one after the other; the last has no steps */
  VmNext end;          /* NULL: vm_op_end() */
};

/* A verb under way: the job that it is. */
struct VmOp {
  BangerJob job;
  BangerVm *vm;
  const VmVerbRow *row;
  BangerVmVerbOptions options;
  char *path, *name, *signal, *branch, *from, *setup;
  char **reach[4];         /* lists of options.reach */
  VmShape *before;         /* set: to be put back if it fails */
  const char *old_name;    /* of that: nobody else's until then */
  GCancellable *bound;     /* cancelled when the time is over that who gave it, or what waits for it, waits at most */
  gboolean bound_runs;     /* that time does */
  gboolean half_made;      /* what is to end is a start that was never finished */
  gboolean holds;          /* what is to be deleted may hold something of the helper's */
  gboolean finding;        /* what the VM does is being found out: verbs on it are held */
  gboolean counted;        /* one of vms->to_reconcile */
  gboolean disk_late;      /* the disk did not answer in time */
  guint sync_id;           /* bounds that */
  gboolean may_be_paused;  /* its guest may stand still */
  gboolean ended;          /* nothing of the VM runs any more */
  gboolean in_order;       /* it was its guest that ended it */
  VmRecording *recording;  /* that is waited for */
  const VmPart *part;      /* under way, and those that follow */
  const VmStep *step;      /* likewise */
  gpointer data;           /* of the step under way */
  GError *error;           /* what failed first */
  GError *told;            /* what failed before an ephemeral VM was deleted */
  char *reason;            /* why it is stopped then; NULL: as asked */
  void (*over) (VmOp *op); /* the last step has ended: verbs.c */
  gboolean went_on;        /* a start: its guest goes on where it was */
  gboolean provides;       /* likewise: it has come to what its owner wants in each guest */
  gboolean was_paused;     /* before it was to be suspended, or to end; its guest stands still */
  GTask *restoring;        /* while that is recorded */
  gint64 stood_still_at;   /* likewise, for a snapshot */
  gint64 begun_at;
};

#define VM_BIT(x) (1u << (x))
/* Why it ended, if the kill was given up before. */
#define VM_KILLED_LATE "it was killed, after that was not waited for any more"

/* The files in the order of their calls: each knows those before it, and nobody after it. */

/* forward.c */
/** vm_forwards_check: whether all could be listened on now. Returns: (transfer full): as they are recorded; %NULL with
 * error. */
char **vm_forwards_check (const char *const *texts, GError **error);
/** vm_forwards_open: listens on what the record names. @job: (nullable): on all, or on none; but what is config.toml's
 * may be left out, which the job is warned of. %NULL: what fails is left out. */
gboolean vm_forwards_open (BangerVm *vm, BangerJob *job, GError **error);
/** vm_forwards_close: ends every connection, too. */
void vm_forwards_close (BangerVm *vm);
#define VM_MAX_FORWARDS 32
char *vm_forward_format (const char *text, GError **error); /* in full */
/* Of one, in full; connections that are open stay. */
gboolean vm_forward_listen (BangerVm *vm, const char *full, GError **error);
void vm_forward_leave (BangerVm *vm, const char *full);

/* guest-names.c */
/** vm_names_text: Returns: (transfer full): whom @vm knows now, as guest-protocol.h says it; "" for nobody. */
char *vm_names_text (BangerVm *vm);
void vm_names_drop (VmNames *names);
/** vm_names_forgotten: its guest may know others than it was told. */
void vm_names_forgotten (BangerVm *vm);
/** vm_names_async: until its guest, if it runs and can, knows them; 5 s. GuestTimeout, GuestFailed, Cancelled. */
void vm_names_async (BangerVm *vm, GAsyncReadyCallback callback, gpointer user_data);
gboolean vm_names_finish (GAsyncResult *result, GError **error);
void vm_names_leave (BangerVm *vm); /* nobody waits any more */

/* state.c */
void vm_record_fill (BangerVmRecord *record); /* strings are never NULL for those who read it */
void vm_record_clear (BangerVmRecord *record);
void vm_record_copy (BangerVmRecord *to, const BangerVmRecord *from);
void vm_set_string (char **field, const char *value);
void vm_log (BangerVm *vm, VmOp *op, int priority, const char *format, ...) G_GNUC_PRINTF (4, 5);
/** vm_set_state: in memory at once; announced when it is on the disk, or cannot be written. Nobody waits for that. */
void vm_set_state (VmOp *op, BangerVmState state, const char *reason);
/** vm_set_state_then: likewise; the verb goes on with @next when it was announced. Its error: of the writing, or that
 * the disk takes longer than a verb can wait; %NULL if something else has failed before. */
void vm_set_state_then (VmOp *op, BangerVmState state, const char *reason, VmNext next);
/** vm_add_record_then: its folder with its first record, waited for likewise. If @next was told that it takes too long,
 * the folder goes when it is made. */
void vm_add_record_then (VmOp *op, VmNext next);
/** vm_wait_less: if @op waits for a record, then not for long. */
void vm_wait_less (VmOp *op);
/** vm_no_time: an @error of a call that @op->bound ended before it was sent: nobody has cancelled it. */
void vm_no_time (VmOp *op, GError **error);
/** vm_write_record: as it is in memory, which no verb has changed. */
void vm_write_record (BangerVm *vm);
/** vm_set_known: what was announced last is so. */
void vm_set_known (BangerVm *vm);
void vm_unwatch (BangerVm *vm);
void vm_drop_agent (BangerVm *vm);
void vm_forget (BangerVm *vm); /* out of the table, announced; the last reference may go */

/* table.c */
BangerVm *vm_find_name (BangerVms *vms, const char *name);
/** vm_runtime_fd: <runtime>/<uid>, which the helper makes. Returns: (transfer none): -1 with error. */
int vm_runtime_fd (BangerVms *vms, GError **error);
/** vm_ask: a call of the helper that takes the VM's id alone. */
void vm_ask (VmOp *op, const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** vm_undo_finish: of one that takes something back: what is not there is taken back. */
gboolean vm_undo_finish (GAsyncResult *result, GError **error);
/** vm_something_left: what could not be released, of a VM or of none, or a VM that may run and is not watched. */
gboolean vm_something_left (BangerVms *vms);
/** vm_retry_later: what could not be settled or released is tried again, after 1 s first and up to a minute. */
void vm_retry_later (BangerVms *vms);

/* bounds.c: whether a VM may have that */
gboolean vm_check_vcpus (guint32 vcpus, GError **error);
gboolean vm_check_memory (const BangerInstall *install, guint64 mib, GError **error);
/** vm_check_disk: Returns: @bytes as a disk has them; 0 with error. */
guint64 vm_check_disk (guint64 bytes, guint64 seed_bytes, GError **error);
gboolean vm_check_setup (const char *text, GError **error);
/** vm_check_name: nor has another VM that name. */
gboolean vm_check_name (BangerVms *vms, const char *name, GError **error);

/* vm.c */
BangerVm *vm_new (BangerVms *vms, const char *id);
/** vm_watch: takes @pidfd over: the step under way or vms->vmm_ended follow its end. On error it is not watched. */
gboolean vm_watch (BangerVm *vm, int pidfd, GError **error);
void vm_keep_agent (BangerVm *vm); /* connects if there is no agent yet */

/* files.c: what is made and read in the VM's folder, in workers. A cancelled one ends at once with
 * %G_IO_ERROR_CANCELLED: its worker goes on alone, takes back what it made, and is counted by vm->behind until then. */
/** vm_files_settle_async: waits until there is no such worker. */
void vm_files_settle_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
gboolean vm_files_settle_finish (GAsyncResult *result, GError **error);
/** vm_files_reserve_async, vm_files_fill_async: banger_disk_reserve() and banger_disk_fill(). vm_files_finish(). */
void vm_files_reserve_async (BangerVm *vm, int from_fd, const char *name, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer user_data);
void vm_files_fill_async (BangerVm *vm, int from_fd, const char *name, GCancellable *cancellable,
                          GAsyncReadyCallback callback, gpointer user_data);
void vm_files_copy_async (BangerVm *vm, int from_fd, const char *from, const char *to, guint64 bytes, BangerJob *job,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** vm_files_check_async: that a disk which the VM wrote to is there; that BANGER_FILE_VM_COW is not. */
void vm_files_check_async (BangerVm *vm, const char *name, GCancellable *cancellable, GAsyncReadyCallback callback,
                           gpointer user_data);
/** vm_files_grow_async: a disk that the VM wrote to is there, and has at least @bytes then. */
void vm_files_grow_async (BangerVm *vm, const char *name, guint64 bytes, GCancellable *cancellable,
                          GAsyncReadyCallback callback, gpointer user_data);
/** vm_files_remove_async: @names: NULL-terminated, static strings. */
void vm_files_remove_async (BangerVm *vm, const char *const *names, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data);
/** vm_files_clean_async: what a start made; disks too if the VM never ran. */
void vm_files_clean_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
void vm_files_sync_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** vm_files_remove_folder_async: if it is left alone the VM is forgotten when its folder is gone. */
void vm_files_remove_folder_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                                   gpointer user_data);
/** vm_files_keys_async: what is missing; @known_host: and the VM's line in known_hosts. */
void vm_files_keys_async (BangerVm *vm, gboolean known_host, GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data);
void vm_files_console_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
gboolean vm_files_finish (GAsyncResult *result, GError **error); /* of all above */
void vm_files_initrd_async (BangerVm *vm, int kernel_fd, gboolean work_disk, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data);
/** vm_files_no_initrd_async: what stands for it where the guest is restored. */
void vm_files_no_initrd_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                               gpointer user_data);
gboolean vm_files_initrd_finish (GAsyncResult *result, GError **error); /* of both */
const char *vm_guest_binary (void);                                     /* its agent */
/** vm_files_tail_async: the last lines of the console log, escaped; waited for no longer than 2 s. */
void vm_files_tail_async (BangerVm *vm, GAsyncReadyCallback callback, gpointer user_data);
char *vm_files_tail_finish (GAsyncResult *result); /* NULL if there are none */

/* parts.c */
/** vm_run_parts: @parts: static. op->over is called after the last. */
void vm_run_parts (VmOp *op, const VmPart *parts);
/** vm_go_on: the step under way has ended; @op may be gone afterwards. @error: (transfer full) (nullable): of one that was
 * cancelled, whatever says so. */
void vm_go_on (VmOp *op, GError *error);
/** vm_why: @error: (transfer full) (nullable): of what needs a VM that runs. Returns: (transfer full): that it has ended,
 * if it has. */
GError *vm_why (const VmOp *op, GError *error);

/** vm_why_alive: the same of what is worth nothing once the VM has ended, also if it went well. */
GError *vm_why_alive (const VmOp *op, GError *error);

/** vm_save_guest: a step: has the VMM write its paused guest's state and memory. */
void vm_save_guest (VmOp *op);
GError *vm_ended_error (void);
/** vm_interrupt: somebody waits for its end. */
void vm_interrupt (VmOp *op);
void vm_cancel_on_death (VmOp *op); /* on_death of those whom op->job.cancellable ends */

/* adopt.c: steps that ask the helper about a VMM. The verb does not wait for the answer if it is interrupted meanwhile. */
/** vm_adopt: whether the VMM of a VM that is recorded as running or stopping still runs; it is watched then. After it
 * vm->pidfd says that, if it could be found out: else nothing may be released. */
void vm_adopt (VmOp *op);
/** vm_address: tells the helper which guest is behind a tap, see vm->old_tap. */
void vm_address (VmOp *op);
void vm_leave_question (VmOp *op); /* on_interrupt of both */
gboolean vm_is_watched (VmOp *op);
gboolean vm_is_not_watched (VmOp *op);

/* pause.c */
extern const VmStep vm_part_pause[];  /* ends in paused, or as it was */
extern const VmStep vm_part_resume[]; /* ends in running, or still paused */
void vm_pause_again (VmOp *op);       /* a step: one that was found, recorded as paused: so it is then */
void
vm_resume_again (VmOp *op); /* a step: one that was found, and that was paused for a verb that nobody goes on with */

/* reach.c */
/** vm_reach_lists: what @record's lists are after @reach. Errors: NoSuchVM, InvalidArgs, LimitsExceeded. */
gboolean vm_reach_lists (BangerVms *vms, const BangerVmRecord *record, const BangerVmReach *reach, char ***ret_links,
                         char ***ret_ports, GError **error);
gboolean vm_reach_is_empty (const BangerVmReach *reach);
/** vm_reach_async: tells the helper what the guest of @vm, which has a tap, may reach, and of those that are linked to it,
 * that it is there; nothing, if there is nothing to tell. */
void vm_reach_async (BangerVm *vm, const BangerCaller *caller, GCancellable *cancellable, GAsyncReadyCallback callback,
                     gpointer user_data);
gboolean vm_reach_finish (GAsyncResult *result, GError **error);
/** vm_reach_again: of all that run, in case the last bangerd did not come to it. */
void vm_reach_again (BangerVms *vms);
/** vm_reach_drop: nobody is linked to @vm any more, which goes. */
void vm_reach_drop (BangerVm *vm);
/** vm_reach_tidy: nobody is linked to what is not in the table. */
void vm_reach_tidy (BangerVms *vms);

/* saved.c: in workers, as files.c */
/** vm_files_keep_saved_async: what the VMM has saved is whole, on the disk, and has its name. */
void vm_files_keep_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                                gpointer user_data);
/** vm_files_keep_saved_finish: Returns: (transfer full): what the record says of it. */
char *vm_files_keep_saved_finish (GAsyncResult *result, GError **error);
void vm_files_drop_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                                gpointer user_data);
/** vm_files_check_saved_async: that it is what the record says, and that this host can take it up: WrongState,
 * StateCorrupt. */
void vm_files_check_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                                 gpointer user_data);
/** vm_files_renew_saved_async: empty files for a VMM that is about to start; what the record does not know goes. */
void vm_files_renew_saved_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback,
                                 gpointer user_data);
gboolean vm_files_saved_finish (GAsyncResult *result, GError **error);
/** vm_forget_saved: what was saved of one that runs again goes. Nobody waits for that but who would save again: it is
 * counted by vm->behind. */
void vm_forget_saved (BangerVm *vm);
#define VM_SAVED_FILES 2
/** vm_saved_describe: @names: of state and memory in @dir_fd. In a worker. Returns: (transfer full): what a record says of
 * them, "FORMAT VERSION BYTES BYTES SUM PROCESSOR"; %NULL on error. */
char *vm_saved_describe (int dir_fd, const char *dir_path, const char *const *names, gboolean sync,
                         GCancellable *cancellable, GError **error);
/** vm_saved_compare: what a record says with what is there: @where: "A and B in FOLDER". */
gboolean vm_saved_compare (const char *recorded, const char *found, const char *where, GError **error);

/* stop.c */
extern const VmStep vm_part_stop[];   /* ends in stopped, released */
extern const VmStep vm_part_kill[];   /* likewise */
extern const VmStep vm_part_exited[]; /* likewise; finds out the reason */
void vm_release (VmOp *op);           /* a step: kernel objects and run folder; the state stays */

/* delete.c */
extern const VmStep vm_part_delete[]; /* everything; the VM is forgotten */

/* suspend.c */
extern const VmStep vm_part_settle[];  /* nobody writes in its folder any more */
extern const VmStep vm_part_suspend[]; /* of a paused one: ends in suspended, released; or as it was */
extern const VmStep vm_part_save[];    /* of a paused one, which it stays */
gboolean vm_is_paused (VmOp *op);

/* snapshot.c */
extern const VmStep vm_part_snapshot[]; /* of one that stands still or is stopped: it goes on if it ran before */
gboolean vm_stands_still (VmOp *op);    /* it need not be paused for that */
gboolean vm_check_snapshot (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);
/** vm_copy_files: @pairs: names in @from_fd and in @to_fd, one after the other, ended by %NULL; a file that is not there is
 * left out. In a worker; not synced. */
gboolean vm_copy_files (int from_fd, int to_fd, const char *const *pairs, GCancellable *cancellable, GError **error);

/* What the record says of what is in the guest is of then, too: what was sent into it, and whether it is set up. */
void vm_put_back_inside (BangerVmRecord *record, const BangerVmSnapshot *snapshot);

/* fork.c */
gboolean vm_check_fork (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);
/** vm_goes: it is deleted when nothing of it runs. */
gboolean vm_goes (const BangerVm *vm);
void vm_fork_fill (BangerVmRecord *record, const BangerVmRecord *of);
/** vm_fork_template: what a copy is started from. */
void vm_fork_template (const BangerVmSnapshot *of, BangerVmTemplate *ret);

/* put-back.c: a VM as it was in a snapshot */
extern const VmStep vm_part_put_back_copy[]; /* beside what it has: until here nothing of that is lost */
extern const VmStep vm_part_put_back[];      /* of one of which nothing runs */
gboolean vm_needs_no_end (VmOp *op);         /* nothing of it runs, or it is not to be ended */
gboolean vm_check_put_back (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);
/** vm_put_back_tidy: a step: copies that a restore had made when bangerd ended; none of it was used yet. */
void vm_put_back_tidy (VmOp *op);
gboolean vm_has_no_copies (VmOp *op);
gboolean vm_has_copies (const BangerVm *vm);
/** vm_check_whole: whether its disks are of one time. */
gboolean vm_check_whole (const BangerVm *vm, GError **error);

/* restore.c: steps of a start */
/** vm_restore_go_on_async: of a guest that a VMM has loaded. What was saved of it is not to be used again then. */
void vm_restore_go_on_async (VmOp *op, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** vm_restore_agent_async: a while. A guest that has gone on is not ended because its agent does not say so. */
void vm_restore_agent_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
void vm_restore_check (VmOp *op); /* a step: whether what was saved is whole, and of this banger and processor */
/** vm_is_not_restored: it is not suspended, or not to go on. */
gboolean vm_is_not_restored (VmOp *op);
/** vm_restore_advise: what a guest had in its memory is not lost without a word of its owner's. */
void vm_restore_advise (GError *error);

/* set.c */
extern const VmStep vm_part_set[]; /* as asked, or as it was */
gboolean vm_check_set (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);
void vm_shape_free (VmShape *shape);

/* hold.c */
struct BangerVmHold {
  VmOp *op;    /* that waits for it; NULL: not, not yet, or not any more */
  GTask *task; /* until it is held */
  BangerVmDisks disks;
};
extern const VmStep vm_part_hold[]; /* ends when it is let go */
gboolean vm_check_hold (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error);

/* signal.c */
extern const VmStep vm_part_signal[];          /* the VMM has it; what comes of that nobody waits for */
gboolean vm_signal_kills (const char *signal); /* as KillVmm does */

/* start.c */
extern const VmStep vm_part_up[]; /* from stopped to running, or back */

/* import.c */
/** vm_receiver_new: how a work tree gets into a VM that runs. */
BangerReceiver *vm_receiver_new (BangerVm *vm);

/* setup.c */
/** vm_setup_look: before a start is recorded: if there is nothing that is to run once, the record says so. */
void vm_setup_look (BangerVm *vm);
void vm_setup (VmOp *op); /* a step */
gboolean vm_setup_skip (VmOp *op);

/* file-sync.c */
extern const VmStep vm_part_provide[]; /* of one that runs: what its owner wants in each guest */
/** vm_provide_begin: Returns: (transfer none): the reason with which it runs until that part has ended; "": it has none. */
const char *vm_provide_begin (VmOp *op);
/** vm_provide_lost: Returns: (transfer none): the reason of one that runs, and with which nobody goes on; "": it has all. */
const char *vm_provide_lost (const BangerVm *vm);

/* verbs.c */
/** vm_run: as banger_vm_run_async(), on behalf of @caller (nullable), if that is not refused now: then with an error. */
void vm_run (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, const BangerCaller *caller,
             GAsyncReadyCallback callback, gpointer user_data);
/** vm_op_new_found: one that nobody asked for, with parts that fit what was found. */
VmOp *vm_op_new_found (BangerVm *vm, const VmVerbRow *row, const VmPart *parts);
/** vm_op_free: what its job does not need any more when it has ended. */
void vm_op_free (VmOp *op);
/** vm_op_begin: now, or when it has ended what is under way. Whether it may was asked before. */
void vm_op_begin (VmOp *op);
/** vm_op_end: @error (transfer full) (nullable): ends the verb, begins what waited. Frees @op. */
void vm_op_end (VmOp *op, GError *error);
/** vm_exit_begin: the VMM ended by itself. */
void vm_exit_begin (BangerVm *vm);
/** vm_begin_held: begins the verbs that waited; @vm: NULL: of all of which nothing is being found out any more. */
void vm_begin_held (BangerVms *vms, BangerVm *vm);
/** vm_begin_stronger: begins the one that waited and ends what is under way. */
void vm_begin_stronger (BangerVm *vm);

/* reconcile.c */
void vm_reconcile_again (BangerVms *vms);
