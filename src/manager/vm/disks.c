/* The files that a start makes: root disk, work disk, initramfs; what it takes back of them.
 * Never removes a disk that a VM wrote to. */
#include "manager/vm/start-private.h"

#include "common/guest-protocol.h"
#include "manager/core/later.h"
#include "manager/core/work.h"

/* Root disk: a snapshot where the kernel has device-mapper, else a copy; what a VM began with it keeps. */

static void
on_root_copied (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  VmStart *start = g_task_get_task_data (task);
  GError *error = NULL;
  if (banger_work_is_left (result))
    start->left |= VM_LEFT_ROOT_DISK;
  vm_files_finish (result, &error);
  banger_task_return (task, error);
}

void
vm_start_root_disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  gboolean file = g_str_equal (start->root, "file");
  if (!start->first) {
    vm_files_check_async (start->vm, file ? BANGER_FILE_VM_ROOTFS : BANGER_FILE_VM_COW, cancellable, callback,
                          user_data);
    return;
  }
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (task, start, NULL);
  g_task_set_check_cancellable (task, FALSE);
  if (!file || start->template.id) {
    banger_task_return_later (task, NULL);
    return;
  }
  banger_job_set_stage (&start->op->job, "copying root disk");
  vm_files_copy_async (start->vm, start->image.dir_fd, BANGER_FILE_IMAGE_ROOTFS, BANGER_FILE_VM_ROOTFS, 0,
                       &start->op->job, cancellable, on_root_copied, task);
}

/* Of a template, as a file: it is there for the VMM to open, and filled beside everything else until the guest goes on. */

gboolean
vm_start_template_disk_skip (gpointer data)
{
  const VmStart *start = data;
  return !start->template.id || start->template.snapshot;
}

void
vm_start_template_disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_files_reserve_async (start->vm, start->template.dir_fd, BANGER_FILE_VM_ROOTFS, cancellable, callback, user_data);
}

void
vm_start_template_fill_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_files_fill_async (start->vm, start->template.dir_fd, BANGER_FILE_VM_ROOTFS, cancellable, callback, user_data);
}

gboolean
vm_start_template_disk_take (gpointer data, GAsyncResult *result, GError **error)
{
  VmStart *start = data;
  if (banger_work_is_left (result))
    start->left |= VM_LEFT_ROOT_DISK;
  return vm_files_finish (result, error);
}

/* Undo of a step whose file nobody needs but its own worker may still make. */
static void
remove_file (VmStart *start, guint32 which, gboolean needed, const char *const *names, GCancellable *cancellable,
             GAsyncReadyCallback callback, gpointer user_data)
{
  if (needed || start->left & which)
    names += g_strv_length ((char **)names);
  vm_files_remove_async (start->vm, names, cancellable, callback, user_data);
}

/* What the VM wrote goes only with its first start. */
void
vm_start_root_disk_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const char *const names[] = { BANGER_FILE_VM_ROOTFS, NULL };
  VmStart *start = data;
  remove_file (start, VM_LEFT_ROOT_DISK, !start->first, names, cancellable, callback, user_data);
}

/* Work disk: the image's seed, made as large as asked; the guest grows the file system. */

/* An image without a seed has no work disk: /root is on the root disk. */
gboolean
vm_start_work_disk_skip (gpointer data)
{
  return ((VmStart *)data)->image.seed_bytes == 0;
}

void
vm_start_work_disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  BangerVm *vm = start->vm;
  if (start->template.id)
    vm_files_copy_async (vm, start->template.dir_fd, BANGER_FILE_VM_WORK, BANGER_FILE_VM_WORK, 0, NULL, cancellable,
                         callback, user_data);
  else if (start->first)
    vm_files_copy_async (vm, start->image.dir_fd, BANGER_FILE_IMAGE_SEED, BANGER_FILE_VM_WORK, vm->record.disk_bytes,
                         NULL, cancellable, callback, user_data);
  else
    vm_files_grow_async (vm, BANGER_FILE_VM_WORK, vm->record.disk_bytes, cancellable, callback, user_data);
}

gboolean
vm_start_work_disk_take (gpointer data, GAsyncResult *result, GError **error)
{
  VmStart *start = data;
  if (banger_work_is_left (result))
    start->left |= VM_LEFT_WORK_DISK;
  return vm_files_finish (result, error);
}

void
vm_start_work_disk_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const char *const names[] = { BANGER_FILE_VM_WORK, NULL };
  VmStart *start = data;
  remove_file (start, VM_LEFT_WORK_DISK, !start->first, names, cancellable, callback, user_data);
}

/* Initramfs. */

void
vm_start_initrd_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_set_string (&start->vm->record.login_user, BANGER_GUEST_LOGIN);
  if (start->template.id)
    vm_files_no_initrd_async (start->vm, cancellable, callback, user_data);
  else
    vm_files_initrd_async (start->vm, start->kernel.dir_fd, start->image.seed_bytes > 0, cancellable, callback,
                           user_data);
}

gboolean
vm_start_initrd_take (gpointer data, GAsyncResult *result, GError **error)
{
  VmStart *start = data;
  if (banger_work_is_left (result))
    start->left |= VM_LEFT_INITRD;
  return vm_files_initrd_finish (result, error);
}

void
vm_start_initrd_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const char *const names[] = { BANGER_FILE_VM_INITRD, NULL };
  remove_file (data, VM_LEFT_INITRD, FALSE, names, cancellable, callback, user_data);
}
