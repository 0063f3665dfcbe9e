/* Ends the daemon at a named stage, so that tests can see what a crash there leaves.
 * Called between the steps of long work in the manager.
 * Never does anything in builds without -Dfault-hooks=true. */
#include "manager/fault.h"

#include <signal.h>
#include <unistd.h>

#include "common/log.h"
#include "common/names.h"

#if BANGER_FAULT_HOOKS
void
banger_fault_point (const char *stage)
{
  if (g_strcmp0 (g_getenv (BANGER_ENV_FAULT), stage) != 0)
    return;
  banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_STAGE, stage), "fault hook: ending at stage %s", stage);
  kill (getpid (), SIGKILL);
  pause ();
}
#endif
