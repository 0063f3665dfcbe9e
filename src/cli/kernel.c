/* kernel import, pull, list, show, delete.
 * Called through the command table.
 * Never fetches anything itself: the manager does. */
#include <errno.h>
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/available.h"
#include "cli/commands.h"
#include "cli/verbs.h"
#include "common/validate.h"

#define DEFAULT_SOURCE "apt:linux-image-cloud-amd64"

/* Returns: (transfer full): @text as the manager wants it, NULL with a usage error if it is a file that is not there.
 */
static char *
resolve_source (const char *text, GError **error)
{
  if (!text)
    return g_strdup (DEFAULT_SOURCE);
  if (g_str_has_prefix (text, "apt:") || g_str_has_prefix (text, "catalog:"))
    return g_strdup (text);
  g_autofree char *path = banger_absolute_path (text, error);
  if (!path)
    return NULL;
  if (access (path, R_OK) == 0)
    return g_steal_pointer (&path);
  if (!strchr (text, '/'))
    banger_usage_error (error, _ ("cannot read '%s': %s; a Debian package to fetch is written apt:%s"), text,
                        g_strerror (errno), text);
  else
    banger_usage_error (error, _ ("cannot read '%s': %s"), text, g_strerror (errno));
  return NULL;
}

int
banger_kernel_import_command (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_new_name (invocation);
  const char *modules = banger_invocation_string (invocation, "modules");
  if (!banger_new_name_check (name, _ ("kernel name"), error))
    return -1;
  g_autofree char *source = resolve_source (banger_invocation_argument (invocation, 1), error);
  if (!source)
    return -1;
  g_autofree char *directory = modules ? banger_absolute_path (modules, error) : NULL;
  if (modules && !directory)
    return -1;
  if (directory && !g_file_test (directory, G_FILE_TEST_IS_DIR))
    return banger_usage_error (error, _ ("--modules: '%s' is not a directory"), modules);
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;

  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportKernel");
  sd_bus_message_append (call, "s", name);
  banger_append_path (call, source);
  sd_bus_message_open_container (call, 'a', "{sv}");
  banger_append_path_bytes (call, "source-bytes", source);
  if (directory && g_utf8_validate (directory, -1, NULL))
    sd_bus_message_append (call, "{sv}", "modules", "s", directory);
  else if (directory)
    banger_append_path_option (call, "modules", directory);
  sd_bus_message_close_container (call);
  g_autofree char *what = g_strdup_printf (_ ("cannot import %s"), name);
  g_autofree char *done = g_strdup_printf (_ ("%s is ready"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

int
banger_kernel_pull_command (const BangerInvocation *invocation, GError **error)
{
  const char *entry = banger_invocation_argument (invocation, 0), *given = banger_invocation_argument (invocation, 1),
             *name = given ? given : entry;
  if (!banger_new_name_check (entry, _ ("name of the catalog's"), error)
      || !banger_new_name_check (name, _ ("kernel name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_autofree char *source = g_strconcat ("catalog:", entry, NULL);
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ImportKernel");
  sd_bus_message_append (call, "ssa{sv}", name, source, 0);
  g_autofree char *what = g_strdup_printf (_ ("cannot pull %s"), entry);
  g_autofree char *done = g_strdup_printf (_ ("%s is ready"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}

int
banger_kernel_list (const BangerInvocation *invocation, GError **error)
{
  if (banger_invocation_flag (invocation, "available"))
    return banger_available_list (invocation, "ListAvailableKernels", error);
  return banger_list (invocation, &banger_kind_kernel, NULL, error);
}

int
banger_kernel_show (const BangerInvocation *invocation, GError **error)
{
  return banger_show (invocation, &banger_kind_kernel, error);
}

int
banger_kernel_delete_command (const BangerInvocation *invocation, GError **error)
{
  static const BangerVerb verb = { "DeleteKernel", N_ ("cannot delete %s"), N_ ("%s is deleted"), NULL, TRUE };
  return banger_run_each (invocation, &verb, error);
}
