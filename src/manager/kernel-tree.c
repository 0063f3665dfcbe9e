/* Walks over a .deb (two nested libarchive readers) and over a directory.
 * Called by kernel-import.c.
 * Never unpacks to disk: names in a package decide nothing. */
#include "manager/kernel-tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/unpack.h"

#define MAX_FILES 100000
#define MAX_DEPTH 16
#define MAX_UNPACKED_BYTES (4ull << 30)
#define READ_BLOCK (1 << 18)

struct BangerTreeFile {
  const char *path;
  struct archive *archive; /* NULL: fd */
  int fd;
  guint64 size;
};

typedef struct {
  struct archive *outer;
  int fd;
  guint64 file_bytes, unpacked_bytes;
  const BangerTreeWalk *walk;
} Deb;

static gboolean
check_cancelled (GCancellable *cancellable, GError **error)
{
  return g_cancellable_is_cancelled (cancellable)
             ? banger_set_error (error, BANGER_ERROR_CANCELLED, "kernel import cancelled")
             : TRUE;
}

static GBytes *
read_part (BangerTreeFile *file, GError **error)
{
  g_autofree guint8 *data = g_malloc (file->size + 1);
  guint64 used = 0;
  while (used < file->size) {
    gssize n = file->archive ? archive_read_data (file->archive, data + used, file->size - used)
                             : read (file->fd, data + used, file->size - used);
    if (n <= 0) {
      banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "cannot read %s: %s", file->path,
                        n == 0          ? "it is cut short"
                        : file->archive ? archive_error_string (file->archive)
                                        : g_strerror (errno));
      return NULL;
    }
    used += (guint64)n;
  }
  return g_bytes_new_take (g_steal_pointer (&data), used);
}

GBytes *
banger_tree_file_read (BangerTreeFile *file, gsize max, GError **error)
{
  if (file->size <= max)
    return read_part (file, error);
  banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                    "%s has %" G_GUINT64_FORMAT " MiB, more than the %" G_GSIZE_FORMAT " MiB that are allowed",
                    file->path, file->size >> 20, max >> 20);
  return NULL;
}

static la_ssize_t
on_inner_read (struct archive *inner, void *user_data, const void **data)
{
  Deb *deb = user_data;
  size_t size = 0;
  la_int64_t offset;
  if (g_cancellable_is_cancelled (deb->walk->cancellable))
    return -1;
  int r = archive_read_data_block (deb->outer, data, &size, &offset);
  if (deb->walk->progress && deb->file_bytes > 0)
    deb->walk->progress ((double)archive_filter_bytes (deb->outer, -1) / (double)deb->file_bytes, deb->walk->user_data);
  if (r == ARCHIVE_EOF)
    return 0;
  if (r == ARCHIVE_OK)
    return (la_ssize_t)size;
  archive_set_error (inner, archive_errno (deb->outer), "%s", archive_error_string (deb->outer));
  return -1;
}

/* "./lib/x" and "lib/x" are the same; nothing else is normal in a package. */
static const char *
plain_path (const char *path)
{
  if (path == NULL)
    return NULL;
  while (g_str_has_prefix (path, "./"))
    path += 2;
  if (path[0] == '/')
    return NULL;
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **part = parts; *part != NULL; part++)
    if (g_str_equal (*part, ".."))
      return NULL;
  return path;
}

static gboolean
visit_entry (Deb *deb, struct archive *inner, struct archive_entry *entry, gboolean *ret_stop, GError **error)
{
  const char *path = plain_path (archive_entry_pathname (entry));
  if (path == NULL) {
    g_autofree char *shown = g_strescape (archive_entry_pathname (entry) ? archive_entry_pathname (entry) : "", NULL);
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the package holds the path '%s', which leads out of it", shown);
  }
  if (archive_entry_filetype (entry) != AE_IFREG || archive_entry_hardlink (entry) != NULL)
    return TRUE;
  BangerTreeFile file = { .path = path, .archive = inner, .fd = -1, .size = (guint64)archive_entry_size (entry) };
  deb->unpacked_bytes += file.size;
  if (archive_entry_size (entry) < 0 || deb->unpacked_bytes > MAX_UNPACKED_BYTES)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package unpacks to more than %llu GiB",
                             MAX_UNPACKED_BYTES >> 30);
  return deb->walk->visit (path, &file, deb->walk->user_data, ret_stop, error);
}

static gboolean
walk_inner (Deb *deb, struct archive *inner, GError **error)
{
  gboolean stop = FALSE;
  for (guint n = 0; !stop; n++) {
    struct archive_entry *entry;
    int r = archive_read_next_header (inner, &entry);
    if (r == ARCHIVE_EOF)
      return TRUE;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package's files cannot be read: %s",
                               archive_error_string (inner));
    if (n == MAX_FILES)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds more than %d files", MAX_FILES);
    if (!visit_entry (deb, inner, entry, &stop, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
walk_data_member (Deb *deb, GError **error)
{
  struct archive *inner = archive_read_new ();
  banger_unpack_add_filters (inner);
  archive_read_support_format_tar (inner);
  gboolean ok;
  if (archive_read_open (inner, deb, NULL, on_inner_read, NULL) == ARCHIVE_OK)
    ok = walk_inner (deb, inner, error);
  else
    ok = banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package's data cannot be read: %s",
                           archive_error_string (inner));
  archive_read_free (inner);
  return ok;
}

static gboolean
walk_outer (Deb *deb, GError **error)
{
  struct archive_entry *entry;
  if (archive_read_open_fd (deb->outer, deb->fd, READ_BLOCK) != ARCHIVE_OK)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a Debian package: %s",
                             archive_error_string (deb->outer));
  while (archive_read_next_header (deb->outer, &entry) == ARCHIVE_OK) {
    const char *name = archive_entry_pathname (entry);
    if (name != NULL && g_str_has_prefix (name, "data.tar"))
      return walk_data_member (deb, error);
  }
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a Debian package: it has no data member");
}

gboolean
banger_tree_walk_deb (int fd, const BangerTreeWalk *walk, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0 || lseek (fd, 0, SEEK_SET) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the package");
  Deb deb = { .outer = archive_read_new (), .fd = fd, .file_bytes = (guint64)st.st_size, .walk = walk };
  archive_read_support_format_ar (deb.outer);
  g_autoptr (GError) local = NULL;
  gboolean ok = walk_outer (&deb, &local);
  archive_read_free (deb.outer);
  /* A cancelled read looks like a damaged package. */
  if (!check_cancelled (walk->cancellable, error))
    return FALSE;
  if (!ok)
    g_propagate_error (error, g_steal_pointer (&local));
  return ok;
}

typedef struct {
  const BangerTreeWalk *walk;
  guint n_files;
  gboolean stop;
} DirWalk;

static gboolean
visit_file (DirWalk *state, int dir_fd, const char *name, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
  if (!S_ISREG (st.st_mode))
    return TRUE;
  BangerTreeFile file = { .path = path, .fd = fd, .size = (guint64)st.st_size };
  return state->walk->visit (path, &file, state->walk->user_data, &state->stop, error);
}

static gboolean
walk_below (DirWalk *state, const char *root, const char *below, guint depth, GError **error)
{
  g_autofree char *full = g_build_filename (root, below, NULL);
  g_autoptr (GError) local = NULL;
  g_autoptr (GDir) dir = g_dir_open (full, 0, &local);
  if (dir == NULL)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s", local->message);
  banger_autofd int dir_fd = open (full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (const char *name = g_dir_read_name (dir); name != NULL && !state->stop; name = g_dir_read_name (dir)) {
    struct stat st;
    g_autofree char *path = below[0] ? g_build_filename (below, name, NULL) : g_strdup (name);
    if (!check_cancelled (state->walk->cancellable, error))
      return FALSE;
    if (++state->n_files > MAX_FILES)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "%s holds more than %d files", root, MAX_FILES);
    if (fstatat (dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
    if (S_ISDIR (st.st_mode) && (depth == MAX_DEPTH || !walk_below (state, root, path, depth + 1, error)))
      return depth == MAX_DEPTH ? banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "%s is too deep", path) : FALSE;
    if (S_ISREG (st.st_mode) && !visit_file (state, dir_fd, name, path, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
banger_tree_walk_dir (const char *path, const BangerTreeWalk *walk, GError **error)
{
  DirWalk state = { .walk = walk };
  return walk_below (&state, path, "", 0, error);
}
