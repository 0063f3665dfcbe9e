/* Listeners from /proc/net/tcp, and the datagram to the agent.
 * Used by the agent and by `guest ready`.
 * Never waits for more than ten seconds. */
#include "guest/ready.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "guest/file.h"
#include "guest/report.h"

#define MAX_TABLE_BYTES (4 << 20)
#define LISTENER_WAIT_MS 10000
#define LISTENER_STEP_US 50000
#define TCP_LISTEN 0x0a

int
guest_tcp_listening (const char *table, unsigned port)
{
  for (const char *line = strchr (table, '\n'); line != NULL; line = strchr (line + 1, '\n')) {
    unsigned local, state;
    if (sscanf (line + 1, " %*[0-9]: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local, &state) == 2 && local == port
        && state == TCP_LISTEN)
      return 1;
  }
  return 0;
}

int
guest_ssh_listening (void)
{
  static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
  int listening = 0;
  for (size_t i = 0; i < 2 && !listening; i++) {
    char *table = guest_read_file (tables[i], MAX_TABLE_BYTES);
    listening = table != NULL && guest_tcp_listening (table, GUEST_SSH_PORT);
    free (table);
  }
  return listening;
}

int
guest_ready_main (void)
{
  long long deadline = guest_now_ms () + LISTENER_WAIT_MS;
  while (!guest_ssh_listening ()) {
    if (guest_now_ms () > deadline) {
      fprintf (stderr, "banger-guest: nothing listens on port %d after %d s\n", GUEST_SSH_PORT,
               LISTENER_WAIT_MS / 1000);
      return 1;
    }
    usleep (LISTENER_STEP_US);
  }

  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = GUEST_AGENT_SOCKET };
  banger_autofd int fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && sendto (fd, "ready", 5, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address) == 5)
    return 0;
  fprintf (stderr, "banger-guest: cannot tell the agent: %s\n", strerror (errno));
  return 1;
}
