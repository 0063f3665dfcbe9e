/* vm workspace prepare: a work tree into a VM that runs, again or for the first time.
 * Called through the command table.
 * Never asks twice what a tree is: the manager says so. */
#include "cli/commands.h"

#include "cli/guest-script.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/error.h"

int
banger_vm_workspace_prepare (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  const char *name = banger_invocation_argument (invocation, 0), *path = banger_invocation_argument (invocation, 1);
  if (banger_workspace_options_check (invocation, error) < 0)
    return -1;
  if (!(path ? banger_guest_find (&guest, name, error) : banger_guest_find_workspace (&guest, name, error)))
    return -1;
  if (!path)
    path = guest.workspace;
  if (banger_invocation_flag (invocation, "dry-run"))
    return banger_workspace_dry_run (guest.client, path, invocation, error) ? 0 : -1;
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  g_autofree char *absolute = banger_absolute_path (path, error);
  if (!absolute)
    return -1;
  g_autofree char *folder = client ? banger_workspace_check (client, path, absolute, invocation, error) : NULL;
  return folder && banger_workspace_import (client, guest.name, absolute, invocation, error) ? 0 : -1;
}
