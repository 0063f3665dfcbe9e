/* Found in /proc by name, told by a signal.
 * Never waits for longer than WAIT_MS. */
#include "guest/servers.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/folder.h"
#include "guest/file.h"
#include "guest/ready.h"
#include "guest/report.h"

#define MAX_KTHREADS 1024
#define WAIT_MS 15000 /* a host may be busy, and a restored guest does much at once */
#define STEP_US 2000
#define LISTEN_STEP_US 20000 /* a look costs, and sshd is to have the processor */

/* By the name that the kernel keeps, of 15 letters at most; children of process 1 alone, so none of a container. */
static const struct {
  const char *name;
  int signal;
} programs[] = {
  { "sshd", SIGHUP },             /* the first: executes itself anew: keys and random state */
  { "systemd-journal", SIGTERM }, /* is started again by systemd, and keeps its streams: machine and boot id */
  { "systemd-network", SIGKILL }, /* likewise; an orderly end would be the end */
  { "NetworkManager", SIGHUP },
};

/* Of /proc/<pid>/stat, see proc(5). Returns: -1 if it is gone. */
static int
read_process (pid_t pid, char *ret_name, size_t size, pid_t *ret_parent)
{
  char path[40], line[512];
  snprintf (path, sizeof path, "/proc/%d/stat", (int)pid);
  if (guest_read_word (path, line, sizeof line) < 0)
    return -1;
  char *open = strchr (line, '('), *close = strrchr (line, ')');
  int parent;
  if (!open || !close || close < open || sscanf (close + 1, " %*c %d", &parent) != 1)
    return -1;
  *close = '\0';
  snprintf (ret_name, size, "%s", open + 1);
  *ret_parent = parent;
  return 0;
}

static size_t
read_auxv (pid_t pid, char *ret, size_t size)
{
  char path[40];
  snprintf (path, sizeof path, "/proc/%d/auxv", (int)pid);
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read (fd, ret, size);
  return n > 0 ? (size_t)n : 0;
}

/* A program of somebody's session is not one that listens. */
static int
listens_for_ssh (pid_t pid)
{
  char path[80], target[64];
  unsigned long inode;
  int found = 0;
  snprintf (path, sizeof path, "/proc/%d/fd", (int)pid);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, path);
  for (const struct dirent *entry; !found && (entry = banger_folder_next (dir));) {
    ssize_t n = readlinkat (dirfd (dir), entry->d_name, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    found = sscanf (target, "socket:[%lu]", &inode) == 1 && guest_ssh_listening (inode);
  }
  return found;
}

static int
tell (pid_t pid, int number)
{
  return kill (pid, number) < 0 && errno != ESRCH ? -1 : 0;
}

static int
too_many (void)
{
  errno = E2BIG;
  return -1;
}

static int
tell_sshd (GuestServers *servers, pid_t pid, int number)
{
  if (listens_for_ssh (pid)) {
    if (servers->n_sshds == GUEST_MAX_SSHDS)
      return too_many ();
    servers->sshds[servers->n_sshds].pid = pid;
    servers->sshds[servers->n_sshds].length = read_auxv (pid, servers->sshds[servers->n_sshds].auxv, GUEST_MAX_AUXV);
    servers->n_sshds++;
  }
  return tell (pid, number);
}

static int
remember (GuestServers *servers, pid_t pid, int number)
{
  if (servers->n_others == GUEST_MAX_OTHERS)
    return too_many ();
  servers->others[servers->n_others].pid = pid;
  servers->others[servers->n_others].signal = number;
  servers->n_others++;
  return 0;
}

static int
look_at (GuestServers *servers, pid_t pid)
{
  char name[32];
  pid_t parent;
  if (read_process (pid, name, sizeof name, &parent) < 0)
    return 0;
  if (strcmp (name, programs[0].name) == 0)
    return parent == 1 || listens_for_ssh (pid) ? tell_sshd (servers, pid, programs[0].signal) : 0;
  for (size_t i = 1; i < sizeof programs / sizeof programs[0]; i++)
    if (strcmp (programs[i].name, name) == 0 && parent == 1)
      return remember (servers, pid, programs[i].signal);
  return 0;
}

static int
is_anew (const GuestServers *servers)
{
  char now[GUEST_MAX_AUXV];
  for (size_t i = 0; i < servers->n_sshds; i++) {
    size_t length = read_auxv (servers->sshds[i].pid, now, sizeof now);
    if (length > 0 && length == servers->sshds[i].length && memcmp (now, servers->sshds[i].auxv, length) == 0)
      return 0;
  }
  return 1;
}

static int
is_answering (const GuestServers *servers)
{
  return !servers->listened || guest_ssh_listening (0);
}

static int
wait_for (int (*is_so) (const GuestServers *servers), unsigned step_us, const GuestServers *servers)
{
  long long deadline = guest_now_ms () + WAIT_MS;
  while (!is_so (servers)) {
    if (guest_now_ms () > deadline) {
      errno = ETIMEDOUT;
      return -1;
    }
    usleep (step_us);
  }
  return 0;
}

/* Most of what a small machine has in /proc, and a look at each costs; proc_pid_task_children(5), which not every kernel has. */
static size_t
list_kernel_threads (pid_t *ret, size_t max)
{
  size_t n = 0;
  char *text = guest_read_file ("/proc/2/task/2/children", (size_t)16 * MAX_KTHREADS), *rest = NULL;
  for (char *word = text ? strtok_r (text, " \n", &rest) : NULL; word && n < max; word = strtok_r (NULL, " \n", &rest))
    ret[n++] = (pid_t)atoi (word);
  free (text);
  return n;
}

static int
is_among (pid_t pid, const pid_t *list, size_t n)
{
  for (size_t i = 0; i < n; i++)
    if (list[i] == pid)
      return 1;
  return 0;
}

int
guest_servers_begin (GuestServers *servers)
{
  pid_t threads[MAX_KTHREADS];
  size_t n_threads = list_kernel_threads (threads, MAX_KTHREADS);
  *servers = (GuestServers){ .listened = guest_ssh_listening (0) };
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/proc");
  int r = 0;
  for (const struct dirent *entry; r == 0 && (entry = banger_folder_next (dir));) {
    pid_t pid = isdigit ((unsigned char)entry->d_name[0]) ? (pid_t)atoi (entry->d_name) : 0;
    if (pid != 0 && !is_among (pid, threads, n_threads))
      r = look_at (servers, pid);
  }
  if (r == 0 && errno != 0) /* a server that is not seen would go on with another machine's keys */
    r = -1;
  return r;
}

int
guest_servers_reload (const GuestServers *servers)
{
  for (size_t i = 0; i < servers->n_others; i++)
    if (tell (servers->others[i].pid, servers->others[i].signal) < 0)
      return -1;
  return wait_for (is_anew, STEP_US, servers);
}

int
guest_servers_wait (const GuestServers *servers)
{
  return wait_for (is_answering, LISTEN_STEP_US, servers);
}
