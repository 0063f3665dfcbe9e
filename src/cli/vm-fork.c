/* vm fork.
 * Called through the command table.
 * Never makes up a name: whoever asks for several copies has their names from the one that was given. */
#include <glib/gi18n.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "common/validate.h"

/* Returns: (transfer full): their names, as the manager gives them. */
static char **
names_of (const char *name, guint count)
{
  char **names = g_new0 (char *, count + 1);
  for (guint i = 0; i < count; i++)
    names[i] = count == 1 ? g_strdup (name) : g_strdup_printf ("%s-%u", name, i + 1);
  return names;
}

static gboolean
print_json (BangerClient *client, char **names, GError **error)
{
  g_autoptr (JsonArray) array = json_array_new ();
  for (char **name = names; *name; name++) {
    g_autoptr (JsonObject) vm = banger_objects_get (client, &banger_kind_vm, *name, NULL, error);
    if (!vm)
      return FALSE;
    json_array_add_element (array, banger_objects_to_json (&banger_kind_vm, vm));
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, g_steal_pointer (&array));
  banger_json_print (node);
  return TRUE;
}

int
banger_vm_fork (const BangerInvocation *invocation, GError **error)
{
  const char *vm = banger_invocation_argument (invocation, 0), *name = banger_invocation_argument (invocation, 1);
  guint count = (guint)MAX (banger_invocation_number (invocation, "count"), 1);
  if (!banger_new_name_check (name, _ ("VM name"), error))
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  if (!client)
    return -1;
  g_auto (GStrv) names = names_of (name, count);
  g_autofree char *all = g_strjoinv (", ", names);
  g_autofree char *what = g_strdup_printf (_ ("cannot fork %s"), vm);
  g_autofree char *done = g_strdup_printf (ngettext ("%s runs from where %s was", "%s run from where %s was", count),
                                           all, vm);
  const BangerJobText text = { vm, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ForkVM");
  sd_bus_message_append (call, "ssa{sv}", vm, name, 1, "count", "u", count);
  if (!banger_client_run_job (client, call, &text, NULL, error))
    return -1;
  return !banger_invocation_flag (invocation, "json") || print_json (client, names, error) ? 0 : -1;
}
