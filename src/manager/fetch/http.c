/* One GET after another along the redirects, in a main loop of this thread's own.
 * Runs in worker threads.
 * Never keeps more than it was told to. */
#include "manager/fetch/http.h"

#include <libsoup/soup.h>
#include <string.h>

#include "common/error.h"
#include "common/log.h"

#define READ_BYTES 16384u
#define MAX_SHOWN 200u
#define MAX_INFORMATIONAL 20u

typedef struct {
  GMainLoop *loop;
  SoupSession *session;
  SoupMessage *message;
  GCancellable *cancellable;
  GInputStream *stream;
  GByteArray *body;
  gsize most;
  char *url; /* of this one */
  guint redirects, informational;
  gboolean led_too_near;
  BangerHttpNearness first; /* of the URL itself: nobody leads nearer than that */
  GMutex lock;
  GCond done;
  gboolean is_done, late; /* with the lock */
  GError *error;
} Get;

static void ask (Get *get);

static gboolean
is_late (Get *get)
{
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&get->lock);
  return get->late;
}

static void
end (Get *get, BangerError code, const char *what)
{
  g_autofree char *url = banger_log_escape (get->url, MAX_SHOWN), *shown = banger_log_escape (what, MAX_SHOWN);
  if (is_late (get))
    banger_set_error (&get->error, BANGER_ERROR_TIMEOUT, "cannot fetch %s: it took longer than %d s", url,
                      BANGER_HTTP_SECONDS);
  else if (get->led_too_near)
    banger_set_error (&get->error, BANGER_ERROR_FAILED,
                      "cannot fetch %s: a redirect leads there, to this host or into a private network", url);
  else if (get->informational > MAX_INFORMATIONAL)
    banger_set_error (&get->error, BANGER_ERROR_LIMITS_EXCEEDED,
                      "cannot fetch %s: it announces an answer again and again", url);
  else
    banger_set_error (&get->error, code, "cannot fetch %s: %s", url, shown);
  g_main_loop_quit (get->loop);
}

static void
on_bytes (GObject *source, GAsyncResult *result, gpointer data)
{
  Get *get = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = g_input_stream_read_bytes_finish (get->stream, result, &error);
  gsize length = bytes ? g_bytes_get_size (bytes) : 0;
  if (!bytes) {
    end (get, BANGER_ERROR_FAILED, error->message);
    return;
  }
  if (length == 0) {
    g_main_loop_quit (get->loop);
    return;
  }
  if (length > get->most - get->body->len) {
    g_autofree char *what = g_strdup_printf ("it has more than %" G_GSIZE_FORMAT " bytes", get->most);
    end (get, BANGER_ERROR_LIMITS_EXCEEDED, what);
    return;
  }
  g_byte_array_append (get->body, g_bytes_get_data (bytes, NULL), (guint)length);
  g_input_stream_read_bytes_async (get->stream, READ_BYTES, G_PRIORITY_DEFAULT, get->cancellable, on_bytes, get);
}

/* Returns: (transfer full): where it leads, %NULL: nowhere that may be gone to. */
static char *
redirected (Get *get)
{
  const char *where = soup_message_headers_get_one (soup_message_get_response_headers (get->message), "Location");
  g_autofree char *to = where ? g_uri_resolve_relative (get->url, where, G_URI_FLAGS_NONE, NULL) : NULL;
  if (to
      && (g_str_has_prefix (to, "https://")
          || (g_str_has_prefix (to, "http://") && g_str_has_prefix (get->url, "http://"))))
    return g_steal_pointer (&to);
  return NULL;
}

static void
go_along (Get *get)
{
  char *to = redirected (get);
  if (!to) {
    end (get, BANGER_ERROR_FAILED, "it redirects to where nobody may be led to: from https only to https");
    return;
  }
  if (++get->redirects > BANGER_HTTP_MAX_REDIRECTS) {
    g_free (to);
    end (get, BANGER_ERROR_LIMITS_EXCEEDED, "it redirects again and again");
    return;
  }
  g_free (get->url);
  get->url = to;
  ask (get);
}

static void
on_answer (GObject *source, GAsyncResult *result, gpointer data)
{
  Get *get = data;
  g_autoptr (GError) error = NULL;
  g_clear_object (&get->stream);
  get->stream = soup_session_send_finish (get->session, result, &error);
  guint status = soup_message_get_status (get->message);
  if (!get->stream) {
    end (get, BANGER_ERROR_FAILED, error->message);
  } else if (SOUP_STATUS_IS_REDIRECTION (status)) {
    go_along (get);
  } else if (status != SOUP_STATUS_OK) {
    const char *phrase = soup_message_get_reason_phrase (get->message);
    g_autofree char *what = g_strdup_printf ("it answers %u %s", status, phrase ? phrase : "");
    end (get, BANGER_ERROR_FAILED, what);
  } else {
    g_input_stream_read_bytes_async (get->stream, READ_BYTES, G_PRIORITY_DEFAULT, get->cancellable, on_bytes, get);
  }
}

static void
on_informational (SoupMessage *message, gpointer data)
{
  Get *get = data;
  if (++get->informational > MAX_INFORMATIONAL)
    g_cancellable_cancel (get->cancellable);
}

BangerHttpNearness
banger_http_nearness (GInetAddress *address)
{
  static const guint8 mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff }; /* an IPv4 one, RFC 4291 */
  const guint8 *bytes = g_inet_address_to_bytes (address);
  gboolean v6 = g_inet_address_get_family (address) == G_SOCKET_FAMILY_IPV6;
  if (v6 && memcmp (bytes, mapped, sizeof mapped) == 0) {
    g_autoptr (GInetAddress) inner = g_inet_address_new_from_bytes (bytes + sizeof mapped, G_SOCKET_FAMILY_IPV4);
    return banger_http_nearness (inner);
  }
  if (g_inet_address_get_is_loopback (address) || g_inet_address_get_is_any (address) || (!v6 && bytes[0] == 0))
    return BANGER_HTTP_THIS_HOST;
  gboolean private = v6 ? (bytes[0] & 0xfe) == 0xfc
                        : bytes[0] == 100 && (bytes[1] & 0xc0) == 64; /* RFC 4193, RFC 6598 */
  return private || g_inet_address_get_is_site_local (address) || g_inet_address_get_is_link_local (address)
             ? BANGER_HTTP_PRIVATE
             : BANGER_HTTP_FAR;
}

BangerHttpNearness
banger_http_nearness_of (GSocketAddress *to)
{
  if (!to || !G_IS_INET_SOCKET_ADDRESS (to))
    return BANGER_HTTP_THIS_HOST; /* also for what cannot be told */
  if (!G_IS_PROXY_ADDRESS (to))
    return banger_http_nearness (g_inet_socket_address_get_address (G_INET_SOCKET_ADDRESS (to)));
  const char *host = g_proxy_address_get_destination_hostname (G_PROXY_ADDRESS (to));
  g_autoptr (GInetAddress) literal = host ? g_inet_address_new_from_string (host) : NULL;
  return literal ? banger_http_nearness (literal) : BANGER_HTTP_FAR;
}

/* Before a byte is sent, of the address itself: what a name resolves to its owner decides. */
static void
on_network_event (SoupMessage *message, GSocketClientEvent event, GIOStream *connection, gpointer data)
{
  Get *get = data;
  if ((event != G_SOCKET_CLIENT_CONNECTING && event != G_SOCKET_CLIENT_CONNECTED)
      || !G_IS_SOCKET_CONNECTION (connection))
    return;
  g_autoptr (GSocketAddress) to = g_socket_connection_get_remote_address (G_SOCKET_CONNECTION (connection), NULL);
  BangerHttpNearness nearness = banger_http_nearness_of (to);
  if (get->redirects == 0)
    get->first = nearness;
  get->led_too_near = get->led_too_near || nearness > get->first;
  if (get->led_too_near)
    g_cancellable_cancel (get->cancellable);
}

static void
ask (Get *get)
{
  g_clear_object (&get->message);
  get->message = soup_message_new (SOUP_METHOD_GET, get->url);
  if (!get->message) {
    end (get, BANGER_ERROR_FAILED, "this is no URL");
    return;
  }
  g_signal_connect (get->message, "network-event", G_CALLBACK (on_network_event), get);
  g_signal_connect (get->message, "got-informational", G_CALLBACK (on_informational), get);
  soup_message_add_flags (get->message, SOUP_MESSAGE_NO_REDIRECT | SOUP_MESSAGE_DO_NOT_USE_AUTH_CACHE);
  soup_session_send_async (get->session, get->message, G_PRIORITY_DEFAULT, get->cancellable, on_answer, get);
}

/* Not by a timer of the loop: libsoup does not return to it as long as an answer is preceded by others (status 1xx). */
static gpointer
watch (gpointer data)
{
  Get *get = data;
  gint64 deadline = g_get_monotonic_time () + BANGER_HTTP_SECONDS * G_USEC_PER_SEC;
  g_mutex_lock (&get->lock);
  while (!get->is_done && !get->late)
    get->late = !g_cond_wait_until (&get->done, &get->lock, deadline);
  gboolean late = get->late;
  g_mutex_unlock (&get->lock);
  if (late)
    g_cancellable_cancel (get->cancellable);
  return NULL;
}

static void
end_watch (Get *get, GThread *watcher)
{
  g_mutex_lock (&get->lock);
  get->is_done = TRUE;
  g_cond_signal (&get->done);
  g_mutex_unlock (&get->lock);
  g_thread_join (watcher);
}

static gboolean
begin (gpointer data)
{
  ask (data);
  return G_SOURCE_REMOVE;
}

static void
add_idle (GMainContext *context, Get *get)
{
  GSource *source = g_idle_source_new ();
  g_source_set_callback (source, begin, get, NULL);
  g_source_attach (source, context);
  g_source_unref (source);
}

GBytes *
banger_http_get (const char *url, gsize most, GError **error)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_main_context_push_thread_default (context);
  Get get = { .loop = g_main_loop_new (context, FALSE),
              .session = soup_session_new_with_options ("user-agent", "banger", NULL),
              .cancellable = g_cancellable_new (),
              .body = g_byte_array_new (),
              .most = most,
              .url = g_strdup (url) };
  soup_session_remove_feature_by_type (get.session, SOUP_TYPE_CONTENT_DECODER); /* bombs */
  soup_session_remove_feature_by_type (get.session, SOUP_TYPE_AUTH_MANAGER);
  g_mutex_init (&get.lock);
  g_cond_init (&get.done);
  GThread *watcher = g_thread_new ("http", watch, &get);
  add_idle (context, &get);
  g_main_loop_run (get.loop);
  end_watch (&get, watcher);
  g_clear_object (&get.stream);
  g_clear_object (&get.message);
  soup_session_abort (get.session);
  g_object_unref (get.session);
  g_object_unref (get.cancellable);
  g_main_loop_unref (get.loop);
  g_free (get.url);
  while (g_main_context_iteration (context, FALSE))
    ; /* what of it still waits for an end */
  g_main_context_pop_thread_default (context);
  g_cond_clear (&get.done);
  g_mutex_clear (&get.lock);
  g_autoptr (GBytes) body = g_byte_array_free_to_bytes (get.body);
  if (!get.error)
    return g_steal_pointer (&body);
  g_propagate_error (error, get.error);
  return NULL;
}
