/* banger-guest: /init of the initramfs, then the agent, then small commands in the running guest.
 * Run by the kernel, by itself, by systemd and over ssh.
 * Never runs on the host but in tests. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/std-fds.h"
#include "guest/agent.h"
#include "guest/copy.h"
#include "guest/exec.h"
#include "guest/fstab.h"
#include "guest/head.h"
#include "guest/keeper.h"
#include "guest/own-init.h"
#include "guest/ports.h"
#include "guest/ready.h"
#include "guest/receive.h"
#include "guest/shell.h"
#include "guest/start.h"
#include "guest/words.h"

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
  { "exec", guest_exec_main },       { "fstab", guest_fstab_main },   { GUEST_INIT_COMMAND, guest_own_init_main },
  { "head", guest_head_main },       { "keep", guest_keep_main },     { "pack", guest_pack_main },
  { "ports", guest_ports_main },     { "ready", run_ready },          { GUEST_AGENT_COMMAND, guest_agent_main },
  { "receive", guest_receive_main }, { "unpack", guest_unpack_main }, { "version", print_version },
};

static int
run_command (int argc, char **argv)
{
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp (argv[1], commands[i].word) == 0)
      return commands[i].run (argv + 2);
  fprintf (stderr, "usage: guest exec [--cwd WORD] WORD... | guest exec [--cwd WORD] --words ID | "
                   "guest head BYTES | guest keep ID | guest pack PATH [NAME] | guest ports | guest ready | "
                   "guest receive FOLDER NAME BYTES git|plain [SCRIPT] | guest unpack PATH [NAME] | guest version\n");
  return 125;
}

int
main (int argc, char **argv, char **environment)
{
  if (getpid () == 1 && !(argc == 2 && strcmp (argv[1], GUEST_INIT_COMMAND) == 0))
    guest_start (environment);
  banger_std_fds_fill ();
  if (argc > 0 && guest_is_shell (argv[0]))
    return guest_shell_main (argc, argv, run_command);
  return run_command (argc, argv);
}
