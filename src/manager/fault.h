/* Ends the daemon at a named stage, so that tests can see what a crash there leaves.
 * Called between the steps of long work in the manager.
 * Never does anything in builds without -Dfault-hooks=true. */
#pragma once

#include <glib.h>

#if BANGER_FAULT_HOOKS
/** banger_fault_point: SIGKILL to this process if $BANGER_FAULT is @stage. */
void banger_fault_point (const char *stage);
#else
#define banger_fault_point(stage) ((void)0)
#endif
