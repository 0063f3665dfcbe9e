/* The requests that configure a VMM, and what its answers become.
 * Run by meson test.
 * Never starts a VMM: the server is in this process. */
#include "manager/peer/vmm.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"

typedef struct {
  char *folder, *path;
  SoupServer *server;
  GString *story;
  const char *refuse; /* path that is refused */
  gboolean deep;      /* with 60,000 brackets */
  gboolean done;
  GError *error;
} World;

static void
on_request (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer user_data)
{
  World *world = user_data;
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_string_append_printf (world->story, "%s %s %.*s\n", soup_server_message_get_method (message), path,
                          (int)body->length, body->data);
  if (g_strcmp0 (path, world->refuse) == 0) {
    static const char fault[] = "{\"fault_message\":\"no such\\ntap\"}";
    g_autofree char *brackets = g_strnfill (60000, '[');
    const char *text = world->deep ? brackets : fault;
    soup_server_message_set_response (message, "application/json", SOUP_MEMORY_COPY, text, strlen (text));
    soup_server_message_set_status (message, 400, NULL);
  } else {
    soup_server_message_set_status (message, 204, NULL);
  }
}

static void
world_up (World *world, gconstpointer data)
{
  world->folder = g_dir_make_tmp ("vmm-XXXXXX", NULL);
  world->path = g_build_filename (world->folder, "api.sock", NULL);
  world->story = g_string_new (NULL);
  world->server = soup_server_new (NULL, NULL);
  soup_server_add_handler (world->server, NULL, on_request, world, NULL);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (world->path);
  g_autoptr (GSocket) socket = g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
  g_autoptr (GError) error = NULL;
  g_assert_true (g_socket_bind (socket, address, FALSE, &error) && g_socket_listen (socket, &error));
  soup_server_listen_socket (world->server, socket, 0, &error);
  g_assert_no_error (error);
}

static void
world_down (World *world, gconstpointer data)
{
  soup_server_disconnect (world->server);
  g_object_unref (world->server);
  g_unlink (world->path);
  g_rmdir (world->folder);
  g_string_free (world->story, TRUE);
  g_clear_error (&world->error);
  g_free (world->folder);
  g_free (world->path);
}

static void
on_done (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  banger_vmm_finish (result, &world->error);
  world->done = TRUE;
}

static const BangerVmmConfig kept = {
  .vcpus = 2,
  .memory_mib = 512,
  .boot_args = "console=ttyS0 quiet",
  .work_disk = TRUE,
  .durable = TRUE,
  .tap = "tap-fc-01234567",
  .mac = "06:00:00:00:00:01",
  .vsock_cid = 3584360450, /* over 2^31: 10.213.0.2 is smaller, other networks are not */
};

/* @cache: of both disks. */
static char *
expected (const char *cache)
{
  return g_strdup_printf (
      "PUT /machine-config {\"vcpu_count\":2,\"mem_size_mib\":512}\n"
      "PUT /boot-source {\"kernel_image_path\":\"/vmlinux\",\"initrd_path\":\"/initrd\",\"boot_args\":"
      "\"console=ttyS0 quiet\"}\n"
      "PUT /drives/rootfs {\"drive_id\":\"rootfs\",\"path_on_host\":\"/rootfs\",\"is_root_device\":true,"
      "\"is_read_only\":false,\"cache_type\":\"%s\"}\n"
      "PUT /drives/work {\"drive_id\":\"work\",\"path_on_host\":\"/work\",\"is_root_device\":false,"
      "\"is_read_only\":false,\"cache_type\":\"%s\"}\n"
      "PUT /network-interfaces/eth0 {\"iface_id\":\"eth0\",\"host_dev_name\":\"tap-fc-01234567\",\"guest_mac\":"
      "\"06:00:00:00:00:01\"}\n"
      "PUT /vsock {\"guest_cid\":3584360450,\"uds_path\":\"/run/vsock.sock\"}\n",
      cache, cache);
}

static void
run (World *world)
{
  while (!world->done)
    g_main_context_iteration (NULL, TRUE);
}

static void
test_configure (World *world, gconstpointer data)
{
  BangerVmmConfig config = kept;
  config.durable = data != NULL;
  banger_vmm_configure_async (world->path, getpid (), &config, NULL, on_done, world);
  run (world);
  g_assert_no_error (world->error);
  g_autofree char *story = expected (config.durable ? "Writeback" : "Unsafe");
  g_assert_cmpstr (world->story->str, ==, story);
}

static void
test_refusal (World *world, gconstpointer data)
{
  world->refuse = "/network-interfaces/eth0";
  banger_vmm_configure_async (world->path, getpid (), &kept, NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_cmpstr (world->error->message, ==, "the VMM refused PUT /network-interfaces/eth0 (400): no such\\x0atap");
  g_assert_null (strstr (world->story->str, "/vsock"));
}

static void
test_action (World *world, gconstpointer data)
{
  banger_vmm_action_async (world->path, getpid (), "InstanceStart", NULL, on_done, world);
  run (world);
  g_assert_no_error (world->error);
  g_assert_cmpstr (world->story->str, ==, "PUT /actions {\"action_type\":\"InstanceStart\"}\n");
}

static void
test_nobody (World *world, gconstpointer data)
{
  banger_vmm_action_async ("/nonexistent/api.sock", getpid (), "InstanceStart", NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
}

/* VMMs that were taken over: processes that listen, read a request and answer as they like. */

static void
say (int fd, const char *text)
{
  if (send (fd, text, strlen (text), MSG_NOSIGNAL) < 0)
    _exit (0); /* nobody listens any more */
}

static void
repeat (int fd, const char *text)
{
  for (;;)
    say (fd, text);
}

#define HUNDRED "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define KILO HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED

static const struct {
  const char *name, *first, *again; /* what is said, and then without end; NULL: it ends */
  gboolean slowly;
} hostile[] = {
  { "endless-body", "HTTP/1.1 200 OK\r\n\r\n", KILO, FALSE },
  { "long-body", "HTTP/1.1 400 Bad\r\nContent-Length: 99999999999\r\n\r\n", KILO, FALSE },
  { "endless-chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n", FALSE },
  { "chunks", "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n", FALSE },
  { "endless-chunk-size", "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n", "0", FALSE },
  { "endless-chunk-line", "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4;", KILO, FALSE },
  { "endless-trailer", "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n", FALSE },
  { "endless-header", "HTTP/1.1 200 OK\r\n", "a: b\r\n", FALSE },
  { "endless-header-line", "HTTP/1.1 200 OK\r\na: ", KILO, FALSE },
  { "endless-status", "HTTP/1.1 200 ", KILO, FALSE },
  { "endless-continue", "", "HTTP/1.1 100 Continue\r\n\r\n", FALSE },
  { "slow", "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", "x", TRUE },
  { "silent", "", "", TRUE },
  { "redirect", "HTTP/1.1 307 There\r\nLocation: http://localhost/elsewhere\r\nContent-Length: 0\r\n\r\n", NULL,
    FALSE },
  { "login", "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n", NULL, FALSE },
};

static gsize
resident (void)
{
  unsigned long all = 0, pages = 0;
  g_autofree char *text = NULL;
  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  g_assert_cmpint (sscanf (text, "%lu %lu", &all, &pages), ==, 2);
  return pages * (gsize)getpagesize ();
}

static int
listen_here (World *world)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_strlcpy (address.sun_path, world->path, sizeof address.sun_path);
  g_assert_cmpint (bind (fd, (struct sockaddr *)&address, sizeof address), ==, 0);
  g_assert_cmpint (listen (fd, 4), ==, 0);
  return fd;
}

static void
serve_hostile (int listener, guint row)
{
  char request[4096] = "";
  int fd = accept (listener, NULL, NULL);
  for (gsize got = 0; strchr (request, '}') == NULL;) { /* the body comes after the header */
    ssize_t n = recv (fd, request + got, sizeof request - 1 - got, 0);
    if (n <= 0)
      _exit (1);
    got += (gsize)n;
  }
  say (fd, hostile[row].first);
  while (hostile[row].slowly) {
    say (fd, hostile[row].again);
    g_usleep (100000);
  }
  if (hostile[row].again != NULL)
    repeat (fd, hostile[row].again);
  _exit (recv (fd, request, sizeof request, 0) > 0); /* whatever else is said to it */
}

static gboolean
on_patience (gpointer user_data)
{
  g_cancellable_cancel (user_data); /* as a step of a start does */
  return G_SOURCE_REMOVE;
}

static void
test_hostile (gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  World world = { .folder = g_dir_make_tmp ("vmm-XXXXXX", NULL), .story = g_string_new (NULL) };
  world.path = g_build_filename (world.folder, "api.sock", NULL);
  int listener = listen_here (&world), status = 0;
  pid_t vmm = fork ();
  if (vmm == 0)
    serve_hostile (listener, row);
  close (listener);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  guint patience = g_timeout_add (hostile[row].slowly || row == 10 ? 1500 : 20000, on_patience, cancellable);
  gsize before = resident ();
  banger_vmm_action_async (world.path, getpid (), "InstanceStart", cancellable, on_done, &world);
  run (&world);
  g_assert_nonnull (world.error);
  g_test_message ("%s", world.error->message);
  gboolean waited = g_cancellable_is_cancelled (cancellable);
  g_assert_cmpint (waited, ==, hostile[row].slowly || row == 10);
  if (!waited) {
    g_source_remove (patience);
    g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  }
#ifdef __SANITIZE_ADDRESS__
  (void)before;
#else
  g_assert_cmpuint (resident (), <, before + (16 << 20));
#endif
  while (g_main_context_iteration (NULL, FALSE)) /* the connection is closed: it ends by itself */
    ;
  g_assert_cmpint (waitpid (vmm, &status, 0), ==, vmm);
  g_assert_true (WIFEXITED (status) && WEXITSTATUS (status) == 0);
  g_unlink (world.path);
  g_rmdir (world.folder);
  g_string_free (world.story, TRUE);
  g_clear_error (&world.error);
  g_free (world.folder);
  g_free (world.path);
}

/* Another program of the owner's put its socket there: it hears nothing. */
static void
test_impostor (World *world, gconstpointer data)
{
  banger_vmm_configure_async (world->path, getpid () + 1, &kept, NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_nonnull (strstr (world->error->message, "listens on its socket and not the VMM"));
  g_assert_cmpstr (world->story->str, ==, "");
}

/* Brackets that a parser would call itself for. */
static void
test_deep_fault (World *world, gconstpointer data)
{
  world->refuse = "/actions";
  world->deep = TRUE;
  banger_vmm_action_async (world->path, getpid (), "InstanceStart", NULL, on_done, world);
  run (world);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_nonnull (strstr (world->error->message, "[[[["));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/vmm-client/" name, World, NULL, world_up, func, world_down)
  ADD ("configure-throwaway", test_configure);
  g_test_add ("/vmm-client/configure-durable", World, "durable", world_up, test_configure, world_down);
  ADD ("refusal", test_refusal);
  ADD ("action", test_action);
  ADD ("nobody", test_nobody);
  ADD ("impostor", test_impostor);
  ADD ("deep-fault", test_deep_fault);
  for (guint i = 0; i < G_N_ELEMENTS (hostile); i++) {
    g_autofree char *path = g_strconcat ("/vmm-client/hostile/", hostile[i].name, NULL);
    g_test_add_data_func (path, GUINT_TO_POINTER (i), test_hostile);
  }
  return g_test_run ();
}
