/* A git work tree as a list of files and as a tar.
 * Called by workspace-send.c.
 * Never runs a program that the repository configures; never follows a link out of the tree. */
#include "manager/workspace.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <git2.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/safe-path.h"

#define MAX_NESTING 8

struct BangerWorkspace {
  char *root, *name;
  git_repository *repository;
};

static gboolean
git_failed (GError **error, BangerError code, const char *what)
{
  const git_error *last = git_error_last ();
  g_autofree char *text = banger_log_escape (last && last->message ? last->message : "unknown error", 256);
  return banger_set_error (error, code, "%s: %s", what, text);
}

/* git_libgit2_init(3) counts: never shut down, so that worker threads need not agree on the end. */
static void
git_ready (void)
{
  static gsize once;
  if (g_once_init_enter (&once)) {
    git_libgit2_init ();
    g_once_init_leave (&once, 1);
  }
}

/* The nearest folder upwards that holds `.git`: found here, so that core.worktree cannot choose another. */
static char *
find_top (const char *path)
{
  g_autofree char *folder = realpath (path, NULL);
  while (folder) {
    g_autofree char *git = g_build_filename (folder, ".git", NULL);
    if (g_file_test (git, G_FILE_TEST_EXISTS))
      return g_steal_pointer (&folder);
    char *slash = strrchr (folder, '/');
    if (slash == folder)
      break;
    *slash = '\0';
  }
  return NULL;
}

/* Opens the repository of exactly this work tree. */
static git_repository *
open_at (const char *top, GError **error)
{
  git_repository *repository = NULL;
  if (git_repository_open_ext (&repository, top, GIT_REPOSITORY_OPEN_NO_SEARCH, NULL) < 0) {
    git_failed (error, BANGER_ERROR_INVALID_PATH, top);
    return NULL;
  }
  const char *workdir = git_repository_workdir (repository);
  g_autofree char *real = workdir ? realpath (workdir, NULL) : NULL;
  if (g_strcmp0 (real, top) == 0)
    return repository;
  git_repository_free (repository);
  banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                    real ? "%s: its core.worktree is %s; name a work tree that is its own"
                         : "%s: a repository without files%s",
                    top, real ? real : "");
  return NULL;
}

BangerWorkspace *
banger_workspace_open (const char *path, GError **error)
{
  git_ready ();
  if (!g_path_is_absolute (path)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path '%s': an absolute path is needed", path);
    return NULL;
  }
  g_autofree char *top = find_top (path);
  if (!top || g_str_equal (top, "/")) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                      "path '%s' is not in a git work tree: name one, or run `git init` there", path);
    return NULL;
  }
  git_repository *repository = open_at (top, error);
  if (!repository)
    return NULL;
  BangerWorkspace *workspace = g_new0 (BangerWorkspace, 1);
  workspace->repository = repository;
  workspace->name = g_path_get_basename (top);
  workspace->root = g_steal_pointer (&top);
  return workspace;
}

void
banger_workspace_free (BangerWorkspace *workspace)
{
  if (!workspace)
    return;
  git_repository_free (workspace->repository);
  g_free (workspace->root);
  g_free (workspace->name);
  g_free (workspace);
}

const char *
banger_workspace_name (BangerWorkspace *workspace)
{
  return workspace->name;
}

const char *
banger_workspace_root (BangerWorkspace *workspace)
{
  return workspace->root;
}

typedef struct {
  const char *root;
  GHashTable *paths; /* set of char *, relative to root */
  GCancellable *cancellable;
} Listing;

static gboolean list_repository (Listing *listing, git_repository *repository, const char *prefix, guint depth,
                                 GError **error);

/* A submodule or an untracked repository inside the tree: its own files, or the bare folder where nothing is checked
 * out. */
static gboolean
list_nested (Listing *listing, const char *path, guint depth, GError **error)
{
  g_autofree char *folder = g_build_filename (listing->root, path, NULL);
  g_autofree char *git = g_build_filename (folder, ".git", NULL);
  g_autofree char *real = realpath (folder, NULL);
  g_autofree char *prefix = g_str_has_suffix (path, "/") ? g_strdup (path) : g_strconcat (path, "/", NULL);
  g_autofree char *plain = g_strndup (folder, strlen (folder) - (g_str_has_suffix (folder, "/") ? 1 : 0));
  /* Reached through a link: nothing of it is in the tree. */
  if (g_strcmp0 (real, plain) != 0)
    return TRUE;
  if (depth >= MAX_NESTING)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s: repositories nested more than %d deep", path,
                             MAX_NESTING);
  if (!g_file_test (git, G_FILE_TEST_EXISTS)) {
    g_hash_table_add (listing->paths, g_steal_pointer (&prefix));
    return TRUE;
  }
  git_repository *repository = open_at (plain, error);
  if (!repository)
    return FALSE;
  gboolean ok = list_repository (listing, repository, prefix, depth + 1, error);
  git_repository_free (repository);
  return ok;
}

static gboolean
list_tracked (Listing *listing, git_repository *repository, const char *prefix, guint depth, GError **error)
{
  git_index *index = NULL;
  if (git_repository_index (&index, repository) < 0)
    return git_failed (error, BANGER_ERROR_INVALID_PATH, "cannot read the index");
  gboolean ok = TRUE;
  for (size_t i = 0; ok && i < git_index_entrycount (index); i++) {
    const git_index_entry *entry = git_index_get_byindex (index, i);
    g_autofree char *path = g_strconcat (prefix, entry->path, NULL);
    if (entry->mode == GIT_FILEMODE_COMMIT)
      ok = list_nested (listing, path, depth, error);
    else
      g_hash_table_add (listing->paths, g_steal_pointer (&path)); /* conflict stages fall together */
  }
  git_index_free (index);
  return ok;
}

static gboolean
list_untracked (Listing *listing, git_repository *repository, const char *prefix, guint depth, GError **error)
{
  git_status_options options = GIT_STATUS_OPTIONS_INIT;
  options.show = GIT_STATUS_SHOW_WORKDIR_ONLY;
  options.flags = GIT_STATUS_OPT_INCLUDE_UNTRACKED | GIT_STATUS_OPT_RECURSE_UNTRACKED_DIRS
                  | GIT_STATUS_OPT_EXCLUDE_SUBMODULES | GIT_STATUS_OPT_DISABLE_PATHSPEC_MATCH;
  git_status_list *list = NULL;
  if (git_status_list_new (&list, repository, &options) < 0)
    return git_failed (error, BANGER_ERROR_INVALID_PATH, "cannot look for untracked files");
  gboolean ok = TRUE;
  for (size_t i = 0; ok && i < git_status_list_entrycount (list); i++) {
    const git_status_entry *entry = git_status_byindex (list, i);
    if (!(entry->status & GIT_STATUS_WT_NEW))
      continue;
    g_autofree char *path = g_strconcat (prefix, entry->index_to_workdir->new_file.path, NULL);
    if (g_str_has_suffix (path, "/"))
      ok = list_nested (listing, path, depth, error);
    else
      g_hash_table_add (listing->paths, g_steal_pointer (&path));
  }
  git_status_list_free (list);
  return ok;
}

static gboolean
list_repository (Listing *listing, git_repository *repository, const char *prefix, guint depth, GError **error)
{
  if (g_cancellable_set_error_if_cancelled (listing->cancellable, error))
    return FALSE;
  return list_tracked (listing, repository, prefix, depth, error)
         && list_untracked (listing, repository, prefix, depth, error);
}

static int
compare_paths (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *
banger_workspace_list (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  g_autoptr (GHashTable) paths = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Listing listing = { workspace->root, paths, cancellable };
  if (!list_repository (&listing, workspace->repository, "", 0, error))
    return NULL;
  GPtrArray *files = g_ptr_array_new_full (g_hash_table_size (paths), g_free);
  GHashTableIter iter;
  gpointer path;
  g_hash_table_iter_init (&iter, paths);
  while (g_hash_table_iter_next (&iter, &path, NULL)) {
    g_ptr_array_add (files, path);
    g_hash_table_iter_steal (&iter);
  }
  g_ptr_array_sort (files, compare_paths);
  return files;
}

/* What the writer of an archive needs. */
typedef struct {
  BangerWorkspace *workspace;
  struct archive *archive;
  int root_fd, socket_fd;
  guint64 *bytes;
  GCancellable *cancellable;
} Tar;

static la_ssize_t
tar_write (struct archive *archive, void *data, const void *buffer, size_t length)
{
  Tar *tar = data;
  ssize_t n;
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
tar_failed (Tar *tar, const char *path, GError **error)
{
  const char *text = archive_error_string (tar->archive);
  return banger_set_error (error, BANGER_ERROR_FAILED, "cannot send '%s': %s", path, text ? text : "unknown error");
}

/* A file that grew or shrank while it was read: the size in the header stands, the rest is cut or filled with zeros. */
static gboolean
tar_content (Tar *tar, int fd, guint64 size, const char *path, GError **error)
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
entry_new (Tar *tar, const char *path, const struct stat *st)
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
tar_entry (Tar *tar, struct archive_entry *entry, int fd, guint64 size, const char *path, GError **error)
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

static gboolean
tar_regular (Tar *tar, int parent, const char *leaf, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (parent, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ELOOP))
    return TRUE; /* changed under our eyes */
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
  if (!S_ISREG (st.st_mode))
    return TRUE;
  return tar_entry (tar, entry_new (tar, path, &st), fd, (guint64)st.st_size, path, error);
}

static gboolean
tar_link (Tar *tar, int parent, const char *leaf, const struct stat *st, const char *path, GError **error)
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
open_parent (Tar *tar, const char *path, const char **ret_leaf, GError **error)
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
tar_one (Tar *tar, const char *listed, GError **error)
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
tar_top (Tar *tar, GError **error)
{
  struct stat st;
  if (fstat (tar->root_fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "%s", tar->workspace->root);
  return tar_entry (tar, entry_new (tar, "", &st), -1, 0, tar->workspace->name, error);
}

static gboolean
tar_all (Tar *tar, GPtrArray *files, void (*progress) (double, gpointer), gpointer progress_data, GError **error)
{
  if (!tar_top (tar, error))
    return FALSE;
  for (guint i = 0; i < files->len; i++) {
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error) || !tar_one (tar, files->pdata[i], error))
      return FALSE;
    if (progress)
      progress ((i + 1.0) / files->len, progress_data);
  }
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
  Tar tar = { .workspace = workspace,
              .archive = archive_write_new (),
              .root_fd = root,
              .socket_fd = fd,
              .bytes = ret_bytes,
              .cancellable = cancellable };
  archive_write_set_format_pax_restricted (tar.archive);
  /* Names are bytes: without this, libarchive converts them by the locale. */
  archive_write_set_options (tar.archive, "pax:hdrcharset=BINARY");
  gboolean ok = archive_write_open (tar.archive, &tar, NULL, tar_write, NULL) == ARCHIVE_OK
                || tar_failed (&tar, workspace->name, error);
  ok = ok && tar_all (&tar, files, progress, progress_data, error);
  if (!ok)
    archive_write_fail (tar.archive);
  archive_write_free (tar.archive);
  return ok;
}
