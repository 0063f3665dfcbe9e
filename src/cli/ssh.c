/* The ssh command line, its end, and what 255 meant.
 * Called by vm-run.c and vm-ssh.c.
 * Never lets a shell see an argument. */
#include "cli/ssh.h"

#include <glib/gi18n.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/signals.h"
#include "common/error.h"
#include "common/exec-words.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/pidfd.h"
#include "common/ssh-option.h"

#define MAX_LOG (256 * 1024) /* bytes of ssh's log that are looked at, from its end */

extern char **environ;

void
banger_ssh_target_free (BangerSshTarget *target)
{
  if (target == NULL)
    return;
  g_free (target->name);
  g_free (target->address);
  g_free (target->identity_file);
  g_free (target->known_hosts_file);
  g_free (target->host_key_alias);
  g_free (target);
}

BangerSshTarget *
banger_ssh_target_new (JsonObject *vm, GError **error)
{
  const char *name = json_object_get_string_member_with_default (vm, "Name", "");
  const char *state = json_object_get_string_member_with_default (vm, "State", "");
  if (strcmp (state, "running") != 0) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, _ ("%s is %s; start it with: banger vm start %s"), name, state,
                      name);
    return NULL;
  }
  BangerSshTarget *target = g_new0 (BangerSshTarget, 1);
  target->name = g_strdup (name);
  target->address = g_strdup (json_object_get_string_member_with_default (vm, "Address", ""));
  target->identity_file = g_strdup (json_object_get_string_member_with_default (vm, "IdentityFile", ""));
  target->known_hosts_file = g_strdup (json_object_get_string_member_with_default (vm, "KnownHostsFile", ""));
  target->host_key_alias = g_strdup (json_object_get_string_member_with_default (vm, "HostKeyAlias", ""));
  return target;
}

static void
add_option (GPtrArray *argv, char *option)
{
  g_ptr_array_add (argv, g_strdup ("-o"));
  g_ptr_array_add (argv, option);
}

static void
add_word (GPtrArray *argv, const char *argument)
{
  char *word = banger_exec_word_encode (argument);
  if (word == NULL)
    g_error ("out of memory");
  g_ptr_array_add (argv, g_strdup (word));
  free (word);
}

char **
banger_ssh_argv (const BangerSshTarget *target, const BangerSshCommand *command, const char *log)
{
  /* LogVerbose adds what tells whether an exit status came, see banger_ssh_outcome(). */
  static const char *const fixed[] = {
    "LogLevel=ERROR",
    "LogVerbose=clientloop.c:client_loop():*,clientloop.c:client_input_channel_req():*",
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=none",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "VerifyHostKeyDNS=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlPath=none",
    "ConnectTimeout=30",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=8",
    "Compression=no",
  };
  GPtrArray *argv = g_ptr_array_new ();
  static const char *const first[] = { "ssh", "-F", "none", "-E" };
  for (gsize i = 0; i < G_N_ELEMENTS (first); i++)
    g_ptr_array_add (argv, g_strdup (first[i]));
  g_ptr_array_add (argv, g_strdup (log));
  add_option (argv, banger_ssh_path_option ("IdentityFile", target->identity_file));
  add_option (argv, banger_ssh_path_option ("UserKnownHostsFile", target->known_hosts_file));
  add_option (argv, g_strconcat ("HostKeyAlias=", target->host_key_alias, NULL));
  for (gsize i = 0; i < G_N_ELEMENTS (fixed); i++)
    add_option (argv, g_strdup (fixed[i]));
  g_ptr_array_add (argv, g_strdup (command->terminal ? "-t" : "-T"));
  g_ptr_array_add (argv, g_strconcat ("root@", target->address, NULL));

  static const char *const shell[] = { "sh", "-c", "exec \"${SHELL:-/bin/sh}\" -l", NULL };
  const char *const *words = command->words != NULL ? command->words : command->cwd != NULL ? shell : NULL;
  if (words != NULL) {
    g_ptr_array_add (argv, g_strdup (BANGER_GUEST_BINARY));
    g_ptr_array_add (argv, g_strdup ("exec"));
  }
  if (words != NULL && command->cwd != NULL) {
    g_ptr_array_add (argv, g_strdup ("--cwd"));
    add_word (argv, command->cwd);
  }
  for (; words != NULL && *words != NULL; words++)
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
    if (line[0] != '\0' && strstr (line, "(pid=") == NULL)
      return g_utf8_make_valid (line, -1);
  }
  return g_strdup ("");
}

gboolean
banger_ssh_outcome (const char *name, int status, const char *log, int *ret_status, GError **error)
{
  if (status != 255 || strstr (log, ": Exit status 255") != NULL) {
    *ret_status = status;
    return TRUE;
  }
  if (strstr (log, "rtype exit-signal") != NULL)
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

static char *
read_log (int fd)
{
  off_t size = lseek (fd, 0, SEEK_END);
  off_t from = MAX (size - MAX_LOG, 0);
  g_autofree char *text = g_malloc0 (MAX_LOG + 1);
  ssize_t length = pread (fd, text, MAX_LOG, from);
  return g_strndup (text, length > 0 ? (gsize)length : 0);
}

static int
spawn (char **argv, pid_t *ret_pid)
{
  posix_spawnattr_t attributes;
  sigset_t defaults;
  sigemptyset (&defaults);
  sigaddset (&defaults, SIGPIPE);
  posix_spawnattr_init (&attributes);
  posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask (&attributes, banger_signals_old_mask ());
  posix_spawnattr_setsigdefault (&attributes, &defaults);
  int r = posix_spawnp (ret_pid, argv[0], NULL, &attributes, argv, environ);
  posix_spawnattr_destroy (&attributes);
  return r;
}

/* Returns: the exit status of the process behind @pidfd as a shell counts it. */
static int
wait_for_exit (BangerClient *client, int pidfd)
{
  siginfo_t info = { 0 };
  while (waitid (P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) {
    banger_client_wait (client, pidfd, -1);
    for (int number = banger_signals_take (); number != 0; number = banger_signals_take ())
      banger_pidfd_send_signal (pidfd, number);
  }
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

gboolean
banger_ssh_run (BangerClient *client, const BangerSshTarget *target, const BangerSshCommand *command, int *ret_status,
                GError **error)
{
  banger_signals_block ();
  banger_autofd int log_fd = memfd_create ("ssh-log", MFD_CLOEXEC);
  if (log_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a file for ssh's log"));
  g_autofree char *log_path = g_strdup_printf ("/proc/%d/fd/%d", (int)getpid (), log_fd);
  g_auto (GStrv) argv = banger_ssh_argv (target, command, log_path);

  pid_t pid;
  int r = spawn (argv, &pid);
  if (r != 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, r, _ ("cannot run ssh (is openssh-client installed?)"));
  banger_autofd int pidfd = banger_pidfd_open (pid);
  if (pidfd < 0) {
    int saved = errno;
    kill (pid, SIGTERM);
    waitpid (pid, NULL, 0);
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, saved, _ ("cannot watch ssh"));
  }
  int status = wait_for_exit (client, pidfd);
  if (banger_signals_first () != 0) {
    *ret_status = 128 + banger_signals_first ();
    return TRUE;
  }
  g_autofree char *log = read_log (log_fd);
  return banger_ssh_outcome (target->name, status, log, ret_status, error);
}
