/* Who holds a VM: from the wish to the end of it.
 * Never lets go twice, and never twice to somebody who asked once. */
#include "manager/vm/private.h"

#include "common/fd.h"

static void
hold_clear (gpointer data)
{
  BangerVmHold *hold = data;
  banger_clear_fd (&hold->disks.root_fd);
  banger_clear_fd (&hold->disks.cow_fd);
  banger_clear_fd (&hold->disks.work_fd);
}

static void
on_ended (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerVmHold *hold = data;
  GError *error = NULL;
  banger_vm_run_finish (result, &error);
  g_autoptr (GTask) task = g_steal_pointer (&hold->task); /* it never came so far */
  g_atomic_rc_box_release_full (hold, hold_clear);
  if (task)
    g_task_return_error (task, error ? error : banger_error_cancelled ());
  else
    g_clear_error (&error);
}

void
banger_vm_hold_async (BangerVm *vm, const BangerCaller *caller, GAsyncReadyCallback callback, gpointer user_data)
{
  BangerVmHold *hold = g_atomic_rc_box_new0 (BangerVmHold);
  *hold = (BangerVmHold){ NULL, g_task_new (NULL, NULL, callback, user_data), { -1, -1, -1 } };
  const BangerVmVerbOptions options = { .hold = hold };
  vm_run (vm, BANGER_VM_VERB_HOLD, &options, caller, on_ended, hold);
}

BangerVmHold *
banger_vm_hold_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

const BangerVmDisks *
banger_vm_hold_disks (const BangerVmHold *hold)
{
  return &hold->disks;
}

void
banger_vm_hold_free (BangerVmHold *hold)
{
  VmOp *op = g_steal_pointer (&hold->op);
  if (op)
    vm_go_on (op, NULL);
  g_atomic_rc_box_release_full (hold, hold_clear);
}
