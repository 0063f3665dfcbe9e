/* A helper that is not there, images and kernels of a few bytes: in the place of helper-client.c, image-build.c and
 * kernel-import.c. Linked into the bangerd of the bus tests.
 * Never part of an installed program. The suite or package "slow" takes until it is cancelled, "broken" fails. */
#include <fcntl.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/helper-client.h"
#include "manager/image-build.h"
#include "manager/kernel-import.h"

#define TICK_USEC 10000

struct BangerHelper {
  int nothing;
};

BangerHelper *
banger_helper_new (void)
{
  return g_new0 (BangerHelper, 1);
}

void
banger_helper_free (BangerHelper *helper)
{
  g_free (helper);
}

gboolean
banger_helper_available (BangerHelper *helper)
{
  return FALSE;
}

guint
banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data)
{
  return 1;
}

void
banger_helper_remove_notify (BangerHelper *helper, guint id)
{
}

static void
unavailable (GAsyncReadyCallback callback, gpointer data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, data);
  g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE, "there is no helper in this test");
}

void
banger_helper_remove_nat (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  unavailable (callback, data);
}

void
banger_helper_remove_snapshot (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                               GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  unavailable (callback, data);
}

void
banger_helper_get_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                       GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  unavailable (callback, data);
}

gboolean
banger_helper_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
banger_helper_status_finish (BangerHelper *helper, GAsyncResult *result, BangerVmmStatus *ret, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

static gboolean
make (int dir_fd, const char *file, const char *how, BangerProgress progress, gpointer data, GCancellable *cancellable,
      GError **error)
{
  banger_autofd int fd = openat (dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "%s", file);
  progress (0.5, data);
  while (g_strcmp0 (how, "slow") == 0) {
    if (g_cancellable_set_error_if_cancelled (cancellable, error))
      return FALSE;
    g_usleep (TICK_USEC);
  }
  if (g_strcmp0 (how, "broken") == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "broken on request");
  progress (1, data);
  return TRUE;
}

void
banger_image_info_clear (BangerImageInfo *info)
{
  g_clear_pointer (&info->digest, g_free);
}

gboolean
banger_image_check_host (GError **error)
{
  return TRUE;
}

static gboolean
make_image (int dir_fd, const char *how, BangerProgress progress, gpointer data, GCancellable *cancellable,
            BangerImageInfo *ret, GError **error)
{
  if (!make (dir_fd, BANGER_FILE_IMAGE_ROOTFS, how, progress, data, cancellable, error))
    return FALSE;
  ret->size_bytes = 1 << 20;
  ret->used_bytes = 1 << 19;
  ret->digest = g_strdup ("sha256:00");
  return TRUE;
}

gboolean
banger_image_build (int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                    gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info, GError **error)
{
  options->stage ("pretending to build", options->stage_data);
  return make_image (image_dir_fd, options->suite, progress, progress_data, cancellable, ret_info, error);
}

gboolean
banger_image_import (const char *path, int fd, int image_dir_fd, const BangerImageBuildOptions *options,
                     BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                     BangerImageInfo *ret_info, GError **error)
{
  return make_image (image_dir_fd, NULL, progress, progress_data, cancellable, ret_info, error);
}

void
banger_kernel_info_clear (BangerKernelInfo *info)
{
  g_clear_pointer (&info->version, g_free);
  g_clear_pointer (&info->digest, g_free);
}

gboolean
banger_kernel_import (const char *source, const char *modules, int kernel_dir_fd, BangerProgress progress,
                      gpointer progress_data, GCancellable *cancellable, BangerKernelInfo *ret_info, GError **error)
{
  const char *how = g_str_has_prefix (source, "apt:") ? source + 4 : NULL;
  if (!make (kernel_dir_fd, BANGER_FILE_KERNEL_VMLINUX, how, progress, progress_data, cancellable, error))
    return FALSE;
  ret_info->version = g_strdup ("6.1.0-test");
  ret_info->digest = g_strdup ("sha256:11");
  return TRUE;
}
