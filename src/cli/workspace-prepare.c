/* vm workspace prepare: a work tree into a VM that runs, again or for the first time; and whether that is due.
 * Called through the command table and by vm exec.
 * Never asks twice what a tree is: the manager says so. */
#include "cli/commands.h"

#include <glib/gi18n.h>
#include <limits.h>

#include "cli/guest-script.h"
#include "cli/verbs.h"
#include "cli/vm-options.h"
#include "common/error.h"
#include "common/git-cage.h"
#include "common/log.h"

#define MAX_ANSWER 256

static gboolean
send_tree (const BangerGuest *guest, const char *path, const BangerInvocation *invocation, JsonObject *before,
           GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_JOBS, error);
  g_autofree char *absolute = client ? banger_absolute_path (path, error) : NULL;
  g_autofree char *folder = absolute ? banger_workspace_check (client, path, absolute, invocation, before, error)
                                     : NULL;
  return folder && banger_workspace_import (client, guest->name, absolute, invocation, before, error);
}

gboolean
banger_workspace_again (const char *name, const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  return banger_guest_find_workspace (&guest, name, error)
         && send_tree (&guest, guest.workspace, invocation, guest.vm, error);
}

/* Whatever keeps the tree from saying so is none of the command's. */
void
banger_workspace_tell_moved (JsonObject *vm)
{
  static const char *const words[] = { "rev-parse", "-q", "--verify", "HEAD", NULL };
  const char *name = banger_property_string (vm, "Name"), *top = banger_property_string (vm, "Workspace");
  const char *then = json_object_has_member (vm, "WorkspaceHead") ? banger_property_string (vm, "WorkspaceHead") : "";
  g_autoptr (GString) now = *then ? banger_git_run (top, words, MAX_ANSWER, NULL, NULL) : NULL;
  g_autofree char *head = now ? g_strchomp (g_strdup (now->str)) : NULL, *shown = banger_log_escape (top, PATH_MAX);
  if (head && !g_str_equal (head, then))
    g_printerr (_ ("HEAD has moved in %s since it was sent to %s: `banger vm exec --sync` sends it again\n"), shown,
                name);
}

int
banger_vm_workspace_prepare (const BangerInvocation *invocation, GError **error)
{
  g_auto (BangerGuest) guest = { 0 };
  const char *name = banger_invocation_argument (invocation, 0), *path = banger_invocation_argument (invocation, 1);
  if (banger_workspace_options_check (invocation, error) < 0)
    return -1;
  if (!(path ? banger_guest_find (&guest, name, error) : banger_guest_find_workspace (&guest, name, error)))
    return -1;
  JsonObject *before = path ? NULL : guest.vm;
  if (!path)
    path = guest.workspace;
  if (banger_invocation_flag (invocation, "dry-run"))
    return banger_workspace_dry_run (guest.client, path, invocation, before, error) ? 0 : -1;
  return send_tree (&guest, path, invocation, before, error) ? 0 : -1;
}
