/* banger-guest: /init of the initramfs, then the agent, then small commands in the running guest.
 * Run by the kernel, by itself, by systemd and over ssh.
 * Never runs on the host but in tests. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent.h"
#include "guest/exec.h"
#include "guest/ready.h"
#include "guest/start.h"

static int
print_version (char **arguments)
{
  printf ("banger-guest " BANGER_VERSION "\n");
  return 0;
}

static int
run_ready (char **arguments)
{
  return guest_ready_main ();
}

static const struct {
  const char *word;
  int (*run) (char **arguments);
} commands[] = {
  { "exec", guest_exec_main },
  { "ready", run_ready },
  { GUEST_AGENT_COMMAND, guest_agent_main },
  { "version", print_version },
};

int
main (int argc, char **argv, char **environment)
{
  if (getpid () == 1)
    guest_start (environment);
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp (argv[1], commands[i].word) == 0)
      return commands[i].run (argv + 2);
  fprintf (stderr, "usage: guest exec [--cwd WORD] WORD... | guest ready | guest version\n");
  return 125;
}
