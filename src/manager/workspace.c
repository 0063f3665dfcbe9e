/* A git work tree as a list of files.
 * Called by workspace-send.c.
 * Never runs a program that the repository configures; never follows a link out of the tree. */
#include "manager/workspace-private.h"

#include <git2.h>
#include <string.h>

#include "common/error.h"
#include "common/log.h"

#define MAX_NESTING 8

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
