/* The loop over SEEK_DATA and SEEK_HOLE, lseek(2).
 * Runs in worker threads.
 * Never takes an error for the end: a disk of zeros would be called done. */
#include "common/sparse-copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"

#define PIECE_BYTES (8 << 20)
#define BUFFER_BYTES ((size_t)1 << 20)

static gboolean
failed (const BangerSparseCopy *copy, int errnum, GError **error)
{
  return banger_set_error_errno (error, errnum == ENOSPC ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errnum,
                                 "cannot copy %s", copy->name);
}

/* For file systems between which copy_file_range(2) does not work. Returns: as copy_file_range(2). */
static ssize_t
copy_by_buffer (const BangerSparseCopy *copy, off_t offset, size_t length)
{
  g_autofree char *buffer = g_malloc (MIN (length, BUFFER_BYTES));
  ssize_t n = banger_read_at (copy->from, buffer, MIN (length, BUFFER_BYTES), offset);
  return n > 0 && banger_write_at (copy->to, buffer, (size_t)n, offset) < 0 ? -1 : n;
}

static ssize_t
copy_piece (const BangerSparseCopy *copy, off_t offset, size_t length)
{
  off_t in = offset, out = offset;
  ssize_t n = copy_file_range (copy->from, &in, copy->to, &out, length, 0);
  /* 0 at what was data a moment ago: kernels before 5.19 say so for files that they make up as they are read. */
  if (n == 0 || (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)))
    return copy_by_buffer (copy, offset, length);
  return n;
}

static gboolean
copy_extent (const BangerSparseCopy *copy, off_t from, off_t to, GError **error)
{
  while (from < to) {
    if (g_cancellable_set_error_if_cancelled (copy->cancellable, error))
      return FALSE;
    ssize_t n = copy_piece (copy, from, (size_t)MIN (to - from, PIECE_BYTES));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return failed (copy, n < 0 ? errno : EIO, error);
    from += n;
    if (copy->progress)
      copy->progress ((double)from / (double)copy->size, copy->progress_data);
  }
  return TRUE;
}

/* ENXIO is the end, if the file is still as long as it was. */
static gboolean
check_end (const BangerSparseCopy *copy, int errnum, GError **error)
{
  struct stat st;
  if (errnum != ENXIO || fstat (copy->from, &st) < 0)
    return failed (copy, errnum, error);
  return (guint64)st.st_size >= copy->size
         || banger_set_error (error, BANGER_ERROR_FAILED, "cannot copy %s: it became shorter meanwhile", copy->name);
}

gboolean
banger_sparse_copy (const BangerSparseCopy *copy, GError **error)
{
  off_t end = (off_t)copy->size;
  if (g_cancellable_set_error_if_cancelled (copy->cancellable, error))
    return FALSE;
  if (ioctl (copy->to, FICLONE, copy->from) == 0)
    return TRUE;
  if (ftruncate (copy->to, end) < 0)
    return failed (copy, errno, error);
  for (off_t data = 0; data < end;) {
    data = lseek (copy->from, data, SEEK_DATA);
    if (data < 0)
      return check_end (copy, errno, error);
    off_t hole = data < end ? lseek (copy->from, data, SEEK_HOLE) : end;
    if (hole < 0)
      return failed (copy, errno, error);
    if (!copy_extent (copy, data, MIN (hole, end), error))
      return FALSE;
    data = hole;
  }
  return TRUE;
}
