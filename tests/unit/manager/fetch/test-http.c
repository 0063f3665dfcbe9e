/* A catalog of a URL, from a server on loopback that answers as it likes.
 * Run by meson test. The source that fetches is part of the test: it has two seconds there.
 * Never leaves this host. */
#include <libsoup/soup.h>
#include <string.h>

#include "common/error.h"
#include "manager/fetch/catalogs.h"
#include "manager/fetch/http.h"

#define MOST 1000u
#define CATALOG "{\"banger-catalog\":1,\"images\":[{\"name\":\"box\",\"source\":\"docker://example.org/box:1\"}]}"

static char *base;
static gint asked; /* atomic: how often for the catalog */

static void
answer (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
  static const struct {
    const char *path;
    guint status;
    const char *to; /* where a redirect leads */
    gsize bytes;
  } rows[] = {
    { "/most", 200, NULL, MOST },
    { "/more", 200, NULL, MOST + 1 },
    { "/vast", 200, NULL, 50000000 },
    { "/empty", 200, NULL, 0 },
    { "/moved", 302, "/most", 0 },
    { "/loop", 307, "/loop", 0 },
    { "/out", 301, "file:///etc/hostname", 0 },
    { "/nowhere", 302, NULL, 0 },
    { "/denied", 401, NULL, 3 },
    { "/busy", 429, NULL, 0 },
    { "/broken", 500, NULL, 10 },
  };
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);
  soup_server_message_set_status (message, 404, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (g_str_equal (rows[i].path, path)) {
      soup_server_message_set_status (message, rows[i].status, NULL);
      if (rows[i].to)
        soup_message_headers_append (headers, "Location", rows[i].to);
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_TAKE, g_strnfill (rows[i].bytes, 'x'),
                                        rows[i].bytes);
    }
  if (g_str_equal (path, "/cat.json")) {
    g_atomic_int_inc (&asked);
    soup_server_message_set_status (message, 200, NULL);
    soup_server_message_set_response (message, "application/json", SOUP_MEMORY_STATIC, CATALOG, strlen (CATALOG));
  }
  if (g_str_equal (path, "/bomb")) { /* it is what it is, whatever it says that it becomes */
    soup_server_message_set_status (message, 200, NULL);
    soup_message_headers_append (headers, "Content-Encoding", "gzip");
    soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "no gzip", 7);
  }
  if (g_str_equal (path, "/hangs"))
    soup_server_message_pause (message);
}

static gpointer
serve (gpointer data)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_main_context_push_thread_default (context);
  g_autoptr (GMainLoop) loop = g_main_loop_new (context, FALSE);
  SoupServer *server = soup_server_new ("server-header", "x", NULL);
  soup_server_add_handler (server, NULL, answer, NULL, NULL);
  g_assert_true (soup_server_listen_local (server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, NULL));
  GSList *uris = soup_server_get_uris (server);
  g_autofree char *text = g_uri_to_string (uris->data);
  g_async_queue_push (data, g_strndup (text, strlen (text) - 1));
  g_slist_free_full (uris, (GDestroyNotify)g_uri_unref);
  g_main_loop_run (loop);
  return NULL;
}

/* A server that says that it is about to answer, without end: libsoup's own would not. */
static gpointer
announce (gpointer data)
{
  static const char again[] = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
  g_autoptr (GSocket) socket = data, client = g_socket_accept (socket, NULL, NULL);
  char request[1000];
  (void)g_socket_receive (client, request, sizeof request, NULL, NULL);
  while (g_socket_send (client, again, strlen (again), NULL, NULL) > 0)
    ;
  return NULL;
}

static void
test_announced (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = g_socket_new (G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, &error);
  g_autoptr (GSocketAddress) any = g_inet_socket_address_new_from_string ("127.0.0.1", 0);
  g_assert_true (g_socket_bind (socket, any, FALSE, &error) && g_socket_listen (socket, &error));
  g_autoptr (GSocketAddress) is = g_socket_get_local_address (socket, &error);
  g_autofree char *url = g_strdup_printf ("http://127.0.0.1:%u/",
                                          g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (is)));
  GThread *thread = g_thread_new ("announce", announce, g_object_ref (socket));
  g_assert_null (banger_http_get (url, MOST, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_thread_join (thread);
}

static void
test_answers (void)
{
  static const struct {
    const char *path;
    gssize length; /* -1: an error */
    BangerError code;
    const char *why;
  } rows[] = {
    { "/most", MOST, 0, NULL },
    { "/empty", 0, 0, NULL },
    { "/bomb", 7, 0, NULL },
    { "/moved", MOST, 0, NULL },
    { "/more", -1, BANGER_ERROR_LIMITS_EXCEEDED, "*more than 1000 bytes" },
    { "/vast", -1, BANGER_ERROR_LIMITS_EXCEEDED, "*more than 1000 bytes" },
    { "/loop", -1, BANGER_ERROR_LIMITS_EXCEEDED, "*again and again" },
    { "/out", -1, BANGER_ERROR_FAILED, "*may be led to*" },
    { "/nowhere", -1, BANGER_ERROR_FAILED, "*may be led to*" },
    { "/denied", -1, BANGER_ERROR_FAILED, "*answers 401*" },
    { "/none", -1, BANGER_ERROR_FAILED, "*answers 404*" },
    { "/busy", -1, BANGER_ERROR_FAILED, "*answers 429*" },
    { "/broken", -1, BANGER_ERROR_FAILED, "*answers 500*" },
    { "/hangs", -1, BANGER_ERROR_TIMEOUT, "*took longer*" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *url = g_strconcat (base, rows[i].path, NULL);
    g_autoptr (GBytes) bytes = banger_http_get (url, MOST, &error);
    g_test_message ("%s: %s", rows[i].path, error ? error->message : "fetched");
    g_assert_true (!bytes == (rows[i].length < 0));
    if (bytes) {
      g_assert_cmpuint (g_bytes_get_size (bytes), ==, (gsize)rows[i].length);
      continue;
    }
    g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
    g_assert_true (g_pattern_match_simple (rows[i].why, error->message));
  }
  g_assert_null (banger_http_get ("http://127.0.0.1:1/none", MOST, NULL));
  g_assert_null (banger_http_get ("nothing", MOST, NULL));
}

/* Fetched once for a while; one that was not good is asked for again. */
static void
test_catalog (void)
{
  g_autofree char *url = g_strconcat (base, "/cat.json", NULL);
  BangerConfigCatalog catalog = { .url = url }, missing = { .url = g_strconcat (base, "/none", NULL) };
  g_autoptr (GPtrArray) own = g_ptr_array_new ();
  g_autoptr (GError) error = NULL;
  g_ptr_array_add (own, &catalog);
  for (guint i = 0; i < 3; i++) {
    g_autoptr (BangerCatalogFound) found = banger_catalogs_find (own, BANGER_CATALOG_IMAGES, "box", &error);
    g_assert_no_error (error);
    g_assert_cmpstr (found->what, ==, "//example.org/box:1");
    g_assert_nonnull (strstr (found->warning, url));
  }
  g_assert_cmpint (g_atomic_int_get (&asked), ==, 1);
  /* The same bytes are not those that are asked for now. */
  catalog.sha256 = (char *)"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  g_assert_null (banger_catalogs_find (own, BANGER_CATALOG_IMAGES, "box", &error));
  g_assert_true (g_pattern_match_simple ("*its digest is*", error->message));
  g_assert_cmpint (g_atomic_int_get (&asked), ==, 2);
  g_clear_error (&error);
  own->pdata[0] = &missing;
  g_assert_null (banger_catalogs_find (own, BANGER_CATALOG_IMAGES, "box", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG);
  g_assert_true (g_pattern_match_simple ("cannot look for box:*answers 404*", error->message));
  g_free (missing.url);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_autoptr (GAsyncQueue) queue = g_async_queue_new ();
  g_thread_unref (g_thread_new ("server", serve, queue));
  base = g_async_queue_pop (queue);
  g_test_add_func ("/http/answers", test_answers);
  g_test_add_func ("/http/announced", test_announced);
  g_test_add_func ("/http/catalog", test_catalog);
  int r = g_test_run ();
  g_free (base);
  return r;
}
