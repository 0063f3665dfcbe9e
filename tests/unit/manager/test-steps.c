/* The bring-up engine: order, parallel steps, undo, bounds.
 * Run by meson test.
 * Never touches anything outside of the process. */
#include "manager/steps.h"

#include "common/error.h"

typedef struct {
  GString *story; /* "+a" begun, "a" done, "-a" undone */
  GMainLoop *loop;
  GError *error;
  gboolean ok;
  const char *fails;      /* step that fails */
  const char *hangs;      /* step that only its cancellable ends */
  const char *undo_fails; /* step whose undo fails */
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
undo_step (World *world, const char *name, GAsyncReadyCallback callback, gpointer user_data)
{
  g_string_append_printf (world->story, "-%s ", name);
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  if (g_strcmp0 (world->undo_fails, name) == 0)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_FAILED, "%s sticks", name);
  else
    g_task_return_boolean (task, TRUE);
}

#define STEP(x)                                                                                                        \
  static void run_##x (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)     \
  {                                                                                                                    \
    run_step (data, #x, cancellable, callback, user_data);                                                             \
  }                                                                                                                    \
  static void undo_##x (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)    \
  {                                                                                                                    \
    undo_step (data, #x, callback, user_data);                                                                         \
  }
STEP (a)
STEP (b)
STEP (c)
STEP (d)

/* a, then b and c side by side, then d. */
static const BangerStep diamond[] = {
  { "a", NULL, 0, 5, NULL, 0, run_a, NULL, undo_a, NULL },
  { "b", NULL, BANGER_STEP (0), 5, NULL, 0, run_b, NULL, undo_b, NULL },
  { "c", NULL, BANGER_STEP (0), 1, "the third thing", BANGER_ERROR_GUEST_TIMEOUT, run_c, NULL, undo_c, NULL },
  { "d", NULL, BANGER_STEP (1) | BANGER_STEP (2), 0, NULL, 0, run_d, NULL, undo_d, NULL },
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
  g_test_add_func ("/steps/failure-undoes-all", test_failure_undoes_all);
  g_test_add_func ("/steps/failure-beside", test_failure_beside);
  g_test_add_func ("/steps/undo-errors-joined", test_undo_errors_joined);
  g_test_add_func ("/steps/timeout-names-what", test_timeout_names_what);
  g_test_add_func ("/steps/cancel", test_cancel);
  g_test_add_func ("/steps/cancelled-before", test_cancelled_before);
  g_test_add_func ("/steps/fail-from-outside", test_fail_from_outside);
  return g_test_run ();
}
