/* Looks first, and takes what is of the line.
 * Called by exec.c and guest-port.c. */
#include "manager/peer/line.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

const char *
banger_line_read (int fd, char *line, gsize *used, gboolean *ret_failed)
{
  *ret_failed = FALSE;
  for (;;) {
    ssize_t n = recv (fd, line + *used, BANGER_LINE_BYTES - 1 - *used, MSG_DONTWAIT | MSG_PEEK);
    const char *end = n > 0 ? memchr (line + *used, '\n', (gsize)n) : NULL;
    if (n > 0)
      n = recv (fd, line + *used, end ? (gsize)(end + 1 - line) - *used : (gsize)n, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return NULL;
    *used += n > 0 ? (gsize)n : 0;
    if (n <= 0 || (!end && *used == BANGER_LINE_BYTES - 1)) {
      errno = n < 0 ? errno : 0;
      *ret_failed = TRUE;
      return NULL;
    }
    if (!end)
      continue;
    line[*used - 1] = '\0';
    *used = 0;
    return line;
  }
}
