/* Sockets of a VMM.
 * Runs in worker threads.
 * Never touches a socket that the VM's own VMM does not listen at. */
#include "privileged/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/names.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "privileged/gate.h"
#include "privileged/vmm.h"

/* The owner may link, where fs.protected_hardlinks is off, a socket of root's into the folder: so the one at the other
 * end is asked. Through the descriptor, so that the answer is about this very socket. */
static gboolean
check_listener (int fd, const BangerLease *lease, const char *name, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  struct ucred peer;
  socklen_t length = sizeof peer;
  banger_autofd int sock = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  snprintf (address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", fd);
  if (sock < 0 || connect (sock, (const struct sockaddr *)&address, sizeof address) < 0
      || getsockopt (sock, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_WRONG_STATE, errno, "socket '%s' does not answer", name);
  return (guint32)peer.pid == lease->pid
         || banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                              "socket '%s' is refused: the VMM of %s is not the one that listens", name, lease->vm);
}

static gboolean
hand_over (const BangerRoot *root, int fd, const char *name, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d", fd);
  const BangerInstall *install = root->install;
  return (fchownat (fd, "", install->owner_uid, install->owner_gid, AT_EMPTY_PATH) == 0 && chmod (path, 0600) == 0)
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot hand socket '%s' over", name);
}

gboolean
banger_socket_grant (const BangerRoot *root, const BangerLease *lease, const char *which, GError **error)
{
  const char *name = g_str_equal (which, "api") ? BANGER_SOCKET_API : BANGER_SOCKET_VSOCK;
  banger_autofd int vmm = banger_vmm_open (root, lease, error);
  if (vmm < 0)
    return FALSE;
  banger_autofd int folder = banger_safe_openat (root->sockets_fd, lease->vm, O_RDONLY | O_DIRECTORY, 0,
                                                 BANGER_SAFE_NONE, error);
  banger_autofd int fd = folder < 0 ? -1 : banger_gate_socket (folder, name, lease->uid, error);
  if (fd < 0 || !check_listener (fd, lease, name, error))
    return FALSE;
  if (!banger_pidfd_alive (vmm)) /* its number may be another's by now */
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the VMM of %s has ended", lease->vm);
  return hand_over (root, fd, name, error);
}
