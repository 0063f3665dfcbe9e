/* The gate on sockets of a VMM (requirement B11).
 * Never opens the socket itself: the descriptor is O_PATH. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "privileged/gate.h"

static gboolean
refuse (const char *name, const char *why, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "socket '%s' is refused: %s", name, why);
}

int
banger_gate_socket (int folder_fd, const char *name, uid_t uid, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (folder_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  gboolean ok = TRUE;
  if (fd < 0 || fstat (fd, &st) < 0)
    ok = banger_set_error_errno (error, errno == ENOENT ? BANGER_ERROR_WRONG_STATE : BANGER_ERROR_UNSAFE_FILE, errno,
                                 "socket '%s'", name);
  else if (!S_ISSOCK (st.st_mode))
    ok = refuse (name, "it is not a socket", error);
  else if (st.st_nlink != 1)
    ok = refuse (name, "it has another name elsewhere", error);
  else if (st.st_uid != uid && st.st_uid != 0)
    ok = refuse (name, "it belongs to somebody else", error);
  return ok ? banger_steal_fd (&fd) : -1;
}
