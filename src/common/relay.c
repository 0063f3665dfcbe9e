/* Two pumps between two sockets, and who of the two has gone.
 * Called by banger-guest, in a process for each, and by bangerd, in a thread for all.
 * Never waits, and never stays long with one that has much to say. */
#include "common/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

#define STEPS 2 /* for each wake-up */

int
banger_relay_begin (BangerRelay *relay, int a, int b)
{
  const int sockets[2] = { a, b }, on = 1;
  for (int i = 0; i < 2; i++) {
    relay->sockets[i] = sockets[i];
    relay->pumps[i].from = relay->pumps[i].to = -1;
    relay->pumps[i].start = relay->pumps[i].end = 0;
    relay->pumps[i].limit = SIZE_MAX;
    fcntl (sockets[i], F_SETFL, fcntl (sockets[i], F_GETFL) | O_NONBLOCK);
    setsockopt (sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* where it is one */
  }
  for (int i = 0; i < 2; i++) {
    relay->pumps[i].from = fcntl (sockets[i], F_DUPFD_CLOEXEC, 3);
    relay->pumps[i].to = fcntl (sockets[!i], F_DUPFD_CLOEXEC, 3);
    if (relay->pumps[i].from >= 0 && relay->pumps[i].to >= 0)
      continue;
    int saved = errno;
    banger_relay_end (relay);
    errno = saved;
    return -1;
  }
  return 0;
}

void
banger_relay_prepare (const BangerRelay *relay, struct pollfd *fds)
{
  for (int i = 0; i < 2; i++) {
    banger_pump_prepare (&relay->pumps[i], &fds[2 * i]);
    /* Only its hang-up, and only when there is nothing to be had of it: that is told for ever. */
    fds[4 + i] = (struct pollfd){ .fd = relay->pumps[i].to < 0 ? relay->sockets[i] : -1 };
  }
}

/* Nothing more is to come of the one: so the other is told, once. Returns: -1 if it takes nothing any more. */
static int
pass (BangerRelay *relay, int i)
{
  BangerPump *pump = &relay->pumps[i];
  if (pump->to < 0)
    return 0;
  for (int step = 0; step < STEPS && banger_pump_step (pump); step++)
    continue;
  if (pump->to < 0)
    return -1;
  if (banger_pump_is_over (pump)) {
    shutdown (pump->to, SHUT_WR);
    banger_clear_fd (&pump->to);
  }
  return 0;
}

int
banger_relay_run (BangerRelay *relay, const struct pollfd *fds)
{
  for (int i = 0; i < 2; i++)
    if (pass (relay, i) < 0)
      return 0;
  for (int i = 0; i < 2; i++)
    if (fds[4 + i].revents & (POLLERR | POLLHUP))
      return 0;
  return relay->pumps[0].to >= 0 || relay->pumps[1].to >= 0;
}

void
banger_relay_end (BangerRelay *relay)
{
  for (int i = 0; i < 2; i++) {
    banger_clear_fd (&relay->sockets[i]);
    banger_clear_fd (&relay->pumps[i].from);
    banger_clear_fd (&relay->pumps[i].to);
  }
}
