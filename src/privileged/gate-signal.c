/* The gate on signals (requirement B8).
 * Never takes a number: what 9 means is not for a caller to count. */
#include <signal.h>
#include <string.h>

#include "common/log.h"
#include "privileged/gate.h"

static const struct {
  const char *name;
  int number;
} allowed[] = {
  { "TERM", SIGTERM }, { "KILL", SIGKILL }, { "INT", SIGINT },   { "HUP", SIGHUP },
  { "QUIT", SIGQUIT }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "ABRT", SIGABRT },
};

gboolean
banger_gate_signal (const char *name, int *ret_signal, GError **error)
{
  const char *word = g_ascii_strncasecmp (name, "SIG", 3) == 0 ? name + 3 : name;
  for (size_t i = 0; i < G_N_ELEMENTS (allowed); i++)
    if (g_ascii_strcasecmp (word, allowed[i].name) == 0) {
      *ret_signal = allowed[i].number;
      return TRUE;
    }
  g_autofree char *shown = banger_log_escape (name, 32);
  return banger_set_error (error, BANGER_ERROR_INVALID_SIGNAL,
                           "signal '%s' is not allowed: use TERM, KILL, INT, HUP, QUIT, USR1, USR2 or ABRT", shown);
}
