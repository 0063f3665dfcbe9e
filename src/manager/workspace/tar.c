/* A git work tree as a tar.
 * Never follows a link out of the tree. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/safe-path.h"
#include "manager/workspace/private.h"

#define PENDING_BYTES (128 << 10)
#define MIN_SPARSE (64 << 10)
#define MAX_EXTENTS 10000

/* Both archives write here, so that their entries follow each other in one stream. */
static gboolean
flush (WorkspaceTar *tar, struct archive *archive)
{
  for (guint sent = 0; sent < tar->pending->len;) {
    ssize_t n = send (tar->socket_fd, tar->pending->data + sent, tar->pending->len - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR && !g_cancellable_is_cancelled (tar->cancellable))
      continue;
    if (n < 0) {
      archive_set_error (archive, errno, "the guest takes no more data: %s", g_strerror (errno));
      return FALSE;
    }
    __atomic_add_fetch (tar->bytes, (guint64)n, __ATOMIC_RELAXED);
    sent += (guint)n;
  }
  g_byte_array_set_size (tar->pending, 0);
  return TRUE;
}

static la_ssize_t
tar_write (struct archive *archive, void *data, const void *buffer, size_t length)
{
  WorkspaceTar *tar = data;
  if (tar->abandoned)
    return (la_ssize_t)length;
  length = MIN (length, PENDING_BYTES);
  g_byte_array_append (tar->pending, buffer, (guint)length);
  return tar->pending->len < PENDING_BYTES || flush (tar, archive) ? (la_ssize_t)length : -1;
}

static gboolean
tar_failed (struct archive *archive, const char *path, GError **error)
{
  const char *text = archive_error_string (archive);
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_FAILED, "cannot send '%s': %s", shown, text ? text : "unknown error");
}

static gboolean
cannot_read (const char *path, GError **error)
{
  int reason = errno;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  BangerError code = reason == EACCES || reason == EPERM ? BANGER_ERROR_ACCESS_DENIED : BANGER_ERROR_FAILED;
  return banger_set_error_errno (error, code, reason, "cannot read '%s'", shown);
}

/* A file that grew or shrank while it was read: the size in the header stands, the rest is cut or filled with zeros. */
static gboolean
tar_content (WorkspaceTar *tar, struct archive *archive, int fd, guint64 size, const char *path, GError **error)
{
  g_autofree char *buffer = g_malloc (128 << 10);
  while (size > 0) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error))
      return FALSE;
    ssize_t n = read (fd, buffer, MIN (size, 128 << 10));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return cannot_read (path, error);
    if (n == 0)
      return TRUE; /* archive_write_finish_entry() pads */
    if (archive_write_data (archive, buffer, (size_t)n) < 0)
      return tar_failed (archive, path, error);
    size -= (guint64)n;
  }
  return TRUE;
}

/* libarchive wants the bytes of a hole, too, and drops them. */
static gboolean
tar_hole (WorkspaceTar *tar, guint64 size, const char *path, GError **error)
{
  static char zeros[1 << 20]; /* never written: no page of it is ever made */
  while (size > 0) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error))
      return FALSE;
    la_ssize_t n = archive_write_data (tar->sparse, zeros, MIN (size, sizeof zeros));
    if (n <= 0)
      return tar_failed (tar->sparse, path, error);
    size -= (guint64)n;
  }
  return TRUE;
}

static struct archive_entry *
entry_new (WorkspaceTar *tar, const char *path, const struct stat *st)
{
  struct archive_entry *entry = archive_entry_new ();
  g_autofree char *name = g_strconcat (tar->workspace->name, "/", path, NULL);
  archive_entry_copy_pathname (entry, name);
  archive_entry_set_mode (entry, st->st_mode & (S_IFMT | 0777));
  archive_entry_set_mtime (entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
  archive_entry_set_uid (entry, 0);
  archive_entry_set_gid (entry, 0);
  archive_entry_set_uname (entry, "root");
  archive_entry_set_gname (entry, "root");
  return entry;
}

static gboolean
tar_entry (WorkspaceTar *tar, struct archive_entry *entry, int fd, guint64 size, const char *path, GError **error)
{
  archive_entry_set_size (entry, (la_int64_t)size);
  gboolean ok = archive_write_header (tar->archive, entry) >= ARCHIVE_WARN || tar_failed (tar->archive, path, error);
  archive_entry_free (entry);
  if (ok && size > 0)
    ok = tar_content (tar, tar->archive, fd, size, path, error);
  if (ok && archive_write_finish_entry (tar->archive) < ARCHIVE_WARN)
    ok = tar_failed (tar->archive, path, error);
  return ok;
}

typedef struct {
  guint64 offset, length;
} Extent;

/* Where the data of a file with holes are. Returns: NULL where the file system cannot say, or the file has too many. */
static GArray *
find_extents (int fd, guint64 size)
{
  g_autoptr (GArray) extents = g_array_new (FALSE, FALSE, sizeof (Extent));
  for (off_t at = 0; (guint64)at < size && extents->len < MAX_EXTENTS;) {
    off_t data = lseek (fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
      return g_steal_pointer (&extents);
    off_t hole = data < 0 ? -1 : lseek (fd, data, SEEK_HOLE);
    if (hole <= data)
      return NULL;
    Extent extent = { (guint64)data, MIN ((guint64)hole, size) - MIN ((guint64)data, size) };
    if (extent.length > 0)
      g_array_append_val (extents, extent);
    at = hole;
  }
  return extents->len < MAX_EXTENTS ? g_steal_pointer (&extents) : NULL;
}

static gboolean
tar_extents (WorkspaceTar *tar, GArray *extents, int fd, guint64 size, const char *path, GError **error)
{
  guint64 at = 0;
  for (guint i = 0; i < extents->len; i++) {
    const Extent *extent = &g_array_index (extents, Extent, i);
    if (lseek (fd, (off_t)extent->offset, SEEK_SET) < 0)
      return cannot_read (path, error);
    if (!tar_hole (tar, extent->offset - at, path, error)
        || !tar_content (tar, tar->sparse, fd, extent->length, path, error))
      return FALSE;
    at = extent->offset + extent->length;
  }
  return tar_hole (tar, size - at, path, error);
}

static gboolean
tar_sparse (WorkspaceTar *tar, struct archive_entry *entry, GArray *extents, int fd, guint64 size, const char *path,
            GError **error)
{
  archive_entry_set_size (entry, (la_int64_t)size);
  for (guint i = 0; i < extents->len; i++) {
    const Extent *extent = &g_array_index (extents, Extent, i);
    archive_entry_sparse_add_entry (entry, (la_int64_t)extent->offset, (la_int64_t)extent->length);
  }
  if (extents->len == 0)
    archive_entry_sparse_add_entry (entry, (la_int64_t)size, 0);
  gboolean ok = archive_write_header (tar->sparse, entry) >= ARCHIVE_WARN || tar_failed (tar->sparse, path, error);
  archive_entry_free (entry);
  ok = ok && tar_extents (tar, extents, fd, size, path, error);
  if (ok && archive_write_finish_entry (tar->sparse) < ARCHIVE_WARN)
    ok = tar_failed (tar->sparse, path, error);
  return ok;
}

gboolean
workspace_tar_fd (WorkspaceTar *tar, int fd, const struct stat *st, const char *path, GError **error)
{
  guint64 size = (guint64)st->st_size;
  if (fd >= 0 && size >= MIN_SPARSE && (guint64)st->st_blocks * 512 < size) {
    g_autoptr (GArray) extents = find_extents (fd, size);
    if (extents)
      return tar_sparse (tar, entry_new (tar, path, st), extents, fd, size, path, error);
    if (lseek (fd, 0, SEEK_SET) < 0)
      return cannot_read (path, error);
  }
  return tar_entry (tar, entry_new (tar, path, st), fd, size, path, error);
}

gboolean
workspace_tar_folder (WorkspaceTar *tar, const char *path, GError **error)
{
  struct stat st = { .st_mode = S_IFDIR | 0755 };
  return tar_entry (tar, entry_new (tar, path, &st), -1, 0, path, error);
}

gboolean
workspace_tar_text (WorkspaceTar *tar, const char *text, const char *path, GError **error)
{
  return workspace_tar_bytes (tar, text, strlen (text), path, error);
}

gboolean
workspace_tar_bytes (WorkspaceTar *tar, const void *bytes, gsize length, const char *path, GError **error)
{
  struct stat st = { .st_mode = S_IFREG | 0644 };
  struct archive_entry *entry = entry_new (tar, path, &st);
  archive_entry_set_size (entry, (la_int64_t)length);
  gboolean ok = archive_write_header (tar->archive, entry) >= ARCHIVE_WARN
                && (length == 0 || archive_write_data (tar->archive, bytes, length) == (la_ssize_t)length)
                && archive_write_finish_entry (tar->archive) >= ARCHIVE_WARN;
  archive_entry_free (entry);
  return ok || tar_failed (tar->archive, path, error);
}

static gboolean
tar_regular (WorkspaceTar *tar, int parent, const char *leaf, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (parent, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ELOOP))
    return TRUE; /* changed under our eyes */
  if (fd < 0 || fstat (fd, &st) < 0)
    return cannot_read (path, error);
  return !S_ISREG (st.st_mode) || workspace_tar_fd (tar, fd, &st, path, error);
}

static gboolean
tar_link (WorkspaceTar *tar, int parent, const char *leaf, const struct stat *st, const char *path, GError **error)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat (parent, leaf, target, sizeof target - 1);
  if (n < 0)
    return errno == ENOENT || errno == EINVAL || cannot_read (path, error);
  target[n] = '\0';
  struct archive_entry *entry = entry_new (tar, path, st);
  archive_entry_copy_symlink (entry, target);
  return tar_entry (tar, entry, -1, 0, path, error);
}

/* Returns: a descriptor of the folder that holds the last component; -2 if it is not there (any more). */
static int
open_parent (WorkspaceTar *tar, const char *path, const char **ret_leaf, GError **error)
{
  const char *slash = strrchr (path, '/');
  *ret_leaf = slash ? slash + 1 : path;
  if (!slash)
    return fcntl (tar->workspace->root_fd, F_DUPFD_CLOEXEC, 3);
  g_autofree char *folder = g_strndup (path, (gsize)(slash - path));
  g_autoptr (GError) own = NULL;
  int fd = banger_safe_openat (tar->workspace->root_fd, folder, O_PATH | O_DIRECTORY, 0, BANGER_SAFE_XDEV, &own);
  if (fd >= 0)
    return fd;
  /* A folder that became a link: its tracked files are deleted, as git sees it. */
  if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
    return -2;
  g_propagate_error (error, g_steal_pointer (&own));
  return -1;
}

/* Each folder of @path that was not named yet, before what is in it: else tar would go through a link that stood in its
 * place in the guest. The list is sorted, so those of the last path are all there is to know. */
static gboolean
tar_folders (WorkspaceTar *tar, const char *path, GError **error)
{
  struct stat st;
  for (const char *slash = strchr (path, '/'); slash && slash[1]; slash = strchr (slash + 1, '/')) {
    gsize length = (gsize)(slash - path);
    if (tar->folder && strncmp (tar->folder, path, length) == 0
        && (tar->folder[length] == '\0' || tar->folder[length] == '/'))
      continue;
    g_free (tar->folder);
    tar->folder = g_strndup (path, length);
    if (fstatat (tar->workspace->root_fd, tar->folder, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR (st.st_mode))
      return TRUE; /* gone since */
    if (!tar_entry (tar, entry_new (tar, tar->folder, &st), -1, 0, tar->folder, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
tar_one (WorkspaceTar *tar, const char *listed, GError **error)
{
  gsize length = strlen (listed);
  gboolean folder = length > 0 && listed[length - 1] == '/';
  g_autofree char *path = g_strndup (listed, length - (folder ? 1 : 0));
  const char *leaf;
  banger_autofd int parent = open_parent (tar, path, &leaf, error);
  if (parent == -2) {
    parent = -1;
    return TRUE;
  }
  struct stat st;
  if (parent < 0)
    return FALSE;
  if (fstatat (parent, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT || cannot_read (path, error);
  if (!tar_folders (tar, listed, error))
    return FALSE;
  if (folder && S_ISDIR (st.st_mode))
    return tar_entry (tar, entry_new (tar, path, &st), -1, 0, path, error);
  if (S_ISREG (st.st_mode))
    return tar_regular (tar, parent, leaf, path, error);
  if (S_ISLNK (st.st_mode))
    return tar_link (tar, parent, leaf, &st, path, error);
  return TRUE;
}

/* The top folder itself, so that an empty repository arrives too, and that from which the shell starts. */
static gboolean
tar_top (WorkspaceTar *tar, GError **error)
{
  BangerWorkspace *workspace = tar->workspace;
  struct stat st;
  if (fstat (workspace->root_fd, &st) < 0)
    return cannot_read (workspace->root, error);
  if (!tar_entry (tar, entry_new (tar, "", &st), -1, 0, workspace->name, error))
    return FALSE;
  g_autofree char *start = g_strconcat (workspace->prefix, "/.", NULL);
  return *workspace->prefix == '\0' || tar_folders (tar, start, error);
}

gboolean
workspace_tar_files (WorkspaceTar *tar, void (*progress) (double, gpointer), gpointer progress_data, GError **error)
{
  BangerWorkspace *workspace = tar->workspace;
  if (!tar_top (tar, error))
    return FALSE;
  for (guint i = 0; i < workspace->files->len; i++) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error)
        || !tar_one (tar, workspace->files->pdata[i], error))
      return FALSE;
    if (progress)
      progress ((i + 1.0) / workspace->files->len, progress_data);
  }
  return TRUE;
}

gboolean
workspace_tar_end (WorkspaceTar *tar, GError **error)
{
  return (archive_write_close (tar->archive) == ARCHIVE_OK && flush (tar, tar->archive))
         || tar_failed (tar->archive, tar->workspace->name, error);
}

/* Unbuffered: else the entries of two archives would not come in their order. */
static struct archive *
archive_open (WorkspaceTar *tar, int (*set_format) (struct archive *), GError **error)
{
  struct archive *archive = archive_write_new ();
  if (set_format (archive) == ARCHIVE_OK && archive_write_set_bytes_per_block (archive, 0) == ARCHIVE_OK
      && archive_write_open (archive, tar, NULL, tar_write, NULL) == ARCHIVE_OK)
    return archive;
  tar_failed (archive, tar->workspace->name, error);
  tar->abandoned = TRUE;
  archive_write_free (archive);
  return NULL;
}

static int
set_sparse_format (struct archive *archive)
{
  int r = archive_write_set_format_pax_restricted (archive);
  return r != ARCHIVE_OK ? r : archive_write_set_options (archive, "hdrcharset=BINARY");
}

gboolean
workspace_tar_begin (WorkspaceTar *tar, GError **error)
{
  tar->pending = g_byte_array_sized_new (2 * PENDING_BYTES);
  /* Names of any length as bytes, whatever the locale. */
  tar->archive = archive_open (tar, archive_write_set_format_gnutar, error);
  tar->sparse = tar->archive ? archive_open (tar, set_sparse_format, error) : NULL;
  return tar->sparse != NULL;
}

void
workspace_tar_clear (WorkspaceTar *tar)
{
  tar->abandoned = TRUE; /* as in cpio.c: freeing closes; archive_write_fail() would lose libarchive's buffer */
  if (tar->archive)
    archive_write_free (tar->archive);
  if (tar->sparse)
    archive_write_free (tar->sparse);
  g_byte_array_unref (tar->pending);
  g_free (tar->folder);
}
