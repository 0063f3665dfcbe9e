/* vm ssh and vm exec: into a VM that runs.
 * Called through the command table.
 * Never starts a VM. */
#include <glib/gi18n.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/ssh.h"
#include "common/error.h"

static int
enter (const BangerInvocation *invocation, const char *cwd, GError **error)
{
  const char *name = banger_invocation_argument (invocation, 0);
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  g_autoptr (JsonObject) vm = client != NULL ? banger_objects_get (client, &banger_kind_vm, name, NULL, error) : NULL;
  g_autoptr (BangerSshTarget) target = vm != NULL ? banger_ssh_target_new (vm, error) : NULL;
  if (target == NULL)
    return -1;
  const char *const *words = (const char *const *)invocation->tail;
  const BangerSshCommand command = {
    .terminal = words == NULL || (isatty (STDIN_FILENO) && isatty (STDOUT_FILENO)),
    .cwd = cwd,
    .words = words,
  };
  int status;
  return banger_ssh_run (client, target, &command, &status, error) ? status : -1;
}

int
banger_vm_ssh (const BangerInvocation *invocation, GError **error)
{
  return enter (invocation, NULL, error);
}

int
banger_vm_exec (const BangerInvocation *invocation, GError **error)
{
  return enter (invocation, banger_invocation_string (invocation, "cwd"), error);
}
