/* Processes by descriptor.
 * Used by the helper, the manager and the engine programs.
 * Never signals by number. */
#include "common/pidfd.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

int
banger_pidfd_open (pid_t pid)
{
  return (int)syscall (SYS_pidfd_open, pid, 0); /* close-on-exec by itself, pidfd_open(2) */
}

int
banger_pidfd_send_signal (int pidfd, int sig)
{
  return (int)syscall (SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

gboolean
banger_pidfd_alive (int pidfd)
{
  struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
  return poll (&pfd, 1, 0) == 0;
}

typedef struct {
  int fd;
  GSourceFunc func;
  gpointer user_data;
} Watch;

static void
watch_free (gpointer data)
{
  Watch *watch = data;
  close (watch->fd);
  g_free (watch);
}

static gboolean
watch_fired (int fd, GIOCondition condition, gpointer data)
{
  Watch *watch = data;
  watch->func (watch->user_data);
  return G_SOURCE_REMOVE;
}

guint
banger_pidfd_watch (int pidfd, GSourceFunc func, gpointer user_data)
{
  Watch *watch = g_new0 (Watch, 1);
  watch->fd = fcntl (pidfd, F_DUPFD_CLOEXEC, 3);
  watch->func = func;
  watch->user_data = user_data;
  if (watch->fd < 0)
    g_error ("no descriptor left for a process watch");
  return g_unix_fd_add_full (G_PRIORITY_DEFAULT, watch->fd, G_IO_IN, watch_fired, watch, watch_free);
}
