/* How a VM ends: asked, told, forced, by itself; what is released then; how it is deleted.
 * Called by vm.c and vm-reconcile.c.
 * Never waits without a bound, never leaves a later step out because an earlier one failed (requirements H3, H6). */
#include "manager/vm-private.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "manager/record.h"
#include "manager/vmm-client.h"

#define GUEST_SHUTDOWN_USEC (20 * G_USEC_PER_SEC)
#define AGENT_CONNECT_SECONDS 3
#define AGENT_ANSWER_SECONDS 3

/* Release: the helper's part, then the run folder. */

static void
released (VmOp *op, GError *error)
{
  VmNext next = op->after_release;
  op->after_release = NULL;
  next (op, error);
}

static void
remove_run_folder (BangerVm *vm, GError **error)
{
  if (vm_runtime_fd (vm->vms, NULL) >= 0)
    banger_safe_remove_tree (vm->vms->runtime_fd, vm->record.id, error);
}

static void
on_released (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  BangerVm *vm = op->vm;
  GError *error = NULL;
  vm->unreleased = !banger_helper_finish (vm->vms->helper, result, &error);
  vm_unwatch (vm);
  if (!error)
    remove_run_folder (vm, &error);
  released (op, error);
}

void
vm_release_run (VmOp *op, VmNext next)
{
  op->after_release = next;
  op->on_death = NULL;
  vm_drop_agent (op->vm);
  banger_helper_release_vm (op->vm->vms->helper, &op->caller, op->vm->record.id, NULL, on_released, op);
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
  if (banger_agent_connected (vm->agent)) {
    refuse_action ("the agent answers", callback, user_data);
    return;
  }
  static const char *const words[] = { "sync;", "systemctl", "reboot", "||", "reboot", "-f" };
  g_autoptr (GPtrArray) argv = banger_ssh_argv (vm->vms->ssh, vm->alias, vm->record.address);
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
  if (G_IS_TASK (result) && g_task_get_source_object (G_TASK (result)) == NULL)
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
  banger_vmm_action_async (ladder->op->vm->api_socket, "SendCtrlAltDel", ladder->cancellable, callback, user_data);
}

static void
act_kill (Ladder *ladder, GAsyncReadyCallback callback, gpointer user_data)
{
  VmOp *op = ladder->op;
  banger_helper_kill_vmm (op->vm->vms->helper, &op->caller, op->vm->record.id, NULL, callback, user_data);
}

static gboolean
kill_finish (GAsyncResult *result, GError **error)
{
  return banger_helper_finish (NULL, result, error);
}

enum { RUNG_CONNECT, RUNG_SHUTDOWN, RUNG_KILL = 5 };
static const Rung rungs[] = {
  [RUNG_CONNECT] = { "shutting down the guest", 0, act_connect, banger_agent_wait_finish },
  [RUNG_SHUTDOWN] = { "shutting down the guest", 0, act_shutdown, banger_agent_call_finish },
  { "powering off the guest", 5, act_poweroff, banger_agent_call_finish },
  { "shutting down the guest over ssh", 15, act_ssh, ssh_finish },
  { "pressing Ctrl-Alt-Del", 5, act_ctrl_alt_del, banger_vmm_finish },
  [RUNG_KILL] = { "killing the VMM", 5, act_kill, kill_finish },
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
stop_set_stopped (VmOp *op, GError *error)
{
  VmNext next = op->next;
  g_autofree char *reason = error ? g_strdup_printf ("not all was released: %s", error->message) : g_strdup ("");
  GError *state_error = NULL;
  vm_set_state (op->vm, op, BANGER_VM_STOPPED, reason, error ? NULL : &state_error);
  next (op, error ? error : state_error);
}

/* A stop in order is done when it is on the disk: the root disk's flushes went no further than our page cache. */
static void
sync_worker (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  static const char *const disks[] = { BANGER_FILE_VM_ROOTFS, BANGER_FILE_VM_COW, BANGER_FILE_VM_WORK };
  const BangerVm *vm = task_data;
  for (guint i = 0; i < G_N_ELEMENTS (disks); i++) {
    banger_autofd int fd = openat (vm->dir_fd, disks[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if ((fd < 0 && errno != ENOENT) || (fd >= 0 && fsync (fd) < 0)) {
      GError *error = NULL;
      banger_set_error_errno (&error, BANGER_ERROR_FAILED, errno, "cannot write %s to the disk", disks[i]);
      g_task_return_error (task, error);
      return;
    }
  }
  g_task_return_boolean (task, TRUE);
}

static void
on_synced (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  g_autoptr (GError) error = NULL;
  if (!g_task_propagate_boolean (G_TASK (result), &error))
    vm_log (op->vm, op, LOG_ERR, "%s", error->message);
  stop_set_stopped (op, NULL);
}

static void
stopped_in_order (VmOp *op, GError *error)
{
  if (error || op->vm->record.ephemeral) {
    stop_set_stopped (op, error);
    return;
  }
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_synced, op);
  g_task_set_task_data (task, op->vm, NULL);
  g_task_run_in_thread (task, sync_worker);
}

/* Nothing was known to run. If the release did not go through, something may. */
static void
unknown_released (VmOp *op, GError *error)
{
  if (!error) {
    stop_set_stopped (op, NULL);
    return;
  }
  vm_set_state (op->vm, op, BANGER_VM_RUNNING, error->message, NULL);
  op->next (op, error);
}

static void
ladder_end (Ladder *ladder, GError *error)
{
  VmOp *op = ladder->op;
  gboolean in_order = ladder->rung < RUNG_KILL;
  ladder_leave_rung (ladder);
  g_free (ladder);
  op->part = NULL;
  op->on_death = NULL;
  op->on_interrupt = NULL;
  if (!error) {
    vm_release_run (op, in_order ? stopped_in_order : stop_set_stopped);
    return;
  }
  /* It still runs, and is to be reached. */
  vm_set_state (op->vm, op, BANGER_VM_RUNNING, error->message, NULL);
  vm_keep_agent (op->vm);
  op->next (op, error);
}

static void
ladder_next (Ladder *ladder)
{
  ladder_leave_rung (ladder);
  ladder->rung++;
  ladder_climb (ladder);
}

static gboolean
on_rung_timeout (gpointer user_data)
{
  Ladder *ladder = user_data;
  ladder->timeout_id = 0;
  vm_log (ladder->op->vm, ladder->op, LOG_NOTICE, "%s: no end in time", rungs[ladder->rung].stage);
  ladder_next (ladder);
  return G_SOURCE_REMOVE;
}

static void
on_acted (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autofree Action *action = user_data;
  g_autoptr (GCancellable) cancellable = action->cancellable;
  Ladder *ladder = action->ladder;
  g_autoptr (GError) error = NULL;
  gboolean ok = action->rung->act_finish (result, &error);
  if (g_cancellable_is_cancelled (cancellable))
    return; /* the ladder went on without it, or is gone */
  if (ok) {
    if (action->rung == &rungs[RUNG_CONNECT])
      ladder_next (ladder);
    return;
  }
  vm_log (ladder->op->vm, ladder->op, LOG_DEBUG, "%s: %s", action->rung->stage, error->message);
  if (action->rung == &rungs[RUNG_KILL])
    ladder_end (ladder, g_steal_pointer (&error));
  else
    ladder_next (ladder);
}

static void
ladder_climb (Ladder *ladder)
{
  if (ladder->rung == G_N_ELEMENTS (rungs)) {
    ladder_end (ladder, g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM did not end after SIGKILL"));
    return;
  }
  const Rung *rung = &rungs[ladder->rung];
  guint seconds = ladder->rung == RUNG_SHUTDOWN ? ladder->guest_seconds
                  : rung->seconds               ? rung->seconds
                                                : AGENT_CONNECT_SECONDS;
  banger_job_set_stage (ladder->op->job, rung->stage);
  ladder->cancellable = g_cancellable_new ();
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
  ladder_end (op->part, NULL);
}

/* A kill, or a delete with force: no more asking. */
static void
stop_on_interrupt (VmOp *op)
{
  Ladder *ladder = op->part;
  if (ladder->rung >= RUNG_KILL)
    return;
  ladder_leave_rung (ladder);
  ladder->rung = RUNG_KILL;
  ladder_climb (ladder);
}

static void
stop_from (VmOp *op, guint rung, VmNext next)
{
  BangerVm *vm = op->vm;
  op->next = next;
  banger_job_set_cancelable (op->job, FALSE);
  GError *error = NULL;
  if (!vm_set_state (vm, op, BANGER_VM_STOPPING, "", &error)) {
    vm_log (vm, op, LOG_ERR, "going on without a record: %s", error->message);
    g_clear_error (&error);
  }
  if (vm->pidfd < 0) { /* nothing runs, or it is not known: the release kills what it finds */
    vm_release_run (op, unknown_released);
    return;
  }
  Ladder *ladder = g_new0 (Ladder, 1);
  guint64 usec = op->options.timeout_usec ? op->options.timeout_usec : GUEST_SHUTDOWN_USEC;
  ladder->op = op;
  ladder->rung = rung;
  ladder->guest_seconds = (guint)MIN ((usec + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC, 3600);
  op->part = ladder;
  op->on_death = stop_on_death;
  op->on_interrupt = stop_on_interrupt;
  ladder_climb (ladder);
}

void
vm_stop_run (VmOp *op, VmNext next)
{
  stop_from (op, RUNG_CONNECT, next);
}

void
vm_kill_run (VmOp *op, VmNext next)
{
  stop_from (op, RUNG_KILL, next);
}

/* The end that nobody asked for. */

static void
exited_released (VmOp *op, GError *error)
{
  VmNext next = op->next;
  g_autofree char *reason = op->part;
  op->part = NULL;
  vm_set_state (op->vm, op, BANGER_VM_STOPPED, reason, NULL);
  next (op, error);
}

static char *
exit_reason (const BangerVmmStatus *status, const char *tail)
{
  if (status->exit_signal)
    return g_strdup_printf ("the VMM was ended by signal %d", status->exit_signal);
  if (status->exit_code > 0)
    return g_strdup_printf ("the VMM ended with status %d%s%s", status->exit_code, tail ? "; console:" : "",
                            tail ? tail : "");
  return g_strdup (status->exit_code == 0 ? "the guest shut down" : "the VMM ended");
}

static void
on_exit_status (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  BangerVmmStatus status = { .exit_code = -1 };
  g_autoptr (GError) error = NULL;
  if (!banger_helper_status_finish (op->vm->vms->helper, result, &status, &error))
    vm_log (op->vm, op, LOG_DEBUG, "how the VMM ended is not known: %s", error->message);
  g_autofree char *tail = vm_console_tail (op->vm);
  op->part = exit_reason (&status, tail);
  vm_release_run (op, exited_released);
}

void
vm_exited_run (VmOp *op, VmNext next)
{
  op->next = next;
  op->vm->died = FALSE;
  banger_helper_get_vmm (op->vm->vms->helper, &op->caller, op->vm->record.id, NULL, on_exit_status, op);
}

/* Delete. */

static void
on_removed (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  GError *error = NULL;
  if (g_task_propagate_boolean (G_TASK (result), &error)) {
    vm_log (op->vm, op, LOG_INFO, "deleted");
    vm_forget (op->vm);
  }
  op->next (op, error);
}

/* Large disks take a while to unlink. */
static void
remove_worker (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  const BangerVm *vm = task_data;
  GError *error = NULL;
  if (banger_record_remove (vm->vms->vms_fd, vm->record.id, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, error);
}

static void
delete_released (VmOp *op, GError *error)
{
  BangerVm *vm = op->vm;
  if (error) { /* the record keeps the name of what is left */
    op->next (op, error);
    return;
  }
  if (!banger_ssh_known_hosts_set (vm->vms->ssh, vm->alias, NULL, &error)) {
    vm_log (vm, op, LOG_WARNING, "its line stays in %s: %s", vm->vms->ssh->known_hosts_file, error->message);
    g_clear_error (&error);
  }
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_removed, op);
  g_task_set_task_data (task, vm, NULL);
  g_task_run_in_thread (task, remove_worker);
}

void
vm_delete_run (VmOp *op, VmNext next)
{
  BangerVm *vm = op->vm;
  op->next = next;
  banger_job_set_cancelable (op->job, FALSE);
  banger_job_set_stage (op->job, "deleting");
  /* A VM that was stopped in order holds nothing: it can be deleted without the helper. */
  gboolean holds = vm->unreleased || vm->pidfd >= 0 || vm->record.state != BANGER_VM_STOPPED;
  GError *error = NULL;
  if (!vm_set_state (vm, op, BANGER_VM_DELETING, "", &error))
    op->next (op, error);
  else if (holds)
    vm_release_run (op, delete_released);
  else
    delete_released (op, NULL);
}
