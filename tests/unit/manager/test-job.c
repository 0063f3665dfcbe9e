/* Jobs: states, limits, what is announced when, progress from a worker.
 * Run by meson test.
 * Never touches a bus. */
#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "manager/manager.h"

typedef struct {
  BangerManager manager;
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
  g_string_append_printf (((Stage *)data)->heard, "%s ", banger_job_state_to_string (banger_job_state (job)));
}

static const BangerManagerObserver observer = { on_added, on_removed, on_changed, on_new, on_finished, NULL };

static void
set_up (Stage *stage, gconstpointer data)
{
  stage->heard = g_string_new (NULL);
  stage->manager.jobs = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)banger_job_unref);
  stage->manager.observer = &observer;
  stage->manager.observer_data = stage;
}

static void
tear_down (Stage *stage, gconstpointer data)
{
  g_hash_table_unref (stage->manager.jobs);
  g_string_free (stage->heard, TRUE);
}

static BangerJob *
make (Stage *stage, gboolean cancelable, GError **error)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", stage->op++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = cancelable };
  return banger_job_new (&stage->manager, &spec, error);
}

static void
test_states (void)
{
  for (int i = 0; i < BANGER_N_JOB_STATES; i++)
    g_assert_cmpint (banger_job_state_from_string (banger_job_state_to_string ((BangerJobState)i)), ==, i);
  g_assert_cmpint (banger_job_state_from_string ("nope"), ==, -1);
  g_assert_cmpint (banger_job_state_from_string (NULL), ==, -1);
}

static void
test_story (Stage *stage, gconstpointer data)
{
  BangerJob *job = make (stage, TRUE, NULL);
  BangerObjectKind kind = BANGER_OBJECT_JOB;
  g_assert_cmpstr (banger_job_id (job), ==, "00000000");
  g_assert_cmpstr (banger_job_op_id (job), ==, "op-00000000");
  g_assert_null (banger_job_object (job, &kind));
  banger_job_set_stage (job, "one");
  banger_job_set_stage (job, "one");
  banger_job_set_progress (job, 7);
  g_assert_cmpfloat (banger_job_progress (job), ==, 1);
  banger_job_set_stage (job, "two");
  g_assert_cmpfloat (banger_job_progress (job), ==, -1);
  banger_job_set_object (job, BANGER_OBJECT_VM, "aa");
  g_assert_cmpstr (banger_job_object (job, &kind), ==, "aa");
  g_assert_cmpint (kind, ==, BANGER_OBJECT_VM);
  banger_job_finish (job, NULL);
  banger_job_set_stage (job, "late");
  g_assert_cmpstr (banger_job_stage (job), ==, "two");
  g_assert_cmpstr (stage->heard->str, ==,
                   "+00000000 new Stage,Progress Progress Stage,Progress Object "
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
    g_assert_cmpint (banger_job_state (job), ==, rows[i].state);
    g_assert_error (banger_job_error (job), BANGER_ERROR, (int)rows[i].own);
    g_assert_cmpstr (banger_job_error (job)->message, ==, "why");
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
  g_assert_true (g_cancellable_is_cancelled (banger_job_cancellable (fixed)));
  g_assert_cmpint (banger_job_state (fixed), ==, BANGER_JOB_RUNNING);
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
  g_assert_cmpuint (g_hash_table_size (stage->manager.jobs), ==, BANGER_JOB_LIMIT);
  banger_job_finish (g_hash_table_lookup (stage->manager.jobs, "00000000"), NULL);
  for (guint i = 0; i < BANGER_JOB_FINISHED_LIMIT + 10; i++)
    banger_job_finish (make (stage, TRUE, NULL), NULL);
  g_assert_cmpuint (g_hash_table_size (stage->manager.jobs), ==, BANGER_JOB_LIMIT - 1 + BANGER_JOB_FINISHED_LIMIT);
  g_assert_null (g_hash_table_lookup (stage->manager.jobs, "00000000"));
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
  g_assert_cmpstr (banger_job_stage (job), ==, "");
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_cmpstr (banger_job_stage (job), ==, "from a worker");
  g_assert_cmpfloat (banger_job_progress (job), ==, 1);
  report (handle);
  banger_job_progress_free (handle);
  banger_job_finish (job, NULL);
  while (g_main_context_iteration (NULL, FALSE))
    ;
}

#define ADD(path, func) g_test_add (path, Stage, NULL, set_up, func, tear_down)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  banger_log_set_level (LOG_ERR);
  g_test_add_func ("/job/states", test_states);
  ADD ("/job/story", test_story);
  ADD ("/job/ends", test_ends);
  ADD ("/job/cancel", test_cancel);
  ADD ("/job/limits", test_limits);
  ADD ("/job/progress", test_progress);
  return g_test_run ();
}
