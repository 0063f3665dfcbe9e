/* Importing a root file system that exists: a tar through the writer, or an ext4 file by a sparse copy.
 * Called by image.c in a worker thread.
 * Never trusts an ext4 file before its copy is checked, never changes the source. */
#include "manager/image-build.h"

#include "common/error.h"
#include "common/fd.h"
#include "manager/ext4-reader.h"
#include "manager/image-files.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define COPY_BYTES ((size_t)1 << 20)

static int
open_source (const char *path, GError **error)
{
  struct stat st;
  /* Not blocking: a FIFO without a writer is waited for where cancelling works. */
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 || fstat (fd, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", path);
    return -1;
  }
  if (!S_ISREG (st.st_mode) && !S_ISFIFO (st.st_mode)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s is neither a file nor a pipe", path);
    return -1;
  }
  return banger_steal_fd (&fd);
}

/* Copying: reflink, else ranges that hold data */

static gboolean
cancelled (GCancellable *cancellable, GError **error)
{
  return g_cancellable_is_cancelled (cancellable) && !banger_set_error (error, BANGER_ERROR_CANCELLED, "cancelled");
}

typedef struct {
  int from, to;
  off_t size;
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} Copy;

static gboolean
write_all (int fd, const guint8 *data, size_t length, off_t at, GError **error)
{
  for (size_t done = 0; done < length;) {
    ssize_t n = pwrite (fd, data + done, length - done, at + (off_t)done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the copy");
    done += (size_t)n;
  }
  return TRUE;
}

static gboolean
copy_range (const Copy *copy, off_t start, off_t end, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (COPY_BYTES);
  for (off_t at = start; at < end;) {
    if (cancelled (copy->cancellable, error))
      return FALSE;
    ssize_t n = pread (copy->from, buffer, MIN (COPY_BYTES, (size_t)(end - at)), at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, n < 0 ? errno : EIO, "cannot read the ext4 file");
    if (!write_all (copy->to, buffer, (size_t)n, at, error))
      return FALSE;
    at += n;
    if (copy->progress != NULL)
      copy->progress (0.9 * (double)at / (double)copy->size, copy->progress_data);
  }
  return TRUE;
}

static gboolean
copy_sparse (const Copy *copy, GError **error)
{
  if (ioctl (copy->to, FICLONE, copy->from) == 0)
    return TRUE;
  if (ftruncate (copy->to, copy->size) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot size the copy");
  for (off_t at = 0; at < copy->size;) {
    off_t data = lseek (copy->from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
      return TRUE;
    off_t hole = data < 0 ? -1 : lseek (copy->from, data, SEEK_HOLE);
    if (data < 0 || hole < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the ext4 file");
    if (!copy_range (copy, data, MIN (hole, copy->size), error))
      return FALSE;
    at = hole;
  }
  return TRUE;
}

/* sha256 of the whole file, holes as the zeros that they read as. */
static char *
digest_file (int fd, GCancellable *cancellable, GError **error)
{
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree guint8 *buffer = g_malloc (COPY_BYTES);
  off_t at = 0;
  for (;;) {
    if (cancelled (cancellable, error))
      return NULL;
    ssize_t n = pread (fd, buffer, COPY_BYTES, at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the copy");
      return NULL;
    }
    if (n == 0)
      return g_strconcat ("sha256:", g_checksum_get_string (checksum), NULL);
    g_checksum_update (checksum, buffer, n);
    at += n;
  }
}

static gboolean
import_ext4 (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  if (!copy_sparse (copy, error))
    return FALSE;
  g_autoptr (BangerExt4Reader) reader = banger_ext4_reader_open (files->rootfs_fd, error);
  if (reader == NULL)
    return FALSE;
  gboolean has_init = FALSE;
  for (guint i = 0; banger_init_programs[i] != NULL && !has_init; i++)
    has_init = banger_ext4_reader_has_program (reader, banger_init_programs[i]);
  if (!has_init)
    return banger_image_no_init (error);
  banger_ext4_reader_sizes (reader, &info->size_bytes, &info->used_bytes);
  if (!banger_image_files_open_seed (files, error)
      || !banger_ext4_reader_copy_tree (reader, "/root", files->seed, copy->cancellable, error))
    return FALSE;
  info->digest = digest_file (files->rootfs_fd, copy->cancellable, error);
  return info->digest != NULL;
}

static gboolean
import_tar (BangerImageFiles *files, const Copy *copy, guint64 size_bytes, BangerImageInfo *info, GError **error)
{
  BangerExt4TarOptions tar = { .progress = copy->progress,
                               .progress_data = copy->progress_data,
                               .cancellable = copy->cancellable };
  info->digest = banger_image_files_read_tar (files, copy->from, size_bytes, &tar, error);
  return info->digest != NULL;
}

gboolean
banger_image_import (const char *path, int fd, int image_dir_fd, const BangerImageBuildOptions *options,
                     BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                     BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerImageInfo) info = { 0 };
  g_auto (BangerImageFiles) files = BANGER_IMAGE_FILES_INIT;
  banger_autofd int own = path != NULL ? open_source (path, error) : -1;
  int source = path != NULL ? own : fd;
  if (source < 0)
    return path != NULL ? FALSE
                        : banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "neither a path nor a descriptor");

  struct stat st;
  gboolean ext4 = fstat (source, &st) == 0 && S_ISREG (st.st_mode) && banger_ext4_probe (source);
  if (ext4 && options->size_bytes != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "an ext4 file keeps its size: leave the size out");
  if (!banger_image_files_create (&files, image_dir_fd, error))
    return FALSE;
  Copy copy = { source, files.rootfs_fd, st.st_size, progress, progress_data, cancellable };
  if (options->stage != NULL)
    options->stage (ext4 ? "copying the file system" : "writing the file system", options->stage_data);
  if (!(ext4 ? import_ext4 (&files, &copy, &info, error)
             : import_tar (&files, &copy, options->size_bytes, &info, error))
      || !banger_image_files_finish (&files, cancellable, &info, error))
    return FALSE;
  *ret_info = info;
  info.digest = NULL;
  return TRUE;
}
