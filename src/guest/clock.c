/* adjtime(3) and clock_settime(2).
 * Never waits. */
#include "guest/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "guest/report.h"

#define USEC_PER_SEC 1000000LL
#define SLEW_MAX_USEC 250000
/* A century: what is beyond is no time of a host. */
#define JUMP_MAX_USEC (100 * 366 * 86400LL * USEC_PER_SEC)

long long
guest_clock_usec (void)
{
  struct timespec now = { 0 };
  clock_gettime (CLOCK_REALTIME, &now);
  return now.tv_sec * USEC_PER_SEC + now.tv_nsec / 1000;
}

int
guest_clock_parse (const char *text, long long *ret)
{
  const char *digits = text + (*text == '-' || *text == '+');
  size_t length = strlen (digits);
  if (length == 0 || length > 18 || strspn (digits, "0123456789") != length)
    return -1;
  *ret = strtoll (text, NULL, 10);
  return 0;
}

static int
slew (long long delta)
{
  struct timeval by = { .tv_sec = delta / USEC_PER_SEC, .tv_usec = delta % USEC_PER_SEC };
  return adjtime (&by, NULL);
}

static int
jump (long long delta)
{
  struct timeval nothing = { 0 };
  adjtime (&nothing, NULL); /* what was left of it went to another time */
  long long usec = guest_clock_usec () + delta;
  if (usec < 0) {
    errno = EINVAL;
    return -1;
  }
  struct timespec now = { .tv_sec = usec / USEC_PER_SEC, .tv_nsec = usec % USEC_PER_SEC * 1000 };
  if (clock_settime (CLOCK_REALTIME, &now) < 0)
    return -1;
  guest_note ("the clock was %lld ms %s the host's, it is set", llabs (delta) / 1000,
              delta < 0 ? "ahead of" : "behind");
  return 0;
}

int
guest_clock_adjust (long long delta)
{
  if (llabs (delta) > JUMP_MAX_USEC) {
    errno = EINVAL;
    return -1;
  }
  return llabs (delta) <= SLEW_MAX_USEC ? slew (delta) : jump (delta);
}

int
guest_clock_set (long long usec)
{
  if (usec < 0 || usec > JUMP_MAX_USEC * 4) {
    errno = EINVAL;
    return -1;
  }
  return jump (usec - guest_clock_usec ());
}
