/* What a program finds when it starts, made as its code takes it to be.
 * Called first thing in every main().
 * Never fails: what cannot be opened stays closed. */
#include "common/std-fds.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define DESCRIPTORS 16384

static bool was_closed[3];

void
banger_std_fds_fill (void)
{
  for (int fd = 0; fd <= 2; fd++) {
    was_closed[fd] = fcntl (fd, F_GETFD) < 0 && errno == EBADF;
    /* In this order it is the lowest free one, which open(2) gives. */
    if (was_closed[fd] && open ("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) != fd)
      break;
  }
  signal (SIGCHLD, SIG_DFL);
}

void
banger_std_fds_raise (void)
{
  struct rlimit limit;
  if (getrlimit (RLIMIT_NOFILE, &limit) < 0)
    return;
  limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
  (void)setrlimit (RLIMIT_NOFILE, &limit);
}

bool
banger_std_fds_was_closed (int fd)
{
  return fd >= 0 && fd <= 2 && was_closed[fd];
}
