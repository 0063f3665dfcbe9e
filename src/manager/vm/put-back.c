/* A VM as it was in a snapshot: copies beside what it has, looked at; then in the place of that.
 * Never lets a VM start of which one disk is from then and the other from now: its record says how far it is. */
#include "manager/vm/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "manager/core/fault.h"
#include "manager/core/work.h"
#include "manager/disk/stamp.h"

#define COPYING "copying "
#define CHANGING "changing "
#define ROOT "restoring.root"
#define WORK "restoring.work"
#define STATE "restoring.state"
#define MEMORY "restoring.memory"

/* Of the snapshot, its copy, and what that is to be. */
static const char *const from[] = { BANGER_FILE_VM_ROOTFS,
                                    ROOT,
                                    BANGER_FILE_VM_WORK,
                                    WORK,
                                    BANGER_FILE_TEMPLATE_STATE,
                                    STATE,
                                    BANGER_FILE_TEMPLATE_MEMORY,
                                    MEMORY,
                                    NULL };
static const struct {
  const char *copy, *name;
  gboolean guest; /* without it that goes: it is of another time */
} places[] = {
  { ROOT, BANGER_FILE_VM_ROOTFS, FALSE },
  { WORK, BANGER_FILE_VM_WORK, FALSE },
  { STATE, BANGER_FILE_VM_SAVED_STATE, TRUE },
  { MEMORY, BANGER_FILE_VM_SAVED_MEMORY, TRUE },
};

static gboolean
is_at (const BangerVm *vm, const char *how_far)
{
  return g_str_has_prefix (vm->record.restoring, how_far);
}

gboolean
banger_vm_restores (const BangerVm *vm, const BangerVmSnapshot *snapshot)
{
  gboolean now = vm->op && vm->op->options.snapshot == snapshot; /* which the record may say of another one */
  return snapshot->restores > 0 || now
         || ((is_at (vm, COPYING) || is_at (vm, CHANGING)) && g_str_has_suffix (vm->record.restoring, snapshot->id));
}

gboolean
vm_check_whole (const BangerVm *vm, GError **error)
{
  return !is_at (vm, CHANGING)
         || banger_set_error (
             error, BANGER_ERROR_WRONG_STATE,
             "%s was being restored when that ended in the middle, and its disks do not fit each other: "
             "restore it again, from whichever snapshot",
             vm->record.name);
}

/* Without force: only what loses nothing. */
gboolean
vm_check_put_back (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  const BangerVmRecord *record = &vm->record;
  const BangerVmSnapshot *snapshot = options->snapshot;
  gboolean same = record->state == BANGER_VM_STOPPED && !snapshot->memory && record->starts == snapshot->starts;
  if (!g_str_equal (snapshot->vm, record->id))
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_SNAPSHOT, "the snapshot %s is of another VM", snapshot->id);
  if (snapshot->going)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the snapshot %s is being deleted", snapshot->name);
  if (record->ephemeral)
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "%s is deleted when it ends: it is not restored",
                             record->name);
  if (!g_str_equal (snapshot->root, record->root))
    return banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "root disks are another kind here since");
  return options->force || same || is_at (vm, CHANGING)
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                              "what %s has now would be lost: make a snapshot of it first, or restore with force",
                              record->name);
}

/* Workers. */

typedef struct {
  BangerVm *vm;
  gboolean left; /* it writes in the VM's folder, and nobody waits for it any more */
  int vm_fd, from_fd;
  gboolean guest;
  char *saved, *files, *where;
} Back;

static void
back_free (gpointer data)
{
  Back *back = data;
  back->vm->behind -= back->left;
  banger_vm_unref (back->vm);
  banger_clear_fd (&back->vm_fd);
  banger_clear_fd (&back->from_fd);
  g_free (back->saved);
  g_free (back->files);
  g_free (back->where);
  g_free (back);
}

static Back *
back_new (const VmOp *op)
{
  const BangerVmSnapshot *snapshot = op->options.snapshot;
  Back *back = g_new0 (Back, 1);
  back->vm = banger_vm_ref (op->vm);
  back->vm_fd = fcntl (op->vm->dir_fd, F_DUPFD_CLOEXEC, 3);
  back->from_fd = snapshot ? fcntl (snapshot->dir_fd, F_DUPFD_CLOEXEC, 3) : -1;
  back->guest = snapshot && snapshot->memory;
  back->saved = g_strdup (snapshot ? snapshot->saved : NULL);
  back->files = g_strdup (snapshot ? snapshot->files : NULL);
  back->where = g_strdup_printf ("%s and %s of the snapshot %s", BANGER_FILE_TEMPLATE_STATE,
                                 BANGER_FILE_TEMPLATE_MEMORY, snapshot ? snapshot->id : "");
  return back;
}

static gboolean
back_finish (GAsyncResult *result, GError **error)
{
  Back *back = banger_work_data (result);
  if (banger_work_is_left (result) && !back->left) {
    back->left = TRUE;
    back->vm->behind++;
  }
  return banger_work_finish (result, error);
}

static gboolean
remove_copies (gpointer data, GCancellable *cancellable, GError **error)
{
  const Back *back = data;
  gboolean ok = TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (places); i++)
    if (unlinkat (back->vm_fd, places[i].copy, 0) < 0 && errno != ENOENT && ok)
      ok = banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove %s", places[i].copy);
  return ok;
}

static void
take_back (gpointer data)
{
  remove_copies (data, NULL, NULL);
}

static gboolean
sync_copies (const Back *back, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (places); i++) {
    banger_autofd int fd = openat (back->vm_fd, places[i].copy, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 ? errno != ENOENT : fsync (fd) < 0)
      return banger_set_error_errno (error, errno == ENOSPC ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errno,
                                     "cannot write %s", places[i].copy);
  }
  return TRUE;
}

static gboolean
check_files (const Back *back, GError **error)
{
  g_autofree char *files = banger_stamp_files (back->from_fd, banger_vm_template_files, FALSE, error);
  return files
         && (g_str_equal (files, back->files)
             || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                                  "the snapshot's files are not as they were written"));
}

/* What is copied is what is looked at: whoever changes the snapshot meanwhile changes nothing here, and one of which a file
 * went while others were copied is not whole. */
static gboolean
copy_all (gpointer data, GCancellable *cancellable, GError **error)
{
  static const char *const names[] = { STATE, MEMORY };
  const Back *back = data;
  if (!remove_copies (data, NULL, error) || !check_files (back, error)
      || !vm_copy_files (back->from_fd, back->vm_fd, from, cancellable, error) || !sync_copies (back, error)
      || !check_files (back, error))
    return FALSE;
  g_autofree char *found = back->guest ? vm_saved_describe (back->vm_fd, "copies", names, FALSE, cancellable, error)
                                       : NULL;
  return !back->guest || (found && vm_saved_compare (back->saved, found, back->where, error));
}

static gboolean
put_in_place (gpointer data, GCancellable *cancellable, GError **error)
{
  const Back *back = data;
  for (gsize i = 0; i < G_N_ELEMENTS (places); i++) {
    struct stat st;
    gboolean wanted = fstatat (back->vm_fd, places[i].copy, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (wanted ? renameat (back->vm_fd, places[i].copy, back->vm_fd, places[i].name) < 0
               : places[i].guest && unlinkat (back->vm_fd, places[i].name, 0) < 0 && errno != ENOENT)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot put %s in its place", places[i].name);
  }
  return fsync (back->vm_fd) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the folder of the VM");
}

/* Steps. */

static void
set_how_far (VmOp *op, const char *how_far)
{
  g_autofree char *text = g_strconcat (how_far, op->options.snapshot->id, NULL);
  vm_set_string (&op->vm->record.restoring, text);
}

/* Of one that was left in the middle the new try says the same: it does not fit until that is over. */
static void
note_copying (VmOp *op)
{
  g_autofree char *reason = g_strdup (op->vm->record.reason);
  banger_job_set_stage (&op->job, "copying the snapshot");
  if (is_at (op->vm, CHANGING)) {
    vm_go_on (op, NULL);
    return;
  }
  set_how_far (op, COPYING);
  vm_set_state_then (op, (BangerVmState)op->vm->record.state, reason, vm_go_on);
}

static void
on_copied (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  back_finish (result, &error);
  vm_go_on (data, error);
}

static void
copy (VmOp *op)
{
  static const BangerWork copying = { "restore-copy", copy_all, take_back, back_free };
  banger_fault_point ("restore-copy");
  banger_work_async (&copying, back_new (op), op->job.cancellable, on_copied, op);
}

static gboolean
has_no_disk_of_roots (VmOp *op)
{
  return g_str_equal (op->options.snapshot->root, "file");
}

static void
on_asked (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_helper_finish (result, &error);
  vm_go_on (data, error);
}

/* The helper copies its disk when the guest has ended: here it says that there is one, and that it answers. */
static void
find_disk (VmOp *op)
{
  banger_helper_call (op->vm->vms->helper, &op->job.caller, "SyncDisk", op->job.cancellable, on_asked, op,
                      op->options.snapshot->id);
}

const VmStep vm_part_put_back_copy[] = {
  { "note", note_copying },
  { "disk", find_disk, .skip = has_no_disk_of_roots },
  { "copy", copy },
  { NULL },
};

gboolean
vm_needs_no_end (VmOp *op)
{
  const BangerVmRecord *record = &op->vm->record;
  return op->error || record->state == BANGER_VM_STOPPED || record->state == BANGER_VM_SUSPENDED;
}

/* All that it has is there still. Returns: the state of that. */
static BangerVmState
be_as_before (VmOp *op)
{
  g_auto (GStrv) before = g_steal_pointer (&op->data);
  vm_set_string (&op->vm->record.suspended, before[0]);
  vm_set_string (&op->vm->record.restoring, before[1]);
  return *before[0] ? BANGER_VM_SUSPENDED : BANGER_VM_STOPPED;
}

/* What the disk does not take is not so. */
static void
changing_noted (VmOp *op, GError *error)
{
  if (error)
    vm_set_state (op, be_as_before (op), "");
  vm_go_on (op, error);
}

/* From here on it is neither what it was nor what it is to be. */
static void
note_changing (VmOp *op)
{
  const BangerVmRecord *record = &op->vm->record;
  banger_fault_point ("restore-changing");
  op->data = g_strdupv ((char *[]){ record->suspended, record->restoring, NULL });
  banger_job_set_cancelable (&op->job, FALSE);
  banger_job_set_stage (&op->job, "changing disks");
  vm_set_string (&op->vm->record.suspended, "");
  set_how_far (op, CHANGING);
  vm_set_state_then (op, BANGER_VM_STOPPED, "", changing_noted);
}

/* With any other error, or none that came, it may have replaced the disk. */
static gboolean
is_refusal (const GError *error)
{
  static const int codes[] = { BANGER_ERROR_LIMITS_EXCEEDED, BANGER_ERROR_NO_SPACE,      BANGER_ERROR_IN_USE,
                               BANGER_ERROR_STATE_CORRUPT,   BANGER_ERROR_ACCESS_DENIED, BANGER_ERROR_NOT_AUTHORIZED };
  for (gsize i = 0; i < G_N_ELEMENTS (codes); i++)
    if (g_error_matches (error, BANGER_ERROR, codes[i]))
      return TRUE;
  return FALSE;
}

static void
forget_before (VmOp *op)
{
  g_strfreev (g_steal_pointer (&op->data));
}

static void
on_replaced (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  if (banger_helper_finish (result, &error) || !is_refusal (error))
    forget_before (data);
  vm_go_on (data, error);
}

/* The VM's own stays until the copy is whole. First of all: what has no room for it has lost nothing. */
static void
replace_disk (VmOp *op)
{
  banger_fault_point ("restore-copy-disk");
  banger_helper_call (op->vm->vms->helper, &op->job.caller, "CopyDisk", op->bound, on_replaced, op,
                      op->options.snapshot->id, op->vm->record.id, TRUE);
}

static void
place (VmOp *op)
{
  static const BangerWork placing = { "restore-place", put_in_place, NULL, back_free };
  banger_fault_point ("restore-place");
  forget_before (op);
  banger_work_async (&placing, back_new (op), op->bound, on_copied, op);
}

static gboolean
has_nothing_as_before (VmOp *op)
{
  return !op->data;
}

static void
as_before_noted (VmOp *op, GError *error)
{
  g_autoptr (GError) unsaid = error;
  if (unsaid)
    vm_log (op->vm, op, LOG_WARNING, "that nothing of it was changed is not on the disk: %s", unsaid->message);
  vm_go_on (op, NULL);
}

static void
set_as_before (VmOp *op)
{
  vm_set_state_then (op, be_as_before (op), "", as_before_noted);
}

static void
set_restored (VmOp *op)
{
  BangerVmRecord *record = &op->vm->record;
  const BangerVmSnapshot *snapshot = op->options.snapshot;
  banger_fault_point ("restore-restored");
  record->vcpus = snapshot->vcpus;
  record->memory_mib = snapshot->memory_mib;
  record->disk_bytes = snapshot->disk_bytes;
  vm_put_back_inside (record, snapshot);
  vm_set_string (&record->suspended, snapshot->saved);
  vm_set_string (&record->restoring, "");
  vm_set_state_then (op, snapshot->memory ? BANGER_VM_SUSPENDED : BANGER_VM_STOPPED, "", vm_go_on);
}

static gboolean
is_not_in_between (VmOp *op)
{
  return !is_at (op->vm, CHANGING) || op->vm->record.state != BANGER_VM_STOPPED;
}

static void
set_in_between (VmOp *op)
{
  g_autofree char *reason = g_strdup_printf ("it is to be restored again, as that failed: %s", op->error->message);
  vm_set_state_then (op, BANGER_VM_STOPPED, reason, vm_go_on);
}

/* Nobody needs the copies. */

gboolean
vm_has_copies (const BangerVm *vm)
{
  return is_at (vm, COPYING);
}

gboolean
vm_has_no_copies (VmOp *op)
{
  return !vm_has_copies (op->vm);
}

static void
on_tidied (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!back_finish (result, &error))
    vm_log (op->vm, op, LOG_WARNING, "copies of a snapshot are left: %s", error->message);
  if (!error && is_at (op->vm, COPYING)) {
    vm_set_string (&op->vm->record.restoring, "");
    vm_write_record (op->vm);
  }
  vm_go_on (op, NULL);
}

void
vm_put_back_tidy (VmOp *op)
{
  static const BangerWork removing = { "restore-tidy", remove_copies, NULL, back_free };
  banger_work_async (&removing, back_new (op), op->bound, on_tidied, op);
}

const VmStep vm_part_put_back[] = {
  { "changing", note_changing },
  { "replace-disk", replace_disk, .skip = has_no_disk_of_roots },
  { "place", place },
  { "restored", set_restored },
  { "as-before", set_as_before, .when = VM_IF_BAD, .skip = has_nothing_as_before },
  { "in-between", set_in_between, .when = VM_IF_BAD, .skip = is_not_in_between },
  { "tidy", vm_put_back_tidy, .when = VM_IF_BAD },
  { NULL },
};
