/* Waiting for a file and for an ssh server that is refused, slow, broken off or not one.
 * Run by meson test.
 * Never leaves loopback: the server is in this process. */
#include "manager/peer/await.h"

#include <glib/gstdio.h>
#include <string.h>

#define SLOW_MSEC 4000 /* longer than a connection may take to be made */

typedef struct {
  GSocketListener *listener;
  guint16 port;
  const char *const *greetings; /* of one connection after the other; NULL: closed without one */
  guint delay_msec, connections, over;
  GCancellable *cancellable;
  gboolean done, ok;
  GError *error;
} World;

typedef struct {
  World *world;
  GSocketConnection *connection;
  const char *greeting;
} Visit;

static gboolean
on_greet (gpointer data)
{
  Visit *visit = data;
  GIOStream *stream = G_IO_STREAM (visit->connection);
  visit->world->over++;
  if (visit->greeting)
    g_output_stream_write_all (g_io_stream_get_output_stream (stream), visit->greeting, strlen (visit->greeting), NULL,
                               NULL, NULL);
  g_io_stream_close (stream, NULL, NULL);
  g_object_unref (visit->connection);
  g_free (visit);
  return G_SOURCE_REMOVE;
}

static void
on_accept (GObject *source, GAsyncResult *result, gpointer data)
{
  World *world = data;
  Visit *visit = g_new0 (Visit, 1);
  visit->world = world;
  visit->connection = g_socket_listener_accept_finish (G_SOCKET_LISTENER (source), result, NULL, NULL);
  if (!visit->connection) { /* the listener was closed */
    g_free (visit);
    return;
  }
  visit->greeting = world->greetings[world->connections++];
  g_timeout_add (world->delay_msec, on_greet, visit);
  g_socket_listener_accept_async (world->listener, NULL, on_accept, world);
}

static void
serve (World *world)
{
  g_socket_listener_accept_async (world->listener, NULL, on_accept, world);
}

static void
world_up (World *world, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.0.0.1", 0), bound = NULL;
  world->cancellable = g_cancellable_new ();
  world->listener = g_socket_listener_new ();
  g_socket_listener_add_address (world->listener, address, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL, &bound,
                                 &error);
  g_assert_no_error (error);
  world->port = g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (bound));
}

static void
world_down (World *world, gconstpointer data)
{
  g_socket_listener_close (world->listener);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_object_unref (world->listener);
  g_object_unref (world->cancellable);
  g_clear_error (&world->error);
}

static void
on_done (GObject *source, GAsyncResult *result, gpointer data)
{
  World *world = data;
  world->ok = banger_await_finish (result, &world->error);
  world->done = TRUE;
}

static void
wait_for_ssh (World *world)
{
  banger_await_ssh_async ("127.0.0.1", world->port, world->cancellable, on_done, world);
  while (!world->done || world->over < world->connections)
    g_main_context_iteration (NULL, TRUE);
}

/* Each connection costs a guest the start of a process: one that is slow is not left for another. */
static void
test_slow (World *world, gconstpointer data)
{
  static const char *const greetings[] = { "SSH-2.0-slow\r\n", "SSH-2.0-second\r\n" };
  world->greetings = greetings;
  world->delay_msec = SLOW_MSEC;
  serve (world);
  wait_for_ssh (world);
  g_assert_no_error (world->error);
  g_assert_true (world->ok);
  g_assert_cmpuint (world->connections, ==, 1);
}

static void
test_broken_off (World *world, gconstpointer data)
{
  static const char *const greetings[] = { NULL, "SS", "HTTP/1.0 200 OK\r\n", "SSH-2.0-at-last\r\n",
                                           "SSH-2.0-fifth\r\n" };
  world->greetings = greetings;
  serve (world);
  wait_for_ssh (world);
  g_assert_no_error (world->error);
  g_assert_cmpuint (world->connections, ==, 4);
}

static gboolean
on_up (gpointer data)
{
  World *world = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.0.0.1", world->port);
  g_socket_listener_add_address (world->listener, address, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL, NULL,
                                 &error);
  g_assert_no_error (error);
  serve (world);
  return G_SOURCE_REMOVE;
}

static void
test_refused_at_first (World *world, gconstpointer data)
{
  static const char *const greetings[] = { "SSH-2.0-late\r\n", "SSH-2.0-second\r\n" };
  world->greetings = greetings;
  g_socket_listener_close (world->listener);
  g_object_unref (world->listener);
  world->listener = g_socket_listener_new ();
  g_timeout_add (300, on_up, world);
  wait_for_ssh (world);
  g_assert_no_error (world->error);
  g_assert_cmpuint (world->connections, ==, 1);
}

static gboolean
on_cancel (gpointer data)
{
  g_cancellable_cancel (data);
  return G_SOURCE_REMOVE;
}

/* The caller's bound ends the wait for a greeting that does not come. */
static void
test_cancelled (World *world, gconstpointer data)
{
  static const char *const greetings[] = { NULL, NULL };
  world->greetings = greetings;
  world->delay_msec = 1000;
  serve (world);
  g_timeout_add (200, on_cancel, world->cancellable);
  wait_for_ssh (world);
  g_assert_error (world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (world->connections, ==, 1);
}

static gboolean
on_make (gpointer data)
{
  g_assert_true (g_file_set_contents (data, "", 0, NULL));
  return G_SOURCE_REMOVE;
}

static void
test_file (World *world, gconstpointer data)
{
  g_autofree char *folder = g_dir_make_tmp ("await-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "api.sock", NULL);
  for (int there = 0; there < 2; there++) { /* made meanwhile; there already */
    world->done = world->ok = FALSE;
    banger_await_file_async (folder, "api.sock", world->cancellable, on_done, world);
    if (!there)
      g_timeout_add (100, on_make, path);
    while (!world->done)
      g_main_context_iteration (NULL, TRUE);
    g_assert_no_error (world->error);
    g_assert_true (world->ok);
  }
  g_unlink (path);
  world->done = FALSE;
  g_timeout_add (100, on_cancel, world->cancellable);
  banger_await_file_async (folder, "api.sock", world->cancellable, on_done, world);
  while (!world->done)
    g_main_context_iteration (NULL, TRUE);
  g_assert_error (world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_rmdir (folder);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, test) g_test_add (name, World, NULL, world_up, test, world_down)
  ADD ("/await/ssh/slow", test_slow);
  ADD ("/await/ssh/broken-off", test_broken_off);
  ADD ("/await/ssh/refused-at-first", test_refused_at_first);
  ADD ("/await/ssh/cancelled", test_cancelled);
  ADD ("/await/file", test_file);
  return g_test_run ();
}
