/* What a start does differently for a guest that was suspended: it goes on, and is not booted.
 * Never has a guest go on that the record still calls suspended. */
#include "manager/core/later.h"
#include "manager/peer/vmm.h"
#include "manager/vm/identity.h"
#include "manager/vm/private.h"

#define AGENT_SECONDS 5

static void
on_resumed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  banger_vmm_finish (result, &error);
  banger_task_return (task, error);
}

/* From here on its disks are not those any more that what was saved knows. */
static void
restore_recorded (VmOp *op, GError *error)
{
  const BangerVm *vm = op->vm;
  g_autoptr (GTask) task = g_steal_pointer (&op->restoring);
  if (!error && vm->died)
    banger_set_error (&error, BANGER_ERROR_ENGINE_FAILED, "the VMM ended before the guest went on");
  if (error) { /* nor does it go on: what was saved fits as before */
    vm_set_string (&op->vm->record.suspended, g_task_get_task_data (task));
    g_task_return_error (task, error);
  } else
    banger_vmm_pause_async (vm->api_socket, (pid_t)vm->record.pid, FALSE, g_task_get_cancellable (task), on_resumed,
                            g_object_ref (task));
}

void
vm_restore_go_on_async (VmOp *op, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  BangerVm *vm = op->vm;
  op->restoring = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (op->restoring, FALSE);
  g_task_set_task_data (op->restoring, g_strdup (vm->record.suspended), g_free);
  g_signal_connect_swapped (cancellable, "cancelled", G_CALLBACK (vm_wait_less), op);
  banger_job_set_cancelable (&op->job, FALSE);
  vm_set_string (&vm->record.suspended, "");
  vm->record.started_at = (guint64)g_get_real_time ();
  vm_set_state_then (op, BANGER_VM_PAUSED, "", restore_recorded);
}

typedef struct {
  GTask *task;
  GCancellable *late;
} Wait;

/* It runs either way: its clock is looked after anyway, and its random pool was its own alone. */
static void
on_renewed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  BangerVm *vm = g_task_get_task_data (task);
  g_autoptr (GError) error = NULL;
  if (g_task_return_error_if_cancelled (task))
    return;
  if (!vm_identity_finish (result, &error))
    vm_log (vm, vm->op, g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED) ? LOG_INFO : LOG_WARNING,
            "its guest goes on without new random bytes: %s", error->message);
  g_task_return_boolean (task, TRUE);
}

static void
on_wait_end (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Wait *wait = data;
  g_autoptr (GTask) task = wait->task;
  g_autoptr (GCancellable) late = wait->late;
  gboolean there = banger_agent_wait_finish (result, NULL);
  if (g_task_return_error_if_cancelled (task))
    return;
  if (there)
    vm_identity_async (g_task_get_task_data (task), VM_IDENTITY_SAME, FALSE, g_task_get_cancellable (task), on_renewed,
                       g_object_ref (task));
  else
    g_task_return_boolean (task, TRUE);
}

void
vm_restore_agent_async (BangerVm *vm, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Wait *wait = g_new0 (Wait, 1);
  wait->task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (wait->task, banger_vm_ref (vm), (GDestroyNotify)banger_vm_unref);
  wait->late = g_cancellable_new ();
  banger_cancel_later (wait->late, AGENT_SECONDS);
  g_signal_connect_object (cancellable, "cancelled", G_CALLBACK (g_cancellable_cancel), wait->late, G_CONNECT_SWAPPED);
  banger_agent_wait_async (vm->agent, BANGER_AGENT_READY, wait->late, on_wait_end, wait);
}

void
vm_restore_advise (GError *error)
{
  char *message = g_strconcat (error->message,
                               "; it stays suspended: --discard boots it without what was in its memory", NULL);
  g_free (error->message);
  error->message = message;
}

static void
on_checked (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_saved_finish (result, &error);
  if (error && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    vm_restore_advise (error);
  vm_go_on (data, error);
}

void
vm_restore_check (VmOp *op)
{
  vm_files_check_saved_async (op->vm, op->job.cancellable, on_checked, op);
}

gboolean
vm_is_not_restored (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_SUSPENDED || op->options.discard;
}
