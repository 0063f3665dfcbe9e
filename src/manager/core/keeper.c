/* PR_SET_CHILD_SUBREAPER: whoever loses its parent below this process becomes its child, and a child that was not waited
 * for keeps its number: none that is killed here is somebody else's.
 * Runs in the child of a fork of many threads.
 * Never calls what a signal handler may not. */
#include "manager/core/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OWN_CHILDREN "/proc/thread-self/children"
#define ROUND_NSEC 20000000

typedef struct {
  pid_t parent, program;
  guint patience_seconds;
  int status;          /* of the program; -1: it runs */
  gboolean ends, left; /* all are killed; there are some */
  time_t ends_at;      /* 0: nobody waits */
} Keeper;

static time_t
now (void)
{
  struct timespec time = { 0 };
  (void)clock_gettime (CLOCK_MONOTONIC, &time);
  return time.tv_sec;
}

/* As many as are in one page: the others come in the next round. */
static void
signal_children (const Keeper *keeper, int signal)
{
  char text[4096];
  int fd = open (OWN_CHILDREN, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read (fd, text, sizeof text) : -1;
  pid_t pid = 0;
  if (fd >= 0)
    close (fd);
  if (n < 0 && keeper->status < 0) /* a kernel without such a list */
    kill (keeper->program, signal);
  for (ssize_t i = 0; i < n; i++) {
    if (text[i] != ' ') {
      pid = pid * 10 + (text[i] - '0');
      continue;
    }
    if (pid > 1)
      kill (pid, signal);
    pid = 0;
  }
}

static void
reap (Keeper *keeper)
{
  pid_t pid;
  int status;
  while ((pid = waitpid (-1, &status, WNOHANG)) > 0)
    if (pid == keeper->program)
      keeper->status = WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
  keeper->left = pid == 0;
}

/* SIGTERM goes to the whole group, and to us with it; from nobody it says that bangerd has gone. */
static void
take_signal (Keeper *keeper)
{
  sigset_t all;
  const struct timespec round = { keeper->ends ? 0 : 1, keeper->ends ? ROUND_NSEC : 0 };
  sigfillset (&all);
  if (sigtimedwait (&all, NULL, &round) == BANGER_KEEPER_END)
    keeper->ends = TRUE;
  if (getppid () != keeper->parent && keeper->ends_at == 0) {
    signal_children (keeper, SIGTERM);
    keeper->ends_at = now () + (time_t)keeper->patience_seconds;
  }
}

static void
keep (Keeper *keeper)
{
  time_t given_up_at = 0;
  for (;;) {
    reap (keeper);
    if (!keeper->left || (given_up_at > 0 && now () >= given_up_at))
      _exit (keeper->status < 0 ? 128 + SIGKILL : keeper->status);
    keeper->ends |= keeper->status >= 0 || (keeper->ends_at > 0 && now () >= keeper->ends_at);
    if (keeper->ends && given_up_at == 0)
      given_up_at = now () + BANGER_KEEPER_SECONDS;
    if (keeper->ends)
      signal_children (keeper, SIGKILL);
    take_signal (keeper);
  }
}

void
banger_keeper_stand_between (pid_t parent, guint patience_seconds)
{
  Keeper keeper = { .parent = parent, .patience_seconds = patience_seconds, .status = -1 };
  sigset_t all, before;
  sigfillset (&all);
  sigprocmask (SIG_SETMASK, &all, &before);
  prctl (PR_SET_CHILD_SUBREAPER, 1);
  keeper.program = _Fork ();
  if (keeper.program <= 0) { /* without another process there is no keeper: its signal ends the program */
    sigprocmask (SIG_SETMASK, &before, NULL);
    prctl (PR_SET_CHILD_SUBREAPER, 0);
    prctl (PR_SET_PDEATHSIG, SIGTERM);
    return;
  }
  prctl (PR_SET_NAME, "banger-keeper");
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  syscall (SYS_close_range, 0U, ~0U, 0U); /* nobody waits for the end of a pipe of ours */
  keep (&keeper);
}
