/* Firecracker's HTTP API on a unix socket: routes, status codes, fault bodies.
 * Never runs two requests at once: Firecracker answers in order, so does this. */
#include "engine/api.h"

#include <errno.h>
#include <libsoup/soup.h>
#include <string.h>
#include <unistd.h>

#include "engine/api-snapshot.h"
#include "engine/engine-log.h"
#include "engine/listener.h"
#include "engine/metrics.h"

struct BangerApi {
  BangerInstance *instance;
  SoupServer *server;
  char *socket_path;
  gsize max_body;
  SoupServerMessage *active; /* the action whose answer is not there yet */
  GQueue waiting;            /* SoupServerMessage *, behind it */
  guint unfinished;          /* requests whose answer is not sent yet */
  GSourceFunc drained;
  gpointer drained_data;
  guint drain_timeout;
};

typedef struct {
  BangerApi *api;
  BangerInstance *instance;
  const char *id;  /* of the path, or NULL */
  JsonNode *body;  /* or NULL */
  JsonNode *reply; /* set by a GET handler */
  gboolean deferred;
} Request;

typedef gboolean (*Handler) (Request *request, GError **error);

typedef enum {
  ANY_TIME,
  PRE_BOOT,
  PRE_BOOT_HOST, /* says nothing about the VM */
  POST_BOOT,
} When;

typedef struct {
  const char *method, *path; /* path "drives/" takes an id */
  When when;
  Handler handler; /* NULL: Firecracker has it, this subset has not */
} Route;

static JsonNode *
strings_to_json (const char *key, ...)
{
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  va_list args;
  json_builder_begin_object (builder);
  va_start (args, key);
  for (; key; key = va_arg (args, const char *)) {
    json_builder_set_member_name (builder, key);
    json_builder_add_string_value (builder, va_arg (args, const char *));
  }
  va_end (args);
  json_builder_end_object (builder);
  return json_builder_get_root (builder);
}

static gboolean
get_instance (Request *request, GError **error)
{
  request->reply = strings_to_json ("id", banger_instance_id (request->instance), "state",
                                    banger_instance_state_name (banger_instance_state (request->instance)),
                                    "vmm_version", BANGER_VERSION, "app_name", BANGER_VMM_APP_NAME, NULL);
  return TRUE;
}

static gboolean
get_version (Request *request, GError **error)
{
  request->reply = strings_to_json ("firecracker_version", BANGER_FIRECRACKER_API_VERSION, NULL);
  return TRUE;
}

static gboolean
get_machine (Request *request, GError **error)
{
  request->reply = banger_vm_config_machine_to_json (banger_instance_config (request->instance));
  return TRUE;
}

static gboolean
get_config (Request *request, GError **error)
{
  request->reply = banger_vm_config_to_json (banger_instance_config (request->instance));
  return TRUE;
}

static gboolean
put_boot_source (Request *request, GError **error)
{
  return banger_vm_config_put_boot_source (banger_instance_config (request->instance), request->body, error);
}

static gboolean
put_machine (Request *request, GError **error)
{
  return banger_vm_config_put_machine (banger_instance_config (request->instance), request->body, error);
}

static gboolean
patch_machine (Request *request, GError **error)
{
  return banger_vm_config_patch_machine (banger_instance_config (request->instance), request->body, error);
}

static gboolean
put_drive (Request *request, GError **error)
{
  return banger_vm_config_put_drive (banger_instance_config (request->instance), request->id, request->body, error);
}

static gboolean
put_network (Request *request, GError **error)
{
  return banger_vm_config_put_network (banger_instance_config (request->instance), request->id, request->body, error);
}

static gboolean
put_vsock (Request *request, GError **error)
{
  return banger_instance_put_vsock (request->instance, request->body, error);
}

static gboolean
put_serial (Request *request, GError **error)
{
  return banger_vm_config_put_serial (banger_instance_config (request->instance), request->body, error);
}

static gboolean
put_entropy (Request *request, GError **error)
{
  return banger_vm_config_put_entropy (banger_instance_config (request->instance), request->body, error);
}

static gboolean
put_logger (Request *request, GError **error)
{
  BangerVmConfig *config = banger_instance_config (request->instance);
  BangerLoggerConfig logger;
  if (!banger_body_read (request->body, banger_logger_fields, &logger, error))
    return FALSE;
  if (!banger_vmm_log_configure (&logger, error)) {
    banger_body_clear (banger_logger_fields, &logger);
    return FALSE;
  }
  banger_body_clear (banger_logger_fields, &config->logger);
  config->logger = logger;
  return TRUE;
}

static gboolean
put_metrics (Request *request, GError **error)
{
  BangerVmConfig *config = banger_instance_config (request->instance);
  BangerMetricsConfig metrics;
  if (!banger_body_read (request->body, banger_metrics_fields, &metrics, error))
    return FALSE;
  if (!banger_vmm_metrics_configure (&metrics, error)) {
    banger_body_clear (banger_metrics_fields, &metrics);
    return FALSE;
  }
  config->metrics = metrics;
  return TRUE;
}

static void handle_action_done (const GError *error, gpointer user_data);

typedef struct {
  char *word;
} Word;

static const char *const action_words[] = { "FlushMetrics", "InstanceStart", "SendCtrlAltDel", NULL };
static const char *const state_words[] = { "Paused", "Resumed", NULL };
static const BangerBodyField action_fields[] = {
  { "action_type", BANGER_FIELD_STRING, TRUE, offsetof (Word, word), 0, action_words },
  { NULL, BANGER_FIELD_STRING, FALSE, 0, 0, NULL },
};
static const BangerBodyField state_fields[] = {
  { "state", BANGER_FIELD_STRING, TRUE, offsetof (Word, word), 0, state_words },
  { NULL, BANGER_FIELD_STRING, FALSE, 0, 0, NULL },
};

static char *
read_word (Request *request, const BangerBodyField *table, GError **error)
{
  Word word;
  return banger_body_read (request->body, table, &word, error) ? word.word : NULL;
}

static gboolean
check_when (const Request *request, When when, GError **error)
{
  gboolean started = banger_instance_state (request->instance) != BANGER_INSTANCE_NOT_STARTED;
  if ((when == PRE_BOOT || when == PRE_BOOT_HOST) && started)
    return banger_vmm_fault (error, "The requested operation is not supported after starting the microVM.");
  if (when == POST_BOOT && !started)
    return banger_vmm_fault (error, "The requested operation is not supported before starting the microVM.");
  return TRUE;
}

static gboolean
put_action (Request *request, GError **error)
{
  g_autofree char *word = read_word (request, action_fields, error);
  if (!word)
    return FALSE;
  gboolean start = g_str_equal (word, "InstanceStart");
  if (!check_when (request, start ? PRE_BOOT : POST_BOOT, error))
    return FALSE;
  if (g_str_equal (word, "FlushMetrics"))
    return banger_vmm_metrics_flush (error);
  request->deferred = TRUE;
  if (start)
    banger_instance_start (request->instance, handle_action_done, request->api);
  else
    banger_instance_ctrl_alt_del (request->instance, handle_action_done, request->api);
  return TRUE;
}

static gboolean
patch_vm (Request *request, GError **error)
{
  g_autofree char *word = read_word (request, state_fields, error);
  if (!word || !check_when (request, POST_BOOT, error))
    return FALSE;
  request->deferred = TRUE;
  banger_instance_set_paused (request->instance, g_str_equal (word, "Paused"), handle_action_done, request->api);
  return TRUE;
}

static gboolean
put_snapshot_create (Request *request, GError **error)
{
  g_auto (BangerSnapshotCreate) create = { 0 };
  if (!banger_snapshot_create_read (request->body, &create, error) || !check_when (request, POST_BOOT, error))
    return FALSE;
  if (banger_instance_state (request->instance) != BANGER_INSTANCE_PAUSED)
    return banger_vmm_fault (
        error, "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore "
               "unavailable while running");
  request->deferred = TRUE;
  banger_instance_save (request->instance, create.snapshot_path, create.mem_file_path, handle_action_done,
                        request->api);
  return TRUE;
}

static gboolean
put_snapshot_load (Request *request, GError **error)
{
  g_auto (BangerSnapshotLoad) load = { 0 };
  if (!banger_snapshot_load_read (request->body, &load, error) || !check_when (request, PRE_BOOT, error))
    return FALSE;
  if (banger_instance_is_configured (request->instance))
    return banger_vmm_fault (
        error, "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific "
               "resources.");
  request->deferred = TRUE;
  banger_snapshot_load (request->instance, &load, banger_api_apply_config, handle_action_done, request->api);
  return TRUE;
}

static const Route routes[] = {
  { "GET", "", ANY_TIME, get_instance },
  { "GET", "version", ANY_TIME, get_version },
  { "GET", "vm/config", ANY_TIME, get_config },
  { "GET", "machine-config", ANY_TIME, get_machine },
  { "PUT", "machine-config", PRE_BOOT, put_machine },
  { "PATCH", "machine-config", PRE_BOOT, patch_machine },
  { "PUT", "boot-source", PRE_BOOT, put_boot_source },
  { "PUT", "drives/", PRE_BOOT, put_drive },
  { "PUT", "network-interfaces/", PRE_BOOT, put_network },
  { "PUT", "vsock", PRE_BOOT, put_vsock },
  { "PUT", "logger", PRE_BOOT_HOST, put_logger },
  { "PUT", "metrics", PRE_BOOT_HOST, put_metrics },
  { "PUT", "serial", PRE_BOOT, put_serial },
  { "PUT", "entropy", PRE_BOOT, put_entropy },
  { "PUT", "actions", ANY_TIME, put_action }, /* each action has its own time */
  { "PATCH", "vm", ANY_TIME, patch_vm },      /* after its body, as Firecracker */
  { "GET", "balloon", ANY_TIME, NULL },
  { "PUT", "balloon", ANY_TIME, NULL },
  { "PATCH", "balloon", ANY_TIME, NULL },
  { "PUT", "cpu-config", ANY_TIME, NULL },
  { "PATCH", "drives/", ANY_TIME, NULL },
  { "PATCH", "network-interfaces/", ANY_TIME, NULL },
  { "PUT", "pmem/", ANY_TIME, NULL },
  { "PATCH", "pmem/", ANY_TIME, NULL },
  { "GET", "mmds", ANY_TIME, NULL },
  { "PUT", "mmds", ANY_TIME, NULL },
  { "PATCH", "mmds", ANY_TIME, NULL },
  { "PUT", "snapshot/create", ANY_TIME, put_snapshot_create }, /* after their bodies */
  { "PUT", "snapshot/load", ANY_TIME, put_snapshot_load },
  { "GET", "hotplug/memory", ANY_TIME, NULL },
  { "PUT", "hotplug/memory", ANY_TIME, NULL },
  { "PATCH", "hotplug/memory", ANY_TIME, NULL },
};

static gboolean
check_id (const char *id, GError **error)
{
  if (!id || *id == '\0')
    return banger_vmm_fault (error, "The ID cannot be empty.");
  for (const char *c = id; *c != '\0'; c++)
    if (*c != '_' && !g_ascii_isalnum (*c))
      return banger_vmm_fault (error, "API Resource IDs can only contain alphanumeric characters and underscores.");
  return TRUE;
}

static const Route *
find_route (const char *method, char **tokens)
{
  for (size_t i = 0; i < G_N_ELEMENTS (routes); i++) {
    const Route *route = &routes[i];
    g_auto (GStrv) want = g_strsplit (route->path, "/", 2);
    const char *first = tokens[0] ? tokens[0] : "";
    const char *wanted = want[0] ? want[0] : "";
    gboolean second = !want[0] || !want[1] || *want[1] == '\0' || (tokens[0] && g_strcmp0 (tokens[1], want[1]) == 0);
    if (g_str_equal (route->method, method) && g_str_equal (first, wanted) && second)
      return route;
  }
  return NULL;
}

/* Firecracker's order: a body where none belongs, none where one belongs, then the path. */
static gboolean
check_body (const char *method, gboolean has_body, const Route *route, const char *first, GError **error)
{
  gboolean get = g_str_equal (method, "GET");
  if (get && has_body)
    return banger_vmm_fault (error, "GET request cannot have a body.");
  if (g_str_equal (method, "PUT") && !has_body)
    return banger_vmm_fault (error, "Empty PUT request.");
  if (g_str_equal (method, "PATCH") && !has_body)
    return banger_vmm_fault (error, "Empty PATCH request.");
  if (!route)
    return banger_vmm_fault (error, "Invalid request method and/or path: %s %s.", method, first);
  return TRUE;
}

static gboolean
run (Request *request, const char *method, char **tokens, GBytes *bytes, GError **error)
{
  gsize length = 0;
  const char *data = g_bytes_get_data (bytes, &length);
  const char *first = tokens[0] ? tokens[0] : "";
  const Route *route = find_route (method, tokens);
  if (!check_body (method, length > 0, route, first, error))
    return FALSE;
  if (!route->handler)
    return banger_vmm_fault (error, "The requested operation is not supported: %s /%s", method, first);
  if (g_str_has_suffix (route->path, "/")) {
    request->id = tokens[1];
    if (!check_id (request->id, error))
      return FALSE;
  }
  g_autoptr (JsonNode) node = NULL;
  if (length > 0) {
    node = banger_body_parse (data, length, error);
    if (!node)
      return FALSE;
  }
  request->body = node;
  if (route->when == PRE_BOOT)
    banger_instance_set_configured (request->instance);
  gboolean ok = check_when (request, route->when, error) && route->handler (request, error);
  request->body = NULL;
  return ok;
}

static void
answer (SoupServerMessage *message, guint status, JsonNode *body)
{
  soup_server_message_set_status (message, status, NULL);
  if (!body)
    return;
  g_autofree char *text = json_to_string (body, FALSE);
  soup_server_message_set_response (message, "application/json", SOUP_MEMORY_COPY, text, strlen (text));
}

static void
answer_fault (SoupServerMessage *message, const char *text)
{
  g_autoptr (JsonNode) body = strings_to_json ("fault_message", text, NULL);
  answer (message, SOUP_STATUS_BAD_REQUEST, body);
}

static char **
split_path (SoupServerMessage *message)
{
  const char *path = g_uri_get_path (soup_server_message_get_uri (message));
  while (*path == '/')
    path++;
  g_autofree char *trimmed = g_strdup (path);
  size_t length = strlen (trimmed);
  if (length > 0 && trimmed[length - 1] == '/')
    trimmed[length - 1] = '\0';
  return g_strsplit (trimmed, "/", -1);
}

static void
process (BangerApi *api, SoupServerMessage *message)
{
  const char *method = soup_server_message_get_method (message);
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_autoptr (GBytes) flat = soup_message_body_flatten (body);
  g_auto (GStrv) tokens = split_path (message);
  g_autoptr (GError) error = NULL;
  Request request = { .api = api, .instance = api->instance };
  const char *resource = tokens[0] ? tokens[0] : "instance_info";

  vmm_info ("The API server received a %s request on /%s", method, tokens[0] ? tokens[0] : "");
  /* A deferred handler may answer before it returns. */
  api->active = message;
  gboolean ok = run (&request, method, tokens, flat, &error);
  banger_vmm_metrics_count (method, resource, !ok);
  if (ok && request.deferred)
    return;
  api->active = NULL;
  if (!ok) {
    vmm_error ("Received Error. Status code: 400 Bad Request. Message: %s", error->message);
    answer_fault (message, error->message);
  } else {
    answer (message, request.reply ? SOUP_STATUS_OK : SOUP_STATUS_NO_CONTENT, request.reply);
  }
  g_clear_pointer (&request.reply, json_node_unref);
}

static void
run_waiting (BangerApi *api)
{
  SoupServerMessage *message;
  while (!api->active && (message = g_queue_pop_head (&api->waiting))) {
    process (api, message);
    if (!api->active)
      soup_server_message_unpause (message);
    g_object_unref (message);
  }
}

static void
handle_action_done (const GError *error, gpointer data)
{
  BangerApi *api = data;
  SoupServerMessage *message = api ? g_steal_pointer (&api->active) : NULL;
  if (!message)
    return;
  if (error) {
    vmm_error ("Received Error. Status code: 400 Bad Request. Message: %s", error->message);
    answer_fault (message, error->message);
  } else {
    answer (message, SOUP_STATUS_NO_CONTENT, NULL);
  }
  soup_server_message_unpause (message);
  run_waiting (api);
}

static void
end_drain (BangerApi *api)
{
  GSourceFunc drained = api->drained;
  api->drained = NULL;
  if (api->drain_timeout != 0)
    g_source_remove (api->drain_timeout);
  api->drain_timeout = 0;
  if (drained)
    drained (api->drained_data);
}

static gboolean
handle_drain_timeout (gpointer data)
{
  BangerApi *api = data;
  api->drain_timeout = 0;
  end_drain (api);
  return G_SOURCE_REMOVE;
}

void
banger_api_drain (BangerApi *api, GSourceFunc done, gpointer user_data)
{
  api->drained = done;
  api->drained_data = user_data;
  if (api->unfinished == 0)
    end_drain (api);
  else
    api->drain_timeout = g_timeout_add_seconds (1, handle_drain_timeout, api);
}

static void
handle_finished (SoupServerMessage *message, gpointer data)
{
  BangerApi *api = data;
  api->unfinished--;
  if (api->unfinished == 0 && api->drained)
    end_drain (api);
}

static void
handle_request (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
  BangerApi *api = data;
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  api->unfinished++;
  g_signal_connect (message, "finished", G_CALLBACK (handle_finished), api);
  if ((gsize)body->length > api->max_body) {
    g_autofree char *text = g_strdup_printf ("Request payload with size %" G_GINT64_FORMAT
                                             " is larger than the limit of %" G_GSIZE_FORMAT " allowed by server.",
                                             (gint64)body->length, api->max_body);
    answer_fault (message, text);
    return;
  }
  soup_server_message_pause (message);
  g_queue_push_tail (&api->waiting, g_object_ref (message));
  run_waiting (api);
}

static int
listen_on (const char *path, GError **error)
{
  int fd = banger_listen_unix (path, 16);
  if (fd < 0)
    banger_vmm_fault (error, "Failed to open the API socket at: %s. %s", path,
                      errno == EADDRINUSE ? "Check that it is not already used." : g_strerror (errno));
  return fd;
}

BangerApi *
banger_api_new (BangerInstance *instance, const char *socket_path, gsize max_body, GError **error)
{
  int fd = listen_on (socket_path, error);
  if (fd < 0)
    return NULL;
  g_autoptr (GSocket) socket = g_socket_new_from_fd (fd, error);
  if (!socket) {
    close (fd);
    return NULL;
  }
  BangerApi *api = g_new0 (BangerApi, 1);
  api->instance = instance;
  api->socket_path = g_strdup (socket_path);
  api->max_body = max_body;
  g_queue_init (&api->waiting);
  api->server = soup_server_new ("server-header", "Firecracker API", NULL);
  soup_server_add_handler (api->server, NULL, handle_request, api, NULL);
  if (!soup_server_listen_socket (api->server, socket, 0, error)) {
    banger_api_free (api);
    return NULL;
  }
  return api;
}

void
banger_api_free (BangerApi *api)
{
  api->drained = NULL;
  if (api->drain_timeout != 0)
    g_source_remove (api->drain_timeout);
  soup_server_disconnect (api->server);
  g_object_unref (api->server);
  unlink (api->socket_path);
  g_free (api->socket_path);
  g_free (api);
}

static gboolean
apply (BangerInstance *instance, Handler handler, JsonNode *body, GError **error)
{
  Request request = { .instance = instance, .body = body };
  return handler (&request, error);
}

static gboolean
apply_section (BangerInstance *instance, const char *name, JsonNode *value, GError **error)
{
  static const struct {
    const char *name;
    gboolean list;
    Handler handler;
  } sections[] = {
    { "boot-source", FALSE, put_boot_source },
    { "drives", TRUE, put_drive },
    { "machine-config", FALSE, put_machine },
    { "network-interfaces", TRUE, put_network },
    { "vsock", FALSE, put_vsock },
    { "logger", FALSE, put_logger },
    { "metrics", FALSE, put_metrics },
    { "entropy", FALSE, put_entropy },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (sections); i++) {
    if (!g_str_equal (sections[i].name, name))
      continue;
    if (JSON_NODE_HOLDS_NULL (value))
      return TRUE;
    if (!sections[i].list)
      return apply (instance, sections[i].handler, value, error);
    if (!JSON_NODE_HOLDS_ARRAY (value))
      return banger_vmm_fault (error, "invalid type for `%s`, expected a list", name);
    JsonArray *array = json_node_get_array (value);
    for (guint j = 0; j < json_array_get_length (array); j++)
      if (!apply (instance, sections[i].handler, json_array_get_element (array, j), error))
        return FALSE;
    return TRUE;
  }
  if (JSON_NODE_HOLDS_NULL (value))
    return TRUE;
  return banger_vmm_fault (error, "unknown or unsupported section `%s`", name);
}

gboolean
banger_api_apply_config (BangerInstance *instance, JsonNode *config, GError **error)
{
  JsonObject *object = json_node_get_object (config);
  g_autoptr (GList) names = json_object_get_members (object);
  for (GList *n = names; n; n = n->next)
    if (!apply_section (instance, n->data, json_object_get_member (object, n->data), error))
      return FALSE;
  return TRUE;
}
