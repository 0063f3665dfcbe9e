/* Who calls, where the bus answers late, again, wrongly or not at all.
 * Run by meson test; the bus is the other end of a pair of sockets.
 * Never asks a real bus. */
#define ASK_FIRST_USEC 50000
#include "privileged/caller.c"

#include <sys/socket.h>

#include "common/bus-source.h"

typedef struct {
  sd_bus *bus, *server;
  GSource *sources[2];
  BangerCallers *callers;
  guint asked, silent; /* questions; how many of them get no answer */
  guint known, denied;
  uid_t uid;
} World;

static World *world;

static void
on_closed (sd_bus *bus, int r, gpointer data)
{
}

static int
on_question (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  if (!sd_bus_message_is_method_call (m, "org.freedesktop.DBus", "GetConnectionUnixUser"))
    return 0;
  if (world->asked++ < world->silent)
    return 1;
  return sd_bus_reply_method_return (m, "u", 1234U);
}

static void
on_known (BangerCall *call, uid_t uid, const GError *error)
{
  world->known++;
  world->denied += error != NULL;
  world->uid = uid;
}

static void
world_up (World *self, gconstpointer data)
{
  int fds[2];
  world = self;
  g_assert_cmpint (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
  for (int i = 0; i < 2; i++) {
    sd_bus **bus = i == 0 ? &self->bus : &self->server;
    g_assert_cmpint (sd_bus_new (bus), >=, 0);
    g_assert_cmpint (sd_bus_set_fd (*bus, fds[i], fds[i]), >=, 0);
    sd_id128_t id = SD_ID128_MAKE (1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f, 0);
    g_assert_cmpint (i == 1 ? sd_bus_set_server (*bus, 1, id) : 0, >=, 0);
    g_assert_cmpint (sd_bus_start (*bus), >=, 0);
    self->sources[i] = banger_bus_source_attach (*bus, on_closed, NULL);
  }
  g_assert_cmpint (sd_bus_add_filter (self->server, NULL, on_question, NULL), >=, 0);
  self->callers = banger_callers_new (self->bus, on_known);
}

static void
world_down (World *self, gconstpointer data)
{
  banger_callers_free (self->callers);
  for (int i = 0; i < 2; i++)
    banger_bus_source_detach (self->sources[i]);
  sd_bus_close_unref (self->bus);
  sd_bus_close_unref (self->server);
}

static void
identify (World *self, guint n)
{
  BangerCall call = { .sender = (char *)":1.7" };
  for (guint i = 0; i < n; i++)
    banger_callers_identify (self->callers, &call, n);
  while (self->known < n)
    g_main_context_iteration (NULL, TRUE);
}

/* The bus dropped its answer: both calls are known all the same, by one question more. */
static void
test_dropped_answer (World *self, gconstpointer data)
{
  gint64 begun = g_get_monotonic_time ();
  self->silent = 1;
  identify (self, 2);
  g_assert_cmpuint (self->asked, ==, 2);
  g_assert_cmpuint (self->denied, ==, 0);
  g_assert_cmpuint (self->uid, ==, 1234);
  g_assert_cmpint (g_get_monotonic_time () - begun, <, 10 * G_USEC_PER_SEC);
  identify (self, 3); /* and is not asked about again */
  g_assert_cmpuint (self->asked, ==, 2);
}

/* A bus that never says who calls lets nobody in, and is not asked for ever. */
static void
test_no_answer (World *self, gconstpointer data)
{
  self->silent = G_MAXUINT;
  identify (self, 1);
  g_assert_cmpuint (self->asked, ==, 5);
  g_assert_cmpuint (self->denied, ==, 1);
  g_assert_cmpuint (self->uid, ==, (uid_t)-1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/caller/dropped-answer", World, NULL, world_up, test_dropped_answer, world_down);
  g_test_add ("/caller/no-answer", World, NULL, world_up, test_no_answer, world_down);
  return g_test_run ();
}
