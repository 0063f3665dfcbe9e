/* Something that takes long, while it is under way: who asked, stage, progress, cancel, end. What has more to it, as a verb
 * on a VM, begins with a BangerJob.
 * Never touched from a worker thread: marshal first (banger_job_progress_new()). */
#pragma once

#include <gio/gio.h>

#include "common/progress.h"
#include "manager/core/object.h"

typedef struct BangerJob BangerJob;
typedef struct BangerJobs BangerJobs; /* the table of all jobs */

#define BANGER_JOB_LIMIT 256         /* running at once */
#define BANGER_JOB_LINGER_SECONDS 60 /* a finished job stays readable */
#define BANGER_JOB_FINISHED_LIMIT 256
#define BANGER_JOB_WARNINGS_LIMIT 16

/* What is asked of a bangerd that takes no more jobs. */
#define BANGER_TEXT_ENDING "bangerd is about to end: ask again in a moment"

typedef enum {
  BANGER_JOB_RUNNING,
  BANGER_JOB_DONE,
  BANGER_JOB_FAILED,
  BANGER_JOB_CANCELLED,
  BANGER_N_JOB_STATES,
} BangerJobState;

const char *banger_job_state_to_string (BangerJobState state);

/* What the table tells. */
typedef struct {
  BangerObserver objects;
  void (*begun) (BangerJob *job, gpointer user_data);
  void (*ended) (BangerJob *job, gpointer user_data);
} BangerJobObserver;

/** banger_jobs_new: @observer: static; gets @user_data. */
BangerJobs *banger_jobs_new (const BangerJobObserver *observer, gpointer user_data);
void banger_jobs_free (BangerJobs *jobs);
BangerJob *banger_jobs_find (BangerJobs *jobs, const char *id); /* (transfer none) (nullable) */
GPtrArray *banger_jobs_ids (BangerJobs *jobs);                  /* (transfer container): const char * */
/**
 * banger_jobs_end:
 * From now on no new job is taken; every running one that can be cancelled is asked to end. Returns: how many run.
 */
guint banger_jobs_end (BangerJobs *jobs);

/* On whose behalf the root helper is asked: goes with every call to it. */
typedef struct {
  const char *op_id;    /* nullable */
  gboolean interactive; /* the client allowed a prompt */
} BangerCaller;

/** BangerJobEnd: a job has ended, and everybody else was told. */
typedef void (*BangerJobEnd) (BangerJob *job, const GError *error, gpointer data);

/* Read by all, changed by job.c. */
struct BangerJob {
  gatomicrefcount refs;
  BangerJobs *jobs;     /* NULL: nobody sees it, or the table is gone */
  BangerJob *whole;     /* that it is a part of; NULL */
  BangerJob *shared;    /* that it waits for together with others; NULL */
  GPtrArray *followers; /* who wait for it together, BangerJob; NULL: nobody does */
  char *id;             /* op id without "op-"; NULL if nobody sees it */
  char *op_id;          /* NULL if nobody asked for it */
  BangerCaller caller;
  const char *kind;
  BangerJobState state;
  char *stage;         /* never NULL */
  double progress;     /* 0..1, -1 unknown */
  gint64 announced_at; /* monotonic µs, of the last progress */
  guint announce_source;
  gint64 started_at; /* µs since the epoch */
  gint64 started_monotonic;
  gboolean cancelable;       /* as long as it runs: banger_job_cancelable() */
  GError *error;             /* NULL unless failed or cancelled */
  GPtrArray *warnings;       /* of char *: sentences for people; ends with NULL */
  GCancellable *cancellable; /* of the work: cancelled by Job.Cancel, and by whatever else is to end it */
  BangerObjectKind object_kind;
  char *object_id; /* NULL: of none */
  guint linger_source;
  void (*begin) (BangerJob *job);
  BangerJobEnd end; /* NULL: no call is kept */
  gpointer end_data;
};

typedef struct {
  /* Who asked. */
  const char *kind; /* "create-vm", static string */
  const char *op_id;
  gboolean cancelable;
  gboolean interactive; /* the client allowed a prompt: forwarded to the helper */
  /* What is done, filled in by who does it. */
  gsize size;                     /* of what begins with the job; 0: there is no more to it */
  void (*begin) (BangerJob *job); /* whose end is that of the job */
  BangerObjectKind object_kind;
  const char *object_id; /* NULL: of none */
} BangerJobSpec;

/**
 * banger_job_new:
 * A running job in the table. %BANGER_ERROR_LIMITS_EXCEEDED when there are %BANGER_JOB_LIMIT running ones.
 * Returns: (transfer none): valid until the job is forgotten; take a reference to keep it longer.
 */
BangerJob *banger_job_new (BangerJobs *jobs, const BangerJobSpec *spec, GError **error);
/**
 * banger_job_new_part:
 * One that nobody sees. @whole: (nullable): what it is a part of: that has its stages, progress and warnings, and ends it
 * if it is cancelled. @size: as BangerJobSpec. Returns: (transfer full).
 */
BangerJob *banger_job_new_part (gsize size, BangerJob *whole);
/**
 * banger_job_follow:
 * One that everybody sees of @shared, which nobody sees (banger_job_new_part() without a whole): it has its stages, progress and
 * warnings, and ends with it. Cancelled, it ends as that at once while others follow, too; the last one to be cancelled cancels
 * @shared, whose end is its own then. @spec: size unused. Returns: as banger_job_new().
 */
BangerJob *banger_job_follow (BangerJob *shared, BangerJobs *jobs, const BangerJobSpec *spec, GError **error);
/** banger_job_begin: once, when whoever asked for it knows of it. */
void banger_job_begin (BangerJob *job);
BangerJob *banger_job_ref (BangerJob *job);
void banger_job_unref (BangerJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerJob, banger_job_unref)

/** banger_job_cancelable: whether it can be cancelled now. */
gboolean banger_job_cancelable (const BangerJob *job);

/** banger_job_set_stage: lower-case words, "copying root disk"; the progress becomes unknown. */
void banger_job_set_stage (BangerJob *job, const char *stage);
/** banger_job_warn: one more sentence on what is odd but no failure; logged, too. */
void banger_job_warn (BangerJob *job, const char *text);
/** banger_job_set_progress: announced at most ten times a second. */
void banger_job_set_progress (BangerJob *job, double fraction);
/** banger_job_set_cancelable: %FALSE from the point on where going back is no longer possible. */
void banger_job_set_cancelable (BangerJob *job, gboolean cancelable);

/** banger_job_cancel: asks the job to end; it ends later through banger_job_finish(). WrongState if it ended or cannot.
 */
gboolean banger_job_cancel (BangerJob *job, GError **error);

/**
 * banger_job_finish:
 * Ends the job: done without @error; cancelled for %BANGER_ERROR_CANCELLED or %G_IO_ERROR_CANCELLED; else failed.
 * Called once. @error: (transfer none) (nullable).
 */
void banger_job_finish (BangerJob *job, const GError *error);
/** banger_job_finish_later: likewise, from the main loop: who is told may free what the caller still uses. @error:
 * (transfer full) (nullable). */
void banger_job_finish_later (BangerJob *job, GError *error);
/** banger_job_keep: @data, a call that waits for the end of @job, is kept in it until then: @end is called once. */
void banger_job_keep (BangerJob *job, BangerJobEnd end, gpointer data);

/* Progress from worker threads: pass banger_job_progress_report as the BangerProgress, banger_job_progress_stage as the
 * stage callback, with the handle as their data; the main loop applies the newest values. Free the handle in the main
 * thread when the worker has ended. */
typedef struct BangerJobProgress BangerJobProgress;
BangerJobProgress *banger_job_progress_new (BangerJob *job);
void banger_job_progress_report (double fraction, gpointer handle);
void banger_job_progress_stage (const char *stage, gpointer handle);
void banger_job_progress_warn (const char *text, gpointer handle);
void banger_job_progress_free (BangerJobProgress *handle);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerJobProgress, banger_job_progress_free)
