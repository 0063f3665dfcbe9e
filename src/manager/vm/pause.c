/* A guest that stands still and goes on: its VMM stays, with its memory.
 * Never leaves a paused guest that the record calls running: who pauses records it first, who resumes last. */
#include "manager/vm/private.h"

#include "manager/peer/vmm.h"

static void
tell_vmm (VmOp *op, gboolean paused, GCancellable *cancellable, GAsyncReadyCallback callback)
{
  const BangerVm *vm = op->vm;
  banger_vmm_pause_async (vm->api_socket, (pid_t)vm->record.pid, paused, cancellable, callback, op);
}

/* Of what the VMM answered. Returns: (transfer full): why it is not as it was to be. */
static GError *
told (const VmOp *op, GAsyncResult *result)
{
  GError *error = NULL;
  banger_vmm_finish (result, &error);
  return vm_why (op, error);
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  vm_go_on (data, told (data, result));
}

/* Pause. */

static void
set_paused (VmOp *op)
{
  banger_job_set_stage (&op->job, "pausing");
  op->vm->record.stands_still = op->row->verb == BANGER_VM_VERB_SNAPSHOT || op->row->verb == BANGER_VM_VERB_FORK;
  vm_set_state_then (op, BANGER_VM_PAUSED, "", vm_go_on);
}

static void
pause_guest (VmOp *op)
{
  vm_drop_agent (op->vm); /* it would wait for answers that do not come */
  tell_vmm (op, TRUE, op->job.cancellable, on_told);
}

static void
on_taken_back (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = told (op, result);
  op->reason = error ? g_strdup_printf ("it may be paused: %s", error->message) : NULL;
  if (!op->vm->died)
    vm_keep_agent (op->vm);
  vm_go_on (op, NULL);
}

/* Nobody was told yet; or it is to end anyhow. */
static gboolean
needs_no_taking_back (VmOp *op)
{
  const BangerVm *vm = op->vm;
  return vm->agent || vm->died || vm->queue;
}

/* The answer may have been lost, and not the word. */
static void
take_back (VmOp *op)
{
  tell_vmm (op, FALSE, op->bound, on_taken_back);
}

static void
set_running (VmOp *op)
{
  g_autofree char *reason = g_steal_pointer (&op->reason);
  vm_set_state_then (op, BANGER_VM_RUNNING, reason, vm_go_on);
}

const VmStep vm_part_pause[] = {
  { "paused", set_paused },
  { "pause", pause_guest, .on_death = vm_cancel_on_death },
  { "take-back", take_back, .when = VM_IF_BAD, .skip = needs_no_taking_back },
  { "running", set_running, .when = VM_IF_BAD },
  { NULL },
};

/* Resume. */

static void
resume_guest (VmOp *op)
{
  banger_job_set_stage (&op->job, "resuming");
  tell_vmm (op, FALSE, op->job.cancellable, on_told);
}

/* The agent is found again by a new connection, over which the guest's clock is set at once. */
static void
set_resumed (VmOp *op)
{
  vm_keep_agent (op->vm);
  vm_set_state_then (op, BANGER_VM_RUNNING, vm_provide_lost (op->vm), vm_go_on);
}

const VmStep vm_part_resume[] = {
  { "resume", resume_guest, .on_death = vm_cancel_on_death },
  { "running", set_resumed },
  { NULL },
};

static void
on_paused_again (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = told (op, result);
  if (error)
    vm_log (op->vm, op, LOG_WARNING, "cannot pause it again: %s", error->message);
  vm_go_on (op, NULL);
}

void
vm_pause_again (VmOp *op)
{
  vm_drop_agent (op->vm);
  tell_vmm (op, TRUE, op->job.cancellable, on_paused_again);
}

/* It is so, whatever the disk says. */
static void
running_recorded (VmOp *op, GError *error)
{
  if (error)
    vm_log (op->vm, op, LOG_ERR, "cannot write the record: %s", error->message);
  g_clear_error (&error);
  vm_go_on (op, NULL);
}

static void
on_running_again (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = told (op, result);
  if (error) {
    vm_log (op->vm, op, LOG_WARNING, "it stays paused: %s", error->message);
    vm_go_on (op, NULL);
    return;
  }
  op->vm->record.stands_still = FALSE;
  vm_keep_agent (op->vm);
  vm_set_state_then (op, BANGER_VM_RUNNING, vm_provide_lost (op->vm), running_recorded);
}

void
vm_resume_again (VmOp *op)
{
  tell_vmm (op, FALSE, op->job.cancellable, on_running_again);
}
