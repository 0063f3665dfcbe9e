/* Reading and writing of file.h.
 * Never leaves half a file under the final name. */
#include "guest/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"

static char *
read_all (int fd, size_t max)
{
  size_t size = 0, used = 0;
  char *data = NULL;
  for (;;) {
    if (used + 1 >= size) {
      size = size ? size * 2 : 4096;
      char *larger = realloc (data, size);
      if (!larger)
        break;
      data = larger;
    }
    ssize_t n = read (fd, data + used, size - used - 1);
    if (n < 0 && errno == EINTR)
      continue;
    if (n == 0) {
      data[used] = '\0';
      return data;
    }
    if (n < 0)
      break;
    used += (size_t)n;
    if (used > max) {
      errno = EFBIG;
      break;
    }
  }
  free (data);
  return NULL;
}

char *
guest_read_file (const char *path, size_t max)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  return fd < 0 ? NULL : read_all (fd, max);
}

int
guest_read_word (const char *path, char *buffer, size_t size)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t n = read (fd, buffer, size - 1);
  if (n < 0)
    return -1;
  buffer[n] = '\0';
  buffer[strcspn (buffer, "\n")] = '\0';
  return 0;
}

static int
has_text (const char *path, const char *text, mode_t mode)
{
  struct stat st;
  if (lstat (path, &st) < 0 || !S_ISREG (st.st_mode) || (st.st_mode & 07777) != mode || st.st_uid != 0
      || st.st_size != (off_t)strlen (text))
    return 0;
  char *old = guest_read_file (path, strlen (text));
  int same = old && strcmp (old, text) == 0;
  free (old);
  return same;
}

int
guest_write_file (const char *path, const char *text, mode_t mode)
{
  if (has_text (path, text, mode))
    return 0;
  char temporary[PATH_MAX];
  if (snprintf (temporary, sizeof temporary, "%s.banger-new", path) >= (int)sizeof temporary) {
    errno = ENAMETOOLONG;
    return -1;
  }
  unlink (temporary);
  banger_autofd int fd = open (temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0)
    return -1;
  if (fchmod (fd, mode) == 0 && banger_write_all (fd, text, strlen (text)) == 0 && rename (temporary, path) == 0)
    return 0;
  int saved = errno;
  unlink (temporary);
  errno = saved;
  return -1;
}

int
guest_make_dirs (const char *path)
{
  char part[PATH_MAX];
  if (strlen (path) >= sizeof part) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (part, path);
  for (char *slash = strchr (part + 1, '/'); slash; slash = strchr (slash + 1, '/')) {
    *slash = '\0';
    if (mkdir (part, 0755) < 0 && errno != EEXIST)
      return -1;
    *slash = '/';
  }
  return mkdir (part, 0755) < 0 && errno != EEXIST ? -1 : 0;
}

int
guest_copy_file (const char *from, const char *to, mode_t mode)
{
  banger_autofd int in = open (from, O_RDONLY | O_CLOEXEC);
  if (in < 0)
    return -1;
  banger_autofd int out = open (to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (out < 0)
    return -1;
  return banger_send_file (out, in, INT64_MAX) < 0 ? -1 : fchmod (out, mode);
}
