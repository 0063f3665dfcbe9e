/* Streams a work tree to a receiver in a guest, or only looks whether it could.
 * Never waits without end: a guest that takes no data for a minute ends it, and a cancelled one ends at once: a worker
 * that hangs on a mount of the user's is left to itself, with what it holds. */
#include "manager/workspace/private.h"

#include <gio/gunixinputstream.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

#define STALL_SECONDS 60
#define LOOK_SECONDS 5
#define END_SHIFT 21    /* behind its end each 2 MiB have a second more: the guest writes, and git reads it all again */
#define SAID_BYTES 4096 /* of what the guest's tar says; the rest is thrown away */
#define CHECK_SECONDS 60
#define CHECK_LIMIT 16 /* at once: a thread may hang for each */

gboolean
banger_workspace_write_tar (BangerWorkspace *workspace, int fd, guint64 *ret_bytes, void (*progress) (double, gpointer),
                            gpointer progress_data, GCancellable *cancellable, GError **error)
{
  WorkspaceTar tar = { .workspace = workspace, .socket_fd = fd, .bytes = ret_bytes, .cancellable = cancellable };
  gboolean ok = workspace_tar_begin (&tar, error) && workspace_tar_files (&tar, progress, progress_data, error);
  for (guint i = 0; ok && i < workspace->repositories->len; i++)
    ok = workspace_repository_send (&tar, workspace->repositories->pdata[i], error);
  ok = ok && workspace_base_send (&tar, error) && workspace_tar_end (&tar, error);
  workspace_tar_clear (&tar);
  return ok;
}

/* Shared by the main loop and one worker at a time, which may outlive it: counted by both. */
typedef struct {
  char *path;
  char *branch, *from;
  BangerWorkspaceWish wish; /* with the two above */
  int list_fd;
  BangerReceiver *receiver;
  GMutex lock;                         /* of the next two */
  void (*progress) (double, gpointer); /* NULL from the end on */
  gpointer progress_data;
  GCancellable *cancellable; /* ours: ended by the caller's, by a stall, by the other half's failure */
  GCancellable *outer;
  gulong outer_id;
  BangerWorkspace *workspace; /* the worker's until it has ended */
  int socket_fd;              /* likewise */
  guint64 bytes, bytes_seen;  /* bytes: atomic */
  guint quiet_seconds, look_id;
  gboolean stalled, tar_first; /* tar_first: our half failed before the guest's did */
  GInputStream *says;
  GString *said;
  char buffer[16384];
  gboolean silent, ended; /* the receiver: all was heard, how it ended is known */
  int status;
  guint running; /* halves under way */
  GError *tar_error, *guest_error;
} Send;

static void
send_clear (gpointer data)
{
  Send *send = data;
  g_mutex_clear (&send->lock);
  g_free (send->path);
  g_free (send->branch);
  g_free (send->from);
  banger_clear_fd (&send->list_fd);
  g_clear_pointer (&send->receiver, banger_receiver_free);
  g_object_unref (send->cancellable);
  g_clear_object (&send->outer);
  g_clear_object (&send->says);
  banger_workspace_free (send->workspace);
  banger_clear_fd (&send->socket_fd);
  g_string_free (send->said, TRUE);
  g_clear_error (&send->tar_error);
  g_clear_error (&send->guest_error);
}

static void
send_unref (gpointer data)
{
  g_atomic_rc_box_release_full (data, send_clear);
}

/* In a thread that the task does not wait for once it is cancelled. */
static void
run_worker (GTask *task, GTaskThreadFunc func, GAsyncReadyCallback done)
{
  Send *send = g_task_get_task_data (task);
  g_autoptr (GTask) worker = g_task_new (NULL, send->cancellable, done, g_object_ref (task));
  g_task_set_task_data (worker, g_atomic_rc_box_acquire (send), send_unref);
  g_task_set_return_on_cancel (worker, TRUE);
  g_task_run_in_thread (worker, func);
}

static void
on_outer_cancelled (GCancellable *outer, Send *send)
{
  g_cancellable_cancel (send->cancellable);
  if (send->running > 0)
    banger_receiver_end (send->receiver);
}

static void
send_end (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  g_clear_handle_id (&send->look_id, g_source_remove);
  g_mutex_lock (&send->lock);
  send->progress = NULL;
  g_mutex_unlock (&send->lock);
  if (send->outer_id)
    g_signal_handler_disconnect (send->outer, send->outer_id);
  g_clear_pointer (&send->receiver, banger_receiver_free); /* a worker may outlive us */
  if (send->outer && g_cancellable_is_cancelled (send->outer))
    g_task_return_error (task, banger_error_cancelled ());
  else if (send->stalled)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT,
                             "workspace import: the guest took no data, or did not end, for %u s", send->quiet_seconds);
  else if (send->guest_error && !send->tar_first) /* tells more than the broken pipe that it caused */
    g_task_return_error (task, g_steal_pointer (&send->guest_error));
  else if (send->tar_error)
    g_task_return_error (task, g_steal_pointer (&send->tar_error));
  else
    g_task_return_int (task, (gssize)banger_workspace_files (send->workspace)->len);
}

static void
half_done (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  if (--send->running == 0)
    send_end (task);
}

/* @text: what tar said, on one line. */
static void
guest_failed (Send *send, const char *text)
{
  if (send->branch && send->status == atoi (WORKSPACE_NO_BRANCH))
    banger_set_error (&send->guest_error, BANGER_ERROR_GUEST_FAILED, "workspace import: git in the guest failed: %s",
                      *text ? text : "no message");
  else if (strstr (text, "No space left on device"))
    banger_set_error (&send->guest_error, BANGER_ERROR_NO_SPACE,
                      "workspace import: the guest's disk is full: make the VM with a larger disk (--disk-size)");
  else
    banger_set_error (&send->guest_error, BANGER_ERROR_GUEST_FAILED, "workspace import: tar in the guest failed: %s",
                      *text ? text : "no message");
}

/* When there is no more to hear and its end is known. */
static void
look_at_receiver (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  if (!send->silent || !send->ended)
    return;
  if (!send->guest_error && send->status != 0) {
    g_autofree char *text = banger_log_escape (g_strstrip (send->said->str), 512);
    guest_failed (send, text);
  }
  if (send->guest_error)
    g_cancellable_cancel (send->cancellable);
  half_done (task);
}

/* @error: (transfer full) (nullable). */
static void
on_ended (int status, GError *error, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  send->ended = TRUE;
  send->status = status;
  send->guest_error = error;
  look_at_receiver (task);
}

static void said_next (GTask *task);

static void
on_said (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (source), result, NULL);
  if (n > 0) {
    g_string_append_len (send->said, send->buffer, MIN (n, SAID_BYTES - (gssize)send->said->len));
    said_next (task);
    return;
  }
  if (n < 0) /* cancelled */
    banger_receiver_end (send->receiver);
  send->silent = TRUE;
  look_at_receiver (task);
}

/* A hostile guest may talk without end: behind everything else that the main loop has to do. */
static void
said_next (GTask *task)
{
  Send *send = g_task_get_task_data (task);
  g_input_stream_read_async (send->says, send->buffer, sizeof send->buffer, G_PRIORITY_LOW, send->cancellable, on_said,
                             g_object_ref (task));
}

static void
report_progress (double fraction, gpointer data)
{
  Send *send = data;
  g_mutex_lock (&send->lock);
  if (send->progress)
    send->progress (fraction, send->progress_data);
  g_mutex_unlock (&send->lock);
}

static gboolean
send_list (Send *work, GError **error)
{
  GByteArray *list = banger_workspace_present (work->workspace);
  for (guint sent = 0; sent < list->len;) {
    ssize_t n = send (work->socket_fd, list->data + sent, list->len - sent, MSG_NOSIGNAL);
    if (g_cancellable_set_error_if_cancelled (work->cancellable, error))
      return FALSE;
    if (n < 0 && errno != EINTR)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "the guest takes no list of files");
    sent += n > 0 ? (guint)n : 0;
    __atomic_add_fetch (&work->bytes, (guint64)(n > 0 ? n : 0), __ATOMIC_RELAXED);
  }
  return TRUE;
}

static void
tar_worker (GTask *thread_task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Send *send = task_data;
  GError *error = NULL;
  gboolean ok = send_list (send, &error)
                && banger_workspace_write_tar (send->workspace, send->socket_fd, &send->bytes, report_progress, send,
                                               send->cancellable, &error);
  shutdown (send->socket_fd, SHUT_WR); /* end of file for tar */
  banger_clear_fd (&send->socket_fd);
  if (ok)
    g_task_return_boolean (thread_task, TRUE);
  else
    g_task_return_error (thread_task, error);
}

static void
on_tar (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  gboolean ok = g_task_propagate_boolean (G_TASK (result), &send->tar_error);
  if (!ok) {
    send->tar_first = !send->guest_error && !g_str_has_suffix (send->tar_error->message, g_strerror (EPIPE))
                      && !g_str_has_suffix (send->tar_error->message, g_strerror (ECONNRESET));
    if (send->tar_first)
      banger_receiver_end (send->receiver);
  }
  half_done (task);
}

/* Looks now and then whether bytes still flow; a dead guest may hold its connection open for long. */
static gboolean
on_look (gpointer data)
{
  Send *send = data;
  guint64 bytes = __atomic_load_n (&send->bytes, __ATOMIC_RELAXED);
  send->quiet_seconds = bytes == send->bytes_seen ? send->quiet_seconds + LOOK_SECONDS : 0;
  send->bytes_seen = bytes;
  guint64 most = STALL_SECONDS + (send->running < 2 ? bytes >> END_SHIFT : 0);
  if (send->quiet_seconds < most && !g_cancellable_is_cancelled (send->cancellable))
    return G_SOURCE_CONTINUE;
  send->stalled = send->quiet_seconds >= most;
  g_cancellable_cancel (send->cancellable);
  banger_receiver_end (send->receiver);
  send->look_id = 0;
  return G_SOURCE_REMOVE;
}

/* For the shell of a guest whose agent does not do this by itself (guest/receive.c). Before the archive comes the list of its files, by which an earlier copy is cleared: of what
 * it brought and this one does not, and of folders where a file is to be. What only the guest has stays. `.git` loses
 * what would hide the new branches, and keeps what the guest committed. A tar that is not GNU's does what it can. @head:
 * passes on so many bytes and reads no more; not every head(1) does (busybox). */
static char *
receive_command (const char *head, BangerWorkspace *workspace)
{
  /* clang-format off */
  static const char script[] =
    "cd /root && umask 022 && case $(tar --version 2>&1) in *GNU*) ;; *) %4$s %2$u >/dev/null; tar -xf - || "
    "exit; %3$s; exit 0 ;; "
    "esac;if %5$s [ -d ./%1$s/.git ]; then  find ./%1$s/.git -mindepth 1 -maxdepth 1 ! -name objects ! -name logs -exec rm "
    "-rf {} +; fi;l=$PWD/.cache/banger/%1$s; n=$PWD/.cache/banger/.new-$$; mkdir -p .cache/banger && %4$s %2$u "
    ">\"$n\" || exit;if cd ./%1$s 2>/dev/null; then  if [ -f \"$l\" ]; then LC_ALL=C comm -z -23 \"$l\" \"$n\" | xargs "
    "-0r rm -f -- 2>/dev/null; fi;  xargs -0r sh -c 'for p; do [ ! -d \"$p\" ] || [ -h \"$p\" ] || rm -rf -- \"$p\"; "
    "done' sh <\"$n\"; cd /root; fi;mv \"$n\" \"$l\" && tar --extract --file=- --warning=no-unknown-keyword || exit; %3$s";
  /* clang-format on */
  g_autofree char *folder = g_shell_quote (workspace->name), *base = workspace_base_command (workspace, folder);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  return g_strdup_printf (script, folder, workspace->present->len, base, head, workspace->plain ? "false &&" : "");
#pragma GCC diagnostic pop
}

static char **
receive_words (const BangerReceiver *receiver, BangerWorkspace *workspace)
{
  GStrvBuilder *words = g_strv_builder_new ();
  if (receiver->own) {
    g_autofree char *folder = g_shell_quote (workspace->name), *base = workspace_base_command (workspace, folder);
    g_autofree char *length = g_strdup_printf ("%u", workspace->present->len);
    gboolean nothing = workspace->plain || g_str_equal (base, WORKSPACE_NO_COMMAND);
    g_strv_builder_add_many (words, receiver->own, "receive", "/root", workspace->name, length,
                             workspace->plain ? "plain" : "git", nothing ? "" : base, NULL);
  } else {
    g_autofree char *script = receive_command (receiver->head, workspace);
    g_strv_builder_add_many (words, "sh", "-c", script, NULL);
  }
  char **made = g_strv_builder_end (words);
  g_strv_builder_unref (words);
  return made;
}

static void
on_receives (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  int stderr_fd = -1;
  if (!banger_receiver_start_finish (send->receiver, result, &send->socket_fd, &stderr_fd, &send->guest_error)) {
    send_end (task);
    return;
  }
  send->says = g_unix_input_stream_new (stderr_fd, TRUE);
  send->running = 2;
  send->look_id = g_timeout_add_seconds (LOOK_SECONDS, on_look, send);
  banger_receiver_watch (send->receiver, on_ended, g_object_ref (task));
  said_next (task);
  run_worker (task, tar_worker, on_tar);
}

static void
on_listed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  if (!g_task_propagate_boolean (G_TASK (result), &send->tar_error)) {
    send_end (task);
    return;
  }
  g_auto (GStrv) words = receive_words (send->receiver, send->workspace);
  banger_receiver_start_async (send->receiver, (const char *const *)words, send->cancellable, on_receives,
                               g_object_ref (task));
}

static gboolean
open_workspace (Send *send, GError **error)
{
  send->workspace = banger_workspace_open (send->path, &send->wish, send->cancellable, error);
  return send->workspace != NULL;
}

static void
list_worker (GTask *thread_task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Send *send = task_data;
  GError *error = NULL;
  if (open_workspace (send, &error) && banger_workspace_prepare (send->workspace, send->cancellable, &error))
    g_task_return_boolean (thread_task, TRUE);
  else
    g_task_return_error (thread_task, error);
}

static Send *
send_new (const char *path, const BangerWorkspaceWish *wish)
{
  Send *send = g_atomic_rc_box_new0 (Send);
  g_mutex_init (&send->lock);
  send->path = g_strdup (path);
  if (wish)
    send->wish = *wish;
  send->wish.branch = send->branch = g_strdup (send->wish.branch);
  send->wish.from = send->from = g_strdup (send->wish.from);
  send->list_fd = -1;
  send->socket_fd = -1;
  send->said = g_string_new (NULL);
  send->cancellable = g_cancellable_new ();
  return send;
}

void
banger_workspace_send_async (const char *path, const BangerWorkspaceWish *wish, BangerReceiver *receiver,
                             void (*progress) (double, gpointer), gpointer progress_data, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Send *send = send_new (path, wish);
  send->receiver = receiver;
  send->progress = progress;
  send->progress_data = progress_data;
  g_task_set_task_data (task, send, send_unref);
  if (cancellable) {
    send->outer = g_object_ref (cancellable);
    send->outer_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_outer_cancelled), send);
    if (g_cancellable_is_cancelled (cancellable))
      g_cancellable_cancel (send->cancellable);
  }
  run_worker (task, list_worker, on_listed);
}

gssize
banger_workspace_send_finish (GAsyncResult *result, GPtrArray **ret_notes, GError **error)
{
  gssize files = g_task_propagate_int (G_TASK (result), error);
  Send *send = g_task_get_task_data (G_TASK (result));
  if (files >= 0 && ret_notes)
    *ret_notes = g_ptr_array_ref (banger_workspace_notes (send->workspace));
  return files;
}

BangerWorkspace *
banger_workspace_send_get (GAsyncResult *result)
{
  Send *send = g_task_get_task_data (G_TASK (result));
  return send->workspace;
}

/* The check alone. */

static guint checks; /* under way, those that hang included */

void
banger_workspace_report_free (BangerWorkspaceReport *report)
{
  g_free (report->folder);
  g_ptr_array_unref (report->notes);
  g_free (report);
}

/* Of the caller's, who may have it written by others, too: a file takes what it gets at once. */
static gboolean
write_list (Send *send, GError **error)
{
  struct stat st;
  const GByteArray *list = banger_workspace_present (send->workspace);
  if (fstat (send->list_fd, &st) < 0 || !S_ISREG (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "a list of files is written to a file, and to nothing else");
  for (gsize done = 0; done < list->len;) {
    ssize_t n = write (send->list_fd, list->data + done, list->len - done);
    if (n < 0 && errno != EINTR)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the list of files");
    done += (gsize)MAX (n, 0);
  }
  return TRUE;
}

static void
check_worker (GTask *thread_task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Send *send = task_data;
  GError *error = NULL;
  if (open_workspace (send, &error) && (send->list_fd < 0 || write_list (send, &error)))
    g_task_return_boolean (thread_task, TRUE);
  else
    g_task_return_error (thread_task, error);
  g_atomic_int_add (&checks, -1);
}

static void
on_checked (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Send *send = g_task_get_task_data (task);
  GError *error = NULL;
  g_clear_handle_id (&send->look_id, g_source_remove);
  if (!g_task_propagate_boolean (G_TASK (result), &error)) {
    if (send->stalled) {
      g_clear_error (&error);
      g_autofree char *shown = banger_log_escape (send->path, PATH_MAX);
      error = g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT, "reading '%s' has not ended after %d s", shown,
                           CHECK_SECONDS);
    }
    g_task_return_error (task, error);
    return;
  }
  BangerWorkspaceReport *report = g_new0 (BangerWorkspaceReport, 1);
  report->folder = g_strdup (banger_workspace_folder (send->workspace));
  report->notes = g_ptr_array_ref (banger_workspace_notes (send->workspace));
  g_task_return_pointer (task, report, (GDestroyNotify)banger_workspace_report_free);
}

static gboolean
on_check_late (gpointer data)
{
  Send *send = data;
  send->look_id = 0;
  send->stalled = TRUE;
  g_cancellable_cancel (send->cancellable);
  return G_SOURCE_REMOVE;
}

void
banger_workspace_check_async (const char *path, const BangerWorkspaceWish *wish, int list, GAsyncReadyCallback callback,
                              gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  Send *send = send_new (path, wish);
  send->list_fd = list;
  g_task_set_task_data (task, send, send_unref);
  if (g_atomic_int_add (&checks, 1) >= CHECK_LIMIT) {
    g_atomic_int_add (&checks, -1);
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%d work trees are being looked at: wait for one", CHECK_LIMIT);
    return;
  }
  send->look_id = g_timeout_add_seconds (CHECK_SECONDS, on_check_late, send);
  run_worker (task, check_worker, on_checked);
}

BangerWorkspaceReport *
banger_workspace_check_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}
