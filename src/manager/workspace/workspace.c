/* A git work tree as a list of files.
 * Never decides what belongs to a tree: git does; never follows a link out of the tree. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/safe-path.h"
#include "manager/workspace/private.h"

#define MAX_NESTING 8
#define MAX_ANSWER (64 << 10)
#define MAX_CONFIG (16 << 20)
#define GUEST_HOME "/root"

/* What the list of one tree is made in. */
typedef struct {
  BangerWorkspace *workspace;
  GHashTable *paths;
  GCancellable *cancellable;
} Listing;

/* A path that git answers: everything but the newline that ends it. */
static char *
ask_path (const char *folder, const char *what, GCancellable *cancellable, GError **error)
{
  const char *const words[] = { "rev-parse", "--path-format=absolute", what, NULL };
  GString *answer = banger_git_run (folder, words, MAX_ANSWER, cancellable, error);
  if (!answer)
    return NULL;
  if (answer->len > 0 && answer->str[answer->len - 1] == '\n')
    g_string_truncate (answer, answer->len - 1);
  return g_string_free (answer, FALSE);
}

/* Whether `.git` in @top is or names the folder that git took. A configuration that says that the files are elsewhere
 * (core.worktree) would hand that place to the guest. */
static gboolean
is_top_of (const char *top, const char *git_dir)
{
  struct stat named, taken;
  g_autofree char *git = g_build_filename (top, ".git", NULL), *text = NULL;
  banger_autofd int fd = open (git, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &named) < 0 || stat (git_dir, &taken) < 0)
    return FALSE;
  if (S_ISREG (named.st_mode)) {
    char content[PATH_MAX + 16];
    ssize_t n = read (fd, content, sizeof content - 1);
    if (n < (ssize_t)strlen ("gitdir: ") || !g_str_has_prefix (content, "gitdir: "))
      return FALSE;
    content[n] = '\0';
    content[strcspn (content, "\r\n")] = '\0';
    text = g_canonicalize_filename (content + strlen ("gitdir: "), top);
    if (stat (text, &named) < 0)
      return FALSE;
  }
  return S_ISDIR (named.st_mode) && named.st_dev == taken.st_dev && named.st_ino == taken.st_ino;
}

/* "100644 <object> 0\tpath" */
static gboolean
is_entry (const char *line)
{
  gsize mode = strspn (line, "01234567"), object = line[mode] == ' ' ? strspn (line + mode + 1, "0123456789abcdef") : 0;
  const char *stage = line + mode + 1 + object;
  return mode == 6 && object > 0 && stage[0] == ' ' && strchr ("0123", stage[1]) && stage[1] && stage[2] == '\t'
         && stage[3];
}

/* A list that ends early, or says what nobody can read, would be a tree without files that are there. */
static gboolean
add_tracked (Listing *listing, WorkspaceRepository *repository, const GString *answer, GPtrArray *modules,
             GError **error)
{
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1) {
    if (!is_entry (at) || at + strlen (at) == end)
      return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                               "git lists its files in a way that is not known: look at what `git ls-files -s` says");
    char *path = g_strconcat (repository->prefix, strchr (at, '\t') + 1, NULL);
    if (g_str_has_prefix (at, "160000 "))
      g_ptr_array_add (modules, path);
    else
      g_hash_table_add (listing->paths, path);
  }
  return TRUE;
}

static void
add_untracked (Listing *listing, WorkspaceRepository *repository, const GString *answer, GPtrArray *nested)
{
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1) {
    gsize length = strlen (at);
    char *path = g_strconcat (repository->prefix, at, NULL);
    if (length == 0 || at[length - 1] != '/') {
      g_hash_table_add (listing->paths, path);
      listing->workspace->untracked++;
      continue;
    }
    path[strlen (path) - 1] = '\0';
    g_ptr_array_add (nested, path);
  }
}

static gboolean list_below (Listing *listing, const char *path, gboolean module, guint depth, GError **error);

/* The files of one repository and of those in it. */
static gboolean
list_repository (Listing *listing, WorkspaceRepository *repository, const char *top, guint depth, GError **error)
{
  static const char *const tracked[] = { "ls-files", "-z", "-s", NULL };
  static const char *const untracked[] = { "ls-files", "-z", "-o", "--exclude-standard", NULL };
  g_autoptr (GPtrArray) modules = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GPtrArray) nested = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GPtrArray) warnings = g_ptr_array_new_with_free_func (g_free);
  GString *answer = banger_git_run (top, tracked, WORKSPACE_MAX_LIST, listing->cancellable, error);
  if (!answer)
    return FALSE;
  gboolean known = add_tracked (listing, repository, answer, modules, error);
  g_string_free (answer, TRUE);
  if (!known)
    return FALSE;
  if (listing->workspace->tracked_only)
    answer = g_string_new (NULL);
  else if (!(answer = banger_git_run_warned (top, untracked, WORKSPACE_MAX_LIST, warnings, listing->cancellable,
                                             error)))
    return FALSE;
  for (guint i = 0; i < warnings->len; i++) /* of folders that it cannot look into */
    workspace_note (listing->workspace, "git in '%s': %s", top, (const char *)warnings->pdata[i]);
  add_untracked (listing, repository, answer, nested);
  if (*repository->prefix == '\0')
    workspace_base_add (listing->workspace, answer->str, answer->len);
  g_string_free (answer, TRUE);
  for (guint i = 0; i < modules->len; i++)
    if (!list_below (listing, modules->pdata[i], TRUE, depth + 1, error))
      return FALSE;
  for (guint i = 0; i < nested->len; i++)
    if (!list_below (listing, nested->pdata[i], FALSE, depth + 1, error))
      return FALSE;
  return TRUE;
}

static gboolean
is_in (const char *folder, const char *top)
{
  gsize length = strlen (top);
  return g_str_has_prefix (folder, top) && (folder[length] == '\0' || folder[length] == '/');
}

/* What git says of the work tree that @folder is in. Its top must be @folder or above, and hold the `.git` that git
 * took: a configuration that says otherwise could hand any place to the guest. */
static gboolean
ask_places (WorkspaceRepository *repository, const char *folder, char **ret_top, GCancellable *cancellable,
            GError **error)
{
  g_autofree char *top = ask_path (folder, "--show-toplevel", cancellable, error);
  if (!top || !(repository->git_dir = ask_path (folder, "--absolute-git-dir", cancellable, error))
      || !(repository->common_dir = ask_path (folder, "--git-common-dir", cancellable, error)))
    return FALSE;
  g_autofree char *where = banger_log_escape (folder, PATH_MAX), *said = banger_log_escape (top, PATH_MAX);
  if (g_str_equal (top, "/"))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                             "path '%s': the whole root folder is not copied into a guest", where);
  if (!is_in (folder, top) || !is_top_of (top, repository->git_dir))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                             "'%s': its core.worktree is '%s'; name a work tree that is its own", where, said);
  *ret_top = g_steal_pointer (&top);
  return TRUE;
}

/* core.worktree counts only in the repository's own files: git does not look for it in what they include. */
static void
check_worktree (WorkspaceRepository *repository, const char *top, GCancellable *cancellable)
{
  static const char *const files[] = { "config.worktree", "config" };
  for (guint i = 0; repository->worktree && i < G_N_ELEMENTS (files); i++) {
    g_autofree char *file = g_build_filename (repository->git_dir, files[i], NULL);
    const char *const words[] = { "config", "--file", file, "--no-includes", "--get", "core.worktree", NULL };
    GString *answer = banger_git_run (top, words, MAX_ANSWER, cancellable, NULL);
    if (answer) {
      g_string_free (answer, TRUE);
      return;
    }
  }
  g_clear_pointer (&repository->worktree, g_free);
}

static WorkspaceRepository *
open_repository (const char *folder, const char *prefix, char **ret_top, GCancellable *cancellable, GError **error)
{
  static const char *const words[] = { "config", "--list", "-z", "--show-scope", NULL };
  WorkspaceRepository *repository = g_new0 (WorkspaceRepository, 1);
  repository->prefix = g_strdup (prefix);
  GString *config = NULL;
  if (ask_places (repository, folder, ret_top, cancellable, error))
    config = banger_git_run (*ret_top, words, MAX_CONFIG, cancellable, error);
  if (!config) {
    workspace_repository_free (repository);
    return NULL;
  }
  workspace_repository_config (repository, config->str, config->len);
  g_string_free (config, TRUE);
  check_worktree (repository, *ret_top, cancellable);
  return repository;
}

/* git waits for a pipe in place of a file for ever. Here it is said at once for the places that it always looks at; for
 * the others there is the end of the time. */
static gboolean
check_files_of_git (const char *folder, GError **error)
{
  static const char *const files[] = { "config", "config.worktree", "HEAD", "index", "commondir", "packed-refs" };
  struct stat st;
  g_autofree char *at = g_strdup (folder), *git = NULL;
  while (at[1] && (git = g_build_filename (at, ".git", NULL)) && lstat (git, &st) < 0) {
    g_free (git);
    git = NULL;
    *MAX (strrchr (at, '/'), at + 1) = '\0';
  }
  for (guint i = 0; git && i < G_N_ELEMENTS (files); i++) {
    g_autofree char *file = g_build_filename (git, files[i], NULL);
    if (stat (file, &st) == 0 && !S_ISREG (st.st_mode)) {
      g_autofree char *shown = banger_log_escape (file, PATH_MAX);
      return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "git cannot use '%s': '%s' is not a file", folder,
                               shown);
    }
  }
  if (git && lstat (git, &st) == 0 && !S_ISREG (st.st_mode) && !S_ISDIR (st.st_mode) && !S_ISLNK (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "git cannot use '%s': '%s' is not a file", folder, git);
  return TRUE;
}

/* A folder that git takes for a repository of its own. One that cannot be used stays behind, with a word. */
static gboolean
list_nested (Listing *listing, const char *path, guint depth, GError **error)
{
  BangerWorkspace *workspace = listing->workspace;
  g_autofree char *top = g_build_filename (workspace->root, path, NULL);
  g_autofree char *prefix = g_strconcat (path, "/", NULL);
  g_autoptr (GError) own = NULL;
  g_autofree char *found = NULL;
  WorkspaceRepository *repository = check_files_of_git (top, &own)
                                        ? open_repository (top, prefix, &found, listing->cancellable, &own)
                                        : NULL;
  if (g_cancellable_set_error_if_cancelled (listing->cancellable, error)) {
    workspace_repository_free (repository);
    return FALSE;
  }
  if (repository && !g_str_equal (found, top)) {
    workspace_repository_free (repository);
    banger_set_error (&own, BANGER_ERROR_INVALID_PATH, "its '.git' leads nowhere");
  } else if (repository) {
    g_ptr_array_add (workspace->repositories, repository);
    if (list_repository (listing, repository, top, depth, &own))
      return TRUE;
    g_ptr_array_remove (workspace->repositories, repository);
    if (g_cancellable_set_error_if_cancelled (listing->cancellable, error))
      return FALSE;
  }
  workspace_note (workspace, "the repository '%s' stays behind: %s", path, own->message);
  return TRUE;
}

/* @module: the place of a submodule, which may be empty: then it is an empty folder there, too. */
static gboolean
list_below (Listing *listing, const char *path, gboolean module, guint depth, GError **error)
{
  BangerWorkspace *workspace = listing->workspace;
  banger_autofd int fd = banger_safe_openat (workspace->root_fd, path, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_XDEV,
                                             NULL);
  struct stat st;
  if (fd < 0) /* gone, or no folder any more */
    return TRUE;
  if (module && fstatat (fd, ".git", &st, AT_SYMLINK_NOFOLLOW) < 0) {
    g_hash_table_add (listing->paths, g_strconcat (path, "/", NULL));
    return TRUE;
  }
  if (depth <= MAX_NESTING)
    return list_nested (listing, path, depth, error);
  workspace_note (workspace, "the repository '%s' stays behind: more than %d are one in another", path, MAX_NESTING);
  return TRUE;
}

static int
compare_paths (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *
sort_paths (GHashTable *paths)
{
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

/* What is there of the list. A file that cannot be read is said before a VM is made, rather than in the middle of the
 * copy. */
static gboolean
look_at_files (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  for (guint i = 0; i < workspace->files->len; i++) {
    const char *path = workspace->files->pdata[i];
    struct stat st;
    if (g_cancellable_set_error_if_cancelled (cancellable, error))
      return FALSE;
    if (fstatat (workspace->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
      if (S_ISREG (st.st_mode) || S_ISLNK (st.st_mode))
        g_byte_array_append (workspace->present, (const guint8 *)path, (guint)strlen (path) + 1);
      if (!S_ISREG (st.st_mode) || faccessat (workspace->root_fd, path, R_OK, AT_EACCESS) == 0)
        continue;
    }
    if (errno != EACCES && errno != EPERM) /* deleted */
      continue;
    int reason = errno;
    g_autofree char *text = banger_log_escape (path, PATH_MAX);
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, reason, "cannot read '%s'", text);
  }
  return TRUE;
}

static gboolean
list_all (BangerWorkspace *workspace, WorkspaceRepository *repository, GCancellable *cancellable, GError **error)
{
  g_autoptr (GHashTable) paths = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Listing listing = { workspace, paths, cancellable };
  g_ptr_array_add (workspace->repositories, repository);
  if (!list_repository (&listing, repository, workspace->root, 0, error))
    return FALSE;
  g_ptr_array_unref (workspace->files);
  workspace->files = sort_paths (paths);
  if (!look_at_files (workspace, cancellable, error))
    return FALSE;
  for (guint i = 0; i < workspace->repositories->len; i++)
    if (!workspace_repository_find (workspace, workspace->repositories->pdata[i], cancellable, error))
      return FALSE;
  if (workspace->untracked > 0)
    workspace_note (workspace, "%u file%s along that git does not track", workspace->untracked,
                    workspace->untracked == 1 ? " goes" : "s go");
  return workspace_base_find (workspace, cancellable, error);
}

/* The folder without links, if it is one. */
static char *
resolve (const char *path, GError **error)
{
  g_autofree char *text = banger_log_escape (path, PATH_MAX);
  struct stat st;
  char *real = NULL;
  if (!g_path_is_absolute (path)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path '%s': an absolute path is needed", text);
    return NULL;
  }
  if (!(real = realpath (path, NULL)) || stat (real, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot use '%s'", text);
    g_clear_pointer (&real, free);
  } else if (!S_ISDIR (st.st_mode)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "'%s' is not a folder: name one in a git work tree", text);
    g_clear_pointer (&real, free);
  }
  return real;
}

/* git's own words, but for the one case that everybody meets. */
static WorkspaceRepository *
open_top (const char *folder, char **ret_top, GCancellable *cancellable, GError **error)
{
  g_autoptr (GError) own = NULL;
  WorkspaceRepository *repository = open_repository (folder, "", ret_top, cancellable, &own);
  g_autofree char *text = banger_log_escape (folder, PATH_MAX);
  if (!repository && strstr (own->message, "not a git repository (or any"))
    banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                      "path '%s' is not in a git work tree: name one, or run `git init` there", text);
  else if (!repository && strstr (own->message, "must be run in a work tree"))
    banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                      "path '%s' is a repository without a work tree: clone it, and name the clone", text);
  else if (!repository)
    g_propagate_error (error, g_steal_pointer (&own));
  return repository;
}

static void
give_names (BangerWorkspace *workspace, const char *folder)
{
  g_autofree char *base = g_path_get_basename (workspace->root);
  const char *name = base + strspn (base, ".");
  workspace->name = g_strdup (*name ? name : "workspace");
  folder += strlen (workspace->root);
  workspace->prefix = g_strdup (*folder == '/' ? folder + 1 : folder);
  workspace->folder = g_strconcat (GUEST_HOME "/", workspace->name, *workspace->prefix ? "/" : "", workspace->prefix,
                                   NULL);
}

static gboolean
open_root (BangerWorkspace *workspace, GError **error)
{
  workspace->root_fd = open (workspace->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return workspace->root_fd >= 0
         || banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot use '%s'", workspace->root);
}

/* The folder itself is the top, wherever it lies. */
static gboolean
open_plain (BangerWorkspace *workspace, const char *folder, const BangerWorkspaceWish *wish, GCancellable *cancellable,
            GError **error)
{
  if (wish->branch || wish->from || (wish->depth > 0 && wish->depth != BANGER_WORKSPACE_DEPTH_UNSAID)
      || wish->tracked_only)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "'no-git' goes with neither 'branch', 'from', 'depth' nor 'tracked-only'");
  if (g_str_equal (folder, "/"))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                             "path '/': the whole root folder is not copied into a guest");
  workspace->plain = TRUE;
  workspace->root = g_strdup (folder);
  give_names (workspace, folder);
  return open_root (workspace, error) && workspace_plain_list (workspace, cancellable, error)
         && look_at_files (workspace, cancellable, error);
}

static gboolean
open_tree (BangerWorkspace *workspace, const char *folder, const BangerWorkspaceWish *wish, GCancellable *cancellable,
           GError **error)
{
  WorkspaceRepository *repository = check_files_of_git (folder, error)
                                        ? open_top (folder, &workspace->root, cancellable, error)
                                        : NULL;
  if (!repository)
    return FALSE;
  repository->unsaid = wish && wish->depth == BANGER_WORKSPACE_DEPTH_UNSAID;
  repository->depth = repository->unsaid ? BANGER_WORKSPACE_DEPTH : wish ? wish->depth : 0;
  give_names (workspace, folder);
  if (!open_root (workspace, error)) {
    workspace_repository_free (repository);
    return FALSE;
  }
  return list_all (workspace, repository, cancellable, error)
         && workspace_branch_find (workspace, wish, cancellable, error);
}

BangerWorkspace *
banger_workspace_open (const char *path, const BangerWorkspaceWish *wish, GCancellable *cancellable, GError **error)
{
  g_autoptr (BangerWorkspace) workspace = g_new0 (BangerWorkspace, 1);
  workspace->tracked_only = wish && wish->tracked_only;
  workspace->root_fd = -1;
  workspace->files = g_ptr_array_new_with_free_func (g_free);
  workspace->notes = g_ptr_array_new_with_free_func (g_free);
  workspace->present = g_byte_array_new ();
  workspace->base = g_byte_array_new ();
  workspace->repositories = g_ptr_array_new_with_free_func (workspace_repository_free);
  char *folder = resolve (path, error);
  gboolean fine = folder
                  && (wish && wish->no_git ? open_plain (workspace, folder, wish, cancellable, error)
                                           : open_tree (workspace, folder, wish, cancellable, error));
  free (folder);
  return fine ? g_steal_pointer (&workspace) : NULL;
}

gboolean
banger_workspace_prepare (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  return workspace_history_make (workspace, cancellable, error);
}

void
banger_workspace_free (BangerWorkspace *workspace)
{
  if (!workspace)
    return;
  banger_clear_fd (&workspace->root_fd);
  g_ptr_array_unref (workspace->files);
  g_ptr_array_unref (workspace->notes);
  g_byte_array_unref (workspace->present);
  g_byte_array_unref (workspace->base);
  g_free (workspace->commit);
  g_free (workspace->head);
  g_free (workspace->tree);
  g_ptr_array_unref (workspace->repositories);
  workspace_history_free (workspace->history);
  g_free (workspace->root);
  g_free (workspace->name);
  g_free (workspace->prefix);
  g_free (workspace->folder);
  g_free (workspace->branch);
  g_free (workspace->from);
  g_free (workspace);
}

const char *
banger_workspace_name (BangerWorkspace *workspace)
{
  return workspace->name;
}

const char *
banger_workspace_folder (BangerWorkspace *workspace)
{
  return workspace->folder;
}

const char *
banger_workspace_root (BangerWorkspace *workspace)
{
  return workspace->root;
}

const char *
banger_workspace_commit (BangerWorkspace *workspace)
{
  return workspace->commit ? workspace->commit : "";
}

GPtrArray *
banger_workspace_files (BangerWorkspace *workspace)
{
  return workspace->files;
}

GByteArray *
banger_workspace_present (BangerWorkspace *workspace)
{
  return workspace->present;
}

GPtrArray *
banger_workspace_notes (BangerWorkspace *workspace)
{
  return workspace->notes;
}
