/* The first bytes of stdin to stdout.
 * Run by the script that takes in a work tree.
 * Never buffers ahead: the rest is for whoever reads next. */
#include "guest/head.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"

#define EXIT_OURS 125

int
guest_head_pass (const char *bytes, int to)
{
  static char buffer[65536];
  char *end = NULL;
  errno = 0;
  unsigned long long left = bytes ? strtoull (bytes, &end, 10) : 0;
  if (!end || end == bytes || *end != '\0' || errno != 0 || strchr (bytes, '-')) {
    fprintf (stderr, "banger-guest: head: '%s' is no number of bytes\n", bytes ? bytes : "");
    return EXIT_OURS;
  }
  while (left > 0) {
    ssize_t n = read (STDIN_FILENO, buffer, left < sizeof buffer ? left : sizeof buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n == 0)
      errno = EPIPE;
    if (n <= 0 || banger_write_all (to, buffer, (size_t)n) < 0) {
      fprintf (stderr, "banger-guest: head: %llu bytes are missing: %s\n", left, strerror (errno));
      return 1;
    }
    left -= (unsigned long long)n;
  }
  return 0;
}

int
guest_head_main (char **arguments)
{
  return guest_head_pass (arguments[0], STDOUT_FILENO);
}
