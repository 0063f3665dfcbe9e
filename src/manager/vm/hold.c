/* A VM that stays stopped while somebody reads its disks.
 * Never has them open for writing, and never keeps a deletion by force waiting: what is open can be read to its end. */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/core/work.h"

gboolean
vm_check_hold (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  return *vm->record.root != '\0'
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                              "%s was never started: it has no disks yet, and is as its image %s", vm->record.name,
                              vm->record.image);
}

static void
on_settled (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_settle_finish (result, &error);
  vm_go_on (data, error);
}

static void
settle (VmOp *op)
{
  vm_files_settle_async (op->vm, op->job.cancellable, on_settled, op);
}

static gboolean
is_file (VmOp *op)
{
  return g_str_equal (op->vm->record.root, "file");
}

static void
on_disk (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  op->options.hold->disks.cow_fd = banger_helper_disk_finish (result, &error);
  vm_go_on (op, error);
}

static void
ask_for_disk (VmOp *op)
{
  vm_ask (op, "OpenDisk", op->job.cancellable, on_disk, op);
}

/* In a worker: a disk may hang. */
typedef struct {
  int image_fd, dir_fd; /* image_fd: -1: the root disk is the VM's own */
  gboolean has_work;
  int root_fd, work_fd;
} Open;

static void
open_free (gpointer data)
{
  Open *self = data;
  banger_clear_fd (&self->image_fd);
  banger_clear_fd (&self->dir_fd);
  banger_clear_fd (&self->root_fd);
  banger_clear_fd (&self->work_fd);
  g_free (self);
}

static int
open_disk (int dir_fd, const char *name, GError **error)
{
  banger_autofd int fd = banger_safe_openat (dir_fd, name, O_RDONLY | O_NONBLOCK, 0, BANGER_SAFE_NONE, error);
  return fd >= 0 && banger_safe_check_regular (fd, getuid (), 0, name, NULL, error) ? banger_steal_fd (&fd) : -1;
}

static gboolean
open_disks (gpointer data, GCancellable *cancellable, GError **error)
{
  Open *self = data;
  self->root_fd = self->image_fd >= 0 ? open_disk (self->image_fd, BANGER_FILE_IMAGE_ROOTFS, error)
                                      : open_disk (self->dir_fd, BANGER_FILE_VM_ROOTFS, error);
  if (self->root_fd < 0 || !self->has_work)
    return self->root_fd >= 0;
  self->work_fd = open_disk (self->dir_fd, BANGER_FILE_VM_WORK, error);
  return self->work_fd >= 0;
}

static void
on_opened (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  Open *self = banger_work_data (result);
  if (banger_work_finish (result, &error)) {
    op->options.hold->disks.root_fd = banger_steal_fd (&self->root_fd);
    op->options.hold->disks.work_fd = banger_steal_fd (&self->work_fd);
  }
  vm_go_on (op, error);
}

static void
open_files (VmOp *op)
{
  static const BangerWork opening = { "open-disks", open_disks, NULL, open_free };
  const BangerVm *vm = op->vm;
  BangerVmSource image = { .dir_fd = -1 };
  GError *error = NULL;
  if (!vm->vms->sources->find_image (vm->record.image_id, &image, vm->vms->user_data, &error)) {
    vm_go_on (op, error);
    return;
  }
  Open *self = g_new0 (Open, 1);
  *self = (Open){ -1, fcntl (vm->dir_fd, F_DUPFD_CLOEXEC, 3), image.seed_bytes > 0, -1, -1 };
  if (!is_file (op))
    self->image_fd = banger_steal_fd (&image.dir_fd);
  banger_vm_source_clear (&image);
  banger_work_async (&opening, self, op->job.cancellable, on_opened, op);
}

/* Until it is let go, or a deletion by force does not wait for that. */
static void
held (VmOp *op)
{
  BangerVmHold *hold = op->options.hold;
  g_autoptr (GTask) task = g_steal_pointer (&hold->task);
  hold->op = op;
  g_task_return_pointer (task, g_atomic_rc_box_acquire (hold), NULL); /* whoever asked takes it */
}

static void
let_go (VmOp *op)
{
  op->options.hold->op = NULL;
  vm_go_on (op, NULL);
}

const VmStep vm_part_hold[] = {
  { "settle", settle },
  { "disk", ask_for_disk, .skip = is_file },
  { "open", open_files },
  { "held", held, .on_interrupt = let_go },
  { NULL },
};
