/* The end of all processes, and the emergency path of sysrq and reboot(2).
 * Never waits for a disk longer than its share of the two seconds. */
#include "guest/power.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/folder.h"
#include "guest/file.h"
#include "guest/report.h"

#define SYNC_SHARE_MS 1300
#define REMOUNT_SHARE_MS 500
#define STEP_US 5000
#define TERM_MS 5000
#define KILL_MS 1000
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

static int
has_writable_disk (void)
{
  char *mounts = guest_read_file ("/proc/self/mounts", MAX_MOUNTS_BYTES);
  if (!mounts)
    return 0;
  int writable = 0;
  char *rest = NULL;
  for (char *line = strtok_r (mounts, "\n", &rest); line && !writable; line = strtok_r (NULL, "\n", &rest))
    writable = strncmp (line, "/dev/", 5) == 0 && strstr (line, " rw,");
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

/* Threads of the kernel and what has ended have no command line; '@' spares the agent, as systemd does. */
static int
is_to_end (pid_t pid)
{
  char path[64], first = '\0';
  if (pid <= 1 || pid == getpid ())
    return 0;
  snprintf (path, sizeof path, "/proc/%d/cmdline", (int)pid);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  int is = fd >= 0 && read (fd, &first, 1) == 1 && first != '@';
  close (fd);
  return is;
}

/* @number 0: only counts them; one is left, as far as one knows, where they cannot be listed. */
static int
signal_all (int number)
{
  int count = 0;
  banger_autofolder DIR *proc = banger_folder_open (AT_FDCWD, "/proc");
  for (const struct dirent *entry; (entry = banger_folder_next (proc));) {
    pid_t pid = (pid_t)atoi (entry->d_name);
    if (!is_to_end (pid))
      continue;
    count++;
    if (number != 0 && kill (pid, number) == 0)
      kill (pid, SIGCONT); /* a stopped one would not hear of it */
  }
  return errno != 0 ? count + 1 : count;
}

static int
end_all_by (int number, int milliseconds)
{
  long long deadline = guest_now_ms () + milliseconds;
  signal_all (number);
  while (signal_all (0) > 0) {
    if (guest_now_ms () > deadline)
      return -1;
    while (waitpid (-1, NULL, WNOHANG) > 0)
      continue;
    usleep (STEP_US);
  }
  return 0;
}

void
guest_end_all (void)
{
  if (end_all_by (SIGTERM, TERM_MS) < 0)
    end_all_by (SIGKILL, KILL_MS);
  guest_restart_now ();
}
