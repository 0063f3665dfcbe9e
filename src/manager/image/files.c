/* Making, finishing and abandoning the two files of an image.
 * Runs in worker threads.
 * Never names a file but by the directory's descriptor. */
#include "manager/image/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/disk/content.h"

#define MAX_BYTES (G_GUINT64_CONSTANT (1) << 40) /* BANGER_EXT4_MAX_BYTES, also for what comes as ext4 */

void
banger_image_info_clear (BangerImageInfo *info)
{
  g_clear_pointer (&info->digest, g_free);
  g_clear_pointer (&info->rootfs_digest, g_free);
  g_clear_pointer (&info->seed_digest, g_free);
  g_clear_pointer (&info->warnings, g_strfreev);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_clear_pointer (&info->settings[i], g_strfreev);
}

static int
create (int dir_fd, const char *name, GError **error)
{
  int fd = openat (dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot create %s", name);
  return fd;
}

gboolean
banger_image_files_create (BangerImageFiles *files, int dir_fd, GError **error)
{
  files->dir_fd = dir_fd;
  files->rootfs_fd = create (dir_fd, BANGER_FILE_IMAGE_ROOTFS, error);
  if (files->rootfs_fd < 0)
    return FALSE;
  files->seed_fd = create (dir_fd, BANGER_FILE_IMAGE_SEED, error);
  return files->seed_fd >= 0;
}

gboolean
banger_image_files_link (BangerImageFiles *files, int dir_fd, int fd, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  files->dir_fd = dir_fd;
  if (linkat (AT_FDCWD, path, dir_fd, BANGER_FILE_IMAGE_ROOTFS, AT_SYMLINK_FOLLOW) < 0)
    return errno == EXDEV
               ? banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                                   "the file is on another file system than the images: banger image import copies it")
               : banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot link the file");
  files->rootfs_fd = openat (dir_fd, BANGER_FILE_IMAGE_ROOTFS, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  files->seed_fd = files->rootfs_fd >= 0 ? create (dir_fd, BANGER_FILE_IMAGE_SEED, error) : -1;
  if (files->rootfs_fd >= 0)
    return files->seed_fd >= 0;
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the file that was linked");
  (void)unlinkat (dir_fd, BANGER_FILE_IMAGE_ROOTFS, 0);
  return FALSE;
}

/* What the program says of its files must be what they are. */
static gboolean
check_result (const BangerImageFiles *files, const BangerIntake *intake, const BangerIntakeResult *result,
              GError **error)
{
  struct stat rootfs, seed;
  gboolean exact = strcmp (intake->verb, BANGER_INTAKE_EXT4) != 0;
  if (fstat (files->rootfs_fd, &rootfs) < 0 || fstat (files->seed_fd, &seed) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the image's files");
  guint64 size = (guint64)rootfs.st_size;
  if (result->size_bytes > 0 && result->size_bytes <= MAX_BYTES && result->size_bytes <= size
      && (!exact || result->size_bytes == size) && result->used_bytes <= result->size_bytes
      && result->seed_bytes >= BANGER_SEED_BYTES && result->seed_bytes == (guint64)seed.st_size)
    return TRUE;
  return banger_set_error (
      error, intake->bad, "cannot read %s: the program that reads it said sizes that its files have not", intake->what);
}

gboolean
banger_image_files_intake (BangerImageFiles *files, const BangerIntake *intake, BangerImageInfo *info, GError **error)
{
  g_auto (BangerIntakeAnswer) answer = { 0 };
  BangerIntake whole = *intake;
  /* An ext4 file was digested: it must stay as it is. */
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", files->rootfs_fd);
  banger_autofd int reading = open (path, O_RDONLY | O_CLOEXEC);
  if (reading < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the image's file again");
  whole.bad = BANGER_ERROR_INVALID_IMAGE;
  whole.target_fds[0] = strcmp (intake->verb, BANGER_INTAKE_EXT4) == 0 ? reading : files->rootfs_fd;
  whole.target_fds[1] = files->seed_fd;
  whole.target_bytes = MAX_BYTES;
  if (!banger_intake_run (&whole, &answer, error) || !check_result (files, &whole, &answer.result, error))
    return FALSE;
  info->size_bytes = answer.result.size_bytes;
  info->used_bytes = answer.result.used_bytes;
  info->seed_bytes = answer.result.seed_bytes;
  info->no_ssh = answer.result.no_ssh != 0;
  if (answer.result.digest[0] != '\0' && !info->digest)
    info->digest = g_strdup (answer.result.digest);
  else if (answer.digest)
    info->digest = g_steal_pointer (&answer.digest);
  info->warnings = g_steal_pointer (&answer.warnings);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    info->settings[i] = g_steal_pointer (&answer.settings[i]);
  return TRUE;
}

gboolean
banger_image_files_finish (BangerImageFiles *files, BangerImageInfo *info, GCancellable *cancellable, GError **error)
{
  /* The disk writes meanwhile: without a word it begins when it is waited for. */
  (void)sync_file_range (files->rootfs_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  info->rootfs_digest = banger_content_digest (files->rootfs_fd, cancellable, error);
  info->seed_digest = info->rootfs_digest ? banger_content_digest (files->seed_fd, cancellable, error) : NULL;
  if (!info->seed_digest)
    return FALSE;
  int fds[] = { files->rootfs_fd, files->seed_fd, files->dir_fd };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fsync (fds[i]) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the image to the disk");
  files->kept = TRUE;
  return TRUE;
}

void
banger_image_files_clear (BangerImageFiles *files)
{
  /* Only what this object created: a file that was there made it fail. */
  if (!files->kept && files->rootfs_fd >= 0)
    unlinkat (files->dir_fd, BANGER_FILE_IMAGE_ROOTFS, 0);
  if (!files->kept && files->seed_fd >= 0)
    unlinkat (files->dir_fd, BANGER_FILE_IMAGE_SEED, 0);
  banger_clear_fd (&files->rootfs_fd);
  banger_clear_fd (&files->seed_fd);
}
