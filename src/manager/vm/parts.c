/* Runs the parts of a verb, step after step.
 * Never knows what they do, and never goes on before a step has ended. */
#include "manager/vm/private.h"

static gboolean
is_wanted (const VmStep *step, VmOp *op)
{
  gboolean fits = step->when == VM_ALWAYS || (step->when == VM_IF_BAD) == (op->error != NULL);
  return fits && !(step->skip && step->skip (op));
}

static const VmStep *
next_step (VmOp *op)
{
  const VmStep *step = op->step ? op->step + 1 : NULL;
  if (step && step->name)
    return step;
  if (step)
    op->part++;
  while (op->part->steps && op->part->skip && op->part->skip (op))
    op->part++;
  return op->part->steps;
}

GError *
vm_ended_error (void)
{
  return g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "the VM ended meanwhile");
}

GError *
vm_why (const VmOp *op, GError *error)
{
  if (!error || !op->vm->died)
    return error;
  g_error_free (error);
  return vm_ended_error ();
}

GError *
vm_why_alive (const VmOp *op, GError *error)
{
  return !error && op->vm->died ? vm_ended_error () : vm_why (op, error);
}

void
vm_go_on (VmOp *op, GError *error)
{
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_error_free (error);
    error = banger_error_cancelled ();
  }
  if (!op->error)
    op->error = error;
  else if (error) {
    vm_log (op->vm, op, LOG_WARNING, "%s", error->message);
    g_error_free (error);
  }
  do
    op->step = next_step (op);
  while (op->step && !is_wanted (op->step, op));
  if (op->step)
    op->step->run (op);
  else
    op->over (op);
}

void
vm_run_parts (VmOp *op, const VmPart *parts)
{
  op->part = parts;
  op->step = NULL;
  vm_go_on (op, NULL);
}

void
vm_interrupt (VmOp *op)
{
  g_cancellable_cancel (op->job.cancellable);
  if (op->recording)
    vm_wait_less (op);
  else if (op->step && op->step->on_interrupt)
    op->step->on_interrupt (op);
}

void
vm_cancel_on_death (VmOp *op)
{
  g_cancellable_cancel (op->job.cancellable);
}
