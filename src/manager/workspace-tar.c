/* A git work tree as a tar.
 * Called by workspace-send.c.
 * Never follows a link out of the tree. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/workspace-private.h"

static la_ssize_t
tar_write (struct archive *archive, void *data, const void *buffer, size_t length)
{
  WorkspaceTar *tar = data;
  ssize_t n;
  if (tar->abandoned)
    return (la_ssize_t)length;
  do
    n = send (tar->socket_fd, buffer, length, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR && !g_cancellable_is_cancelled (tar->cancellable));
  if (n < 0) {
    archive_set_error (archive, errno, "the guest takes no more data: %s", g_strerror (errno));
    return -1;
  }
  __atomic_add_fetch (tar->bytes, (guint64)n, __ATOMIC_RELAXED);
  return n;
}

static gboolean
tar_failed (WorkspaceTar *tar, const char *path, GError **error)
{
  const char *text = archive_error_string (tar->archive);
  return banger_set_error (error, BANGER_ERROR_FAILED, "cannot send '%s': %s", path, text ? text : "unknown error");
}

/* A file that grew or shrank while it was read: the size in the header stands, the rest is cut or filled with zeros. */
static gboolean
tar_content (WorkspaceTar *tar, int fd, guint64 size, const char *path, GError **error)
{
  g_autofree char *buffer = g_malloc (128 << 10);
  while (size > 0) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error))
      return FALSE;
    ssize_t n = read (fd, buffer, MIN (size, 128 << 10));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
    if (n == 0)
      return TRUE; /* archive_write_finish_entry() pads */
    if (archive_write_data (tar->archive, buffer, (size_t)n) < 0)
      return tar_failed (tar, path, error);
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
  gboolean ok = archive_write_header (tar->archive, entry) >= ARCHIVE_WARN || tar_failed (tar, path, error);
  archive_entry_free (entry);
  if (ok && size > 0)
    ok = tar_content (tar, fd, size, path, error);
  if (ok && archive_write_finish_entry (tar->archive) < ARCHIVE_WARN)
    ok = tar_failed (tar, path, error);
  return ok;
}

gboolean
workspace_tar_fd (WorkspaceTar *tar, int fd, const struct stat *st, const char *path, GError **error)
{
  return tar_entry (tar, entry_new (tar, path, st), fd, (guint64)st->st_size, path, error);
}

gboolean
workspace_tar_text (WorkspaceTar *tar, const char *text, const char *path, GError **error)
{
  struct stat st = { .st_mode = S_IFREG | 0644 };
  struct archive_entry *entry = entry_new (tar, path, &st);
  size_t length = strlen (text);
  archive_entry_set_size (entry, (la_int64_t)length);
  gboolean ok = archive_write_header (tar->archive, entry) >= ARCHIVE_WARN
                && archive_write_data (tar->archive, text, length) == (la_ssize_t)length
                && archive_write_finish_entry (tar->archive) >= ARCHIVE_WARN;
  archive_entry_free (entry);
  return ok || tar_failed (tar, path, error);
}

static gboolean
tar_regular (WorkspaceTar *tar, int parent, const char *leaf, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (parent, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ELOOP))
    return TRUE; /* changed under our eyes */
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
  return !S_ISREG (st.st_mode) || workspace_tar_fd (tar, fd, &st, path, error);
}

static gboolean
tar_link (WorkspaceTar *tar, int parent, const char *leaf, const struct stat *st, const char *path, GError **error)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat (parent, leaf, target, sizeof target - 1);
  if (n < 0)
    return errno == ENOENT || errno == EINVAL
               ? TRUE
               : banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the link '%s'", path);
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
    return fcntl (tar->root_fd, F_DUPFD_CLOEXEC, 3);
  g_autofree char *folder = g_strndup (path, (gsize)(slash - path));
  g_autoptr (GError) own = NULL;
  int fd = banger_safe_openat (tar->root_fd, folder, O_PATH | O_DIRECTORY, 0, BANGER_SAFE_XDEV, &own);
  if (fd >= 0)
    return fd;
  /* A folder that became a link: its tracked files are deleted, as git sees it. */
  if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
    return -2;
  g_propagate_error (error, g_steal_pointer (&own));
  return -1;
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
    return errno == ENOENT || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
  if (folder && S_ISDIR (st.st_mode))
    return tar_entry (tar, entry_new (tar, path, &st), -1, 0, path, error);
  if (S_ISREG (st.st_mode))
    return tar_regular (tar, parent, leaf, path, error);
  if (S_ISLNK (st.st_mode))
    return tar_link (tar, parent, leaf, &st, path, error);
  return TRUE;
}

/* The top folder itself, so that an empty repository arrives too. */
static gboolean
tar_top (WorkspaceTar *tar, GError **error)
{
  struct stat st;
  if (fstat (tar->root_fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "%s", tar->workspace->root);
  return tar_entry (tar, entry_new (tar, "", &st), -1, 0, tar->workspace->name, error);
}

static gboolean
tar_all (WorkspaceTar *tar, GPtrArray *files, void (*progress) (double, gpointer), gpointer progress_data,
         GError **error)
{
  if (!tar_top (tar, error))
    return FALSE;
  for (guint i = 0; i < files->len; i++) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error) || !tar_one (tar, files->pdata[i], error))
      return FALSE;
    if (progress)
      progress ((i + 1.0) / files->len, progress_data);
  }
  if (!workspace_tar_git (tar, error))
    return FALSE;
  if (archive_write_close (tar->archive) != ARCHIVE_OK)
    return tar_failed (tar, tar->workspace->name, error);
  return TRUE;
}

gboolean
banger_workspace_write_tar (BangerWorkspace *workspace, GPtrArray *files, int fd, guint64 *ret_bytes,
                            void (*progress) (double, gpointer), gpointer progress_data, GCancellable *cancellable,
                            GError **error)
{
  banger_autofd int root = open (workspace->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "%s", workspace->root);
  WorkspaceTar tar = { .workspace = workspace,
                       .archive = archive_write_new (),
                       .root_fd = root,
                       .socket_fd = fd,
                       .bytes = ret_bytes,
                       .cancellable = cancellable };
  archive_write_set_format_gnutar (tar.archive); /* names of any length as bytes, whatever the locale */
  gboolean ok = archive_write_open (tar.archive, &tar, NULL, tar_write, NULL) == ARCHIVE_OK
                || tar_failed (&tar, workspace->name, error);
  ok = ok && tar_all (&tar, files, progress, progress_data, error);
  tar.abandoned = !ok; /* as in cpio.c: freeing closes; archive_write_fail() would lose libarchive's buffer */
  archive_write_free (tar.archive);
  return ok;
}
