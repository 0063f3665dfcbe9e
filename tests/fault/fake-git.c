/* git as the list of faults says it is: slow, silent, failing, killed, or saying what nobody can read; else the host's own.
 * First on bangerd's PATH by parts.py. It runs in the cage that bangerd puts git into, and so does what it executes.
 * Never writes anything but its answer. */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LIST_BYTES 16384
#define LOOK_NSEC 20000000
#define GARBAGE 4096
#define EXEC_FD 3 /* the one that the cage lets be executed */

/* What the last line "* git.WORD HOW" says of which WORD is among the arguments. */
static void
how_now (char **argv, char how[32])
{
  static char list[LIST_BYTES + 1], path[PATH_MAX];
  strcpy (how, "ok");
  ssize_t n = readlink ("/proc/self/exe", path, sizeof path - sizeof "/../faults");
  if (n < 0)
    return;
  path[n] = '\0';
  strcat (dirname (path), "/../faults");
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  n = fd < 0 ? 0 : read (fd, list, LIST_BYTES);
  if (fd >= 0)
    close (fd);
  list[n < 0 ? 0 : n] = '\0';
  for (char *rest, *line = strtok_r (list, "\n", &rest); line; line = strtok_r (NULL, "\n", &rest)) {
    char who[32], word[64], does[32];
    if (sscanf (line, "%31s git.%63s %31s", who, word, does) != 3)
      continue;
    for (char **arg = argv; *arg; arg++)
      if (strcmp (*arg, word) == 0)
        strcpy (how, does);
  }
}

static int
say_garbage (void)
{
  unsigned char text[GARBAGE];
  for (size_t i = 0; i < sizeof text; i++)
    text[i] = (unsigned char)(i * 7 + i / 256);
  return write (1, text, sizeof text) == (ssize_t)sizeof text ? 0 : 1;
}

int
main (int argc, char **argv)
{
  char how[32];
  struct timespec pause = { 0, LOOK_NSEC };
  for (how_now (argv, how); strcmp (how, "silent") == 0; how_now (argv, how))
    nanosleep (&pause, NULL);
  if (strcmp (how, "killed") == 0)
    __builtin_trap ();
  if (strncmp (how, "exit:", 5) == 0)
    return atoi (how + 5);
  if (strcmp (how, "garbage") == 0)
    return say_garbage ();
  int fd = open ("/usr/bin/git", O_RDONLY | O_CLOEXEC);
  if (fd < 0 || (fd != EXEC_FD && dup3 (fd, EXEC_FD, O_CLOEXEC) < 0))
    return 125;
  syscall (SYS_execveat, EXEC_FD, "", argv, environ, AT_EMPTY_PATH);
  return 126;
}
