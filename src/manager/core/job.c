/* Something that takes long, while it is under way: who asked, stage, progress, cancel, end.
 * Never touched from a worker thread: marshal first (banger_job_progress_new()). */
#include "manager/core/job.h"

#include <string.h>

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"

#define PROGRESS_INTERVAL_USEC (G_USEC_PER_SEC / 10)
#define OP_ID_PREFIX "op-"

struct BangerJobs {
  GHashTable *table; /* id -> BangerJob */
  gboolean ending;   /* no new job is taken */
  const BangerJobObserver *observer;
  gpointer user_data;
};

static const char *const state_words[] = { "running", "done", "failed", "cancelled" };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_JOB_STATES);

const char *
banger_job_state_to_string (BangerJobState state)
{
  g_return_val_if_fail (state < BANGER_N_JOB_STATES, "failed");
  return state_words[state];
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
  if (!job || !g_atomic_ref_count_dec (&job->refs))
    return;
  g_clear_handle_id (&job->announce_source, g_source_remove);
  g_clear_handle_id (&job->linger_source, g_source_remove);
  g_clear_error (&job->error);
  g_ptr_array_unref (job->warnings);
  g_clear_object (&job->cancellable);
  banger_job_unref (job->whole);
  banger_job_unref (job->shared);
  g_clear_pointer (&job->followers, g_ptr_array_unref);
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
  BangerJobs *jobs = job->jobs;
  g_clear_handle_id (&job->linger_source, g_source_remove);
  if (g_hash_table_remove (jobs->table, job->id))
    jobs->observer->objects.removed (BANGER_OBJECT_JOB, job->id, jobs->user_data);
}

static void
leave_table (gpointer data)
{
  BangerJob *job = data;
  job->jobs = NULL;
  g_clear_handle_id (&job->linger_source, g_source_remove);
  g_clear_handle_id (&job->announce_source, g_source_remove);
  banger_job_unref (job);
}

BangerJobs *
banger_jobs_new (const BangerJobObserver *observer, gpointer data)
{
  BangerJobs *jobs = g_new0 (BangerJobs, 1);
  jobs->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, leave_table);
  jobs->observer = observer;
  jobs->user_data = data;
  return jobs;
}

void
banger_jobs_free (BangerJobs *jobs)
{
  g_hash_table_unref (jobs->table);
  g_free (jobs);
}

BangerJob *
banger_jobs_find (BangerJobs *jobs, const char *id)
{
  return g_hash_table_lookup (jobs->table, id);
}

GPtrArray *
banger_jobs_ids (BangerJobs *jobs)
{
  return banger_table_ids (jobs->table);
}

guint
banger_jobs_end (BangerJobs *jobs)
{
  GHashTableIter iter;
  gpointer value;
  guint running = 0;
  jobs->ending = TRUE;
  g_hash_table_iter_init (&iter, jobs->table);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    BangerJob *job = value;
    running += job->state == BANGER_JOB_RUNNING;
    if (banger_job_cancelable (job)) /* cancelling again changes nothing */
      g_cancellable_cancel (job->cancellable);
  }
  return running;
}

/* Counts both kinds and finds the finished one that started first. */
static void
count_jobs (BangerJobs *jobs, guint *ret_running, guint *ret_finished, BangerJob **ret_oldest)
{
  GHashTableIter iter;
  gpointer value = NULL;
  *ret_running = *ret_finished = 0;
  *ret_oldest = NULL;
  g_hash_table_iter_init (&iter, jobs->table);
  while (g_hash_table_iter_next (&iter, NULL, &value)) {
    BangerJob *job = value;
    if (job->state == BANGER_JOB_RUNNING) {
      (*ret_running)++;
      continue;
    }
    (*ret_finished)++;
    if (!*ret_oldest || job->started_monotonic < (*ret_oldest)->started_monotonic)
      *ret_oldest = job;
  }
}

/* Of no table yet. */
static BangerJob *
job_new (gsize size)
{
  BangerJob *job = g_malloc0 (MAX (size, sizeof (BangerJob)));
  g_atomic_ref_count_init (&job->refs);
  job->stage = g_strdup ("");
  job->progress = -1;
  job->started_at = g_get_real_time ();
  job->started_monotonic = g_get_monotonic_time ();
  job->cancellable = g_cancellable_new ();
  job->warnings = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (job->warnings, NULL);
  return job;
}

BangerJob *
banger_job_new_part (gsize size, BangerJob *whole)
{
  BangerJob *job = job_new (size);
  if (!whole)
    return job;
  job->whole = banger_job_ref (whole);
  job->op_id = g_strdup (whole->op_id);
  job->caller = (BangerCaller){ job->op_id, whole->caller.interactive };
  g_signal_connect_object (whole->cancellable, "cancelled", G_CALLBACK (g_cancellable_cancel), job->cancellable,
                           G_CONNECT_SWAPPED);
  if (g_cancellable_is_cancelled (whole->cancellable))
    g_cancellable_cancel (job->cancellable);
  return job;
}

BangerJob *
banger_job_new (BangerJobs *jobs, const BangerJobSpec *spec, GError **error)
{
  guint running = 0, finished = 0;
  BangerJob *oldest = NULL;
  const char *id = g_str_has_prefix (spec->op_id, OP_ID_PREFIX) ? spec->op_id + strlen (OP_ID_PREFIX) : spec->op_id;
  if (jobs->ending) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, BANGER_TEXT_ENDING);
    return NULL;
  }
  count_jobs (jobs, &running, &finished, &oldest);
  if (running >= BANGER_JOB_LIMIT || g_hash_table_contains (jobs->table, id)) {
    banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                      "%u operations are running already (the limit is %d): wait for one to end", running,
                      BANGER_JOB_LIMIT);
    return NULL;
  }
  if (finished >= BANGER_JOB_FINISHED_LIMIT)
    forget (oldest);

  BangerJob *job = job_new (spec->size);
  job->jobs = jobs;
  job->id = g_strdup (id);
  job->op_id = g_strdup (spec->op_id);
  job->kind = spec->kind;
  job->cancelable = spec->cancelable;
  job->caller = (BangerCaller){ job->op_id, spec->interactive };
  job->begin = spec->begin;
  job->object_kind = spec->object_kind;
  job->object_id = g_strdup (spec->object_id);
  g_hash_table_insert (jobs->table, job->id, job);
  jobs->observer->objects.added (BANGER_OBJECT_JOB, job->id, jobs->user_data);
  jobs->observer->begun (job, jobs->user_data);
  return job;
}

static void
on_follower_cancelled (GCancellable *cancellable, BangerJob *job)
{
  BangerJob *shared = job->shared;
  if (shared->followers->len == 1) {
    g_cancellable_cancel (shared->cancellable);
    return;
  }
  g_autoptr (BangerJob) keep = banger_job_ref (job);
  if (g_ptr_array_remove (shared->followers, job))
    banger_job_finish_later (job, banger_error_cancelled ());
}

BangerJob *
banger_job_follow (BangerJob *shared, BangerJobs *jobs, const BangerJobSpec *spec, GError **error)
{
  BangerJobSpec own = *spec;
  own.size = 0;
  BangerJob *job = banger_job_new (jobs, &own, error);
  if (!job)
    return NULL;
  if (!shared->followers)
    shared->followers = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_job_unref);
  job->shared = banger_job_ref (shared);
  g_ptr_array_add (shared->followers, banger_job_ref (job));
  g_signal_connect (job->cancellable, "cancelled", G_CALLBACK (on_follower_cancelled), job);
  if (*shared->stage != '\0') {
    banger_job_set_stage (job, shared->stage);
    banger_job_set_progress (job, shared->progress);
  }
  return job;
}

void
banger_job_begin (BangerJob *job)
{
  job->begin (job);
}

gboolean
banger_job_cancelable (const BangerJob *job)
{
  return job->cancelable && job->state == BANGER_JOB_RUNNING;
}

static void
changed (BangerJob *job, const char *const *properties)
{
  if (job->jobs)
    job->jobs->observer->objects.changed (BANGER_OBJECT_JOB, job->id, properties, job->jobs->user_data);
}

/* Who sees what is set of @job: of a part, that which it is a part of. NULL: nobody, or not any more. */
static BangerJob *
shown (BangerJob *job)
{
  BangerJob *whole = job->whole ? job->whole : job;
  return whole->jobs ? whole : NULL;
}

typedef void (*Each) (BangerJob *job, gconstpointer what);

/* Returns: whether @job is one that others follow. */
static gboolean
each_follower (BangerJob *job, Each each, gconstpointer what)
{
  if (!job->followers)
    return FALSE;
  for (guint i = 0; i < job->followers->len; i++)
    each (job->followers->pdata[i], what);
  return TRUE;
}

static void
each_set_stage (BangerJob *job, gconstpointer stage)
{
  banger_job_set_stage (job, stage);
}

static void
each_warn (BangerJob *job, gconstpointer text)
{
  banger_job_warn (job, text);
}

static void
each_set_progress (BangerJob *job, gconstpointer fraction)
{
  banger_job_set_progress (job, *(const double *)fraction);
}

static void
each_finish (BangerJob *job, gconstpointer error)
{
  banger_job_finish (job, error);
}

void
banger_job_set_stage (BangerJob *job, const char *stage)
{
  if (each_follower (job, each_set_stage, stage)) { /* kept for those who come later */
    g_autofree char *old = job->stage;
    job->stage = g_strdup (stage);
    job->progress = -1;
    return;
  }
  job = shown (job);
  if (!job || job->state != BANGER_JOB_RUNNING || g_str_equal (job->stage, stage))
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

void
banger_job_warn (BangerJob *job, const char *text)
{
  if (each_follower (job, each_warn, text))
    return;
  job = shown (job);
  guint told = job ? job->warnings->len - 1 : 0;
  if (!job || job->state != BANGER_JOB_RUNNING || told > BANGER_JOB_WARNINGS_LIMIT)
    return;
  if (told == BANGER_JOB_WARNINGS_LIMIT)
    text = "there is more that is odd, and not told";
  g_ptr_array_insert (job->warnings, (int)job->warnings->len - 1, g_utf8_make_valid (text, -1));
  banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_OP_ID, job->op_id), "%s: %s", job->kind, text);
  changed (job, BANGER_PROPERTIES ("Warnings"));
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
  if (each_follower (job, each_set_progress, &fraction)) {
    job->progress = fraction;
    return;
  }
  job = shown (job);
  if (!job || job->state != BANGER_JOB_RUNNING)
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
banger_job_set_cancelable (BangerJob *job, gboolean cancelable)
{
  job = shown (job);
  if (!job || job->cancelable == cancelable)
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
  if (!error)
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
  const char *name = !job->error ? NULL : banger_error_dbus_name (job->error->code);
  const char *const *fields = BANGER_FIELDS (BANGER_FIELD_OP_ID, job->op_id, BANGER_FIELD_DURATION_USEC, duration,
                                             BANGER_FIELD_OBJECT, job->object_id, BANGER_FIELD_ERROR, name);
  if (!job->error)
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
  each_follower (job, each_finish, error);
  g_clear_pointer (&job->followers, g_ptr_array_unref);
  g_clear_handle_id (&job->announce_source, g_source_remove);
  job->state = state_for (error);
  if (error)
    job->error = own_error (error, job->state);
  else
    job->progress = 1;
  if (job->jobs) {
    log_end (job);
    changed (job, BANGER_PROPERTIES ("State", "Progress", "Error", "ErrorMessage", "Cancelable"));
    job->jobs->observer->ended (job, job->jobs->user_data);
    job->linger_source = g_timeout_add_seconds (BANGER_JOB_LINGER_SECONDS, linger_over, job);
  }
  if (job->end)
    job->end (job, error, job->end_data);
}

typedef struct {
  BangerJob *job;
  GError *error;
} Ending;

static gboolean
finish_now (gpointer data)
{
  g_autofree Ending *ending = data;
  g_autoptr (BangerJob) job = ending->job;
  g_autoptr (GError) error = ending->error;
  banger_job_finish (job, error);
  return G_SOURCE_REMOVE;
}

void
banger_job_finish_later (BangerJob *job, GError *error)
{
  Ending *ending = g_new (Ending, 1);
  *ending = (Ending){ banger_job_ref (job), error };
  g_idle_add_full (G_PRIORITY_DEFAULT, finish_now, ending, NULL);
}

void
banger_job_keep (BangerJob *job, BangerJobEnd end, gpointer data)
{
  job->end = end;
  job->end_data = data;
}

struct BangerJobProgress {
  gatomicrefcount refs;
  BangerJob *job;      /* main thread only; NULL once freed */
  GMutex lock;         /* of what follows */
  char *stage;         /* NULL: none to apply */
  GPtrArray *warnings; /* to apply */
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
  g_ptr_array_unref (handle->warnings);
  g_free (handle);
}

static gboolean
progress_apply (gpointer data)
{
  BangerJobProgress *handle = data;
  g_mutex_lock (&handle->lock);
  double fraction = handle->fraction;
  g_autofree char *stage = g_steal_pointer (&handle->stage);
  g_autoptr (GPtrArray) warnings = g_steal_pointer (&handle->warnings);
  handle->warnings = g_ptr_array_new_with_free_func (g_free);
  handle->queued = FALSE;
  g_mutex_unlock (&handle->lock);
  if (!handle->job)
    return G_SOURCE_REMOVE;
  for (guint i = 0; i < warnings->len; i++)
    banger_job_warn (handle->job, warnings->pdata[i]);
  if (stage)
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
  handle->warnings = g_ptr_array_new_with_free_func (g_free);
  handle->job = !job ? NULL : banger_job_ref (job);
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
banger_job_progress_warn (const char *text, gpointer data)
{
  BangerJobProgress *handle = data;
  g_mutex_lock (&handle->lock);
  g_ptr_array_add (handle->warnings, g_strdup (text));
  progress_queue (handle);
}

void
banger_job_progress_free (BangerJobProgress *handle)
{
  if (!handle)
    return;
  g_clear_pointer (&handle->job, banger_job_unref);
  progress_unref (handle);
}
