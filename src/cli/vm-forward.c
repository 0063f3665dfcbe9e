/* vm forward: ports of this host that lead into a VM: made, removed, listed.
 * Called through the command table.
 * Never listens itself: the manager does, as long as the VM runs. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/verbs.h"
#include "common/names.h"

/* "127.0.0.1:8080:80" in three; the address of IPv6 has colons, too. */
static void
add_json (JsonArray *array, const char *forward)
{
  g_auto (GStrv) parts = g_strsplit (forward, ":", -1);
  guint n = g_strv_length (parts);
  if (n < 3)
    return;
  JsonObject *object = json_object_new ();
  gsize length = strlen (forward) - strlen (parts[n - 1]) - strlen (parts[n - 2]) - 2;
  g_autofree char *address = g_strndup (forward, length);
  json_object_set_string_member (object, "address", address);
  json_object_set_int_member (object, "port", g_ascii_strtoll (parts[n - 2], NULL, 10));
  json_object_set_int_member (object, "guest_port", g_ascii_strtoll (parts[n - 1], NULL, 10));
  json_array_add_object_element (array, object);
}

static void
list (JsonObject *vm, gboolean json)
{
  JsonArray *forwards = json_object_has_member (vm, "Forwards") ? json_object_get_array_member (vm, "Forwards") : NULL;
  guint n = forwards ? json_array_get_length (forwards) : 0;
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < n; i++) {
    const char *forward = json_array_get_string_element (forwards, i);
    if (json)
      add_json (array, forward);
    else
      g_print ("%s\n", forward);
  }
  if (!json) {
    json_array_unref (array);
    return;
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  banger_json_print (node);
}

static gboolean
change (BangerClient *client, const char *path, const BangerInvocation *invocation, const char *forward, GError **error)
{
  gboolean away = banger_invocation_flag (invocation, "remove");
  const char *name = banger_invocation_argument (invocation, 0), *added = "";
  g_autoptr (sd_bus_message) call = banger_client_message (client, path, BANGER_VM_INTERFACE,
                                                           away ? "RemoveForward" : "AddForward");
  sd_bus_message_append (call, "sa{sv}", forward, 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply || banger_invocation_flag (invocation, "quiet"))
    return reply != NULL;
  if (away)
    g_printerr (_ ("%s is not forwarded to %s any more\n"), forward, name);
  else if (sd_bus_message_read (reply, "s", &added) >= 0)
    g_printerr (_ ("%.*s leads to port %s of %s\n"), (int)(strrchr (added, ':') - added), added,
                strrchr (added, ':') + 1, name);
  return TRUE;
}

int
banger_vm_forward (const BangerInvocation *invocation, GError **error)
{
  const char *forward = banger_invocation_argument (invocation, 1);
  gboolean json = banger_invocation_flag (invocation, "json");
  if (!forward && banger_invocation_flag (invocation, "remove"))
    return banger_usage_error (error, _ ("--remove needs the forwarded port that is to go"));
  if (forward && json)
    return banger_usage_error (error, _ ("--json is for the list of forwarded ports"));
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  g_autofree char *path = NULL;
  g_autoptr (JsonObject) vm = client ? banger_objects_get (client, &banger_kind_vm,
                                                           banger_invocation_argument (invocation, 0), &path, error)
                                     : NULL;
  if (!vm)
    return -1;
  if (!forward)
    list (vm, json);
  for (guint i = 1; (forward = banger_invocation_argument (invocation, i)); i++)
    if (!change (client, path, invocation, forward, error))
      return -1;
  return 0;
}
