/* Into a running VM: by its agent where a command can go so, else by ssh.
 * Never starts a VM. */
#pragma once

#include "cli/client.h"
#include "cli/command.h"

/** banger_enter_check: what of @invocation's options and tail no guest could do. Returns: -1 with a usage error. */
int banger_enter_check (const BangerInvocation *invocation, GError **error);

typedef struct {
  const char *cwd; /* NULL: the image's, or the home of whoever it is */
  gboolean
      recorded; /* where that is not said: where a work tree was sent, and whether the host has gone on since is told */
  gboolean own_tree; /* there is a work tree of root's: the image's user could not enter it */
} BangerPlace;

/**
 * banger_enter:
 * @invocation's tail as a command, or what the image starts with, or a shell, with its options env, user, tty and
 * no-stdin; of a command that has no such options none is looked at. Returns: exit status; -1 with @error.
 */
int banger_enter (BangerClient *client, const char *name, const BangerPlace *place, const BangerInvocation *invocation,
                  GError **error);

/** banger_enter_by_ssh: likewise, by ssh alone. */
int banger_enter_by_ssh (BangerClient *client, const char *name, const BangerInvocation *invocation, GError **error);
