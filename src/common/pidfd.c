/* Processes by descriptor.
 * Never signals by number. */
#include "common/pidfd.h"

#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"

int
banger_pidfd_open (pid_t pid)
{
  return (int)syscall (SYS_pidfd_open, pid, 0); /* close-on-exec by itself, pidfd_open(2) */
}

gboolean
banger_pidfd_is_of (int fd, guint32 pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/self/fdinfo/%d", fd), *text = NULL;
  g_autofree char *live = g_strdup_printf ("\nPid:\t%u\n", pid);
  return g_file_get_contents (path, &text, NULL, NULL) && (strstr (text, live) || strstr (text, "\nPid:\t-1\n"));
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
banger_pidfd_watch (int pidfd, GSourceFunc func, gpointer user_data, GError **error)
{
  int fd = fcntl (pidfd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot watch a process");
    return 0;
  }
  Watch *watch = g_new0 (Watch, 1);
  watch->fd = fd;
  watch->func = func;
  watch->user_data = user_data;
  return g_unix_fd_add_full (G_PRIORITY_DEFAULT, watch->fd, G_IO_IN, watch_fired, watch, watch_free);
}
