/* The ssh command line, its end, and what 255 meant.
 * Never lets a shell see an argument. */
#include "cli/ssh.h"

#include <glib/gi18n.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/objects.h"
#include "common/error.h"
#include "common/exec-words.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "common/names.h"
#include "common/ssh-option.h"

/* Of execve(2) in the guest: one argument with its NUL, and what there is to be for all. */
#define MAX_WORD_BYTES (128 * 1024 - 1)
#define MAX_WORDS_BYTES (2 * 1024 * 1024 + 64 * 1024)
#define SHOWN_BYTES 40
/* sshd hands a command on as one argument: a longer one is kept in the guest first. */
#define MAX_COMMAND_BYTES (64 * 1024)

void
banger_ssh_target_free (BangerSshTarget *target)
{
  if (!target)
    return;
  g_free (target->name);
  g_free (target->path);
  g_free (target->address);
  g_free (target->login_user);
  g_free (target->identity_file);
  g_free (target->known_hosts_file);
  g_free (target->host_key_alias);
  g_free (target);
}

static gboolean
is_on_its_way (const char *state)
{
  static const char *const states[] = { "creating", "starting", "stopping", "deleting", NULL };
  return g_strv_contains (states, state);
}

gboolean
banger_vm_running_check (JsonObject *vm, GError **error)
{
  const char *name = banger_property_string (vm, "Name"), *state = banger_property_string (vm, "State");
  if (strcmp (state, "running") == 0)
    return TRUE;
  if (strcmp (state, "unknown") == 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             _ ("it is not known yet whether %s runs: %s; `banger doctor` has more"), name,
                             banger_property_string (vm, "StateReason"));
  if (is_on_its_way (state))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, _ ("%s is %s: wait for it"), name, state);
  return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                           strcmp (state, "paused") == 0 ? _ ("%s is %s; have it go on with: banger vm resume %s")
                                                         : _ ("%s is %s; start it with: banger vm start %s"),
                           name, state, name);
}

BangerSshTarget *
banger_ssh_target_new (JsonObject *vm, const char *path, GError **error)
{
  const char *name = json_object_get_string_member_with_default (vm, "Name", "");
  if (!banger_vm_running_check (vm, error))
    return NULL;
  if (strcmp (banger_property_string (vm, "SshServer"), BANGER_SSH_SERVER_MISSING) == 0) {
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                      _ ("%s had no ssh server when it started: `banger vm exec %s -- COMMAND` works without one; for "
                         "`vm ssh` install openssh-server into its root file system and start it again"),
                      name, name);
    return NULL;
  }
  BangerSshTarget *target = g_new0 (BangerSshTarget, 1);
  target->name = g_strdup (name);
  target->path = g_strdup (path);
  target->address = g_strdup (json_object_get_string_member_with_default (vm, "Address", ""));
  target->login_user = g_strdup (json_object_get_string_member_with_default (vm, "LoginUser", "root"));
  target->identity_file = g_strdup (json_object_get_string_member_with_default (vm, "IdentityFile", ""));
  target->known_hosts_file = g_strdup (json_object_get_string_member_with_default (vm, "KnownHostsFile", ""));
  target->starting = strcmp (banger_property_string (vm, "SshServer"), BANGER_SSH_SERVER_STARTING) == 0;
  target->host_key_alias = g_strdup (json_object_get_string_member_with_default (vm, "HostKeyAlias", ""));
  return target;
}

static void
add_word (GPtrArray *argv, const char *argument)
{
  char *word = banger_exec_word_encode (argument);
  if (!word)
    g_error ("out of memory");
  g_ptr_array_add (argv, g_strdup (word));
  free (word);
}

int
banger_ssh_words_check (const char *const *words, GError **error)
{
  gsize all = 0;
  for (guint i = 0; words && words[i]; i++) {
    gsize length = strlen (words[i]);
    g_autofree char *shown = banger_log_escape (words[i], SHOWN_BYTES);
    if (length > MAX_WORD_BYTES)
      return banger_usage_error (error, _ ("argument %u of the command ('%s...') has %zu bytes; one may have %d"),
                                 i + 1, shown, length, MAX_WORD_BYTES);
    all += length;
  }
  if (all > MAX_WORDS_BYTES)
    return banger_usage_error (
        error,
        _ ("the arguments of the command have %zu bytes together; they may have %d: hand the rest "
           "over on stdin or in a file"),
        all, MAX_WORDS_BYTES);
  return 0;
}

char *
banger_ssh_coded_words (const char *const *words)
{
  g_autoptr (GPtrArray) coded = g_ptr_array_new_with_free_func (g_free);
  gsize bytes = 0;
  for (; words && *words; words++) {
    add_word (coded, *words);
    bytes += strlen (coded->pdata[coded->len - 1]) + 1;
  }
  if (bytes <= MAX_COMMAND_BYTES)
    return NULL;
  g_ptr_array_add (coded, NULL);
  return g_strjoinv ("\n", (char **)coded->pdata);
}

char **
banger_ssh_session_argv (const BangerSshTarget *target, const BangerSshCommand *command, const char *log)
{
  static const char *const own[] = {
    /* Adds what tells whether an exit status came, see banger_ssh_outcome(). */
    "LogVerbose=clientloop.c:client_loop():*,clientloop.c:client_input_channel_req():*",
    "ConnectTimeout=30",
    "ServerAliveInterval=10", /* a guest that ends is seen on the bus; one that stands still may have a slow disk */
    "ServerAliveCountMax=18",
  };
  GPtrArray *argv = g_ptr_array_new ();
  g_ptr_array_add (argv, g_strdup ("ssh"));
  g_ptr_array_add (argv, g_strdup ("-E"));
  g_ptr_array_add (argv, g_strdup (log));
  banger_ssh_add_options (argv, target->identity_file, target->known_hosts_file, target->host_key_alias);
  for (gsize i = 0; i < G_N_ELEMENTS (own); i++)
    banger_ssh_add_option (argv, own[i]);
  g_ptr_array_add (argv, g_strdup (command->terminal ? "-t" : "-T"));
  g_ptr_array_add (argv, g_strconcat (target->login_user, "@", target->address, NULL));

  static const char *const shell[] = { "sh", "-c", "exec \"${SHELL:-/bin/sh}\" -l", NULL };
  const char *const *words = command->words ? command->words : command->cwd ? shell : NULL;
  if (words || command->keep)
    g_ptr_array_add (argv, g_strdup (BANGER_GUEST_BINARY));
  if (command->keep) {
    g_ptr_array_add (argv, g_strdup ("keep"));
    g_ptr_array_add (argv, g_strdup (command->keep));
    words = NULL;
  }
  if (words)
    g_ptr_array_add (argv, g_strdup ("exec"));
  if (words && command->cwd) {
    g_ptr_array_add (argv, g_strdup ("--cwd"));
    add_word (argv, command->cwd);
  }
  if (words && command->kept) {
    g_ptr_array_add (argv, g_strdup ("--words"));
    g_ptr_array_add (argv, g_strdup (command->kept));
    words = NULL;
  }
  for (; words && *words; words++)
    add_word (argv, *words);
  g_ptr_array_add (argv, NULL);
  return (char **)g_ptr_array_free (argv, FALSE);
}

/* The last line that is not one of LogVerbose's, which tell their place and "(pid=...)"; "" if there is none. */
static char *
last_words (const char *log)
{
  g_auto (GStrv) lines = g_strsplit (log, "\n", -1);
  for (guint i = g_strv_length (lines); i > 0; i--) {
    char *line = g_strstrip (lines[i - 1]);
    if (line[0] != '\0' && !strstr (line, "(pid="))
      return g_utf8_make_valid (line, -1);
  }
  return g_strdup ("");
}

gboolean
banger_ssh_outcome (const char *name, int status, const char *log, int *ret_status, GError **error)
{
  if (status != 255 || strstr (log, ": Exit status 255")) {
    *ret_status = status;
    return TRUE;
  }
  if (strstr (log, "rtype exit-signal"))
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("a signal ended the command in %s"), name);
  g_autofree char *words = last_words (log);
  gboolean connected = strstr (log, ": Entering interactive session") != NULL;
  if (words[0] == '\0')
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED,
                             connected ? _ ("the connection to %s was lost") : _ ("cannot connect to %s"), name);
  return banger_set_error (error, BANGER_ERROR_GUEST_FAILED,
                           connected ? _ ("the connection to %s was lost: %s") : _ ("cannot connect to %s: %s"), name,
                           words);
}
