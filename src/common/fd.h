/* Descriptors that close themselves.
 * Used everywhere.
 * Never touches errno on the way out. */
#pragma once

#include <errno.h>
#include <unistd.h>

static inline void
banger_clear_fd (int *fd)
{
  if (*fd < 0)
    return;
  int saved = errno;
  close (*fd);
  *fd = -1;
  errno = saved;
}

static inline int
banger_steal_fd (int *fd)
{
  int stolen = *fd;
  *fd = -1;
  return stolen;
}

#define banger_autofd __attribute__ ((cleanup (banger_clear_fd)))
