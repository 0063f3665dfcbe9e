/* Ends the daemon at a named stage, or lets a worker hang there, so that tests can see what that leaves.
 * Called between the steps of long work in the manager.
 * Never does anything in builds without -Dfault-hooks=true. */
#pragma once

#include <glib.h>

#if BANGER_FAULT_HOOKS
/** banger_fault_point: SIGKILL to this process if $BANGER_FAULT is @stage. */
void banger_fault_point (const char *stage);
/** banger_fault_hang: in a worker: waits as long as the file $BANGER_FAULT_HANG has @stage as a line. */
void banger_fault_hang (const char *stage);
guint banger_fault_hung (void); /* workers that do */
/** banger_fault_patience: $BANGER_FAULT_PATIENCE: so many times longer the helper may take; 1 if it is not set. */
guint banger_fault_patience (void);
#else
#define banger_fault_point(stage) ((void)0)
#define banger_fault_hang(stage) ((void)0)
#define banger_fault_hung() (0U)
#define banger_fault_patience() (1U)
#endif
