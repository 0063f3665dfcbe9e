/* signalfd(2) around the signals that end a program: what it changed of a terminal is put right first.
 * Never takes a signal that the shell had us ignore (nohup). */
#include "cli/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

static int fd = -1;
static int first;
static guint count;
static sigset_t old_mask;

void
banger_signals_block (void)
{
  static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
  sigset_t mask;
  if (fd >= 0)
    return;
  sigemptyset (&mask);
  for (gsize i = 0; i < G_N_ELEMENTS (numbers); i++) {
    struct sigaction action;
    if (sigaction (numbers[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset (&mask, numbers[i]);
  }
  sigprocmask (SIG_BLOCK, &mask, &old_mask);
  fd = signalfd (-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0)
    sigprocmask (SIG_SETMASK, &old_mask, NULL);
  signal (SIGPIPE, SIG_IGN);
}

int
banger_signals_fd (void)
{
  return fd;
}

int
banger_signals_take (void)
{
  struct signalfd_siginfo info;
  if (fd < 0 || read (fd, &info, sizeof info) != (ssize_t)sizeof info)
    return 0;
  if (first == 0)
    first = (int)info.ssi_signo;
  count++;
  return (int)info.ssi_signo;
}

guint
banger_signals_count (void)
{
  while (banger_signals_take () != 0)
    continue;
  return count;
}

void
banger_signals_forget (void)
{
  count = 0;
}

int
banger_signals_first (void)
{
  return first;
}

const sigset_t *
banger_signals_old_mask (void)
{
  return &old_mask;
}
