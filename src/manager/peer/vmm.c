/* Firecracker's HTTP API over its unix socket: configures a VMM, starts it, presses Ctrl-Alt-Del, pauses it.
 * Never knows which engine answers, nor lets it say how much memory or time an answer takes. */
#include "manager/peer/vmm.h"

#include <gio/gunixsocketaddress.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

#include "common/error.h"
#include "common/json-depth.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/peer/credentials.h"

/* Between bind(2) and listen(2) of the VMM, of which nobody is told: most often less than a millisecond. */
#define REFUSED_FIRST_MSEC 1
#define REFUSED_LAST_MSEC 16
#define REFUSED_MOST 100
#define MAX_BODY 65536u /* of an answer; a VMM may be anybody's by now */
#define MAX_SECONDS 30  /* for one answer, however slowly its bytes come */
#define READ_BYTES 8192u
#define IFACE_ID "eth0"
#define MEMORY_SECONDS 600 /* for one that all the guest's memory goes before, to or from a disk */

typedef struct {
  SoupSession *session;
  GPtrArray *requests;
  guint next, refusals;
  SoupMessage *message;
  pid_t pid;
  GCancellable *cancellable; /* of this request */
  guint timeout_id;
  GInputStream *stream;
  GByteArray *body;
  GError *error; /* why we gave it up */
} Conversation;

static void
request_clear (Conversation *talk)
{
  g_clear_handle_id (&talk->timeout_id, g_source_remove);
  g_clear_object (&talk->message);
  g_clear_object (&talk->stream);
  g_clear_object (&talk->cancellable);
  g_clear_pointer (&talk->body, g_byte_array_unref);
}

static void
conversation_free (gpointer data)
{
  Conversation *talk = data;
  request_clear (talk);
  g_clear_error (&talk->error);
  g_object_unref (talk->session);
  g_ptr_array_unref (talk->requests);
  g_free (talk);
}

static void
request_free (gpointer data)
{
  BangerVmmRequest *request = data;
  g_free (request->path);
  g_free (request->body);
  g_free (request);
}

/* Takes the builder, whose root is one finished object. Returns: (transfer none). */
static BangerVmmRequest *
add_request (GPtrArray *requests, const char *path, JsonBuilder *builder)
{
  json_builder_end_object (builder);
  g_autoptr (JsonNode) root = json_builder_get_root (builder);
  BangerVmmRequest *request = g_new0 (BangerVmmRequest, 1);
  request->method = SOUP_METHOD_PUT;
  request->seconds = MAX_SECONDS;
  request->path = g_strdup (path);
  request->body = json_to_string (root, FALSE);
  g_ptr_array_add (requests, request);
  g_object_unref (builder);
  return request;
}

static JsonBuilder *
body_new (void)
{
  JsonBuilder *builder = json_builder_new_immutable ();
  json_builder_begin_object (builder);
  return builder;
}

static void
set_string (JsonBuilder *builder, const char *key, const char *value)
{
  json_builder_set_member_name (builder, key);
  json_builder_add_string_value (builder, value);
}

static void
set_int (JsonBuilder *builder, const char *key, gint64 value)
{
  json_builder_set_member_name (builder, key);
  json_builder_add_int_value (builder, value);
}

static void
set_bool (JsonBuilder *builder, const char *key, gboolean value)
{
  json_builder_set_member_name (builder, key);
  json_builder_add_boolean_value (builder, value);
}

static void
add_drive (GPtrArray *requests, const char *id, const char *path, gboolean root, gboolean durable)
{
  JsonBuilder *body = body_new ();
  set_string (body, "drive_id", id);
  set_string (body, "path_on_host", path);
  set_bool (body, "is_root_device", root);
  set_bool (body, "is_read_only", FALSE);
  set_string (body, "cache_type", durable ? "Writeback" : "Unsafe");
  g_autofree char *url = g_strconcat ("/drives/", id, NULL);
  add_request (requests, url, body);
}

GPtrArray *
banger_vmm_requests (const BangerVmmConfig *config)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *machine = body_new ();
  set_int (machine, "vcpu_count", config->vcpus);
  set_int (machine, "mem_size_mib", config->memory_mib);
  add_request (requests, "/machine-config", machine);

  JsonBuilder *boot = body_new ();
  set_string (boot, "kernel_image_path", BANGER_JAIL_KERNEL);
  set_string (boot, "initrd_path", BANGER_JAIL_INITRD);
  set_string (boot, "boot_args", config->boot_args);
  add_request (requests, "/boot-source", boot);

  add_drive (requests, "rootfs", BANGER_JAIL_ROOTFS, TRUE, config->durable);
  if (config->work_disk)
    add_drive (requests, "work", BANGER_JAIL_WORK, FALSE, config->durable);

  JsonBuilder *net = body_new ();
  set_string (net, "iface_id", IFACE_ID);
  set_string (net, "host_dev_name", config->tap);
  set_string (net, "guest_mac", config->mac);
  add_request (requests, "/network-interfaces/eth0", net);

  JsonBuilder *vsock = body_new ();
  set_int (vsock, "guest_cid", config->vsock_cid);
  set_string (vsock, "uds_path", BANGER_JAIL_VSOCK);
  add_request (requests, "/vsock", vsock);
  return requests;
}

static char *
fault_message (const GByteArray *body)
{
  gsize length = body->len;
  const char *text = (const char *)body->data;
  g_autoptr (JsonParser) parser = json_parser_new ();
  if (length > 0 && banger_json_depth_ok (text, length)
      && json_parser_load_from_data (parser, text, (gssize)length, NULL))
  {
    JsonNode *root = json_parser_get_root (parser);
    if (root && JSON_NODE_HOLDS_OBJECT (root)) {
      const char *fault = json_object_get_string_member_with_default (json_node_get_object (root), "fault_message",
                                                                      NULL);
      if (fault)
        return banger_log_escape (fault, 1024);
    }
  }
  g_autofree char *copy = g_strndup (length > 0 ? text : "", length);
  return banger_log_escape (copy, 256);
}

static void conversation_next (GTask *task);

static gboolean
on_refused_retry (gpointer data)
{
  conversation_next (data);
  return G_SOURCE_REMOVE;
}

/* Ends the request under way; what @error says goes to the caller. Takes @error. */
static void
give_up (Conversation *talk, GError *error)
{
  if (!talk->error)
    talk->error = error;
  else
    g_error_free (error);
  g_cancellable_cancel (talk->cancellable);
}

static gboolean
on_timeout (gpointer data)
{
  Conversation *talk = data;
  talk->timeout_id = 0;
  const BangerVmmRequest *request = talk->requests->pdata[talk->next];
  give_up (talk,
           g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "no whole answer within %u s", request->seconds));
  return G_SOURCE_REMOVE;
}

/* Before the request is written. */
static void
on_network_event (SoupMessage *message, GSocketClientEvent event, GIOStream *connection, gpointer data)
{
  Conversation *talk = data;
  GError *error = NULL;
  if (event == G_SOCKET_CLIENT_CONNECTED && G_IS_SOCKET_CONNECTION (connection)
      && !banger_peer_check (G_SOCKET_CONNECTION (connection), talk->pid, &error))
    give_up (talk, error);
}

static void
no_answer (GTask *task, GError *error)
{
  Conversation *talk = g_task_get_task_data (task);
  const BangerVmmRequest *request = talk->requests->pdata[talk->next];
  gboolean cancelled = g_cancellable_is_cancelled (g_task_get_cancellable (task));
  if (!talk->error && talk->next == 0 && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED)
      && talk->refusals++ < REFUSED_MOST)
  {
    guint msec = MIN (REFUSED_FIRST_MSEC << MIN (talk->refusals - 1, 8), REFUSED_LAST_MSEC);
    request_clear (talk);
    g_timeout_add_full (G_PRIORITY_DEFAULT, msec, on_refused_retry, g_object_ref (task), g_object_unref);
    g_error_free (error);
    return;
  }
  if (cancelled && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_task_return_error (task, error);
    return;
  }
  g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM did not answer %s %s: %s",
                           request->method, request->path, talk->error ? talk->error->message : error->message);
  g_error_free (error);
}

static void
whole_answer (GTask *task)
{
  Conversation *talk = g_task_get_task_data (task);
  const BangerVmmRequest *request = talk->requests->pdata[talk->next];
  guint status = soup_message_get_status (talk->message);
  if (status < 200 || status > 299) {
    g_autofree char *fault = fault_message (talk->body);
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM refused %s %s (%u): %s",
                             request->method, request->path, status, fault);
    return;
  }
  request_clear (talk);
  talk->next++;
  conversation_next (task);
}

static void read_body (GTask *task);

static void
on_body (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Conversation *talk = g_task_get_task_data (task);
  GError *error = NULL;
  g_autoptr (GBytes) bytes = g_input_stream_read_bytes_finish (talk->stream, result, &error);
  if (!bytes) {
    no_answer (task, error);
    return;
  }
  gsize length;
  const guint8 *chunk = g_bytes_get_data (bytes, &length);
  if (length == 0) {
    whole_answer (task);
    return;
  }
  if (length > MAX_BODY - talk->body->len) {
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM answers with more than %u bytes",
                             MAX_BODY);
    g_cancellable_cancel (talk->cancellable);
    return;
  }
  g_byte_array_append (talk->body, chunk, (guint)length);
  read_body (task);
}

static void
read_body (GTask *task)
{
  Conversation *talk = g_task_get_task_data (task);
  g_input_stream_read_bytes_async (talk->stream, READ_BYTES, G_PRIORITY_DEFAULT, talk->cancellable, on_body,
                                   g_object_ref (task));
}

static void
on_answer (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Conversation *talk = g_task_get_task_data (task);
  GError *error = NULL;
  talk->stream = soup_session_send_finish (talk->session, result, &error);
  if (!talk->stream)
    no_answer (task, error);
  else
    read_body (task);
}

static void
on_cancelled (GCancellable *cancellable, gpointer data)
{
  g_cancellable_cancel (data);
}

static void
conversation_next (GTask *task)
{
  Conversation *talk = g_task_get_task_data (task);
  if (talk->next == talk->requests->len) {
    g_task_return_boolean (task, TRUE);
    return;
  }
  const BangerVmmRequest *request = talk->requests->pdata[talk->next];
  g_autofree char *url = g_strconcat ("http://localhost", request->path, NULL);
  talk->message = soup_message_new (request->method, url);
  soup_message_add_flags (talk->message, SOUP_MESSAGE_NO_REDIRECT);
  g_autoptr (GBytes) body = g_bytes_new (request->body, strlen (request->body));
  soup_message_set_request_body_from_bytes (talk->message, "application/json", body);
  g_signal_connect (talk->message, "network-event", G_CALLBACK (on_network_event), talk);
  talk->body = g_byte_array_new ();
  talk->cancellable = g_cancellable_new ();
  talk->timeout_id = g_timeout_add_seconds (request->seconds, on_timeout, talk);
  GCancellable *outer = g_task_get_cancellable (task);
  if (outer)
    g_cancellable_connect (outer, G_CALLBACK (on_cancelled), g_object_ref (talk->cancellable), g_object_unref);
  soup_session_send_async (talk->session, talk->message, G_PRIORITY_DEFAULT, talk->cancellable, on_answer,
                           g_object_ref (task));
}

/* @requests: (transfer full). */
static void
converse (const char *socket_path, pid_t pid, GPtrArray *requests, GCancellable *cancellable,
          GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (socket_path);
  Conversation *talk = g_new0 (Conversation, 1);
  talk->requests = requests;
  talk->pid = pid;
  talk->session = soup_session_new_with_options ("remote-connectable", address, "proxy-resolver", NULL, NULL);
  soup_session_remove_feature_by_type (talk->session, SOUP_TYPE_CONTENT_DECODER); /* bombs */
  soup_session_remove_feature_by_type (talk->session, SOUP_TYPE_AUTH_MANAGER);
  g_task_set_task_data (task, talk, conversation_free);
  conversation_next (task);
}

void
banger_vmm_configure_async (const char *socket_path, pid_t pid, const BangerVmmConfig *config,
                            GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  converse (socket_path, pid, banger_vmm_requests (config), cancellable, callback, user_data);
}

void
banger_vmm_action_async (const char *socket_path, pid_t pid, const char *action, GCancellable *cancellable,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *body = body_new ();
  set_string (body, "action_type", action);
  add_request (requests, "/actions", body);
  converse (socket_path, pid, requests, cancellable, callback, user_data);
}

void
banger_vmm_pause_async (const char *socket_path, pid_t pid, gboolean paused, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user_data)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *body = body_new ();
  set_string (body, "state", paused ? "Paused" : "Resumed");
  add_request (requests, "/vm", body)->method = "PATCH";
  converse (socket_path, pid, requests, cancellable, callback, user_data);
}

void
banger_vmm_save_async (const char *socket_path, pid_t pid, GCancellable *cancellable, GAsyncReadyCallback callback,
                       gpointer user_data)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *body = body_new ();
  set_string (body, "snapshot_path", BANGER_JAIL_SAVE_STATE);
  set_string (body, "mem_file_path", BANGER_JAIL_SAVE_MEMORY);
  set_string (body, "snapshot_type", "Full");
  add_request (requests, "/snapshot/create", body)->seconds = MEMORY_SECONDS;
  converse (socket_path, pid, requests, cancellable, callback, user_data);
}

void
banger_vmm_load_async (const char *socket_path, pid_t pid, const char *tap, GCancellable *cancellable,
                       GAsyncReadyCallback callback, gpointer user_data)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *body = body_new ();
  set_string (body, "snapshot_path", BANGER_JAIL_SAVED_STATE);
  json_builder_set_member_name (body, "mem_backend");
  json_builder_begin_object (body);
  set_string (body, "backend_type", "File");
  set_string (body, "backend_path", BANGER_JAIL_SAVED_MEMORY);
  json_builder_end_object (body);
  set_bool (body, "resume_vm", FALSE);
  if (tap) {
    json_builder_set_member_name (body, "network_overrides");
    json_builder_begin_array (body);
    json_builder_begin_object (body);
    set_string (body, "iface_id", IFACE_ID);
    set_string (body, "host_dev_name", tap);
    json_builder_end_object (body);
    json_builder_end_array (body);
  }
  add_request (requests, "/snapshot/load", body)->seconds = MEMORY_SECONDS;
  converse (socket_path, pid, requests, cancellable, callback, user_data);
}

gboolean
banger_vmm_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
