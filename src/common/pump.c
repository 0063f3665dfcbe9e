/* read(2) and write(2) around one buffer.
 * Called by a session and by a relay.
 * Never waits. */
#include "common/pump.h"

#include <errno.h>
#include <unistd.h>

#include "common/fd.h"

void
banger_pump_prepare (const BangerPump *pump, struct pollfd *fds)
{
  int full = pump->start < pump->end;
  /* Whichever is not waited for is left out: its hang-up would be told for ever. */
  fds[0] = (struct pollfd){ .fd = full ? -1 : pump->from, .events = POLLIN };
  fds[1] = (struct pollfd){ .fd = full ? pump->to : -1, .events = POLLOUT };
}

/* Returns: whether something was read. A terminal whose other end is closed says EIO. */
static int
fill (BangerPump *pump)
{
  size_t most = pump->limit < sizeof pump->buffer ? pump->limit : sizeof pump->buffer;
  ssize_t n = most > 0 ? read (pump->from, pump->buffer, most) : 0;
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return 0;
  if (n <= 0) {
    banger_clear_fd (&pump->from);
    return 0;
  }
  pump->start = 0;
  pump->end = (size_t)n;
  pump->limit -= (size_t)n;
  return 1;
}

/* Returns: whether all was written. */
static int
drain (BangerPump *pump)
{
  while (pump->start < pump->end) {
    ssize_t n = write (pump->to, pump->buffer + pump->start, pump->end - pump->start);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return 0;
    if (n < 0) { /* nobody reads it any more: the writer shall know */
      banger_clear_fd (&pump->to);
      banger_clear_fd (&pump->from);
      pump->start = pump->end;
      return 0;
    }
    pump->start += (size_t)n;
  }
  return 1;
}

int
banger_pump_step (BangerPump *pump)
{
  return pump->to >= 0 && drain (pump) && pump->from >= 0 && fill (pump);
}

void
banger_pump_run (BangerPump *pump)
{
  while (banger_pump_step (pump))
    continue;
}

int
banger_pump_is_over (const BangerPump *pump)
{
  return pump->to < 0 || (pump->from < 0 && pump->start == pump->end);
}
