/* Properties of the manager's objects: fetched, put into tables, turned into JSON.
 * Never prints a property that its table does not name. */
#include "cli/objects.h"

#include <glib/gi18n.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/table.h"
#include "cli/terminal.h"
#include "common/error.h"
#include "common/names.h"
#include "common/size.h"

static const BangerField vm_fields[] = {
  { "Name", "name", N_ ("Name"), BANGER_FIELD_TEXT, TRUE },
  { "Id", "id", N_ ("Id"), BANGER_FIELD_TEXT, FALSE },
  { "State", "state", N_ ("State"), BANGER_FIELD_TEXT, TRUE },
  { "StateReason", "state_reason", N_ ("Reason"), BANGER_FIELD_TEXT, FALSE },
  { "Image", "image", N_ ("Image"), BANGER_FIELD_TEXT, TRUE },
  { "ImageId", "image_id", N_ ("Image id"), BANGER_FIELD_TEXT, FALSE },
  { "Kernel", "kernel", N_ ("Kernel"), BANGER_FIELD_TEXT, FALSE },
  { "KernelId", "kernel_id", N_ ("Kernel id"), BANGER_FIELD_TEXT, FALSE },
  { "VCPUs", "vcpus", N_ ("vCPUs"), BANGER_FIELD_COUNT, TRUE },
  { "MemoryMiB", "memory_mib", N_ ("Memory"), BANGER_FIELD_MIB, TRUE },
  { "DiskBytes", "disk_bytes", N_ ("Disk"), BANGER_FIELD_BYTES, TRUE },
  { "Nat", "nat", N_ ("NAT"), BANGER_FIELD_BOOL, FALSE },
  { "Address", "address", N_ ("Address"), BANGER_FIELD_TEXT, TRUE },
  { "MacAddress", "mac_address", N_ ("MAC address"), BANGER_FIELD_TEXT, FALSE },
  { "CreatedAt", "created_at", N_ ("Created"), BANGER_FIELD_TIME, FALSE },
  { "StartedAt", "started_at", N_ ("Started"), BANGER_FIELD_TIME, TRUE },
  { "Starts", "starts", N_ ("Starts"), BANGER_FIELD_COUNT, FALSE },
  { "Pid", "pid", N_ ("VMM pid"), BANGER_FIELD_COUNT, FALSE },
  { "BootId", "boot_id", N_ ("Boot id"), BANGER_FIELD_TEXT, FALSE },
  { "Init", "init", N_ ("Init"), BANGER_FIELD_TEXT, FALSE },
  { "SshServer", "ssh_server", N_ ("ssh server"), BANGER_FIELD_TEXT, FALSE },
  { "Forwards", "forwards", N_ ("Forwards"), BANGER_FIELD_LIST, FALSE },
  { "Links", "links", N_ ("Reaches VMs"), BANGER_FIELD_LIST, FALSE },
  { "HostPorts", "host_ports", N_ ("Reaches ports of the host"), BANGER_FIELD_LIST, FALSE },
  { "LoginUser", "login_user", N_ ("Login"), BANGER_FIELD_TEXT, FALSE },
  { "Workspace", "workspace", N_ ("Workspace"), BANGER_FIELD_TEXT, FALSE },
  { "WorkspaceFolder", "workspace_folder", N_ ("In the guest"), BANGER_FIELD_TEXT, FALSE },
  { "WorkspaceHead", "workspace_head", N_ ("HEAD then"), BANGER_FIELD_TEXT, FALSE },
  { "WorkspaceOptions", "workspace_options", N_ ("Sent with"), BANGER_FIELD_LIST, FALSE },
  { "Setup", "setup", N_ ("Setup"), BANGER_FIELD_TEXT, FALSE },
  { "ImageCommand", "image_command", N_ ("Image starts"), BANGER_FIELD_LIST, FALSE },
  { "IdentityFile", "identity_file", N_ ("ssh key"), BANGER_FIELD_TEXT, FALSE },
  { "KnownHostsFile", "known_hosts_file", N_ ("Known hosts"), BANGER_FIELD_TEXT, FALSE },
  { "HostKeyAlias", "host_key_alias", N_ ("Host key alias"), BANGER_FIELD_TEXT, FALSE },
  { "ConsoleLog", "console_log", N_ ("Console log"), BANGER_FIELD_TEXT, FALSE },
  { NULL },
};

static const BangerField image_fields[] = {
  { "Name", "name", N_ ("Name"), BANGER_FIELD_TEXT, TRUE },
  { "Id", "id", N_ ("Id"), BANGER_FIELD_TEXT, FALSE },
  { "State", "state", N_ ("State"), BANGER_FIELD_TEXT, TRUE },
  { "SizeBytes", "size_bytes", N_ ("Size"), BANGER_FIELD_BYTES, TRUE },
  { "UsedBytes", "used_bytes", N_ ("Used"), BANGER_FIELD_BYTES, TRUE },
  { "CreatedAt", "created_at", N_ ("Created"), BANGER_FIELD_TIME, TRUE },
  { "Source", "source", N_ ("Source"), BANGER_FIELD_TEXT, TRUE },
  { "SshServer", "ssh_server", N_ ("ssh server"), BANGER_FIELD_TEXT, FALSE },
  { "Digest", "digest", N_ ("Digest"), BANGER_FIELD_TEXT, FALSE },
  { "Tags", "tags", N_ ("Also called"), BANGER_FIELD_LIST, FALSE },
  { "Env", "env", N_ ("Environment"), BANGER_FIELD_LIST, FALSE },
  { "WorkingDir", "working_dir", N_ ("Working directory"), BANGER_FIELD_TEXT, FALSE },
  { "User", "user", N_ ("User"), BANGER_FIELD_TEXT, FALSE },
  { "Entrypoint", "entrypoint", N_ ("Entry point"), BANGER_FIELD_LIST, FALSE },
  { "Cmd", "cmd", N_ ("Command"), BANGER_FIELD_LIST, FALSE },
  { "ExposedPorts", "exposed_ports", N_ ("Ports"), BANGER_FIELD_LIST, FALSE },
  { "Labels", "labels", N_ ("Labels"), BANGER_FIELD_LIST, FALSE },
  { "Templates", "templates", N_ ("Templates"), BANGER_FIELD_TEMPLATES, FALSE },
  { NULL },
};

static const BangerField kernel_fields[] = {
  { "Name", "name", N_ ("Name"), BANGER_FIELD_TEXT, TRUE },
  { "Id", "id", N_ ("Id"), BANGER_FIELD_TEXT, FALSE },
  { "State", "state", N_ ("State"), BANGER_FIELD_TEXT, TRUE },
  { "Version", "version", N_ ("Version"), BANGER_FIELD_TEXT, TRUE },
  { "CreatedAt", "created_at", N_ ("Created"), BANGER_FIELD_TIME, TRUE },
  { "Source", "source", N_ ("Source"), BANGER_FIELD_TEXT, TRUE },
  { "Digest", "digest", N_ ("Digest"), BANGER_FIELD_TEXT, FALSE },
  { NULL },
};

static const BangerField snapshot_fields[] = {
  { "Name", "name", N_ ("Name"), BANGER_FIELD_TEXT, TRUE },
  { "Id", "id", N_ ("Id"), BANGER_FIELD_TEXT, FALSE },
  { "VM", "vm", N_ ("VM"), BANGER_FIELD_TEXT, TRUE },
  { "CreatedAt", "created_at", N_ ("Created"), BANGER_FIELD_TIME, TRUE },
  { "SizeBytes", "size_bytes", N_ ("Size"), BANGER_FIELD_BYTES, TRUE },
  { "Memory", "memory", N_ ("With memory"), BANGER_FIELD_BOOL, TRUE },
  { "PausedUs", "paused_us", N_ ("Stood still (us)"), BANGER_FIELD_COUNT, FALSE },
  { "VCPUs", "vcpus", N_ ("vCPUs"), BANGER_FIELD_COUNT, FALSE },
  { "MemoryMiB", "memory_mib", N_ ("Memory"), BANGER_FIELD_MIB, FALSE },
  { "DiskBytes", "disk_bytes", N_ ("Disk"), BANGER_FIELD_BYTES, FALSE },
  { NULL },
};

const BangerKind banger_kind_vm = { BANGER_VM_INTERFACE, "GetVM", vm_fields };
const BangerKind banger_kind_image = { BANGER_IMAGE_INTERFACE, "GetImage", image_fields };
const BangerKind banger_kind_kernel = { BANGER_KERNEL_INTERFACE, "GetKernel", kernel_fields };
const BangerKind banger_kind_snapshot = { BANGER_SNAPSHOT_INTERFACE, NULL, snapshot_fields };

#define JSON_TIME "%Y-%m-%dT%H:%M:%SZ"

static char *
format_time (gint64 usec, const char *format, gboolean local)
{
  g_autoptr (GDateTime) utc = usec > 0 ? g_date_time_new_from_unix_utc (usec / G_USEC_PER_SEC) : NULL;
  g_autoptr (GDateTime) shown = utc == NULL ? NULL : local ? g_date_time_to_local (utc) : g_date_time_ref (utc);
  return shown != NULL ? g_date_time_format (shown, format) : NULL;
}

static int
read_value (sd_bus_message *message, JsonObject *properties, const char *name, char type)
{
  union {
    const char *text;
    guint64 big;
    guint32 number;
    int truth;
    double real;
  } value = { .big = 0 };
  if (!strchr ("sotubd", type))
    return sd_bus_message_skip (message, NULL);
  int r = sd_bus_message_read_basic (message, type, &value);
  if (r < 0)
    return r;
  if (type == 's' || type == 'o')
    json_object_set_string_member (properties, name, value.text);
  else if (type == 'b')
    json_object_set_boolean_member (properties, name, value.truth);
  else if (type == 'd')
    json_object_set_double_member (properties, name, value.real);
  else
    json_object_set_int_member (properties, name, type == 't' ? (gint64)MIN (value.big, G_MAXINT64) : value.number);
  return r;
}

static int
read_strv (sd_bus_message *message, JsonObject *properties, const char *name)
{
  g_auto (GStrv) texts = NULL;
  JsonArray *array = json_array_new ();
  int r = sd_bus_message_read_strv (message, &texts);
  for (char **text = texts; text && *text; text++)
    json_array_add_string_element (array, *text);
  json_object_set_array_member (properties, name, array);
  return r;
}

#define TEMPLATE "suutttt"

static int
read_templates (sd_bus_message *message, JsonObject *properties, const char *name)
{
  JsonArray *array = json_array_new ();
  const char *id;
  guint32 vcpus, memory_mib;
  guint64 disk, size, created, used;
  int r = sd_bus_message_enter_container (message, 'a', "(" TEMPLATE ")");
  while (
      r >= 0
      && (r = sd_bus_message_read (message, "(" TEMPLATE ")", &id, &vcpus, &memory_mib, &disk, &size, &created, &used))
             > 0)
  {
    JsonObject *template = json_object_new ();
    g_autofree char *created_text = format_time ((gint64)created, JSON_TIME, FALSE),
                    *used_text = format_time ((gint64)used, JSON_TIME, FALSE);
    json_object_set_string_member (template, "id", id);
    json_object_set_int_member (template, "vcpus", vcpus);
    json_object_set_int_member (template, "memory_mib", memory_mib);
    json_object_set_int_member (template, "disk_bytes", (gint64)disk);
    json_object_set_int_member (template, "size_bytes", (gint64)size);
    json_object_set_string_member (template, "created_at", created_text);
    json_object_set_string_member (template, "used_at", used_text);
    json_array_add_object_element (array, template);
  }
  json_object_set_array_member (properties, name, array);
  return r < 0 ? r : sd_bus_message_exit_container (message);
}

/* @shown: NULL: all. */
static gboolean
is_shown (const BangerField *shown, const char *name)
{
  gboolean found = shown == NULL;
  for (; !found && shown->property != NULL; shown++)
    found = shown->in_list && strcmp (shown->property, name) == 0;
  return found;
}

static int
read_property (sd_bus_message *message, const BangerField *shown, JsonObject *properties)
{
  const char *name, *contents;
  char type;
  int r = sd_bus_message_read_basic (message, 's', &name);
  if (r >= 0 && !is_shown (shown, name))
    return sd_bus_message_skip (message, "v");
  if (r >= 0)
    r = sd_bus_message_peek_type (message, &type, &contents);
  if (r >= 0)
    r = sd_bus_message_enter_container (message, 'v', contents);
  if (r >= 0)
    r = strcmp (contents, "as") == 0 ? read_strv (message, properties, name)
        : strcmp (contents, "a(" TEMPLATE ")") == 0
            ? read_templates (message, properties, name)
            : read_value (message, properties, name, contents[1] == '\0' ? contents[0] : 'v');
  return r >= 0 ? sd_bus_message_exit_container (message) : r;
}

static JsonObject *
read_properties (sd_bus_message *message, const BangerField *shown)
{
  g_autoptr (JsonObject) properties = json_object_new ();
  int r = sd_bus_message_enter_container (message, 'a', "{sv}");
  while (r >= 0 && (r = sd_bus_message_enter_container (message, 'e', "sv")) > 0) {
    r = read_property (message, shown, properties);
    if (r >= 0)
      r = sd_bus_message_exit_container (message);
  }
  if (r >= 0)
    r = sd_bus_message_exit_container (message);
  return r >= 0 ? g_steal_pointer (&properties) : NULL;
}

JsonObject *
banger_properties_read (sd_bus_message *message)
{
  return read_properties (message, NULL);
}

/* One entry of a{sa{sv}}: kept if its interface is @wanted. */
static int
read_interfaces (sd_bus_message *message, const char *wanted, const BangerField *shown, GPtrArray *objects)
{
  int r = sd_bus_message_enter_container (message, 'a', "{sa{sv}}");
  while (r >= 0 && (r = sd_bus_message_enter_container (message, 'e', "sa{sv}")) > 0) {
    const char *interface;
    r = sd_bus_message_read (message, "s", &interface);
    if (r < 0)
      return r;
    JsonObject *properties = NULL;
    if (strcmp (interface, wanted) != 0)
      r = sd_bus_message_skip (message, "a{sv}");
    else if ((properties = read_properties (message, shown)) == NULL)
      r = -EBADMSG;
    else
      g_ptr_array_add (objects, properties);
    if (r >= 0)
      r = sd_bus_message_exit_container (message);
  }
  return r >= 0 ? sd_bus_message_exit_container (message) : r;
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (banger_property_string (*(JsonObject *const *)a, "Name"),
                 banger_property_string (*(JsonObject *const *)b, "Name"));
}

static gboolean
set_malformed (GError **error)
{
  return banger_set_error (error, BANGER_ERROR_FAILED,
                           _ ("the manager's answer cannot be read; do banger and bangerd have "
                              "the same version? (banger version)"));
}

static GPtrArray *
list (BangerClient *client, const BangerKind *kind, const BangerField *shown, GError **error)
{
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, "org.freedesktop.DBus.ObjectManager",
                                                           "GetManagedObjects");
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    return NULL;

  g_autoptr (GPtrArray) objects = g_ptr_array_new_with_free_func ((GDestroyNotify)json_object_unref);
  int r = sd_bus_message_enter_container (reply, 'a', "{oa{sa{sv}}}");
  while (r >= 0 && (r = sd_bus_message_enter_container (reply, 'e', "oa{sa{sv}}")) > 0) {
    r = sd_bus_message_skip (reply, "o");
    if (r >= 0)
      r = read_interfaces (reply, kind->interface, shown, objects);
    if (r >= 0)
      r = sd_bus_message_exit_container (reply);
  }
  if (r < 0) {
    set_malformed (error);
    return NULL;
  }
  g_ptr_array_sort (objects, by_name);
  return g_steal_pointer (&objects);
}

GPtrArray *
banger_objects_list (BangerClient *client, const BangerKind *kind, GError **error)
{
  return list (client, kind, NULL, error);
}

GPtrArray *
banger_objects_list_short (BangerClient *client, const BangerKind *kind, GError **error)
{
  return list (client, kind, kind->fields, error);
}

JsonObject *
banger_objects_get (BangerClient *client, const BangerKind *kind, const char *name, char **ret_path, GError **error)
{
  const char *path;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, kind->get);
  sd_bus_message_append (call, "s", name);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, error);
  if (!reply)
    return NULL;
  if (sd_bus_message_read (reply, "o", &path) < 0) {
    set_malformed (error);
    return NULL;
  }

  g_autoptr (sd_bus_message) all = banger_client_message (client, path, "org.freedesktop.DBus.Properties", "GetAll");
  sd_bus_message_append (all, "s", kind->interface);
  g_autoptr (sd_bus_message) answer = banger_client_call (client, all, 0, error);
  if (!answer)
    return NULL;
  JsonObject *properties = banger_properties_read (answer);
  if (!properties)
    set_malformed (error);
  else if (ret_path != NULL)
    *ret_path = g_strdup (path);
  return properties;
}

static const char *
name_of (GPtrArray *vms, const char *id)
{
  for (guint i = 0; i < vms->len; i++)
    if (g_str_equal (banger_property_string (vms->pdata[i], "Id"), id))
      return banger_property_string (vms->pdata[i], "Name");
  return id;
}

void
banger_objects_name_links (GPtrArray *vms, JsonObject *vm)
{
  JsonNode *node = json_object_get_member (vm, "Links");
  JsonArray *ids = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  JsonArray *names = json_array_new ();
  for (guint i = 0; ids && i < json_array_get_length (ids); i++)
    json_array_add_string_element (names, name_of (vms, json_array_get_string_element (ids, i)));
  json_object_set_array_member (vm, "Links", names);
}

gboolean
banger_object_has_links (JsonObject *vm)
{
  JsonNode *node = json_object_get_member (vm, "Links");
  return node && JSON_NODE_HOLDS_ARRAY (node) && json_array_get_length (json_node_get_array (node)) > 0;
}

const char *
banger_property_string (JsonObject *properties, const char *name)
{
  return json_object_get_string_member_with_default (properties, name, "");
}

/* Words that a shell would take as these. */
static char *
format_list (JsonNode *node)
{
  JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; array && i < json_array_get_length (array); i++) {
    const char *word = json_array_get_string_element (array, i);
    g_autofree char *quoted = *word == '\0' || word[strcspn (word, " \t\n\"'\\$`&|;<>()*?[]#~!{}")] != '\0'
                                  ? g_shell_quote (word)
                                  : g_strdup (word);
    g_string_append_printf (text, "%s%s", text->len > 0 ? " " : "", quoted);
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

/* "2 CPUs, 1 GiB, disk 8 GiB: takes 140 MiB; ..." */
static char *
format_templates (JsonNode *node)
{
  JsonArray *array = node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; array && i < json_array_get_length (array); i++) {
    JsonObject *template = json_array_get_object_element (array, i);
    guint64 disk = (guint64)json_object_get_int_member (template, "disk_bytes");
    g_autofree char *memory = banger_size_format ((guint64)json_object_get_int_member (template, "memory_mib") << 20),
                    *size = banger_size_format ((guint64)json_object_get_int_member (template, "size_bytes")),
                    *work = disk > 0 ? banger_size_format (disk) : g_strdup ("-");
    g_autofree char *vcpus = g_strdup_printf ("%" G_GINT64_FORMAT, json_object_get_int_member (template, "vcpus"));
    g_string_append (text, text->len > 0 ? "; " : "");
    g_string_append_printf (text, _ ("%s vCPU, memory %s, disk %s: takes %s, last used %s"), vcpus, memory, work, size,
                            json_object_get_string_member (template, "used_at"));
  }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

char *
banger_field_format (const BangerField *field, JsonObject *properties)
{
  gint64 number = 0;
  if (field->format != BANGER_FIELD_TEXT && field->format != BANGER_FIELD_BOOL && field->format != BANGER_FIELD_LIST
      && field->format != BANGER_FIELD_TEMPLATES)
    number = json_object_get_int_member_with_default (properties, field->property, 0);
  char *text = NULL;
  switch (field->format) {
    case BANGER_FIELD_TEXT:
      return g_strdup (banger_property_string (properties, field->property));
    case BANGER_FIELD_BOOL:
      return g_strdup (json_object_get_boolean_member_with_default (properties, field->property, FALSE) ? _ ("yes")
                                                                                                        : _ ("no"));
    case BANGER_FIELD_LIST:
      return format_list (json_object_get_member (properties, field->property));
    case BANGER_FIELD_TEMPLATES:
      return format_templates (json_object_get_member (properties, field->property));
    case BANGER_FIELD_COUNT:
      text = number > 0 ? g_strdup_printf ("%" G_GINT64_FORMAT, number) : NULL;
      break;
    case BANGER_FIELD_BYTES:
      text = number > 0 ? banger_size_format ((guint64)number) : NULL;
      break;
    case BANGER_FIELD_MIB:
      text = number > 0 ? banger_size_format ((guint64)number << 20) : NULL;
      break;
    case BANGER_FIELD_TIME:
      text = format_time (number, "%Y-%m-%d %H:%M", TRUE);
      break;
  }
  return text != NULL ? text : g_strdup ("");
}

static guint
count_columns (const BangerKind *kind)
{
  guint columns = 0;
  for (const BangerField *field = kind->fields; field->property != NULL; field++)
    columns += field->in_list ? 1 : 0;
  return columns;
}

/* @properties NULL: the header. */
static void
add_row (BangerTable *table, const BangerKind *kind, JsonObject *properties)
{
  g_autoptr (GPtrArray) cells = g_ptr_array_new_with_free_func (g_free);
  for (const BangerField *field = kind->fields; field->property != NULL; field++)
    if (field->in_list)
      g_ptr_array_add (cells, properties != NULL ? banger_field_format (field, properties)
                                                 : g_utf8_strup (_ (field->label), -1));
  banger_table_add (table, (const char *const *)cells->pdata);
}

char *
banger_objects_format_list (const BangerKind *kind, GPtrArray *objects)
{
  g_autoptr (BangerTable) table = banger_table_new (count_columns (kind));
  add_row (table, kind, NULL);
  for (guint i = 0; i < objects->len; i++)
    add_row (table, kind, g_ptr_array_index (objects, i));
  return banger_table_format (table);
}

char *
banger_objects_format_show (const BangerKind *kind, JsonObject *properties)
{
  g_autoptr (BangerTable) table = banger_table_new (2);
  for (const BangerField *field = kind->fields; field->property != NULL; field++) {
    g_autofree char *label = g_strdup_printf ("%s:", _ (field->label));
    g_autofree char *value = banger_field_format (field, properties);
    banger_table_add (table, (const char *const[]){ label, value });
  }
  return banger_table_format (table);
}

static void
set_json_member (JsonObject *object, const BangerField *field, JsonObject *properties)
{
  JsonNode *raw = json_object_get_member (properties, field->property);
  g_autofree char *time = NULL;
  if (field->format == BANGER_FIELD_TIME)
    time = format_time (json_object_get_int_member_with_default (properties, field->property, 0), JSON_TIME, FALSE);
  if (time)
    json_object_set_string_member (object, field->key, time);
  else if (raw == NULL || field->format == BANGER_FIELD_TIME
           || (field->format == BANGER_FIELD_TEXT && json_node_get_string (raw)[0] == '\0'))
    json_object_set_null_member (object, field->key);
  else
    json_object_set_member (object, field->key, json_node_copy (raw));
}

JsonNode *
banger_objects_to_json (const BangerKind *kind, JsonObject *properties)
{
  JsonObject *object = json_object_new ();
  for (const BangerField *field = kind->fields; field->property != NULL; field++)
    set_json_member (object, field, properties);
  JsonNode *node = json_node_new (JSON_NODE_OBJECT);
  json_node_take_object (node, object);
  return node;
}

void
banger_json_print (JsonNode *node)
{
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  json_generator_set_pretty (generator, TRUE);
  json_generator_set_root (generator, node);
  g_autofree char *text = json_generator_to_data (generator, NULL);
  /* Not g_print(): JSON is UTF-8 in every locale. */
  g_autofree char *shown = isatty (STDOUT_FILENO) ? banger_terminal_json (text) : NULL;
  fputs (shown != NULL ? shown : text, stdout);
  putchar ('\n');
  json_node_unref (node);
}
