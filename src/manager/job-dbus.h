/* Jobs on the bus, and the run: one verb under way on behalf of one call.
 * Used by manager-dbus.c and every file with verbs that take time.
 * Never decides what a verb does. */
#pragma once

#include "manager/dispatch.h"

extern const sd_bus_vtable banger_job_vtable[];
extern const BangerMember banger_job_members[];

typedef struct {
  const char *kind; /* "start-vm", static */
  gboolean cancelable;
  gboolean wait; /* hold the reply until the end */
  BangerObjectKind object_kind;
  const char *object_id;
} BangerRunSpec;

typedef struct BangerRun BangerRun;

/**
 * banger_run_new:
 * Makes the job; answers @call with its path now, or, if asked to wait, when the run ends.
 * Returns: %NULL with an error when there are too many jobs: @call is then still to be answered.
 */
BangerRun *banger_run_new (BangerCall *call, const BangerRunSpec *spec, GError **error);
BangerJob *banger_run_job (BangerRun *run);
/** banger_run_end: ends the job and frees @run. @error: (transfer none) (nullable). */
void banger_run_end (BangerRun *run, const GError *error);

/** banger_job_emit_new, banger_job_emit_removed: the Manager's JobNew and JobRemoved. */
void banger_job_emit_new (BangerDispatch *dispatch, BangerJob *job);
void banger_job_emit_removed (BangerDispatch *dispatch, BangerJob *job);
