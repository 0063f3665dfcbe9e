/* What catalogs have, as text and as JSON.
 * Never reads a catalog: the manager does. */
#include "cli/available.h"

#include <glib/gi18n.h>
#include <limits.h>

#include "cli/objects.h"
#include "cli/table.h"
#include "common/error.h"
#include "common/log.h"
#include "common/size.h"

#define LIST_USEC (G_GUINT64_CONSTANT (600) * G_USEC_PER_SEC) /* many addresses that do not answer */
#define ENTRY "(sssstsss)"

typedef struct {
  BangerTable *table;
  JsonArray *array;
} Output;

sd_bus_message *
banger_available_each (BangerClient *client, const char *member, guint64 usec, BangerAvailableFunc each,
                       gpointer user_data, GError **error)
{
  BangerAvailable e = { NULL };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, member);
  sd_bus_message_append (call, "a{sv}", 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, usec, error);
  if (!reply)
    return NULL;
  int r = sd_bus_message_enter_container (reply, 'a', ENTRY);
  while (r >= 0
         && (r = sd_bus_message_read (reply, ENTRY, &e.name, &e.kind, &e.source, &e.summary, &e.size_bytes, &e.catalog,
                                      &e.trust, &e.here))
                > 0)
    each (&e, user_data);
  if (r >= 0)
    r = sd_bus_message_exit_container (reply);
  if (r >= 0)
    return g_steal_pointer (&reply);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("the manager's answer cannot be understood"));
  return NULL;
}

static void
add_entry (const BangerAvailable *entry, gpointer data)
{
  Output *output = data;
  g_autofree char *size = entry->size_bytes > 0 ? banger_size_format (entry->size_bytes) : NULL;
  const char *const cells[] = { entry->name, entry->kind, size, entry->here, entry->trust, entry->summary };
  banger_table_add (output->table, cells);
  JsonObject *object = json_object_new ();
  const char *const members[] = { "name",    entry->name,    "kind",    entry->kind,    "source", entry->source,
                                  "summary", entry->summary, "catalog", entry->catalog, "trust",  entry->trust };
  for (guint i = 0; i < G_N_ELEMENTS (members); i += 2)
    json_object_set_string_member (object, members[i], members[i + 1]);
  if (entry->size_bytes > 0)
    json_object_set_int_member (object, "size_bytes", (gint64)entry->size_bytes);
  else
    json_object_set_null_member (object, "size_bytes");
  if (*entry->here != '\0')
    json_object_set_string_member (object, "here", entry->here);
  else
    json_object_set_null_member (object, "here");
  json_array_add_object_element (output->array, object);
}

static void
print_problems (sd_bus_message *reply)
{
  const char *problem = NULL;
  int r = sd_bus_message_enter_container (reply, 'a', "s");
  while (r >= 0 && (r = sd_bus_message_read (reply, "s", &problem)) > 0) {
    g_autofree char *shown = banger_log_escape (problem, PATH_MAX);
    g_printerr (_ ("warning: %s\n"), shown);
  }
}

int
banger_available_list (const BangerInvocation *invocation, const char *member, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  const char *const header[] = { _ ("NAME"), _ ("KIND"), _ ("SIZE"), _ ("HERE"), _ ("CATALOG"), _ ("SUMMARY") };
  g_autoptr (BangerTable) table = banger_table_new (G_N_ELEMENTS (header));
  g_autoptr (JsonNode) node = json_node_new (JSON_NODE_ARRAY);
  Output output = { table, json_array_new () };
  json_node_take_array (node, output.array);
  banger_table_add (table, header);
  g_autoptr (sd_bus_message) reply = banger_available_each (client, member, LIST_USEC, add_entry, &output, error);
  if (!reply)
    return -1;
  print_problems (reply);
  if (banger_invocation_flag (invocation, "json")) {
    banger_json_print (g_steal_pointer (&node));
    return 0;
  }
  g_autofree char *text = banger_table_format (table);
  g_print ("%s", text);
  return 0;
}
