/* The size of a console log: what a guest writes is bounded.
 * Never touches what is not a regular file. */
#include "manager/vm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"

static const char note[] = "[banger: what was here before is cut away, the log had become too long]\n";

gboolean
banger_console_bound (int dir_fd, const char *name, gint64 max, gsize keep, GError **error)
{
  struct stat st;
  banger_autofd int fd = openat (dir_fd, name, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    return TRUE;
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", name);
  if (!S_ISREG (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s is not a regular file", name);
  if (st.st_size <= max)
    return TRUE;
  g_autofree char *tail = g_malloc (keep);
  ssize_t n = banger_read_at (fd, tail, keep, st.st_size - (off_t)keep);
  /* The first line of what is kept would be half a line. */
  const char *line = n > 0 ? memchr (tail, '\n', (gsize)n) : NULL;
  const char *from = line ? line + 1 : tail;
  if (n < 0 || ftruncate (fd, 0) < 0 || banger_write_all (fd, note, strlen (note)) < 0
      || banger_write_all (fd, from, (gsize)(tail + n - from)) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot cut %s", name);
  return TRUE;
}
