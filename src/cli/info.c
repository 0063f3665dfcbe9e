/* version, help, completion: what banger says about itself.
 * Called through the command table.
 * Never starts the manager. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/complete.h"
#include "cli/help.h"
#include "cli/objects.h"
#include "common/names.h"

/* Returns: (transfer full): the version of a manager that runs, NULL if none does. */
static char *
manager_version (void)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, NULL);
  const char *version;
  if (!client)
    return NULL;
  banger_client_set_brief (client, 2 * G_USEC_PER_SEC);
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, "org.freedesktop.DBus.Properties", "Get");
  sd_bus_message_append (call, "ss", BANGER_MANAGER_INTERFACE, "Version");
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, NULL);
  if (!reply || sd_bus_message_read (reply, "v", "s", &version) < 0)
    return NULL;
  return g_strdup (version);
}

int
banger_version (const BangerInvocation *invocation, GError **error)
{
  g_autofree char *manager = manager_version ();
  if (banger_invocation_flag (invocation, "json")) {
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "banger", BANGER_VERSION);
    if (manager)
      json_object_set_string_member (object, "bangerd", manager);
    else
      json_object_set_null_member (object, "bangerd");
    JsonNode *node = json_node_new (JSON_NODE_OBJECT);
    json_node_take_object (node, object);
    banger_json_print (node);
    return 0;
  }
  g_print ("banger %s\n", BANGER_VERSION);
  if (manager)
    g_print ("bangerd %s\n", manager);
  return 0;
}

int
banger_help (const BangerInvocation *invocation, GError **error)
{
  const BangerCommandTable *table = invocation->table;
  char **argv = (char **)invocation->arguments->pdata;
  g_autofree char *words = g_strjoinv (" ", argv);
  const BangerCommand *command = banger_command_find (table, words);
  const BangerGroup *group = words[0] != '\0' ? banger_group_find (table, words) : NULL;
  group = group ? group : banger_subgroup_find (table, words);
  if (!command && !group && words[0] != '\0') {
    g_autoptr (GPtrArray) all = g_ptr_array_new ();
    for (const BangerCommand *row = table->commands; row->words; row++)
      g_ptr_array_add (all, (gpointer)row->words);
    g_ptr_array_add (all, NULL);
    const char *near = banger_suggest (words, (const char *const *)all->pdata);
    if (near)
      return banger_usage_error (error, _ ("there is no command '%s'; did you mean '%s'?"), words, near);
    return banger_usage_error (error, _ ("there is no command '%s'"), words);
  }
  g_autofree char *text = command ? banger_help_for_command (command) : banger_help_for_group (table, group);
  g_print ("%s", text);
  return 0;
}

int
banger_completion (const BangerInvocation *invocation, GError **error)
{
  const char *shell = banger_invocation_argument (invocation, 0);
  const char *script = banger_completion_script (shell);
  if (!script) {
    g_autofree char *shells = g_strjoinv (", ", (char **)banger_completion_shells ());
    return banger_usage_error (error, _ ("there is no completion for '%s', only for %s"), shell, shells);
  }
  g_print ("%s", script);
  return 0;
}
