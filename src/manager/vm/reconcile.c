/* Finds the world again after a restart: records against the helper's leases (requirements F5, H1).
 * Never touches a VM that runs and is known to run. */
#include "manager/vm/private.h"

#include <fcntl.h>

#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/core/later.h"
#include "manager/core/record.h"
#include "manager/core/work.h"

#define LOOK_SECONDS 5 /* that the verbs of all wait for the disk, about a lease that no VM has */

/* What is shown is so from then on, as far as the helper said it. */
static void
tell_looked (BangerVms *vms)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (vm->op && vm->op->finding)
      return;
  GSourceFunc looked = vms->reconciling ? NULL : g_steal_pointer (&vms->looked);
  if (looked)
    looked (vms->looked_data);
}

/* Ends the holding of verbs: what is known by now is all there is. */
static void
reconcile_end (BangerVms *vms)
{
  vms->reconciling = FALSE;
  if (!vms->reconciled || vm_something_left (vms))
    vm_retry_later (vms);
  else
    vms->retry_seconds = 0;
  vm_begin_held (vms, NULL);
  vm_reach_again (vms);
  tell_looked (vms);
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

/* What is left to do for it is up to its disk, which may hang: the helper is asked again for others meanwhile. */
static void
count_out (VmOp *op)
{
  if (!op->counted)
    return;
  op->counted = FALSE;
  part_done (op->vm->vms);
}

static void
settled (VmOp *op, GError *error)
{
  g_autoptr (BangerVm) vm = banger_vm_ref (op->vm);
  BangerVms *vms = vm->vms;
  gboolean counted = op->counted;
  if (!error)
    vm_set_known (vm);
  vm_op_end (op, error);
  vm_begin_held (vms, vm); /* what is known of it by now is all there is */
  if (counted)
    part_done (vms);
  else
    tell_looked (vms);
}

static void
answered (VmOp *op)
{
  count_out (op);
  vm_go_on (op, NULL);
}

/* What was found is so, whatever the disk says: it would be found again. */
static void
recorded (VmOp *op, GError *error)
{
  if (error)
    vm_log (op->vm, op, LOG_ERR, "cannot write the record: %s", error->message);
  g_clear_error (&error);
  vm_go_on (op, NULL);
}

static void
on_cleaned (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_finish (result, &error);
  vm_go_on (data, error);
}

static void
clean (VmOp *op)
{
  vm_files_clean_async (op->vm, op->job.cancellable, on_cleaned, op);
}

/* It was to go on, and has not: it has what it needs. */
static gboolean
is_suspended (VmOp *op)
{
  return *op->vm->record.suspended != '\0';
}

static void
set_rolled_back (VmOp *op)
{
  BangerVmState before = is_suspended (op) ? BANGER_VM_SUSPENDED : BANGER_VM_STOPPED;
  vm_set_state_then (op, before, "bangerd ended while it was starting", recorded);
}

static void
set_dead (VmOp *op)
{
  BangerVm *vm = op->vm;
  vm_forget_saved (vm);
  const char *reason = vm->record.state == BANGER_VM_STOPPING ? ""
                       : vm->killed                           ? VM_KILLED_LATE
                                                              : "it ended while bangerd was away";
  vm_set_state_then (op, BANGER_VM_STOPPED, reason, recorded);
}

/* What was not known before is known. */
static void
set_running (VmOp *op)
{
  count_out (op);
  vm_log (op->vm, op, LOG_INFO, "found running, pid %u", op->vm->record.pid);
  vm_forget_saved (op->vm); /* it has gone on from that, or has not been suspended */
  const char *lost = vm_provide_lost (op->vm);
  if (*lost)
    vm_log (op->vm, op, LOG_WARNING, "%s", lost);
  vm_set_state_then (op, BANGER_VM_RUNNING, lost, recorded);
}

static void
tell_paused (VmOp *op)
{
  count_out (op);
  vm_log (op->vm, op, LOG_INFO, "found paused, pid %u", op->vm->record.pid);
  vm_forget_saved (op->vm); /* of a suspension or a snapshot that was not finished, or of which it has gone on */
  vm_go_on (op, NULL);
}

static gboolean
goes_on (VmOp *op)
{
  return op->vm->record.stands_still;
}

static gboolean
does_not_go_on (VmOp *op)
{
  return !op->vm->record.stands_still;
}

static gboolean
has_address (VmOp *op)
{
  return !op->vm->old_tap;
}

/* It may take long: the verbs on other VMs do not wait for it, and those on this one may end it. */
static void
carry_on (VmOp *op)
{
  BangerVms *vms = op->vm->vms;
  op->finding = FALSE;
  vm_begin_held (vms, op->vm);
  count_out (op);
  tell_looked (vms);
  vm_go_on (op, NULL);
}

/* It runs, or it is not known. */
static gboolean
is_not_dead (VmOp *op)
{
  return op->error || vm_is_watched (op);
}

/* What is done about a VM that is found, by the state of its record. */

/* clang-format off */
static const VmStep part_find[] = {
  { "find", vm_adopt, .on_interrupt = vm_leave_question }, /* not known: the record stands */
  { NULL },
};
static const VmStep part_dead[] = {
  { "release", vm_release },
  { "answered", answered, .when = VM_ALWAYS },
  { "dead", set_dead, .when = VM_ALWAYS },
  { NULL },
};
static const VmStep part_running[] = {
  { "running", set_running },
  { "address", vm_address, .skip = has_address, .on_interrupt = vm_leave_question },
  { NULL },
};
static const VmStep part_paused[] = {
  { "paused", tell_paused },
  { "pause-again", vm_pause_again, .skip = goes_on, .on_death = vm_cancel_on_death },
  { "resume-again", vm_resume_again, .skip = does_not_go_on, .on_death = vm_cancel_on_death },
  { NULL },
};
static const VmStep part_roll_back[] = {
  { "release", vm_release },
  { "answered", answered, .when = VM_ALWAYS },
  { "clean", clean, .when = VM_ALWAYS, .skip = is_suspended }, /* a disk may be half filled, and has its name */
  { "rolled-back", set_rolled_back, .when = VM_ALWAYS },
  { NULL },
};
static const VmStep part_idle[] = {
  { "release", vm_release },
  { "answered", answered, .when = VM_ALWAYS },
  { NULL },
};
static const VmStep part_answered[] = { { "answered", answered }, { NULL } };
static const VmStep part_tidy[] = { { "tidy", vm_put_back_tidy, .when = VM_ALWAYS, .skip = vm_has_no_copies }, { NULL } };
static const VmStep part_carry_on[] = { { "carry-on", carry_on }, { NULL } };

static const VmPart found_half_made[] = { { part_answered }, { vm_part_delete }, { NULL } };
static const VmPart found_idle[] = { { part_idle }, { part_tidy }, { NULL } };
static const VmPart found_starting[] = { { part_roll_back }, { NULL } };
static const VmPart found_running[] = {
  { part_find }, { part_dead, is_not_dead }, { part_running, vm_is_not_watched }, { part_tidy }, { NULL }
};
static const VmPart found_stopping[] = {
  { part_find }, { part_dead, is_not_dead }, { part_carry_on, vm_is_not_watched },
  { vm_part_stop, vm_is_not_watched }, { part_tidy }, { NULL }
};

static const VmPart found_paused[] = {
  { part_find }, { part_dead, is_not_dead }, { part_paused, vm_is_not_watched }, { part_tidy }, { NULL }
};

static const VmPart *const found[] = {
  [BANGER_VM_CREATING] = found_half_made, [BANGER_VM_STOPPED] = found_idle, [BANGER_VM_STARTING] = found_starting,
  [BANGER_VM_RUNNING] = found_running, [BANGER_VM_STOPPING] = found_stopping, [BANGER_VM_DELETING] = found_half_made,
  [BANGER_VM_SUSPENDED] = found_idle, [BANGER_VM_PAUSED] = found_paused, [BANGER_VM_UNREADABLE] = found_idle,
};
G_STATIC_ASSERT (G_N_ELEMENTS (found) == BANGER_N_VM_STATES);
static const VmVerbRow row_find = { BANGER_N_VM_VERBS, "find again", "being found again", .end = settled };
/* clang-format on */

/* Leases and folders that no record knows. A VM whose record cannot be read, by an older bangerd for one, may run: it
 * stays as it is until somebody has looked at its folder. */

typedef struct {
  BangerVms *vms;
  char *id;
  GCancellable *late;
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
orphan_end (Orphan *orphan)
{
  BangerVms *vms = orphan->vms;
  g_object_unref (orphan->late);
  g_free (orphan->id);
  g_free (orphan);
  part_done (vms);
}

static void
on_orphan_released (GObject *source, GAsyncResult *result, gpointer data)
{
  Orphan *orphan = data;
  g_autoptr (GError) error = NULL;
  if (banger_helper_finish (result, &error)) {
    banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, orphan->id), "released what no VM owns: %s", orphan->id);
    remove_folder (orphan->vms, orphan->id);
  } else {
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, orphan->id), "cannot release %s, which no VM owns: %s",
                orphan->id, error->message);
    orphan->vms->orphans = TRUE;
  }
  orphan_end (orphan);
}

/* Whether a folder has a record is up to the disk: in a thread. */

typedef struct {
  int kind_fd;
  char *id;
} Look;

static void
look_free (gpointer data)
{
  Look *look = data;
  banger_clear_fd (&look->kind_fd);
  g_free (look->id);
  g_free (look);
}

static gboolean
look (gpointer data, GCancellable *cancellable, GError **error)
{
  const Look *self = data;
  return (self->kind_fd >= 0 && !banger_record_is_there (self->kind_fd, self->id))
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "its record cannot be read");
}

static void
on_looked (GObject *source, GAsyncResult *result, gpointer data)
{
  Orphan *orphan = data;
  g_autoptr (GError) error = NULL;
  if (banger_work_finish (result, &error)) {
    banger_helper_call (orphan->vms->helper, NULL, "ReleaseVm", NULL, on_orphan_released, orphan, orphan->id);
    return;
  }
  gboolean late = g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  orphan->vms->orphans |= late; /* asked again */
  banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, orphan->id), "the lease of %s is left alone: %s", orphan->id,
              late ? "the disk does not say whether it has a record" : error->message);
  orphan_end (orphan);
}

static void
release_orphan (BangerVms *vms, const char *id)
{
  static const BangerWork looking = { "look-for-record", look, NULL, look_free };
  Orphan *orphan = g_new0 (Orphan, 1);
  Look *self = g_new0 (Look, 1);
  orphan->vms = vms;
  orphan->id = g_strdup (id);
  orphan->late = g_cancellable_new ();
  banger_cancel_later (orphan->late, LOOK_SECONDS);
  self->kind_fd = fcntl (vms->vms_fd, F_DUPFD_CLOEXEC, 3);
  self->id = g_strdup (id);
  vms->to_reconcile++;
  banger_work_async (&looking, self, orphan->late, on_looked, orphan);
}

static gboolean
is_off (const BangerVm *vm)
{
  return vm->record.state == BANGER_VM_STOPPED || vm->record.state == BANGER_VM_SUSPENDED;
}

/* Run folders: those of running VMs and of leases stay, and those of VMs that may run: a lease that cannot be read is
 * not in the list. Theirs go with what is found out about them. */
static void
sweep_run_folders (BangerVms *vms, GHashTable *leased)
{
  if (vm_runtime_fd (vms, NULL) < 0)
    return;
  g_auto (GStrv) ids = banger_record_list (vms->runtime_fd, NULL);
  for (char **id = ids; id && *id; id++) {
    BangerVm *vm = banger_vms_find_id (vms, *id);
    gboolean idle = vm && vm->pidfd < 0 && !vm->op && is_off (vm);
    if (!g_hash_table_contains (leased, *id) && (!vm || idle))
      remove_folder (vms, *id);
  }
}

static gboolean
needs_settling (const BangerVm *vm, gboolean leased)
{
  if (vm->op || vm->record.state == BANGER_VM_UNREADABLE)
    return FALSE;
  /* One that goes with its run, and that this daemon made, may be about to start for the first time. */
  if (is_off (vm))
    return leased || vm->unreleased || (vm_goes (vm) && vm->found) || vm_has_copies (vm);
  return (vm->record.state != BANGER_VM_RUNNING && vm->record.state != BANGER_VM_PAUSED) || vm->pidfd < 0;
}

static void
on_leases (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerVms *vms = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) leases = banger_helper_leases_finish (result, &error);
  if (!leases) {
    banger_log (LOG_WARNING, NULL, "the states of VMs are not known until the root helper can be asked: %s",
                error->message);
    vms->to_reconcile = 0;
    reconcile_end (vms);
    return;
  }
  g_autoptr (GHashTable) leased = g_hash_table_new (g_str_hash, g_str_equal);
  for (guint i = 0; i < leases->len; i++)
    g_hash_table_add (leased, ((BangerLeaseInfo *)leases->pdata[i])->vm);
  sweep_run_folders (vms, leased);
  vms->orphans = vms->late = FALSE;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLeaseInfo *lease = leases->pdata[i];
    const char *id = lease->vm;
    BangerVm *known = banger_vms_find_id (vms, id);
    if (known)
      known->old_tap = g_strv_contains ((const char *const *)lease->resources, BANGER_RESOURCE_OLD_TAP);
    else
      release_orphan (vms, id);
  }
  g_autoptr (GPtrArray) list = banger_vms_list (vms);
  for (guint i = 0; i < list->len; i++) {
    BangerVm *vm = list->pdata[i];
    if (vm->op && vm->op->finding)
      continue;
    if (!needs_settling (vm, g_hash_table_contains (leased, vm->record.id))) {
      if (!vm->op)
        vm_set_known (vm);
      vm_begin_held (vms, vm);
      continue;
    }
    vms->to_reconcile++;
    VmOp *op = vm_op_new_found (vm, &row_find, found[vm->record.state]);
    op->counted = op->finding = TRUE;
    vm_op_begin (op);
    vm_begin_stronger (vm);
  }
  part_done (vms); /* this one */
}

void
vm_reconcile_again (BangerVms *vms)
{
  g_clear_handle_id (&vms->retry_id, g_source_remove);
  vms->reconciling = TRUE;
  vms->to_reconcile = 1;
  banger_helper_call (vms->helper, NULL, "ListLeases", NULL, on_leases, vms);
}

static void
on_helper (gboolean available, gpointer data)
{
  BangerVms *vms = data;
  if (available && !vms->reconciling && (!vms->reconciled || vm_something_left (vms)))
    vm_reconcile_again (vms);
}

static void
on_late (const char *method, gpointer data)
{
  BangerVms *vms = data;
  vms->late = TRUE;
  vm_retry_later (vms);
}

void
banger_vms_reconcile (BangerVms *vms, GSourceFunc looked, gpointer looked_data)
{
  vms->looked = looked;
  vms->looked_data = looked_data;
  banger_helper_set_late (vms->helper, on_late, vms);
  if (!vms->helper_notify)
    vms->helper_notify = banger_helper_add_notify (vms->helper, on_helper, vms);
  if (!vms->reconciling)
    vm_reconcile_again (vms);
}
