/* The repository behind a work tree, for the guest: history, branches and index, nothing that names this host.
 * Called by workspace-tar.c.
 * Never sends its configuration, hooks or logs: they may hold secrets and programs. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/workspace-private.h"

#define MAX_DEPTH 32

static const char guest_config[] = "[core]\n"
                                   "\trepositoryformatversion = 0\n"
                                   "\tfilemode = true\n"
                                   "\tbare = false\n"
                                   "\tlogallrefupdates = true\n";

/* @name below @dir_fd, if it is a regular file; links and what is missing are passed over. */
static gboolean
send_file (WorkspaceTar *tar, int dir_fd, const char *name, const char *path, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ELOOP))
    return TRUE;
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
  return !S_ISREG (st.st_mode) || workspace_tar_fd (tar, fd, &st, path, error);
}

static gboolean send_folder (WorkspaceTar *tar, int dir_fd, const char *name, const char *path, guint depth,
                             GError **error);

static gboolean
send_entry (WorkspaceTar *tar, int dir_fd, const struct dirent *entry, const char *folder, guint depth, GError **error)
{
  g_autofree char *path = g_strconcat (folder, "/", entry->d_name, NULL);
  struct stat st;
  if (entry->d_name[0] == '.' || g_str_has_suffix (entry->d_name, ".lock") || g_str_has_prefix (entry->d_name, "tmp_"))
    return TRUE;
  if (fstatat (dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read '%s'", path);
  if (S_ISDIR (st.st_mode))
    return send_folder (tar, dir_fd, entry->d_name, path, depth + 1, error);
  return send_file (tar, dir_fd, entry->d_name, path, error);
}

static gboolean
send_folder (WorkspaceTar *tar, int dir_fd, const char *name, const char *path, guint depth, GError **error)
{
  int fd = depth > MAX_DEPTH ? -1 : openat (dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *dir = fd >= 0 ? fdopendir (fd) : NULL;
  if (!dir)
    return TRUE;
  gboolean ok = TRUE;
  const struct dirent *entry;
  while (ok && (entry = readdir (dir)))
    ok = !g_cancellable_set_error_if_cancelled (tar->cancellable, error)
         && send_entry (tar, dirfd (dir), entry, path, depth, error);
  closedir (dir);
  return ok;
}

/* A `.git` that is a folder belongs to the tree. One that is a file names another place: it must be named back from
 * there, or any folder with such a file in it could have a private repository sent along. */
static gboolean
belongs_to_tree (WorkspaceTar *tar, const char *git_dir)
{
  struct stat st;
  if (fstatat (tar->root_fd, ".git", &st, AT_SYMLINK_NOFOLLOW) < 0)
    return FALSE;
  if (S_ISDIR (st.st_mode))
    return TRUE;
  g_autofree char *back = g_build_filename (git_dir, "gitdir", NULL);
  g_autofree char *ours = g_build_filename (tar->workspace->root, ".git", NULL);
  g_autofree char *text = NULL;
  return S_ISREG (st.st_mode) && g_file_get_contents (back, &text, NULL, NULL) && g_str_equal (g_strstrip (text), ours);
}

/* Objects that are kept elsewhere cannot go along as files. */
static gboolean
borrows_objects (int common_fd)
{
  return faccessat (common_fd, "objects/info/alternates", F_OK, 0) == 0;
}

gboolean
workspace_tar_git (WorkspaceTar *tar, GError **error)
{
  static const char *const own[] = { "HEAD", "index" };
  static const char *const shared[] = { "packed-refs", "shallow" };
  static const char *const folders[] = { "refs", "objects" };
  const char *git_dir = git_repository_path (tar->workspace->repository);
  banger_autofd int git_fd = open (git_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  banger_autofd int common_fd = open (git_repository_commondir (tar->workspace->repository),
                                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (git_fd < 0 || common_fd < 0 || !belongs_to_tree (tar, git_dir) || borrows_objects (common_fd))
    return TRUE;
  gboolean ok = workspace_tar_text (tar, guest_config, ".git/config", error);
  for (guint i = 0; ok && i < G_N_ELEMENTS (folders); i++) {
    g_autofree char *path = g_strconcat (".git/", folders[i], NULL);
    struct stat st = { .st_mode = S_IFDIR | 0755 };
    g_autofree char *folder = g_strconcat (path, "/", NULL);
    ok = workspace_tar_fd (tar, -1, &st, folder, error) && send_folder (tar, common_fd, folders[i], path, 0, error);
  }
  for (guint i = 0; ok && i < G_N_ELEMENTS (shared); i++) {
    g_autofree char *path = g_strconcat (".git/", shared[i], NULL);
    ok = send_file (tar, common_fd, shared[i], path, error);
  }
  for (guint i = 0; ok && i < G_N_ELEMENTS (own); i++) {
    g_autofree char *path = g_strconcat (".git/", own[i], NULL);
    ok = send_file (tar, git_fd, own[i], path, error);
  }
  return ok && send_file (tar, common_fd, "info/exclude", ".git/info/exclude", error);
}
