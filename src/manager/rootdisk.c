/* Disks of a VM as files of the owner: root disk copied from an image, work disk from the image's seed.
 * Called by vm-start.c, in worker threads.
 * Never leaves half a disk under its final name. */
#include "manager/rootdisk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"

#define PIECE_BYTES (8 << 20)

typedef struct {
  int from, to;
  guint64 size, copied;
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
  const char *name;
} Copy;

static char *
part_name (const char *name)
{
  return g_strconcat (name, ".part", NULL);
}

static gboolean
copy_failed (Copy *copy, int errnum, GError **error)
{
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errnum, "cannot write %s", copy->name);
}

/* For file systems between which copy_file_range(2) does not work. */
static ssize_t
copy_by_buffer (Copy *copy, off_t offset, size_t length)
{
  g_autofree char *buffer = g_malloc (MIN (length, 1 << 20));
  ssize_t n = pread (copy->from, buffer, MIN (length, 1 << 20), offset);
  for (ssize_t done = 0; n > 0 && done < n;) {
    ssize_t w = pwrite (copy->to, buffer + done, (size_t)(n - done), offset + done);
    if (w < 0)
      return -1;
    done += w;
  }
  return n;
}

static ssize_t
copy_piece (Copy *copy, off_t offset, size_t length)
{
  off_t in = offset, out = offset;
  ssize_t n = copy_file_range (copy->from, &in, copy->to, &out, length, 0);
  if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
    return copy_by_buffer (copy, offset, length);
  return n;
}

static gboolean
copy_extent (Copy *copy, off_t from, off_t to, GError **error)
{
  while (from < to) {
    if (g_cancellable_set_error_if_cancelled (copy->cancellable, error))
      return FALSE;
    ssize_t n = copy_piece (copy, from, (size_t)MIN (to - from, PIECE_BYTES));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return copy_failed (copy, n < 0 ? errno : EIO, error);
    from += n;
    if (copy->progress)
      copy->progress ((double)from / (double)copy->size, copy->progress_data);
  }
  return TRUE;
}

static gboolean
copy_sparse (Copy *copy, GError **error)
{
  off_t end = (off_t)copy->size;
  for (off_t data = 0; (data = lseek (copy->from, data, SEEK_DATA)) >= 0 && data < end;) {
    off_t hole = lseek (copy->from, data, SEEK_HOLE);
    if (hole < 0)
      return copy_failed (copy, errno, error);
    if (!copy_extent (copy, data, MIN (hole, end), error))
      return FALSE;
    data = hole;
  }
  return TRUE;
}

static gboolean
copy_content (Copy *copy, GError **error)
{
  if (ioctl (copy->to, FICLONE, copy->from) == 0)
    return TRUE;
  return copy_sparse (copy, error);
}

/* Makes @name whole by rename, then its directory entry durable. */
static gboolean
publish (int fd, int dir_fd, const char *part, const char *name, GError **error)
{
  if (fsync (fd) < 0 || renameat (dir_fd, part, dir_fd, name) < 0 || fsync (dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot finish %s", name);
  return TRUE;
}

static gboolean
exists (int dir_fd, const char *name)
{
  struct stat st;
  return fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int
open_part (int dir_fd, const char *part, GError **error)
{
  if (unlinkat (dir_fd, part, 0) < 0 && errno != ENOENT) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove the old %s", part);
    return -1;
  }
  int fd = openat (dir_fd, part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", part);
  return fd;
}

gboolean
banger_disk_copy (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, guint64 bytes,
                  BangerProgress progress, gpointer progress_data, GCancellable *cancellable, GError **error)
{
  if (exists (to_dir_fd, to_name))
    return TRUE;
  banger_autofd int from = banger_safe_openat (from_dir_fd, from_name, O_RDONLY, 0, BANGER_SAFE_NONE, error);
  struct stat st;
  if (from < 0 || !banger_safe_check_regular (from, geteuid (), 0, from_name, &st, error))
    return FALSE;
  if (bytes != 0 && bytes < (guint64)st.st_size)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                             "%s: %" G_GUINT64_FORMAT " bytes are less than the %jd of its source", to_name, bytes,
                             (intmax_t)st.st_size);
  g_autofree char *part = part_name (to_name);
  banger_autofd int to = open_part (to_dir_fd, part, error);
  if (to < 0)
    return FALSE;
  Copy copy = { .from = from,
                .to = to,
                .size = (guint64)st.st_size,
                .progress = progress,
                .progress_data = progress_data,
                .cancellable = cancellable,
                .name = to_name };
  gboolean ok = copy_content (&copy, error);
  if (ok && ftruncate (to, bytes ? (off_t)bytes : st.st_size) < 0)
    ok = copy_failed (&copy, errno, error);
  if (ok && publish (to, to_dir_fd, part, to_name, error))
    return TRUE;
  unlinkat (to_dir_fd, part, 0);
  return FALSE;
}

gboolean
banger_disk_make_sparse (int dir_fd, const char *name, guint64 bytes, GError **error)
{
  if (exists (dir_fd, name))
    return TRUE;
  g_autofree char *part = part_name (name);
  banger_autofd int fd = open_part (dir_fd, part, error);
  if (fd < 0)
    return FALSE;
  if (ftruncate (fd, (off_t)bytes) < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot size %s", name);
  else if (publish (fd, dir_fd, part, name, error))
    return TRUE;
  unlinkat (dir_fd, part, 0);
  return FALSE;
}

gboolean
banger_disk_remove (int dir_fd, const char *name, GError **error)
{
  g_autofree char *part = part_name (name);
  const char *const names[] = { name, part };
  int failed = 0;
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (unlinkat (dir_fd, names[i], 0) < 0 && errno != ENOENT)
      failed = errno;
  if (failed)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, failed, "cannot remove %s", name);
  return TRUE;
}
