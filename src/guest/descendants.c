/* The processes that a command has started, and their end.
 * Never touches a process that is not below this one. */
#include "guest/descendants.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/folder.h"

#define GRACE_SECONDS 3
#define KILL_SECONDS 5 /* a process in the kernel ends when it comes out */

typedef struct {
  pid_t pid, parent;
  int below;
} Process;

/* The fourth field of proc(5)'s stat; the second one may have anything in it. */
static pid_t
parent_of (pid_t pid)
{
  char path[64], text[512];
  snprintf (path, sizeof path, "/proc/%d/stat", (int)pid);
  FILE *file = fopen (path, "re");
  size_t length = file ? fread (text, 1, sizeof text - 1, file) : 0;
  if (file)
    fclose (file);
  text[length] = '\0';
  const char *end = strrchr (text, ')');
  int parent = 0;
  return end && sscanf (end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static Process *
list_processes (size_t *ret_count)
{
  Process *list = NULL;
  size_t count = 0;
  banger_autofolder DIR *proc = banger_folder_open (AT_FDCWD, "/proc");
  for (const struct dirent *entry; (entry = banger_folder_next (proc));) {
    pid_t pid = (pid_t)atoi (entry->d_name);
    Process *more = pid > 0 ? realloc (list, (count + 1) * sizeof *list) : NULL;
    if (!more)
      continue;
    list = more;
    list[count++] = (Process){ pid, parent_of (pid), 0 };
  }
  *ret_count = count;
  return list;
}

static int
mark_below (Process *list, size_t count, pid_t self)
{
  int more = 0;
  for (size_t i = 0; i < count; i++) {
    int below = list[i].parent == self;
    for (size_t j = 0; j < count && !below; j++)
      below = list[j].below && list[j].pid == list[i].parent;
    more |= below && !list[i].below;
    list[i].below = below;
  }
  return more;
}

static void
send_to_descendants (int number)
{
  size_t count;
  Process *list = list_processes (&count);
  while (mark_below (list, count, getpid ()))
    continue;
  for (size_t i = 0; i < count; i++)
    if (list[i].below) {
      kill (list[i].pid, number);
      kill (list[i].pid, SIGCONT); /* a stopped one would not hear of it */
    }
  free (list);
}

/* Returns: whether none is left; else a second or the next end has passed. */
static int
reap (const sigset_t *child)
{
  pid_t pid;
  while ((pid = waitpid (-1, NULL, WNOHANG)) > 0)
    continue;
  if (pid < 0 && errno == ECHILD)
    return 1;
  sigtimedwait (child, NULL, &(struct timespec){ .tv_sec = 1 });
  return 0;
}

static time_t
now (void)
{
  struct timespec time = { 0 };
  clock_gettime (CLOCK_MONOTONIC, &time);
  return time.tv_sec;
}

void
guest_end_descendants (int number)
{
  sigset_t child;
  sigemptyset (&child);
  sigaddset (&child, SIGCHLD);
  sigprocmask (SIG_BLOCK, &child, NULL);
  prctl (PR_SET_CHILD_SUBREAPER, 1); /* whose parent ends now comes to us */
  send_to_descendants (number);
  time_t began = now ();
  while (now () - began <= GRACE_SECONDS)
    if (reap (&child))
      return;
  for (began = now (); now () - began <= KILL_SECONDS;) {
    send_to_descendants (SIGKILL);
    if (reap (&child))
      return;
  }
}
