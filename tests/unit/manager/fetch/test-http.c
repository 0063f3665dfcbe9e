/* A catalog of a URL, from a server on loopback that answers as it likes, and by https from one whose certificate is a test's own.
 * Run by meson test. The source that fetches is part of the test: it has two seconds there.
 * Never leaves this host: where it may have a network of its own, addresses of others are its own there. */
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "manager/fetch/catalogs.h"
#include "manager/fetch/http.h"

#define MOST 1000u
#define CATALOG "{\"banger-catalog\":1,\"images\":[{\"name\":\"box\",\"source\":\"docker://example.org/box:1\"}]}"

#define FAR "192.0.2.1" /* TEST-NET-1, RFC 5737 */
#define PRIVATE "10.99.0.1"

static char *base;
static guint port;
static gboolean own_network;
static gint asked;  /* atomic: how often for the catalog */
static gint broken; /* likewise for one that is not there */

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
  if (g_str_has_prefix (path, "/to/")) { /* "/to/ADDRESS/PATH": there, at the same port */
    g_auto (GStrv) parts = g_strsplit (path + strlen ("/to/"), "/", 2);
    g_autofree char *to = g_strdup_printf ("http://%s:%u/%s", parts[0], port, parts[1]);
    soup_server_message_set_redirect (message, 302, to);
  }
  if (g_str_equal (path, "/gone.json"))
    g_atomic_int_inc (&broken);
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

/* A thread that serves. It has ended before the program does. */
typedef struct {
  GMainLoop *loop;
  GThread *thread;
} Server;

static void
begin (Server *server, GThreadFunc func)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  server->loop = g_main_loop_new (context, FALSE);
  server->thread = g_thread_new ("server", func, server);
}

static void
run (Server *server, SoupServer *soup)
{
  g_main_loop_run (server->loop);
  soup_server_disconnect (soup);
  g_object_unref (soup);
  g_main_context_pop_thread_default (g_main_loop_get_context (server->loop));
}

static gboolean
on_end (gpointer data)
{
  g_main_loop_quit (data);
  return G_SOURCE_REMOVE;
}

/* In its own turn: a loop that does not run yet would not hear of it. */
static void
end (Server *server)
{
  g_autoptr (GSource) source = g_idle_source_new ();
  g_source_set_callback (source, on_end, server->loop, NULL);
  g_source_attach (source, g_main_loop_get_context (server->loop));
  g_thread_join (server->thread);
  g_main_loop_unref (server->loop);
}

typedef struct {
  Server server;
  GAsyncQueue *queue;
} Plain;

static gpointer
serve (gpointer data)
{
  Plain *plain = data;
  g_main_context_push_thread_default (g_main_loop_get_context (plain->server.loop));
  SoupServer *server = soup_server_new ("server-header", "x", NULL);
  soup_server_add_handler (server, NULL, answer, NULL, NULL);
  g_assert_true (own_network ? soup_server_listen_all (server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, NULL)
                             : soup_server_listen_local (server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, NULL));
  GSList *uris = soup_server_get_uris (server);
  port = (guint)g_uri_get_port (uris->data);
  g_async_queue_push (plain->queue, g_strdup_printf ("http://127.0.0.1:%u", port));
  g_slist_free_full (uris, (GDestroyNotify)g_uri_unref);
  run (&plain->server, server);
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

/* Of a server that is not there nobody waits again for a list; who wants something of it asks it. */
static void
test_failed_lately (void)
{
  g_autofree char *url = g_strconcat (base, "/gone.json", NULL);
  BangerConfigCatalog catalog = { .url = url };
  g_autoptr (GPtrArray) own = g_ptr_array_new ();
  g_ptr_array_add (own, &catalog);
  for (guint i = 0; i < 3; i++) {
    g_autoptr (GPtrArray) all = banger_catalogs_read (own);
    const BangerCatalogRead *read = all->pdata[0];
    g_assert_error (read->error, BANGER_ERROR, BANGER_ERROR_FAILED);
    g_assert_true (g_pattern_match_simple ("*answers 404*", read->error->message));
    g_assert_cmpint (g_atomic_int_get (&broken), ==, 1);
  }
  g_assert_null (banger_catalogs_find (own, BANGER_CATALOG_IMAGES, "box", NULL));
  g_assert_cmpint (g_atomic_int_get (&broken), ==, 2);
}

static void
test_nearness (void)
{
  static const struct {
    const char *address;
    BangerHttpNearness nearness;
  } rows[] = {
    { "127.0.0.1", BANGER_HTTP_THIS_HOST },
    { "127.255.255.255", BANGER_HTTP_THIS_HOST },
    { "0.0.0.0", BANGER_HTTP_THIS_HOST },
    { "0.1.2.3", BANGER_HTTP_THIS_HOST },
    { "::1", BANGER_HTTP_THIS_HOST },
    { "::", BANGER_HTTP_THIS_HOST },
    { "::ffff:127.0.0.1", BANGER_HTTP_THIS_HOST },
    { "::ffff:10.0.0.1", BANGER_HTTP_PRIVATE },
    { "::ffff:192.0.2.1", BANGER_HTTP_FAR },
    { "10.0.0.1", BANGER_HTTP_PRIVATE },
    { "172.16.0.1", BANGER_HTTP_PRIVATE },
    { "172.32.0.1", BANGER_HTTP_FAR },
    { "192.168.255.255", BANGER_HTTP_PRIVATE },
    { "169.254.169.254", BANGER_HTTP_PRIVATE },
    { "100.63.0.1", BANGER_HTTP_FAR },
    { "100.64.0.1", BANGER_HTTP_PRIVATE },
    { "100.127.255.255", BANGER_HTTP_PRIVATE },
    { "100.128.0.0", BANGER_HTTP_FAR },
    { "fe80::1", BANGER_HTTP_PRIVATE },
    { "fd00::1", BANGER_HTTP_PRIVATE },
    { "fc00::1", BANGER_HTTP_PRIVATE },
    { "fec0::1", BANGER_HTTP_PRIVATE },
    { "2001:db8::1", BANGER_HTTP_FAR },
    { "192.0.2.1", BANGER_HTTP_FAR },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GInetAddress) address = g_inet_address_new_from_string (rows[i].address);
    g_test_message ("%s", rows[i].address);
    g_assert_cmpint (banger_http_nearness (address), ==, rows[i].nearness);
  }
}

/* A proxy may be anywhere: what it is asked for counts, or else whoever has one may be led to all that is as near as it. */
static void
test_nearness_behind_a_proxy (void)
{
  static const struct {
    const char *proxy, *host;
    BangerHttpNearness nearness;
  } rows[] = {
    { "127.0.0.1", "example.org", BANGER_HTTP_FAR },        { "10.0.0.1", "example.org", BANGER_HTTP_FAR },
    { "192.0.2.1", "example.org", BANGER_HTTP_FAR },        { "10.0.0.1", "192.0.2.1", BANGER_HTTP_FAR },
    { "192.0.2.1", "10.0.0.1", BANGER_HTTP_PRIVATE },       { "192.0.2.1", "127.0.0.1", BANGER_HTTP_THIS_HOST },
    { "10.0.0.1", "::ffff:10.0.0.1", BANGER_HTTP_PRIVATE },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GInetAddress) address = g_inet_address_new_from_string (rows[i].proxy);
    g_autoptr (GSocketAddress) proxy = g_proxy_address_new (address, 3128, "http", rows[i].host, 80, NULL, NULL);
    g_test_message ("%s by %s", rows[i].host, rows[i].proxy);
    g_assert_cmpint (banger_http_nearness_of (proxy), ==, rows[i].nearness);
    g_autoptr (GSocketAddress) itself = g_inet_socket_address_new (address, 80);
    g_assert_cmpint (banger_http_nearness_of (itself), ==, banger_http_nearness (address));
  }
  g_assert_cmpint (banger_http_nearness_of (NULL), ==, BANGER_HTTP_THIS_HOST);
}

/* Whoever has a server far away reaches nothing by it that answers only this host or its network. */
static void
test_led_near (void)
{
  static const struct {
    const char *from, *path;
    gboolean good;
  } rows[] = {
    { FAR, "/to/" FAR "/most", TRUE },        { FAR, "/to/127.0.0.1/most", FALSE },
    { FAR, "/to/" PRIVATE "/most", FALSE },   { FAR, "/to/localhost/most", FALSE }, /* a name, of whatever address */
    { FAR, "/to/0.0.0.0/most", FALSE },       { FAR, "/to/" FAR "/to/127.0.0.1/most", FALSE },
    { PRIVATE, "/to/" FAR "/most", TRUE },    { PRIVATE, "/to/" FAR "/to/" PRIVATE "/most", TRUE },
    { PRIVATE, "/to/127.0.0.1/most", FALSE }, { "127.0.0.1", "/to/" PRIVATE "/to/127.0.0.1/most", TRUE },
  };
  if (!own_network) {
    g_test_skip ("no network of its own");
    return;
  }
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *url = g_strdup_printf ("http://%s:%u%s", rows[i].from, port, rows[i].path);
    g_autoptr (GBytes) bytes = banger_http_get (url, MOST, &error);
    g_test_message ("%s: %s", url, error ? error->message : "fetched");
    g_assert_true (!bytes == !rows[i].good);
    g_assert_true (rows[i].good || g_pattern_match_simple ("*a redirect leads there*", error->message));
  }
}

/* TLS */

/* Returns: whether openssl(1) is there. Makes ca.pem, and NAME.pem for an address or name, with the key in it. */
static gboolean
make_certificates (const char *folder)
{
  static const char script[]
      = "set -e; cd \"$1\"; new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'\n"
        "openssl req -x509 $new -subj /CN=ca -keyout ca.key -out ca.pem\n"
        "for one in good/IP:127.0.0.1 other/DNS:example.org; do name=${one%%/*}\n"
        "openssl req $new -subj /CN=$name -keyout $name.key -out $name.csr\n"
        "echo subjectAltName=${one#*/} > ext\n"
        "openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.crt\n"
        "cat $name.crt $name.key > $name.pem; done\n"
        "openssl req -x509 $new -subj /CN=own -addext subjectAltName=IP:127.0.0.1 -keyout own.key -out own.crt\n"
        "cat own.crt own.key > own.pem\n";
  const char *const argv[] = { "sh", "-c", script, "sh", folder, NULL };
  int status = -1;
  return g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                       NULL, &status, NULL)
         && status == 0;
}

typedef struct {
  Server server;
  GTlsCertificate *certificate;
  GAsyncQueue *ports;
} Tls;

static gpointer
serve_tls (gpointer data)
{
  Tls *tls = data;
  g_main_context_push_thread_default (g_main_loop_get_context (tls->server.loop));
  SoupServer *server = soup_server_new ("tls-certificate", tls->certificate, NULL);
  soup_server_add_handler (server, NULL, answer, NULL, NULL);
  g_assert_true (soup_server_listen_local (server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY | SOUP_SERVER_LISTEN_HTTPS, NULL));
  GSList *uris = soup_server_get_uris (server);
  g_async_queue_push (tls->ports, GINT_TO_POINTER (g_uri_get_port (uris->data)));
  g_slist_free_full (uris, (GDestroyNotify)g_uri_unref);
  run (&tls->server, server);
  return NULL;
}

static void
trust (const char *folder)
{
  g_autofree char *path = g_build_filename (folder, "ca.pem", NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (GTlsDatabase) database = g_tls_file_database_new (path, &error);
  g_assert_no_error (error);
  g_tls_backend_set_default_database (g_tls_backend_get_default (), database);
}

static void
check_tls (const char *folder, const char *name, const char *path, const char *why)
{
  g_autoptr (GAsyncQueue) ports = g_async_queue_new ();
  g_autofree char *file = g_strdup_printf ("%s/%s.pem", folder, name);
  g_autoptr (GError) error = NULL;
  g_autoptr (GTlsCertificate) certificate = g_tls_certificate_new_from_file (file, &error);
  g_assert_no_error (error);
  Tls tls = { .certificate = certificate, .ports = ports };
  begin (&tls.server, serve_tls);
  g_autofree char *url = g_strdup_printf ("https://127.0.0.1:%d%s", GPOINTER_TO_INT (g_async_queue_pop (ports)), path);
  g_autoptr (GBytes) bytes = banger_http_get (url, MOST, &error);
  end (&tls.server);
  g_test_message ("%s %s: %s", name, path, error ? error->message : "fetched");
  g_assert_true (!bytes == (why != NULL));
  g_assert_true (!why || g_pattern_match_simple (why, error->message));
}

/* In a process that looks for no leaks at its end: with the modules of TLS loaded, GCC 12's LeakSanitizer takes what is none
 * for a thread's storage, and falls over it. */
static void
test_tls (void)
{
  if (!g_test_subprocess ()) {
    g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
    g_test_trap_assert_passed ();
    return;
  }
  g_autofree char *folder = g_dir_make_tmp ("banger-http.XXXXXX", NULL);
  g_assert_true (make_certificates (folder));
  trust (folder);
  check_tls (folder, "good", "/most", NULL);
  check_tls (folder, "good", "/moved", NULL);
  check_tls (folder, "good", "/to/127.0.0.1/most", "*from https only to https*");
  check_tls (folder, "other", "/most", "*certificate*"); /* of another name */
  check_tls (folder, "own", "/most", "*certificate*");   /* nobody vouches for it */
  const char *const argv[] = { "rm", "-r", folder, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  _exit (0);
}

/* Before there is a thread. As root, or where anybody may have a namespace. */
static gboolean
take_network (void)
{
  static const char *const up[] = {
    "sh", "-c", "ip link set lo up && ip addr add " FAR "/32 dev lo && ip addr add " PRIVATE "/32 dev lo", NULL
  };
  int status = -1;
  if (unshare (CLONE_NEWNET) < 0 && unshare (CLONE_NEWUSER | CLONE_NEWNET) < 0)
    return FALSE;
  return g_spawn_sync (NULL, (char **)up, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                       NULL, &status, NULL)
         && status == 0;
}

int
main (int argc, char **argv)
{
  own_network = take_network ();
  g_test_init (&argc, &argv, NULL);
  g_autoptr (GAsyncQueue) queue = g_async_queue_new ();
  Plain plain = { .queue = queue };
  begin (&plain.server, serve);
  base = g_async_queue_pop (queue);
  g_test_add_func ("/http/answers", test_answers);
  g_test_add_func ("/http/announced", test_announced);
  g_test_add_func ("/http/catalog", test_catalog);
  g_test_add_func ("/http/failed-lately", test_failed_lately);
  g_test_add_func ("/http/nearness", test_nearness);
  g_test_add_func ("/http/nearness-behind-a-proxy", test_nearness_behind_a_proxy);
  g_test_add_func ("/http/led-near", test_led_near);
  g_test_add_func ("/http/tls", test_tls);
  int r = g_test_run ();
  end (&plain.server);
  g_free (base);
  return r;
}
