/* A VM as it is, kept in a folder of a snapshot's: its guest stands still meanwhile, if it runs, and goes on.
 * Never leaves a guest paused that ran, unless its VMM does not take it up; nor says that a file is kept which is not on the disk. */
#include "manager/vm/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/safe-path.h"
#include "common/sparse-copy.h"
#include "manager/core/fault.h"
#include "manager/core/work.h"
#include "manager/disk/stamp.h"
#include "manager/peer/vmm.h"

#define FIELD(key, type, member, required, property)                                                                   \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerVmSnapshot, member), NULL, required, property, FALSE             \
  }
const BangerRecordField banger_vm_snapshot_fields[] = {
  FIELD ("id", STRING, id, TRUE, "Id"),
  FIELD ("name", STRING, name, TRUE, "Name"),
  FIELD ("vm", STRING, vm, TRUE, NULL),
  FIELD ("memory", BOOL, memory, TRUE, "Memory"),
  FIELD ("saved", STRING, saved, FALSE, NULL),
  FIELD ("files", STRING, files, TRUE, NULL),
  FIELD ("programs", STRING, programs, TRUE, NULL),
  FIELD ("root", STRING, root, TRUE, NULL),
  FIELD ("vcpus", UINT32, vcpus, TRUE, "VCPUs"),
  FIELD ("memory-mib", UINT32, memory_mib, TRUE, "MemoryMiB"),
  FIELD ("disk-bytes", UINT64, disk_bytes, TRUE, "DiskBytes"),
  FIELD ("size-bytes", UINT64, size_bytes, TRUE, "SizeBytes"),
  FIELD ("starts", UINT64, starts, TRUE, NULL),
  FIELD ("created-at", UINT64, created_at, TRUE, "CreatedAt"),
  FIELD ("paused-us", UINT64, paused_usec, TRUE, "PausedUs"),
  FIELD ("ssh-server", STRING, ssh_server, FALSE, NULL),
  FIELD ("login-user", STRING, login_user, FALSE, NULL),
  FIELD ("workspace", STRING, workspace, FALSE, NULL),
  FIELD ("workspace-folder", STRING, workspace_folder, FALSE, NULL),
  FIELD ("setup", STRING, setup, FALSE, NULL),
  FIELD ("setup-script", STRING, setup_script, FALSE, NULL),
  FIELD ("setup-done", STRV, setup_done, FALSE, NULL),
  FIELD ("providing", BOOL, providing, FALSE, NULL),
  { NULL },
};

static void
set_inside (BangerVmSnapshot *snapshot, const BangerVmRecord *record)
{
  vm_set_string (&snapshot->ssh_server, record->ssh_server);
  vm_set_string (&snapshot->login_user, record->login_user);
  vm_set_string (&snapshot->workspace, record->workspace);
  vm_set_string (&snapshot->workspace_folder, record->workspace_folder);
  vm_set_string (&snapshot->setup, record->setup);
  vm_set_string (&snapshot->setup_script, record->setup_script);
  g_strfreev (snapshot->setup_done);
  snapshot->setup_done = g_strdupv (record->setup_done);
  snapshot->providing = record->providing;
}

void
vm_put_back_inside (BangerVmRecord *record, const BangerVmSnapshot *snapshot)
{
  if (!snapshot->login_user || !snapshot->setup)
    return;
  vm_set_string (&record->ssh_server, snapshot->ssh_server);
  vm_set_string (&record->login_user, snapshot->login_user);
  vm_set_string (&record->workspace, snapshot->workspace);
  vm_set_string (&record->workspace_folder, snapshot->workspace_folder);
  vm_set_string (&record->setup, snapshot->setup);
  vm_set_string (&record->setup_script, snapshot->setup_script);
  g_strfreev (record->setup_done);
  record->setup_done = g_strdupv (snapshot->setup_done);
  record->providing = snapshot->providing;
}

BangerVmSnapshot *
banger_vm_snapshot_new (void)
{
  BangerVmSnapshot *snapshot = g_atomic_rc_box_new0 (BangerVmSnapshot);
  snapshot->dir_fd = -1;
  snapshot->saved = g_strdup (""); /* of a guest that did not run */
  return snapshot;
}

BangerVmSnapshot *
banger_vm_snapshot_ref (BangerVmSnapshot *snapshot)
{
  return g_atomic_rc_box_acquire (snapshot);
}

static void
clear (gpointer data)
{
  BangerVmSnapshot *snapshot = data;
  banger_record_clear (banger_vm_snapshot_fields, snapshot);
  banger_clear_fd (&snapshot->dir_fd);
}

void
banger_vm_snapshot_unref (BangerVmSnapshot *snapshot)
{
  g_atomic_rc_box_release_full (snapshot, clear);
}

gboolean
vm_check_snapshot (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  if (vm->record.ephemeral)
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                             "%s is deleted when it ends, and is not restored: make a VM that stays for snapshots",
                             vm->record.name);
  return *vm->record.root != '\0'
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                              "%s was never started: it has no disks yet, and is as its image %s", vm->record.name,
                              vm->record.image);
}

gboolean
vm_stands_still (VmOp *op)
{
  op->was_paused = op->vm->record.state == BANGER_VM_PAUSED;
  op->options.snapshot->memory = op->vm->record.state != BANGER_VM_STOPPED;
  return op->vm->record.state != BANGER_VM_RUNNING;
}

/* Files. */

static int
open_own (int dir_fd, const char *name, struct stat *ret, GError **error)
{
  banger_autofd int fd = banger_safe_openat (dir_fd, name, O_RDONLY | O_NONBLOCK, 0, BANGER_SAFE_NONE, error);
  return fd >= 0 && banger_safe_check_regular (fd, geteuid (), 0, name, ret, error) ? banger_steal_fd (&fd) : -1;
}

static gboolean
copy_file (int from_fd, const char *from, int to_fd, const char *to, GCancellable *cancellable, GError **error)
{
  struct stat st;
  banger_autofd int in = open_own (from_fd, from, &st, error);
  if (in < 0)
    return FALSE;
  if (unlinkat (to_fd, to, 0) < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove the old %s", to);
  banger_autofd int out = openat (to_fd, to, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (out < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", to);
  const BangerSparseCopy copy = {
    .from = in, .to = out, .size = (guint64)st.st_size, .name = to, .cancellable = cancellable
  };
  return banger_sparse_copy (&copy, error);
}

gboolean
vm_copy_files (int from_fd, int to_fd, const char *const *pairs, GCancellable *cancellable, GError **error)
{
  for (; *pairs; pairs += 2) {
    struct stat st;
    if (fstatat (from_fd, pairs[0], &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
      continue;
    if (!copy_file (from_fd, pairs[0], to_fd, pairs[1], cancellable, error))
      return FALSE;
  }
  return TRUE;
}

/* What a worker has: its descriptors may outlive the VM and the snapshot. */
typedef struct {
  int vm_fd, to_fd;
  gboolean guest, suspended; /* it has a guest, and it is on the disk already */
  gboolean root_file;        /* so is its root disk, a file of the owner's */
  gboolean brief;            /* it is not to outlive what is made of it now: it need not be on the disk */
  char *where;               /* of the snapshot, for messages */
  char *recorded;            /* what the VM's record says of it then */
  const BangerInstall *install;
  char *saved, *files, *programs;
  guint64 bytes;
} Keep;

static void
keep_free (gpointer data)
{
  Keep *keep = data;
  banger_clear_fd (&keep->vm_fd);
  banger_clear_fd (&keep->to_fd);
  g_free (keep->where);
  g_free (keep->recorded);
  g_free (keep->saved);
  g_free (keep->files);
  g_free (keep->programs);
  g_free (keep);
}

static Keep *
keep_new (const VmOp *op)
{
  const BangerVm *vm = op->vm;
  Keep *keep = g_new0 (Keep, 1);
  keep->vm_fd = fcntl (vm->dir_fd, F_DUPFD_CLOEXEC, 3);
  keep->to_fd = fcntl (op->options.snapshot->dir_fd, F_DUPFD_CLOEXEC, 3);
  keep->suspended = vm->record.state == BANGER_VM_SUSPENDED;
  keep->guest = op->options.snapshot->memory;
  keep->root_file = g_str_equal (vm->record.root, "file");
  keep->brief = op->row->verb == BANGER_VM_VERB_FORK;
  keep->recorded = g_strdup (vm->record.suspended);
  keep->install = vm->vms->install;
  keep->where = g_strdup_printf ("the snapshot %s", op->options.snapshot->id);
  return keep;
}

static gboolean
copy_disks (gpointer data, GCancellable *cancellable, GError **error)
{
  static const char *const pairs[] = { BANGER_FILE_VM_WORK, BANGER_FILE_VM_WORK, BANGER_FILE_VM_ROOTFS,
                                       BANGER_FILE_VM_ROOTFS, NULL };
  const Keep *keep = data;
  struct stat st;
  if (!vm_copy_files (keep->vm_fd, keep->to_fd, pairs, cancellable, error))
    return FALSE;
  return !keep->root_file || fstatat (keep->to_fd, BANGER_FILE_VM_ROOTFS, &st, AT_SYMLINK_NOFOLLOW) == 0
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "%s of the VM is gone", BANGER_FILE_VM_ROOTFS);
}

/* Nobody writes to any of it again. */
static gboolean
close_files (Keep *keep, GError **error)
{
  for (const char *const *name = banger_vm_template_files; *name; name++) {
    struct stat st;
    if (fstatat (keep->to_fd, *name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
      continue;
    if (fchmodat (keep->to_fd, *name, 0400, 0) < 0 || fstatat (keep->to_fd, *name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep %s", *name);
    keep->bytes += (guint64)st.st_blocks * 512;
  }
  keep->files = banger_stamp_files (keep->to_fd, banger_vm_template_files, !keep->brief, error);
  return keep->files
         && (keep->brief || fsync (keep->to_fd) == 0
             || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the folder of the snapshot"));
}

/* Its VMM has the files that it wrote open, and will write there again: the snapshot has copies. */
static gboolean
keep_all (gpointer data, GCancellable *cancellable, GError **error)
{
  static const char *const fresh[] = { BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_TEMPLATE_STATE,
                                       BANGER_FILE_VM_SAVE_MEMORY, BANGER_FILE_TEMPLATE_MEMORY, NULL },
                           *const kept[] = { BANGER_FILE_VM_SAVED_STATE, BANGER_FILE_TEMPLATE_STATE,
                                             BANGER_FILE_VM_SAVED_MEMORY, BANGER_FILE_TEMPLATE_MEMORY, NULL },
                           *const names[] = { BANGER_FILE_TEMPLATE_STATE, BANGER_FILE_TEMPLATE_MEMORY };
  Keep *keep = data;
  if (keep->guest) {
    if (!vm_copy_files (keep->vm_fd, keep->to_fd, keep->suspended ? kept : fresh, cancellable, error))
      return FALSE;
    keep->saved = keep->brief ? g_strdup ("")
                              : vm_saved_describe (keep->to_fd, keep->where, names, FALSE, cancellable, error);
    /* One that does not go on any more does not do so by way of a snapshot. */
    if (!keep->saved
        || (keep->suspended && !vm_saved_compare (keep->recorded, keep->saved, "its suspended guest's files", error)))
      return FALSE;
  }
  keep->programs = banger_vm_template_programs (keep->install);
  return close_files (keep, error);
}

/* The steps. */

static gboolean
runs_nothing (VmOp *op)
{
  return op->vm->record.state != BANGER_VM_PAUSED;
}

static void
save (VmOp *op)
{
  banger_fault_point ("snapshot-save");
  op->stood_still_at = g_get_monotonic_time ();
  vm_save_guest (op);
}

static gboolean
has_no_disk_of_roots (VmOp *op)
{
  return g_str_equal (op->vm->record.root, "file");
}

static void
on_disk_copied (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_helper_finish (result, &error);
  vm_go_on (data, vm_why_alive (data, error));
}

/* Not ended with the job: what the helper copies would be there after it was forgotten. */
static void
copy_roots_disk (VmOp *op)
{
  banger_fault_point ("snapshot-disk");
  banger_job_set_stage (&op->job, "copying disks");
  banger_helper_call (op->vm->vms->helper, &op->job.caller, "CopyDisk", op->bound, on_disk_copied, op,
                      op->vm->record.id, op->options.snapshot->id, FALSE);
}

static void
on_disks (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_work_finish (result, &error);
  vm_go_on (data, vm_why_alive (data, error));
}

static void
copy_files (VmOp *op)
{
  static const BangerWork copying = { "snapshot-files", copy_disks, NULL, keep_free };
  BangerVmSnapshot *snapshot = op->options.snapshot;
  const BangerVmRecord *record = &op->vm->record;
  banger_job_set_stage (&op->job, "copying disks");
  snapshot->vcpus = record->vcpus;
  snapshot->memory_mib = record->memory_mib;
  snapshot->disk_bytes = record->disk_bytes;
  snapshot->starts = record->starts;
  vm_set_string (&snapshot->root, record->root);
  set_inside (snapshot, record);
  banger_work_async (&copying, keep_new (op), op->job.cancellable, on_disks, op);
}

/* It stood still before, or it is to end anyhow. */
static gboolean
stays_as_it_is (VmOp *op)
{
  return runs_nothing (op) || op->was_paused || op->vm->died || op->vm->queue;
}

static void
on_gone_on (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  op->options.snapshot->paused_usec = (guint64)(g_get_monotonic_time () - op->stood_still_at);
  if (!banger_vmm_finish (result, &error)) {
    g_prefix_error (&error, "it stays paused: ");
    op->was_paused = TRUE;
  }
  vm_go_on (op, vm_why_alive (op, error));
}

static void
go_on (VmOp *op)
{
  const BangerVm *vm = op->vm;
  banger_fault_point ("snapshot-go-on");
  banger_vmm_pause_async (vm->api_socket, (pid_t)vm->record.pid, FALSE, op->bound, on_gone_on, op);
}

static void
set_running (VmOp *op)
{
  banger_fault_point ("snapshot-running");
  op->vm->record.stands_still = FALSE;
  vm_keep_agent (op->vm);
  vm_set_state_then (op, BANGER_VM_RUNNING, vm_provide_lost (op->vm), vm_go_on);
}

static void
on_all_kept (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  Keep *keep = banger_work_data (result);
  BangerVmSnapshot *snapshot = op->options.snapshot;
  if (banger_work_finish (result, &error)) {
    vm_set_string (&snapshot->saved, keep->saved ? keep->saved : "");
    vm_set_string (&snapshot->files, keep->files);
    vm_set_string (&snapshot->programs, keep->programs);
    snapshot->size_bytes = keep->bytes;
  }
  vm_go_on (op, error);
}

static void
keep (VmOp *op)
{
  static const BangerWork keeping = { "snapshot-keep", keep_all, NULL, keep_free };
  banger_fault_point ("snapshot-keep");
  banger_job_set_stage (&op->job, op->row->verb == BANGER_VM_VERB_FORK ? "copying memory" : "keeping the snapshot");
  banger_work_async (&keeping, keep_new (op), op->job.cancellable, on_all_kept, op);
}

/* Nothing was saved that is not the suspension of one that is suspended. */
static gboolean
has_saved_nothing (VmOp *op)
{
  return !op->options.snapshot->memory || op->vm->record.state == BANGER_VM_SUSPENDED || op->vm->died;
}

static void
on_dropped (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!vm_files_saved_finish (result, &error))
    vm_log (op->vm, op, LOG_WARNING, "what was saved for a snapshot of it is left: %s", error->message);
  vm_go_on (op, NULL);
}

static void
drop (VmOp *op)
{
  vm_files_drop_saved_async (op->vm, op->bound, on_dropped, op);
}

/* What is saved first is written to the snapshot last, when the guest goes on already. */
const VmStep vm_part_snapshot[] = {
  { "save", save, .skip = runs_nothing, .on_death = vm_cancel_on_death },
  { "copy-disk", copy_roots_disk, .skip = has_no_disk_of_roots },
  { "copy-files", copy_files, .on_death = vm_cancel_on_death },
  { "go-on", go_on, .when = VM_ALWAYS, .skip = stays_as_it_is },
  { "running", set_running, .when = VM_ALWAYS, .skip = stays_as_it_is },
  { "keep", keep },
  { "drop", drop, .when = VM_ALWAYS, .skip = has_saved_nothing },
  { NULL },
};
