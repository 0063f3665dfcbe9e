/* image build, import, list, show, delete.
 * Called through the command table.
 * Never reads an image itself: the manager does, with the same rights. */
#include <glib/gi18n.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/verbs.h"
#include "common/validate.h"

static int
run_image_job (BangerClient *client, sd_bus_message *call, const BangerInvocation *invocation, const char *name,
               const char *what, GError **error)
{
  g_autofree char *done = g_strdup_printf (_ ("%s is ready"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

int
banger_image_build_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_new_name (invocation);
  if (!banger_name_check (name, _ ("image name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (client == NULL)
    return -1;

  const char *const *packages = banger_invocation_strv (invocation, "package");
  guint64 size = banger_invocation_number (invocation, "size");
  static const char *const strings[] = { "suite", "mirror" };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "BuildImage");
  sd_bus_message_append (call, "s", name);
  sd_bus_message_open_container (call, 'a', "{sv}");
  for (gsize i = 0; i < G_N_ELEMENTS (strings); i++)
    if (banger_invocation_string (invocation, strings[i]) != NULL)
      sd_bus_message_append (call, "{sv}", strings[i], "s", banger_invocation_string (invocation, strings[i]));
  if (packages[0] != NULL) {
    sd_bus_message_open_container (call, 'e', "sv");
    sd_bus_message_append (call, "s", "packages");
    sd_bus_message_open_container (call, 'v', "as");
    sd_bus_message_append_strv (call, (char **)packages);
    sd_bus_message_close_container (call);
    sd_bus_message_close_container (call);
  }
  if (size != 0)
    sd_bus_message_append (call, "{sv}", "size-bytes", "t", size);
  sd_bus_message_close_container (call);
  g_autofree char *what = g_strdup_printf (_ ("cannot build %s"), name);
  return run_image_job (client, call, invocation, name, what, error);
}

int
banger_image_import_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *file = banger_invocation_argument (invocation, 1);
  gboolean from_stdin = strcmp (file, "-") == 0;
  g_autofree char *path = from_stdin ? g_strdup ("") : banger_absolute_path (file);
  if (!banger_name_check (name, _ ("image name"), error))
    return -1;
  if (from_stdin && isatty (STDIN_FILENO))
    return banger_usage_error (error, _ ("stdin is a terminal; pipe a tar archive into it, or name a file"));
  if (!from_stdin && access (path, R_OK) < 0)
    return banger_usage_error (error, _ ("cannot read '%s': %s"), file, g_strerror (errno));
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (client == NULL)
    return -1;

  guint64 size = banger_invocation_number (invocation, "size");
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportImage");
  sd_bus_message_append (call, "ss", name, path);
  sd_bus_message_open_container (call, 'a', "{sv}");
  if (from_stdin)
    sd_bus_message_append (call, "{sv}", "fd", "h", STDIN_FILENO);
  if (size != 0)
    sd_bus_message_append (call, "{sv}", "size-bytes", "t", size);
  sd_bus_message_close_container (call);
  g_autofree char *what = g_strdup_printf (_ ("cannot import %s"), name);
  return run_image_job (client, call, invocation, name, what, error);
}

int
banger_image_list (const BangerInvocation *invocation, GError **error)
{
  return banger_list (invocation, &banger_kind_image, NULL, error);
}

int
banger_image_show (const BangerInvocation *invocation, GError **error)
{
  return banger_show (invocation, &banger_kind_image, error);
}

int
banger_image_delete_command (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "DeleteImage", N_ ("cannot delete %s"), N_ ("%s is deleted"), NULL, TRUE };
  return banger_run_each (invocation, &verb, error);
}
