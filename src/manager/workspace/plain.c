/* A folder as a list of files, whatever git would say of it.
 * Called in worker threads.
 * Never takes a repository along, follows a link or leaves the folder's file system. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/log.h"
#include "common/safe-path.h"
#include "manager/workspace/private.h"

#define MAX_DEPTH 64

typedef struct {
  BangerWorkspace *workspace;
  GPtrArray *folders; /* that are still to be looked into, each with its path; "" is the top */
  dev_t device;
  gsize bytes;
  guint others; /* what is neither a file, a link nor a folder */
  GCancellable *cancellable;
} Walk;

static gboolean
cannot_read (const char *path, GError **error)
{
  int reason = errno;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, reason, "cannot read '%s'", shown);
}

/* An empty one is named by itself, as a file would be. */
static gboolean
add_folder (Walk *walk, char *path, const struct stat *st)
{
  guint depth = 0;
  for (const char *c = path; *c; c++)
    depth += *c == '/';
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  if (st->st_dev == walk->device && depth < MAX_DEPTH) {
    g_ptr_array_add (walk->folders, path);
    return TRUE;
  }
  workspace_note (walk->workspace,
                  depth < MAX_DEPTH ? "what is in '%s' stays behind: it is another file system"
                                    : "what is in '%s' stays behind: it is too deep",
                  shown);
  g_free (path);
  return TRUE;
}

static gboolean
add_entry (Walk *walk, int fd, const char *folder, const char *name, GError **error)
{
  struct stat st;
  if (strcmp (name, ".git") == 0)
    return TRUE;
  char *path = g_strconcat (folder, *folder ? "/" : "", name, NULL);
  walk->bytes += strlen (path) + 1;
  if (walk->bytes > WORKSPACE_MAX_LIST) {
    g_free (path);
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "the folder has too many files");
  }
  if (fstatat (fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
    gboolean gone = errno == ENOENT || cannot_read (path, error);
    g_free (path);
    return gone;
  }
  if (S_ISDIR (st.st_mode))
    return add_folder (walk, path, &st);
  if (S_ISREG (st.st_mode) || S_ISLNK (st.st_mode)) {
    g_ptr_array_add (walk->workspace->files, path);
    return TRUE;
  }
  walk->others++;
  g_free (path);
  return TRUE;
}

/* Returns: -1 with errno. */
static int
open_folder (const BangerWorkspace *workspace, const char *path)
{
  return *path ? banger_safe_openat (workspace->root_fd, path, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_XDEV, NULL)
               : openat (workspace->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static gboolean
look_into (Walk *walk, const char *path, GError **error)
{
  const struct dirent *entry;
  guint found = 0;
  gboolean ok = TRUE;
  banger_autofd int fd = open_folder (walk->workspace, path);
  banger_autofolder DIR *folder = banger_folder_take (banger_steal_fd (&fd));
  if (!folder)
    return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || cannot_read (*path ? path : ".", error);
  while (ok && (entry = banger_folder_next (folder))) {
    found++;
    ok = !g_cancellable_set_error_if_cancelled (walk->cancellable, error)
         && add_entry (walk, dirfd (folder), path, entry->d_name, error);
  }
  if (!ok || errno != 0)
    return !ok ? FALSE : cannot_read (path, error);
  if (found == 0 && *path)
    g_ptr_array_add (walk->workspace->files, g_strconcat (path, "/", NULL));
  return TRUE;
}

static int
compare_paths (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

gboolean
workspace_plain_list (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  struct stat st;
  if (fstat (workspace->root_fd, &st) < 0)
    return cannot_read (workspace->root, error);
  g_autoptr (GPtrArray) folders = g_ptr_array_new_with_free_func (g_free);
  Walk walk = { .workspace = workspace, .folders = folders, .device = st.st_dev, .cancellable = cancellable };
  g_ptr_array_add (folders, g_strdup (""));
  while (folders->len > 0) {
    g_autofree char *path = g_ptr_array_steal_index (folders, folders->len - 1);
    if (!look_into (&walk, path, error))
      return FALSE;
  }
  if (walk.others > 0)
    workspace_note (workspace, "%u thing%s behind that %s neither a file nor a link", walk.others,
                    walk.others == 1 ? " stays" : "s stay", walk.others == 1 ? "is" : "are");
  g_ptr_array_sort (workspace->files, compare_paths);
  return TRUE;
}
