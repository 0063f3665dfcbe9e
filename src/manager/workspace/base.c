/* What a guest's changes are held against later: the commit that was sent and, as a tree, the files as they were sent.
 * Called while a tree is listed and archived, in worker threads.
 * Never lets git write on the host: it says which files differ, and the guest's git makes the tree. */
#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "manager/workspace/private.h"

/* Of the top repository alone: a nested one's changes are not the outer one's. */
void
workspace_base_add (BangerWorkspace *workspace, const char *names, gsize length)
{
  for (const char *at = names, *end = at + length; at < end; at += strlen (at) + 1)
    if (*at && at[strlen (at) - 1] != '/')
      g_byte_array_append (workspace->base, (const guint8 *)at, (guint)strlen (at) + 1);
}

/* The answer to a question that has a line or two. */
static char *
ask (BangerWorkspace *workspace, const char *const *words, GCancellable *cancellable)
{
  GString *answer = banger_git_run (workspace->root, words, PATH_MAX, cancellable, NULL);
  return answer ? g_strchomp (g_string_free (answer, FALSE)) : NULL;
}

static gboolean
is_id (const char *text)
{
  gsize length = strspn (text, "0123456789abcdef");
  return (length == 40 || length == 64) && text[length] == '\0';
}

/* @same: nothing differs: the base is HEAD's own tree, and the guest needs no git to find it. */
static void
find_ids (BangerWorkspace *workspace, gboolean same, GCancellable *cancellable)
{
  static const char *const words[] = { "rev-parse", "HEAD^{commit}", "HEAD^{tree}", NULL };
  g_autofree char *said = ask (workspace, words, cancellable);
  g_auto (GStrv) ids = said ? g_strsplit (said, "\n", 3) : NULL;
  if (!ids || g_strv_length (ids) != 2 || !is_id (ids[0]) || !is_id (ids[1]))
    return;
  workspace->commit = g_strdup (ids[0]);
  if (!same)
    return;
  workspace->head = g_strconcat (ids[0], "\n", NULL);
  workspace->tree = g_strconcat (ids[1], "\n", NULL);
}

/* Every tracked file that is not as HEAD has it, staged or not; all of them where git cannot say: no commit yet, or a
 * filter that it would have to run. */
gboolean
workspace_base_find (BangerWorkspace *workspace, GCancellable *cancellable, GError **error)
{
  static const char *const differing[] = { "diff-index", "-z", "--name-only", "--no-renames", "--ignore-submodules=all",
                                           "HEAD",       NULL };
  static const char *const all[] = { "ls-files", "-z", NULL };
  g_autoptr (GError) own = NULL;
  GString *answer = banger_git_run (workspace->root, differing, WORKSPACE_MAX_LIST, cancellable, &own);
  if (!answer)
    answer = banger_git_run (workspace->root, all, WORKSPACE_MAX_LIST, cancellable, error);
  if (!answer)
    return FALSE;
  workspace_base_add (workspace, answer->str, answer->len);
  g_string_free (answer, TRUE);
  const WorkspaceRepository *top = workspace->repositories->pdata[0];
  find_ids (workspace, workspace->base->len == 0 && !top->partial, cancellable);
  return TRUE;
}

static gboolean
is_known (BangerWorkspace *workspace)
{
  return workspace->tree && !workspace->branch;
}

gboolean
workspace_base_send (WorkspaceTar *tar, GError **error)
{
  BangerWorkspace *workspace = tar->workspace;
  WorkspaceRepository *top = workspace->plain ? NULL : workspace->repositories->pdata[0];
  return !top || !top->files /* no history, no base */
         || (workspace_tar_folder (tar, ".git/banger", error)
             && (!is_known (workspace)
                 || (workspace_tar_text (tar, workspace->head, ".git/banger/head", error)
                     && workspace_tar_text (tar, workspace->tree, ".git/banger/base", error)))
             && workspace_tar_bytes (tar, workspace->base->data, workspace->base->len, ".git/banger/sent", error));
}

static gboolean
refuse (const char *format, const char *name, GError **error)
{
  g_autofree char *shown = banger_log_escape (name, PATH_MAX);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, format, shown);
#pragma GCC diagnostic pop
}

/* A file that is not as HEAD has it and not the same in both commits could only be one of them there. */
static gboolean
check_carried (BangerWorkspace *workspace, const char *from, GCancellable *cancellable, GError **error)
{
  const char *const words[] = { "diff-tree", "-r", "-z", "--name-only", "--no-renames", "HEAD", from, "--", NULL };
  g_autoptr (GHashTable) names = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GString) answer = banger_git_run (workspace->root, words, WORKSPACE_MAX_LIST, cancellable, error);
  if (!answer)
    return FALSE;
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1)
    g_hash_table_add (names, (gpointer)at);
  const char *at = (const char *)workspace->base->data, *end = at + workspace->base->len;
  for (; at < end; at += strlen (at) + 1)
    if (g_hash_table_contains (names, at))
      return refuse ("a branch cannot begin there: '%s' is not committed, and is another file there", at, error);
  return TRUE;
}

static gboolean
find_beginning (BangerWorkspace *workspace, const char *from, GCancellable *cancellable, GError **error)
{
  g_autofree char *commit = g_strconcat (from, "^{commit}", NULL);
  const char *const words[] = { "rev-parse", "-q", "--verify", "--end-of-options", commit, NULL };
  workspace->from = ask (workspace, words, cancellable);
  if (!workspace->from)
    return refuse ("there is no commit '%s' for a branch to begin at", from, error);
  return check_carried (workspace, workspace->from, cancellable, error);
}

gboolean
workspace_branch_find (BangerWorkspace *workspace, const BangerWorkspaceWish *wish, GCancellable *cancellable,
                       GError **error)
{
  const WorkspaceRepository *top = workspace->repositories->pdata[0];
  if (!wish || !wish->branch)
    return !wish || !wish->from
           || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "where a branch begins is asked for, but no branch");
  g_autofree char *ref = g_strconcat ("refs/heads/", wish->branch, NULL);
  const char *const check[] = { "check-ref-format", ref, NULL };
  const char *const find[] = { "rev-parse", "-q", "--verify", ref, NULL };
  g_autofree char *valid = *wish->branch != '-' ? ask (workspace, check, cancellable) : NULL;
  g_autofree char *there = valid ? ask (workspace, find, cancellable) : NULL;
  if (!valid)
    return refuse ("'%s' is no name for a branch", wish->branch, error);
  if (there)
    return refuse ("there is a branch '%s' already", wish->branch, error);
  if (!top->files)
    return refuse ("there can be no branch '%s' in the guest: the history stays behind", wish->branch, error);
  workspace->branch = g_strdup (wish->branch);
  return !wish->from || find_beginning (workspace, wish->from, cancellable, error);
}

/* For the guest's shell, in the folder above. A guest without git has no base, which an export says. */
char *
workspace_base_command (BangerWorkspace *workspace, const char *quoted_name)
{
  if (workspace->plain) /* of an earlier copy there may be one */
    return g_strconcat ("rm -rf ./", quoted_name, "/.git/banger", NULL);
  if (is_known (workspace))
    return g_strdup (WORKSPACE_NO_COMMAND);
  g_autofree char *branch = workspace->branch ? g_shell_quote (workspace->branch) : NULL;
  g_autofree char *make = branch ? g_strconcat ("(cd ./", quoted_name, " && git checkout -q -b ", branch, " ",
                                                workspace->from ? workspace->from : "",
                                                ") || exit " WORKSPACE_NO_BRANCH "; ", NULL)
                                 : g_strdup ("");
  return g_strconcat (make, "{ b=.git/banger; cd ./", quoted_name,
                      " && [ -f $b/sent ] && export GIT_INDEX_FILE=$b/index && if git rev-parse -q --verify HEAD "
                      ">$b/head; then git read-tree HEAD; else rm -f $b/head; git read-tree --empty; fi && git -c "
                      "core.looseCompression=0 update-index -z --add --remove --stdin <$b/sent && git write-tree "
                      ">$b/base.new && mv $b/base.new $b/base; rm -f $b/index; } >/dev/null 2>&1 || true",
                      NULL);
}
