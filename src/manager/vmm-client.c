/* Firecracker's HTTP API over its unix socket: configures a VMM, starts it, presses Ctrl-Alt-Del.
 * Called by vm-start.c and vm-stop.c.
 * Never knows which engine answers. */
#include "manager/vmm-client.h"

#include <gio/gunixsocketaddress.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"

#define REFUSED_RETRY_MSEC 10 /* between bind(2) and listen(2) of the VMM */

typedef struct {
  SoupSession *session;
  GPtrArray *requests;
  guint next, refusals;
  SoupMessage *message;
} Conversation;

static void
conversation_free (gpointer data)
{
  Conversation *talk = data;
  g_clear_object (&talk->message);
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

/* Takes the builder, whose root is one finished object. */
static void
add_request (GPtrArray *requests, const char *path, JsonBuilder *builder)
{
  json_builder_end_object (builder);
  g_autoptr (JsonNode) root = json_builder_get_root (builder);
  BangerVmmRequest *request = g_new0 (BangerVmmRequest, 1);
  request->path = g_strdup (path);
  request->body = json_to_string (root, FALSE);
  g_ptr_array_add (requests, request);
  g_object_unref (builder);
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
  set_string (net, "iface_id", "eth0");
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
fault_message (GBytes *body)
{
  gsize length = 0;
  const char *text = body ? g_bytes_get_data (body, &length) : NULL;
  g_autoptr (JsonParser) parser = json_parser_new ();
  if (length > 0 && json_parser_load_from_data (parser, text, (gssize)length, NULL)) {
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
on_refused_retry (gpointer user_data)
{
  conversation_next (user_data);
  return G_SOURCE_REMOVE;
}

static void
no_answer (GTask *task, const char *path, GError *error)
{
  Conversation *talk = g_task_get_task_data (task);
  if (talk->next == 0 && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED) && talk->refusals++ < 100) {
    g_clear_object (&talk->message);
    g_timeout_add_full (G_PRIORITY_DEFAULT, REFUSED_RETRY_MSEC, on_refused_retry, g_object_ref (task), g_object_unref);
    g_error_free (error);
  } else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_task_return_error (task, error);
  } else {
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM did not answer PUT %s: %s", path,
                             error->message);
    g_error_free (error);
  }
}

static void
on_answer (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Conversation *talk = g_task_get_task_data (task);
  const BangerVmmRequest *request = talk->requests->pdata[talk->next];
  GError *error = NULL;
  g_autoptr (GBytes) body = soup_session_send_and_read_finish (talk->session, result, &error);
  if (!body) {
    no_answer (task, request->path, error);
    return;
  }
  guint status = soup_message_get_status (talk->message);
  if (status < 200 || status > 299) {
    g_autofree char *fault = fault_message (body);
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM refused PUT %s (%u): %s",
                             request->path, status, fault);
    return;
  }
  g_clear_object (&talk->message);
  talk->next++;
  conversation_next (task);
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
  talk->message = soup_message_new (SOUP_METHOD_PUT, url);
  g_autoptr (GBytes) body = g_bytes_new (request->body, strlen (request->body));
  soup_message_set_request_body_from_bytes (talk->message, "application/json", body);
  soup_session_send_and_read_async (talk->session, talk->message, G_PRIORITY_DEFAULT, g_task_get_cancellable (task),
                                    on_answer, g_object_ref (task));
}

/* @requests: (transfer full). */
static void
converse (const char *socket_path, GPtrArray *requests, GCancellable *cancellable, GAsyncReadyCallback callback,
          gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (socket_path);
  Conversation *talk = g_new0 (Conversation, 1);
  talk->requests = requests;
  talk->session = soup_session_new_with_options ("remote-connectable", address, "proxy-resolver", NULL, NULL);
  g_task_set_task_data (task, talk, conversation_free);
  conversation_next (task);
}

void
banger_vmm_configure_async (const char *socket_path, const BangerVmmConfig *config, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data)
{
  converse (socket_path, banger_vmm_requests (config), cancellable, callback, user_data);
}

void
banger_vmm_action_async (const char *socket_path, const char *action, GCancellable *cancellable,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  GPtrArray *requests = g_ptr_array_new_with_free_func (request_free);
  JsonBuilder *body = body_new ();
  set_string (body, "action_type", action);
  add_request (requests, "/actions", body);
  converse (socket_path, requests, cancellable, callback, user_data);
}

gboolean
banger_vmm_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
