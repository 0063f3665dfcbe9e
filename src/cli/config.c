/* config show, check, reload: the owner's own settings.
 * Called through the command table.
 * Never writes the file. */
#include <errno.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/table.h"
#include "common/config.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/home-file.h"
#include "common/log.h"
#include "common/names.h"

#define RELOAD_USEC (30 * G_USEC_PER_SEC)

/* key, value, where it is from */
typedef struct {
  const char *cells[3];
} Row;

static JsonNode *
rows_to_json (GArray *rows)
{
  static const char *const keys[] = { "key", "value", "from" };
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < rows->len; i++) {
    JsonObject *object = json_object_new ();
    for (gsize k = 0; k < G_N_ELEMENTS (keys); k++)
      json_object_set_string_member (object, keys[k], g_array_index (rows, Row, i).cells[k]);
    json_array_add_object_element (array, object);
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  return node;
}

int
banger_config_show (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, "org.freedesktop.DBus.Properties", "Get");
  sd_bus_message_append (call, "ss", BANGER_MANAGER_INTERFACE, "Config");
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    return -1;
  g_autoptr (GArray) rows = g_array_new (FALSE, TRUE, sizeof (Row));
  g_autoptr (BangerTable) table = banger_table_new (G_N_ELEMENTS (((Row *)NULL)->cells));
  Row row;
  int r = sd_bus_message_enter_container (reply, 'v', "a(sss)");
  if (r >= 0)
    r = sd_bus_message_enter_container (reply, 'a', "(sss)");
  while (r >= 0 && (r = sd_bus_message_read (reply, "(sss)", &row.cells[0], &row.cells[1], &row.cells[2])) > 0) {
    g_array_append_val (rows, row);
    banger_table_add (table, row.cells);
  }
  if (r < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("the manager's answer cannot be read")) ? 0 : -1;
  if (banger_invocation_flag (invocation, "json")) {
    banger_json_print (rows_to_json (rows));
    return 0;
  }
  g_autofree char *text = banger_table_format (table);
  g_print ("%s", text);
  return 0;
}

/* What each [[file_sync]] names. That it is not there may be so by intention. */
static void
check_files (BangerConfig *config)
{
  for (guint i = 0; i < config->file_sync->len; i++) {
    const BangerFileSync *sync = config->file_sync->pdata[i];
    g_autoptr (GError) why = NULL;
    banger_autofd int fd = banger_home_open (g_get_home_dir (), sync->source, NULL, &why);
    g_autofree char *shown = banger_log_escape (sync->source, PATH_MAX);
    if (why)
      g_ptr_array_add (config->problems, g_strdup_printf ("%s: file_sync[%u].source '~/%s': %s", config->path,
                                                          sync->number, shown, why->message));
    else if (fd < 0)
      g_printerr (_ ("banger: note: file_sync[%u].source '~/%s' is not there\n"), sync->number, shown);
  }
}

/* A script that cannot be read fails each start of a new VM. */
static void
check_scripts (BangerConfig *config)
{
  for (guint i = 0; i < config->setup->len; i++) {
    const BangerSetup *setup = config->setup->pdata[i];
    g_autoptr (GError) why = NULL;
    g_autofree char *text = setup->script
                                ? banger_home_read_text (g_get_home_dir (), setup->script, BANGER_SETUP_MAX_BYTES, &why)
                                : NULL;
    g_autofree char *shown = why ? banger_log_escape (setup->script, PATH_MAX) : NULL;
    if (why)
      g_ptr_array_add (config->problems, g_strdup_printf ("%s: setup[%u].script '~/%s': %s", config->path,
                                                          setup->number, shown, why->message));
  }
}

int
banger_config_check (const BangerInvocation *invocation, GError **error)
{
  const char *path = banger_invocation_argument (invocation, 0);
  if (path && access (path, R_OK) < 0)
    return banger_usage_error (error, _ ("cannot read '%s': %s"), path, g_strerror (errno));
  g_autoptr (BangerConfig) config = banger_config_load (path);
  const GPtrArray *problems = config->problems;
  check_files (config);
  check_scripts (config);
  JsonArray *array = json_array_new ();
  g_autoptr (JsonNode) node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  gboolean json = banger_invocation_flag (invocation, "json");
  for (guint i = 0; i < problems->len; i++) {
    json_array_add_string_element (array, problems->pdata[i]);
    if (!json)
      g_printerr ("banger: %s\n", (const char *)problems->pdata[i]);
  }
  if (json)
    banger_json_print (g_steal_pointer (&node));
  else if (problems->len == 0)
    g_print (_ ("%s is as it should be\n"), config->path);
  return problems->len == 0 ? 0 : 1;
}

int
banger_config_reload (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ReloadConfig");
  sd_bus_message_append (call, "a{sv}", 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, RELOAD_USEC, error);
  g_auto (GStrv) problems = NULL;
  if (!reply)
    return -1;
  if (sd_bus_message_read_strv (reply, &problems) < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("the manager's answer cannot be read")) ? 0 : -1;
  for (char **problem = problems; problem && *problem; problem++)
    g_printerr ("banger: %s\n", *problem);
  gboolean good = !problems || !*problems;
  if (good && !banger_invocation_flag (invocation, "quiet"))
    g_print ("%s\n", _ ("config.toml is read again"));
  return good ? 0 : 1;
}
