/* The QEMU process: started, watched, never left behind.
 * Used by the instance.
 * Never outlives its parent (PR_SET_PDEATHSIG). */
#include "engine/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/body.h"
#include "engine/engine-log.h"

#define LAST_WORDS 2048

struct BangerQemu {
  pid_t pid;
  int pidfd, stderr_fd;
  guint exit_source, stderr_source;
  GString *words;
  gsize logged; /* bytes of @words that are in the log */
  BangerQemuExited exited;
  gpointer user_data;
};

/* Between fork and exec: async-signal-safe calls only. */
static void G_GNUC_NORETURN
run_child (char **argv, const int *fds, int stdout_fd, int stderr_fd, int report_fd, pid_t parent)
{
  sigset_t none;
  sigemptyset (&none);
  signal (SIGPIPE, SIG_DFL);
  sigprocmask (SIG_SETMASK, &none, NULL);
  int failed = 0;
  for (; *fds >= 0 && failed == 0; fds++)
    failed = fcntl (*fds, F_SETFD, 0) < 0;
  failed = failed || prctl (PR_SET_PDEATHSIG, SIGKILL) < 0 || dup2 (stdout_fd, STDOUT_FILENO) < 0
           || dup2 (stderr_fd, STDERR_FILENO) < 0;
  /* The parent may have died before the death signal was set. */
  if (getppid () != parent)
    _exit (127);
  char *environment[] = { NULL };
  if (!failed)
    execve (argv[0], argv, environment);
  int saved = errno;
  ssize_t n = write (report_fd, &saved, sizeof saved);
  (void)n;
  _exit (127);
}

static void
log_lines (BangerQemu *qemu, gboolean all)
{
  const char *start = qemu->words->str + qemu->logged;
  const char *end;
  while ((end = strchr (start, '\n')) != NULL) {
    vmm_warning ("QEMU: %.*s", (int)(end - start), start);
    start = end + 1;
  }
  if (all && *start != '\0') {
    vmm_warning ("QEMU: %s", start);
    start += strlen (start);
  }
  qemu->logged = (gsize)(start - qemu->words->str);
  if (qemu->words->len > LAST_WORDS) {
    gsize cut = MIN (qemu->words->len - LAST_WORDS, qemu->logged);
    g_string_erase (qemu->words, 0, (gssize)cut);
    qemu->logged -= cut;
  }
}

/* Returns: FALSE at the end of the stream. */
static gboolean
read_words (BangerQemu *qemu)
{
  char buffer[1024];
  ssize_t n = read (qemu->stderr_fd, buffer, sizeof buffer);
  if (n > 0) {
    g_string_append_len (qemu->words, buffer, n);
    log_lines (qemu, qemu->words->len - qemu->logged > LAST_WORDS);
    return TRUE;
  }
  return n < 0 && errno == EINTR;
}

static gboolean
handle_stderr (int fd, GIOCondition condition, gpointer user_data)
{
  BangerQemu *qemu = user_data;
  if (read_words (qemu))
    return G_SOURCE_CONTINUE;
  if (errno == EAGAIN)
    return G_SOURCE_CONTINUE;
  qemu->stderr_source = 0;
  return G_SOURCE_REMOVE;
}

static gboolean
handle_exit (int fd, GIOCondition condition, gpointer user_data)
{
  BangerQemu *qemu = user_data;
  int status = 0;
  if (waitpid (qemu->pid, &status, WNOHANG) != qemu->pid)
    return G_SOURCE_CONTINUE;
  qemu->exit_source = 0;
  qemu->pid = 0;
  while (read_words (qemu))
    ;
  log_lines (qemu, TRUE);
  g_autofree char *words = g_strdup (g_strstrip (qemu->words->str));
  qemu->exited (status, words, qemu->user_data);
  return G_SOURCE_REMOVE;
}

static gboolean
fail (GError **error, const char *what, int errnum)
{
  g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "%s: %s", what, g_strerror (errnum));
  return FALSE;
}

static gboolean
await_exec (int report_fd, const char *path, GError **error)
{
  int errnum = 0;
  ssize_t n;
  do
    n = read (report_fd, &errnum, sizeof errnum);
  while (n < 0 && errno == EINTR);
  return n == 0 || fail (error, path, n > 0 ? errnum : errno);
}

BangerQemu *
banger_qemu_spawn (char **argv, const int *fds, int stdout_fd, BangerQemuExited exited, gpointer user_data,
                   GError **error)
{
  int report[2], words[2];
  if (!g_unix_open_pipe (report, FD_CLOEXEC, error))
    return NULL;
  banger_autofd int report_read = report[0];
  banger_autofd int report_write = report[1];
  if (!g_unix_open_pipe (words, FD_CLOEXEC, error))
    return NULL;
  banger_autofd int words_read = words[0];
  banger_autofd int words_write = words[1];

  pid_t parent = getpid ();
  pid_t pid = fork ();
  if (pid < 0) {
    fail (error, "fork", errno);
    return NULL;
  }
  if (pid == 0)
    run_child (argv, fds, stdout_fd, words_write, report_write, parent);
  banger_clear_fd (&report_write);
  banger_autofd int pidfd = (int)syscall (SYS_pidfd_open, pid, 0);
  if (!await_exec (report_read, argv[0], error) || (pidfd < 0 && !fail (error, "pidfd_open", errno))) {
    kill (pid, SIGKILL);
    waitpid (pid, NULL, 0);
    return NULL;
  }
  BangerQemu *qemu = g_new0 (BangerQemu, 1);
  qemu->pid = pid;
  qemu->pidfd = banger_steal_fd (&pidfd);
  qemu->stderr_fd = banger_steal_fd (&words_read);
  qemu->words = g_string_new (NULL);
  qemu->exited = exited;
  qemu->user_data = user_data;
  g_unix_set_fd_nonblocking (qemu->stderr_fd, TRUE, NULL);
  qemu->exit_source = g_unix_fd_add (qemu->pidfd, G_IO_IN, handle_exit, qemu);
  qemu->stderr_source = g_unix_fd_add (qemu->stderr_fd, G_IO_IN | G_IO_HUP, handle_stderr, qemu);
  return qemu;
}

void
banger_qemu_kill (BangerQemu *qemu)
{
  if (qemu->pid > 0)
    syscall (SYS_pidfd_send_signal, qemu->pidfd, SIGKILL, NULL, 0);
}

void
banger_qemu_kill_and_wait (BangerQemu *qemu)
{
  banger_qemu_kill (qemu);
  if (qemu->pid > 0)
    waitpid (qemu->pid, NULL, 0);
  qemu->pid = 0;
}

void
banger_qemu_free (BangerQemu *qemu)
{
  banger_qemu_kill_and_wait (qemu);
  if (qemu->exit_source != 0)
    g_source_remove (qemu->exit_source);
  if (qemu->stderr_source != 0)
    g_source_remove (qemu->stderr_source);
  banger_clear_fd (&qemu->pidfd);
  banger_clear_fd (&qemu->stderr_fd);
  g_string_free (qemu->words, TRUE);
  g_free (qemu);
}
