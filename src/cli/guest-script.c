/* Scripts in guests: see guest-script.h.
 * Called by the commands that carry work out of a guest and files in and out.
 * Never believes that a guest ran what it was told. */
#include "cli/guest-script.h"

#include <glib/gi18n.h>
#include <string.h>

#include "cli/signals.h"
#include "cli/ssh.h"
#include "common/error.h"
#include "common/log.h"

#define SAID_BYTES 512

gboolean
banger_guest_find (BangerGuest *guest, const char *name, GError **error)
{
  guest->client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  guest->vm = guest->client ? banger_objects_get (guest->client, &banger_kind_vm, name, &guest->path, error) : NULL;
  if (!guest->vm || !banger_vm_running_check (guest->vm, error))
    return FALSE;
  guest->name = banger_property_string (guest->vm, "Name");
  guest->workspace = banger_property_string (guest->vm, "Workspace");
  guest->folder = banger_property_string (guest->vm, "WorkspaceFolder");
  return TRUE;
}

gboolean
banger_guest_find_workspace (BangerGuest *guest, const char *name, GError **error)
{
  if (!banger_guest_find (guest, name, error))
    return FALSE;
  return *guest->folder != '\0'
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                              _ ("no work tree was sent into %s that is known: banger vm run PATH sends one"),
                              guest->name);
}

void
banger_guest_clear (BangerGuest *guest)
{
  g_clear_pointer (&guest->client, banger_client_free);
  g_clear_pointer (&guest->vm, json_object_unref);
  g_clear_pointer (&guest->path, g_free);
}

static void
tell (const BangerGuest *guest, const char *said)
{
  g_auto (GStrv) lines = g_strsplit (said, "\n", -1);
  for (char **line = lines; *line; line++) {
    g_autofree char *text = banger_log_escape (*line, SAID_BYTES);
    if (*text)
      g_printerr (_ ("%s says: %s\n"), guest->name, text);
  }
}

static gboolean
failed (const BangerGuest *guest, int status, char *said, GError **error)
{
  g_autofree char *text = banger_log_escape (g_strstrip (said), SAID_BYTES);
  if (banger_signals_first () != 0)
    return banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"));
  if (*text)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s says: %s"), guest->name, text);
  return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("the command in %s ended with status %d"), guest->name,
                           status);
}

gboolean
banger_guest_script (BangerGuest *guest, const char *script, const char *const *words, BangerExecEnds *ends,
                     gboolean quiet, GError **error)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  static const char *const first[] = { "/bin/sh", "-c" };
  for (guint i = 0; i < G_N_ELEMENTS (first); i++)
    g_ptr_array_add (argv, (gpointer)first[i]);
  g_ptr_array_add (argv, (gpointer)script);
  g_ptr_array_add (argv, (gpointer) "sh");
  for (; *words; words++)
    g_ptr_array_add (argv, (gpointer)*words);
  g_ptr_array_add (argv, NULL);
  g_autoptr (GString) said = g_string_new (NULL);
  int status = -1;
  ends->err = said;
  const BangerExecCommand command = {
    .name = guest->name,
    .path = guest->path,
    .words = (const char *const *)argv->pdata,
    .cwd = "/",
    .no_stdin = ends->in < 0,
    .ends = ends,
  };
  if (!banger_exec_run (guest->client, &command, &status, error))
    return FALSE;
  if (status != 0)
    return failed (guest, status, said->str, error);
  if (!quiet)
    tell (guest, said->str);
  return TRUE;
}
