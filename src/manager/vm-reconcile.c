/* Finds the world again after a restart: records against the helper's leases (requirements F5, H1).
 * Called by manager.c at start, and again when the helper comes back.
 * Never touches a VM that runs and is known to run. */
#include "manager/vm-private.h"

#include "common/safe-path.h"
#include "common/validate.h"
#include "manager/record.h"

static void reconcile_run (BangerVms *vms);

/* Ends the holding of verbs: what is known by now is all there is. */
static void
reconcile_end (BangerVms *vms)
{
  vms->reconciling = FALSE;
  VmOp *op;
  while ((op = g_queue_pop_head (&vms->held)))
    vm_op_begin (op);
}

static void
part_done (BangerVms *vms)
{
  if (--vms->to_reconcile > 0)
    return;
  vms->reconciled = TRUE;
  banger_log (LOG_INFO, NULL, "VMs found again: %u", g_hash_table_size (vms->table));
  reconcile_end (vms);
}

/* One VM. Its own operation, so that nothing else works on it meanwhile. */

static void
vm_settled (VmOp *op, GError *error)
{
  BangerVms *vms = op->vm->vms;
  vm_op_end (op, error);
  part_done (vms);
}

static void
delete_ephemeral (VmOp *op, GError *error)
{
  if (error || !op->vm->record.ephemeral)
    vm_settled (op, error);
  else
    vm_delete_run (op, vm_settled);
}

static void
rolled_back (VmOp *op, GError *error)
{
  BangerVm *vm = op->vm;
  if (!error)
    vm_start_clean_files (vm, &error);
  vm_set_state (vm, op, BANGER_VM_STOPPED, "bangerd ended while it was starting", NULL);
  delete_ephemeral (op, error);
}

static void
found_dead (VmOp *op, GError *error)
{
  gboolean asked = op->vm->record.state == BANGER_VM_STOPPING;
  vm_set_state (op->vm, op, BANGER_VM_STOPPED, asked ? "" : "it ended while bangerd was away", NULL);
  delete_ephemeral (op, error);
}

static void
found_stopped (VmOp *op, GError *error)
{
  delete_ephemeral (op, error);
}

static void
stop_carried_on (VmOp *op, GError *error)
{
  if (error || !op->vm->record.ephemeral)
    vm_op_end (op, error);
  else
    vm_delete_run (op, vm_op_end);
}

/* A stop that was under way is carried on. It may take long: the verbs on other VMs do not wait for it. */
static void
adopt (VmOp *op, int pidfd, guint32 pid)
{
  BangerVm *vm = op->vm;
  BangerVms *vms = vm->vms;
  gboolean stopping = vm->record.state == BANGER_VM_STOPPING;
  vm_watch (vm, pidfd);
  vm->record.pid = pid;
  vm_keep_agent (vm);
  if (stopping) {
    vm_stop_run (op, stop_carried_on);
    part_done (vms);
    return;
  }
  vm_set_state (vm, op, BANGER_VM_RUNNING, vm->record.reason, NULL);
  vm_log (vm, op, LOG_INFO, "found running, pid %u", pid);
  vm_settled (op, NULL);
}

static void
on_opened (GObject *source, GAsyncResult *result, gpointer user_data)
{
  VmOp *op = user_data;
  guint32 pid = 0;
  g_autoptr (GError) error = NULL;
  int pidfd = banger_helper_vmm_finish (op->vm->vms->helper, result, &pid, &error);
  if (pidfd >= 0) {
    adopt (op, pidfd, pid);
  } else if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE)
             || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE))
  {
    vm_release_run (op, found_dead);
  } else { /* not known: the record stands */
    op->vm->unreleased = TRUE;
    vm_settled (op, g_steal_pointer (&error));
  }
}

void
vm_reconcile_run (VmOp *op)
{
  BangerVm *vm = op->vm;
  switch ((BangerVmState)vm->record.state) {
    case BANGER_VM_RUNNING:
    case BANGER_VM_STOPPING:
      banger_helper_open_vmm (vm->vms->helper, &op->caller, vm->record.id, NULL, on_opened, op);
      break;
    case BANGER_VM_STARTING:
      vm_release_run (op, rolled_back);
      break;
    case BANGER_VM_CREATING:
    case BANGER_VM_DELETING:
      vm_delete_run (op, vm_settled);
      break;
    case BANGER_VM_STOPPED:
    case BANGER_N_VM_STATES:
    default:
      vm_release_run (op, found_stopped);
      break;
  }
}

/* Leases and folders that no record knows. A VM whose record cannot be read, by an older bangerd for one, may run: it
 * stays as it is until somebody has looked at its folder. */

typedef struct {
  BangerVms *vms;
  char *id;
} Orphan;

static void
remove_folder (BangerVms *vms, const char *id)
{
  g_autoptr (GError) error = NULL;
  if (vm_runtime_fd (vms, NULL) >= 0 && !banger_safe_remove_tree (vms->runtime_fd, id, &error))
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, id), "cannot remove %s/%s: %s", vms->runtime_path, id,
                error->message);
}

static void
on_orphan_released (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Orphan *orphan = user_data;
  g_autoptr (GError) error = NULL;
  if (banger_helper_finish (orphan->vms->helper, result, &error)) {
    banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, orphan->id), "released what no VM owns: %s", orphan->id);
    remove_folder (orphan->vms, orphan->id);
  } else {
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, orphan->id), "cannot release %s, which no VM owns: %s",
                orphan->id, error->message);
  }
  BangerVms *vms = orphan->vms;
  g_free (orphan->id);
  g_free (orphan);
  part_done (vms);
}

static void
release_orphan (BangerVms *vms, const char *id)
{
  Orphan *orphan = g_new0 (Orphan, 1);
  orphan->vms = vms;
  orphan->id = g_strdup (id);
  vms->to_reconcile++;
  banger_helper_release_vm (vms->helper, NULL, id, NULL, on_orphan_released, orphan);
}

/* Run folders: those of running VMs and of leases stay. */
static void
sweep_run_folders (BangerVms *vms, GHashTable *leased)
{
  if (vm_runtime_fd (vms, NULL) < 0)
    return;
  g_auto (GStrv) ids = banger_record_list (vms->runtime_fd, NULL);
  for (char **id = ids; id && *id; id++) {
    BangerVm *vm = banger_vms_find_id (vms, *id);
    if (!g_hash_table_contains (leased, *id) && (!vm || (vm->pidfd < 0 && !vm->op)))
      remove_folder (vms, *id);
  }
}

static gboolean
needs_settling (const BangerVm *vm, gboolean leased)
{
  if (vm->op)
    return FALSE;
  /* An ephemeral one that this daemon made may be about to start for the first time. */
  if (vm->record.state == BANGER_VM_STOPPED)
    return leased || vm->unreleased || (vm->record.ephemeral && vm->found);
  return vm->record.state != BANGER_VM_RUNNING || vm->pidfd < 0;
}

static void
on_leases (GObject *source, GAsyncResult *result, gpointer user_data)
{
  BangerVms *vms = user_data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) leases = banger_helper_leases_finish (vms->helper, result, &error);
  if (!leases) {
    banger_log (LOG_WARNING, NULL, "VMs are shown as recorded until the root helper can be asked: %s", error->message);
    vms->to_reconcile = 0;
    reconcile_end (vms);
    return;
  }
  g_autoptr (GHashTable) leased = g_hash_table_new (g_str_hash, g_str_equal);
  for (guint i = 0; i < leases->len; i++)
    g_hash_table_add (leased, ((BangerLeaseInfo *)leases->pdata[i])->vm);
  sweep_run_folders (vms, leased);
  for (guint i = 0; i < leases->len; i++) {
    const char *id = ((BangerLeaseInfo *)leases->pdata[i])->vm;
    if (!banger_id_check (id, "lease", NULL) || banger_vms_find_id (vms, id))
      continue;
    if (banger_record_has_folder (vms->vms_fd, id))
      banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, id),
                  "the lease of %s is left alone: its record cannot be read", id);
    else
      release_orphan (vms, id);
  }
  g_autoptr (GPtrArray) list = banger_vms_list (vms);
  for (guint i = 0; i < list->len; i++) {
    BangerVm *vm = list->pdata[i];
    if (!needs_settling (vm, g_hash_table_contains (leased, vm->record.id)))
      continue;
    vms->to_reconcile++;
    vm_op_begin (vm_op_new (vm, &vm_row_reconcile, NULL));
  }
  part_done (vms); /* this one */
}

static void
reconcile_run (BangerVms *vms)
{
  vms->reconciling = TRUE;
  vms->to_reconcile = 1;
  banger_helper_list_leases (vms->helper, NULL, NULL, on_leases, vms);
}

/* A rest that could not be released while the helper was away. */
static gboolean
something_left (BangerVms *vms)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (vm->unreleased)
      return TRUE;
  return FALSE;
}

static void
on_helper (gboolean available, gpointer user_data)
{
  BangerVms *vms = user_data;
  if (available && !vms->reconciling && (!vms->reconciled || something_left (vms)))
    reconcile_run (vms);
}

void
banger_vms_reconcile (BangerVms *vms)
{
  if (!vms->helper_notify)
    vms->helper_notify = banger_helper_add_notify (vms->helper, on_helper, vms);
  if (!vms->reconciling)
    reconcile_run (vms);
}
