/* CreateVM's options from the command line, and the checks of a workspace.
 * Used by vm create and vm run.
 * Never makes anything. */
#pragma once

#include "cli/client.h"
#include "cli/command.h"

typedef struct {
  gboolean start;
  gboolean ephemeral;
} BangerVmPurpose;

/** banger_vm_options_check: that --memory is whole MiB. Returns: -1 with a usage error, else 0. */
int banger_vm_options_check (const BangerInvocation *invocation, GError **error);
/** banger_vm_create_message: a CreateVM call; what is not given is left to the manager. */
sd_bus_message *banger_vm_create_message (BangerClient *client, const char *name, const BangerInvocation *invocation,
                                          const BangerVmPurpose *purpose);

/** banger_vm_name_new: Returns: (transfer full): a fresh DNS label that begins like @hint, or with "vm" (%NULL). */
char *banger_vm_name_new (const char *hint);

typedef struct {
  char *path; /* absolute, as given */
  char *repo; /* name of the work tree's top folder: /root/<repo> in the guest */
} BangerWorkspace;

/**
 * banger_workspace_find:
 * That @path is a directory in a git work tree. Usage errors say how it was perhaps meant.
 * Returns: (transfer full): %NULL on error.
 */
BangerWorkspace *banger_workspace_find (const char *path, GError **error);
void banger_workspace_free (BangerWorkspace *workspace);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerWorkspace, banger_workspace_free)
