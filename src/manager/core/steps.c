/* Runs a table of asynchronous steps: each as soon as those it needs are done, each bounded, each with its undo.
 * Never forgets a step that was begun: on failure or cancellation the undo of every begun step runs, last begun first. */
#include "manager/core/steps.h"

#include "common/error.h"
#include "manager/core/fault.h"
#include "manager/core/later.h"

#ifndef UNDO_SECONDS    /* the test has less time */
#define UNDO_SECONDS 15 /* in all: who ends a verb does not wait for each of its steps */
#endif

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
  guint undo_id;
  gboolean undo_told;
  GCancellable *undo; /* of all undos: cancelled when their time is over */
};

static void steps_advance (BangerStepsRun *run);

static void
steps_free (BangerStepsRun *run)
{
  g_clear_handle_id (&run->idle_id, g_source_remove);
  g_clear_handle_id (&run->undo_id, g_source_remove);
  g_clear_error (&run->error);
  g_object_unref (run->cancellable);
  g_object_unref (run->undo);
  g_clear_object (&run->outer);
  g_free (run);
}

/* The outer cancellable must not be disconnected from inside its own handler: an idle stands between. */
static gboolean
on_outer_idle (gpointer data)
{
  BangerStepsRun *run = data;
  run->idle_id = 0;
  banger_steps_fail (run, banger_error_cancelled ());
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
  banger_task_return (task, g_steal_pointer (&run->error));
  steps_free (run);
  g_object_unref (task);
}

static gboolean
on_step_timeout (gpointer data)
{
  Attempt *attempt = data;
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

static void
on_run_cancelled (GCancellable *cancellable, GCancellable *of_step)
{
  g_cancellable_cancel (of_step);
}

/* @with: also ends it. */
static Attempt *
attempt_new (BangerStepsRun *run, const BangerStep *step, guint seconds, GCancellable *with)
{
  Attempt *attempt = g_new0 (Attempt, 1);
  attempt->run = run;
  attempt->step = step;
  attempt->cancellable = g_cancellable_new ();
  if (seconds != BANGER_STEP_BOUNDS_ITSELF)
    attempt->timeout_id = g_timeout_add_seconds (seconds, on_step_timeout, attempt);
  g_signal_connect_data (with, "cancelled", G_CALLBACK (on_run_cancelled), g_object_ref (attempt->cancellable),
                         (GClosureNotify)(void (*) (void))g_object_unref, 0);
  if (g_cancellable_is_cancelled (with))
    g_cancellable_cancel (attempt->cancellable);
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
finish_with (BangerStepFinish finish, GAsyncResult *result, GError **error)
{
  return finish ? finish (result, error) : g_task_propagate_boolean (G_TASK (result), error);
}

static gboolean
step_finish (const Attempt *attempt, GAsyncResult *result, GError **error)
{
  const BangerStep *step = attempt->step;
  return step->take ? step->take (attempt->run->steps.data, result, error) : finish_with (step->finish, result, error);
}

/* @own: (transfer full) (nullable): of the step or of its undo. */
static gboolean
attempt_end (const Attempt *attempt, GError *own, guint seconds, GError **error)
{
  if (!own)
    return TRUE;
  if (attempt->timed_out) {
    const char *what = attempt->step->waiting_for ? attempt->step->waiting_for : attempt->step->name;
    BangerError code = attempt->step->timeout_code ? (BangerError)attempt->step->timeout_code : BANGER_ERROR_TIMEOUT;
    g_error_free (own);
    return banger_set_error (error, code, "%s: no answer for %u s", what, seconds);
  }
  g_propagate_error (error, own);
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
on_step (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (Attempt) attempt = data;
  BangerStepsRun *run = attempt->run;
  GError *own = NULL, *error = NULL;
  step_finish (attempt, result, &own);
  if (attempt_end (attempt, own, patience (run, attempt->step), &error)) {
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
step_begin (BangerStepsRun *run, guint index)
{
  const BangerStep *step = &run->steps.table[index];
  run->begun |= BANGER_STEP (index);
  run->order[run->n_order++] = index;
  run->running++;
  Attempt *attempt = attempt_new (run, step, patience (run, step), run->cancellable);
  steps_report (run, step, FALSE, FALSE, attempt->begun_at);
  step->run (run->steps.data, attempt->cancellable, on_step, attempt);
}

static gboolean
on_undo_late (gpointer data)
{
  BangerStepsRun *run = data;
  run->undo_id = 0;
  g_cancellable_cancel (run->undo);
  return G_SOURCE_REMOVE;
}

/* Of those that had no time one is told of. */
static void
steps_join_error (BangerStepsRun *run, const char *name, const GError *error)
{
  gboolean late = g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) && g_cancellable_is_cancelled (run->undo);
  if (late && run->undo_told)
    return;
  run->undo_told |= late;
  g_autofree char *joined = g_strdup_printf ("%s; undo %s: %s", run->error->message, name,
                                             late ? "no time was left for it" : error->message);
  g_free (run->error->message);
  run->error->message = g_steal_pointer (&joined);
}

static void
on_undone (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (Attempt) attempt = data;
  BangerStepsRun *run = attempt->run;
  GError *own = NULL;
  g_autoptr (GError) error = NULL;
  run->running--;
  finish_with (attempt->step->undo_finish, result, &own);
  if (attempt_end (attempt, own, UNDO_SECONDS, &error))
    steps_report (run, attempt->step, TRUE, TRUE, attempt->begun_at);
  else
    steps_join_error (run, attempt->step->name, error);
  steps_advance (run);
}

/* One after the other: an undo may rest on what an earlier step made. When the time is over they run all the same, with
 * a cancellable that is cancelled: what takes no time is undone. */
static void
steps_undo_next (BangerStepsRun *run)
{
  if (run->undo_id == 0 && !g_cancellable_is_cancelled (run->undo))
    run->undo_id = g_timeout_add_seconds (UNDO_SECONDS, on_undo_late, run);
  while (run->n_order > 0) {
    const BangerStep *step = &run->steps.table[run->order[--run->n_order]];
    if (!step->undo)
      continue;
    run->running++;
    Attempt *attempt = attempt_new (run, step, BANGER_STEP_BOUNDS_ITSELF, run->undo);
    steps_report (run, step, FALSE, TRUE, attempt->begun_at);
    step->undo (run->steps.data, attempt->cancellable, on_undone, attempt);
    return;
  }
  steps_end (run);
}

/* What is not needed is done as soon as what it needs is, and nothing of it is undone. */
static void
steps_skip (BangerStepsRun *run)
{
  for (guint32 before = ~run->done; before != run->done;) {
    before = run->done;
    for (guint i = 0; i < run->steps.n; i++) {
      const BangerStep *step = &run->steps.table[i];
      if (!(run->begun & BANGER_STEP (i)) && !(step->needs & ~run->done) && step->skip && step->skip (run->steps.data))
      {
        run->begun |= BANGER_STEP (i);
        run->done |= BANGER_STEP (i);
      }
    }
  }
}

static void
steps_advance (BangerStepsRun *run)
{
  if (run->error) {
    if (run->running == 0)
      steps_undo_next (run);
    return;
  }
  steps_skip (run);
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
on_first (gpointer data)
{
  BangerStepsRun *run = data;
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
  run->undo = g_cancellable_new ();
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
