/* The QEMU process: started, watched, never left behind.
 * Never outlives its parent (PR_SET_PDEATHSIG). */
#include "engine/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/body.h"
#include "engine/engine-log.h"
#include "engine/lend.h"

#define LAST_WORDS 2048

struct BangerQemu {
  pid_t pid;
  int stderr_fd;
  guint exit_source, stderr_source;
  BangerLend *lend;
  GString *words;
  gsize logged; /* bytes of @words that are in the log */
  BangerQemuExited exited;
  gpointer user_data;
};

/* Between fork and exec: async-signal-safe calls only. */
static void G_GNUC_NORETURN
run_child (char **argv, const int *fds, int stdout_fd, int stderr_fd, int report_fd, int lend_fd, pid_t parent)
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
  if (lend_fd >= 0)
    (void)banger_lend_child (lend_fd); /* without it QEMU says what it cannot open */
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
  while ((end = strchr (start, '\n'))) {
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
  if (n == 0)
    errno = 0; /* what it was before is nothing to the end */
  return n < 0 && errno == EINTR;
}

static gboolean
handle_stderr (int fd, GIOCondition condition, gpointer data)
{
  BangerQemu *qemu = data;
  if (read_words (qemu) || errno == EAGAIN)
    return G_SOURCE_CONTINUE;
  qemu->stderr_source = 0;
  return G_SOURCE_REMOVE;
}

static void
handle_exit (GPid pid, int status, gpointer data)
{
  BangerQemu *qemu = data;
  qemu->exit_source = 0;
  qemu->pid = 0;
  while (read_words (qemu))
    ;
  log_lines (qemu, TRUE);
  g_autofree char *words = g_strdup (g_strstrip (qemu->words->str));
  qemu->exited (status, words, qemu->user_data);
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
banger_qemu_spawn (char **argv, const int *fds, int stdout_fd, int lent_fd, BangerQemuExited exited, gpointer data,
                   GError **error)
{
  int report[2], words[2], lend[2] = { -1, -1 };
  if (lent_fd >= 0 && socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lend) < 0) {
    fail (error, "socketpair", errno);
    return NULL;
  }
  banger_autofd int lend_ours = lend[0];
  banger_autofd int lend_theirs = lend[1];
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
    run_child (argv, fds, stdout_fd, words_write, report_write, lend_theirs, parent);
  banger_clear_fd (&report_write);
  if (!await_exec (report_read, argv[0], error)) {
    kill (pid, SIGKILL);
    waitpid (pid, NULL, 0);
    return NULL;
  }
  BangerQemu *qemu = g_new0 (BangerQemu, 1);
  qemu->pid = pid;
  qemu->stderr_fd = banger_steal_fd (&words_read);
  qemu->lend = lent_fd < 0 ? NULL : banger_lend_new (lend_ours, lent_fd);
  qemu->words = g_string_new (NULL);
  qemu->exited = exited;
  qemu->user_data = data;
  g_unix_set_fd_nonblocking (qemu->stderr_fd, TRUE, NULL);
  qemu->exit_source = g_child_watch_add (pid, handle_exit, qemu);
  qemu->stderr_source = g_unix_fd_add (qemu->stderr_fd, G_IO_IN | G_IO_HUP, handle_stderr, qemu);
  return qemu;
}

/* By number: its filter leaves this program no pidfd. Nobody but GLib reaps it, and in the PID namespace of a jail
 * there is nobody else whom the number could be of. */
void
banger_qemu_kill (BangerQemu *qemu)
{
  if (qemu->pid > 0)
    kill (qemu->pid, SIGKILL);
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
  banger_lend_free (qemu->lend);
  banger_clear_fd (&qemu->stderr_fd);
  g_string_free (qemu->words, TRUE);
  g_free (qemu);
}
