/* The window of calls to the helper, with a helper on a private bus that holds them back. */
#define CALL_SECONDS 2
#define GRACE_SECONDS 1
#include "manager/peer/helper.c"

#include <string.h>

#define CALLS 60

typedef struct {
  GTestDBus *dbus;
  BangerHelper *helper;
  sd_bus *bus;
  GSource *source;
  GQueue held; /* sd_bus_message: not answered */
  guint most;  /* at a time */
  guint delay_msec;
  GString *story;
  guint done, ok, late;
  char *told; /* of what failed last */
} World;

static gboolean
answer_oldest (gpointer user_data)
{
  World *world = user_data;
  g_autoptr (sd_bus_message) m = g_queue_pop_head (&world->held);
  const char *member = sd_bus_message_get_member (m);
  if (g_str_equal (member, "CreateTap"))
    g_assert_cmpint (sd_bus_reply_method_return (m, "s", "tap-fc-aaaaaaaa"), >=, 0);
  else if (g_str_equal (member, "GetVmm"))
    g_assert_cmpint (sd_bus_reply_method_return (m, "a{sv}", 0), >=, 0);
  else
    g_assert_cmpint (sd_bus_reply_method_return (m, ""), >=, 0);
  return G_SOURCE_REMOVE;
}

static int
on_call (sd_bus_message *m, void *user_data, sd_bus_error *ret_error)
{
  World *world = user_data;
  g_string_append_printf (world->story, "%s ", sd_bus_message_get_member (m));
  g_queue_push_tail (&world->held, sd_bus_message_ref (m));
  world->most = MAX (world->most, world->held.length);
  if (world->delay_msec)
    g_timeout_add (world->delay_msec, answer_oldest, world);
  return 1;
}

static void
on_bus_closed (sd_bus *bus, int r, gpointer user_data)
{
}

static gboolean
on_deadline (gpointer user_data)
{
  g_assert_not_reached ();
  return G_SOURCE_REMOVE;
}

#define RUN_WHILE(condition)                                                                                           \
  do {                                                                                                                 \
    guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);                                                   \
    while (condition)                                                                                                  \
      g_main_context_iteration (NULL, TRUE);                                                                           \
    g_source_remove (deadline);                                                                                        \
  } while (0)

static void
world_up (World *world, gconstpointer data)
{
  world->story = g_string_new (NULL);
  world->dbus = g_test_dbus_new (G_TEST_DBUS_NONE);
  g_test_dbus_up (world->dbus);
  g_setenv ("DBUS_SYSTEM_BUS_ADDRESS", g_test_dbus_get_bus_address (world->dbus), TRUE);
  g_assert_cmpint (sd_bus_open_system (&world->bus), >=, 0);
  world->source = banger_bus_source_attach (world->bus, on_bus_closed, world);
  g_assert_cmpint (sd_bus_add_object (world->bus, NULL, BANGER_PRIVILEGED_PATH, on_call, world), >=, 0);
  g_assert_cmpint (sd_bus_request_name (world->bus, BANGER_PRIVILEGED_BUS_NAME, 0), >=, 0);
  world->helper = banger_helper_new (64);
  RUN_WHILE (!banger_helper_available (world->helper));
}

static void
world_down (World *world, gconstpointer data)
{
  g_clear_pointer (&world->helper, banger_helper_free);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  for (sd_bus_message *m; (m = g_queue_pop_head (&world->held));)
    sd_bus_message_unref (m);
  banger_bus_source_detach (world->source);
  sd_bus_close_unref (world->bus);
  g_test_dbus_down (world->dbus);
  g_object_unref (world->dbus);
  g_string_free (world->story, TRUE);
  g_free (world->told);
}

static void
on_done (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_autoptr (GError) error = NULL;
  world->done++;
  if (banger_helper_finish (result, &error)) {
    world->ok++;
    return;
  }
  g_free (world->told);
  world->told = g_strdup (error->message);
}

static void
make_taps (World *world, guint n, GCancellable *cancellable)
{
  for (guint i = 0; i < n; i++)
    banger_helper_call (world->helper, NULL, "CreateTap", cancellable, on_done, world, "aaaaaaaaaaaa", "br-fc",
                        "10.0.0.1/24", "10.0.0.2");
}

/* Five rounds of 0.5 s, and each call may take two seconds: its time begins when it is sent. */
static void
test_window (World *world, gconstpointer data)
{
  world->delay_msec = 500;
  make_taps (world, CALLS, NULL);
  RUN_WHILE (world->done < CALLS);
  g_assert_cmpuint (world->ok, ==, CALLS);
  g_assert_cmpuint (world->most, ==, WINDOW - WINDOW / 4);
}

/* What gives back passes those who wait, and finds room though none of them gets an answer. */
static void
test_release_goes_first (World *world, gconstpointer data)
{
  make_taps (world, CALLS, NULL);
  RUN_WHILE (world->held.length < WINDOW - WINDOW / 4);
  banger_helper_call (world->helper, NULL, "ReleaseVm", NULL, on_done, world, "aaaaaaaaaaaa");
  banger_helper_call (world->helper, NULL, "KillVmm", NULL, on_done, world, "aaaaaaaaaaaa");
  RUN_WHILE (world->held.length < WINDOW - WINDOW / 4 + 2);
  g_assert_true (g_str_has_suffix (world->story->str, "CreateTap ReleaseVm KillVmm "));
}

static void
test_cancelled_while_it_waits (World *world, gconstpointer data)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  make_taps (world, WINDOW - WINDOW / 4, NULL);
  make_taps (world, 3, cancellable);
  banger_helper_call (world->helper, NULL, "GetVmm", NULL, on_done, world, "aaaaaaaaaaaa");
  g_cancellable_cancel (cancellable);
  RUN_WHILE (world->done < 3);
  g_assert_cmpuint (world->ok, ==, 0);
  RUN_WHILE (world->held.length < WINDOW - WINDOW / 4);
  answer_oldest (world);
  RUN_WHILE (!strstr (world->story->str, "GetVmm"));
  g_assert_null (strstr (strstr (world->story->str, "GetVmm"), "CreateTap"));
}

static void
on_late (const char *method, gpointer user_data)
{
  g_assert_cmpstr (method, ==, "CreateTap");
  ((World *)user_data)->late++;
}

/* Nobody waits for long for an answer that he does not want any more; and it is told of when it comes. */
static void
test_given_up (World *world, gconstpointer data)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  banger_helper_set_late (world->helper, on_late, world);
  make_taps (world, 2, cancellable);
  RUN_WHILE (world->held.length < 2);
  gint64 since = g_get_monotonic_time ();
  g_cancellable_cancel (cancellable);
  answer_oldest (world); /* this one comes in time */
  RUN_WHILE (world->done < 2);
  g_assert_cmpuint (world->ok, ==, 1);
  g_assert_cmpint (g_get_monotonic_time () - since, <, 20 * G_USEC_PER_SEC);
  g_assert_cmpuint (world->late, ==, 0);
  g_assert_nonnull (strstr (world->told, "CreateTap: the root helper has not answered for "));
  answer_oldest (world);
  RUN_WHILE (world->late < 1);
  g_assert_cmpuint (world->done, ==, 2);
}

/* A large disk takes longer than other calls. */
static void
test_sync_takes_its_time (World *world, gconstpointer data)
{
  world->delay_msec = 2500;
  banger_helper_call (world->helper, NULL, "SyncDisk", NULL, on_done, world, "aaaaaaaaaaaa");
  make_taps (world, 1, NULL);
  RUN_WHILE (world->done < 1);
  g_assert_cmpuint (world->ok, ==, 0); /* of the tap: its second is over */
  g_assert_nonnull (strstr (world->told, "CreateTap: the root helper has not answered for 2 s"));
  RUN_WHILE (world->done < 2);
  g_assert_cmpuint (world->ok, ==, 1);
  RUN_WHILE (world->held.length > 0);
}

/* Nothing waits for a bus that is not there any more. */
static void
test_bus_is_lost (World *world, gconstpointer data)
{
  make_taps (world, CALLS, NULL);
  RUN_WHILE (world->held.length < WINDOW - WINDOW / 4);
  helper_disconnect (world->helper, "the system bus is gone");
  RUN_WHILE (world->done < CALLS);
  g_assert_cmpuint (world->ok, ==, 0);
  g_assert_nonnull (strstr (world->told, "cannot be reached: the system bus is gone"));
}

/* A helper that lets one call wait gets one. */
static void
test_small_window (World *world, gconstpointer data)
{
  banger_helper_free (world->helper);
  world->helper = banger_helper_new (1);
  RUN_WHILE (!banger_helper_available (world->helper));
  world->delay_msec = 1;
  make_taps (world, 10, NULL);
  RUN_WHILE (world->done < 10);
  g_assert_cmpuint (world->ok, ==, 10);
  g_assert_cmpuint (world->most, ==, 1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/helper-client/" name, World, NULL, world_up, func, world_down)
  ADD ("window", test_window);
  ADD ("release-goes-first", test_release_goes_first);
  ADD ("cancelled-while-it-waits", test_cancelled_while_it_waits);
  ADD ("given-up", test_given_up);
  ADD ("sync-takes-its-time", test_sync_takes_its_time);
  ADD ("bus-is-lost", test_bus_is_lost);
  ADD ("small-window", test_small_window);
  return g_test_run ();
}
