/* SIGINT, SIGTERM and SIGHUP as something to read, so that work under way can be undone.
 * Never restores the old disposition: the process ends soon anyway. */
#pragma once

#include <glib.h>
#include <signal.h>

/** banger_signals_block: from now on they are read with banger_signals_take(); SIGPIPE is ignored. Idempotent. */
void banger_signals_block (void);
/** banger_signals_fd: Returns: readable when one came; -1 before banger_signals_block(). */
int banger_signals_fd (void);
/** banger_signals_take: Returns: the number of one that came, 0 if none. Never waits. */
int banger_signals_take (void);
/** banger_signals_count: takes all that came. Returns: how many were taken since the start or banger_signals_forget().
 */
guint banger_signals_count (void);
/** banger_signals_forget: they were heeded; what is done next (tidying up) starts to count anew. */
void banger_signals_forget (void);
/** banger_signals_first: Returns: the number of the first one ever taken, 0 if none. */
int banger_signals_first (void);
/** banger_signals_old_mask: the mask of before, for children. */
const sigset_t *banger_signals_old_mask (void);
