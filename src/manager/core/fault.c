/* Ends the daemon at a named stage, or lets a worker hang there, so that tests can see what that leaves.
 * Called between the steps of long work in the manager.
 * Never does anything in builds without -Dfault-hooks=true. */
#include "manager/core/fault.h"

#include <signal.h>
#include <unistd.h>

#include "common/log.h"
#include "common/names.h"

#define LOOK_USEC 10000

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

static gint hung;

static gboolean
hangs (const char *path, const char *stage)
{
  g_autofree char *text = NULL;
  if (!path || !g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  return g_strv_contains ((const char *const *)lines, stage);
}

void
banger_fault_hang (const char *stage)
{
  const char *path = g_getenv (BANGER_ENV_FAULT_HANG);
  if (!hangs (path, stage))
    return;
  banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_STAGE, stage), "fault hook: hanging at stage %s", stage);
  g_atomic_int_inc (&hung);
  while (hangs (path, stage))
    g_usleep (LOOK_USEC);
  g_atomic_int_add (&hung, -1);
}

guint
banger_fault_hung (void)
{
  return (guint)g_atomic_int_get (&hung);
}

guint
banger_fault_patience (void)
{
  const char *text = g_getenv (BANGER_ENV_FAULT_PATIENCE);
  return text ? (guint)CLAMP (g_ascii_strtoull (text, NULL, 10), 1, 100) : 1;
}
#endif
