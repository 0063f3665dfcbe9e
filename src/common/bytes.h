/* All the bytes of a read or a write.
 * Used everywhere.
 * Never takes less for all, nor a signal for an error. For what may wait: streams that do not block have their own. */
#pragma once

#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

/** banger_write_all: Returns: 0, or -1 with errno. */
static inline int
banger_write_all (int fd, const void *bytes, size_t length)
{
  const char *from = bytes;
  while (length > 0) {
    ssize_t n = write (fd, from, length);
    if (n < 0 && errno != EINTR)
      return -1;
    from += n > 0 ? n : 0;
    length -= n > 0 ? (size_t)n : 0;
  }
  return 0;
}

/** banger_write_at: the same at @at. */
static inline int
banger_write_at (int fd, const void *bytes, size_t length, off_t at)
{
  const char *from = bytes;
  for (size_t done = 0; done < length;) {
    ssize_t n = pwrite (fd, from + done, length - done, at + (off_t)done);
    if (n < 0 && errno != EINTR)
      return -1;
    done += n > 0 ? (size_t)n : 0;
  }
  return 0;
}

/** banger_read_at: Returns: how many bytes from @at on are in @bytes, less than @length only at the end; -1 with errno. */
static inline ssize_t
banger_read_at (int fd, void *bytes, size_t length, off_t at)
{
  char *to = bytes;
  size_t done = 0;
  while (done < length) {
    ssize_t n = pread (fd, to + done, length - done, at + (off_t)done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    done += (size_t)n;
  }
  return (ssize_t)done;
}

/** banger_read_exactly: Returns: 0; -1 with errno, which is EIO for a file that ends before. */
static inline int
banger_read_exactly (int fd, void *bytes, size_t length, off_t at)
{
  ssize_t n = banger_read_at (fd, bytes, length, at);
  if (n >= 0 && (size_t)n < length)
    errno = EIO;
  return n == (ssize_t)length ? 0 : -1;
}

/** banger_send_file: copies to @to what is left of @from. Returns: how many bytes, less than @most only at the end; -1
 * with errno. */
static inline off_t
banger_send_file (int to, int from, off_t most)
{
  static const off_t piece = 1 << 20;
  off_t done = 0;
  while (done < most) {
    ssize_t n = sendfile (to, from, NULL, (size_t)(most - done < piece ? most - done : piece));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return -1;
    if (n == 0)
      break;
    done += n;
  }
  return done;
}
