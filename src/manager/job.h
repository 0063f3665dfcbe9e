/* A long operation as an object: stage, progress, end.
 * Made by the bus side at dispatch, driven by vm.c and asset.c, shown by job-dbus.c.
 * Never touched from a worker thread: marshal first (banger_job_progress_new()). */
#pragma once

#include <gio/gio.h>

#include "manager/object.h"

typedef struct BangerManager BangerManager; /* manager.h */
typedef struct BangerJob BangerJob;

#define BANGER_JOB_LIMIT 64          /* running at once */
#define BANGER_JOB_LINGER_SECONDS 60 /* a finished job stays readable */
#define BANGER_JOB_FINISHED_LIMIT 256

typedef enum {
  BANGER_JOB_RUNNING,
  BANGER_JOB_DONE,
  BANGER_JOB_FAILED,
  BANGER_JOB_CANCELLED,
  BANGER_N_JOB_STATES,
} BangerJobState;

const char *banger_job_state_to_string (BangerJobState state);
int banger_job_state_from_string (const char *word); /* -1 if unknown */

typedef struct {
  const char *kind; /* "create-vm", static string */
  const char *op_id;
  gboolean cancelable;
  gboolean interactive; /* the client allowed a prompt: forwarded to the helper */
  BangerObjectKind object_kind;
  const char *object_id; /* NULL: not known yet */
} BangerJobSpec;

/**
 * banger_job_new:
 * A running job in the manager's table. %BANGER_ERROR_LIMITS_EXCEEDED when there are %BANGER_JOB_LIMIT running ones.
 * Returns: (transfer none): valid until the job is forgotten; take a reference to keep it longer.
 */
BangerJob *banger_job_new (BangerManager *manager, const BangerJobSpec *spec, GError **error);
BangerJob *banger_job_ref (BangerJob *job);
void banger_job_unref (BangerJob *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerJob, banger_job_unref)

const char *banger_job_id (BangerJob *job);    /* op id without "op-" */
const char *banger_job_op_id (BangerJob *job); /* pass it to every helper call */
const char *banger_job_kind (BangerJob *job);
BangerJobState banger_job_state (BangerJob *job);
const char *banger_job_stage (BangerJob *job); /* never NULL */
double banger_job_progress (BangerJob *job);   /* 0..1, -1 unknown */
gint64 banger_job_started_at (BangerJob *job); /* µs since the epoch */
gboolean banger_job_cancelable (BangerJob *job);
const GError *banger_job_error (BangerJob *job);       /* NULL unless failed or cancelled */
GCancellable *banger_job_cancellable (BangerJob *job); /* cancelled by Job.Cancel */
gboolean banger_job_interactive (BangerJob *job);
/** banger_job_object: @ret_kind is written only if an object is known. Returns: (transfer none): its id or %NULL. */
const char *banger_job_object (BangerJob *job, BangerObjectKind *ret_kind);

/** banger_job_set_stage: lower-case words, "copying root disk"; the progress becomes unknown. A %NULL @job is ignored
 * (also below). */
void banger_job_set_stage (BangerJob *job, const char *stage);
/** banger_job_set_progress: announced at most ten times a second. */
void banger_job_set_progress (BangerJob *job, double fraction);
void banger_job_set_object (BangerJob *job, BangerObjectKind kind, const char *id);
/** banger_job_set_cancelable: %FALSE from the point on where going back is no longer possible. */
void banger_job_set_cancelable (BangerJob *job, gboolean cancelable);

/** banger_job_cancel: asks the job to end; it ends later through banger_job_finish(). WrongState if it ended or cannot.
 */
gboolean banger_job_cancel (BangerJob *job, GError **error);

/**
 * banger_job_finish:
 * Ends the job: done without @error; cancelled for %BANGER_ERROR_CANCELLED or %G_IO_ERROR_CANCELLED; else failed.
 * Called once, by whoever dispatched the verb, never by the verb itself. @error: (transfer none) (nullable).
 */
void banger_job_finish (BangerJob *job, const GError *error);

/* Progress from worker threads: pass banger_job_progress_report as the BangerProgress, banger_job_progress_stage as the
 * stage callback, with the handle as their data; the main loop applies the newest values. Free the handle in the main
 * thread when the worker has ended. */
typedef struct BangerJobProgress BangerJobProgress;
BangerJobProgress *banger_job_progress_new (BangerJob *job);
void banger_job_progress_report (double fraction, gpointer handle);
void banger_job_progress_stage (const char *stage, gpointer handle);
void banger_job_progress_free (BangerJobProgress *handle);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerJobProgress, banger_job_progress_free)
