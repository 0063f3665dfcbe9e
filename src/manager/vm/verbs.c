/* Who may do what when: the table of verbs, and each verb as parts one after the other.
 * Never lets two verbs work on one VM at a time. */
#include "manager/vm/private.h"

#include "common/fd.h"
#include "manager/core/later.h"
#include "manager/workspace/workspace.h"

/* Whatever was interrupted before, a release has some time. */
#define END_LEAST_SECONDS 2

#define S(state) VM_BIT (BANGER_VM_##state)
#define V(verb) VM_BIT (BANGER_VM_VERB_##verb)
#define ANY_STATE (VM_BIT (BANGER_N_VM_STATES) - 1)
#define GONE VM_BIT (BANGER_N_VM_STATES) /* as if it was one */
#define ANY_VERB (VM_BIT (BANGER_N_VM_VERBS) - 1)

/* What helps who may not begin. */
static const char *
advice (const BangerVm *vm, const VmVerbRow *row)
{
  const VmAdvice *each = row->advice;
  while (each && each->states && !(each->states & VM_BIT (vm->record.state)))
    each++;
  return each && each->states ? each->text : "";
}

/* Where a verb under way has brought it already is waited for: not all may be released yet, or it goes on from there. */
static gboolean
fits (const BangerVm *vm, const VmVerbRow *row)
{
  guint32 state = VM_BIT (vm->record.state);
  gboolean brought = vm->op && row->interrupts & VM_BIT (vm->op->row->verb) && !(vm->op->row->states & state);
  return ((row->states | (brought ? row->reached : 0)) & state) != 0;
}

static gboolean
check_begin (BangerVm *vm, const VmVerbRow *row, GError **error)
{
  const char *name = vm->record.name;
  gboolean fit = fits (vm, row);
  if (vm->gone)
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "no VM is called '%s' any more", name);
  if (vm->queue)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: wait for it", name, vm->queue->row->doing);
  if (vm->op && !(row->interrupts & VM_BIT (vm->op->row->verb)) && vm->op->row->verb < BANGER_N_VM_VERBS)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: wait for it", name, vm->op->row->doing);
  if (!fit && vm->unknown)
    return banger_set_error (error, BANGER_ERROR_HELPER_UNAVAILABLE,
                             "whether %s runs is not known until the root helper has answered; its record says %s; "
                             "look at the service bangerd-root",
                             name, banger_vm_state_to_string ((BangerVmState)vm->record.state));
  if (!fit)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s%s", name,
                             banger_vm_state_to_string ((BangerVmState)vm->record.state), advice (vm, row));
  return !((V (START) | V (HOLD) | V (SNAPSHOT) | V (SET)) & VM_BIT (row->verb)) || vm_check_whole (vm, error);
}

/* Until its record was held against the leases once. Later looks concern only what was left over. */
static gboolean
verbs_are_held (const BangerVm *vm)
{
  gboolean first_look = vm->vms->reconciling && !vm->vms->reconciled;
  return vm->unknown && (first_look || (vm->op && vm->op->finding));
}

/* Who kills does not wait for what is under way to find it out: a disk or the helper may not answer. */
static gboolean
is_held (const BangerVm *vm, const VmVerbRow *row)
{
  gboolean ends_it = vm->op && !vm->queue && row->bounded && row->interrupts && row->states & VM_BIT (vm->record.state);
  return verbs_are_held (vm) && !ends_it;
}

static void op_begin_checked (VmOp *op);

void
vm_begin_held (BangerVms *vms, BangerVm *vm)
{
  GQueue held = vms->held;
  g_queue_init (&vms->held);
  for (VmOp *op; (op = g_queue_pop_head (&held));)
    if (op->vm == vm || (!vm && !(op->vm->op && op->vm->op->finding)))
      op_begin_checked (op);
    else
      g_queue_push_tail (&vms->held, op);
}

void
vm_begin_stronger (BangerVm *vm)
{
  BangerVms *vms = vm->vms;
  for (GList *link = vms->held.head; link; link = link->next) {
    VmOp *op = link->data;
    if (op->vm == vm && !is_held (vm, op->row)) {
      g_queue_delete_link (&vms->held, link);
      op_begin_checked (op);
      return;
    }
  }
}

/* Gives the result away without touching the VM's state. */
static void
op_return (VmOp *op, GError *error)
{
  if (error && op->row->verb == BANGER_N_VM_VERBS) /* nobody asked for it */
    vm_log (op->vm, op, LOG_WARNING, "cannot %s: %s", op->row->word, error->message);
  banger_job_finish_later (&op->job, error);
  vm_op_free (op);
}

/* One that is held has begun nothing that would have to be undone. */
static void
on_cancelled (GCancellable *cancellable, VmOp *op)
{
  if (op->vm->vms && g_queue_remove (&op->vm->vms->held, op))
    op_return (op, banger_error_cancelled ());
  else
    vm_wait_less (op);
}

static void op_over (VmOp *op);

static void
keep_reach (VmOp *op)
{
  BangerVmReach *reach = &op->options.reach;
  const char *const **lists[] = { &reach->link, &reach->unlink, &reach->allow, &reach->deny };
  G_STATIC_ASSERT (G_N_ELEMENTS (lists) == G_N_ELEMENTS (op->reach));
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
    *lists[i] = (const char *const *)(op->reach[i] = g_strdupv ((char **)*lists[i]));
}

/* From before it begins until it has ended nobody deletes what a VM is to be put back to. */
static void
take_snapshot (VmOp *op, BangerVmSnapshot *snapshot)
{
  op->options.snapshot = snapshot ? banger_vm_snapshot_ref (snapshot) : NULL;
  if (snapshot)
    snapshot->restores += op->row->verb == BANGER_VM_VERB_RESTORE;
}

static void
leave_snapshot (VmOp *op)
{
  BangerVmSnapshot *snapshot = g_steal_pointer (&op->options.snapshot);
  if (!snapshot)
    return;
  snapshot->restores -= op->row->verb == BANGER_VM_VERB_RESTORE;
  banger_vm_snapshot_unref (snapshot);
}

/* @job: (transfer full): made with the size of a VmOp. */
static VmOp *
op_new (BangerJob *job, BangerVm *vm, const VmVerbRow *row, const BangerVmVerbOptions *options)
{
  VmOp *op = (VmOp *)job;
  op->vm = banger_vm_ref (vm);
  op->row = row;
  op->bound = g_cancellable_new ();
  op->begun_at = g_get_monotonic_time ();
  op->part = row->parts;
  op->over = op_over;
  if (options) {
    op->options = *options;
    op->options.path = op->path = g_strdup (options->path);
    op->options.name = op->name = g_strdup (options->name);
    op->options.signal = op->signal = g_strdup (options->signal);
    op->options.setup = op->setup = g_strdup (options->setup);
    op->options.wish.branch = op->branch = g_strdup (options->wish.branch);
    op->options.wish.from = op->from = g_strdup (options->wish.from);
    take_snapshot (op, options->snapshot);
    keep_reach (op);
  }
  g_signal_connect (job->cancellable, "cancelled", G_CALLBACK (on_cancelled), op);
  return op;
}

VmOp *
vm_op_new_found (BangerVm *vm, const VmVerbRow *row, const VmPart *parts)
{
  VmOp *op = op_new (banger_job_new_part (sizeof (VmOp), NULL), vm, row, NULL);
  op->part = parts;
  return op;
}

void
vm_op_free (VmOp *op)
{
  g_signal_handlers_disconnect_by_data (op->job.cancellable, op);
  g_clear_error (&op->error);
  g_clear_error (&op->told);
  g_clear_pointer (&op->reason, g_free);
  g_clear_handle_id (&op->sync_id, g_source_remove);
  g_clear_object (&op->bound);
  g_clear_pointer (&op->before, vm_shape_free);
  g_clear_pointer (&op->name, g_free);
  g_clear_pointer (&op->signal, g_free);
  g_clear_pointer (&op->setup, g_free);
  g_clear_pointer (&op->path, g_free);
  g_clear_pointer (&op->branch, g_free);
  g_clear_pointer (&op->from, g_free);
  for (guint i = 0; i < G_N_ELEMENTS (op->reach); i++)
    g_clear_pointer (&op->reach[i], g_strfreev);
  leave_snapshot (op);
  g_clear_pointer (&op->vm, banger_vm_unref);
  banger_job_unref (&op->job);
}

/* What is left of the time of @whose. */
static void
op_bound (VmOp *op, const VmOp *whose)
{
  gint64 gone = (g_get_monotonic_time () - whose->begun_at) / G_USEC_PER_SEC;
  guint seconds = (guint)MAX ((gint64)op->vm->vms->end_seconds - gone, END_LEAST_SECONDS);
  if (!op->bound_runs)
    banger_cancel_later (op->bound, seconds);
  op->bound_runs = TRUE;
}

void
vm_op_begin (VmOp *op)
{
  BangerVm *vm = op->vm;
  if (vm->op) { /* its end begins us */
    VmOp *running = vm->op;
    vm->queue = op;
    if (op->row->bounded)
      op_bound (running, op);
    vm_interrupt (running);
    return;
  }
  vm->op = op;
  if (op->row->bounded)
    op_bound (op, op);
  vm_run_parts (op, op->part);
}

/* Whoever looked at it before: it is what was seen. */
static gboolean
check_starts (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  return !options || !options->only_starts || options->starts == vm->record.starts
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s was started since, and may have work in it",
                              vm->record.name);
}

static void
op_begin_checked (VmOp *op)
{
  GError *error = NULL;
  if (check_begin (op->vm, op->row, &error) && check_starts (op->vm, &op->options, &error))
    vm_op_begin (op);
  else
    op_return (op, error);
}

/* A VM that is gone is as stopped and as deleted as can be. */
static gboolean
is_reached (const BangerVm *vm, const VmVerbRow *row)
{
  return (row->reached & (vm->gone ? GONE | S (STOPPED) : VM_BIT (vm->record.state))) != 0;
}

/* The one that waited: what it wanted may be reached already. */
static void
begin_queued (VmOp *op)
{
  if (op->vm->gone && is_reached (op->vm, op->row)) {
    op->vm->op = op;
    vm_op_end (op, NULL);
  } else if (is_reached (op->vm, op->row)) { /* in memory: it is to be so on the disk, too */
    g_autofree char *reason = g_strdup (op->vm->record.reason);
    if (op->vm->record.state == BANGER_VM_SUSPENDED)
      banger_job_warn (&op->job, "it was suspended meanwhile: nothing of it runs, and a start has it go on");
    op->vm->op = op;
    vm_set_state_then (op, (BangerVmState)op->vm->record.state, reason, vm_op_end);
  } else {
    op_begin_checked (op);
  }
}

static const VmVerbRow *find_row (BangerVmVerb verb, const BangerVmVerbOptions *options);

/* From here on it is a start: what may end one may end it, and what fails leaves a VM. */
static void
start_created (VmOp *op)
{
  op->options.start = FALSE;
  if (op->row->verb == BANGER_VM_VERB_RESTORE) /* which could not be given up at last */
    banger_job_set_cancelable (&op->job, TRUE);
  leave_snapshot (op);
  op->row = find_row (BANGER_VM_VERB_START, &op->options);
  op->part = op->row->parts;
  op_begin_checked (op);
}

void
vm_op_end (VmOp *op, GError *error)
{
  g_autoptr (BangerVm) vm = banger_vm_ref (op->vm);
  vm->op = NULL;
  if (!error && op->options.start)
    start_created (op);
  else
    op_return (op, error);
  if (vm->op) /* it goes on */
    return;
  VmOp *queued = g_steal_pointer (&vm->queue);
  if (!vm->gone && vm->vms && vm->died && VM_BIT (vm->record.state) & (S (RUNNING) | S (PAUSED))) {
    vm->queue = queued;
    vm_exit_begin (vm);
  } else if (queued) {
    begin_queued (queued);
  }
}

/* The last step is done. A VM that goes with its run does not outlive it, and whoever waits for the run's end finds it gone. */
static void
op_over (VmOp *op)
{
  static const VmPart deletion[] = { { vm_part_delete }, { NULL } };
  const BangerVm *vm = op->vm;
  gboolean ran = vm->tried || vm->found;
  if (ran && vm_goes (vm) && vm->record.state == BANGER_VM_STOPPED) {
    op->told = g_steal_pointer (&op->error);
    vm_run_parts (op, deletion);
    return;
  }
  if (op->told && op->error)
    vm_log (op->vm, op, LOG_WARNING, "%s", op->error->message);
  GError **first = op->told ? &op->told : &op->error;
  VmNext end = op->row->end ? op->row->end : vm_op_end;
  end (op, g_steal_pointer (first));
}

/* Create. */

static void
record_added (VmOp *op, GError *error)
{
  BangerVm *vm = op->vm;
  if (!error)
    vm->dir_fd = banger_record_open_dir (vm->vms->vms_fd, vm->record.id, &error);
  vm_go_on (op, error);
}

static void
add_record (VmOp *op)
{
  vm_add_record_then (op, record_added);
}

static void
on_keys (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_finish (result, &error);
  vm_go_on (data, error);
}

static void
make_keys (VmOp *op)
{
  banger_job_set_stage (&op->job, "making keys");
  vm_files_keys_async (op->vm, FALSE, op->job.cancellable, on_keys, op);
}

static void
set_created (VmOp *op)
{
  vm_set_state_then (op, BANGER_VM_STOPPED, "", vm_go_on);
}

static void
on_dropped (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!vm_files_finish (result, &error) && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    vm_log (op->vm, op, LOG_ERR, "cannot remove its folder: %s", error->message);
    banger_record_remove_async (op->vm->vms->vms_fd, op->vm->record.id, NULL, NULL);
  }
  vm_go_on (op, NULL);
}

static void
drop_created (VmOp *op)
{
  vm_forget (op->vm);
  if (g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT)) { /* the disk takes nothing at the moment */
    banger_record_remove_async (op->vm->vms->vms_fd, op->vm->record.id, NULL, NULL);
    vm_go_on (op, NULL);
    return;
  }
  op_bound (op, op);
  vm_files_remove_folder_async (op->vm, op->bound, on_dropped, op);
}

/* Between the parts of others. */

static void
check_cancelled (VmOp *op)
{
  gboolean cancelled = g_cancellable_is_cancelled (op->job.cancellable);
  vm_go_on (op, cancelled ? g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled when it was stopped") : NULL);
}

static gboolean
is_readable (VmOp *op)
{
  return !op->vm->unreadable;
}

static gboolean
is_unreadable (VmOp *op)
{
  return op->vm->unreadable;
}

/* One that goes with its run has nothing to be stopped for: that it is being deleted is on the disk at once, and its
 * release ends what runs. */
static gboolean
needs_no_kill (VmOp *op)
{
  static const guint32 ended_states = S (CREATING) | S (STOPPED) | S (SUSPENDED) | S (DELETING);
  return ended_states & VM_BIT (op->vm->record.state) || op->vm->unreadable || op->vm->record.ephemeral;
}

static gboolean
is_not_stopped (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_STOPPED;
}

/* A record that could not be written is to go with the rest, and what is not released yet is so then. */
static void
delete_all_the_same (VmOp *op)
{
  g_clear_error (&op->error);
  vm_go_on (op, NULL);
}

/* Import. */

static char **
wish_words (const BangerWorkspaceWish *wish)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  g_autofree char *depth = g_strdup_printf ("depth=%u", wish->depth);
  if (wish->no_git)
    g_strv_builder_add (words, "no-git");
  if (wish->tracked_only)
    g_strv_builder_add (words, "tracked-only");
  if (!wish->no_git && wish->depth != BANGER_WORKSPACE_DEPTH_UNSAID)
    g_strv_builder_add (words, depth);
  return g_strv_builder_end (words);
}

static void
remember_workspace (BangerVm *vm, BangerWorkspace *workspace, const BangerWorkspaceWish *wish)
{
  const char *root = banger_workspace_root (workspace);
  g_autofree char *folder = g_strconcat ("/root/", banger_workspace_name (workspace), NULL);
  gboolean text = g_utf8_validate (root, -1, NULL);
  vm_set_string (&vm->record.workspace, text ? root : "");
  vm_set_string (&vm->record.workspace_folder, text ? folder : "");
  vm_set_string (&vm->record.workspace_head, text ? banger_workspace_commit (workspace) : "");
  g_strfreev (vm->record.workspace_words);
  vm->record.workspace_words = wish_words (wish);
}

static void
on_imported (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  g_autoptr (GPtrArray) notes = NULL;
  gssize files = banger_workspace_send_finish (result, &notes, &error);
  g_clear_pointer ((BangerJobProgress **)&op->data, banger_job_progress_free);
  error = vm_why (op, error);
  for (guint i = 0; notes && i < notes->len; i++)
    banger_job_warn (&op->job, notes->pdata[i]);
  if (!error) {
    vm_log (op->vm, op, LOG_INFO, "workspace %s imported, %" G_GSSIZE_FORMAT " files", op->path, files);
    remember_workspace (op->vm, banger_workspace_send_get (result), &op->options.wish);
  }
  vm_go_on (op, error);
}

/* Waited for: what comes out of the guest later is for this tree, and no other. */
static void
record_workspace (VmOp *op)
{
  vm_set_state_then (op, (BangerVmState)op->vm->record.state, op->vm->record.reason, vm_go_on);
}

static void
send_workspace (VmOp *op)
{
  BangerVm *vm = op->vm;
  banger_job_set_stage (&op->job, "copying workspace");
  op->data = banger_job_progress_new (&op->job);
  banger_workspace_send_async (op->path, &op->options.wish, vm_receiver_new (vm), banger_job_progress_report, op->data,
                               op->job.cancellable, on_imported, op);
}

/* What a verb asks for besides. */

static gboolean
check_suspend (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  return !vm->record.ephemeral
         || banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                              "%s is deleted when it ends, and its disks are not written out: make a VM that stays to "
                              "suspend it",
                              vm->record.name);
}

/* Nothing is looked up here: a path that the user names may be on a mount that hangs. */
static gboolean
check_import (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  if (g_path_is_absolute (options->path))
    return TRUE;
  g_autofree char *shown = banger_log_escape (options->path, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path '%s': an absolute path is needed", shown);
}

/* The table: verbs of parts, parts of steps. */

/* clang-format off */
static const VmStep part_create[] = {
  { "add", add_record },
  { "keys", make_keys },
  { "stopped", set_created },
  { "drop", drop_created, .when = VM_IF_BAD },
  { NULL },
};
static const VmStep part_release[] = { { "release", vm_release }, { NULL } }; /* kills what runs */
static const VmStep part_still_wanted[] = { { "still-wanted", check_cancelled }, { NULL } };
static const VmStep part_all_the_same[] = {
  { "all-the-same", delete_all_the_same, .when = VM_IF_BAD, .skip = is_not_stopped },
  { NULL },
};
static const VmStep part_import[] = {
  { "send", send_workspace, .on_death = vm_cancel_on_death },
  { "record", record_workspace },
  { NULL },
};

/* What is to end ends what goes on, whatever that is: also a verb that is new. */
#define PASSING (ANY_VERB & ~(V (CREATE) | V (STOP) | V (KILL) | V (DELETE)))
#define PARTS(...) (const VmPart[]) { __VA_ARGS__, { NULL } }
#define ADVICE(...) (const VmAdvice[]) { __VA_ARGS__, { 0 } }
#define START_FIRST { S (STOPPED) | S (SUSPENDED), ": start it first" }
#define RESUME_FIRST { S (PAUSED), ": resume it first" }
#define NOTHING_RUNS { S (SUSPENDED), ": nothing of it runs" }
#define DELETE_PARTS PARTS ({ vm_part_kill, needs_no_kill }, { part_all_the_same }, { vm_part_delete })
/* Delete with force: the same verb, more rights. */
static const VmVerbRow row_delete_force = {
  BANGER_VM_VERB_DELETE, "delete", "being deleted",
  .states = ANY_STATE, .interrupts = ANY_VERB & ~V (DELETE), .reached = GONE, .bounded = TRUE,
  .parts = DELETE_PARTS
};
/* Restore with force: what it has now is lost. */
#define RESTORE_PARTS                                                                                                  \
  PARTS ({ vm_part_settle }, { vm_part_put_back_copy }, { vm_part_kill, vm_needs_no_end }, { vm_part_put_back })
static const VmVerbRow row_restore_force = {
  BANGER_VM_VERB_RESTORE, "restore", "being restored",
  .states = S (STOPPED) | S (SUSPENDED) | S (RUNNING) | S (PAUSED), .check = vm_check_put_back, .parts = RESTORE_PARTS
};
/* Somebody takes what was saved, and deletes it. */
static const VmVerbRow row_save = {
  BANGER_VM_VERB_SUSPEND, "save", "being saved", .states = S (RUNNING),
  .parts = PARTS ({ vm_part_settle }, { vm_part_pause }, { vm_part_save })
};
/* The VMM does with it what it likes. */
static const VmVerbRow row_signal = {
  BANGER_VM_VERB_KILL, "signal", "being signalled", .states = S (RUNNING) | S (PAUSED),
  .advice = ADVICE (START_FIRST, NOTHING_RUNS), .parts = PARTS ({ vm_part_signal })
};
static const VmVerbRow verb_rows[] = {
  { BANGER_VM_VERB_CREATE, "create", "being created", .states = S (CREATING), .parts = PARTS ({ part_create }) },
  { BANGER_VM_VERB_START, "start", "being started", .states = S (STOPPED) | S (SUSPENDED),
    .advice = ADVICE ({ S (PAUSED), ": resume it instead" }), .parts = PARTS ({ vm_part_up }, { vm_part_provide }) },
  { BANGER_VM_VERB_STOP, "stop", "being stopped",
    .states = S (RUNNING) | S (STARTING) | S (PAUSED),
    .interrupts = PASSING, .reached = S (STOPPED) | S (SUSPENDED), .advice = ADVICE (NOTHING_RUNS),
    .parts = PARTS ({ vm_part_stop }) },
  { BANGER_VM_VERB_KILL, "kill", "being killed",
    .states = S (RUNNING) | S (STARTING) | S (STOPPING) | S (PAUSED) | S (UNREADABLE),
    .interrupts = PASSING | V (STOP),
    .reached = S (STOPPED) | S (SUSPENDED), .advice = ADVICE (NOTHING_RUNS), .bounded = TRUE, .signalled = &row_signal,
    .parts = PARTS ({ vm_part_kill, is_unreadable }, { part_release, is_readable }) },
  { BANGER_VM_VERB_RESTART, "restart", "being restarted", .states = S (RUNNING) | S (PAUSED), .interrupts = V (IMPORT_WORKSPACE),
    .advice = ADVICE (START_FIRST),
    .parts = PARTS ({ vm_part_stop }, { part_still_wanted }, { vm_part_up }, { vm_part_provide }) },
  { BANGER_VM_VERB_PAUSE, "pause", "being paused", .states = S (RUNNING),
    .advice = ADVICE (START_FIRST, RESUME_FIRST), .parts = PARTS ({ vm_part_pause }) },
  { BANGER_VM_VERB_RESUME, "resume", "being resumed", .states = S (PAUSED),
    .advice = ADVICE ({ S (STOPPED), ": start it first" }), .parts = PARTS ({ vm_part_resume }) },
  { BANGER_VM_VERB_SUSPEND, "suspend", "being suspended", .states = S (RUNNING) | S (PAUSED),
    .advice = ADVICE (START_FIRST), .check = check_suspend, .paused = &row_save,
    .parts = PARTS ({ vm_part_settle }, { vm_part_pause, vm_is_paused }, { vm_part_suspend }) },
  { BANGER_VM_VERB_DELETE, "delete", "being deleted", .states = S (STOPPED) | S (DELETING) | S (UNREADABLE),
    .reached = GONE, .bounded = TRUE, .forced = &row_delete_force,
    .advice = ADVICE ({ S (SUSPENDED), ": start it first, or delete with force" },
                      { ANY_STATE, ": stop it first, or delete with force" }),
    .parts = DELETE_PARTS },
  { BANGER_VM_VERB_IMPORT_WORKSPACE, "import a workspace into", "taking in a workspace", .states = S (RUNNING),
    .advice = ADVICE (START_FIRST, RESUME_FIRST), .check = check_import, .parts = PARTS ({ part_import }) },
  { BANGER_VM_VERB_SET, "change", "being changed",
    .states = S (STOPPED) | S (SUSPENDED) | S (RUNNING) | S (PAUSED), .check = vm_check_set, .parts = PARTS ({ vm_part_set }) },
  { BANGER_VM_VERB_HOLD, "hold", "being made an image of", .states = S (STOPPED), .check = vm_check_hold,
    .advice = ADVICE ({ S (SUSPENDED), ": what is in its memory is not on its disks; start it and stop it" },
                      { S (RUNNING) | S (PAUSED), ": stop it first" }),
    .parts = PARTS ({ vm_part_hold }) },
  { BANGER_VM_VERB_SNAPSHOT, "make a snapshot of", "being made a snapshot of",
    .states = S (RUNNING) | S (PAUSED) | S (STOPPED) | S (SUSPENDED), .check = vm_check_snapshot,
    .parts = PARTS ({ vm_part_settle }, { vm_part_pause, vm_stands_still }, { vm_part_snapshot }) },
  { BANGER_VM_VERB_FORK, "fork", "being forked", .states = S (RUNNING) | S (PAUSED), .check = vm_check_fork,
    .advice = ADVICE ({ S (STOPPED) | S (SUSPENDED), ": nothing of it runs that copies could go on with; start it first" }),
    .parts = PARTS ({ vm_part_settle }, { vm_part_pause, vm_stands_still }, { vm_part_snapshot }) },
  { BANGER_VM_VERB_RESTORE, "restore", "being restored", .states = S (STOPPED) | S (SUSPENDED), .check = vm_check_put_back,
    .forced = &row_restore_force, .advice = ADVICE ({ S (RUNNING) | S (PAUSED), ": stop it first, or restore with force" }),
    .parts = RESTORE_PARTS },
};
G_STATIC_ASSERT (G_N_ELEMENTS (verb_rows) == BANGER_N_VM_VERBS);

static const VmVerbRow row_exit = { BANGER_N_VM_VERBS, "release", "being released", .parts = PARTS ({ vm_part_exited }) };
/* clang-format on */

static const VmVerbRow *
find_row (BangerVmVerb verb, const BangerVmVerbOptions *options)
{
  const VmVerbRow *row = &verb_rows[verb];
  if (!options)
    return row;
  return row->forced && options->force                                             ? row->forced
         : row->paused && options->paused                                          ? row->paused
         : row->signalled && options->signal && !vm_signal_kills (options->signal) ? row->signalled
                                                                                   : row;
}

/* The VMM ended by itself. */
void
vm_exit_begin (BangerVm *vm)
{
  vm_op_begin (vm_op_new_found (vm, &row_exit, row_exit.parts));
}

static gboolean
check (BangerVm *vm, const VmVerbRow *row, const BangerVmVerbOptions *options, GError **error)
{
  if (!((V (KILL) | V (DELETE)) & VM_BIT (row->verb)) && !banger_vm_check_free (vm, error))
    return FALSE;
  /* Before reconcile the state is that of the record, which may be of yesterday. */
  return (verbs_are_held (vm) || check_begin (vm, row, error)) && (!row->check || row->check (vm, options, error))
         && check_starts (vm, options, error);
}

gboolean
banger_vm_may (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, GError **error)
{
  return check (vm, find_row (verb, options), options, error);
}

static void
begin (BangerJob *job)
{
  VmOp *op = (VmOp *)job;
  if (is_held (op->vm, op->row))
    g_queue_push_tail (&op->vm->vms->held, op);
  else
    op_begin_checked (op);
}

BangerJob *
banger_vm_job_new (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJobs *jobs,
                   const BangerJobSpec *spec, GError **error)
{
  const VmVerbRow *row = find_row (verb, options);
  BangerJobSpec own = *spec;
  own.size = sizeof (VmOp);
  own.begin = begin;
  own.object_kind = BANGER_OBJECT_VM;
  own.object_id = vm->record.id;
  BangerJob *job = check (vm, row, options, error) ? banger_job_new (jobs, &own, error) : NULL;
  if (job)
    op_new (banger_job_ref (job), vm, row, options);
  return job;
}

static void
on_part_ended (BangerJob *job, const GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  banger_task_return (task, error ? g_error_copy (error) : NULL);
}

void
vm_run (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, const BangerCaller *caller,
        GAsyncReadyCallback callback, gpointer user_data)
{
  const VmVerbRow *row = find_row (verb, options);
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  GError *error = NULL;
  if (!check (vm, row, options, &error)) {
    banger_task_return_later (task, error);
    return;
  }
  BangerJob *job = banger_job_new_part (sizeof (VmOp), NULL);
  if (caller) {
    job->op_id = g_strdup (caller->op_id);
    job->caller = (BangerCaller){ job->op_id, caller->interactive };
  }
  op_new (job, vm, row, options);
  banger_job_keep (job, on_part_ended, task);
  begin (job);
}

void
banger_vm_run_async (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *whole,
                     GAsyncReadyCallback callback, gpointer user_data)
{
  BangerJob *job = banger_job_new_part (sizeof (VmOp), whole);
  op_new (job, vm, find_row (verb, options), options);
  banger_job_keep (job, on_part_ended, g_task_new (NULL, NULL, callback, user_data));
  begin (job);
}

gboolean
banger_vm_run_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
