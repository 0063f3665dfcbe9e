/* Stands in for a git that was taken over: tries to write what it may only read.
 * Found by workspace-tool under the name git, from test_workspace.py; statically linked.
 * Never hurts anybody: what it writes is the file that its last argument names. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void
say (const char *name, long r)
{
  char line[64];
  int length = snprintf (line, sizeof line, "%s=%d\n", name, r < 0 ? errno : 0);
  if (write (1, line, (size_t)length) != length)
    _exit (9);
}

/* Where it may write below @folder. */
static int
within (const char *folder, const char *victim)
{
  say ("enter", chdir (folder));
  say ("own", open ("own", O_WRONLY | O_CREAT | O_TRUNC, 0600));
  say ("own-again", open ("own", O_RDWR | O_TRUNC));
  say ("read", open (victim, O_RDONLY));
  say ("write-only", open (victim, O_WRONLY));
  say ("append", open (victim, O_WRONLY | O_APPEND));
  say ("both-ways", open (victim, O_RDWR));
  say ("cut", open (victim, O_WRONLY | O_TRUNC));
  say ("read-cut", open (victim, O_RDONLY | O_TRUNC));
  say ("nothing-cut", open (victim, O_ACCMODE | O_TRUNC));
  say ("truncate", truncate (victim, 0));
  say ("link", link (victim, "linked"));
  say ("away", rename (victim, "renamed"));
  say ("over", rename ("own", victim));
  say ("unlink", unlink (victim));
  say ("mode", chmod ("own", 04755));
  return 0;
}

int
main (int argc, char **argv)
{
  if (argc > 3 && strcmp (argv[argc - 2], "within") == 0)
    return within (argv[argc - 3], argv[argc - 1]);
  const char *victim = argv[argc - 1];
  int in = open (victim, O_RDONLY | O_CLOEXEC), answer = dup (1);
  say ("read", in);
  say ("write-only", open (victim, O_WRONLY));
  say ("append", open (victim, O_WRONLY | O_APPEND));
  int out = open (victim, O_RDWR);
  if (out > 2 && dup2 (out, 1) == 1) {
    ssize_t n = write (1, "taken over", 10);
    dup2 (answer, 1);
    say ("written", n);
  }
  int null = open ("/dev/null", O_RDWR); /* git begins with it */
  say ("null", null);
  void *shared = mmap (NULL, 1, PROT_READ, MAP_SHARED, out > 2 ? out : in, 0);
  say ("shared", shared == MAP_FAILED ? -1 : mprotect (shared, 1, PROT_READ | PROT_WRITE));
  return 0;
}
