/* One ssh under way: its child, its VM, our signals and our terminal.
 * Never leaves ssh behind, nor somebody in front of a terminal that has nothing on its other end. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/objects.h"
#include "cli/signals.h"
#include "cli/ssh.h"
#include "cli/watch.h"
#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/names.h"
#include "common/pidfd.h"

#define MAX_LOG (256 * 1024)               /* bytes of ssh's log that are looked at, from its end */
#define SSH_ENDS_USEC (G_USEC_PER_SEC / 2) /* once it was asked to */
/* A signal: ssh looks for one before it waits, and misses what comes in between. */
#define SSH_OBEYS_USEC (3 * G_USEC_PER_SEC)

/* ssh goes with us, however we end: killed, it would keep the command in the guest and the terminal. */
static void G_GNUC_NORETURN
become_ssh (char **argv, int stdin_fd, int report_fd, pid_t parent)
{
  signal (SIGPIPE, SIG_DFL);
  sigprocmask (SIG_SETMASK, banger_signals_old_mask (), NULL);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () == parent && (stdin_fd < 0 || dup2 (stdin_fd, STDIN_FILENO) >= 0))
    execvp (argv[0], argv);
  int r = errno;
  (void)!write (report_fd, &r, sizeof r);
  _exit (127);
}

/* Returns: a pidfd; -1 with an error. */
static int
spawn (char **argv, int stdin_fd, GError **error)
{
  int ends[2], r = 0;
  pid_t parent = getpid ();
  if (pipe2 (ends, O_CLOEXEC) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot run ssh"));
    return -1;
  }
  banger_autofd int report = ends[0], told = ends[1];
  pid_t pid = fork ();
  if (pid == 0)
    become_ssh (argv, stdin_fd, told, parent);
  banger_clear_fd (&told);
  if (pid < 0)
    r = errno;
  else if (read (report, &r, sizeof r) != (ssize_t)sizeof r)
    r = 0;
  int pidfd = r == 0 ? banger_pidfd_open (pid) : -1;
  if (pidfd >= 0)
    return pidfd;
  int saved = r != 0 ? r : errno;
  if (pid > 0) {
    kill (pid, SIGTERM);
    waitpid (pid, NULL, 0);
  }
  banger_set_error_errno (error, BANGER_ERROR_FAILED, saved,
                          saved == ENOENT ? _ ("cannot run ssh (is openssh-client installed?)") : _ ("cannot run ssh"));
  return -1;
}

/* Returns: the exit status of the process behind @pidfd as a shell counts it. */
static int
wait_for_exit (BangerVmWatch *watch, int pidfd)
{
  siginfo_t info = { 0 };
  gint64 deadline = -1; /* of an ssh that was asked to end */
  while (waitid (P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) {
    gint64 now = g_get_monotonic_time ();
    if (watch->over && deadline < 0) {
      banger_pidfd_send_signal (pidfd, SIGTERM);
      deadline = now + SSH_ENDS_USEC;
    } else if (deadline >= 0 && now >= deadline) {
      banger_pidfd_send_signal (pidfd, SIGKILL);
      deadline = now + SSH_ENDS_USEC;
    }
    banger_client_wait (watch->client, pidfd, deadline < 0 ? -1 : MAX (deadline - now, 0));
    for (int number = banger_signals_take (); number != 0; number = banger_signals_take ()) {
      banger_pidfd_send_signal (pidfd, number);
      if (deadline < 0)
        deadline = g_get_monotonic_time () + SSH_OBEYS_USEC;
    }
  }
  banger_signals_count (); /* what ended ssh as a member of our group came to us, too */
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static char *
read_log (int fd)
{
  off_t size = lseek (fd, 0, SEEK_END);
  off_t from = MAX (size - MAX_LOG, 0);
  g_autofree char *text = g_malloc0 (MAX_LOG + 1);
  ssize_t length = banger_read_at (fd, text, MAX_LOG, from);
  return g_strndup (text, length > 0 ? (gsize)length : 0);
}

static gboolean
run_ssh (BangerVmWatch *watch, const BangerSshTarget *target, const BangerSshCommand *command, int stdin_fd,
         int *ret_status, GError **error)
{
  if (banger_signals_count () > 0) { /* between what was waited for before and ssh, which would not hear of it */
    *ret_status = 128 + banger_signals_first ();
    return TRUE;
  }
  banger_autofd int log_fd = memfd_create ("ssh-log", MFD_CLOEXEC);
  if (log_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a file for ssh's log"));
  g_autofree char *log_path = g_strdup_printf ("/proc/%d/fd/%d", (int)getpid (), log_fd);
  g_auto (GStrv) argv = banger_ssh_session_argv (target, command, log_path);
  struct termios terminal;
  gboolean has_terminal = tcgetattr (STDIN_FILENO, &terminal) == 0;
  banger_autofd int pidfd = spawn (argv, stdin_fd, error);
  if (pidfd < 0)
    return FALSE;
  int status = wait_for_exit (watch, pidfd);
  if (banger_signals_first () != 0) {
    *ret_status = 128 + banger_signals_first ();
    return TRUE;
  }
  g_autofree char *log = read_log (log_fd);
  if (!watch->over && banger_ssh_outcome (target->name, status, log, ret_status, error))
    return TRUE;
  if (!watch->over)
    banger_vm_watch_wait_over (watch);
  if (!watch->over)
    return FALSE;
  if (has_terminal && command->terminal)
    tcsetattr (STDIN_FILENO, TCSADRAIN, &terminal);
  g_clear_error (error);
  return banger_vm_watch_error (watch, error);
}

/* What no command line holds goes ahead, on a connection of its own: stdin stays the command's. */
static gboolean
keep_words (BangerVmWatch *watch, const BangerSshTarget *target, const char *id, const char *coded, int *ret_status,
            GError **error)
{
  banger_autofd int fd = memfd_create ("words", MFD_CLOEXEC);
  if (fd < 0 || banger_write_all (fd, coded, strlen (coded)) < 0 || lseek (fd, 0, SEEK_SET) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot hold the command's arguments"));
  return run_ssh (watch, target, &(BangerSshCommand){ .keep = id }, fd, ret_status, error);
}

void
banger_ssh_wait (BangerClient *client, const char *name)
{
  g_auto (BangerVmWatch) watch = { 0 };
  g_autofree char *path = NULL;
  g_autoptr (JsonObject) vm = banger_objects_get (client, &banger_kind_vm, name, &path, NULL);
  if (!vm || strcmp (banger_property_string (vm, "SshServer"), BANGER_SSH_SERVER_STARTING) != 0)
    return;
  banger_vm_watch_begin (&watch, client, name, path);
  watch.ssh_starting = TRUE; /* until it says something else */
  banger_vm_watch_wait_ssh (&watch);
}

gboolean
banger_ssh_run (BangerClient *client, const BangerSshTarget *target, const BangerSshCommand *command, int *ret_status,
                GError **error)
{
  g_auto (BangerVmWatch) watch = { 0 };
  BangerSshCommand own = *command;
  g_autofree char *coded = banger_ssh_coded_words (command->words), *id = banger_id_new ();
  banger_autofd int null = command->no_stdin ? open ("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
  if (command->no_stdin && null < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot open %s"), "/dev/null");
  banger_signals_block ();
  banger_vm_watch_begin (&watch, client, target->name, target->path);
  watch.ssh_starting = target->starting;
  banger_vm_watch_wait_ssh (&watch);
  if (coded) {
    own.kept = id;
    if (!keep_words (&watch, target, id, coded, ret_status, error))
      return FALSE;
    if (*ret_status != 0)
      return TRUE;
  }
  return run_ssh (&watch, target, &own, null, ret_status, error);
}
