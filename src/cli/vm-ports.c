/* vm ports: who listens in VMs.
 * Called through the command table.
 * Never asks a server whether it speaks HTTP: it goes by the port. */
#include <glib/gi18n.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "common/error.h"

typedef struct {
  const char *protocol, *address, *process;
  guint16 port;
  guint32 pid;
  char *where, *url; /* NULL: the host does not reach it by a name */
} Row;

static const struct {
  guint16 port;
  const char *scheme;
} web_ports[] = {
  { 80, "http" },    { 443, "https" }, { 3000, "http" }, { 4200, "http" }, { 5000, "http" },
  { 5173, "http" },  { 8000, "http" }, { 8008, "http" }, { 8080, "http" }, { 8081, "http" },
  { 8443, "https" }, { 8888, "http" }, { 9000, "http" }, { 9090, "http" },
};

static char *
url_of (const Row *row, const char *vm)
{
  for (guint i = 0; strcmp (row->protocol, "tcp") == 0 && i < G_N_ELEMENTS (web_ports); i++)
    if (web_ports[i].port == row->port)
      return row->port == 80 || row->port == 443
                 ? g_strdup_printf ("%s://%s.vm/", web_ports[i].scheme, vm)
                 : g_strdup_printf ("%s://%s.vm:%u/", web_ports[i].scheme, vm, row->port);
  return NULL;
}

/* What listens for all, or where the name leads to. */
static gboolean
is_reached (const char *address, JsonObject *vm)
{
  return strcmp (address, "0.0.0.0") == 0 || strcmp (address, "::") == 0
         || strcmp (address, banger_property_string (vm, "Address")) == 0;
}

static void
add_json (JsonArray *array, const Row *row, const char *vm)
{
  JsonObject *object = json_object_new ();
  json_object_set_string_member (object, "vm", vm);
  json_object_set_string_member (object, "protocol", row->protocol);
  json_object_set_string_member (object, "address", row->address);
  json_object_set_int_member (object, "port", row->port);
  json_object_set_int_member (object, "pid", row->pid);
  json_object_set_string_member (object, "process", row->process);
  const char *const more[] = { "host", row->where, "url", row->url };
  for (guint i = 0; i < G_N_ELEMENTS (more); i += 2)
    if (more[i + 1])
      json_object_set_string_member (object, more[i], more[i + 1]);
    else
      json_object_set_null_member (object, more[i]);
  json_array_add_object_element (array, object);
}

static void
add_row (BangerTable *table, const Row *row, const char *vm)
{
  g_autofree char *port = g_strdup_printf ("%u", row->port);
  const char *const cells[] = { vm, row->protocol, row->address, port, row->process, row->where, row->url };
  banger_table_add (table, cells);
}

static gboolean
list (BangerClient *client, JsonObject *vm, JsonArray *array, BangerTable *table, GError **error)
{
  const char *name = banger_property_string (vm, "Name");
  Row row = { NULL };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "ListPortsVM");
  sd_bus_message_append (call, "sa{sv}", name, 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply) {
    g_prefix_error (error, _ ("cannot list the ports of %s: "), name);
    return FALSE;
  }
  int r = sd_bus_message_enter_container (reply, 'a', "(ssqus)");
  while (r >= 0
         && (r = sd_bus_message_read (reply, "(ssqus)", &row.protocol, &row.address, &row.port, &row.pid, &row.process))
                > 0)
  {
    gboolean reached = is_reached (row.address, vm);
    g_autofree char *where = reached ? g_strdup_printf ("%s.vm:%u", name, row.port) : NULL;
    g_autofree char *url = reached ? url_of (&row, name) : NULL;
    row.where = where;
    row.url = url;
    add_json (array, &row, name);
    add_row (table, &row, name);
  }
  return r >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("the manager's answer cannot be understood"));
}

/* Those that are named, or those that run. */
static GPtrArray *
find_vms (BangerClient *client, const BangerInvocation *invocation, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0);
  GPtrArray *vms = name ? g_ptr_array_new_with_free_func ((GDestroyNotify)json_object_unref)
                        : banger_objects_list (client, &banger_kind_vm, error);
  for (guint i = vms && !name ? vms->len : 0; i > 0; i--)
    if (strcmp (banger_property_string (vms->pdata[i - 1], "State"), "running") != 0)
      g_ptr_array_remove_index (vms, i - 1);
  for (guint i = 0; (name = banger_invocation_argument (invocation, i)); i++) {
    JsonObject *vm = banger_objects_get (client, &banger_kind_vm, name, NULL, error);
    if (!vm) {
      g_ptr_array_unref (vms);
      return NULL;
    }
    g_ptr_array_add (vms, vm);
  }
  return vms;
}

int
banger_vm_ports (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  g_autoptr (GPtrArray) vms = client ? find_vms (client, invocation, error) : NULL;
  if (!vms)
    return -1;
  const char *const header[] = { _ ("VM"),      _ ("PROTOCOL"), _ ("ADDRESS"), _ ("PORT"),
                                 _ ("PROCESS"), _ ("HOST"),     _ ("URL") };
  g_autoptr (BangerTable) table = banger_table_new (G_N_ELEMENTS (header));
  banger_table_add (table, header);
  JsonArray *array = json_array_new ();
  int status = 0;
  for (guint i = 0; i < vms->len; i++) {
    g_autoptr (GError) failure = NULL;
    if (list (client, vms->pdata[i], array, table, &failure))
      continue;
    int failed = banger_report_error (failure, invocation->command);
    status = status == 0 ? failed : status;
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  if (banger_invocation_flag (invocation, "json")) {
    banger_json_print (node);
    return status;
  }
  json_node_unref (node);
  g_autofree char *text = banger_table_format (table);
  g_print ("%s", text);
  return status;
}
