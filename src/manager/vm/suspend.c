/* A guest to the disk, so that nothing of it runs: paused before, saved, recorded, released.
 * Never lets two hold a guest: it is recorded as suspended before its VMM ends, and as not any more before it goes on. */
#include "manager/vm/private.h"

#include "manager/peer/vmm.h"

gboolean
vm_is_paused (VmOp *op)
{
  op->was_paused = op->vm->record.state == BANGER_VM_PAUSED;
  return op->was_paused;
}

static void
on_settled (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_settle_finish (result, &error);
  vm_go_on (data, vm_why_alive (data, error));
}

/* Who drops what an earlier suspension saved, and is not waited for, would drop this one's. */
static void
settle (VmOp *op)
{
  banger_job_set_stage (&op->job, "waiting for the disk");
  vm_files_settle_async (op->vm, op->job.cancellable, on_settled, op);
}

static gboolean
is_settled (VmOp *op)
{
  return op->vm->behind == 0;
}

static void
on_room (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_helper_finish (result, &error);
  vm_go_on (data, vm_why_alive (data, error));
}

/* What all disks take together only the helper knows. */
static void
check_room (VmOp *op)
{
  vm_ask (op, "CheckSuspend", op->job.cancellable, on_room, op);
}

static gboolean
needs_no_room (VmOp *op)
{
  gboolean runs = op->vm->record.state == BANGER_VM_RUNNING || op->vm->record.state == BANGER_VM_PAUSED;
  return op->vm->vms->install->max_disk_mib == 0 || !runs || op->row->verb == BANGER_VM_VERB_RESTORE;
}

const VmStep vm_part_settle[] = {
  { "settle", settle, .skip = is_settled, .on_death = vm_cancel_on_death },
  { "room", check_room, .skip = needs_no_room, .on_death = vm_cancel_on_death },
  { NULL },
};

static void
on_saved (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_vmm_finish (result, &error);
  vm_go_on (data, vm_why_alive (data, error));
}

void
vm_save_guest (VmOp *op)
{
  const BangerVm *vm = op->vm;
  banger_job_set_stage (&op->job, "saving memory");
  banger_vmm_save_async (vm->api_socket, (pid_t)vm->record.pid, op->job.cancellable, on_saved, op);
}

static void
on_kept (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  g_autofree char *what = vm_files_keep_saved_finish (result, &error);
  error = vm_why_alive (op, error);
  if (!error)
    vm_set_string (&op->vm->record.suspended, what);
  vm_go_on (op, error);
}

static void
keep (VmOp *op)
{
  vm_files_keep_saved_async (op->vm, op->job.cancellable, on_kept, op);
}

/* What a disk refuses is not so: the next bangerd would find it paused. Its run goes on, which a VM that is suspended has
 * not. */
static void
suspended_recorded (VmOp *op, GError *error)
{
  BangerVmRecord *run = g_steal_pointer (&op->data), *record = &op->vm->record;
  if (error) {
    record->pid = run->pid;
    record->started_at = run->started_at;
    vm_set_string (&record->boot_id, run->boot_id);
    vm_set_string (&record->suspended, "");
    vm_set_state (op, BANGER_VM_PAUSED, "");
  }
  vm_record_clear (run);
  g_free (run);
  vm_go_on (op, error);
}

static void
set_suspended (VmOp *op)
{
  BangerVmRecord *run = op->data = g_new0 (BangerVmRecord, 1);
  vm_record_copy (run, &op->vm->record);
  banger_job_set_cancelable (&op->job, FALSE);
  vm_set_state_then (op, BANGER_VM_SUSPENDED, "", suspended_recorded);
}

/* If it fails. */

static gboolean
is_not_paused (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_PAUSED;
}

static void
on_dropped (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!vm_files_saved_finish (result, &error))
    vm_log (op->vm, op, LOG_WARNING, "what was saved of it is left: %s", error->message);
  vm_go_on (op, NULL);
}

/* Nothing of it may be taken for a suspension later. */
static void
drop (VmOp *op)
{
  vm_files_drop_saved_async (op->vm, op->bound, on_dropped, op);
}

/* It was so before, or it is to end anyhow. */
static gboolean
stays_paused (VmOp *op)
{
  return is_not_paused (op) || op->was_paused || op->vm->died || op->vm->queue;
}

static void
on_resumed (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!banger_vmm_finish (result, &error)) {
    g_prefix_error (&op->error, "it stays paused (%s): ", error->message);
    op->was_paused = TRUE;
  }
  vm_go_on (op, NULL);
}

static void
resume (VmOp *op)
{
  const BangerVm *vm = op->vm;
  banger_vmm_pause_async (vm->api_socket, (pid_t)vm->record.pid, FALSE, op->bound, on_resumed, op);
}

static void
set_running (VmOp *op)
{
  vm_keep_agent (op->vm);
  vm_set_state_then (op, BANGER_VM_RUNNING, "", vm_go_on);
}

static gboolean
is_not_suspended (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_SUSPENDED;
}

static void
set_unreleased (VmOp *op)
{
  g_autofree char *reason = g_strdup_printf ("not all was released: %s", op->error->message);
  vm_set_state_then (op, BANGER_VM_SUSPENDED, reason, vm_go_on);
}

const VmStep vm_part_suspend[] = {
  { "save", vm_save_guest, .on_death = vm_cancel_on_death },
  { "keep", keep, .on_death = vm_cancel_on_death },
  { "suspended", set_suspended },
  { "drop", drop, .when = VM_IF_BAD, .skip = is_not_paused },
  { "resume", resume, .when = VM_IF_BAD, .skip = stays_paused },
  { "running", set_running, .when = VM_IF_BAD, .skip = stays_paused },
  { "release", vm_release },
  { "unreleased", set_unreleased, .when = VM_IF_BAD, .skip = is_not_suspended },
  { NULL },
};

const VmStep vm_part_save[] = {
  { "save", vm_save_guest, .on_death = vm_cancel_on_death },
  { NULL },
};
