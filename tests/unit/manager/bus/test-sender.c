/* Who calls, where the bus answers late, again, wrongly or not at all: nothing waits, and nothing is overtaken.
 * Run by meson test; the bus is the other end of a pair of sockets. */
#define ASK_FIRST_USEC 50000
#include "manager/bus/sender.c"

#include <sys/socket.h>

typedef struct {
  sd_bus *bus, *server;
  GSource *sources[2];
  BangerSenders *senders;
  guint asked, silent; /* questions; how many of them get no answer */
  gboolean unknown;    /* the answer is an error */
  gboolean late;       /* a call follows each answer */
  guint calls;         /* that were sent */
  GString *seen;       /* calls that went through, each with whose it is */
  guint n_seen;
} World;

static void
on_closed (sd_bus *bus, int r, gpointer data)
{
}

static void
send_call (World *world)
{
  g_autoptr (sd_bus_message) m = NULL;
  g_assert_cmpint (sd_bus_message_new_method_call (world->server, &m, NULL, "/", "a.b", "Call"), >=, 0);
  g_assert_cmpint (sd_bus_message_set_sender (m, ":1.7"), >=, 0);
  g_assert_cmpint (sd_bus_message_append (m, "u", world->calls++), >=, 0);
  g_assert_cmpint (sd_bus_message_set_expect_reply (m, FALSE), >=, 0);
  g_assert_cmpint (sd_bus_send (world->server, m, NULL), >=, 0);
}

static int
on_question (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  World *world = data;
  if (!sd_bus_message_is_method_call (m, "org.freedesktop.DBus", "GetConnectionUnixUser"))
    return 0;
  if (world->asked++ < world->silent)
    return 1;
  int r = world->unknown ? sd_bus_reply_method_errorf (m, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "nobody")
                         : sd_bus_reply_method_return (m, "u", 1234U);
  if (world->late)
    send_call (world);
  return r;
}

static int
on_call (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  World *world = data;
  guint32 number;
  uid_t uid;
  if (!sd_bus_message_is_method_call (m, "a.b", "Call") || !banger_senders_uid (world->senders, m, &uid))
    return 1;
  g_assert_cmpint (sd_bus_message_read (m, "u", &number), >=, 0);
  g_string_append_printf (world->seen, "%u:%d ", number, (int)uid);
  world->n_seen++;
  return 1;
}

static void
world_up (World *world, gconstpointer data)
{
  int fds[2];
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
  for (int i = 0; i < 2; i++) {
    sd_bus **bus = i == 0 ? &world->bus : &world->server;
    g_assert_cmpint (sd_bus_new (bus), >=, 0);
    g_assert_cmpint (sd_bus_set_fd (*bus, fds[i], fds[i]), >=, 0);
    sd_id128_t id = SD_ID128_MAKE (1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f, 0);
    g_assert_cmpint (i == 1 ? sd_bus_set_server (*bus, 1, id) : 0, >=, 0);
    g_assert_cmpint (sd_bus_start (*bus), >=, 0);
    world->sources[i] = banger_bus_source_attach (*bus, on_closed, NULL);
  }
  g_assert_cmpint (sd_bus_add_filter (world->server, NULL, on_question, world), >=, 0);
  g_assert_cmpint (sd_bus_add_filter (world->bus, NULL, on_call, world), >=, 0);
  world->senders = banger_senders_new (world->bus);
  world->seen = g_string_new (NULL);
}

static void
world_down (World *world, gconstpointer data)
{
  banger_senders_free (world->senders);
  for (int i = 0; i < 2; i++)
    banger_bus_source_detach (world->sources[i]);
  sd_bus_close_unref (world->bus);
  sd_bus_close_unref (world->server);
  g_string_free (world->seen, TRUE);
}

static void
run_until_seen (World *world, guint n)
{
  while (world->n_seen < n)
    g_main_context_iteration (NULL, TRUE);
}

/* Calls wait for the answer, which is asked for once, and go through in order, before one that came with it. */
static void
test_order (World *world, gconstpointer data)
{
  world->late = TRUE;
  for (guint i = 0; i < 3; i++)
    send_call (world);
  run_until_seen (world, 4);
  send_call (world);
  run_until_seen (world, 5);
  g_assert_cmpstr (world->seen->str, ==, "0:1234 1:1234 2:1234 3:1234 4:1234 ");
  g_assert_cmpuint (world->asked, ==, 1);
}

/* The main loop goes on while the bus says nothing, and the question is put again. */
static void
test_dropped_answer (World *world, gconstpointer data)
{
  gint64 begun = g_get_monotonic_time (), longest = 0;
  world->silent = 1;
  send_call (world);
  while (world->n_seen == 0) {
    gint64 before = g_get_monotonic_time ();
    g_main_context_iteration (NULL, FALSE);
    longest = MAX (longest, g_get_monotonic_time () - before);
  }
  g_assert_cmpint (g_get_monotonic_time () - begun, >=, ASK_FIRST_USEC);
  g_assert_cmpint (longest, <, ASK_FIRST_USEC);
  g_assert_cmpstr (world->seen->str, ==, "0:1234 ");
  g_assert_cmpuint (world->asked, ==, 2);
}

/* Nobody is let in whom the bus does not know, and the next call asks again. */
static void
test_no_answer (World *world, gconstpointer data)
{
  world->silent = G_MAXUINT;
  send_call (world);
  send_call (world);
  run_until_seen (world, 2);
  g_assert_cmpstr (world->seen->str, ==, "0:-1 1:-1 ");
  g_assert_cmpuint (world->asked, ==, ASK_TRIES);
  world->silent = 0;
  world->unknown = TRUE;
  send_call (world);
  run_until_seen (world, 3);
  world->unknown = FALSE;
  send_call (world);
  run_until_seen (world, 4);
  g_assert_cmpstr (world->seen->str, ==, "0:-1 1:-1 2:-1 3:1234 ");
}

/* What waits is bounded. */
static void
test_flood (World *world, gconstpointer data)
{
  world->silent = 1;
  for (guint i = 0; i < MAX_KEPT + 2; i++)
    send_call (world);
  run_until_seen (world, 2);
  g_assert_cmpstr (world->seen->str, ==, "256:-1 257:-1 ");
  run_until_seen (world, MAX_KEPT + 2);
  g_assert_true (g_str_has_suffix (world->seen->str, " 254:1234 255:1234 "));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/sender/order", World, NULL, world_up, test_order, world_down);
  g_test_add ("/sender/dropped-answer", World, NULL, world_up, test_dropped_answer, world_down);
  g_test_add ("/sender/no-answer", World, NULL, world_up, test_no_answer, world_down);
  g_test_add ("/sender/flood", World, NULL, world_up, test_flood, world_down);
  return g_test_run ();
}
