/* A command in a VM's guest, from the moment at which its agent can be asked.
 * Called for Exec, Capture and an import.
 * Never waits without end for an agent that does not come. */
#include "manager/vm/private.h"

#define AGENT_SECONDS 10

typedef struct {
  BangerVm *vm;
  BangerExecSpec *spec;
  GCancellable *waiting; /* for the agent: ended by the caller's, or when it takes too long */
  guint late_id;
  gulong cancel_id;
  gboolean late;
  int fds[BANGER_EXEC_STREAMS];
} Asking;

static void
asking_free (gpointer data)
{
  Asking *asking = data;
  g_clear_handle_id (&asking->late_id, g_source_remove);
  banger_exec_spec_free (asking->spec);
  banger_vm_unref (asking->vm);
  g_object_unref (asking->waiting);
  g_free (asking);
}

static gboolean
check_runs (BangerVm *vm, GError **error)
{
  return vm->record.state == BANGER_VM_RUNNING
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: commands need one that runs", vm->record.name,
                              banger_vm_state_to_string ((BangerVmState)vm->record.state));
}

static void
on_begun (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Asking *asking = g_task_get_task_data (task);
  GError *error = NULL;
  BangerExec *exec = banger_exec_start_finish (result, asking->fds, &error);
  if (exec)
    g_task_return_pointer (task, exec, (GDestroyNotify)banger_exec_free);
  else
    g_task_return_error (task, error);
}

/* The agent is there; the VM may have changed meanwhile. */
static void
begin (GTask *task)
{
  Asking *asking = g_task_get_task_data (task);
  BangerVm *vm = asking->vm;
  GError *error = NULL;
  if (check_runs (vm, &error) && (!vm->agent || !banger_agent_can_exec (vm->agent)))
    banger_set_error (&error, BANGER_ERROR_NOT_SUPPORTED,
                      "the agent in %s is of an older banger and runs no commands: use ssh, or restart it",
                      vm->record.name);
  if (error)
    g_task_return_error (task, error);
  else
    banger_exec_start_async (vm->vsock_socket, (pid_t)vm->record.pid, asking->spec, g_task_get_cancellable (task),
                             on_begun, g_object_ref (task));
}

static void
on_agent (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Asking *asking = g_task_get_task_data (task);
  GCancellable *cancellable = g_task_get_cancellable (task);
  g_autoptr (GError) error = NULL;
  gboolean there = banger_agent_wait_finish (result, &error);
  g_clear_handle_id (&asking->late_id, g_source_remove);
  if (asking->cancel_id)
    g_signal_handler_disconnect (cancellable, asking->cancel_id);
  if (cancellable && g_cancellable_is_cancelled (cancellable))
    g_task_return_error (task, banger_error_cancelled ());
  else if (asking->late)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT,
                             "the agent in %s has not answered for %d s: see `banger vm logs %s`",
                             asking->vm->record.name, AGENT_SECONDS, asking->vm->record.name);
  else if (there || !check_runs (asking->vm, &error))
    begin (task); /* says what it is instead */
  else
    g_task_return_error (task, g_steal_pointer (&error));
}

static gboolean
on_late (gpointer data)
{
  Asking *asking = data;
  asking->late_id = 0;
  asking->late = TRUE;
  g_cancellable_cancel (asking->waiting);
  return G_SOURCE_REMOVE;
}

static void
on_cancelled (GCancellable *cancellable, GCancellable *waiting)
{
  g_cancellable_cancel (waiting);
}

void
banger_vm_exec_async (BangerVm *vm, const BangerExecSpec *spec, GCancellable *cancellable, GAsyncReadyCallback callback,
                      gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  Asking *asking = g_new0 (Asking, 1);
  GError *error = NULL;
  g_task_set_check_cancellable (task, FALSE); /* what was begun by then is its callback's */
  asking->vm = banger_vm_ref (vm);
  asking->spec = banger_exec_spec_copy (spec);
  asking->waiting = g_cancellable_new ();
  for (int i = 0; i < BANGER_EXEC_STREAMS; i++)
    asking->fds[i] = -1;
  g_task_set_task_data (task, asking, asking_free);
  if (!check_runs (vm, &error) || !banger_exec_check (spec, &error)) {
    g_task_return_error (task, error);
  } else if (!vm->agent) {
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED,
                             "it is not known yet whether %s runs: bangerd cannot reach the helper", vm->record.name);
  } else if (banger_agent_connected (vm->agent)) {
    begin (task);
  } else {
    asking->late_id = g_timeout_add_seconds (AGENT_SECONDS, on_late, asking);
    if (cancellable)
      asking->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), asking->waiting);
    banger_agent_wait_async (vm->agent, BANGER_AGENT_CONNECTED, asking->waiting, on_agent, g_steal_pointer (&task));
  }
}

BangerExec *
banger_vm_exec_finish (GAsyncResult *result, int *ret_fds, GError **error)
{
  const Asking *asking = g_task_get_task_data (G_TASK (result));
  BangerExec *exec = g_task_propagate_pointer (G_TASK (result), error);
  for (int i = 0; i < BANGER_EXEC_STREAMS && exec; i++)
    ret_fds[i] = asking->fds[i];
  return exec;
}
