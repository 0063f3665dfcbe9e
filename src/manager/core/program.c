/* poll(2) over the two pipes and the end of a program.
 * Runs in worker threads.
 * Never waits without an end. */
#include "manager/core/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/pidfd.h"
#include "manager/core/keeper.h"

#define MAX_ERRORS 65536u
#define LOOK_MSEC 500

typedef struct {
  const BangerProgram *program;
  pid_t parent, pid; /* us; it, or its keeper */
  int pidfd, out, err;
  gboolean ended; /* by itself */
  GString *output, *errors;
} Run;

/* A group of its own, so that what it starts ends with it. */
static void
set_up_child (gpointer data)
{
  const Run *run = data;
  setpgid (0, 0);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (run->program->keeper)
    banger_keeper_stand_between (run->parent, run->program->patience_seconds);
}

static gboolean
start (Run *run, GError **error)
{
  const BangerProgram *program = run->program;
  g_autoptr (GError) local = NULL;
  g_auto (GStrv) environment = g_environ_setenv (g_get_environ (), "LC_ALL", "C.UTF-8", TRUE);
  if (!g_spawn_async_with_pipes_and_fds (program->folder, program->argv, (const char *const *)environment,
                                         G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES,
                                         set_up_child, run, -1, -1, -1, NULL, NULL, 0, &run->pid, NULL, &run->out,
                                         &run->err, &local))
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "cannot run %s: %s", program->argv[0], local->message);
  run->pidfd = banger_pidfd_open (run->pid);
  return run->pidfd >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot follow %s", program->argv[0]);
}

/* What it prints meanwhile would stop it where nobody reads. */
static void
wait_a_while (Run *run)
{
  char dropped[4096];
  gint64 deadline = g_get_monotonic_time () + (gint64)run->program->patience_seconds * G_USEC_PER_SEC;
  kill (-run->pid, SIGTERM);
  while (g_get_monotonic_time () < deadline) {
    struct pollfd fds[] = { { run->pidfd, POLLIN, 0 }, { run->out, POLLIN, 0 }, { run->err, POLLIN, 0 } };
    (void)poll (fds, G_N_ELEMENTS (fds), LOOK_MSEC);
    if (fds[0].revents)
      return;
    if (fds[1].revents && read (run->out, dropped, sizeof dropped) <= 0)
      banger_clear_fd (&run->out);
    if (fds[2].revents && read (run->err, dropped, sizeof dropped) <= 0)
      banger_clear_fd (&run->err);
  }
}

/* Killed itself it could kill nobody. */
static void
have_all_killed (const Run *run)
{
  gint64 deadline = g_get_monotonic_time () + (BANGER_KEEPER_SECONDS + 2) * G_USEC_PER_SEC;
  struct pollfd end = { run->pidfd, POLLIN, 0 };
  kill (run->pid, BANGER_KEEPER_END);
  while (run->pidfd >= 0 && g_get_monotonic_time () < deadline && poll (&end, 1, LOOK_MSEC) <= 0)
    ;
}

/* It is not reaped yet, so that the group's number is still its own. Returns: its status. */
static int
end (Run *run)
{
  int status = -1;
  if (run->pid > 0) {
    if (run->program->patience_seconds > 0 && !run->ended)
      wait_a_while (run);
    if (run->program->keeper && !run->ended)
      have_all_killed (run);
    kill (-run->pid, SIGKILL);
    while (waitpid (run->pid, &status, 0) < 0 && errno == EINTR)
      ;
    run->pid = -1;
  }
  return status;
}

static void
run_clear (Run *run)
{
  end (run);
  banger_clear_fd (&run->pidfd);
  banger_clear_fd (&run->out);
  banger_clear_fd (&run->err);
  g_string_free (run->output, TRUE);
  g_string_free (run->errors, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Run, run_clear)

/* What is there now; @fd is closed at its end. */
static gboolean
take (const BangerProgram *program, int *fd, GString *text, gsize max, gboolean rest_is_dropped, GError **error)
{
  char buffer[16384];
  ssize_t n = read (*fd, buffer, sizeof buffer - 1);
  if (n < 0)
    return errno == EINTR || errno == EAGAIN
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read what %s prints",
                                      program->argv[0]);
  if (n == 0)
    banger_clear_fd (fd);
  buffer[n] = '\0';
  if (program->printed && n > 0 && !rest_is_dropped)
    program->printed (buffer, program->printed_data);
  if (program->tail && text->len + (gsize)n > max)
    g_string_erase (text, 0, (gssize)(text->len + (gsize)n - max));
  gsize part = MIN ((gsize)n, max - text->len);
  g_string_append_len (text, buffer, (gssize)part);
  return part == (gsize)n || rest_is_dropped
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s prints more than %" G_GSIZE_FORMAT " bytes",
                              program->argv[0], max);
}

static gboolean
look (const Run *run, gint64 *looked_at, GError **error)
{
  gint64 now = g_get_monotonic_time ();
  if (now - *looked_at < LOOK_MSEC * 1000)
    return TRUE;
  *looked_at = now;
  return run->program->look (run->program->look_data, error);
}

static gboolean
follow (Run *run, GError **error)
{
  const BangerProgram *program = run->program;
  gint64 looked_at = 0;
  gint64 deadline = g_get_monotonic_time () + (gint64)program->seconds * G_USEC_PER_SEC;
  for (;;) {
    GPollFD cancel = { .fd = -1 };
    gboolean pollable = program->cancellable && g_cancellable_make_pollfd (program->cancellable, &cancel);
    struct pollfd fds[] = {
      { run->out, POLLIN, 0 }, { run->err, POLLIN, 0 }, { run->pidfd, POLLIN, 0 }, { cancel.fd, POLLIN, 0 }
    };
    (void)poll (fds, G_N_ELEMENTS (fds), LOOK_MSEC);
    if (pollable)
      g_cancellable_release_fd (program->cancellable);
    if (g_cancellable_is_cancelled (program->cancellable))
      return banger_set_cancelled (error);
    if (program->look && !look (run, &looked_at, error))
      return FALSE;
    if (g_get_monotonic_time () >= deadline)
      return banger_set_error (error, BANGER_ERROR_TIMEOUT, "%s did not end within %u s", program->argv[0],
                               program->seconds);
    if (fds[0].revents && !take (program, &run->out, run->output, program->max_output, FALSE, error))
      return FALSE;
    if (fds[1].revents && !take (program, &run->err, run->errors, MAX_ERRORS, TRUE, error))
      return FALSE;
    /* Others that it left behind may hold the pipes open: its own end counts once there is nothing to read. */
    if (fds[2].revents && !fds[0].revents && !fds[1].revents) {
      run->ended = TRUE;
      return TRUE;
    }
  }
}

char *
banger_program_run (const BangerProgram *program, char **ret_errors, GError **error)
{
  g_auto (Run) run = { program, getpid (), -1, -1, -1, -1, FALSE, g_string_new (NULL), g_string_new (NULL) };
  g_autoptr (GError) failure = NULL;
  if (!start (&run, error) || !follow (&run, error))
    return NULL;
  gboolean fine = g_spawn_check_wait_status (end (&run), &failure);
  if (ret_errors)
    *ret_errors = g_utf8_make_valid (run.errors->str, (gssize)run.errors->len);
  if (!fine) {
    banger_set_error (error, BANGER_ERROR_FAILED, "%s: %s", program->argv[0], failure->message);
    return NULL;
  }
  return g_utf8_make_valid (run.output->str, (gssize)run.output->len);
}
