/* What a work tree is in the middle of, written into the repository's own folder before the first file is moved: whoever
 * comes next takes back what a kill or a loss of power left half done.
 * Called by workspace-apply.c and apply-commit.c.
 * Never lies in the work tree, where a patch or a clone could bring one; never moves what was changed since. */
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/apply.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/safe-path.h"

#define JOURNAL "banger-apply"
#define STAGE ".banger-apply-"
#define STAGE_DIGITS 12
#define MAX_BYTES (256 << 20)
#define TRIES 10

/* NUL-ended: the stage; then, once all that comes is made, for each target FLAGS INODE SECONDS NANOSECONDS, and its path;
 * "+" and a folder that is made; END. Without END nothing was moved. */
#define END "."

static gboolean
failed (const BangerApply *apply, int number, GError **error)
{
  g_autofree char *shown = banger_log_escape (apply->top, PATH_MAX);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, number,
                                 _ ("cannot write down what is to be changed in '%s'"), shown);
}

static gboolean
not_ours (const BangerApply *apply, GError **error)
{
  g_autofree char *shown = banger_log_escape (apply->top, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_FAILED,
                           _ ("'%s' in the git folder of '%s' is not banger's: look at it, and remove it"), JOURNAL,
                           shown);
}

/* Returns: 1: it is ours, 0: who had it has taken it away meanwhile, -1 with error. */
static int
try_lock (BangerApply *apply, int fd, GError **error)
{
  struct stat st;
  if (fd >= 0 && fstat (fd, &st) == 0 && st.st_nlink > 1) /* another file of the user's, of which nothing is cut */
    return not_ours (apply, error) - 1;
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode))
    return failed (apply, fd < 0 ? errno : EINVAL, error) - 1;
  if (flock (fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
    g_autofree char *shown = banger_log_escape (apply->top, PATH_MAX);
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             _ ("another `banger vm workspace export --apply` is at work in '%s': wait for it"), shown)
           - 1;
  }
  return fstat (fd, &st) == 0 && st.st_nlink > 0;
}

/* One at a time works on a tree. */
static gboolean
lock (BangerApply *apply, GError **error)
{
  for (guint i = 0; i < TRIES; i++) {
    banger_autofd int fd = openat (apply->git_fd, JOURNAL, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                                   0600);
    int r = try_lock (apply, fd, error);
    if (r > 0)
      apply->journal_fd = banger_steal_fd (&fd);
    if (r != 0)
      return r > 0;
  }
  return failed (apply, EAGAIN, error);
}

/* Writing */

gboolean
banger_apply_journal_begin (BangerApply *apply, const char *stage, GError **error)
{
  gsize length = strlen (stage) + 1;
  return (ftruncate (apply->journal_fd, 0) == 0 && lseek (apply->journal_fd, 0, SEEK_SET) == 0
          && banger_write_all (apply->journal_fd, stage, length) == 0)
         || failed (apply, errno, error);
}

static void
append (GString *text, const char *word)
{
  g_string_append_len (text, word, (gssize)strlen (word) + 1);
}

/* Those above @path that are no folders yet, each once. */
static void
append_folders (const BangerApply *apply, const char *path, GHashTable *seen, GString *text)
{
  g_autofree char *at = g_strdup (path);
  for (char *slash = strchr (at, '/'); slash; slash = strchr (slash + 1, '/')) {
    const char *name;
    struct stat st;
    *slash = '\0';
    banger_autofd int folder = banger_apply_parent (apply->top_fd, at, &name);
    gboolean there = folder >= 0 && fstatat (folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR (st.st_mode);
    if (!there && g_hash_table_add (seen, g_strdup (at))) {
      append (text, "+");
      append (text, at);
    }
    *slash = '/';
  }
}

gboolean
banger_apply_journal_write (BangerApply *apply, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < apply->targets->len; i++) {
    const BangerTarget *target = apply->targets->pdata[i];
    const char *name = NULL;
    struct stat st = { 0 };
    banger_autofd int stage = target->comes ? banger_apply_parent (apply->top_fd, target->kept, &name) : -1;
    if (target->comes && (stage < 0 || fstatat (stage, name, &st, AT_SYMLINK_NOFOLLOW) < 0))
      return failed (apply, errno, error);
    g_string_append_printf (text, "%s%s %" G_GUINT64_FORMAT " %" G_GINT64_FORMAT " %ld", target->goes ? "g" : "-",
                            target->comes ? "c" : "-", (guint64)st.st_ino, (gint64)st.st_mtim.tv_sec,
                            (long)st.st_mtim.tv_nsec);
    g_string_append_c (text, '\0');
    append (text, target->path);
    if (target->comes)
      append_folders (apply, target->path, seen, text);
  }
  append (text, END);
  /* The new files, too: who finds one of them in its place is to find what is in it. */
  return (banger_write_all (apply->journal_fd, text->str, text->len) == 0 && syncfs (apply->top_fd) == 0
          && fsync (apply->journal_fd) == 0)
         || failed (apply, errno, error);
}

/* From here on there is nothing to take back, only the stage to remove. */
static gboolean
forget (BangerApply *apply, gsize length)
{
  return syncfs (apply->top_fd) == 0 && ftruncate (apply->journal_fd, (off_t)length) == 0
         && fsync (apply->journal_fd) == 0;
}

void
banger_apply_journal_end (BangerApply *apply, const char *stage, gboolean keep)
{
  if (keep)
    (void)forget (apply, 0);
  else if (forget (apply, strlen (stage) + 1)) {
    banger_apply_fault ();
    if (banger_safe_remove_tree (apply->top_fd, stage, NULL))
      (void)!ftruncate (apply->journal_fd, 0);
    banger_apply_fault ();
  }
}

void
banger_apply_journal_close (BangerApply *apply)
{
  struct stat st;
  if (apply->journal_fd >= 0 && fstat (apply->journal_fd, &st) == 0 && st.st_size == 0)
    (void)unlinkat (apply->git_fd, JOURNAL, 0);
  banger_clear_fd (&apply->journal_fd);
}

/* Taking back */

typedef struct {
  gboolean goes, comes;
  guint64 inode;
  gint64 seconds;
  long nanoseconds;
  const char *path;
  char *kept, *taken;
} Entry;

typedef struct {
  GArray *entries;    /* Entry */
  GPtrArray *folders; /* that were made, outer ones first */
} Journal;

static void
entry_clear (gpointer data)
{
  Entry *entry = data;
  g_free (entry->kept);
  g_free (entry->taken);
}

static void
journal_clear (Journal *journal)
{
  g_array_unref (journal->entries);
  g_ptr_array_unref (journal->folders);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Journal, journal_clear)

static gboolean
is_stage (const char *name)
{
  const char *digits = name + strlen (STAGE);
  return g_str_has_prefix (name, STAGE) && strlen (digits) == STAGE_DIGITS
         && strspn (digits, "0123456789abcdef") == STAGE_DIGITS;
}

static gboolean
parse_entry (const char *word, const char *path, const char *stage, guint index, Entry *entry)
{
  g_auto (GStrv) words = g_strsplit (word, " ", -1);
  if (g_strv_length (words) != 4 || strlen (words[0]) != 2 || !banger_apply_check_name (path, NULL))
    return FALSE;
  *entry = (Entry){ words[0][0] == 'g',
                    words[0][1] == 'c',
                    g_ascii_strtoull (words[1], NULL, 10),
                    g_ascii_strtoll (words[2], NULL, 10),
                    strtol (words[3], NULL, 10),
                    path,
                    g_strdup_printf ("%s/new-%u", stage, index),
                    g_strdup_printf ("%s/old-%u", stage, index) };
  return TRUE;
}

/* @at: behind the stage. Returns: %FALSE: we wrote no such thing. */
static gboolean
parse (Journal *journal, const char *stage, const char *at, const char *end)
{
  for (const char *word = at; word < end; word = at) {
    Entry entry;
    at += strlen (word) + 1;
    if (at >= end)
      return strcmp (word, END) == 0;
    if (strcmp (word, "+") == 0 && banger_apply_check_name (at, NULL))
      g_ptr_array_add (journal->folders, g_strdup (at));
    else if (parse_entry (word, at, stage, journal->entries->len, &entry))
      g_array_append_val (journal->entries, entry);
    else
      return FALSE;
    at += strlen (at) + 1;
  }
  return FALSE;
}

static gboolean
look (const BangerApply *apply, const char *path, struct stat *ret)
{
  const char *name;
  banger_autofd int folder = banger_apply_parent (apply->top_fd, path, &name);
  return folder >= 0 && fstatat (folder, name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What was placed. Returns: %FALSE if somebody has changed it since. */
static gboolean
take_back (const BangerApply *apply, const Entry *entry)
{
  struct stat st;
  if (!entry->comes || look (apply, entry->kept, &st) || !look (apply, entry->path, &st))
    return TRUE;
  return st.st_ino == entry->inode && st.st_mtim.tv_sec == entry->seconds && st.st_mtim.tv_nsec == entry->nanoseconds
         && banger_apply_move (apply, entry->path, entry->kept);
}

static gboolean
put_back (const BangerApply *apply, const Entry *entry)
{
  struct stat st;
  if (!entry->goes || !look (apply, entry->taken, &st))
    return TRUE;
  g_autofree char *at = g_strdup (entry->path);
  for (char *slash = strchr (at, '/'); slash; slash = strchr (slash + 1, '/')) {
    const char *name;
    *slash = '\0';
    banger_autofd int folder = banger_apply_parent (apply->top_fd, at, &name);
    if (folder >= 0)
      (void)mkdirat (folder, name, 0777);
    *slash = '/';
  }
  return banger_apply_move (apply, entry->taken, entry->path);
}

static gboolean
undo (const BangerApply *apply, const Journal *journal)
{
  gboolean fine = TRUE;
  for (guint i = journal->entries->len; i-- > 0;) {
    const Entry *entry = &g_array_index (journal->entries, Entry, i);
    if (take_back (apply, entry))
      continue;
    g_autofree char *shown = banger_log_escape (entry->path, PATH_MAX);
    g_printerr (_ ("banger: '%s' was changed since, and stays\n"), shown);
    fine = FALSE;
  }
  for (guint i = journal->folders->len; i-- > 0;) {
    const char *name;
    banger_autofd int folder = banger_apply_parent (apply->top_fd, journal->folders->pdata[i], &name);
    if (folder >= 0)
      (void)unlinkat (folder, name, AT_REMOVEDIR);
  }
  for (guint i = journal->entries->len; i-- > 0;) {
    const Entry *entry = &g_array_index (journal->entries, Entry, i);
    if (put_back (apply, entry))
      continue;
    banger_apply_tell_lost (apply, entry->path, entry->taken);
    fine = FALSE;
  }
  return fine;
}

/* What a loss of power, or a full disk, left of it: nothing was moved yet. */
static gboolean
is_whole (const char *text, gsize length)
{
  static const char tail[] = { '\0', END[0], '\0' };
  return length > sizeof tail && memcmp (text + length - sizeof tail, tail, sizeof tail) == 0;
}

static void
drop (BangerApply *apply, const char *text)
{
  if (is_stage (text))
    banger_apply_journal_end (apply, text, FALSE);
  else
    (void)!ftruncate (apply->journal_fd, 0);
}

static gboolean
recover (BangerApply *apply, const char *text, gsize length, GError **error)
{
  g_auto (Journal) journal = { g_array_new (FALSE, FALSE, sizeof (Entry)), g_ptr_array_new_with_free_func (g_free) };
  g_autofree char *shown = banger_log_escape (apply->top, PATH_MAX);
  const char *end = text + length;
  struct stat st;
  g_array_set_clear_func (journal.entries, entry_clear);
  if (!is_whole (text, length)) {
    drop (apply, text);
    return TRUE;
  }
  if (!is_stage (text) || !parse (&journal, text, text + strlen (text) + 1, end))
    return not_ours (apply, error);
  /* Who has removed the stage wants nothing of it. */
  gboolean there = fstatat (apply->top_fd, text, &st, AT_SYMLINK_NOFOLLOW) == 0;
  gboolean fine = !there || undo (apply, &journal);
  banger_apply_journal_end (apply, text, !fine);
  if (!fine)
    return banger_set_error (
        error, BANGER_ERROR_WRONG_STATE,
        _ ("an --apply in '%s' was cut off, and not all of it could be undone: look at the files above, "
           "and at '%s'"),
        shown, text);
  if (there)
    g_printerr (_ ("an earlier --apply in %s was cut off: what it had changed is undone\n"), shown);
  return TRUE;
}

gboolean
banger_apply_journal_open (BangerApply *apply, GError **error)
{
  struct stat st;
  if (!lock (apply, error))
    return FALSE;
  if (fstat (apply->journal_fd, &st) < 0 || st.st_size > MAX_BYTES)
    return failed (apply, EFBIG, error);
  g_autofree char *text = g_malloc0 ((gsize)st.st_size + 1);
  ssize_t n = banger_read_at (apply->journal_fd, text, (size_t)st.st_size, 0);
  return n < 0 ? failed (apply, errno, error) : recover (apply, text, (gsize)n, error);
}
