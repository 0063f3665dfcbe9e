/* Waiting for things outside of this process: a socket file, an ssh server.
 * Never polls where the kernel tells; never waits without the caller's bound (its cancellable). */
#include "manager/peer/await.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"

#define SSH_RETRY_MSEC 100
#define SSH_CONNECT_SECONDS 3
/* As long as sshd itself keeps a connection, sshd_config(5) LoginGraceTime. Who hangs up earlier and comes back makes a
 * slow guest start sshd over and over, and it never gets to its greeting. */
#define SSH_GREETING_SECONDS 120

typedef struct {
  char *path;
  int inotify_fd;
  GSource *events, *cancelled;
} FileWait;

static void
file_wait_free (gpointer data)
{
  FileWait *wait = data;
  if (wait->events)
    g_source_destroy (wait->events);
  if (wait->cancelled)
    g_source_destroy (wait->cancelled);
  g_clear_pointer (&wait->events, g_source_unref);
  g_clear_pointer (&wait->cancelled, g_source_unref);
  banger_clear_fd (&wait->inotify_fd);
  g_free (wait->path);
  g_free (wait);
}

/* Ends the sources first: they hold the references that keep the task alive. */
static void
file_wait_end (GTask *task)
{
  FileWait *wait = g_task_get_task_data (task);
  g_source_destroy (wait->events);
  if (wait->cancelled)
    g_source_destroy (wait->cancelled);
}

static gboolean
on_inotify (int fd, GIOCondition condition, gpointer data)
{
  g_autoptr (GTask) task = g_object_ref (data);
  FileWait *wait = g_task_get_task_data (task);
  char buffer[4096] __attribute__ ((aligned (__alignof__(struct inotify_event))));
  while (read (fd, buffer, sizeof buffer) > 0)
    ;
  struct stat st;
  if (lstat (wait->path, &st) < 0)
    return G_SOURCE_CONTINUE;
  file_wait_end (task);
  g_task_return_boolean (task, TRUE);
  return G_SOURCE_REMOVE;
}

static gboolean
on_file_cancelled (GCancellable *cancellable, gpointer data)
{
  g_autoptr (GTask) task = g_object_ref (data);
  file_wait_end (task);
  g_task_return_error_if_cancelled (task);
  return G_SOURCE_REMOVE;
}

static void
file_wait_attach (GTask *task, FileWait *wait)
{
  wait->events = g_unix_fd_source_new (wait->inotify_fd, G_IO_IN);
  g_source_set_callback (wait->events, G_SOURCE_FUNC (on_inotify), g_object_ref (task), g_object_unref);
  g_source_attach (wait->events, NULL);
  GCancellable *cancellable = g_task_get_cancellable (task);
  if (!cancellable)
    return;
  wait->cancelled = g_cancellable_source_new (cancellable);
  g_source_set_callback (wait->cancelled, G_SOURCE_FUNC (on_file_cancelled), g_object_ref (task), g_object_unref);
  g_source_attach (wait->cancelled, NULL);
}

void
banger_await_file_async (const char *dir, const char *name, GCancellable *cancellable, GAsyncReadyCallback callback,
                         gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  FileWait *wait = g_new0 (FileWait, 1);
  wait->path = g_build_filename (dir, name, NULL);
  wait->inotify_fd = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  g_task_set_task_data (task, wait, file_wait_free);
  if (wait->inotify_fd < 0 || inotify_add_watch (wait->inotify_fd, dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0) {
    GError *error = NULL;
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, errno, "cannot watch %s", dir);
    g_task_return_error (task, error);
    return;
  }
  struct stat st;
  if (lstat (wait->path, &st) == 0) /* looked for after the watch was in place */
    g_task_return_boolean (task, TRUE);
  else
    file_wait_attach (task, wait);
}

typedef struct {
  char *address;
  guint16 port;
  GSocketConnection *connection;
  char greeting[4];
  gsize got;
} SshWait;

static void
ssh_wait_free (gpointer data)
{
  SshWait *wait = data;
  g_clear_object (&wait->connection);
  g_free (wait->address);
  g_free (wait);
}

static void ssh_try (GTask *task);

static gboolean
on_ssh_retry (gpointer data)
{
  ssh_try (data);
  return G_SOURCE_REMOVE;
}

static void
ssh_again (GTask *task)
{
  SshWait *wait = g_task_get_task_data (task);
  g_clear_object (&wait->connection);
  if (g_task_return_error_if_cancelled (task))
    return;
  g_timeout_add_full (G_PRIORITY_DEFAULT, SSH_RETRY_MSEC, on_ssh_retry, g_object_ref (task), g_object_unref);
}

static void
on_greeting (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  SshWait *wait = g_task_get_task_data (task);
  gboolean all = g_input_stream_read_all_finish (G_INPUT_STREAM (source), result, &wait->got, NULL) && wait->got == 4;
  if (all && !memcmp (wait->greeting, "SSH-", 4))
    g_task_return_boolean (task, TRUE);
  else
    ssh_again (task);
}

static void
on_ssh_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  SshWait *wait = g_task_get_task_data (task);
  wait->connection = g_socket_client_connect_finish (G_SOCKET_CLIENT (source), result, NULL);
  if (!wait->connection) {
    ssh_again (task);
    return;
  }
  g_socket_set_timeout (g_socket_connection_get_socket (wait->connection), SSH_GREETING_SECONDS);
  GInputStream *in = g_io_stream_get_input_stream (G_IO_STREAM (wait->connection));
  g_input_stream_read_all_async (in, wait->greeting, sizeof wait->greeting, G_PRIORITY_DEFAULT,
                                 g_task_get_cancellable (task), on_greeting, g_object_ref (task));
}

static void
ssh_try (GTask *task)
{
  SshWait *wait = g_task_get_task_data (task);
  g_autoptr (GSocketClient) client = g_socket_client_new ();
  g_socket_client_set_enable_proxy (client, FALSE);
  g_socket_client_set_timeout (client, SSH_CONNECT_SECONDS);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string (wait->address, wait->port);
  g_socket_client_connect_async (client, G_SOCKET_CONNECTABLE (address), g_task_get_cancellable (task),
                                 on_ssh_connected, g_object_ref (task));
}

void
banger_await_ssh_async (const char *address, guint16 port, GCancellable *cancellable, GAsyncReadyCallback callback,
                        gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  SshWait *wait = g_new0 (SshWait, 1);
  wait->address = g_strdup (address);
  wait->port = port;
  g_task_set_task_data (task, wait, ssh_wait_free);
  ssh_try (task);
}

gboolean
banger_await_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
