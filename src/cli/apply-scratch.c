/* A folder of ours with a repository in it, that knows the objects and the ends of lines of the user's.
 * Called by workspace-apply.c and workspace-status.c.
 * Never takes more from the user's repository than that. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/apply.h"
#include "cli/signals.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/git-cage.h"
#include "common/log.h"
#include "common/scratch.h"

#define MAX_ANSWER ((gsize)64 << 10)
#define MAX_NAMES ((gsize)64 << 20)
#define MAX_ATTRIBUTES (1 << 20)

void
banger_apply_clear (BangerApply *apply)
{
  banger_scratch_remove (&apply->scratch_fd, apply->scratch);
  banger_apply_journal_close (apply);
  banger_clear_fd (&apply->top_fd);
  banger_clear_fd (&apply->git_fd);
  g_clear_pointer (&apply->targets, g_ptr_array_unref);
  g_clear_pointer (&apply->in_the_way, g_hash_table_unref);
  g_free (apply->top);
  g_free (apply->scratch);
}
/* What the host's repository is */

static char *
ask (BangerApply *apply, const char *const *words, GError **error)
{
  GString *answer = banger_git_run (apply->top, words, MAX_ANSWER, NULL, error);
  if (!answer)
    return NULL;
  if (answer->len > 0 && answer->str[answer->len - 1] == '\n')
    g_string_truncate (answer, answer->len - 1);
  return g_string_free (answer, FALSE);
}

static char *
ask_place (BangerApply *apply, const char *what, struct stat *ret, GError **error)
{
  const char *const words[] = { "rev-parse", "--path-format=absolute", what, NULL };
  g_autofree char *path = ask (apply, words, error);
  if (!path)
    return NULL;
  if (stat (path, ret) == 0)
    return g_steal_pointer (&path);
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, _ ("cannot use '%s'"), shown);
  return NULL;
}

/* Of the host's settings those that say what a line's end is, if they have a value that is known. */
static void
append_endings (BangerApply *apply, GString *config)
{
  static const struct {
    const char *key, *name, *values[4];
  } kept[] = {
    { "core.autocrlf", "autocrlf", { "true", "false", "input" } },
    { "core.eol", "eol", { "lf", "crlf", "native" } },
  };
  for (guint i = 0; i < G_N_ELEMENTS (kept); i++) {
    const char *const words[] = { "config", "--get", kept[i].key, NULL };
    g_autofree char *value = ask (apply, words, NULL);
    if (value && g_strv_contains (kept[i].values, value))
      g_string_append_printf (config, "\t%s = %s\n", kept[i].name, value);
  }
}

static char *
make_config (BangerApply *apply)
{
  static const char *const words[] = { "rev-parse", "--show-object-format", NULL };
  g_autofree char *format = ask (apply, words, NULL);
  gboolean other = format && g_str_equal (format, "sha256");
  GString *config = g_string_new (NULL);
  g_string_append_printf (config,
                          "[core]\n\trepositoryformatversion = %d\n\tbare = false\n\tfilemode = true\n"
                          "\tprotectHFS = true\n\tprotectNTFS = true\n\tlooseCompression = 0\n\tfsync = none\n",
                          other ? 1 : 0);
  append_endings (apply, config);
  if (other)
    g_string_append (config, "[extensions]\n\tobjectformat = sha256\n");
  return g_string_free (config, FALSE);
}

/* A folder of ours, with a repository in it */

/* Before git has run there. */
static gboolean
put (BangerApply *apply, const char *name, const char *text, gssize length, GError **error)
{
  g_autofree char *path = g_build_filename (apply->scratch, ".git", name, NULL);
  g_autoptr (GError) failure = NULL;
  return g_file_set_contents (path, text, length, &failure)
         || banger_set_error (error, BANGER_ERROR_FAILED, _ ("cannot write a temporary file: %s"), failure->message);
}

/* What is said of files beside the work tree. */
static gboolean
copy_own_attributes (BangerApply *apply, const char *common, GError **error)
{
  struct stat st;
  g_autofree char *path = g_build_filename (common, "info", "attributes", NULL), *text = NULL;
  gsize length = 0;
  return lstat (path, &st) < 0 || !S_ISREG (st.st_mode) || st.st_size > MAX_ATTRIBUTES
         || !g_file_get_contents (path, &text, &length, NULL)
         || put (apply, "info/attributes", text, (gssize)length, error);
}

static gboolean
make_scratch (BangerApply *apply, const char *common, GError **error)
{
  static const char *const folders[] = { ".git", ".git/objects", ".git/objects/info", ".git/refs", ".git/info" };
  g_autofree char *config = make_config (apply);
  apply->scratch_fd = banger_scratch_make ("banger-apply-", &apply->scratch, error);
  gboolean made = apply->scratch_fd >= 0;
  if (!made)
    return FALSE;
  for (guint i = 0; made && i < G_N_ELEMENTS (folders); i++)
    made = mkdirat (apply->scratch_fd, folders[i], 0700) == 0;
  if (!made)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a temporary folder"));
  /* The ancestors of what both sides changed. */
  g_autofree char *objects = strchr (common, '\n') ? g_strdup ("") : g_strconcat (common, "/objects\n", NULL);
  return put (apply, "HEAD", "ref: refs/heads/apply\n", -1, error) && put (apply, "config", config, -1, error)
         && put (apply, "objects/info/alternates", objects, -1, error) && copy_own_attributes (apply, common, error);
}

gboolean
banger_apply_begin (BangerApply *apply, const char *top, GError **error)
{
  g_autofree char *shown = banger_log_escape (top, PATH_MAX);
  apply->top = g_strdup (top);
  apply->targets = g_ptr_array_new_with_free_func (banger_target_free);
  apply->in_the_way = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  apply->top_fd = open (top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (apply->top_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, _ ("cannot use '%s'"), shown);
  g_autofree char *git = ask_place (apply, "--absolute-git-dir", &apply->git_folders[0], error);
  g_autofree char *common = git ? ask_place (apply, "--git-common-dir", &apply->git_folders[1], error) : NULL;
  if (!common)
    return FALSE;
  apply->git_fd = open (git, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (apply->git_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, _ ("cannot use '%s'"), shown);
  return make_scratch (apply, common, error);
}

/* git, in there */

int
banger_apply_text (const GString *text, GError **error)
{
  banger_autofd int fd = memfd_create ("git-input", MFD_CLOEXEC);
  if (fd < 0 || banger_write_all (fd, text->str, text->len) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot write a temporary file"));
    return -1;
  }
  return banger_steal_fd (&fd);
}

GString *
banger_apply_git (BangerApply *apply, const char *const *words, int in, GString *said, GError **error)
{
  const BangerGitEnds ends = { .in = in, .max = MAX_NAMES, .wake = banger_signals_fd (), .said = said };
  if (in >= 0 && lseek (in, 0, SEEK_SET) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read a temporary file"));
    return NULL;
  }
  return banger_git_run_within (apply->scratch, words, &ends, error);
}
