/* vm ssh and vm exec: into a VM that runs.
 * Called through the command table.
 * Never starts a VM. */
#include "cli/commands.h"

#include "cli/enter.h"
#include "cli/vm-options.h"

int
banger_vm_ssh (const BangerInvocation *invocation, GError **error)
{
  if (banger_enter_check (invocation, error) < 0)
    return -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  return client ? banger_enter_by_ssh (client, banger_invocation_argument (invocation, 0), invocation, error) : -1;
}

int
banger_vm_exec (const BangerInvocation *invocation, GError **error)
{
  if (banger_enter_check (invocation, error) < 0)
    return -1;
  if (banger_invocation_flag (invocation, "sync")
      && !banger_workspace_again (banger_invocation_argument (invocation, 0), invocation, error))
    return -1;
  const BangerPlace place = { .cwd = banger_invocation_string (invocation, "cwd"), .recorded = TRUE };
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  return client ? banger_enter (client, banger_invocation_argument (invocation, 0), &place, invocation, error) : -1;
}
