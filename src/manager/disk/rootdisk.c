/* Disks of a VM as files of the owner: root disk copied from an image, work disk from the image's seed.
 * Runs in worker threads.
 * Never leaves half a disk under its final name, but one that was reserved for a start that is under way. */
#include "manager/disk/rootdisk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"
#include "common/sparse-copy.h"

static char *
part_name (const char *name)
{
  return g_strconcat (name, ".part", NULL);
}

/* Makes @name whole by rename, then its directory entry durable. */
static gboolean
publish (int fd, int dir_fd, const char *part, const char *name, GError **error)
{
  if (fsync (fd) < 0 || renameat (dir_fd, part, dir_fd, name) < 0 || fsync (dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot finish %s", name);
  return TRUE;
}

/* What could not be removed was emptied, and is none. */
static gboolean
exists (int dir_fd, const char *name)
{
  struct stat st;
  return fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (!S_ISREG (st.st_mode) || st.st_size > 0);
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

/* A pipe under the name is no disk, and holds nobody. */
static int
open_source (int dir_fd, const char *name, struct stat *ret_st, GError **error)
{
  banger_autofd int fd = banger_safe_openat (dir_fd, name, O_RDONLY | O_NONBLOCK, 0, BANGER_SAFE_NONE, error);
  if (fd < 0 || !banger_safe_check_regular (fd, geteuid (), 0, name, ret_st, error))
    return -1;
  return banger_steal_fd (&fd);
}

gboolean
banger_disk_copy (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, guint64 bytes,
                  gboolean durable, BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                  GError **error)
{
  if (exists (to_dir_fd, to_name))
    return TRUE;
  struct stat st;
  banger_autofd int from = open_source (from_dir_fd, from_name, &st, error);
  if (from < 0)
    return FALSE;
  if (bytes != 0 && bytes < (guint64)st.st_size)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                             "%s: %" G_GUINT64_FORMAT " bytes are less than the %jd of its source", to_name, bytes,
                             (intmax_t)st.st_size);
  g_autofree char *part = part_name (to_name);
  banger_autofd int to = open_part (to_dir_fd, part, error);
  if (to < 0)
    return FALSE;
  const BangerSparseCopy copy = { .from = from,
                                  .to = to,
                                  .size = (guint64)st.st_size,
                                  .name = to_name,
                                  .progress = progress,
                                  .progress_data = progress_data,
                                  .cancellable = cancellable };
  gboolean ok = banger_sparse_copy (&copy, error);
  if (ok && ftruncate (to, bytes ? (off_t)bytes : st.st_size) < 0)
    ok = banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot size %s", to_name);
  if (ok
      && (durable ? publish (to, to_dir_fd, part, to_name, error)
                  : renameat (to_dir_fd, part, to_dir_fd, to_name) == 0))
    return TRUE;
  unlinkat (to_dir_fd, part, 0);
  return FALSE;
}

gboolean
banger_disk_reserve (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, GError **error)
{
  struct stat st;
  banger_autofd int from = open_source (from_dir_fd, from_name, &st, error);
  if (from < 0)
    return FALSE;
  if (!exists (to_dir_fd, to_name))
    (void)unlinkat (to_dir_fd, to_name, 0);
  banger_autofd int to = openat (to_dir_fd, to_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (to >= 0 && ftruncate (to, st.st_size) == 0)
    return TRUE;
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", to_name);
  if (to >= 0)
    (void)unlinkat (to_dir_fd, to_name, 0);
  return FALSE;
}

gboolean
banger_disk_fill (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, gboolean durable,
                  GCancellable *cancellable, GError **error)
{
  struct stat st;
  banger_autofd int from = open_source (from_dir_fd, from_name, &st, error);
  if (from < 0)
    return FALSE;
  banger_autofd int to = openat (to_dir_fd, to_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (to < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", to_name);
  const BangerSparseCopy copy = {
    .from = from, .to = to, .size = (guint64)st.st_size, .name = to_name, .cancellable = cancellable
  };
  if (!banger_sparse_copy (&copy, error))
    return FALSE;
  return !durable || (fsync (to) == 0 && fsync (to_dir_fd) == 0)
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot finish %s", to_name);
}

/* Half a disk that stays would be taken for a whole one. */
static void
make_empty (int dir_fd, const char *name)
{
  banger_autofd int fd = openat (dir_fd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0)
    (void)!ftruncate (fd, 0);
}

gboolean
banger_disk_remove (int dir_fd, const char *name, GError **error)
{
  g_autofree char *part = part_name (name);
  const char *const names[] = { name, part };
  int failed = 0;
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (unlinkat (dir_fd, names[i], 0) < 0 && errno != ENOENT) {
      failed = errno;
      make_empty (dir_fd, names[i]);
    }
  if (failed)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, failed, "cannot remove %s", name);
  return TRUE;
}
