/* vm set: what a VM is to have from here on.
 * Called through the command table.
 * Never knows what may be changed when: the manager does. */
#include <glib/gi18n.h>

#include "cli/commands.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/validate.h"

static const char *const changes[] = { "name",   "vcpu",       "memory",    "disk-size", "link",
                                       "unlink", "allow-host", "deny-host", "setup" };

static gboolean
changes_anything (const BangerInvocation *invocation)
{
  gboolean any = banger_invocation_flag (invocation, "nat") || banger_invocation_flag (invocation, "no-nat");
  for (guint i = 0; !any && i < G_N_ELEMENTS (changes); i++)
    any = g_hash_table_contains (invocation->values, changes[i]);
  return any;
}

int
banger_vm_set (const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0), *new = banger_invocation_string (invocation, "name");
  if (!changes_anything (invocation))
    return banger_usage_error (error, _ ("nothing is to change: say what, as in --memory 2G"));
  g_autofree char *setup = NULL;
  if (banger_vm_options_check (invocation, error) < 0 || banger_vm_setup_read (invocation, &setup, error) < 0
      || (new && !banger_new_name_check (new, _ ("VM name"), error)))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;

  g_autofree char *what = g_strdup_printf (_ ("cannot change %s"), name);
  g_autofree char *done = new ? g_strdup_printf (_ ("%s is called %s now"), name, new)
                              : g_strdup_printf (_ ("%s is changed"), name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "SetVM");
  sd_bus_message_append (call, "s", name);
  sd_bus_message_open_container (call, 'a', "{sv}");
  if (new)
    sd_bus_message_append (call, "{sv}", "name", "s", new);
  if (setup)
    sd_bus_message_append (call, "{sv}", "setup", "s", setup);
  banger_vm_append_sizes (call, invocation);
  if (banger_invocation_flag (invocation, "nat") || banger_invocation_flag (invocation, "no-nat"))
    sd_bus_message_append (call, "{sv}", "nat", "b", (int)banger_invocation_flag (invocation, "nat"));
  banger_vm_append_reach (call, invocation);
  banger_append_strv_option (call, "unlink", banger_invocation_strv (invocation, "unlink"));
  banger_append_strv_option (call, "deny-host", banger_invocation_strv (invocation, "deny-host"));
  sd_bus_message_close_container (call);
  return banger_client_run_job (client, call, &text, NULL, error) ? 0 : -1;
}
