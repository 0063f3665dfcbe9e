/* A long operation as an object: stage, progress, end.
 * Made by the bus side at dispatch, driven by vm.c and asset.c, shown by job-dbus.c.
 * Never touched from a worker thread: marshal first (banger_job_progress_new()). */
#include "manager/job.h"

#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/manager.h"

#define PROGRESS_INTERVAL_USEC (G_USEC_PER_SEC / 10)
#define OP_ID_PREFIX "op-"

struct BangerJob {
  gatomicrefcount refs;
  BangerManager *manager;
  char *id;
  char *op_id;
  const char *kind;
  BangerJobState state;
  char *stage;
  double progress;
  gint64 announced_at; /* monotonic µs, of the last progress */
  guint announce_source;
  gint64 started_at;
  gint64 started_monotonic;
  gboolean cancelable;
  gboolean interactive;
  GError *error;
  GCancellable *cancellable;
  BangerObjectKind object_kind;
  char *object_id;
  guint linger_source;
};

static const char *const state_words[] = { "running", "done", "failed", "cancelled" };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_JOB_STATES);

const char *
banger_job_state_to_string (BangerJobState state)
{
  g_return_val_if_fail (state < BANGER_N_JOB_STATES, "failed");
  return state_words[state];
}

int
banger_job_state_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_JOB_STATES; i++)
    if (g_strcmp0 (word, state_words[i]) == 0)
      return i;
  return -1;
}

BangerJob *
banger_job_ref (BangerJob *job)
{
  g_atomic_ref_count_inc (&job->refs);
  return job;
}

void
banger_job_unref (BangerJob *job)
{
  if (job == NULL || !g_atomic_ref_count_dec (&job->refs))
    return;
  g_clear_handle_id (&job->announce_source, g_source_remove);
  g_clear_handle_id (&job->linger_source, g_source_remove);
  g_clear_error (&job->error);
  g_clear_object (&job->cancellable);
  g_free (job->id);
  g_free (job->op_id);
  g_free (job->stage);
  g_free (job->object_id);
  g_free (job);
}

static void
forget (BangerJob *job)
{
  g_autoptr (BangerJob) keep = banger_job_ref (job);
  g_clear_handle_id (&job->linger_source, g_source_remove);
  if (g_hash_table_remove (job->manager->jobs, job->id))
    banger_manager_removed (job->manager, BANGER_OBJECT_JOB, job->id);
}

/* Counts both kinds and finds the finished one that started first. */
static void
count_jobs (BangerManager *manager, guint *ret_running, guint *ret_finished, BangerJob **ret_oldest)
{
  GHashTableIter iter;
  gpointer value = NULL;
  *ret_running = *ret_finished = 0;
  *ret_oldest = NULL;
  g_hash_table_iter_init (&iter, manager->jobs);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    BangerJob *job = value;
    if (job->state == BANGER_JOB_RUNNING) {
      (*ret_running)++;
      continue;
    }
    (*ret_finished)++;
    if (*ret_oldest == NULL || job->started_monotonic < (*ret_oldest)->started_monotonic)
      *ret_oldest = job;
  }
}

BangerJob *
banger_job_new (BangerManager *manager, const BangerJobSpec *spec, GError **error)
{
  guint running = 0, finished = 0;
  BangerJob *oldest = NULL;
  const char *id = g_str_has_prefix (spec->op_id, OP_ID_PREFIX) ? spec->op_id + strlen (OP_ID_PREFIX) : spec->op_id;
  if (manager->ending) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "bangerd is about to end: ask again in a moment");
    return NULL;
  }
  count_jobs (manager, &running, &finished, &oldest);
  if (running >= BANGER_JOB_LIMIT || g_hash_table_contains (manager->jobs, id)) {
    banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                      "%u operations are running already (the limit is %d): wait for one to end", running,
                      BANGER_JOB_LIMIT);
    return NULL;
  }
  if (finished >= BANGER_JOB_FINISHED_LIMIT)
    forget (oldest);

  BangerJob *job = g_new0 (BangerJob, 1);
  g_atomic_ref_count_init (&job->refs);
  job->manager = manager;
  job->id = g_strdup (id);
  job->op_id = g_strdup (spec->op_id);
  job->kind = spec->kind;
  job->stage = g_strdup ("");
  job->progress = -1;
  job->started_at = g_get_real_time ();
  job->started_monotonic = g_get_monotonic_time ();
  job->cancelable = spec->cancelable;
  job->interactive = spec->interactive;
  job->cancellable = g_cancellable_new ();
  job->object_kind = spec->object_kind;
  job->object_id = g_strdup (spec->object_id);
  g_hash_table_insert (manager->jobs, job->id, job);
  banger_manager_added (manager, BANGER_OBJECT_JOB, job->id);
  if (manager->observer != NULL)
    manager->observer->job_new (job, manager->observer_data);
  return job;
}

const char *
banger_job_id (BangerJob *job)
{
  return job->id;
}

const char *
banger_job_op_id (BangerJob *job)
{
  return job->op_id;
}

const char *
banger_job_kind (BangerJob *job)
{
  return job->kind;
}

BangerJobState
banger_job_state (BangerJob *job)
{
  return job->state;
}

const char *
banger_job_stage (BangerJob *job)
{
  return job->stage;
}

double
banger_job_progress (BangerJob *job)
{
  return job->progress;
}

gint64
banger_job_started_at (BangerJob *job)
{
  return job->started_at;
}

gboolean
banger_job_cancelable (BangerJob *job)
{
  return job->cancelable && job->state == BANGER_JOB_RUNNING;
}

const GError *
banger_job_error (BangerJob *job)
{
  return job->error;
}

GCancellable *
banger_job_cancellable (BangerJob *job)
{
  return job->cancellable;
}

gboolean
banger_job_interactive (BangerJob *job)
{
  return job->interactive;
}

const char *
banger_job_object (BangerJob *job, BangerObjectKind *ret_kind)
{
  if (job->object_id != NULL)
    *ret_kind = job->object_kind;
  return job->object_id;
}

static void
changed (BangerJob *job, const char *const *properties)
{
  banger_manager_changed (job->manager, BANGER_OBJECT_JOB, job->id, properties);
}

void
banger_job_set_stage (BangerJob *job, const char *stage)
{
  if (job == NULL || job->state != BANGER_JOB_RUNNING || g_str_equal (job->stage, stage))
    return;
  g_free (job->stage);
  job->stage = g_strdup (stage);
  job->progress = -1;
  job->announced_at = 0;
  g_clear_handle_id (&job->announce_source, g_source_remove);
  banger_log (LOG_DEBUG, BANGER_FIELDS (BANGER_FIELD_OP_ID, job->op_id, BANGER_FIELD_STAGE, stage), "%s: %s", job->kind,
              stage);
  changed (job, BANGER_PROPERTIES ("Stage", "Progress"));
}

static gboolean
announce_progress (gpointer data)
{
  BangerJob *job = data;
  job->announce_source = 0;
  job->announced_at = g_get_monotonic_time ();
  changed (job, BANGER_PROPERTIES ("Progress"));
  return G_SOURCE_REMOVE;
}

void
banger_job_set_progress (BangerJob *job, double fraction)
{
  if (job == NULL || job->state != BANGER_JOB_RUNNING)
    return;
  job->progress = fraction < 0 ? -1 : MIN (fraction, 1);
  if (job->announce_source != 0)
    return;
  gint64 since = g_get_monotonic_time () - job->announced_at;
  if (since >= PROGRESS_INTERVAL_USEC)
    announce_progress (job);
  else
    job->announce_source = g_timeout_add ((guint)((PROGRESS_INTERVAL_USEC - since) / 1000 + 1), announce_progress, job);
}

void
banger_job_set_object (BangerJob *job, BangerObjectKind kind, const char *id)
{
  if (job == NULL)
    return;
  g_free (job->object_id);
  job->object_kind = kind;
  job->object_id = g_strdup (id);
  changed (job, BANGER_PROPERTIES ("Object"));
}

void
banger_job_set_cancelable (BangerJob *job, gboolean cancelable)
{
  if (job == NULL || job->cancelable == cancelable)
    return;
  job->cancelable = cancelable;
  changed (job, BANGER_PROPERTIES ("Cancelable"));
}

gboolean
banger_job_cancel (BangerJob *job, GError **error)
{
  if (job->state != BANGER_JOB_RUNNING)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "job %s is %s already", job->id,
                             banger_job_state_to_string (job->state));
  if (!job->cancelable)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "job %s (%s) cannot be cancelled %s", job->id, job->kind,
                             *job->stage != '\0' ? "at this stage" : "");
  g_cancellable_cancel (job->cancellable);
  return TRUE;
}

static gboolean
linger_over (gpointer data)
{
  BangerJob *job = data;
  job->linger_source = 0;
  forget (job);
  return G_SOURCE_REMOVE;
}

static BangerJobState
state_for (const GError *error)
{
  if (error == NULL)
    return BANGER_JOB_DONE;
  if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_CANCELLED)
      || g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return BANGER_JOB_CANCELLED;
  return BANGER_JOB_FAILED;
}

static void
log_end (BangerJob *job)
{
  g_autofree char *duration = g_strdup_printf ("%" G_GINT64_FORMAT, g_get_monotonic_time () - job->started_monotonic);
  const char *name = job->error == NULL ? NULL : banger_error_dbus_name (job->error->code);
  const char *const *fields = BANGER_FIELDS (BANGER_FIELD_OP_ID, job->op_id, BANGER_FIELD_DURATION_USEC, duration,
                                             BANGER_FIELD_OBJECT, job->object_id, BANGER_FIELD_ERROR, name);
  if (job->error == NULL)
    banger_log (LOG_INFO, fields, "%s done", job->kind);
  else
    banger_log (LOG_WARNING, fields, "%s %s: %s", job->kind, banger_job_state_to_string (job->state),
                job->error->message);
}

/* Foreign domains get a code of ours here, once. */
static GError *
own_error (const GError *error, BangerJobState state)
{
  if (error->domain == BANGER_ERROR)
    return g_error_copy (error);
  return g_error_new_literal (
      BANGER_ERROR, state == BANGER_JOB_CANCELLED ? BANGER_ERROR_CANCELLED : BANGER_ERROR_FAILED, error->message);
}

void
banger_job_finish (BangerJob *job, const GError *error)
{
  g_return_if_fail (job->state == BANGER_JOB_RUNNING);
  g_clear_handle_id (&job->announce_source, g_source_remove);
  job->state = state_for (error);
  if (error != NULL)
    job->error = own_error (error, job->state);
  else
    job->progress = 1;
  log_end (job);
  changed (job, BANGER_PROPERTIES ("State", "Progress", "Error", "ErrorMessage", "Cancelable"));
  if (job->manager->observer != NULL)
    job->manager->observer->job_finished (job, job->manager->observer_data);
  job->linger_source = g_timeout_add_seconds (BANGER_JOB_LINGER_SECONDS, linger_over, job);
}

struct BangerJobProgress {
  gatomicrefcount refs;
  BangerJob *job; /* main thread only; NULL once freed */
  GMutex lock;    /* of what follows */
  char *stage;    /* NULL: none to apply */
  double fraction;
  gboolean queued;
};

static void
progress_unref (gpointer data)
{
  BangerJobProgress *handle = data;
  if (!g_atomic_ref_count_dec (&handle->refs))
    return;
  g_mutex_clear (&handle->lock);
  g_free (handle->stage);
  g_free (handle);
}

static gboolean
progress_apply (gpointer data)
{
  BangerJobProgress *handle = data;
  g_mutex_lock (&handle->lock);
  double fraction = handle->fraction;
  g_autofree char *stage = g_steal_pointer (&handle->stage);
  handle->queued = FALSE;
  g_mutex_unlock (&handle->lock);
  if (stage != NULL)
    banger_job_set_stage (handle->job, stage);
  banger_job_set_progress (handle->job, fraction);
  return G_SOURCE_REMOVE;
}

BangerJobProgress *
banger_job_progress_new (BangerJob *job)
{
  BangerJobProgress *handle = g_new0 (BangerJobProgress, 1);
  g_atomic_ref_count_init (&handle->refs);
  g_mutex_init (&handle->lock);
  handle->fraction = -1;
  handle->job = job == NULL ? NULL : banger_job_ref (job);
  return handle;
}

/* Called with the lock held, releases it. */
static void
progress_queue (BangerJobProgress *handle)
{
  gboolean queue = !handle->queued;
  handle->queued = TRUE;
  g_mutex_unlock (&handle->lock);
  if (!queue)
    return;
  g_atomic_ref_count_inc (&handle->refs);
  g_idle_add_full (G_PRIORITY_DEFAULT, progress_apply, handle, progress_unref);
}

void
banger_job_progress_report (double fraction, gpointer data)
{
  BangerJobProgress *handle = data;
  g_mutex_lock (&handle->lock);
  handle->fraction = fraction;
  progress_queue (handle);
}

void
banger_job_progress_stage (const char *stage, gpointer data)
{
  BangerJobProgress *handle = data;
  g_mutex_lock (&handle->lock);
  g_free (handle->stage);
  handle->stage = g_strdup (stage);
  progress_queue (handle);
}

void
banger_job_progress_free (BangerJobProgress *handle)
{
  if (handle == NULL)
    return;
  g_clear_pointer (&handle->job, banger_job_unref);
  progress_unref (handle);
}
