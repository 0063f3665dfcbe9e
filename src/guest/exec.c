/* Decodes the words, runs the command and ends as it did.
 * Run by the login shell that sshd starts.
 * Never hands a word to a shell. */
#include "guest/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exec-words.h"
#include "guest/descendants.h"
#include "guest/words.h"

#define EXIT_OURS 125
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127
#define MAX_WORD_BYTES (128 << 10) /* that execve(2) takes, the NUL among them */

static int
decode (char *word)
{
  if (word && banger_exec_word_decode (word) == 0)
    return 0;
  fprintf (stderr, "banger-guest: exec: '%s' is not a coded word\n", word ? word : "");
  return -1;
}

/* The room for arguments is a quarter of what the stack may grow to, see execve(2). */
static void
make_room (void)
{
  struct rlimit limit;
  if (getrlimit (RLIMIT_STACK, &limit) < 0)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_STACK, &limit);
}

/* Returns: how many bytes there are in @words; -1: one of them, which is told of, has too many by itself. */
static ssize_t
count_bytes (const char *what, char **words)
{
  size_t sum = 0;
  for (size_t i = 0; words[i]; i++) {
    size_t length = strlen (words[i]);
    if (length >= MAX_WORD_BYTES) {
      fprintf (stderr, "banger-guest: %s %zu ('%.20s...') has %zu bytes, at most %d can be given\n", what, i, words[i],
               length, MAX_WORD_BYTES - 1);
      return -1;
    }
    sum += length + 1;
  }
  return (ssize_t)sum;
}

static void
say_too_long (char **words)
{
  ssize_t arguments = count_bytes ("argument", words);
  ssize_t variables = arguments < 0 ? -1 : count_bytes ("variable", environ);
  if (variables >= 0)
    fprintf (stderr, "banger-guest: %zd bytes of arguments and %zd of environment are more than the kernel takes\n",
             arguments, variables);
}

int
guest_exec_become (char **words)
{
  execvp (words[0], words);
  if (errno == E2BIG) {
    make_room ();
    execvp (words[0], words);
  }
  if (errno == E2BIG) {
    say_too_long (words);
    return EXIT_CANNOT_RUN;
  }
  int status = errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
  fprintf (stderr, "banger-guest: cannot run '%s': %s\n", words[0], strerror (errno));
  return status;
}

static int
counted (int status)
{
  return WIFSIGNALED (status) ? 128 + WTERMSIG (status) : WEXITSTATUS (status);
}

/* Waits for the command: ssh does not say which signal ended one, a status of 128 + n does. When the connection ends
 * first there is nobody to tell: the command goes with its children, as a local one would with its terminal. */
static int
run (char **words)
{
  pid_t parent = getppid ();
  sigset_t waited, held, before;
  sigemptyset (&waited);
  sigaddset (&waited, SIGCHLD);
  sigaddset (&waited, SIGTERM);
  sigaddset (&waited, SIGHUP);
  held = waited;
  sigaddset (&held, SIGINT); /* the command's alone, from its first moment: a terminal's go to us both */
  sigaddset (&held, SIGQUIT);
  sigprocmask (SIG_BLOCK, &held, &before);
  pid_t child = fork ();
  if (child <= 0) { /* without a second process: the command itself */
    sigprocmask (SIG_SETMASK, &before, NULL);
    return guest_exec_become (words);
  }
  signal (SIGINT, SIG_IGN);
  signal (SIGQUIT, SIG_IGN);
  for (int fd = 0; fd <= 2; fd++) /* the other ends must notice when the command closes its own */
    close (fd);
  prctl (PR_SET_PDEATHSIG, SIGTERM); /* sshd tells a command without a terminal nothing when it goes */
  int number = getppid () == parent ? 0 : SIGTERM, status = 0;
  while (number != SIGTERM && number != SIGHUP) {
    if (waitpid (child, &status, WNOHANG) == child)
      return counted (status);
    number = sigwaitinfo (&waited, NULL);
  }
  guest_end_descendants (number);
  return 128 + number;
}

int
guest_exec_main (char **words)
{
  if (words[0] && strcmp (words[0], "--cwd") == 0) {
    if (decode (words[1]) < 0)
      return EXIT_OURS;
    if (chdir (words[1]) < 0) {
      fprintf (stderr, "banger-guest: cannot enter '%s': %s\n", words[1], strerror (errno));
      return EXIT_OURS;
    }
    words += 2;
  }
  if (words[0] && strcmp (words[0], "--words") == 0) {
    const char *id = words[1] ? words[1] : "";
    words = guest_words_take (id);
    if (!words) {
      fprintf (stderr, "banger-guest: exec: no words are kept as '%s': %s\n", id, strerror (errno));
      return EXIT_OURS;
    }
  }
  if (!words[0]) {
    fprintf (stderr, "banger-guest: exec: no command\n");
    return EXIT_OURS;
  }
  for (char **word = words; *word; word++)
    if (decode (*word) < 0)
      return EXIT_OURS;

  return run (words);
}
