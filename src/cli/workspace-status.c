/* vm workspace status: what changed in a guest's copy of a work tree, and what in the tree itself since it was sent.
 * Called through the command table.
 * Never believes what a guest says of its own side more than for showing it. */
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/apply.h"
#include "cli/commands.h"
#include "cli/signals.h"
#include "cli/workspace.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/git-cage.h"
#include "common/log.h"

#define MAX_BYTES ((guint64)64 << 20) /* of names */
#define MAX_NUMBER 32

typedef struct {
  char change; /* 'A', 'M', 'D', 'R', 'T' */
  char *path, *from;
} Change;

typedef struct {
  BangerGuest guest;
  char *head, *own_head, *commits; /* what was sent, what the guest has now, how many it made; "": none */
  GPtrArray *there, *here;         /* Change, sorted by path */
  char *host_head, *host_commits;  /* likewise of the host, since what was sent; NULL: not known */
  GHashTable *known;               /* paths that were sent; of links with their object, else NULL */
} Status;

static void
change_free (gpointer data)
{
  Change *change = data;
  g_free (change->path);
  g_free (change->from);
  g_free (change);
}

static void
status_clear (Status *status)
{
  banger_guest_clear (&status->guest);
  g_free (status->head);
  g_free (status->own_head);
  g_free (status->commits);
  g_free (status->host_head);
  g_free (status->host_commits);
  g_clear_pointer (&status->there, g_ptr_array_unref);
  g_clear_pointer (&status->here, g_ptr_array_unref);
  g_clear_pointer (&status->known, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Status, status_clear)

static int
compare_changes (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const Change *const *)a)->path, (*(const Change *const *)b)->path);
}

static void
add_change (GPtrArray *changes, char kind, const char *path, const char *from)
{
  Change *change = g_new0 (Change, 1);
  change->change = kind;
  change->path = g_strdup (path);
  change->from = g_strdup (from);
  g_ptr_array_add (changes, change);
}

/* What a guest says */

/* The next of NUL-ended strings; NULL: there is none that is whole. */
static const char *
next (const char **at, const char *end)
{
  const char *start = *at, *nul = start < end ? memchr (start, '\0', (gsize)(end - start)) : NULL;
  *at = nul ? nul + 1 : end;
  return nul ? start : NULL;
}

/* "M", "path", or "R100", "old", "new", up to an empty one. */
static gboolean
read_changes (GPtrArray *changes, const char **at, const char *end)
{
  const char *word;
  while ((word = next (at, end)) && *word) {
    const char *path = next (at, end), *from = NULL;
    if (*word == 'R' || *word == 'C') {
      from = path;
      path = next (at, end);
    }
    if (!path || !strchr ("ADMRCT", *word))
      return FALSE;
    add_change (changes, *word, path, from);
  }
  return word != NULL;
}

/* "100644 blob 1234\tpath": remembers the names, and writes them down as git's update-index wants them. */
static gboolean
read_sent (Status *status, const char *at, const char *end, GString *index)
{
  static const char link[] = "120000";
  for (const char *line; (line = next (&at, end));) {
    const char *tab = strchr (line, '\t');
    g_auto (GStrv) words = tab ? g_strsplit (line, " ", 3) : NULL;
    if (!words || g_strv_length (words) != 3)
      return FALSE;
    g_autofree char *object = g_strndup (words[2], strcspn (words[2], "\t"));
    g_string_append_printf (index, "%s %s\t%s", words[0], object, tab + 1);
    g_hash_table_insert (status->known, g_strdup (tab + 1),
                         g_str_equal (words[0], link) ? g_steal_pointer (&object) : NULL);
    g_string_append_c (index, '\0');
  }
  return TRUE;
}

static char *
take_word (const char **at, const char *end, const char *allowed)
{
  const char *word = next (at, end);
  gboolean fine = word && strlen (word) <= 64 && word[strspn (word, allowed)] == '\0';
  return fine ? g_strdup (word) : NULL;
}

static gboolean
read_answer (Status *status, const GString *answer, GString *index, GError **error)
{
  static const char hex[] = "0123456789abcdef";
  const char *at = answer->str, *end = at + answer->len;
  status->there = g_ptr_array_new_with_free_func (change_free);
  status->here = g_ptr_array_new_with_free_func (change_free);
  status->known = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  if ((status->head = take_word (&at, end, hex)) && (status->own_head = take_word (&at, end, hex))
      && (status->commits = take_word (&at, end, "0123456789")) && read_changes (status->there, &at, end)
      && read_sent (status, at, end, index))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("what %s says of its work tree cannot be understood"),
                           status->guest.name);
}

static gboolean
ask_guest (Status *status, GString *index, GError **error)
{
  FILE *file = tmpfile ();
  if (!file)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a temporary file"));
  g_autoptr (GString) answer = g_string_new (NULL);
  gboolean fine = banger_changes_write (&status->guest, BANGER_CHANGES_STATUS, fileno (file), MAX_BYTES, TRUE, error);
  char buffer[65536];
  rewind (file);
  for (size_t n; fine && (n = fread (buffer, 1, sizeof buffer, file)) > 0;)
    g_string_append_len (answer, buffer, (gssize)n);
  fine = fine && (!ferror (file) || banger_set_error (error, BANGER_ERROR_FAILED, _ ("cannot read a temporary file")));
  fclose (file);
  return fine && read_answer (status, answer, index, error);
}

/* What the host says */

static char *
ask_host (Status *status, const char *const *words)
{
  GString *answer = banger_git_run (status->guest.workspace, words, MAX_NUMBER * 4, NULL, NULL);
  return answer ? g_strchomp (g_string_free (answer, FALSE)) : NULL;
}

static void
find_host_head (Status *status)
{
  static const char *const head[] = { "rev-parse", "-q", "--verify", "HEAD", NULL };
  g_autofree char *range = g_strconcat (status->head, "..HEAD", NULL);
  const char *const count[] = { "rev-list", "--count", range, "--", NULL };
  status->host_head = ask_host (status, head);
  if (status->host_head && *status->head && strcmp (status->host_head, status->head) != 0)
    status->host_commits = ask_host (status, count);
}

/* git looks into the object to compare a link, and takes one that is in the guest alone for another. */
static gboolean
is_same_link (const Status *status, const Change *change)
{
  const char *object = change->change == 'M' ? g_hash_table_lookup (status->known, change->path) : NULL;
  g_autofree char *file = object ? g_build_filename (status->guest.workspace, change->path, NULL) : NULL;
  char text[PATH_MAX];
  ssize_t n = file ? readlink (file, text, sizeof text) : -1;
  if (n < 0)
    return FALSE;
  g_autofree char *head = g_strdup_printf ("blob %zd", n);
  g_autoptr (GChecksum) sum = g_checksum_new (strlen (object) == 64 ? G_CHECKSUM_SHA256 : G_CHECKSUM_SHA1);
  g_checksum_update (sum, (const guchar *)head, (gssize)strlen (head) + 1);
  g_checksum_update (sum, (const guchar *)text, n);
  return g_str_equal (g_checksum_get_string (sum), object);
}

/* Files of the host that were sent and are not as they were. */
static gboolean
find_changed (Status *status, BangerApply *apply, const GString *index, GError **error)
{
  static const char *const fill[] = { "update-index", "-z", "--index-info", NULL };
  const char *const refresh[] = { "--work-tree", status->guest.workspace, "update-index", "-q", "--refresh", NULL };
  const char *const compare[] = { "--work-tree",   status->guest.workspace,   "diff-files",    "-z",
                                  "--name-status", "--ignore-submodules=all", "--no-ext-diff", NULL };
  g_autoptr (GString) said = g_string_new (NULL);
  banger_autofd int in = banger_apply_text (index, error);
  g_autoptr (GString) filled = in >= 0 ? banger_apply_git (apply, fill, in, said, error) : NULL;
  /* Reads them all. It fails if one is not as it was, which is told below. */
  g_autoptr (GString) refreshed = filled ? banger_apply_git (apply, refresh, -1, said, NULL) : NULL;
  g_autoptr (GString) answer = filled ? banger_apply_git (apply, compare, -1, said, error) : NULL;
  if (!answer)
    return FALSE;
  g_string_append_c (answer, '\0');
  const char *at = answer->str;
  if (!read_changes (status->here, &at, at + answer->len))
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("git names the files that changed in an unknown way"));
  for (guint i = status->here->len; i-- > 0;)
    if (is_same_link (status, status->here->pdata[i]))
      g_ptr_array_remove_index (status->here, i);
  return TRUE;
}

/* Files of the host that were not sent, and would be now. */
static gboolean
find_new (Status *status, GError **error)
{
  static const char *const words[] = { "ls-files", "-z", "-co", "--exclude-standard", "--deduplicate", NULL };
  g_autoptr (GString) answer = banger_git_run (status->guest.workspace, words, MAX_BYTES, NULL, error);
  if (!answer)
    return FALSE;
  const char *at = answer->str, *end = at + answer->len;
  for (const char *path; (path = next (&at, end));) {
    g_autofree char *file = g_build_filename (status->guest.workspace, path, NULL);
    struct stat st;
    if (!g_hash_table_contains (status->known, path) && lstat (file, &st) == 0 && !S_ISDIR (st.st_mode))
      add_change (status->here, 'A', path, NULL);
  }
  return TRUE;
}

static gboolean
ask (Status *status, GError **error)
{
  g_auto (BangerApply) apply = BANGER_APPLY_NONE;
  g_autoptr (GString) index = g_string_new (NULL);
  banger_signals_block ();
  if (!ask_guest (status, index, error) || !banger_apply_begin (&apply, status->guest.workspace, error)
      || !find_changed (status, &apply, index, error) || !find_new (status, error))
    return FALSE;
  find_host_head (status);
  g_ptr_array_sort (status->there, compare_changes);
  g_ptr_array_sort (status->here, compare_changes);
  return TRUE;
}

/* Shown */

static GHashTable *
names_of (const GPtrArray *changes)
{
  GHashTable *names = g_hash_table_new (g_str_hash, g_str_equal);
  for (guint i = 0; i < changes->len; i++) {
    const Change *change = changes->pdata[i];
    g_hash_table_add (names, change->path);
    if (change->from)
      g_hash_table_add (names, change->from);
  }
  return names;
}

static gboolean
is_in (GHashTable *names, const Change *change)
{
  return g_hash_table_contains (names, change->path) || (change->from && g_hash_table_contains (names, change->from));
}

static void
print_changes (const GPtrArray *changes, GHashTable *others)
{
  for (guint i = 0; i < changes->len; i++) {
    const Change *change = changes->pdata[i];
    g_autofree char *path = banger_log_escape (change->path, PATH_MAX);
    g_autofree char *from = change->from ? banger_log_escape (change->from, PATH_MAX) : NULL;
    g_print ("  %c  %s%s%s%s\n", change->change, from ? from : "", from ? " -> " : "", path,
             is_in (others, change) ? _ ("  (on both sides)") : "");
  }
}

static void
print_commits (const Status *status)
{
  const char *name = status->guest.name;
  if (*status->own_head && strcmp (status->own_head, status->head) != 0)
    g_print (_ ("commits made in %s: %s\n"), name, *status->commits ? status->commits : "?");
  if (!status->host_head || strcmp (status->host_head, status->head) == 0)
    return;
  if (status->host_commits)
    g_print (g_dngettext (NULL, "HEAD has moved here since %s was sent: %s commit\n",
                          "HEAD has moved here since %s was sent: %s commits\n",
                          strtoul (status->host_commits, NULL, 10)),
             *status->head ? status->head : "?", status->host_commits);
  else
    g_print (_ ("HEAD has moved here since the tree was sent: it is %s\n"), status->host_head);
}

static void
print_text (const Status *status)
{
  g_autoptr (GHashTable) there = names_of (status->there), here = names_of (status->here);
  g_autofree char *workspace = banger_log_escape (status->guest.workspace, PATH_MAX);
  g_autofree char *folder = banger_log_escape (status->guest.folder, PATH_MAX);
  g_print (_ ("%s was sent to %s in %s\n"), workspace, folder, status->guest.name);
  print_commits (status);
  g_print (status->there->len > 0 ? _ ("changed in %s:\n") : _ ("nothing has changed in %s\n"), status->guest.name);
  print_changes (status->there, here);
  g_print ("%s\n", status->here->len > 0 ? _ ("changed here:") : _ ("nothing has changed here"));
  print_changes (status->here, there);
}

/* A path of any bytes is JSON only with what is not UTF-8 escaped, as elsewhere. */
static void
set_text (JsonObject *object, const char *name, const char *text)
{
  g_autofree char *valid = text
                               ? g_utf8_validate (text, -1, NULL) ? g_strdup (text) : banger_log_escape (text, PATH_MAX)
                               : NULL;
  if (valid && *valid)
    json_object_set_string_member (object, name, valid);
  else
    json_object_set_null_member (object, name);
}

static JsonArray *
make_array (const GPtrArray *changes, GHashTable *others)
{
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < changes->len; i++) {
    const Change *change = changes->pdata[i];
    const char kind[] = { change->change, '\0' };
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "change", kind);
    set_text (object, "path", change->path);
    set_text (object, "from", change->from);
    json_object_set_boolean_member (object, "both", is_in (others, change));
    json_array_add_object_element (array, object);
  }
  return array;
}

static JsonObject *
make_side (const char *folder, const char *head, const char *commits, JsonArray *changes)
{
  JsonObject *side = json_object_new ();
  set_text (side, "folder", folder);
  set_text (side, "head", head);
  if (commits && *commits)
    json_object_set_int_member (side, "commits", g_ascii_strtoll (commits, NULL, 10));
  else
    json_object_set_null_member (side, "commits");
  json_object_set_array_member (side, "changes", changes);
  return side;
}

static void
print_json (const Status *status)
{
  g_autoptr (GHashTable) there = names_of (status->there), here = names_of (status->here);
  JsonObject *object = json_object_new ();
  const char *commits = status->host_commits;
  if (!commits && g_strcmp0 (status->host_head, status->head) == 0)
    commits = "0";
  set_text (object, "name", status->guest.name);
  set_text (object, "sent", status->head);
  json_object_set_object_member (
      object, "guest",
      make_side (status->guest.folder, status->own_head, status->commits, make_array (status->there, here)));
  json_object_set_object_member (
      object, "host",
      make_side (status->guest.workspace, status->host_head, commits, make_array (status->here, there)));
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);
  json_node_take_object (node, object);
  banger_json_print (node);
}

int
banger_vm_workspace_status (const BangerInvocation *invocation, GError **error)
{
  g_auto (Status) status = { 0 };
  if (!banger_guest_find_workspace (&status.guest, banger_invocation_argument (invocation, 0), error)
      || !ask (&status, error))
    return -1;
  (banger_invocation_flag (invocation, "json") ? print_json : print_text) (&status);
  return 0;
}
