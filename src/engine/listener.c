/* Listening unix sockets that can be connected to from the moment their name appears.
 * Never replaces a file that exists. */
#include "engine/listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"

int
banger_listen_unix (const char *path, int backlog)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int length = snprintf (address.sun_path, sizeof address.sun_path, "%s~", path);
  if (length >= (int)sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  banger_autofd int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  unlink (address.sun_path);
  mode_t mask = umask (0177);
  int failed = bind (fd, (struct sockaddr *)&address, sizeof address);
  umask (mask);
  if (failed < 0)
    return -1;
  /* A link, not a rename: it refuses an existing name, and watchers see a creation. */
  failed = listen (fd, backlog) < 0 || link (address.sun_path, path) < 0;
  int saved = errno;
  unlink (address.sun_path);
  if (failed) {
    errno = saved == EEXIST ? EADDRINUSE : saved;
    return -1;
  }
  return banger_steal_fd (&fd);
}
