/* SO_PEERCRED.
 * Never trusts a path. */
#include "manager/peer/credentials.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/error.h"

gboolean
banger_peer_check (GSocketConnection *connection, pid_t pid, GError **error)
{
  return banger_peer_check_fd (g_socket_get_fd (g_socket_connection_get_socket (connection)), pid, error);
}

gboolean
banger_peer_check_fd (int fd, pid_t pid, GError **error)
{
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot see who listens");
  return peer.pid == pid
         || banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "process %d listens on its socket and not the VMM, %d",
                              peer.pid, pid);
}
