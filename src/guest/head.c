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
guest_head_main (char **arguments)
{
  static char buffer[65536];
  char *end = NULL;
  errno = 0;
  unsigned long long left = arguments[0] ? strtoull (arguments[0], &end, 10) : 0;
  if (!end || end == arguments[0] || *end != '\0' || errno != 0 || strchr (arguments[0], '-')) {
    fprintf (stderr, "banger-guest: head: '%s' is no number of bytes\n", arguments[0] ? arguments[0] : "");
    return EXIT_OURS;
  }
  while (left > 0) {
    ssize_t n = read (STDIN_FILENO, buffer, left < sizeof buffer ? left : sizeof buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n == 0)
      errno = EPIPE;
    if (n <= 0 || banger_write_all (STDOUT_FILENO, buffer, (size_t)n) < 0) {
      fprintf (stderr, "banger-guest: head: %llu bytes are missing: %s\n", left, strerror (errno));
      return 1;
    }
    left -= (unsigned long long)n;
  }
  return 0;
}
