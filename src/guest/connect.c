/* Connects to whoever listens on a port here, and carries bytes between that and the host.
 * Called by the agent, in a child.
 * Never reads a byte of either: they are those of the two ends. */
#include "guest/connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/relay.h"
#include "guest/session.h"

#define CONNECT_MS 10000
#define MAX_ADDRESSES 16

static void
answer (int client, const char *token, const char *text)
{
  char line[200];
  int length = snprintf (line, sizeof line, "%s %s\n", token, text);
  (void)!send (client, line, (size_t)length, MSG_NOSIGNAL);
}

/* Returns: 0, or an errno. */
static int
wait_until_connected (int fd)
{
  struct pollfd ready = { .fd = fd, .events = POLLOUT };
  int problem = ETIMEDOUT;
  socklen_t length = sizeof problem;
  if (poll (&ready, 1, CONNECT_MS) > 0 && getsockopt (fd, SOL_SOCKET, SO_ERROR, &problem, &length) < 0)
    problem = errno;
  return problem;
}

/* Returns: a connected socket; -1 with errno. */
static int
try_address (const struct sockaddr *address, socklen_t size)
{
  int fd = socket (address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  int problem = connect (fd, address, size) == 0 ? 0 : errno;
  if (problem == EINPROGRESS)
    problem = wait_until_connected (fd);
  if (problem == 0)
    return fd;
  close (fd);
  errno = problem;
  return -1;
}

/* Loopback first, then what the machine's other addresses are: a server may listen on one of them alone. */
static int
connect_here (unsigned port)
{
  const struct sockaddr_in four = { .sin_family = AF_INET,
                                    .sin_port = htons ((uint16_t)port),
                                    .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  const struct sockaddr_in6 six = { .sin6_family = AF_INET6,
                                    .sin6_port = htons ((uint16_t)port),
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
  struct ifaddrs *all = NULL;
  int fd = try_address ((const struct sockaddr *)&four, sizeof four), problem = errno, left = MAX_ADDRESSES;
  if (fd < 0)
    fd = try_address ((const struct sockaddr *)&six, sizeof six);
  if (fd < 0 && getifaddrs (&all) < 0)
    all = NULL;
  for (const struct ifaddrs *one = all; fd < 0 && one && left > 0; one = one->ifa_next) {
    struct sockaddr_in address;
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET)
      continue;
    memcpy (&address, one->ifa_addr, sizeof address);
    address.sin_port = htons ((uint16_t)port);
    fd = try_address ((const struct sockaddr *)&address, sizeof address);
    left--;
  }
  if (all)
    freeifaddrs (all);
  errno = problem;
  return fd;
}

void
guest_connect_main (int client, const char *token, unsigned port)
{
  BangerRelay relay;
  struct pollfd fds[BANGER_RELAY_FDS];
  char text[120];
  const int kept[] = { client };
  prctl (PR_SET_NAME, "banger-connect");
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  guest_close_all_but (kept, 1);
  int server = connect_here (port);
  if (server < 0) {
    snprintf (text, sizeof text, "error nobody answers on port %u: %s", port, strerror (errno));
    answer (client, token, text);
    _exit (0);
  }
  answer (client, token, "ok");
  if (banger_relay_begin (&relay, client, server) < 0)
    _exit (1);
  do {
    banger_relay_prepare (&relay, fds);
    while (poll (fds, BANGER_RELAY_FDS, -1) < 0 && errno == EINTR)
      continue;
  } while (banger_relay_run (&relay, fds));
  _exit (0);
}
