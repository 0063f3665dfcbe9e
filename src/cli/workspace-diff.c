/* vm workspace diff: a guest's changes to be read.
 * Called through the command table.
 * Never shows a terminal a byte that it would obey. */
#include <errno.h>
#include <glib/gi18n.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "cli/workspace.h"
#include "common/error.h"

#define SHOWN_BYTES 8192 /* of one line */

/* As git colours a diff. The first that fits. */
static const struct {
  const char *start, *colour;
} colours[] = {
  { "diff --git ", "1" }, { "index ", "1" },   { "--- ", "1" },     { "+++ ", "1" },    { "new file ", "1" },
  { "deleted ", "1" },    { "old mode", "1" }, { "new mode", "1" }, { "rename ", "1" }, { "similarity ", "1" },
  { "@@", "36" },         { "+", "32" },       { "-", "31" },
};

static void
show_line (const char *line, gsize length, gboolean colour)
{
  g_autofree char *text = banger_terminal_escape (line, length, NULL);
  gsize n = strlen (text);
  gboolean ended = n > 0 && text[n - 1] == '\n';
  if (ended)
    text[n - 1] = '\0';
  for (guint i = 0; colour && i < G_N_ELEMENTS (colours); i++)
    if (g_str_has_prefix (text, colours[i].start)) {
      printf ("\033[%sm%s\033[m%s", colours[i].colour, text, ended ? "\n" : "");
      return;
    }
  printf ("%s%s", text, ended ? "\n" : "");
}

static gboolean
is_coloured (void)
{
  const char *term = g_getenv ("TERM"), *no = g_getenv ("NO_COLOR");
  return term && strcmp (term, "dumb") != 0 && (!no || *no == '\0');
}

static gboolean
show (FILE *file, GError **error)
{
  char line[SHOWN_BYTES];
  gboolean colour = is_coloured (), begun = TRUE;
  for (size_t n; fgets (line, sizeof line, file); begun = line[n - 1] == '\n') {
    n = MAX (strnlen (line, sizeof line), 1); /* a NUL ends what is shown of a line, or is shown */
    show_line (line, n, colour && begun);
  }
  (void)fflush (stdout);
  return !ferror (file)
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot read a temporary file"));
}

int
banger_vm_workspace_diff (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  guint64 max = banger_invocation_number (invocation, "max-size");
  if (!banger_guest_find_workspace (&guest, banger_invocation_argument (invocation, 0), error))
    return -1;
  if (!isatty (STDOUT_FILENO))
    return banger_changes_write (&guest, BANGER_CHANGES_TEXT, STDOUT_FILENO, max, FALSE, error) ? 0 : -1;
  FILE *file = tmpfile ();
  if (!file) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a temporary file"));
    return -1;
  }
  gboolean fine = banger_changes_write (&guest, BANGER_CHANGES_TEXT, fileno (file), max, FALSE, error);
  rewind (file);
  fine = fine && show (file, error);
  fclose (file);
  return fine ? 0 : -1;
}
