/* How a VM is deleted: what it holds, its disk, its folder, its name.
 * Never forgets a VM of which something may be left that only it names. */
#include "manager/vm/private.h"

#include "common/names.h"

static void
on_removed (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  if (vm_files_finish (result, &error)) {
    vm_log (op->vm, op, LOG_INFO, "deleted");
    vm_forget (op->vm);
  } else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT,
                         "its files are still being removed: the disk does not answer");
  }
  vm_go_on (op, error);
}

static void
remove_folder (VmOp *op)
{
  vm_files_remove_folder_async (op->vm, op->bound, on_removed, op);
}

static void
on_disk_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  gboolean never_ran = *op->vm->record.root == '\0';
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_helper_finish (result, &error);
  vm_no_time (op, &error);
  if (ok || (never_ran && g_error_matches (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE)))
    g_clear_error (&error);
  vm_go_on (op, g_steal_pointer (&error));
}

/* What was made here and never started needs no helper, not even one that answers. */
static gboolean
may_hold (const BangerVm *vm)
{
  return vm->tried || vm->found;
}

/* A disk with a snapshot is a file of root's. A start that a loss of power ended may have left one before the record
 * says so; if there is no helper to ask, it finds that no VM has it when it starts. */
static gboolean
has_no_disk_of_roots (VmOp *op)
{
  return g_str_equal (op->vm->record.root, "file") || !may_hold (op->vm);
}

static void
delete_disk (VmOp *op)
{
  vm_ask (op, "DeleteDisk", op->bound, on_disk_deleted, op);
}

static gboolean
holds_nothing (VmOp *op)
{
  return !op->holds;
}

/* A full disk is what it may be deleted for. Ended in the middle, it is what the record says, and can be deleted. */
static void
deletion_recorded (VmOp *op, GError *error)
{
  if (error)
    vm_log (op->vm, op, LOG_ERR, "going on without a record: %s", error->message);
  else
    banger_job_set_stage (&op->job, BANGER_STAGE_CLEANING);
  g_clear_error (&error);
  vm_go_on (op, NULL);
}

static void
set_deleting (VmOp *op)
{
  BangerVm *vm = op->vm;
  banger_job_set_cancelable (&op->job, FALSE);
  banger_job_set_stage (&op->job, "deleting");
  vm_reach_drop (vm);
  /* A VM that was stopped in order holds nothing; without a snapshot it can be deleted without the helper. */
  op->holds = vm->unreleased || vm->pidfd >= 0 || (may_hold (vm) && vm->record.state != BANGER_VM_STOPPED);
  vm_set_state_then (op, BANGER_VM_DELETING, "", deletion_recorded);
}

static gboolean
is_not_deleting (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_DELETING || op->vm->gone;
}

/* It is not up to who asked any more: what is recorded so is tried again until it is gone, also by the next bangerd. */
static void
tell_of_rest (VmOp *op)
{
  g_prefix_error (&op->error, "not all of it is gone yet, and bangerd tries again by itself: ");
  vm_go_on (op, NULL);
}

/* The record goes last: it keeps the name of what is left. */
const VmStep vm_part_delete[] = {
  { "deleting", set_deleting },
  { "release", vm_release, .skip = holds_nothing },
  { "delete-disk", delete_disk, .skip = has_no_disk_of_roots },
  { "remove-folder", remove_folder },
  { "tell-of-rest", tell_of_rest, .when = VM_IF_BAD, .skip = is_not_deleting },
  { NULL },
};
