/* vm workspace export --apply: a guest's patch into the host's work tree.
 * git applies it to copies of the files that it names, in a folder of ours and in a cage; what became of them is put in
 * place by apply-commit.c. So nothing that the repository names runs, and a patch that git should take for a harmless
 * one writes nothing but the files whose names were looked at here.
 * Never leaves half of a patch behind; never touches the host's index. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/apply.h"
#include "cli/signals.h"
#include "cli/workspace.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

#define MAX_EXCLUDED ((gsize)1 << 20) /* of a command line */
#define TOLD_LINES 10
#define TOLD_BYTES 512

/* Whatever git objects to in a patch. Other failures are told as they are. */
static gboolean
refused (const GString *said, GError *failure, const char *what, gboolean hint, GError **error)
{
  if (!g_error_matches (failure, BANGER_ERROR, BANGER_ERROR_INVALID_PATH)) {
    g_propagate_error (error, failure);
    return FALSE;
  }
  g_auto (GStrv) lines = g_strsplit (said->str, "\n", -1);
  guint told = 0;
  for (char **line = lines; *line && told < TOLD_LINES; line++) {
    if (!g_str_has_prefix (*line, "error: ") && !g_str_has_prefix (*line, "fatal: ") && !g_str_has_prefix (*line, "U "))
      continue;
    g_autofree char *text = banger_log_escape (*line, TOLD_BYTES);
    g_printerr (_ ("git says: %s\n"), text);
    told++;
  }
  g_error_free (failure);
  return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                           hint ? _ ("%s does not fit any more, and nothing was changed; with --3way what both sides "
                                     "changed is merged")
                                : _ ("%s does not fit any more, and nothing was changed"),
                           what);
}

/* "3\t1\tname": of each file its name, NUL-ended. */
static gboolean
add_names (GHashTable *names, const GString *answer, GError **error)
{
  for (const char *at = answer->str, *end = at + answer->len; at < end; at += strlen (at) + 1) {
    const char *tab = strchr (at, '\t'), *name = tab ? strchr (tab + 1, '\t') : NULL;
    if (!name)
      return banger_set_error (error, BANGER_ERROR_FAILED, _ ("git names the files of a patch in an unknown way"));
    g_hash_table_add (names, g_strdup (name + 1));
  }
  return TRUE;
}

/* Both the new names and, from the reverse of the patch, the old ones. */
static gboolean
find_names (BangerApply *apply, const BangerPatch *patch, GHashTable *names, GError **error)
{
  static const char *const forth[] = { "apply", "--numstat", "-z", NULL };
  static const char *const back[] = { "apply", "--numstat", "-z", "-R", NULL };
  static const char *const *const both[] = { forth, back };
  for (guint i = 0; i < G_N_ELEMENTS (both); i++) {
    g_autoptr (GString) said = g_string_new (NULL);
    g_autoptr (GError) failure = NULL;
    g_autoptr (GString) answer = banger_apply_git (apply, both[i], patch->fd, said, &failure);
    if (!answer)
      return refused (said, g_steal_pointer (&failure), patch->what, FALSE, error);
    if (!add_names (names, answer, error))
      return FALSE;
  }
  return TRUE;
}

/* The guest's word on how the files were when they were sent, so that there are ancestors of those that were in no
 * commit. Without them there is less to merge. */
static void
add_ancestors (BangerApply *apply, int sent)
{
  static const char *const words[] = { "apply", "--cached", "--whitespace=nowarn", NULL };
  char commit[65] = "";
  ssize_t n = lseek (sent, 0, SEEK_SET) == 0 ? read (sent, commit, sizeof commit - 1) : -1;
  gsize length = n > 0 ? strspn (commit, "0123456789abcdef") : 0;
  const char *const read_tree[] = { "read-tree", commit, NULL };
  if (length != 40 && length != 64)
    return;
  commit[length] = '\0';
  g_autoptr (GString) said = g_string_new (NULL);
  g_autoptr (GString) tree = banger_apply_git (apply, read_tree, -1, said, NULL);
  g_autoptr (GString) answer = tree ? banger_apply_git (apply, words, sent, said, NULL)
                                    : NULL; /* it passes over the first line */
  const char *name;
  banger_autofd int folder = banger_apply_parent (apply->scratch_fd, ".git/index", &name);
  if (folder >= 0)
    (void)unlinkat (folder, name, 0);
}

/* The host's files as they are: what the patch is merged with. */
static gboolean
fill_index (BangerApply *apply, GError **error)
{
  static const char *const words[] = { "update-index", "-z", "--add", "--stdin", NULL };
  g_autoptr (GString) said = g_string_new (NULL), list = g_string_new (NULL);
  GHashTableIter iter;
  gpointer path;
  for (g_hash_table_iter_init (&iter, apply->in_the_way); g_hash_table_iter_next (&iter, &path, NULL);)
    g_string_append_len (list, path, (gssize)strlen (path) + 1);
  for (guint i = 0; i < apply->targets->len; i++) {
    const BangerTarget *target = apply->targets->pdata[i];
    if (target->there && !S_ISDIR (target->before.st_mode))
      g_string_append_len (list, target->path, (gssize)strlen (target->path) + 1);
  }
  banger_autofd int in = banger_apply_text (list, error);
  g_autoptr (GString) answer = in >= 0 ? banger_apply_git (apply, words, in, said, error) : NULL;
  return answer != NULL;
}

static gboolean
is_there (BangerApply *apply, const char *path)
{
  for (guint low = 0, high = apply->targets->len; low < high;) {
    guint middle = low + (high - low) / 2;
    const BangerTarget *target = apply->targets->pdata[middle];
    int order = strcmp (path, target->path);
    if (order == 0)
      return target->there;
    low = order > 0 ? middle + 1 : low;
    high = order > 0 ? high : middle;
  }
  return TRUE;
}

/* What the patch deletes and the host has deleted, too: git would say that it does not fit. " delete mode 100644 name" of
 * each; who calls a file otherwise has less of its own patch applied. */
static gboolean
exclude_deleted (BangerApply *apply, const BangerPatch *patch, GPtrArray *words, GError **error)
{
  static const char *const summary[] = { "apply", "--summary", NULL };
  static const char word[] = " delete mode 100644 ";
  g_autoptr (GString) said = g_string_new (NULL);
  g_autoptr (GString) answer = banger_apply_git (apply, summary, patch->fd, said, error);
  g_auto (GStrv) lines = g_strsplit (answer ? answer->str : "", "\n", -1);
  gsize bytes = 0;
  for (char **line = lines; *line && bytes < MAX_EXCLUDED; line++) {
    if (!g_str_has_prefix (*line, " delete mode ") || strlen (*line) < sizeof word
        || is_there (apply, *line + strlen (word)))
      continue;
    GString *option = g_string_new ("--exclude=");
    for (const char *c = *line + strlen (word); *c; c++)
      g_string_append_printf (option, "%s%c", strchr ("*?[\\", *c) ? "\\" : "", *c);
    bytes += option->len;
    g_ptr_array_add (words, g_string_free (option, FALSE));
  }
  return answer != NULL;
}

static gboolean
apply_there (BangerApply *apply, const BangerPatch *patch, GError **error)
{
  gboolean merge = patch->sent_fd >= 0;
  g_autoptr (GPtrArray) words = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GString) said = g_string_new (NULL);
  GError *failure = NULL;
  g_ptr_array_add (words, g_strdup ("apply"));
  g_ptr_array_add (words, g_strdup ("--whitespace=nowarn"));
  if (merge) {
    g_ptr_array_add (words, g_strdup ("--3way"));
    add_ancestors (apply, patch->sent_fd);
    if (!fill_index (apply, error) || !exclude_deleted (apply, patch, words, error))
      return FALSE;
  }
  g_ptr_array_add (words, NULL);
  g_autoptr (GString) answer = banger_apply_git (apply, (const char *const *)words->pdata, patch->fd, said, &failure);
  return answer || refused (said, failure, patch->what, !merge, error);
}

static gboolean
is_interrupted (GError **error)
{
  return banger_signals_first () != 0 || banger_signals_take () != 0
             ? !banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"))
             : FALSE;
}

gssize
banger_changes_apply (const char *top, const BangerPatch *patch, GError **error)
{
  g_auto (BangerApply) apply = BANGER_APPLY_NONE;
  g_autoptr (GHashTable) names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  banger_signals_block ();
  if (!banger_apply_begin (&apply, top, error) || !banger_apply_journal_open (&apply, error)
      || !find_names (&apply, patch, names, error) || !banger_apply_take (&apply, names, error)
      || !apply_there (&apply, patch, error))
    return -1;
  gssize count = banger_apply_compare (&apply, error);
  if (count < 0 || is_interrupted (error) || (count > 0 && !banger_apply_commit (&apply, error)))
    return -1;
  return count;
}
