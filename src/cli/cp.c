/* What both ways have in common: the guest's agent at the other end, and what it says.
 * Never believes that a guest does what it was told. */
#include "cli/cp.h"

#include <glib/gi18n.h>
#include <limits.h>
#include <string.h>

#include "cli/signals.h"
#include "common/error.h"
#include "common/log.h"
#include "common/size.h"

#define DRAW_USEC (200 * 1000)
#define SAID_BYTES 512
#define AGENT_USAGE 125

BangerTreeKind
banger_copy_kind (const char *path, char **ret_name)
{
  g_autofree char *name = g_path_get_basename (*path ? path : ".");
  gboolean contents = strcmp (name, ".") == 0 || strcmp (name, "..") == 0 || strcmp (name, "/") == 0
                      || g_str_has_suffix (path, "/.");
  *ret_name = contents ? g_strdup (".") : g_steal_pointer (&name);
  return contents ? BANGER_TREE_CONTENTS : BANGER_TREE_NAMED;
}

char *
banger_copy_shown (const char *from, const char *name, const char *path)
{
  gsize length = strlen (from);
  if (!g_str_has_prefix (path, name))
    return banger_log_escape (path, PATH_MAX);
  if (g_str_has_suffix (from, "/."))
    length -= 2;
  while (length > 1 && from[length - 1] == '/')
    length--;
  const char *rest = path + strlen (name);
  if (length == 1 && *from == '/' && *rest == '/')
    rest++;
  g_autofree char *whole = g_strdup_printf ("%.*s%s", (int)length, from, rest);
  return banger_log_escape (whole, PATH_MAX);
}

static void
on_moved (guint64 bytes, gpointer data)
{
  BangerCopy *copy = data;
  gint64 now = g_get_monotonic_time ();
  copy->moved = bytes;
  if (!copy->view || now - copy->drawn < DRAW_USEC)
    return;
  g_autofree char *size = banger_size_format (bytes);
  copy->drawn = now;
  banger_progress_view_set (copy->view, size, -1);
}

gboolean
banger_copy_run (BangerCopy *copy, const char *const *words, int in, int out, int *ret_status, char **ret_said,
                 GError **error)
{
  g_autoptr (GString) said = g_string_new (NULL);
  const BangerExecEnds ends = { .in = in, .out = out, .err = said, .moved = on_moved, .data = copy };
  const BangerExecCommand command = {
    .name = copy->guest.name, .path = copy->guest.path, .words = words, .no_stdin = in < 0, .ends = &ends
  };
  if (!banger_exec_run (copy->guest.client, &command, ret_status, error))
    return FALSE;
  gboolean old = *ret_status == 126 || *ret_status == 127
                 || (*ret_status == AGENT_USAGE && g_str_has_prefix (said->str, "usage:"));
  if (old)
    return banger_set_error (
        error, BANGER_ERROR_NOT_SUPPORTED,
        _ ("the agent in %s does not know how to copy, it is of an older banger: start the VM anew"), copy->guest.name);
  *ret_said = g_strdup (said->str);
  return TRUE;
}

static void
tell (const BangerCopy *copy, const char *line)
{
  g_printerr (_ ("%s says: %s\n"), copy->guest.name, line);
}

gboolean
banger_copy_check (BangerCopy *copy, int status, const char *said, GError **error)
{
  g_auto (GStrv) lines = g_strsplit (said, "\n", -1);
  g_autofree char *last = NULL;
  g_clear_pointer (&copy->view, banger_progress_view_free);
  for (char **line = lines; *line; line++) {
    if (**line == '\0')
      continue;
    if (last && (status != 0 || !copy->quiet))
      tell (copy, last);
    g_free (last);
    last = banger_log_escape (*line, SAID_BYTES);
  }
  if (banger_signals_first () != 0)
    return banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"));
  if (status == 128 + SIGPIPE)
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("nobody takes what %s sends any more"), copy->guest.name);
  if (status != 0 && last)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s says: %s"), copy->guest.name, last);
  if (status != 0)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("the command in %s ended with status %d"),
                             copy->guest.name, status);
  if (last && !copy->quiet)
    tell (copy, last);
  return TRUE;
}
