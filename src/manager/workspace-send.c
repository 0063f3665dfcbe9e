/* Streams a work tree through ssh into a guest.
 * Called by vm.c for ImportWorkspace.
 * Never waits without end: a guest that takes no data for a minute ends it. */
#include "manager/workspace.h"

#include <string.h>
#include <sys/socket.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

#define STALL_SECONDS 60
#define LOOK_SECONDS 5
#define SAID_BYTES 4096 /* of what the guest's tar says; the rest is thrown away */
#define GUEST_FOLDER "/root"

/* Shared by the main loop and, between listing and writing, one worker at a time. */
typedef struct {
  char *path;
  char **ssh_argv;
  void (*progress) (double, gpointer);
  gpointer progress_data;
  GCancellable *cancellable; /* ours: ended by the caller's, by a stall, by the other half's failure */
  GCancellable *outer;
  gulong outer_id;
  BangerWorkspace *workspace;
  GPtrArray *files;
  int socket_fd;
  guint64 bytes, bytes_seen; /* bytes: atomic */
  guint quiet_seconds, look_id;
  gboolean stalled;
  GSubprocess *ssh;
  GString *said;
  char buffer[16384];
  guint running; /* halves under way */
  GError *tar_error, *ssh_error;
} Send;

static void
send_free (gpointer data)
{
  Send *send = data;
  g_free (send->path);
  g_strfreev (send->ssh_argv);
  g_object_unref (send->cancellable);
  g_clear_object (&send->outer);
  g_clear_object (&send->ssh);
  banger_workspace_free (send->workspace);
  g_clear_pointer (&send->files, g_ptr_array_unref);
  banger_clear_fd (&send->socket_fd);
  g_string_free (send->said, TRUE);
  g_clear_error (&send->tar_error);
  g_clear_error (&send->ssh_error);
  g_free (send);
}

static void
on_outer_cancelled (GCancellable *outer, GCancellable *ours)
{
  g_cancellable_cancel (ours);
}

static void
send_end (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  g_clear_handle_id (&send->look_id, g_source_remove);
  if (send->outer_id)
    g_signal_handler_disconnect (send->outer, send->outer_id);
  if (send->outer && g_cancellable_is_cancelled (send->outer))
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled");
  else if (send->stalled)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT,
                             "workspace import: the guest took no data for %d s", STALL_SECONDS);
  else if (send->ssh_error) /* tells more than the broken pipe that it caused */
    g_task_return_error (task, g_steal_pointer (&send->ssh_error));
  else if (send->tar_error)
    g_task_return_error (task, g_steal_pointer (&send->tar_error));
  else
    g_task_return_int (task, (gssize)send->files->len);
}

static void
half_done (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  if (--send->running == 0)
    send_end (task);
}

static void
on_ssh (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Send *send = g_task_get_task_data (task);
  if (!g_subprocess_wait_finish (send->ssh, result, &send->ssh_error)) {
    g_subprocess_force_exit (send->ssh);
  } else if (!g_subprocess_get_if_exited (send->ssh) || g_subprocess_get_exit_status (send->ssh) != 0) {
    g_autofree char *text = banger_log_escape (g_strstrip (send->said->str), 512);
    banger_set_error (&send->ssh_error, BANGER_ERROR_GUEST_FAILED, "workspace import: tar in the guest failed: %s",
                      *text ? text : "no message");
  }
  if (send->ssh_error)
    g_cancellable_cancel (send->cancellable);
  half_done (task);
}

static void said_next (GTask *task);

static void
on_said (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Send *send = g_task_get_task_data (task);
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (source), result, NULL);
  if (n > 0) {
    g_string_append_len (send->said, send->buffer, MIN (n, SAID_BYTES - (gssize)send->said->len));
    said_next (task);
  } else { /* the end, or cancelled: then the wait is, too */
    g_subprocess_wait_async (send->ssh, send->cancellable, on_ssh, g_object_ref (task));
  }
}

/* A hostile guest may talk without end: behind everything else that the main loop has to do. */
static void
said_next (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  g_input_stream_read_async (g_subprocess_get_stderr_pipe (send->ssh), send->buffer, sizeof send->buffer,
                             G_PRIORITY_LOW, send->cancellable, on_said, g_object_ref (task));
}

static void
tar_worker (GTask *thread_task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Send *send = task_data;
  GError *error = NULL;
  gboolean ok = banger_workspace_write_tar (send->workspace, send->files, send->socket_fd, &send->bytes, send->progress,
                                            send->progress_data, send->cancellable, &error);
  if (ok)
    g_task_return_boolean (thread_task, TRUE);
  else
    g_task_return_error (thread_task, error);
}

static void
on_tar (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Send *send = g_task_get_task_data (task);
  gboolean ok = g_task_propagate_boolean (G_TASK (result), &send->tar_error);
  banger_clear_fd (&send->socket_fd); /* end of file for tar */
  if (!ok)
    g_subprocess_force_exit (send->ssh);
  half_done (task);
}

/* Looks now and then whether bytes still flow; a dead guest may hold ssh's connection open for long. */
static gboolean
on_look (gpointer user_data)
{
  Send *send = user_data;
  guint64 bytes = __atomic_load_n (&send->bytes, __ATOMIC_RELAXED);
  send->quiet_seconds = bytes == send->bytes_seen ? send->quiet_seconds + LOOK_SECONDS : 0;
  send->bytes_seen = bytes;
  if (send->quiet_seconds < STALL_SECONDS && !g_cancellable_is_cancelled (send->cancellable))
    return G_SOURCE_CONTINUE;
  send->stalled = send->quiet_seconds >= STALL_SECONDS;
  g_cancellable_cancel (send->cancellable);
  g_subprocess_force_exit (send->ssh);
  send->look_id = 0;
  return G_SOURCE_REMOVE;
}

static gboolean
spawn_ssh (Send *send, GError **error)
{
  static const char *const command[] = { "tar", "--extract", "--file=-", "--directory=" GUEST_FOLDER };
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  for (char **word = send->ssh_argv; *word; word++)
    g_ptr_array_add (argv, *word);
  for (guint i = 0; i < G_N_ELEMENTS (command); i++)
    g_ptr_array_add (argv, (char *)command[i]);
  g_ptr_array_add (argv, NULL);
  int pair[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "socketpair");
  send->socket_fd = pair[1];
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDOUT_SILENCE
                                                                        | G_SUBPROCESS_FLAGS_STDERR_PIPE);
  g_subprocess_launcher_take_stdin_fd (launcher, pair[0]);
  send->ssh = g_subprocess_launcher_spawnv (launcher, (const char *const *)argv->pdata, error);
  return send->ssh != NULL;
}

static void
on_listed (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Send *send = g_task_get_task_data (task);
  if (!g_task_propagate_boolean (G_TASK (result), &send->tar_error) || !spawn_ssh (send, &send->ssh_error)) {
    send_end (task);
    return;
  }
  send->running = 2;
  send->look_id = g_timeout_add_seconds (LOOK_SECONDS, on_look, send);
  said_next (task);
  g_autoptr (GTask) worker = g_task_new (NULL, NULL, on_tar, g_object_ref (task));
  g_task_set_task_data (worker, send, NULL);
  g_task_run_in_thread (worker, tar_worker);
}

static void
list_worker (GTask *thread_task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Send *send = task_data;
  GError *error = NULL;
  send->workspace = banger_workspace_open (send->path, &error);
  if (send->workspace)
    send->files = banger_workspace_list (send->workspace, send->cancellable, &error);
  if (send->files)
    g_task_return_boolean (thread_task, TRUE);
  else
    g_task_return_error (thread_task, error);
}

void
banger_workspace_send_async (const char *path, const char *const *ssh_argv, void (*progress) (double, gpointer),
                             gpointer progress_data, GCancellable *cancellable, GAsyncReadyCallback callback,
                             gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Send *send = g_new0 (Send, 1);
  send->path = g_strdup (path);
  send->ssh_argv = g_strdupv ((char **)ssh_argv);
  send->progress = progress;
  send->progress_data = progress_data;
  send->socket_fd = -1;
  send->said = g_string_new (NULL);
  send->cancellable = g_cancellable_new ();
  g_task_set_task_data (task, send, send_free);
  if (cancellable) {
    send->outer = g_object_ref (cancellable);
    send->outer_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_outer_cancelled), send->cancellable);
    if (g_cancellable_is_cancelled (cancellable))
      g_cancellable_cancel (send->cancellable);
  }
  g_autoptr (GTask) worker = g_task_new (NULL, NULL, on_listed, g_object_ref (task));
  g_task_set_task_data (worker, send, NULL);
  g_task_run_in_thread (worker, list_worker);
}

gssize
banger_workspace_send_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_int (G_TASK (result), error);
}
