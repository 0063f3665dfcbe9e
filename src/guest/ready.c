/* Listeners from /proc/net/tcp, and the datagram to the agent.
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
guest_tcp_listening (const char *table, unsigned port, unsigned long inode)
{
  for (const char *line = strchr (table, '\n'); line; line = strchr (line + 1, '\n')) {
    unsigned local, state;
    unsigned long own = 0;
    if (sscanf (line + 1, " %*[0-9]: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", &local, &state,
                &own)
            >= 2
        && local == port && state == TCP_LISTEN && (inode == 0 || inode == own))
      return 1;
  }
  return 0;
}

int
guest_ssh_listening (unsigned long inode)
{
  static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
  int listening = 0;
  for (size_t i = 0; i < 2 && !listening; i++) {
    char *table = guest_read_file (tables[i], MAX_TABLE_BYTES);
    listening = table && guest_tcp_listening (table, GUEST_SSH_PORT, inode);
    free (table);
  }
  return listening;
}

int
guest_ready_tell (const char *word)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = GUEST_AGENT_SOCKET };
  banger_autofd int fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  size_t length = strlen (word);
  return fd >= 0
                 && sendto (fd, word, length, MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address)
                        == (ssize_t)length
             ? 0
             : -1;
}

int
guest_ready_main (void)
{
  long long deadline = guest_now_ms () + LISTENER_WAIT_MS;
  while (!guest_ssh_listening (0)) {
    if (guest_now_ms () > deadline) {
      fprintf (stderr, "banger-guest: nothing listens on port %d after %d s\n", GUEST_SSH_PORT,
               LISTENER_WAIT_MS / 1000);
      return 1;
    }
    usleep (LISTENER_STEP_US);
  }

  if (guest_ready_tell (GUEST_TELLS_READY) == 0)
    return 0;
  fprintf (stderr, "banger-guest: cannot tell the agent: %s\n", strerror (errno));
  return 1;
}
