/* CreateVM's options from the command line, and the checks of a workspace.
 * Never makes anything. */
#pragma once

#include "cli/client.h"
#include "cli/command.h"
#include "cli/objects.h"

typedef struct {
  gboolean start;
  gboolean ephemeral;
  const char *setup; /* NULL: none */
} BangerVmPurpose;

/** banger_vm_sizes_check: of --memory alone. */
int banger_vm_sizes_check (const BangerInvocation *invocation, GError **error);
/** banger_vm_options_check: that --memory is whole MiB. Returns: -1 with a usage error, else 0. */
int banger_vm_options_check (const BangerInvocation *invocation, GError **error);
/** banger_vm_setup_read: @ret: (transfer full): the script that --setup names, NULL without it. Once for all: the file may
 * go or change meanwhile. Returns: -1 with a usage error, else 0. */
int banger_vm_setup_read (const BangerInvocation *invocation, char **ret, GError **error);
/** banger_vm_append_sizes: to open options, those of --vcpu, --memory and --disk-size that are given. */
void banger_vm_append_sizes (sd_bus_message *message, const BangerInvocation *invocation);
/** banger_vm_append_reach: --link and --allow-host. */
void banger_vm_append_reach (sd_bus_message *message, const BangerInvocation *invocation);
/** banger_vm_create_message: a CreateVM call; what is not given is left to the manager. */
sd_bus_message *banger_vm_create_message (BangerClient *client, const char *name, const BangerInvocation *invocation,
                                          const BangerVmPurpose *purpose);

/** banger_vm_name_new: Returns: (transfer full): a fresh DNS label that begins like @hint, or with "vm" (%NULL). */
char *banger_vm_name_new (const char *hint);

/* @before: (nullable): a VM into which that tree was sent: what was asked for then, history, ignored files and all, is so
 * again where the command line says nothing of it. A command without these options has none given. */

/**
 * banger_workspace_check:
 * Asks the manager whether @absolute, which was given as @path, is in a git work tree that can be copied.
 * Usage errors say how it was perhaps meant.
 * Returns: (transfer full): the folder that it becomes in the guest; %NULL on error.
 */
char *banger_workspace_check (BangerClient *client, const char *path, const char *absolute,
                              const BangerInvocation *invocation, JsonObject *before, GError **error);
/** banger_workspace_dry_run: the same, and shows what would go. */
gboolean banger_workspace_dry_run (BangerClient *client, const char *path, const BangerInvocation *invocation,
                                   JsonObject *before, GError **error);
/** banger_workspace_options_check: of those options alone. Returns: -1 with a usage error, else 0. */
int banger_workspace_options_check (const BangerInvocation *invocation, GError **error);
/** banger_workspace_import: into the running VM @name. */
gboolean banger_workspace_import (BangerClient *client, const char *name, const char *absolute,
                                  const BangerInvocation *invocation, JsonObject *before, GError **error);
/** banger_workspace_again: the tree that was sent into the running VM @name, as it was. */
gboolean banger_workspace_again (const char *name, const BangerInvocation *invocation, GError **error);
/** banger_workspace_tell_moved: says so on stderr if HEAD is another one here than when the tree of @vm was sent. */
void banger_workspace_tell_moved (JsonObject *vm);
