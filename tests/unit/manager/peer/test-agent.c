/* The agent's line protocol from the host's side, against a guest that behaves and one that does not.
 * Run by meson test.
 * Never starts a VM: the guest is a socket in this process. */
#include "manager/peer/agent.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "manager/peer/guest-clock.h"

typedef struct {
  char *folder, *path;
  GSocketService *service;
  GDataInputStream *in;
  GOutputStream *out;
  GSocketConnection *connection;
  GString *heard;
  guint connections;
  gboolean mute;            /* answers nothing after OK */
  const char *greeting;     /* NULL: "OK 5\n" */
  const char *before_hello; /* what a former connection left */
  gboolean ready_at_hello;
  gboolean hangs_up;        /* after each hello */
  gint64 clock_off;         /* of the guest */
  const char *clock_answer; /* in place of its time */
  guint clock_questions, clock_moves;
  BangerAgent *agent;
  BangerGuestClock *clock;
  guint ready_calls;
  gboolean done, ok;
  GError *error;
} World;

static void guest_listen (World *world);

static void
say (World *world, const char *text)
{
  g_output_stream_write_all (world->out, text, strlen (text), NULL, NULL, NULL);
}

static void
guest_tell_time (World *world, char **words)
{
  world->clock_questions += words[2] == NULL;
  world->clock_moves += words[2] != NULL;
  world->clock_off += words[2] ? g_ascii_strtoll (words[2], NULL, 10) : 0;
  g_autofree char *answer = g_strdup_printf ("%s ok %" G_GINT64_FORMAT "\n", words[1],
                                             g_get_real_time () + world->clock_off);
  g_autofree char *other = g_strdup_printf ("%s %s\n", words[1], world->clock_answer);
  say (world, world->clock_answer ? other : answer);
}

static void
guest_answer (World *world, char *line)
{
  g_auto (GStrv) words = g_strsplit (line, " ", 3);
  if (g_str_equal (line, "CONNECT 1024")) {
    say (world, world->greeting ? world->greeting : "OK 5\n");
    return;
  }
  if (world->mute || !words[0] || !words[1])
    return;
  if (g_str_equal (words[0], "clock")) {
    guest_tell_time (world, words);
    return;
  }
  g_autofree char *answer = g_strdup_printf ("%s %s\n", words[1],
                                             g_str_equal (words[0], "poweroff") ? "error no\tway" : "ok fine");
  if (g_str_equal (words[0], "hello") && world->before_hello)
    say (world, world->before_hello);
  say (world, answer);
  if (g_str_equal (words[0], "hello") && world->ready_at_hello)
    say (world, "ready boot-1\n");
  if (g_str_equal (words[0], "hello") && world->hangs_up)
    g_io_stream_close (G_IO_STREAM (world->connection), NULL, NULL);
}

static void
on_guest_line (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_autofree char *line = g_data_input_stream_read_line_finish (G_DATA_INPUT_STREAM (source), result, NULL, NULL);
  if (!line || G_DATA_INPUT_STREAM (source) != world->in)
    return;
  g_string_append_printf (world->heard, "%s;", line);
  guest_answer (world, line);
  guest_listen (world);
}

static void
guest_listen (World *world)
{
  g_data_input_stream_read_line_async (world->in, G_PRIORITY_DEFAULT, NULL, on_guest_line, world);
}

static gboolean
on_incoming (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer user_data)
{
  World *world = user_data;
  world->connections++;
  g_set_object (&world->connection, connection);
  g_clear_object (&world->in);
  world->in = g_data_input_stream_new (g_io_stream_get_input_stream (G_IO_STREAM (connection)));
  world->out = g_io_stream_get_output_stream (G_IO_STREAM (connection));
  guest_listen (world);
  return TRUE;
}

static void
on_ready (BangerAgent *agent, const char *boot_id, gpointer user_data)
{
  ((World *)user_data)->ready_calls++;
}

static void
guest_up (World *world)
{
  world->service = g_socket_service_new ();
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (world->path);
  g_assert_true (g_socket_listener_add_address (G_SOCKET_LISTENER (world->service), address, G_SOCKET_TYPE_STREAM,
                                                G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, NULL));
  g_signal_connect (world->service, "incoming", G_CALLBACK (on_incoming), world);
}

static void
world_up (World *world, gconstpointer data)
{
  world->folder = g_dir_make_tmp ("agent-XXXXXX", NULL);
  world->path = g_build_filename (world->folder, "vsock.sock", NULL);
  world->heard = g_string_new (NULL);
  guest_up (world);
}

static void
world_down (World *world, gconstpointer data)
{
  g_clear_pointer (&world->clock, banger_guest_clock_free);
  g_clear_pointer (&world->agent, banger_agent_free);
  g_clear_object (&world->in);
  g_clear_object (&world->connection);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_socket_service_stop (world->service);
  g_clear_object (&world->service);
  g_unlink (world->path);
  g_rmdir (world->folder);
  g_string_free (world->heard, TRUE);
  g_clear_error (&world->error);
  g_free (world->folder);
  g_free (world->path);
}

static gboolean
on_deadline (gpointer user_data)
{
  g_assert_not_reached (); /* nothing happened for 20 s */
  return G_SOURCE_REMOVE;
}

static void
run_until (gboolean *flag)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (!*flag)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

static void
on_waited (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_clear_error (&world->error);
  world->ok = banger_agent_wait_finish (result, &world->error);
  world->done = TRUE;
}

static void
on_called (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_clear_error (&world->error);
  world->ok = banger_agent_call_finish (result, &world->error);
  world->done = TRUE;
}

static void
wait_for (World *world, BangerAgentLevel level)
{
  world->done = FALSE;
  banger_agent_wait_async (world->agent, level, NULL, on_waited, world);
  run_until (&world->done);
}

static void
call (World *world, const char *verb, guint seconds)
{
  world->done = FALSE;
  banger_agent_call_async (world->agent, verb, seconds, NULL, on_called, world);
  run_until (&world->done);
}

static void
test_hello_ready (World *world, gconstpointer data)
{
  world->ready_at_hello = TRUE;
  world->before_hello = "t7 ok\nh0-1 ok stale\nready old\n\n";
  world->agent = banger_agent_new (world->path, getpid (), on_ready, world);
  wait_for (world, BANGER_AGENT_READY);
  g_assert_true (world->ok);
  g_assert_cmpstr (banger_agent_boot_id (world->agent), ==, "boot-1");
  g_assert_cmpuint (world->ready_calls, ==, 1);
  g_assert_true (g_str_has_prefix (world->heard->str, "CONNECT 1024;;hello h"));
}

static void
test_calls (World *world, gconstpointer data)
{
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  call (world, "ping", 5);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED); /* not connected yet */
  wait_for (world, BANGER_AGENT_CONNECTED);
  call (world, "ping", 5);
  g_assert_true (world->ok);
  call (world, "poweroff", 5);
  g_assert_false (world->ok);
  g_assert_cmpstr (world->error->message, ==, "guest agent: no\\x09way");
}

static void
test_timeout_and_loss (World *world, gconstpointer data)
{
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  wait_for (world, BANGER_AGENT_CONNECTED);
  world->mute = TRUE;
  call (world, "ping", 1);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT);
  world->done = FALSE;
  banger_agent_call_async (world->agent, "sync", 10, NULL, on_called, world);
  g_io_stream_close (G_IO_STREAM (world->connection), NULL, NULL);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
  g_assert_false (banger_agent_connected (world->agent));
  world->mute = FALSE; /* and it comes back by itself */
  wait_for (world, BANGER_AGENT_CONNECTED);
  g_assert_cmpuint (world->connections, >=, 2);
}

/* Whoever does not speak our protocol is left and tried again; nothing grows without end. */
static void
test_strangers (World *world, gconstpointer data)
{
  g_autofree char *endless = g_strnfill (70000, 'x');
  world->greeting = endless;
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  while (world->connections < 3)
    g_main_context_iteration (NULL, TRUE);
  g_assert_false (banger_agent_connected (world->agent));
  world->greeting = "ERR nothing\n";
  guint before = world->connections;
  while (world->connections < before + 2)
    g_main_context_iteration (NULL, TRUE);
  world->greeting = NULL;
  wait_for (world, BANGER_AGENT_CONNECTED);
  say (world, "ready with space\nready \nready ../../x\nT1\n  \nready ok-1\n");
  wait_for (world, BANGER_AGENT_READY);
  g_assert_cmpstr (banger_agent_boot_id (world->agent), ==, "ok-1");
}

/* Each new boot id costs its owner a write to the disk and a signal on the bus. */
static void
test_endless_ready (World *world, gconstpointer data)
{
  world->ready_at_hello = TRUE;
  world->agent = banger_agent_new (world->path, getpid (), on_ready, world);
  wait_for (world, BANGER_AGENT_READY);
  for (guint i = 0; i < 100; i++) {
    g_autofree char *line = g_strdup_printf ("ready boot-%u\n", i + 2);
    say (world, line);
  }
  call (world, "ping", 5);
  g_assert_true (world->ok);
  g_assert_cmpuint (world->ready_calls, ==, 1);
  g_assert_cmpstr (banger_agent_boot_id (world->agent), ==, "boot-1");
}

/* Short lines without end, before hello is answered and after: each costs the manager's main loop. */
static void
test_flood (World *world, gconstpointer data)
{
  g_autoptr (GString) lines = g_string_new (NULL);
  while (lines->len < 90000)
    g_string_append (lines, "t99 ok\n");
  world->before_hello = lines->str;
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  while (world->connections < 3)
    g_main_context_iteration (NULL, TRUE);
  g_assert_false (banger_agent_connected (world->agent));
  world->before_hello = NULL;
  wait_for (world, BANGER_AGENT_CONNECTED);
  guint before = world->connections;
  say (world, lines->str);
  while (world->connections == before)
    g_main_context_iteration (NULL, TRUE);
  wait_for (world, BANGER_AGENT_CONNECTED);
  for (guint i = 0; i < 40; i++) { /* much in all, but asked for */
    g_string_truncate (lines, 4000);
    say (world, lines->str);
    say (world, "\n");
    call (world, "ping", 5);
    g_assert_true (world->ok);
  }
  g_assert_cmpuint (world->connections, ==, before + 1);
}

/* Another program of the owner's listens there: it hears nothing. */
static void
test_impostor (World *world, gconstpointer data)
{
  world->agent = banger_agent_new (world->path, getpid () + 1, NULL, NULL);
  while (world->connections < 3)
    g_main_context_iteration (NULL, TRUE);
  g_assert_false (banger_agent_connected (world->agent));
  g_assert_cmpstr (world->heard->str, ==, "");
}

/* A guest that answers and hangs up is asked ever later: each connection may cost a write to the disk. */
static void
test_hangs_up (World *world, gconstpointer data)
{
  world->hangs_up = TRUE;
  gint64 began = g_get_monotonic_time ();
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  while (world->connections < 6)
    g_main_context_iteration (NULL, TRUE);
  g_assert_cmpint (g_get_monotonic_time () - began, >=, (50 + 100 + 200 + 400 + 800 - 50) * 1000);
  world->hangs_up = FALSE;
  wait_for (world, BANGER_AGENT_CONNECTED);
}

static void
test_wait_cancelled (World *world, gconstpointer data)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  banger_agent_wait_async (world->agent, BANGER_AGENT_READY, cancellable, on_waited, world);
  g_cancellable_cancel (cancellable);
  run_until (&world->done);
  g_assert_error (world->error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
}

static void
test_freed_while_waiting (World *world, gconstpointer data)
{
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  wait_for (world, BANGER_AGENT_CONNECTED);
  world->done = FALSE;
  banger_agent_wait_async (world->agent, BANGER_AGENT_READY, NULL, on_waited, world);
  g_clear_pointer (&world->agent, banger_agent_free);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
}

/* Runs the loop until the guest was asked and answered, and what follows from it. */
static void
clock_round (World *world, guint questions)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (world->clock_questions < questions)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  call (world, "ping", 5); /* whatever came of the answer was sent before this */
  call (world, "ping", 5);
}

static void
test_clock (World *world, gconstpointer data)
{
  static const gint64 offs[] = { -3600 * G_GINT64_CONSTANT (1000000), 47 * G_GINT64_CONSTANT (1000000), -300000,
                                 90000 };
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  world->clock = banger_guest_clock_new (world->agent, "vm");
  wait_for (world, BANGER_AGENT_CONNECTED);
  clock_round (world, 1);
  g_assert_cmpuint (world->clock_moves, ==, 0); /* it was right */
  for (guint i = 0; i < G_N_ELEMENTS (offs); i++) {
    world->clock_off = offs[i];
    banger_guest_clock_check (world->clock);
    clock_round (world, i + 2);
    g_assert_cmpuint (world->clock_moves, ==, i + 1);
    g_assert_cmpint (ABS (world->clock_off), <, ABS (offs[i]) / 2);
  }
}

/* A guest that says anything else is not set, and is not asked again and again. */
static void
test_clock_strangers (World *world, gconstpointer data)
{
  static const char *const answers[] = { "ok",        "ok ",        "ok x", "ok -5", "ok 99999999999999999999",
                                         "ok 1 2 3 ", "ok \x01\x02" };
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  world->clock_answer = answers[0];
  world->clock = banger_guest_clock_new (world->agent, "vm");
  wait_for (world, BANGER_AGENT_CONNECTED);
  clock_round (world, 1);
  for (guint i = 1; i < G_N_ELEMENTS (answers); i++) {
    world->clock_answer = answers[i];
    banger_guest_clock_check (world->clock);
    clock_round (world, i + 1);
  }
  guint asked = world->clock_questions;
  g_assert_cmpuint (asked, ==, G_N_ELEMENTS (answers));
  world->clock_answer = "error not understood";
  for (guint i = 0; i < 3; i++) { /* an older one: once */
    banger_guest_clock_check (world->clock);
    clock_round (world, asked + 1);
  }
  g_assert_cmpuint (world->clock_questions, ==, asked + 1);
  g_assert_cmpuint (world->clock_moves, ==, 0);
}

/* It asks once there is a connection, and again after another one took its place. */
static void
test_clock_connections (World *world, gconstpointer data)
{
  world->agent = banger_agent_new (world->path, getpid (), NULL, NULL);
  world->clock = banger_guest_clock_new (world->agent, "vm");
  banger_guest_clock_check (world->clock); /* not connected yet: no second question at once */
  wait_for (world, BANGER_AGENT_CONNECTED);
  clock_round (world, 2);
  g_io_stream_close (G_IO_STREAM (world->connection), NULL, NULL);
  banger_guest_clock_check (world->clock);
  while (world->connections < 2)
    g_main_context_iteration (NULL, TRUE);
  wait_for (world, BANGER_AGENT_CONNECTED);
  banger_guest_clock_check (world->clock);
  clock_round (world, 3);
  g_clear_pointer (&world->clock, banger_guest_clock_free);
  call (world, "ping", 5);
  g_assert_true (world->ok);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/agent/" name, World, NULL, world_up, func, world_down)
  ADD ("hello-ready", test_hello_ready);
  ADD ("calls", test_calls);
  ADD ("timeout-and-loss", test_timeout_and_loss);
  ADD ("strangers", test_strangers);
  ADD ("endless-ready", test_endless_ready);
  ADD ("flood", test_flood);
  ADD ("impostor", test_impostor);
  ADD ("hangs-up", test_hangs_up);
  ADD ("wait-cancelled", test_wait_cancelled);
  ADD ("freed-while-waiting", test_freed_while_waiting);
  ADD ("clock", test_clock);
  ADD ("clock-strangers", test_clock_strangers);
  ADD ("clock-connections", test_clock_connections);
  return g_test_run ();
}
