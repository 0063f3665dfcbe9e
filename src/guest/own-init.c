/* Waits for children and for the signals by which an init is told to end: the agent's, the kernel's Ctrl-Alt-Del,
 * halt(8), poweroff(8) and reboot(8) of any init.
 * Never ends but with the machine. */
#include "guest/own-init.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/power.h"
#include "guest/report.h"

int
guest_own_init_main (char **arguments)
{
  static const int ends[] = { SIGINT, SIGTERM, SIGPWR, SIGUSR1, SIGUSR2 };
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGCHLD);
  for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
    sigaddset (&set, ends[i]);
  sigprocmask (SIG_BLOCK, &set, NULL);
  if (getpid () != 1)
    return 125;
  reboot (RB_DISABLE_CAD); /* Ctrl-Alt-Del is a SIGINT to us, and no sudden restart */
  for (;;) {
    int number = sigwaitinfo (&set, NULL);
    while (waitpid (-1, NULL, WNOHANG) > 0)
      continue;
    if (number > 0 && number != SIGCHLD)
      break;
  }
  guest_note ("ending all processes");
  guest_end_all ();
}
