/* Images and kernels of a few bytes, in the place of image/{build,commit,containerfile,import,pull}.c and kernel/import.c, and what the fake
 * helper is told. Linked into the bangerd of the bus tests.
 * Never part of an installed program. The suite or package "slow" takes until it is cancelled, "broken" fails. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/image/build.h"
#include "manager/image/commit.h"
#include "manager/image/containerfile.h"
#include "manager/image/pull.h"
#include "manager/kernel/import.h"
#include "fake-helper.h"

#define TICK_USEC 10000

static const char *story; /* FAKE_HELPER="110": it comes, says that once more, and goes; NULL: it is there */

static gboolean
on_tick (gpointer data)
{
  if (*story != '\0')
    fake_helper_set_available (fake.helper, *story++ == '1');
  return *story != '\0';
}

/* Before main(): what the test says. The guests have no ssh server, as its port is root's. */
static void __attribute__ ((constructor)) helper_up (void)
{
  fake_helper_up (g_getenv ("FAKE_RUN"));
  fake.no_sshd = TRUE;
  fake.engine = g_getenv ("FAKE_ENGINE");
  fake.orders = g_getenv ("FAKE_ORDERS");
  fake.agent = g_getenv ("FAKE_AGENT");
  story = g_getenv ("FAKE_HELPER");
  fake.available = !story;
  fake.away = story != NULL;
  if (story)
    g_timeout_add (100, on_tick, NULL);
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
  g_clear_pointer (&info->warnings, g_strfreev);
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
banger_image_import (int fd, int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                     gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info, GError **error)
{
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", fd);
  g_autofree char *opened = g_file_read_link (link, NULL);
  if (g_str_has_suffix (opened != NULL ? opened : "", "odd"))
    ret_info->warnings = g_strsplit ("first\nsecond \xff", "\n", -1);
  return make_image (image_dir_fd, NULL, progress, progress_data, cancellable, ret_info, error);
}

gboolean
banger_image_pull (const BangerImagePull *pull, int image_dir_fd, const BangerImageBuildOptions *options,
                   BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                   BangerImageInfo *ret_info, GError **error)
{
  pull->pulled (3 << 19, 5 << 18, progress_data);
  return make_image (image_dir_fd, strstr (pull->reference, "slow") ? "slow" : NULL, progress, progress_data,
                     cancellable, ret_info, error);
}

/* A VM that is called "slow" has slow disks. */
gboolean
banger_image_commit (const BangerImageDisks *disks, int image_dir_fd, const BangerImageBuildOptions *options,
                     BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                     BangerImageInfo *ret_info, GError **error)
{
  options->stage ("pretending to read", options->stage_data);
  return make_image (image_dir_fd, options->suite, progress, progress_data, cancellable, ret_info, error);
}

gboolean
banger_containerfile_check (const char *file, const char *context, GError **error)
{
  return TRUE;
}

gboolean
banger_containerfile_build (const BangerContainerfile *containerfile, int image_dir_fd,
                            const BangerImageBuildOptions *options, GCancellable *cancellable,
                            BangerImageInfo *ret_info, GError **error)
{
  return make_image (image_dir_fd, NULL, banger_job_progress_report, containerfile->progress, cancellable, ret_info,
                     error);
}

void
banger_kernel_info_clear (BangerKernelInfo *info)
{
  g_clear_pointer (&info->version, g_free);
  g_clear_pointer (&info->digest, g_free);
}

gboolean
banger_kernel_check_file (const char *path, int fd, gboolean modules, GError **error)
{
  return TRUE;
}

static gboolean
make_kernel (const BangerKernelImport *import, const char *how, BangerKernelInfo *ret_info, GError **error)
{
  if (!make (import->dir_fd, BANGER_FILE_KERNEL_VMLINUX, how, import->progress, import->progress_data,
             import->cancellable, error)
      || !make (import->dir_fd, BANGER_FILE_KERNEL_INITRD, NULL, import->progress, import->progress_data, NULL, error))
    return FALSE;
  ret_info->version = g_strdup ("6.1.0-test");
  ret_info->digest = g_strdup ("sha256:11");
  return TRUE;
}

gboolean
banger_kernel_import_file (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error)
{
  return make_kernel (import, NULL, ret_info, error);
}

gboolean
banger_kernel_import_package (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error)
{
  return make_kernel (import, import->name, ret_info, error);
}
