/* Jobs: states, limits, what is announced when, progress from a worker.
 * Run by meson test.
 * Never touches a bus. */
#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "manager/core/job.h"

typedef struct {
  BangerJobs *jobs;
  GString *heard;
  guint op;
} Stage;

static void
on_added (BangerObjectKind kind, const char *id, gpointer data)
{
  g_string_append_printf (((Stage *)data)->heard, "+%s ", id);
}

static void
on_removed (BangerObjectKind kind, const char *id, gpointer data)
{
  g_string_append_printf (((Stage *)data)->heard, "-%s ", id);
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
  g_autofree char *joined = g_strjoinv (",", (char **)properties);
  g_string_append_printf (((Stage *)data)->heard, "%s ", joined);
}

static void
on_new (BangerJob *job, gpointer data)
{
  g_string_append (((Stage *)data)->heard, "new ");
}

static void
on_finished (BangerJob *job, gpointer data)
{
  g_string_append_printf (((Stage *)data)->heard, "%s ", banger_job_state_to_string (job->state));
}

static const BangerJobObserver observer = { { on_added, on_removed, on_changed }, on_new, on_finished };

static void
set_up (Stage *stage, gconstpointer data)
{
  stage->heard = g_string_new (NULL);
  stage->jobs = banger_jobs_new (&observer, stage);
}

static void
tear_down (Stage *stage, gconstpointer data)
{
  banger_jobs_free (stage->jobs);
  g_string_free (stage->heard, TRUE);
}

static guint
count (Stage *stage)
{
  g_autoptr (GPtrArray) ids = banger_jobs_ids (stage->jobs);
  return ids->len;
}

static BangerJob *
make (Stage *stage, gboolean cancelable, GError **error)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", stage->op++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = cancelable };
  return banger_job_new (stage->jobs, &spec, error);
}

static void
test_story (Stage *stage, gconstpointer data)
{
  BangerJob *job = make (stage, TRUE, NULL);
  g_assert_cmpstr (job->id, ==, "00000000");
  g_assert_cmpstr (job->op_id, ==, "op-00000000");
  g_assert_null (job->object_id);
  banger_job_set_stage (job, "one");
  banger_job_set_stage (job, "one");
  banger_job_set_progress (job, 7);
  g_assert_cmpfloat (job->progress, ==, 1);
  banger_job_set_stage (job, "two");
  g_assert_cmpfloat (job->progress, ==, -1);
  banger_job_finish (job, NULL);
  banger_job_set_stage (job, "late");
  g_assert_cmpstr (job->stage, ==, "two");
  g_assert_cmpstr (stage->heard->str, ==,
                   "+00000000 new Stage,Progress Progress Stage,Progress "
                   "State,Progress,Error,ErrorMessage,Cancelable done ");
}

static void
test_ends (Stage *stage, gconstpointer data)
{
  const struct {
    GQuark domain;
    int code;
    BangerJobState state;
    BangerError own;
  } rows[] = {
    { BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, BANGER_JOB_FAILED, BANGER_ERROR_GUEST_TIMEOUT },
    { BANGER_ERROR, BANGER_ERROR_CANCELLED, BANGER_JOB_CANCELLED, BANGER_ERROR_CANCELLED },
    { G_IO_ERROR, G_IO_ERROR_CANCELLED, BANGER_JOB_CANCELLED, BANGER_ERROR_CANCELLED },
    { G_IO_ERROR, G_IO_ERROR_EXISTS, BANGER_JOB_FAILED, BANGER_ERROR_FAILED },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    BangerJob *job = make (stage, TRUE, NULL);
    g_autoptr (GError) error = g_error_new_literal (rows[i].domain, rows[i].code, "why");
    banger_job_finish (job, error);
    g_assert_cmpint (job->state, ==, rows[i].state);
    g_assert_error (job->error, BANGER_ERROR, (int)rows[i].own);
    g_assert_cmpstr (job->error->message, ==, "why");
  }
}

static void
test_cancel (Stage *stage, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  BangerJob *fixed = make (stage, FALSE, NULL);
  g_assert_false (banger_job_cancel (fixed, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_clear_error (&error);
  banger_job_set_cancelable (fixed, TRUE);
  g_assert_true (banger_job_cancel (fixed, &error));
  g_assert_true (g_cancellable_is_cancelled (fixed->cancellable));
  g_assert_cmpint (fixed->state, ==, BANGER_JOB_RUNNING);
  banger_job_finish (fixed, NULL);
  g_assert_false (banger_job_cancelable (fixed));
  g_assert_false (banger_job_cancel (fixed, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
}

static void
test_limits (Stage *stage, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < BANGER_JOB_LIMIT; i++)
    g_assert_nonnull (make (stage, TRUE, NULL));
  g_assert_null (make (stage, TRUE, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_assert_cmpuint (count (stage), ==, BANGER_JOB_LIMIT);
  banger_job_finish (banger_jobs_find (stage->jobs, "00000000"), NULL);
  for (guint i = 0; i < BANGER_JOB_FINISHED_LIMIT + 10; i++)
    banger_job_finish (make (stage, TRUE, NULL), NULL);
  g_assert_cmpuint (count (stage), ==, BANGER_JOB_LIMIT - 1 + BANGER_JOB_FINISHED_LIMIT);
  g_assert_null (banger_jobs_find (stage->jobs, "00000000"));
  g_assert_nonnull (strstr (stage->heard->str, "-00000000 "));
}

static gpointer
report (gpointer handle)
{
  banger_job_progress_stage ("from a worker", handle);
  for (int i = 0; i <= 1000; i++)
    banger_job_progress_report (i / 1000.0, handle);
  return NULL;
}

static void
test_progress (Stage *stage, gconstpointer data)
{
  BangerJob *job = make (stage, TRUE, NULL);
  BangerJobProgress *handle = banger_job_progress_new (job);
  GThread *thread = g_thread_new ("worker", report, handle);
  g_thread_join (thread);
  g_assert_cmpstr (job->stage, ==, "");
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_cmpstr (job->stage, ==, "from a worker");
  g_assert_cmpfloat (job->progress, ==, 1);
  report (handle);
  banger_job_progress_free (handle);
  banger_job_finish (job, NULL);
  while (g_main_context_iteration (NULL, FALSE))
    ;
}

static void
on_part_ended (BangerJob *part, const GError *error, gpointer data)
{
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
  *(gboolean *)data = TRUE;
}

/* Nobody sees a part; what it sets is seen of the whole, which its end does not end. */
static void
test_part (Stage *stage, gconstpointer data)
{
  BangerJob *whole = make (stage, TRUE, NULL);
  BangerJob *part = banger_job_new_part (0, whole);
  g_autoptr (GError) error = g_error_new (BANGER_ERROR, BANGER_ERROR_FAILED, "why");
  gboolean ended = FALSE;
  g_assert_cmpstr (part->op_id, ==, whole->op_id);
  g_string_truncate (stage->heard, 0);
  banger_job_set_stage (part, "one");
  banger_job_warn (part, "odd");
  banger_job_set_cancelable (part, FALSE);
  g_assert_cmpstr (stage->heard->str, ==, "Stage,Progress Warnings Cancelable ");
  g_assert_cmpstr (whole->stage, ==, "one");
  g_cancellable_cancel (part->cancellable);
  g_assert_false (g_cancellable_is_cancelled (whole->cancellable));
  banger_job_keep (part, on_part_ended, &ended);
  banger_job_finish_later (part, g_steal_pointer (&error));
  banger_job_unref (part);
  while (!ended)
    g_main_context_iteration (NULL, TRUE);
  g_assert_cmpint (whole->state, ==, BANGER_JOB_RUNNING);
  g_assert_cmpuint (count (stage), ==, 1);
  BangerJob *next = banger_job_new_part (0, whole);
  g_cancellable_cancel (whole->cancellable);
  g_assert_true (g_cancellable_is_cancelled (next->cancellable));
  banger_job_unref (next);
  BangerJob *late = banger_job_new_part (0, whole);
  g_assert_true (g_cancellable_is_cancelled (late->cancellable));
  banger_job_unref (late);
}

/* Who does not see all of them knows it. */
static void
test_warnings (Stage *stage, gconstpointer data)
{
  BangerJob *job = make (stage, TRUE, NULL);
  for (guint i = 0; i < BANGER_JOB_WARNINGS_LIMIT + 3; i++) {
    g_autofree char *text = g_strdup_printf ("odd %u", i);
    banger_job_warn (job, text);
  }
  g_assert_cmpuint (job->warnings->len, ==, BANGER_JOB_WARNINGS_LIMIT + 2);
  g_assert_cmpstr (job->warnings->pdata[BANGER_JOB_WARNINGS_LIMIT - 1], ==, "odd 15");
  g_assert_cmpstr (job->warnings->pdata[BANGER_JOB_WARNINGS_LIMIT], ==, "there is more that is odd, and not told");
  g_assert_null (job->warnings->pdata[BANGER_JOB_WARNINGS_LIMIT + 1]);
  banger_job_finish (job, NULL);
}

/* What nobody asked for works like any other, and tells nobody. */
static void
test_unseen (Stage *stage, gconstpointer data)
{
  BangerJob *job = banger_job_new_part (0, NULL);
  g_assert_null (job->caller.op_id);
  banger_job_set_stage (job, "one");
  banger_job_warn (job, "odd");
  banger_job_set_progress (job, 1);
  banger_job_set_cancelable (job, TRUE);
  banger_job_finish (job, NULL);
  banger_job_unref (job);
  g_assert_cmpstr (stage->heard->str, ==, "");
}

#define ADD(path, func) g_test_add (path, Stage, NULL, set_up, func, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  banger_log_set_level (LOG_ERR);
  ADD ("/job/story", test_story);
  ADD ("/job/ends", test_ends);
  ADD ("/job/cancel", test_cancel);
  ADD ("/job/limits", test_limits);
  ADD ("/job/progress", test_progress);
  ADD ("/job/part", test_part);
  ADD ("/job/warnings", test_warnings);
  ADD ("/job/unseen", test_unseen);
  return g_test_run ();
}
