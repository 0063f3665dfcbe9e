/* A command or a shell in a guest, by OpenSSH with the manager's keys.
 * Never reads the user's ssh configuration, never trusts a host key on first use. */
#pragma once

#include <json-glib/json-glib.h>

#include "cli/client.h"

typedef struct {
  char *name; /* of the VM, for messages */
  char *path; /* its object */
  char *address;
  char *login_user;
  char *identity_file;
  char *known_hosts_file;
  char *host_key_alias;
  gboolean starting; /* its ssh server does not listen yet: it is waited for */
} BangerSshTarget;

/** banger_vm_running_check: of the properties of a VM: WrongState with what to do unless it is running. */
gboolean banger_vm_running_check (JsonObject *vm, GError **error);

/** banger_ssh_target_new: from the properties of a VM. WrongState with what to do unless it is running. */
BangerSshTarget *banger_ssh_target_new (JsonObject *vm, const char *path, GError **error);
void banger_ssh_target_free (BangerSshTarget *target);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSshTarget, banger_ssh_target_free)

typedef struct {
  gboolean terminal;        /* make one in the guest */
  const char *cwd;          /* NULL: the guest's default */
  const char *const *words; /* the command; NULL: the login shell */
  gboolean no_stdin;        /* it reads nothing of ours */
  const char *keep;         /* instead of a command: keeps what comes on stdin as words of this id */
  const char *kept;         /* the words are there by this id */
} BangerSshCommand;

/** banger_ssh_wait: until the ssh server of a VM that was restored listens, half a minute at most, or until a signal. */
void banger_ssh_wait (BangerClient *client, const char *name);

/** banger_ssh_words_check: that a guest's execve(2) takes @words. Returns: -1 with a usage error that says which is too
 * long, else 0. */
int banger_ssh_words_check (const char *const *words, GError **error);

/** banger_ssh_coded_words: Returns: (transfer full): what is to be kept first; %NULL: @words fit on ssh's command line.
 */
char *banger_ssh_coded_words (const char *const *words);

/**
 * banger_ssh_session_argv:
 * @log: file that ssh writes its own messages to. See ssh(1), ssh_config(5).
 * Returns: (transfer full): argv; the command's words are coded as exec-words.h says.
 */
char **banger_ssh_session_argv (const BangerSshTarget *target, const BangerSshCommand *command, const char *log);

/**
 * banger_ssh_run:
 * Runs ssh with our stdin, stdout and stderr and waits for its end. SIGINT, SIGTERM and SIGHUP are handed on to it; it
 * ends when the VM does, by whoever's will, and when this process does, however.
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
