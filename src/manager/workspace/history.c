/* The last commits of a repository as one pack, for a guest that is not to have all of them.
 * Called in worker threads, before the guest is told to take anything: a large repository takes its time.
 * Never has git write beside a folder of its own, and reads no configuration of the repository's. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/scratch.h"
#include "manager/workspace/private.h"

#define MAX_ANSWER (64 << 10)
#define MAX_TEXT (64 << 20)

struct WorkspaceHistory {
  char *head, *ref; /* ref: NULL: HEAD is detached */
  GString *shallow; /* lines */
  GString *tags;    /* likewise, as in packed-refs: of the commits that go along */
  char *name;       /* of the pack, without .pack */
  int fds[2];       /* of it and of its index */
};

static const char *const suffixes[] = { ".pack", ".idx" };

/* While it is made. */
typedef struct {
  BangerWorkspace *workspace;
  const WorkspaceRepository *repository;
  WorkspaceHistory *history;
  char *scratch;
  int scratch_fd;
  GString *tips, *blobs; /* lines */
  GHashTable *ends;      /* where the repository itself ends; the lines own them */
  GHashTable *travels;   /* commits that go along */
  char *shallow;         /* its own file of them */
  gboolean cut;          /* there is more than goes along */
  guint tags_behind;
  GCancellable *cancellable;
} Making;

void
workspace_history_free (WorkspaceHistory *history)
{
  if (!history)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (history->fds); i++)
    banger_clear_fd (&history->fds[i]);
  g_free (history->head);
  g_free (history->ref);
  g_string_free (history->shallow, TRUE);
  g_string_free (history->tags, TRUE);
  g_free (history->name);
  g_free (history);
}

static void
making_clear (Making *making)
{
  banger_scratch_remove (&making->scratch_fd, making->scratch);
  g_free (making->scratch);
  g_free (making->shallow);
  g_string_free (making->tips, TRUE);
  g_string_free (making->blobs, TRUE);
  g_hash_table_unref (making->ends);
  g_hash_table_unref (making->travels);
  workspace_history_free (making->history);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Making, making_clear)

/* What the repository says of itself */

static gboolean
is_object (const char *text, gsize length)
{
  return (length == 40 || length == 64) && strspn (text, "0123456789abcdef") >= length;
}

/* Each line that begins with an object's name is added to @into. */
static void
add_lines (GString *into, const char *text)
{
  for (const char *at = text; at && *at; at += strcspn (at, "\n"), at += *at == '\n') {
    gsize length = strcspn (at, " \t\r\n");
    if (is_object (at, length))
      g_string_append_printf (into, "%.*s\n", (int)length, at);
  }
}

/* Of what was found to be no link before. Returns: (transfer full) (nullable). */
static char *
read_text (const char *path)
{
  struct stat st;
  char *text = NULL;
  return lstat (path, &st) == 0 && S_ISREG (st.st_mode) && st.st_size <= MAX_TEXT
                 && g_file_get_contents (path, &text, NULL, NULL)
             ? text
             : NULL;
}

/* Returns: FALSE without an error where there is no commit yet. */
static gboolean
ask_head (Making *making, GError **error)
{
  static const char *const words[] = { "rev-parse", "HEAD", "--symbolic-full-name", "HEAD", NULL };
  g_autoptr (GString) answer = banger_git_run (making->workspace->root, words, MAX_ANSWER, making->cancellable, NULL);
  g_auto (GStrv) lines = g_strsplit (answer ? answer->str : "", "\n", 3);
  if (g_cancellable_set_error_if_cancelled (making->cancellable, error) || g_strv_length (lines) < 2
      || !is_object (lines[0], strlen (lines[0])))
    return FALSE;
  making->history->head = g_strdup (lines[0]);
  if (g_str_has_prefix (lines[1], "refs/heads/") && !strstr (lines[1], ".."))
    making->history->ref = g_strdup (lines[1]);
  return TRUE;
}

/* ":100644 100644 <object> <object> M" and the path, each with a NUL: the second object, which only the index knows. */
static void
add_staged (GString *blobs, const GString *answer)
{
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1) {
    g_auto (GStrv) words = *at == ':' ? g_strsplit (at, " ", 5) : NULL;
    if (words && g_strv_length (words) == 5 && !g_str_equal (words[1], "160000")
        && is_object (words[3], strlen (words[3])) && strspn (words[3], "0") != strlen (words[3]))
      g_string_append_printf (blobs, "%s\n", words[3]);
  }
}

/* "100644 <object> 1\tpath" of each side of a conflict. */
static void
add_unmerged (GString *blobs, const GString *answer)
{
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1) {
    const char *space = strchr (at, ' ');
    gsize length = space ? strcspn (space + 1, " ") : 0;
    if (space && !g_str_has_prefix (at, "160000 ") && is_object (space + 1, length))
      g_string_append_printf (blobs, "%.*s\n", (int)length, space + 1);
  }
}

static gboolean
ask_index (Making *making, GError **error)
{
  static const char *const staged[] = {
    "diff-index", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=all",
    "HEAD",       "--",       NULL
  };
  static const char *const unmerged[] = { "ls-files", "-z", "-u", NULL };
  static const struct {
    const char *const *words;
    void (*add) (GString *blobs, const GString *answer);
  } questions[] = { { staged, add_staged }, { unmerged, add_unmerged } };
  for (guint i = 0; i < G_N_ELEMENTS (questions); i++) {
    g_autoptr (GString) answer = banger_git_run (making->workspace->root, questions[i].words, WORKSPACE_MAX_LIST,
                                                 making->cancellable, error);
    if (!answer)
      return FALSE;
    questions[i].add (making->blobs, answer);
  }
  return TRUE;
}

/* What the guest is to have history of: what is checked out, what is about to be merged, where a branch begins. */
static void
find_tips (Making *making)
{
  static const char *const others[] = { "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD" };
  add_lines (making->tips, making->history->head);
  if (making->workspace->from)
    add_lines (making->tips, making->workspace->from);
  for (guint i = 0; i < G_N_ELEMENTS (others); i++) {
    g_autofree char *path = g_build_filename (making->repository->git_dir, others[i], NULL), *text = read_text (path);
    add_lines (making->tips, text);
  }
}

/* A folder of ours, with a repository in it */

static gboolean
put (Making *making, const char *name, const char *text, GError **error)
{
  g_autofree char *path = g_build_filename (making->scratch, ".git", name, NULL);
  g_autoptr (GError) failure = NULL;
  return g_file_set_contents (path, text, -1, &failure)
         || banger_set_error (error, BANGER_ERROR_FAILED, "cannot write a temporary file: %s", failure->message);
}

static gboolean
make_scratch (Making *making, GError **error)
{
  static const char *const folders[] = { ".git", ".git/objects", ".git/objects/info", ".git/objects/pack",
                                         ".git/refs" };
  making->scratch_fd = banger_scratch_make ("banger-history-", &making->scratch, error);
  gboolean made = making->scratch_fd >= 0;
  if (!made)
    return FALSE;
  for (guint i = 0; made && i < G_N_ELEMENTS (folders); i++)
    made = mkdirat (making->scratch_fd, folders[i], 0700) == 0;
  if (!made)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a temporary folder");
  if (strchr (making->repository->common_dir, '\n') || *making->repository->common_dir == '"')
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                             "the history behind a folder of such a name goes whole or not at all");
  gboolean sha256 = strlen (making->history->head) == 64;
  g_autofree char *objects = g_strconcat (making->repository->common_dir, "/objects\n", NULL);
  g_autofree char *config = g_strdup_printf (
      "[core]\n\trepositoryformatversion = %d\n\tbare = false\n\tfsync = none\n%s", sha256,
      sha256 ? "[extensions]\n\tobjectformat = sha256\n" : "");
  return put (making, "HEAD", "ref: refs/heads/none\n", error) && put (making, "config", config, error)
         && put (making, "objects/info/alternates", objects, error);
}

/* Of a repository that is not whole itself. */
static gboolean
take_ends (Making *making, GError **error)
{
  g_autofree char *path = g_build_filename (making->repository->common_dir, "shallow", NULL), *text = read_text (path);
  g_autoptr (GString) lines = g_string_new (NULL);
  if (!text)
    return TRUE;
  add_lines (lines, text);
  if (!put (making, "shallow", lines->str, error))
    return FALSE;
  making->shallow = g_string_free (g_steal_pointer (&lines), FALSE);
  for (char *at = making->shallow, *next; *at; at = next) {
    next = strchr (at, '\n') + 1;
    next[-1] = '\0';
    g_hash_table_add (making->ends, at);
  }
  return TRUE;
}

static GString *
run_git (Making *making, const char *const *words, const GString *text, gsize max, GError **error)
{
  GPollFD cancelled = { .fd = -1 };
  g_autoptr (GString) said = g_string_new (NULL);
  banger_autofd int in = memfd_create ("git-input", MFD_CLOEXEC);
  if (in < 0 || banger_write_all (in, text->str, text->len) < 0 || lseek (in, 0, SEEK_SET) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write a temporary file");
    return NULL;
  }
  gboolean watched = making->cancellable && g_cancellable_make_pollfd (making->cancellable, &cancelled);
  const BangerGitEnds ends = { .in = in, .max = max, .wake = watched ? cancelled.fd : -1, .said = said };
  GString *answer = banger_git_run_within (making->scratch, words, &ends, error);
  if (watched)
    g_cancellable_release_fd (making->cancellable);
  return answer;
}

/* Where it is cut */

/* "commit parent parent" of each line; the names end with a NUL afterwards. Returns: name -> its first parent, or the
 * NUL of the line's end. */
static GHashTable *
read_commits (GString *list)
{
  GHashTable *commits = g_hash_table_new (g_str_hash, g_str_equal);
  for (char *at = list->str, *end; *at; at = end) {
    end = at + strcspn (at, "\n");
    end += *end == '\n';
    gsize length = strcspn (at, " \n");
    if (end[-1] == '\n')
      end[-1] = '\0';
    char *parents = at + length + (at[length] == ' ');
    at[length] = '\0';
    g_hash_table_insert (commits, at, parents);
  }
  return commits;
}

/* The commits of the last generation with a parent, and those where the repository itself ends. */
static void
cut (Making *making, GHashTable *commits)
{
  guint depth = making->repository->depth;
  g_auto (GStrv) tips = g_strsplit (making->tips->str, "\n", -1);
  GHashTable *seen = making->travels;
  g_autoptr (GPtrArray) now = g_ptr_array_new ();
  for (char **tip = tips; *tip && **tip; tip++)
    if (g_hash_table_add (seen, g_strdup (*tip)))
      g_ptr_array_add (now, *tip);
  for (guint generation = 1; now->len > 0; generation++) {
    g_autoptr (GPtrArray) next = g_ptr_array_new ();
    for (guint i = 0; i < now->len; i++) {
      const char *commit = now->pdata[i], *parents = g_hash_table_lookup (commits, commit);
      gboolean more = parents && *parents;
      making->cut |= generation == depth && more;
      if ((generation == depth && more) || g_hash_table_contains (making->ends, commit))
        g_string_append_printf (making->history->shallow, "%s\n", commit);
      g_auto (GStrv) names = more && generation < depth ? g_strsplit (parents, " ", -1) : NULL;
      for (char **name = names; name && *name; name++) {
        gpointer known;
        if (g_hash_table_contains (seen, *name) || !g_hash_table_lookup_extended (commits, *name, &known, NULL))
          continue;
        g_hash_table_add (seen, g_strdup (*name));
        g_ptr_array_add (next, known);
      }
    }
    g_ptr_array_unref (g_steal_pointer (&now));
    now = g_steal_pointer (&next);
  }
}

static gboolean
find_cut (Making *making, GError **error)
{
  static const char *const words[] = { "rev-list", "--parents", "--stdin", NULL };
  g_autoptr (GString) list = run_git (making, words, making->tips, WORKSPACE_MAX_LIST, error);
  if (!list)
    return FALSE;
  g_autoptr (GHashTable) commits = read_commits (list);
  cut (making, commits);
  return making->history->shallow->len == 0 || put (making, "shallow", making->history->shallow->str, error);
}

/* "refs/tags/v1 <object> <what that is a tag of, or nothing>". */
static gboolean
add_tag (Making *making, const char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", 3);
  if (g_strv_length (words) != 3 || !is_object (words[1], strlen (words[1])))
    return FALSE;
  gboolean annotated = is_object (words[2], strlen (words[2]));
  if (!g_hash_table_contains (making->travels, words[annotated ? 2 : 1]))
    return FALSE;
  if (annotated)
    g_string_append_printf (making->blobs, "%s\n", words[1]);
  g_string_append_printf (making->history->tags, "%s %s\n", words[1], words[0]);
  return TRUE;
}

/* What a version is made of (git describe) needs the tags of what goes along; a tag of anything else would bring that. */
static gboolean
find_tags (Making *making, GError **error)
{
  static const char *const words[] = { "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/tags",
                                       NULL };
  g_autoptr (GString) answer = banger_git_run (making->workspace->root, words, WORKSPACE_MAX_LIST, making->cancellable,
                                               error);
  if (!answer)
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (answer->str, "\n", -1);
  for (char **line = lines; *line; line++)
    making->tags_behind += **line != '\0' && !add_tag (making, *line);
  return TRUE;
}

/* No new deltas are looked for: what is packed already stays as it is, and that takes no longer than to copy it. */
static gboolean
pack (Making *making, GError **error)
{
  static const char *const words[] = { "pack-objects",           "--revs", "--delta-base-offset", "--window=0", "-q",
                                       ".git/objects/pack/pack", NULL };
  WorkspaceHistory *history = making->history;
  g_autoptr (GString) in = g_string_new (making->tips->str);
  g_string_append (in, making->blobs->str);
  g_autoptr (GString) name = run_git (making, words, in, MAX_ANSWER, error);
  if (!name)
    return FALSE;
  gsize length = strcspn (name->str, "\n");
  if (!is_object (name->str, length))
    return banger_set_error (error, BANGER_ERROR_FAILED, "git has packed nothing");
  history->name = g_strdup_printf ("objects/pack/pack-%.*s", (int)length, name->str);
  for (guint i = 0; i < G_N_ELEMENTS (history->fds); i++) {
    g_autofree char *path = g_strconcat (".git/", history->name, suffixes[i], NULL);
    history->fds[i] = openat (making->scratch_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (history->fds[i] < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open what git has packed");
  }
  return TRUE;
}

/* Returns: whether making->history is what goes along. */
static gboolean
make (Making *making, GError **error)
{
  if (!ask_head (making, error))
    return FALSE;
  find_tips (making);
  return make_scratch (making, error) && take_ends (making, error) && find_cut (making, error)
         && (making->cut || !making->repository->unsaid) && ask_index (making, error) && find_tags (making, error)
         && pack (making, error);
}

gboolean
workspace_history_make (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  const WorkspaceRepository *top = workspace->repositories->len > 0 ? workspace->repositories->pdata[0] : NULL;
  if (!top || top->depth == 0 || !top->files || workspace->history)
    return TRUE;
  g_autoptr (GError) own = NULL;
  g_auto (Making) making = { .workspace = workspace,
                             .repository = top,
                             .history = g_new0 (WorkspaceHistory, 1),
                             .scratch_fd = -1,
                             .tips = g_string_new (NULL),
                             .blobs = g_string_new (NULL),
                             .ends = g_hash_table_new (g_str_hash, g_str_equal),
                             .travels = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL),
                             .cancellable = cancellable };
  making.history->shallow = g_string_new (NULL);
  making.history->tags = g_string_new (NULL);
  making.history->fds[0] = making.history->fds[1] = -1;
  if (make (&making, &own)) {
    if (making.tags_behind > 0)
      workspace_note (workspace,
                      making.tags_behind == 1
                          ? "%u tag stays behind, as its commit does: --depth all takes the whole history"
                          : "%u tags stay behind, as their commits do: --depth all takes the whole history",
                      making.tags_behind);
    workspace->history = g_steal_pointer (&making.history);
    return TRUE;
  }
  /* Where nobody asked for a part, all of it is as good. */
  if (!own || (top->unsaid && !g_cancellable_is_cancelled (cancellable)))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

/* The way into the archive */

gboolean
workspace_history_replaces (const char *path)
{
  static const char *const folders[] = { "objects/", "refs/" };
  static const char *const files[] = { "packed-refs", "shallow", "info/grafts", "ORIG_HEAD", "AUTO_MERGE", NULL };
  for (guint i = 0; i < G_N_ELEMENTS (folders); i++)
    if (g_str_has_prefix (path, folders[i]))
      return TRUE;
  return g_strv_contains (files, path);
}

static gboolean
send_text (WorkspaceTar *tar, const char *name, const char *text, GError **error)
{
  g_autofree char *path = g_strconcat (".git/", name, NULL);
  return workspace_tar_text (tar, text, path, error);
}

gboolean
workspace_history_send (WorkspaceTar *tar, GError **error)
{
  WorkspaceHistory *history = tar->workspace->history;
  g_autofree char *line = g_strconcat (history->head, "\n", NULL);
  g_autofree char *head = history->ref ? g_strdup_printf ("ref: %s\n", history->ref) : g_strdup (line);
  struct stat st;
  for (guint i = 0; i < G_N_ELEMENTS (history->fds); i++) {
    g_autofree char *path = g_strconcat (".git/", history->name, suffixes[i], NULL);
    if (fstat (history->fds[i], &st) < 0 || lseek (history->fds[i], 0, SEEK_SET) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read what git has packed");
    if (!workspace_tar_fd (tar, history->fds[i], &st, path, error))
      return FALSE;
    banger_clear_fd (&history->fds[i]);
  }
  return (history->shallow->len == 0 || send_text (tar, "shallow", history->shallow->str, error))
         && (history->tags->len == 0 || send_text (tar, "packed-refs", history->tags->str, error))
         && (!history->ref || send_text (tar, history->ref, line, error)) && send_text (tar, "HEAD", head, error);
}
