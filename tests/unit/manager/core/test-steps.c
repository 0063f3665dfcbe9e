/* The bring-up engine: order, parallel steps, undo, bounds.
 * Run by meson test.
 * Never touches anything outside of the process. */
#define UNDO_SECONDS 1
#include "manager/core/steps.c"

#include "common/error.h"

typedef struct {
  GString *story; /* "+a" begun, "a" done, "-a" undone */
  GMainLoop *loop;
  GError *error;
  gboolean ok;
  const char *fails;      /* step that fails */
  const char *hangs;      /* step that only its cancellable ends */
  const char *undo_fails; /* step whose undo fails */
  const char *undo_hangs; /* likewise */
  gboolean skip_c, took_b;
  const BangerStep *table;
} World;

static void
on_hang_cancelled (GCancellable *cancellable, gpointer user_data)
{
  GTask *task = user_data;
  g_task_return_error_if_cancelled (task);
  g_object_unref (task);
}

static void
run_step (World *world, const char *name, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_string_append_printf (world->story, "+%s ", name);
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  if (g_strcmp0 (world->hangs, name) == 0) {
    g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_hang_cancelled), task);
    return;
  }
  if (g_strcmp0 (world->fails, name) == 0)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_NO_SPACE, "%s is full", name);
  else
    g_task_return_boolean (task, TRUE);
  g_object_unref (task);
}

static void
undo_step (gpointer data, const char *name, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  World *world = data;
  g_string_append_printf (world->story, "-%s%s ", name, g_cancellable_is_cancelled (cancellable) ? "!" : "");
  gboolean hangs = g_strcmp0 (world->undo_hangs, name) == 0;
  g_autoptr (GTask) task = g_task_new (NULL, hangs ? cancellable : NULL, callback, user_data);
  if (hangs)
    g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_hang_cancelled), g_object_ref (task));
  else if (g_strcmp0 (world->undo_fails, name) == 0)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_FAILED, "%s sticks", name);
  else
    g_task_return_boolean (task, TRUE);
}

#define RUN(x)                                                                                                         \
  static void run_##x (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)     \
  {                                                                                                                    \
    run_step (data, #x, cancellable, callback, user_data);                                                             \
  }
#define UNDO(x)                                                                                                        \
  static void undo_##x (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)    \
  {                                                                                                                    \
    undo_step (data, #x, cancellable, callback, user_data);                                                            \
  }
RUN (a)
RUN (b)
RUN (c)
RUN (d)
UNDO (a)
UNDO (b)
UNDO (c)
UNDO (d)

static gboolean
take_b (gpointer data, GAsyncResult *result, GError **error)
{
  ((World *)data)->took_b = TRUE;
  return g_task_propagate_boolean (G_TASK (result), error);
}

static gboolean
skip_c (gpointer data)
{
  return ((World *)data)->skip_c;
}

/* a, then b and c side by side, then d. */
static const BangerStep diamond[] = {
  { "a", NULL, 0, 5, .run = run_a, .undo = undo_a },
  { "b", NULL, BANGER_STEP (0), 5, .run = run_b, .take = take_b, .undo = undo_b },
  { "c", NULL, BANGER_STEP (0), 1, "the third thing", BANGER_ERROR_GUEST_TIMEOUT, run_c, .undo = undo_c,
    .skip = skip_c },
  { "d", NULL, BANGER_STEP (1) | BANGER_STEP (2), .run = run_d, .undo = undo_d },
};

static void
on_done (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  world->ok = banger_steps_run_finish (result, &world->error);
  g_main_loop_quit (world->loop);
}

static BangerStepsRun *
world_begin (World *world, GCancellable *cancellable)
{
  world->story = g_string_new (NULL);
  world->loop = g_main_loop_new (NULL, FALSE);
  BangerSteps steps = { diamond, G_N_ELEMENTS (diamond), 1, NULL, world };
  return banger_steps_run_async (&steps, cancellable, on_done, world);
}

static void
world_end (World *world)
{
  g_main_loop_unref (world->loop);
  g_string_free (world->story, TRUE);
  g_clear_error (&world->error);
}

static void
test_order (void)
{
  World world = { 0 };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_no_error (world.error);
  g_assert_cmpstr (world.story->str, ==, "+a +b +c +d ");
  g_assert_true (world.took_b);
  world_end (&world);
}

/* What is not needed is neither done nor undone, and nobody waits for it. */
static void
test_skip (void)
{
  World world = { .skip_c = TRUE, .fails = "d" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_cmpstr (world.story->str, ==, "+a +b +d -d -b -a ");
  world_end (&world);
}

static void
test_failure_undoes_all (void)
{
  World world = { .fails = "d" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  g_assert_cmpstr (world.error->message, ==, "d is full");
  g_assert_cmpstr (world.story->str, ==, "+a +b +c +d -d -c -b -a ");
  world_end (&world);
}

/* The one beside the failed one is ended and undone too; the one after both never begins. */
static void
test_failure_beside (void)
{
  World world = { .fails = "b", .hangs = "c" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_cmpstr (world.error->message, ==, "b is full");
  g_assert_cmpstr (world.story->str, ==, "+a +b +c -c -b -a ");
  world_end (&world);
}

static void
test_undo_errors_joined (void)
{
  World world = { .fails = "d", .undo_fails = "c" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_cmpstr (world.error->message, ==, "d is full; undo c: c sticks");
  g_assert_cmpstr (world.story->str, ==, "+a +b +c +d -d -c -b -a ");
  world_end (&world);
}

/* One bound for all undos: what takes no time runs all the same when it is over. */
static void
test_undo_is_bounded (void)
{
  World world = { .fails = "d", .undo_hangs = "c" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_cmpstr (world.error->message, ==, "d is full; undo c: no time was left for it");
  g_assert_cmpstr (world.story->str, ==, "+a +b +c +d -d -c -b! -a! ");
  world_end (&world);
}

static void
test_timeout_names_what (void)
{
  World world = { .hangs = "c" };
  world_begin (&world, NULL);
  g_main_loop_run (world.loop);
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT);
  g_assert_cmpstr (world.error->message, ==, "the third thing: no answer for 1 s");
  world_end (&world);

  World other = { .hangs = "d" }; /* which leaves it to the run how long it may take */
  world_begin (&other, NULL);
  g_main_loop_run (other.loop);
  g_assert_error (other.error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  g_assert_cmpstr (other.error->message, ==, "d: no answer for 1 s");
  world_end (&other);
}

static gboolean
cancel_soon (gpointer user_data)
{
  g_cancellable_cancel (user_data);
  return G_SOURCE_REMOVE;
}

static void
test_cancel (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  World world = { .hangs = "c" };
  world_begin (&world, cancellable);
  g_timeout_add (50, cancel_soon, cancellable);
  g_main_loop_run (world.loop);
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_cmpstr (world.story->str, ==, "+a +b +c -c -b -a ");
  world_end (&world);
}

static void
test_cancelled_before (void)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_cancellable_cancel (cancellable);
  World world = { 0 };
  world_begin (&world, cancellable);
  g_main_loop_run (world.loop);
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_cmpstr (world.story->str, ==, "");
  world_end (&world);
}

static gboolean
fail_soon (gpointer run)
{
  banger_steps_fail (run, g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "it died"));
  return G_SOURCE_REMOVE;
}

static void
test_fail_from_outside (void)
{
  World world = { .hangs = "c" };
  BangerStepsRun *run = world_begin (&world, NULL);
  g_timeout_add (50, fail_soon, run);
  g_main_loop_run (world.loop);
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_cmpstr (world.story->str, ==, "+a +b +c -c -b -a ");
  world_end (&world);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/steps/order", test_order);
  g_test_add_func ("/steps/skip", test_skip);
  g_test_add_func ("/steps/failure-undoes-all", test_failure_undoes_all);
  g_test_add_func ("/steps/failure-beside", test_failure_beside);
  g_test_add_func ("/steps/undo-errors-joined", test_undo_errors_joined);
  g_test_add_func ("/steps/undo-is-bounded", test_undo_is_bounded);
  g_test_add_func ("/steps/timeout-names-what", test_timeout_names_what);
  g_test_add_func ("/steps/cancel", test_cancel);
  g_test_add_func ("/steps/cancelled-before", test_cancelled_before);
  g_test_add_func ("/steps/fail-from-outside", test_fail_from_outside);
  return g_test_run ();
}
