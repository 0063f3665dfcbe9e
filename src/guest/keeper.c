/* Keeps the agent alive until the machine ends: starts another one when it ended, and both when one of the two is gone.
 * Never serves anybody itself. */
#include "guest/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "guest/ready.h"
#include "guest/report.h"

#define RESTART_PAUSE_MS 1000 /* after an agent that ended as soon as it was started */

/* Returns: only when it cannot be run. */
static void
run_agent (const char *program, const GuestAgentOptions *options)
{
  char number[16];
  snprintf (number, sizeof number, "%d", options->listener);
  if (options->listener >= 0)
    fcntl (options->listener, F_SETFD, 0);
  /* systemd spares a process whose name begins with '@' when it kills what is left before the restart, see
   * https://systemd.io/ROOT_STORAGE_DAEMONS. */
  execl (program, "@banger-guest", GUEST_AGENT_COMMAND, number, options->init->word, options->boot_id,
         options->no_sshd ? BANGER_GUEST_NO_SSHD : NULL, NULL);
}

int
guest_agent_spawn (const GuestAgentOptions *options)
{
  pid_t pid = fork ();
  if (pid != 0)
    return pid < 0 ? -1 : 0;

  guest_stop_watchdog ();
  setsid ();
  run_agent (BANGER_GUEST_BINARY, options);
  guest_warn ("cannot run " BANGER_GUEST_BINARY ": %s", strerror (errno));
  _exit (1);
}

static void
leave_the_console (void)
{
  int fd = open ("/dev/null", O_RDWR);
  for (int target = 0; fd >= 0 && target < 3; target++)
    dup2 (fd, target);
  if (fd > 2)
    close (fd);
}

/* Without the agent a stop would have to wait for ssh. */
static void
survive_memory_pressure (void)
{
  int fd = open ("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write (fd, "-1000", 5) != 5)
    guest_note ("cannot lower the agent's oom score");
  close (fd);
}

static pid_t
start_serving (const GuestAgentOptions *options, void (*serve) (void))
{
  pid_t parent = getpid ();
  pid_t pid = fork ();
  if (pid != 0)
    return pid;
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, GUEST_KEEPER_DIED);
  sigprocmask (SIG_BLOCK, &set, NULL); /* until there is a descriptor for it */
  prctl (PR_SET_PDEATHSIG, GUEST_KEEPER_DIED);
  if (getppid () == parent)
    serve ();
  if (getppid () != parent)
    run_agent ("/proc/self/exe", options); /* without a parent: anew, as one */
  _exit (1);
}

/* Whatever ends the agent, a stop must not have to kill the machine: the parent starts another, and an agent whose
 * parent is gone makes way for a new pair. */
void
guest_keep_serving (const GuestAgentOptions *options, void (*serve) (void))
{
  leave_the_console ();
  survive_memory_pressure ();
  signal (SIGHUP, SIG_IGN);
  for (;;) {
    long long started = guest_now_ms ();
    pid_t pid = start_serving (options, serve);
    int status = 0;
    while (pid > 0 && waitpid (pid, &status, 0) < 0 && errno == EINTR)
      continue;
    guest_warn ("the agent ended with status %d, it is started again", status);
    if (guest_now_ms () - started < RESTART_PAUSE_MS)
      usleep (RESTART_PAUSE_MS * 1000);
  }
}
