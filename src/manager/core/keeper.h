/* Who stands between bangerd and a program whose processes are nobody's to believe: whatever that leaves behind falls to
 * the keeper, also what has made a session of its own, and ends with the program.
 * Never lets the program run on when bangerd has gone. */
#pragma once

#include <glib.h>
#include <signal.h>
#include <sys/types.h>

#define BANGER_KEEPER_END SIGUSR1 /* to it: kill all that is left */
#define BANGER_KEEPER_SECONDS 10  /* for that */

/**
 * banger_keeper_stand_between:
 * Of the child of a fork that is about to execute the program: returns in a child of its own, which does so; it stays as
 * the keeper, and ends, when nothing is left, with the program's status (128 and the signal for one that a signal ended).
 * @parent: bangerd. @patience_seconds: between SIGTERM and SIGKILL, if that goes.
 * Calls nothing that a signal handler may not.
 */
void banger_keeper_stand_between (pid_t parent, guint patience_seconds);
