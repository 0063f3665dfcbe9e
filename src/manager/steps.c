/* Runs a table of asynchronous steps: each as soon as those it needs are done, each bounded, each with its undo.
 * Called by vm-start.c.
 * Never forgets a step that was begun: on failure or cancellation the undo of every begun step runs, last begun first.
 */
#include "manager/steps.h"

#include "common/error.h"
#include "manager/fault.h"

#define UNDO_SECONDS 60

typedef struct {
  BangerStepsRun *run;
  const BangerStep *step;
  GCancellable *cancellable;
  guint timeout_id;
  gboolean timed_out;
  gint64 begun_at;
} Attempt;

struct BangerStepsRun {
  BangerSteps steps;
  GTask *task;
  GCancellable *cancellable; /* of the steps: ours, so that a failure ends the others */
  GCancellable *outer;
  gulong outer_id;
  guint idle_id;
  guint32 begun, done;
  guint running;
  guint order[BANGER_STEPS_MAX]; /* in which they began */
  guint n_order;
  GError *error; /* the first */
};

static void steps_advance (BangerStepsRun *run);

static void
steps_free (BangerStepsRun *run)
{
  g_clear_handle_id (&run->idle_id, g_source_remove);
  g_clear_error (&run->error);
  g_object_unref (run->cancellable);
  g_clear_object (&run->outer);
  g_free (run);
}

/* The outer cancellable must not be disconnected from inside its own handler: an idle stands between. */
static gboolean
on_outer_idle (gpointer user_data)
{
  BangerStepsRun *run = user_data;
  run->idle_id = 0;
  banger_steps_fail (run, g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled"));
  return G_SOURCE_REMOVE;
}

static void
on_outer_cancelled (GCancellable *outer, BangerStepsRun *run)
{
  if (!run->idle_id)
    run->idle_id = g_idle_add (on_outer_idle, run);
}

static void
steps_end (BangerStepsRun *run)
{
  if (run->outer)
    g_cancellable_disconnect (run->outer, run->outer_id);
  GTask *task = run->task;
  if (run->error)
    g_task_return_error (task, g_steal_pointer (&run->error));
  else
    g_task_return_boolean (task, TRUE);
  steps_free (run);
  g_object_unref (task);
}

static gboolean
on_step_timeout (gpointer user_data)
{
  Attempt *attempt = user_data;
  attempt->timeout_id = 0;
  attempt->timed_out = TRUE;
  g_cancellable_cancel (attempt->cancellable);
  return G_SOURCE_REMOVE;
}

static guint
patience (const BangerStepsRun *run, const BangerStep *step)
{
  return step->seconds > 0 ? step->seconds : run->steps.seconds;
}

static Attempt *
attempt_new (BangerStepsRun *run, const BangerStep *step, guint seconds)
{
  Attempt *attempt = g_new0 (Attempt, 1);
  attempt->run = run;
  attempt->step = step;
  attempt->cancellable = g_cancellable_new ();
  attempt->timeout_id = g_timeout_add_seconds (seconds, on_step_timeout, attempt);
  attempt->begun_at = g_get_monotonic_time ();
  return attempt;
}

static void
attempt_free (Attempt *attempt)
{
  g_clear_handle_id (&attempt->timeout_id, g_source_remove);
  g_object_unref (attempt->cancellable);
  g_free (attempt);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Attempt, attempt_free)

static gboolean
attempt_finish (Attempt *attempt, BangerStepFinish finish, GAsyncResult *result, guint seconds, GError **error)
{
  gpointer data = attempt->run->steps.data;
  g_autoptr (GError) own = NULL;
  gboolean ok = finish ? finish (data, result, &own) : g_task_propagate_boolean (G_TASK (result), &own);
  if (ok)
    return TRUE;
  if (attempt->timed_out) {
    const char *what = attempt->step->waiting_for ? attempt->step->waiting_for : attempt->step->name;
    BangerError code = attempt->step->timeout_code ? (BangerError)attempt->step->timeout_code : BANGER_ERROR_TIMEOUT;
    return banger_set_error (error, code, "%s: no answer for %u s", what, seconds);
  }
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

static void
steps_report (BangerStepsRun *run, const BangerStep *step, gboolean done, gboolean undo, gint64 since)
{
  if (run->steps.report)
    run->steps.report (step, done, undo, g_get_monotonic_time () - since, run->steps.data);
}

static void
steps_note_error (BangerStepsRun *run, GError *error)
{
  if (run->error) {
    g_error_free (error);
    return;
  }
  run->error = error;
  g_cancellable_cancel (run->cancellable);
}

static void
on_step (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (Attempt) attempt = user_data;
  BangerStepsRun *run = attempt->run;
  GError *error = NULL;
  gboolean ok = attempt_finish (attempt, attempt->step->finish, result, patience (run, attempt->step), &error);
  if (ok) {
    steps_report (run, attempt->step, TRUE, FALSE, attempt->begun_at);
    run->done |= BANGER_STEP (attempt->step - run->steps.table);
    banger_fault_point (attempt->step->name);
  } else {
    steps_note_error (run, error); /* still counted: what it cancels may call back here at once */
  }
  run->running--;
  steps_advance (run);
}

static void
on_run_cancelled (GCancellable *cancellable, GCancellable *of_step)
{
  g_cancellable_cancel (of_step);
}

static void
step_begin (BangerStepsRun *run, guint index)
{
  const BangerStep *step = &run->steps.table[index];
  run->begun |= BANGER_STEP (index);
  run->order[run->n_order++] = index;
  run->running++;
  Attempt *attempt = attempt_new (run, step, patience (run, step));
  g_signal_connect_data (run->cancellable, "cancelled", G_CALLBACK (on_run_cancelled),
                         g_object_ref (attempt->cancellable), (GClosureNotify)(void (*) (void))g_object_unref, 0);
  steps_report (run, step, FALSE, FALSE, attempt->begun_at);
  step->run (run->steps.data, attempt->cancellable, on_step, attempt);
}

static void
on_undone (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (Attempt) attempt = user_data;
  BangerStepsRun *run = attempt->run;
  g_autoptr (GError) error = NULL;
  run->running--;
  if (attempt_finish (attempt, attempt->step->undo_finish, result, UNDO_SECONDS, &error)) {
    steps_report (run, attempt->step, TRUE, TRUE, attempt->begun_at);
  } else {
    g_autofree char *joined = g_strdup_printf ("%s; undo %s: %s", run->error->message, attempt->step->name,
                                               error->message);
    g_free (run->error->message);
    run->error->message = g_steal_pointer (&joined);
  }
  steps_advance (run);
}

/* One after the other: an undo may rest on what an earlier step made. */
static void
steps_undo_next (BangerStepsRun *run)
{
  while (run->n_order > 0) {
    const BangerStep *step = &run->steps.table[run->order[--run->n_order]];
    if (!step->undo)
      continue;
    run->running++;
    Attempt *attempt = attempt_new (run, step, UNDO_SECONDS);
    steps_report (run, step, FALSE, TRUE, attempt->begun_at);
    step->undo (run->steps.data, attempt->cancellable, on_undone, attempt);
    return;
  }
  steps_end (run);
}

static void
steps_advance (BangerStepsRun *run)
{
  if (run->error) {
    if (run->running == 0)
      steps_undo_next (run);
    return;
  }
  guint32 all = run->steps.n == 32 ? G_MAXUINT32 : BANGER_STEP (run->steps.n) - 1;
  if (run->done == all) {
    steps_end (run);
    return;
  }
  for (guint i = 0; i < run->steps.n && !run->error; i++)
    if (!(run->begun & BANGER_STEP (i)) && (run->steps.table[i].needs & ~run->done) == 0)
      step_begin (run, i);
}

/* The first step begins from the main loop, so that the caller has the run in hand before anything can fail. */
static gboolean
on_first (gpointer user_data)
{
  BangerStepsRun *run = user_data;
  run->idle_id = 0;
  if (run->outer && g_cancellable_is_cancelled (run->outer))
    on_outer_idle (run);
  else
    steps_advance (run);
  return G_SOURCE_REMOVE;
}

BangerStepsRun *
banger_steps_run_async (const BangerSteps *steps, GCancellable *cancellable, GAsyncReadyCallback callback,
                        gpointer user_data)
{
  g_assert (steps->n > 0 && steps->n <= BANGER_STEPS_MAX);
  BangerStepsRun *run = g_new0 (BangerStepsRun, 1);
  run->steps = *steps;
  run->task = g_task_new (NULL, NULL, callback, user_data);
  run->cancellable = g_cancellable_new ();
  run->idle_id = g_idle_add (on_first, run);
  if (cancellable) {
    run->outer = g_object_ref (cancellable);
    run->outer_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_outer_cancelled), run);
  }
  return run;
}

gboolean
banger_steps_run_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

void
banger_steps_fail (BangerStepsRun *run, GError *error)
{
  if (run->error) {
    g_error_free (error);
    return;
  }
  run->running++; /* as above */
  steps_note_error (run, error);
  run->running--;
  if (run->running == 0) /* nothing under way will call back: go on from here */
    steps_advance (run);
}
