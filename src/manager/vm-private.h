/* What the files of the VM domain share: the table, one VM, one verb under way.
 * Included by vm.c, vm-start.c, vm-stop.c, vm-reconcile.c and their tests.
 * Never included from outside of that domain. */
#pragma once

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/address.h"
#include "manager/agent-client.h"
#include "manager/helper-client.h"
#include "manager/ssh-keys.h"
#include "manager/vm.h"

typedef struct VmOp VmOp;
/** VmNext: how a part of a verb goes on. @error: (transfer full) (nullable). */
typedef void (*VmNext) (VmOp *op, GError *error);

struct BangerVms {
  const BangerInstall *install;
  BangerHelper *helper;
  const BangerVmSources *sources;
  const BangerVmObserver *observer;
  gpointer user_data;
  int vms_fd, runtime_fd;
  char *vms_path, *runtime_path;
  BangerSshPaths *ssh;
  BangerSubnet subnet;
  GHashTable *table;    /* id -> BangerVm */
  gboolean reconciling; /* verbs are held */
  gboolean reconciled;  /* against the helper, at least once */
  guint to_reconcile;   /* parts under way */
  guint helper_notify;
  GQueue held; /* VmOp: until reconciling ends */
};

struct BangerVm {
  grefcount refs;
  BangerVms *vms; /* NULL once the table is gone */
  BangerVmRecord record;
  BangerVmRecord announced; /* what the observer knows; shallow strings of its own */
  int dir_fd;               /* vms/<id> */
  char *alias, *dir_path, *console_log, *run_path, *api_socket, *vsock_socket;
  int pidfd; /* of the VMM, -1 */
  guint death_watch, console_watch;
  gboolean died;       /* the VMM ended and nobody has dealt with it */
  gboolean unreleased; /* a lease may be left that could not be released */
  gboolean gone;       /* not in the table any more */
  gboolean found;      /* its record was there when the daemon started */
  BangerAgent *agent;
  VmOp *op;    /* the verb under way */
  VmOp *queue; /* the verb that interrupted it */
};

/* How a verb behaves. */
typedef struct {
  BangerVmVerb verb;
  const char *word;      /* "start" */
  const char *doing;     /* "being started" */
  guint32 states;        /* bits of BangerVmState in which it may begin */
  guint32 interrupts;    /* bits of BangerVmVerb that it ends first */
  BangerVmState reached; /* if an interrupted verb left this state, there is nothing more to do */
  void (*run) (VmOp *op);
} VmVerbRow;

struct VmOp {
  BangerVm *vm;
  const VmVerbRow *row;
  BangerVmVerbOptions options;
  char *path;
  BangerJob *job; /* NULL: an internal one */
  GTask *task;    /* NULL: likewise */
  BangerHelperCaller caller;
  GCancellable *cancellable;
  gulong job_cancel_id;
  gboolean after_interrupt;
  GError *failure;                 /* what is told when an ephemeral VM is gone */
  void (*on_death) (VmOp *op);     /* the VMM ended: of the part under way */
  void (*on_interrupt) (VmOp *op); /* another verb waits for the end: likewise; besides, @cancellable is cancelled */
  VmNext next;                     /* of the part under way */
  VmNext after_release;
  VmNext after_kill; /* of a start that cannot be recorded */
  gpointer part;     /* its data */
  gint64 begun_at;
};

#define VM_BIT(x) (1u << (x))

/* vm.c */
extern const VmVerbRow vm_row_exit;      /* the VMM ended by itself */
extern const VmVerbRow vm_row_reconcile; /* after a restart of the daemon */
VmOp *vm_op_new (BangerVm *vm, const VmVerbRow *row, BangerJob *job);
void vm_op_begin (VmOp *op);
/** vm_op_end: @error (transfer full) (nullable): ends the verb, begins what waited. Frees @op. */
void vm_op_end (VmOp *op, GError *error);
/** vm_set_state: in memory, then the record, then announced, then logged. On error the memory is as asked and announced
 * all the same. */
gboolean vm_set_state (BangerVm *vm, VmOp *op, BangerVmState state, const char *reason, GError **error);
/** vm_watch: takes @pidfd over: vm->on_death or the exit verb follow its end. */
void vm_watch (BangerVm *vm, int pidfd);
void vm_unwatch (BangerVm *vm);
void vm_drop_agent (BangerVm *vm);
void vm_keep_agent (BangerVm *vm); /* connects if there is no agent yet */
void vm_forget (BangerVm *vm);     /* out of the table, announced; the last reference may go */
void vm_log (BangerVm *vm, VmOp *op, int priority, const char *format, ...) G_GNUC_PRINTF (4, 5);
char *vm_console_tail (BangerVm *vm); /* the last lines, escaped; NULL if there are none */
void vm_set_string (char **field, const char *value);

/** vm_runtime_fd: <runtime>/<uid>, which the helper makes. Returns: (transfer none): -1 with error. */
int vm_runtime_fd (BangerVms *vms, GError **error);

/* vm-start.c */
void vm_start_run (VmOp *op, VmNext next);
/** vm_start_clean_files: what a start made in the VM's folder; disks too if it never ran. Errors are joined. */
gboolean vm_start_clean_files (BangerVm *vm, GError **error);

/* vm-stop.c */
void vm_stop_run (VmOp *op, VmNext next);    /* ends in stopped, released */
void vm_kill_run (VmOp *op, VmNext next);    /* likewise */
void vm_exited_run (VmOp *op, VmNext next);  /* likewise; finds out the reason */
void vm_release_run (VmOp *op, VmNext next); /* kernel objects and run folder; the state stays */
void vm_delete_run (VmOp *op, VmNext next);  /* everything; the VM is forgotten */

/* vm-reconcile.c */
void vm_reconcile_run (VmOp *op);
