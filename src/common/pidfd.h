/* Processes by descriptor: pinned before they are looked at.
 * Never signals by number. */
#pragma once

#include <glib.h>
#include <sys/types.h>

/** banger_pidfd_open: pidfd_open(2). Returns: a close-on-exec descriptor or -1 with errno. */
int banger_pidfd_open (pid_t pid);
/** banger_pidfd_is_of: @fd is a pidfd, of @pid or of a process that has ended (proc_pid_fdinfo(5)). */
gboolean banger_pidfd_is_of (int fd, guint32 pid);
/** banger_pidfd_send_signal: pidfd_send_signal(2). Returns: 0 or -1 with errno. */
int banger_pidfd_send_signal (int pidfd, int sig);
/** banger_pidfd_alive: %TRUE while the process has not ended (poll(2) with timeout 0). */
gboolean banger_pidfd_alive (int pidfd);
/** banger_pidfd_watch: calls @func once in the main loop when the process ends. Returns: a source id for
 * g_source_remove(); 0 with @error. */
guint banger_pidfd_watch (int pidfd, GSourceFunc func, gpointer user_data, GError **error);
