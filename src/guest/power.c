/* Signals to process 1, and the emergency path of sysrq and reboot(2).
 * Called by the agent.
 * Never waits for a disk longer than its share of the two seconds. */
#include "guest/power.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/file.h"
#include "guest/report.h"

#define SYNC_SHARE_MS 1300
#define REMOUNT_SHARE_MS 500
#define STEP_US 5000
#define MAX_MOUNTS_BYTES (1 << 20)

pid_t
guest_sync_start (void)
{
  pid_t pid = fork ();
  if (pid != 0)
    return pid;
  sync ();
  _exit (0);
}

void
guest_ask_init_to_restart (int is_systemd)
{
  /* SIGRTMIN+5: reboot.target, see systemd(1). SIGINT is Ctrl-Alt-Del to sysvinit, busybox, openrc-init and runit. */
  if (kill (1, is_systemd ? SIGRTMIN + 5 : SIGINT) < 0)
    guest_note ("cannot signal process 1: %s", strerror (errno));
}

static int
has_writable_disk (void)
{
  char *mounts = guest_read_file ("/proc/self/mounts", MAX_MOUNTS_BYTES);
  if (mounts == NULL)
    return 0;
  int writable = 0;
  char *rest = NULL;
  for (char *line = strtok_r (mounts, "\n", &rest); line != NULL && !writable; line = strtok_r (NULL, "\n", &rest))
    writable = strncmp (line, "/dev/", 5) == 0 && strstr (line, " rw,") != NULL;
  free (mounts);
  return writable;
}

static void
press_sysrq (char key)
{
  int fd = open ("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write (fd, &key, 1) != 1)
    guest_note ("cannot use sysrq: %s", strerror (errno));
  close (fd);
}

static void
sync_until (long long deadline)
{
  pid_t pid = guest_sync_start ();
  while (pid > 0 && waitpid (pid, NULL, WNOHANG) == 0 && guest_now_ms () < deadline)
    usleep (STEP_US);
}

void
guest_restart_now (void)
{
  sync_until (guest_now_ms () + SYNC_SHARE_MS);

  press_sysrq ('u');
  long long deadline = guest_now_ms () + REMOUNT_SHARE_MS;
  while (has_writable_disk () && guest_now_ms () < deadline)
    usleep (STEP_US);
  /* A disk is called read-only before its last writes are out; sync(2) waits for whoever changes a mount. */
  sync_until (deadline);

  for (;;) {
    reboot (RB_AUTOBOOT);
    usleep (STEP_US);
  }
}
