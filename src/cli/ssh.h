/* A command or a shell in a guest, by OpenSSH with the manager's keys.
 * Used by vm run, vm ssh and vm exec.
 * Never reads the user's ssh configuration, never trusts a host key on first use. */
#pragma once

#include <json-glib/json-glib.h>

#include "cli/client.h"

typedef struct {
  char *name; /* of the VM, for messages */
  char *address;
  char *identity_file;
  char *known_hosts_file;
  char *host_key_alias;
} BangerSshTarget;

/** banger_ssh_target_new: from the properties of a VM. WrongState with what to do unless it is running. */
BangerSshTarget *banger_ssh_target_new (JsonObject *vm, GError **error);
void banger_ssh_target_free (BangerSshTarget *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSshTarget, banger_ssh_target_free)

typedef struct {
  gboolean terminal;        /* make one in the guest */
  const char *cwd;          /* NULL: the guest's default */
  const char *const *words; /* the command; NULL: the login shell */
} BangerSshCommand;

/**
 * banger_ssh_argv:
 * @log: file that ssh writes its own messages to. See ssh(1), ssh_config(5).
 * Returns: (transfer full): argv; the command's words are coded as exec-words.h says.
 */
char **banger_ssh_argv (const BangerSshTarget *target, const BangerSshCommand *command, const char *log);

/**
 * banger_ssh_run:
 * Runs ssh with our stdin, stdout and stderr and waits for its end. SIGINT, SIGTERM and SIGHUP are handed on to it.
 * @ret_status: exit status of the command; 128 and the signal's number if @client's process was told to end.
 * Returns: %FALSE with %BANGER_ERROR_GUEST_FAILED if there was no connection, or it was lost before a status came.
 */
gboolean banger_ssh_run (BangerClient *client, const BangerSshTarget *target, const BangerSshCommand *command,
                         int *ret_status, GError **error);

/**
 * banger_ssh_outcome:
 * What ssh's exit @status and its @log mean. ssh exits 255 for its own failures, for a command's 255 and for a command
 * that a signal ended; only the log tells them apart.
 */
gboolean banger_ssh_outcome (const char *name, int status, const char *log, int *ret_status, GError **error);
