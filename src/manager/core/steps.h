/* Runs a table of asynchronous steps: each as soon as those it needs are done, each bounded, each with its undo.
 * Never forgets a step that was begun: on failure or cancellation the undo of every begun step runs, last begun first. */
#pragma once

#include <gio/gio.h>

typedef void (*BangerStepRun) (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback,
                               gpointer user_data);
typedef gboolean (*BangerStepFinish) (GAsyncResult *result, GError **error);

#define BANGER_STEP(index) (1u << (index))
#define BANGER_STEPS_MAX 32
#define BANGER_STEP_BOUNDS_ITSELF G_MAXUINT /* a call of the helper: its time begins when it is sent */

typedef struct {
  const char *name;                 /* "create-tap": fault point, log field, first word of error messages */
  const char *stage;                /* what people read while it runs; NULL keeps the stage before */
  guint32 needs;                    /* BANGER_STEP() of those that come before */
  guint seconds;                    /* how long it may take; 0: as long as the run says; %BANGER_STEP_BOUNDS_ITSELF */
  const char *waiting_for;          /* "guest ready": what a timeout says did not come; NULL: the name */
  int timeout_code;                 /* of BangerError; 0: %BANGER_ERROR_TIMEOUT */
  BangerStepRun run;                /* completes with a GTask; honours @cancellable soon */
  BangerStepFinish finish;          /* NULL: the GTask carries a boolean */
  BangerStepRun undo;               /* idempotent; also for a step that failed half-way; NULL if it leaves nothing. Its
                                   @cancellable says that the time of all undos is over: it ends soon then */
  BangerStepFinish undo_finish;     /* NULL: as above */
  gboolean (*skip) (gpointer data); /* whether there is nothing to do for it; NULL: there always is */
  /* In place of finish, where the answer changes something. */
  gboolean (*take) (gpointer data, GAsyncResult *result, GError **error);
} BangerStep;

typedef struct {
  const BangerStep *table;
  guint n;       /* at most %BANGER_STEPS_MAX */
  guint seconds; /* how long a step may take that does not say it itself */
  /* Told when a step begins (@done FALSE) and when it succeeded, with the time it took; and of each undo (@undo). */
  void (*report) (const BangerStep *step, gboolean done, gboolean undo, gint64 usec, gpointer data);
  gpointer data; /* given to all functions of the table */
} BangerSteps;

typedef struct BangerStepsRun BangerStepsRun;

/**
 * banger_steps_run_async:
 * @steps: copied; its table outlives the run. @cancellable: ends it, with everything undone.
 * Returns: (transfer none): valid until @callback; for banger_steps_fail().
 */
BangerStepsRun *banger_steps_run_async (const BangerSteps *steps, GCancellable *cancellable,
                                        GAsyncReadyCallback callback, gpointer user_data);
/**
 * banger_steps_run_finish:
 * The first step's error; errors of undo steps are joined to its message ("; undo create-tap: ...").
 */
gboolean banger_steps_run_finish (GAsyncResult *result, GError **error);

/** banger_steps_fail: ends @run from outside, as if a step had failed with @error (transfer full). */
void banger_steps_fail (BangerStepsRun *run, GError *error);
