/* Decodes the words, runs the command and ends as it did.
 * Run by the login shell that sshd starts.
 * Never hands a word to a shell. */
#include "guest/exec.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exec-words.h"

#define EXIT_OURS 125
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

static int
decode (char *word)
{
  if (word != NULL && banger_exec_word_decode (word) == 0)
    return 0;
  fprintf (stderr, "banger-guest: exec: '%s' is not a coded word\n", word ? word : "");
  return -1;
}

static int
become (char **words)
{
  execvp (words[0], words);
  int status = errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
  fprintf (stderr, "banger-guest: cannot run '%s': %s\n", words[0], strerror (errno));
  return status;
}

/* Waits for the command: ssh does not say which signal ended one, a status of 128 + n does. */
static int
run (char **words)
{
  pid_t child = fork ();
  if (child <= 0) /* without a second process: the command itself */
    return become (words);
  signal (SIGINT, SIG_IGN);
  signal (SIGQUIT, SIG_IGN);
  for (int fd = 0; fd <= 2; fd++) /* the other ends must notice when the command closes its own */
    close (fd);
  int status = 0;
  while (waitpid (child, &status, 0) < 0 && errno == EINTR)
    continue;
  return WIFSIGNALED (status) ? 128 + WTERMSIG (status) : WEXITSTATUS (status);
}

int
guest_exec_main (char **words)
{
  if (words[0] != NULL && strcmp (words[0], "--cwd") == 0) {
    if (decode (words[1]) < 0)
      return EXIT_OURS;
    if (chdir (words[1]) < 0) {
      fprintf (stderr, "banger-guest: cannot enter '%s': %s\n", words[1], strerror (errno));
      return EXIT_OURS;
    }
    words += 2;
  }
  if (words[0] == NULL) {
    fprintf (stderr, "banger-guest: exec: no command\n");
    return EXIT_OURS;
  }
  for (char **word = words; *word != NULL; word++)
    if (decode (*word) < 0)
      return EXIT_OURS;

  return run (words);
}
