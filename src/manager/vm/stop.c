/* How a VM ends: asked, told, forced, by itself; what is released then; how it is deleted.
 * Never waits without a bound, never leaves a later step out because an earlier one failed (requirements H3, H6). */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "manager/core/record.h"
#include "manager/peer/vmm.h"

#define GUEST_SHUTDOWN_USEC (20 * G_USEC_PER_SEC)
#define MAX_SHUTDOWN_USEC (G_GUINT64_CONSTANT (3600) * G_USEC_PER_SEC) /* of what a caller asks for */
#define AGENT_CONNECT_SECONDS 3
#define AGENT_ANSWER_SECONDS 3

/* Release: the helper's part, then the run folder. */

static void
remove_run_folder (BangerVm *vm, GError **error)
{
  if (vm_runtime_fd (vm->vms, NULL) >= 0)
    banger_safe_remove_tree (vm->vms->runtime_fd, vm->record.id, error);
}

static void
on_released (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  BangerVm *vm = op->vm;
  GError *error = NULL;
  vm->unreleased = !banger_helper_finish (result, &error);
  vm_no_time (op, &error);
  if (vm->unreleased)
    vm_retry_later (vm->vms);
  vm_unwatch (vm);
  op->ended |= !error;
  if (!error)
    remove_run_folder (vm, &error);
  vm_go_on (op, error);
}

void
vm_release (VmOp *op)
{
  vm_drop_agent (op->vm);
  vm_ask (op, "ReleaseVm", op->bound, on_released, op);
}

/* Stop: a ladder of ways, each gentler than the next. */

typedef struct Ladder Ladder;

typedef struct {
  const char *stage;
  guint seconds; /* that the VMM may take to end after the action succeeded */
  void (*act) (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data);
  gboolean (*act_finish) (GAsyncResult *result, GError **error);
} Rung;

struct Ladder {
  VmOp *op;
  guint rung;
  guint timeout_id;
  GCancellable *cancellable; /* of the rung's action */
  guint guest_seconds;
};

/* An action that outlives its rung finds its cancellable cancelled. */
typedef struct {
  Ladder *ladder;
  const Rung *rung;
  GCancellable *cancellable;
} Action;

static void ladder_climb (Ladder *ladder);

static gboolean
task_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

static void
refuse_action (const char *why, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "%s", why);
}

static void
act_connect (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_keep_agent (ladder->op->vm);
  banger_agent_wait_async (ladder->op->vm->agent, BANGER_AGENT_CONNECTED, ladder->cancellable, callback, user_data);
}

static void
act_shutdown (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_agent_call_async (ladder->op->vm->agent, "shutdown", AGENT_ANSWER_SECONDS, ladder->cancellable, callback,
                           user_data);
}

static void
act_poweroff (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_agent_call_async (ladder->op->vm->agent, "poweroff", AGENT_ANSWER_SECONDS, ladder->cancellable, callback,
                           user_data);
}

/* Only where the agent is dead: it would have done the same. */
static void
act_ssh (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  BangerVm *vm = ladder->op->vm;
  gboolean missing = g_str_equal (vm->record.ssh_server, BANGER_SSH_SERVER_MISSING);
  if (missing || banger_agent_connected (vm->agent)) {
    refuse_action (missing ? "there is no ssh server" : "the agent answers", callback, user_data);
    return;
  }
  static const char *const words[] = { "sync;", "systemctl", "reboot", "||", "reboot", "-f" };
  g_autoptr (GPtrArray) argv = banger_ssh_argv (vm->vms->ssh, vm->alias, vm->record.login_user, vm->record.address);
  for (guint i = 0; i < G_N_ELEMENTS (words); i++)
    g_ptr_array_add (argv, g_strdup (words[i]));
  g_ptr_array_add (argv, NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (GSubprocess) ssh = g_subprocess_newv (
      (const char *const *)argv->pdata, G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_SILENCE, &error);
  if (!ssh)
    refuse_action (error->message, callback, user_data);
  else
    g_subprocess_wait_async (ssh, ladder->cancellable, callback, user_data);
}

static gboolean
ssh_finish (GAsyncResult *result, GError **error)
{
  if (G_IS_TASK (result) && !g_task_get_source_object (G_TASK (result)))
    return task_finish (result, error);
  GSubprocess *ssh = G_SUBPROCESS (g_async_result_get_source_object (result));
  gboolean ok = g_subprocess_wait_finish (ssh, result, error);
  if (!ok)
    g_subprocess_force_exit (ssh);
  else if (!g_subprocess_get_if_exited (ssh) || g_subprocess_get_exit_status (ssh) == 255)
    ok = banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "ssh did not get in");
  g_object_unref (ssh);
  return ok;
}

static void
act_ctrl_alt_del (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_vmm_action_async (ladder->op->vm->api_socket, (pid_t)ladder->op->vm->record.pid, "SendCtrlAltDel",
                           ladder->cancellable, callback, user_data);
}

static void
act_resume (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_vmm_pause_async (ladder->op->vm->api_socket, (pid_t)ladder->op->vm->record.pid, FALSE, ladder->cancellable,
                          callback, user_data);
}

static void
act_kill (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_ask (ladder->op, "KillVmm", ladder->op->bound, callback, user_data);
}

enum { RUNG_RESUME, RUNG_CONNECT, RUNG_SHUTDOWN, RUNG_KILL = 6 };
static const Rung rungs[] = {
  [RUNG_RESUME] = { "resuming the guest", 5, act_resume, banger_vmm_finish },
  [RUNG_CONNECT] = { "shutting down the guest", 0, act_connect, banger_agent_wait_finish },
  [RUNG_SHUTDOWN] = { "shutting down the guest", 0, act_shutdown, banger_agent_call_finish },
  { "powering off the guest", 5, act_poweroff, banger_agent_call_finish },
  { "shutting down the guest over ssh", 15, act_ssh, ssh_finish },
  { "pressing Ctrl-Alt-Del", 5, act_ctrl_alt_del, banger_vmm_finish },
  [RUNG_KILL] = { "killing the VMM", 5, act_kill,
                  banger_helper_finish }, /* from the answer: it may be long until it is sent */
};

static void
ladder_leave_rung (Ladder *ladder)
{
  g_clear_handle_id (&ladder->timeout_id, g_source_remove);
  if (ladder->cancellable)
    g_cancellable_cancel (ladder->cancellable);
  g_clear_object (&ladder->cancellable);
}

static void
ladder_end (Ladder *ladder, GError *error)
{
  VmOp *op = ladder->op;
  op->ended = !error;
  op->in_order = !error && ladder->rung < RUNG_KILL;
  ladder_leave_rung (ladder);
  g_free (ladder);
  op->data = NULL;
  if (error && !op->was_paused) /* it still runs, and is to be reached */
    vm_keep_agent (op->vm);
  vm_go_on (op, error);
}

static void
ladder_next (Ladder *ladder)
{
  ladder_leave_rung (ladder);
  ladder->rung++;
  ladder_climb (ladder);
}

static gboolean
on_rung_timeout (gpointer data)
{
  Ladder *ladder = data;
  ladder->timeout_id = 0;
  vm_log (ladder->op->vm, ladder->op, LOG_NOTICE, "%s: no end in time", rungs[ladder->rung].stage);
  ladder_next (ladder);
  return G_SOURCE_REMOVE;
}

static void
on_acted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Action *action = data;
  g_autoptr (GCancellable) cancellable = action->cancellable;
  Ladder *ladder = action->ladder;
  g_autoptr (GError) error = NULL;
  gboolean ok = action->rung->act_finish (result, &error);
  if (g_cancellable_is_cancelled (cancellable))
    return; /* the ladder went on without it, or is gone */
  if (ok) {
    if (action->rung == &rungs[RUNG_RESUME])
      ladder->op->was_paused = FALSE;
    if (action->rung <= &rungs[RUNG_CONNECT])
      ladder_next (ladder);
    else if (action->rung == &rungs[RUNG_KILL])
      ladder->timeout_id = g_timeout_add_seconds (action->rung->seconds, on_rung_timeout, ladder);
    return;
  }
  vm_log (ladder->op->vm, ladder->op, LOG_DEBUG, "%s: %s", action->rung->stage, error->message);
  if (action->rung != &rungs[RUNG_KILL])
    ladder_next (ladder);
  else if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT))
    ladder_end (ladder, NULL); /* its lease is lost: the release goes by its id, and ends what runs */
  else {
    ladder->op->vm->killed = g_error_matches (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
    vm_no_time (ladder->op, &error);
    ladder_end (ladder, g_steal_pointer (&error));
  }
}

static void
ladder_climb (Ladder *ladder)
{
  if (ladder->rung == G_N_ELEMENTS (rungs)) {
    ladder->op->vm->killed = TRUE;
    ladder_end (ladder, g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM did not end after SIGKILL"));
    return;
  }
  const Rung *rung = &rungs[ladder->rung];
  guint seconds = ladder->rung == RUNG_SHUTDOWN ? ladder->guest_seconds
                  : rung->seconds               ? rung->seconds
                                                : AGENT_CONNECT_SECONDS;
  banger_job_set_stage (&ladder->op->job, rung->stage);
  ladder->cancellable = g_cancellable_new ();
  if (ladder->rung != RUNG_KILL)
    ladder->timeout_id = g_timeout_add_seconds (seconds, on_rung_timeout, ladder);
  Action *action = g_new0 (Action, 1);
  action->ladder = ladder;
  action->rung = rung;
  action->cancellable = g_object_ref (ladder->cancellable);
  rung->act (ladder, on_acted, action);
}

static void
stop_on_death (VmOp *op)
{
  ladder_end (op->data, NULL);
}

/* A kill, or a delete with force: no more asking. */
static void
stop_on_interrupt (VmOp *op)
{
  Ladder *ladder = op->data;
  if (ladder->rung >= RUNG_KILL)
    return;
  ladder_leave_rung (ladder);
  ladder->rung = RUNG_KILL;
  ladder_climb (ladder);
}

static void
ladder_begin (VmOp *op, guint rung)
{
  Ladder *ladder = g_new0 (Ladder, 1);
  guint64 usec = op->options.timeout_usec ? MIN (op->options.timeout_usec, MAX_SHUTDOWN_USEC) : GUEST_SHUTDOWN_USEC;
  ladder->op = op;
  ladder->rung = rung;
  ladder->guest_seconds = (guint)((usec + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC);
  op->data = ladder;
  ladder_climb (ladder);
}

/* Who carries on an earlier stop may have somebody waiting already. */
static void
ask_to_end (VmOp *op)
{
  ladder_begin (op, op->vm->queue ? RUNG_KILL : op->may_be_paused ? RUNG_RESUME : RUNG_CONNECT);
}

static void
kill_vmm (VmOp *op)
{
  ladder_begin (op, RUNG_KILL);
}

/* What the guest wrote last. Without it, it is stopped all the same; but that may be lost with the host's power. */

static gboolean
needs_no_sync (VmOp *op)
{
  return !op->in_order || op->vm->record.ephemeral;
}

static void
sync_end (VmOp *op, GError *error)
{
  GError *first = g_steal_pointer (&op->data);
  gboolean left = g_cancellable_is_cancelled (op->job.cancellable); /* who kills does not wait for a disk */
  g_clear_handle_id (&op->sync_id, g_source_remove);
  if (first || left)
    g_clear_error (&error);
  if (first)
    error = first;
  else if (left)
    error = op->disk_late ? g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT, "its disk has not answered for %u s",
                                         op->vm->vms->sync_seconds)
                          : g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "that was not waited for");
  if (error) {
    g_prefix_error (&error, "it is stopped, but not all that it wrote is on the disk: ");
    op->reason = g_strdup (error->message);
  }
  vm_go_on (op, error);
}

static void
on_disk_synced (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_helper_finish (result, &error);
  sync_end (data, error);
}

static void
on_synced (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  vm_files_finish (result, &error);
  if (!g_str_equal (op->vm->record.root, "snapshot")) {
    sync_end (op, error);
    return;
  }
  op->data = error; /* its file is root's */
  vm_ask (op, "SyncDisk", op->job.cancellable, on_disk_synced, op);
}

static gboolean
on_sync_late (gpointer data)
{
  VmOp *op = data;
  op->sync_id = 0;
  op->disk_late = TRUE;
  g_cancellable_cancel (op->job.cancellable);
  return G_SOURCE_REMOVE;
}

static void
sync_disks (VmOp *op)
{
  op->sync_id = g_timeout_add_seconds (op->vm->vms->sync_seconds, on_sync_late, op);
  vm_files_sync_async (op->vm, op->job.cancellable, on_synced, op);
}

/* The state that it ends in. */

/* Of the run at hand. Also where an earlier bangerd has begun to stop it: a start that was never finished has no time. */
static gboolean
vm_ran (const BangerVm *vm)
{
  return vm->record.state == BANGER_VM_RUNNING || vm->record.state == BANGER_VM_PAUSED
         || (vm->record.state == BANGER_VM_STOPPING && vm->record.started_at);
}

static void
set_stopping (VmOp *op)
{
  banger_job_set_cancelable (&op->job, FALSE);
  op->half_made = !vm_ran (op->vm);
  op->was_paused = op->vm->record.state == BANGER_VM_PAUSED;
  /* Whatever it was when an earlier bangerd began. */
  op->may_be_paused = op->vm->pidfd < 0 || op->vm->record.state != BANGER_VM_RUNNING;
  vm_set_state (op, BANGER_VM_STOPPING, ""); /* not waited for: whatever the record says, it is stopped */
  vm_go_on (op, NULL);
}

static gboolean
has_ended (VmOp *op)
{
  return op->ended;
}

static gboolean
may_run (VmOp *op)
{
  return !op->ended;
}

static void
set_stopped (VmOp *op)
{
  g_autofree char *reason = g_steal_pointer (&op->reason);
  if (!reason && op->error) {
    reason = g_strdup_printf ("not all was released: %s", op->error->message);
    g_prefix_error (&op->error, "it is stopped, but not all was released: ");
  }
  vm_set_state_then (op, BANGER_VM_STOPPED, reason, vm_go_on);
}

/* A start that was never finished is told from a VM that ran: its disks are made anew. A guest that stood still and was
 * not told to go on stands still. */
static void
set_not_stopped (VmOp *op)
{
  BangerVmState ran = op->was_paused ? BANGER_VM_PAUSED : BANGER_VM_RUNNING;
  if (op->half_made) {
    op->vm->unreleased = TRUE;
    vm_retry_later (op->vm->vms);
  }
  vm_set_state_then (op, op->half_made ? BANGER_VM_STARTING : ran, op->error->message, vm_go_on);
}

/* The end that nobody asked for. */

static char *
exit_reason (const BangerVm *vm, const BangerVmmStatus *status, const char *tail)
{
  if (vm->killed)
    return g_strdup (VM_KILLED_LATE);
  if (status->exit_signal)
    return g_strdup_printf ("the VMM was ended by signal %d", status->exit_signal);
  if (status->exit_code > 0)
    return g_strdup_printf ("the VMM ended with status %d%s%s", status->exit_code, tail ? "; console:" : "",
                            tail ? tail : "");
  return g_strdup (status->exit_code == 0 ? "the guest shut down" : "the VMM ended");
}

static void
on_exit_tail (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autofree BangerVmmStatus *status = g_steal_pointer (&op->data);
  g_autofree char *tail = vm_files_tail_finish (result);
  op->reason = exit_reason (op->vm, status, tail);
  vm_go_on (op, NULL);
}

static void
on_exit_status (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  BangerVmmStatus status = { .exit_code = -1 };
  g_autoptr (GError) error = NULL;
  if (!banger_helper_status_finish (result, &status, &error))
    vm_log (op->vm, op, LOG_DEBUG, "how the VMM ended is not known: %s", error->message);
  op->data = g_memdup2 (&status, sizeof status);
  vm_files_tail_async (op->vm, on_exit_tail, op);
}

static void
find_why (VmOp *op)
{
  op->ended = TRUE;
  op->vm->died = FALSE;
  vm_ask (op, "GetVmm", op->job.cancellable, on_exit_status, op);
}

/* The parts. What may run is never released under its guest's feet, but where that is asked for. */

/* clang-format off */
const VmStep vm_part_stop[] = {
  { "stopping", set_stopping },
  { "find-out", vm_adopt, .skip = vm_is_watched, .on_interrupt = vm_leave_question },
  { "ask", ask_to_end, .skip = vm_is_not_watched, .on_death = stop_on_death, .on_interrupt = stop_on_interrupt },
  { "release", vm_release },
  { "sync", sync_disks, .skip = needs_no_sync },
  { "stopped", set_stopped, .when = VM_ALWAYS, .skip = may_run },
  { "not-stopped", set_not_stopped, .when = VM_IF_BAD, .skip = has_ended },
  { NULL },
};

const VmStep vm_part_kill[] = {
  { "stopping", set_stopping },
  { "kill", kill_vmm, .skip = vm_is_not_watched, .on_death = stop_on_death, .on_interrupt = stop_on_interrupt },
  { "release", vm_release }, /* also of what is not known: it kills what it finds */
  { "stopped", set_stopped, .when = VM_ALWAYS, .skip = may_run },
  { "not-stopped", set_not_stopped, .when = VM_IF_BAD, .skip = has_ended },
  { NULL },
};

const VmStep vm_part_exited[] = {
  { "why", find_why },
  { "release", vm_release },
  { "stopped", set_stopped, .when = VM_ALWAYS },
  { NULL },
};
/* clang-format on */
