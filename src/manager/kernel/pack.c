/* A walk over a folder of modules, written with libarchive.
 * Runs in worker threads.
 * Never looks into what it packs, never follows a link below the folder. */
#include "manager/kernel/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"

#define TEMPORARY "modules.tar"
#define MAX_FILES 100000
#define MAX_DEPTH 16
#define MAX_MODULE_BYTES ((off_t)64 << 20)
#define COPY_BYTES ((size_t)256 << 10)

typedef struct {
  struct archive *tar;
  guint n_files;
  char *buffer;
  GCancellable *cancellable;
} Pack;

static gboolean
not_written (const Pack *pack, GError **error)
{
  int errnum = archive_errno (pack->tar);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errnum > 0 ? errnum : EIO, "cannot collect the modules");
}

static gboolean
copy (const Pack *pack, int fd, const char *path, off_t size, GError **error)
{
  for (off_t at = 0; at < size;) {
    size_t n = MIN (COPY_BYTES, (size_t)(size - at));
    if (banger_read_exactly (fd, pack->buffer, n, at) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
    if (archive_write_data (pack->tar, pack->buffer, n) != (la_ssize_t)n)
      return not_written (pack, error);
    at += (off_t)n;
  }
  return TRUE;
}

static gboolean
is_wanted (const char *name)
{
  return strcmp (name, "modules.builtin") == 0 || g_str_has_suffix (name, ".ko") || strstr (name, ".ko.");
}

static gboolean
pack_file (const Pack *pack, int dir_fd, const char *name, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
  if (!S_ISREG (st.st_mode))
    return TRUE;
  if (st.st_size > MAX_MODULE_BYTES)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "%s has more than %d MiB", path,
                             (int)(MAX_MODULE_BYTES >> 20));
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_set_pathname (entry, path);
  archive_entry_set_filetype (entry, AE_IFREG);
  archive_entry_set_perm (entry, 0644);
  archive_entry_set_size (entry, st.st_size);
  int r = archive_write_header (pack->tar, entry);
  archive_entry_free (entry);
  return r == ARCHIVE_OK ? copy (pack, fd, path, st.st_size, error) : not_written (pack, error);
}

static gboolean pack_folder (Pack *pack, int fd, const char *below, guint depth, GError **error);

static gboolean
pack_subfolder (Pack *pack, int dir_fd, const char *name, const char *path, guint depth, GError **error)
{
  if (depth == MAX_DEPTH)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "%s is too deep", path);
  int fd = openat (dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return pack_folder (pack, fd, path, depth + 1, error);
}

static gboolean
pack_entry (Pack *pack, int dir_fd, const char *name, const char *below, guint depth, GError **error)
{
  struct stat st;
  g_autofree char *path = below[0] != '\0' ? g_build_filename (below, name, NULL) : g_strdup (name);
  if (g_cancellable_is_cancelled (pack->cancellable))
    return banger_set_error (error, BANGER_ERROR_CANCELLED, "kernel import cancelled");
  if (++pack->n_files > MAX_FILES)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the folder of modules holds more than %d files",
                             MAX_FILES);
  if (fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
  if (S_ISDIR (st.st_mode))
    return pack_subfolder (pack, dir_fd, name, path, depth, error);
  return !S_ISREG (st.st_mode) || !is_wanted (name) || pack_file (pack, dir_fd, name, path, error);
}

/* @fd: (transfer full): or -1 with errno. */
static gboolean
pack_folder (Pack *pack, int fd, const char *below, guint depth, GError **error)
{
  banger_autofolder DIR *dir = banger_folder_take (fd);
  gboolean ok = TRUE;
  const struct dirent *entry;
  while (ok && (entry = banger_folder_next (dir)))
    ok = pack_entry (pack, dirfd (dir), entry->d_name, below, depth, error);
  if (ok && errno != 0)
    ok = banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot list %s",
                                 below[0] != '\0' ? below : "the folder of modules");
  return ok;
}

static gboolean
pack_all (Pack *pack, int modules_fd, int tar_fd, GError **error)
{
  /* Anew, as it is read from its beginning and closed. */
  int fd = openat (modules_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open the folder of modules");
  archive_write_set_format_pax_restricted (pack->tar);
  if (archive_write_open_fd (pack->tar, tar_fd) != ARCHIVE_OK) {
    close (fd);
    return not_written (pack, error);
  }
  return pack_folder (pack, fd, "", 0, error)
         && (archive_write_close (pack->tar) == ARCHIVE_OK || not_written (pack, error));
}

int
banger_kernel_pack_modules (int modules_fd, int dir_fd, GCancellable *cancellable, GError **error)
{
  banger_autofd int tar_fd = openat (dir_fd, TEMPORARY, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (tar_fd < 0 || unlinkat (dir_fd, TEMPORARY, 0) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a file for the modules");
    return -1;
  }
  g_autofree char *buffer = g_malloc (COPY_BYTES);
  Pack pack = { .tar = archive_write_new (), .buffer = buffer, .cancellable = cancellable };
  gboolean ok = pack_all (&pack, modules_fd, tar_fd, error);
  archive_write_free (pack.tar);
  return ok ? banger_steal_fd (&tar_fd) : -1;
}
