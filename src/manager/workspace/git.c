/* The repository behind a work tree, for the guest: history, branches and index, nothing that names this host.
 * Never sends its hooks, logs or configuration: they may hold secrets and programs. Never reads what lies outside the
 * repository's own folder, whatever `.git`, `commondir`, alternates or links in it say. */
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
#define MAX_SMALL (64 << 10)

typedef struct {
  char *path;      /* below .git, there and here */
  gboolean common; /* lies in the folder that all work trees of the repository share */
  gboolean folder;
} WorkspaceGitFile;

static void
git_file_free (gpointer data)
{
  WorkspaceGitFile *file = data;
  g_free (file->path);
  g_free (file);
}

void
workspace_repository_free (gpointer data)
{
  WorkspaceRepository *repository = data;
  if (!repository)
    return;
  g_clear_pointer (&repository->files, g_ptr_array_unref);
  g_free (repository->prefix);
  g_free (repository->git_dir);
  g_free (repository->common_dir);
  g_free (repository->worktree);
  g_free (repository->config);
  g_free (repository->attributes);
  g_free (repository->unreadable);
  g_free (repository);
}

/* The configuration for the guest. */

/* What decides whether a file counts as changed, and in what format the repository is. */
static const char *const kept_keys[] = {
  "core.autocrlf",
  "core.eol",
  "core.filemode",
  "core.ignorecase",
  "core.precomposeunicode",
  "core.protecthfs",
  "core.safecrlf",
  "core.sparsecheckout",
  "core.sparsecheckoutcone",
  "core.symlinks",
  "diff.ignoresubmodules",
  "index.sparse",
  "user.email",
  "user.name",
  "extensions.objectformat",
  "extensions.refstorage",
  "extensions.compatobjectformat",
  "extensions.partialclone",
  NULL,
};

/* Files of Git LFS are pointers for git and contents on disk. A guest without git-lfs makes the pointer itself, so that
 * they do not count as changed there. */
static const char lfs_config[]
    = "[filter \"lfs\"]\n"
      "\tclean = \"if command -v git-lfs >/dev/null; then exec git-lfs clean -- %f; fi; f=$(mktemp) && cat >\\\"$f\\\" "
      "&& { if ! [ -s \\\"$f\\\" ] || head -c 24 \\\"$f\\\" | grep -q '^version https://git-lfs'; then cat \\\"$f\\\"; "
      "else printf 'version https://git-lfs.github.com/spec/v1\\\\noid sha256:%%s\\\\nsize %%s\\\\n' \\\"$(sha256sum "
      "<\\\"$f\\\" | cut -c1-64)\\\" \\\"$(wc -c <\\\"$f\\\")\\\"; fi; rm -f \\\"$f\\\"; }\"\n"
      "\tsmudge = \"if command -v git-lfs >/dev/null; then exec git-lfs smudge -- %f; fi; cat\"\n"
      "\trequired = true\n";

/* @key: "section.name" or "section.sub section.name", as git lists it. */
static void
append_setting (GString *config, const char *key, const char *value)
{
  const char *first = strchr (key, '.'), *last = strrchr (key, '.');
  g_string_append_printf (config, "[%.*s", (int)(first - key), key);
  if (last > first) {
    g_string_append (config, " \"");
    for (const char *c = first + 1; c < last; c++)
      g_string_append_printf (config, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", *c);
    g_string_append (config, "\"");
  }
  g_string_append_printf (config, "]\n\t%s = \"", last + 1);
  for (const char *c = value; *c; c++)
    if (*c == '\n')
      g_string_append (config, "\\n");
    else
      g_string_append_printf (config, "%s%c", *c == '"' || *c == '\\' ? "\\" : "", *c);
  g_string_append (config, "\"\n");
}

/* Where a guest can fetch what a partial clone lacks: an address without a name or password, of the network. */
static char *
public_url (const char *url)
{
  g_autoptr (GUri) uri = g_uri_parse (url, G_URI_FLAGS_ENCODED, NULL);
  if (!uri || !g_uri_get_host (uri) || !*g_uri_get_host (uri)
      || !(g_str_equal (g_uri_get_scheme (uri), "https") || g_str_equal (g_uri_get_scheme (uri), "http")
           || g_str_equal (g_uri_get_scheme (uri), "git")))
    return NULL;
  return g_uri_to_string_partial (uri, G_URI_HIDE_USERINFO);
}

static gboolean
is_remote_key (const char *key, const char *name)
{
  return g_str_has_prefix (key, "remote.") && g_str_has_suffix (key, name)
         && strlen (key) > strlen ("remote.") + strlen (name);
}

static gboolean
is_submodule_key (const char *key)
{
  return g_str_has_prefix (key, "submodule.")
         && (g_str_has_suffix (key, ".active") || g_str_has_suffix (key, ".ignore"));
}

static void
keep_setting (GString *config, const char *key, const char *value, gboolean partial)
{
  if (g_strv_contains (kept_keys, key) || is_submodule_key (key))
    append_setting (config, key, value);
  else if (partial && (is_remote_key (key, ".promisor") || is_remote_key (key, ".partialclonefilter")))
    append_setting (config, key, value);
  else if (partial && is_remote_key (key, ".url")) {
    g_autofree char *url = public_url (value);
    if (url)
      append_setting (config, key, url);
  }
}

/* "scope\0key\nvalue\0", or "scope\0key\0" for what is true by being there. @func gets each. */
typedef struct {
  WorkspaceRepository *repository;
  GString *config;
  char *attributes; /* core.attributesFile of the owner */
  gboolean partial, extended, lfs;
} Settings;

static void
look_at (Settings *settings, const char *scope, const char *key, const char *value)
{
  gboolean own = g_str_equal (scope, "local") || g_str_equal (scope, "worktree");
  if (own && g_str_equal (key, "core.worktree")) {
    g_free (settings->repository->worktree);
    settings->repository->worktree = g_strdup (value);
  }
  /* Of the owner's own files alone: a repository could name any file of his. */
  if (g_str_equal (key, "core.attributesfile") && (g_str_equal (scope, "global") || g_str_equal (scope, "system"))) {
    g_free (settings->attributes);
    settings->attributes = g_str_has_prefix (value, "~/") ? g_build_filename (g_get_home_dir (), value + 2, NULL)
                                                          : g_strdup (value);
  }
  if (own && (g_str_equal (key, "extensions.partialclone") || is_remote_key (key, ".promisor")))
    settings->partial = TRUE;
  if (own && g_str_has_prefix (key, "extensions."))
    settings->extended = TRUE;
  if (g_str_has_prefix (key, "filter.lfs.") && (g_str_has_suffix (key, ".clean") || g_str_has_suffix (key, ".process")))
    settings->lfs = TRUE;
}

static void
each_setting (const char *list, gsize length, Settings *settings, gboolean write)
{
  for (const char *at = list, *end = list + length; at < end;) {
    const char *scope = at, *pair = scope + strlen (scope) + 1;
    if (pair >= end)
      return;
    const char *newline = strchr (pair, '\n');
    g_autofree char *key = newline ? g_strndup (pair, (gsize)(newline - pair)) : g_strdup (pair);
    const char *value = newline ? newline + 1 : "true";
    if (write)
      keep_setting (settings->config, key, value, settings->partial);
    else
      look_at (settings, scope, key, value);
    at = pair + strlen (pair) + 1;
  }
}

/* The text of a small regular file. Returns: (transfer full) (nullable). */
static char *
read_text (const char *path)
{
  struct stat st;
  char text[MAX_SMALL];
  banger_autofd int fd = open (path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ssize_t n = fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) ? -1 : read (fd, text, sizeof text);
  return n > 0 && n < (ssize_t)sizeof text ? g_strndup (text, (gsize)n) : NULL;
}

void
workspace_repository_config (WorkspaceRepository *repository, const char *list, gsize length)
{
  Settings settings = { .repository = repository, .config = g_string_new (NULL) };
  each_setting (list, length, &settings, FALSE);
  g_string_append_printf (settings.config,
                          "[core]\n\trepositoryformatversion = %d\n\tfilemode = true\n\tbare = false\n"
                          "\tlogallrefupdates = true\n\tfsmonitor = false\n\tuntrackedcache = false\n",
                          settings.extended ? 1 : 0);
  each_setting (list, length, &settings, TRUE);
  if (settings.lfs)
    g_string_append (settings.config, lfs_config);
  if (!settings.attributes)
    settings.attributes = g_build_filename (g_get_user_config_dir (), "git", "attributes", NULL);
  repository->attributes = read_text (settings.attributes);
  if (repository->attributes)
    g_string_append (settings.config, "[core]\n\tattributesFile = .git/info/attributes-of-owner\n");
  g_free (settings.attributes);
  repository->partial = settings.partial;
  repository->config = g_string_free (settings.config, FALSE);
}

/* What belongs to the tree. */

static gboolean
same_place (const struct stat *one, const struct stat *other)
{
  return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

/* The first line of a small regular file. Returns: (transfer full) (nullable). */
static char *
read_line (int dir_fd, const char *name)
{
  struct stat st;
  char text[PATH_MAX + 16];
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))
    return NULL;
  ssize_t n = read (fd, text, sizeof text - 1);
  if (n <= 0)
    return NULL;
  text[n] = '\0';
  text[strcspn (text, "\r\n")] = '\0';
  return g_strdup (text);
}

/* Whether @path, seen from @git_dir, is @wanted. */
static gboolean
names (const char *git_dir, const char *path, const struct stat *wanted)
{
  struct stat st;
  g_autofree char *absolute = path && *path ? g_canonicalize_filename (path, git_dir) : NULL;
  return absolute && lstat (absolute, &st) == 0 && same_place (&st, wanted);
}

/* Both folders of the repository, opened, if they are the tree's own: `.git` in it, or a place that names the tree back
 * (`gitdir` of a linked work tree, core.worktree of a submodule). Anything else would let any folder with a `.git` of
 * one line take a private repository along. */
typedef struct {
  int git_fd, common_fd;
} Own;

static void
own_clear (Own *own)
{
  banger_clear_fd (&own->git_fd);
  banger_clear_fd (&own->common_fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Own, own_clear)

static gboolean
is_linked_tree (const WorkspaceRepository *repository, int git_fd, int common_fd)
{
  struct stat git, at;
  g_autofree char *base = g_path_get_basename (repository->git_dir);
  g_autofree char *place = g_build_filename ("worktrees", base, NULL);
  return fstat (git_fd, &git) == 0 && fstatat (common_fd, place, &at, AT_SYMLINK_NOFOLLOW) == 0
         && same_place (&git, &at);
}

static const char *
open_own (const WorkspaceRepository *repository, const char *top, Own *own)
{
  struct stat dot_git, tree, git, common;
  banger_autofd int top_fd = open (top, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (top_fd < 0 || fstat (top_fd, &tree) < 0 || fstatat (top_fd, ".git", &dot_git, AT_SYMLINK_NOFOLLOW) < 0)
    return "its '.git' is not there any more";
  own->git_fd = open (repository->git_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  own->common_fd = open (repository->common_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (own->git_fd < 0 || own->common_fd < 0 || fstat (own->git_fd, &git) < 0 || fstat (own->common_fd, &common) < 0)
    return "its git folder cannot be opened";
  g_autofree char *back = read_line (own->git_fd, "gitdir");
  gboolean linked = S_ISREG (dot_git.st_mode) && names (repository->git_dir, back, &dot_git);
  gboolean inside = S_ISDIR (dot_git.st_mode) && same_place (&dot_git, &git);
  if (!inside && !linked && !names (repository->git_dir, repository->worktree, &tree))
    return "does not name this work tree";
  if (same_place (&git, &common) || (linked && is_linked_tree (repository, own->git_fd, own->common_fd)))
    return NULL;
  return "its 'commondir' leads to another repository";
}

/* What of it goes along. */

static void
add_file (WorkspaceRepository *repository, const char *path, gboolean common, gboolean folder)
{
  WorkspaceGitFile *file = g_new0 (WorkspaceGitFile, 1);
  *file = (WorkspaceGitFile){ g_strdup (path), common, folder };
  g_ptr_array_add (repository->files, file);
}

/* The first one that the owner may not read; whoever committed as root once has such. */
static gboolean
is_readable (WorkspaceRepository *repository, int dir_fd, const char *name, const char *path)
{
  if (faccessat (dir_fd, name, R_OK, AT_EACCESS) == 0 || errno == ENOENT)
    return TRUE;
  if (!repository->unreadable)
    repository->unreadable = g_strdup (path);
  return FALSE;
}

/* Regular files only; what is missing is passed over. Returns: FALSE for a link and other things that git would follow
 * or wait for. */
static gboolean
find_file (WorkspaceRepository *repository, int dir_fd, const char *path, gboolean common)
{
  struct stat st;
  banger_autofd int fd = banger_safe_openat (dir_fd, path, O_PATH, 0, BANGER_SAFE_XDEV, NULL);
  if (fd < 0)
    return errno == ENOENT;
  if (fstat (fd, &st) < 0 || !S_ISREG (st.st_mode) || !is_readable (repository, dir_fd, path, path))
    return FALSE;
  add_file (repository, path, common, FALSE);
  return TRUE;
}

/* What git writes just now. Among the objects that begins with "tmp_", which a branch may, too. */
static gboolean
is_passing (const char *folder, const char *name)
{
  return name[0] == '.' || g_str_has_suffix (name, ".lock")
         || (g_str_has_prefix (folder, "objects") && g_str_has_prefix (name, "tmp_"));
}

static gboolean find_folder (WorkspaceRepository *repository, int parent, const char *name, const char *path,
                             gboolean common, guint depth);

static gboolean
find_entry (WorkspaceRepository *repository, int fd, const struct dirent *entry, const char *folder, gboolean common,
            guint depth)
{
  struct stat st;
  if (is_passing (folder, entry->d_name))
    return TRUE;
  g_autofree char *path = g_strconcat (folder, "/", entry->d_name, NULL);
  unsigned char type = entry->d_type;
  if (type == DT_UNKNOWN && fstatat (fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    type = IFTODT (st.st_mode);
  if (type == DT_DIR)
    return find_folder (repository, fd, entry->d_name, path, common, depth + 1);
  if (type == DT_REG && !is_readable (repository, fd, entry->d_name, path))
    return FALSE;
  if (type == DT_REG)
    add_file (repository, path, common, FALSE);
  return type == DT_REG || type == DT_UNKNOWN; /* unknown: gone meanwhile */
}

/* @path: below the git folder. A missing one is passed over. */
static gboolean
find_folder (WorkspaceRepository *repository, int parent, const char *name, const char *path, gboolean common,
             guint depth)
{
  int fd = depth > MAX_DEPTH ? -1 : openat (parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofolder DIR *dir = banger_folder_take (fd);
  if (!dir) {
    int reason = errno;
    if (depth <= MAX_DEPTH && reason == EACCES && !repository->unreadable)
      repository->unreadable = g_strdup (path);
    return depth <= MAX_DEPTH && reason == ENOENT;
  }
  add_file (repository, path, common, TRUE);
  gboolean ok = TRUE;
  const struct dirent *entry;
  while (ok && (entry = banger_folder_next (dir)))
    ok = find_entry (repository, dirfd (dir), entry, path, common, depth);
  return ok && errno == 0;
}

/* Objects of another repository: which of them are this one's cannot be told from the files. */
static gboolean
borrows (int common_fd)
{
  struct stat st;
  if (fstatat (common_fd, "objects/info/alternates", &st, AT_SYMLINK_NOFOLLOW) < 0)
    return FALSE;
  banger_autofd int fd = openat (common_fd, "objects/info/alternates", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  char text[MAX_SMALL];
  ssize_t n = fd < 0 || !S_ISREG (st.st_mode) ? -1 : read (fd, text, sizeof text);
  for (ssize_t i = 0; i < n; i++) /* a file of empty and commented lines borrows nothing */
    if (text[i] == '#')
      while (i + 1 < n && text[i + 1] != '\n')
        i++;
    else if (text[i] != '\n')
      return TRUE;
  return n < 0 || n == (ssize_t)sizeof text;
}

static const char *
find_files (WorkspaceRepository *repository, const Own *own)
{
  static const char *const shared_folders[] = { "objects", "refs", "reftable" };
  static const char *const shared[] = { "packed-refs", "shallow", "info/exclude", "info/attributes", "info/grafts" };
  static const char *const mine[] = { "index",      "info/sparse-checkout", "ORIG_HEAD",   "MERGE_HEAD", "MERGE_MSG",
                                      "MERGE_MODE", "CHERRY_PICK_HEAD",     "REVERT_HEAD", "SQUASH_MSG", "AUTO_MERGE" };
  static const char *const my_refs[] = { "refs/bisect", "refs/worktree", "refs/rewritten" };
  struct stat git, common;
  gboolean linked = fstat (own->git_fd, &git) < 0 || fstat (own->common_fd, &common) < 0 || !same_place (&git, &common);
  for (guint i = 0; i < G_N_ELEMENTS (shared_folders); i++)
    if (!find_folder (repository, own->common_fd, shared_folders[i], shared_folders[i], TRUE, 0))
      return shared_folders[i];
  for (guint i = 0; i < G_N_ELEMENTS (shared); i++)
    if (!find_file (repository, own->common_fd, shared[i], TRUE))
      return shared[i];
  for (guint i = 0; i < G_N_ELEMENTS (mine); i++)
    if (!find_file (repository, own->git_fd, mine[i], FALSE))
      return mine[i];
  for (guint i = 0; linked && i < G_N_ELEMENTS (my_refs); i++)
    if (!find_folder (repository, own->git_fd, my_refs[i], my_refs[i], FALSE, 0))
      return my_refs[i];
  return NULL;
}

/* The part of a split index that rarely changes; each index names one. */
static gboolean
find_shared_index (WorkspaceRepository *repository, int git_fd)
{
  banger_autofolder DIR *dir = banger_folder_open (git_fd, ".");
  gboolean ok = TRUE;
  const struct dirent *entry;
  while (ok && (entry = banger_folder_next (dir)))
    if (g_str_has_prefix (entry->d_name, "sharedindex.") && !g_str_has_suffix (entry->d_name, ".lock"))
      ok = find_file (repository, git_fd, entry->d_name, FALSE);
  return ok && errno == 0;
}

/* "ref: refs/heads/main", also where HEAD is a link, as git made it long ago. */
static char *
read_head (int git_fd)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat (git_fd, "HEAD", target, sizeof target - 1);
  if (n < 0)
    return read_line (git_fd, "HEAD");
  target[n] = '\0';
  return g_str_has_prefix (target, "refs/") ? g_strconcat ("ref: ", target, NULL) : NULL;
}

static void
leave_behind (BangerWorkspace *workspace, WorkspaceRepository *repository, const char *top, const char *why)
{
  gboolean elsewhere = g_str_equal (why, "does not name this work tree");
  g_clear_pointer (&repository->files, g_ptr_array_unref);
  if (elsewhere)
    workspace_note (workspace,
                    "the history of '%s' stays behind: its git folder '%s' does not name this work tree; if it is its "
                    "own: git -C '%s' config core.worktree '%s'",
                    top, repository->git_dir, top, top);
  else
    workspace_note (workspace, "the history of '%s' stays behind: %s", top, why);
}

/* A part of the history is what its objects and refs are, in the form that is known. */
static gboolean
check_depth (WorkspaceRepository *repository, const char *top, GError **error)
{
  struct stat st;
  g_autofree char *tables = g_build_filename (repository->common_dir, "reftable", NULL);
  const char *odd = repository->depth == 0     ? NULL
                    : repository->partial      ? "is a partial clone"
                    : lstat (tables, &st) == 0 ? "has its refs in a reftable"
                                               : NULL;
  if (odd && repository->unsaid)
    repository->depth = 0;
  else if (odd)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' %s: its history goes as it is, without a depth",
                             top, odd);
  return TRUE;
}

/* Why nothing of it can go along, or NULL. Returns: (transfer full). */
static char *
find_history (WorkspaceRepository *repository, const char *top)
{
  g_auto (Own) own = { -1, -1 };
  const char *why = open_own (repository, top, &own);
  if (why)
    return g_strdup (why);
  g_autofree char *head = read_head (own.git_fd);
  if (!head)
    return g_strdup ("its HEAD cannot be read");
  if (borrows (own.common_fd))
    return g_strdup_printf ("it borrows objects of another repository (objects/info/alternates); to make it whole: "
                            "git -C '%s' repack -a -d && rm '%s/objects/info/alternates'",
                            top, repository->common_dir);
  const char *odd = find_files (repository, &own);
  if (!odd && !find_shared_index (repository, own.git_fd))
    odd = "sharedindex";
  return odd ? g_strdup_printf ("'%s' in its git folder holds a link or something that is no file", odd) : NULL;
}

gboolean
workspace_repository_find (BangerWorkspace *workspace, WorkspaceRepository *repository, GCancellable *cancellable,
                           GError **error)
{
  g_autofree char *top = g_build_filename (workspace->root, repository->prefix, NULL);
  gsize length = strlen (top);
  if (length > 1 && top[length - 1] == '/')
    top[length - 1] = '\0';
  repository->files = g_ptr_array_new_with_free_func (git_file_free);
  g_autofree char *why = find_history (repository, top);
  if (g_cancellable_set_error_if_cancelled (cancellable, error))
    return FALSE;
  if (repository->unreadable) {
    g_autofree char *text = banger_log_escape (repository->unreadable, PATH_MAX);
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, EACCES, "cannot read '%s' of the repository '%s'",
                                   text, top);
  }
  if (!why && !check_depth (repository, top, error))
    return FALSE;
  if (why)
    leave_behind (workspace, repository, top, why);
  else if (repository->partial)
    workspace_note (workspace,
                    "'%s' is a partial clone: git in the guest fetches what is missing from its history, if it can "
                    "reach the remote; to make it whole here: git -C '%s' fetch --refetch --no-filter",
                    top, top);
  return TRUE;
}

/* The way into the archive. */

#define MAX_ROUNDS 5

/* @gone: raised when it is not there any more. */
static gboolean
send_file (WorkspaceTar *tar, int dir_fd, const WorkspaceGitFile *file, const char *path, guint *gone, GError **error)
{
  struct stat st;
  banger_autofd int fd = banger_safe_openat (dir_fd, file->path, O_RDONLY | O_NONBLOCK, 0, BANGER_SAFE_XDEV, NULL);
  if (fd < 0 && errno == ENOENT) {
    *gone += 1;
    return TRUE;
  }
  if (fd < 0 || fstat (fd, &st) < 0) {
    int reason = errno;
    g_autofree char *text = banger_log_escape (path, PATH_MAX);
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, reason, "cannot read '%s'", text);
  }
  return !S_ISREG (st.st_mode) || workspace_tar_fd (tar, fd, &st, path, error);
}

/* Everything that was found, but the objects that went along already. */
static gboolean
send_round (WorkspaceTar *tar, WorkspaceRepository *repository, const Own *own, GHashTable *sent, guint *gone,
            GError **error)
{
  gboolean cut = repository->depth > 0 && tar->workspace->history;
  for (guint i = 0; i < repository->files->len; i++) {
    const WorkspaceGitFile *file = repository->files->pdata[i];
    g_autofree char *path = g_strconcat (repository->prefix, ".git/", file->path, NULL);
    if (g_cancellable_set_error_if_cancelled (tar->cancellable, error))
      return FALSE;
    if (cut && workspace_history_replaces (file->path))
      continue;
    if (g_str_has_prefix (file->path, "objects/") && !g_hash_table_add (sent, g_strdup (file->path)))
      continue;
    if (file->folder ? !workspace_tar_folder (tar, path, error)
                     : !send_file (tar, file->common ? own->common_fd : own->git_fd, file, path, gone, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
send_head (WorkspaceTar *tar, WorkspaceRepository *repository, const Own *own, GError **error)
{
  g_autofree char *head = read_head (own->git_fd), *line = g_strconcat (head ? head : "", "\n", NULL);
  g_autofree char *head_path = g_strconcat (repository->prefix, ".git/HEAD", NULL);
  g_autofree char *config_path = g_strconcat (repository->prefix, ".git/config", NULL);
  g_autofree char *attributes_path = g_strconcat (repository->prefix, ".git/info/attributes-of-owner", NULL);
  return workspace_tar_text (tar, repository->config, config_path, error)
         && (!repository->attributes || workspace_tar_text (tar, repository->attributes, attributes_path, error))
         && workspace_tar_text (tar, line, head_path, error);
}

/* git may pack the objects or the refs meanwhile: it writes the new files before it removes the old ones, so what was
 * there is in what is there now. */
gboolean
workspace_repository_send (WorkspaceTar *tar, WorkspaceRepository *repository, GError **error)
{
  g_auto (Own) own = { -1, -1 };
  g_autofree char *top = g_build_filename (tar->workspace->root, repository->prefix, NULL);
  g_autoptr (GHashTable) sent = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  if (!repository->files || open_own (repository, top, &own))
    return TRUE;
  if (!workspace_history_make (tar->workspace, tar->cancellable, error))
    return FALSE;
  for (guint round = 0; round < MAX_ROUNDS; round++) {
    guint gone = 0;
    if (!send_head (tar, repository, &own, error) || !send_round (tar, repository, &own, sent, &gone, error))
      return FALSE;
    if (gone == 0)
      return repository->depth == 0 || !tar->workspace->history || workspace_history_send (tar, error);
    g_ptr_array_set_size (repository->files, 0);
    const char *odd = find_files (repository, &own);
    if (odd || !find_shared_index (repository, own.git_fd))
      break;
  }
  return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                           "the repository '%s' changes while it is copied: try again when git is done", top);
}
