/* Four connections through the VMM's socket, each with a line or two, then a request, then the guest's answer.
 * Called by processes.c.
 * Never reads a byte behind the line that it waits for: that is the command's. */
#include "manager/peer/exec.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "manager/core/later.h"
#include "manager/peer/credentials.h"
#include "manager/peer/line.h"

#define START_SECONDS 30
#define CONNECT_AGAIN_MSEC 10 /* a VMM whose queue is full */
#define REQUEST_MAX_BYTES (8u << 20)
#define WINDOW_MAX 65535u
#define SIGNAL_MAX 64u

enum { CONTROL = BANGER_EXEC_STREAMS, N_CHANNELS };

/* What a channel has come to. */
typedef enum { UNUSED, CONNECTING, CONNECT_SENT, STREAM_SENT, WAITING, REQUEST_SENT, READY } Phase;

typedef struct {
  struct Start *start;
  Phase phase;
  int fd;
  guint source;
  char line[BANGER_LINE_BYTES];
  gsize used;
} Channel;

typedef struct Start {
  GTask *task;
  char *socket_path, *token;
  pid_t pid;
  GByteArray *request;
  gsize sent;
  guint timeout;
  gulong cancel_id;
  gboolean over;
  Channel channels[N_CHANNELS];
} Start;

struct BangerExec {
  int control;
  guint source;
  char line[BANGER_LINE_BYTES];
  gsize used;
  BangerExecEnded ended;
  gpointer user_data;
};

/* Requests */

static void
add_entry (GByteArray *request, const char *key, const char *value)
{
  g_byte_array_append (request, (const guint8 *)key, (guint)strlen (key));
  g_byte_array_append (request, (const guint8 *)"=", 1);
  g_byte_array_append (request, (const guint8 *)value, (guint)strlen (value) + 1);
}

static void
add_entries (GByteArray *request, const char *key, const char *const *values)
{
  for (; values && *values; values++)
    add_entry (request, key, *values);
}

static GByteArray *
make_request (const BangerExecSpec *spec)
{
  GByteArray *request = g_byte_array_new ();
  g_autofree char *window = g_strdup_printf ("%ux%u", spec->rows, spec->columns);
  add_entries (request, "arg", spec->arguments);
  add_entries (request, "env", spec->environment);
  if (spec->cwd)
    add_entry (request, "cwd", spec->cwd);
  if (spec->user)
    add_entry (request, "user", spec->user);
  if (spec->terminal)
    add_entry (request, "terminal", window);
  return request;
}

gboolean
banger_exec_check (const BangerExecSpec *spec, GError **error)
{
  gsize bytes = 1024;
  if (!spec->arguments || !spec->arguments[0] || !*spec->arguments[0])
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "there is no command");
  for (const char *const *word = spec->arguments; *word; word++)
    bytes += strlen (*word) + sizeof "arg=";
  for (const char *const *pair = spec->environment; pair && *pair; pair++) {
    const char *equals = strchr (*pair, '=');
    g_autofree char *shown = banger_log_escape (*pair, 40);
    if (!equals || equals == *pair)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is not NAME=VALUE", shown);
    bytes += strlen (*pair) + sizeof "env=";
  }
  if ((spec->cwd && !*spec->cwd) || (spec->user && !*spec->user))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "option '%s' is empty",
                             spec->cwd && !*spec->cwd ? "cwd" : "user");
  if (spec->rows > WINDOW_MAX || spec->columns > WINDOW_MAX)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "a terminal has at most %u rows and columns",
                             WINDOW_MAX);
  bytes += (spec->cwd ? strlen (spec->cwd) : 0) + (spec->user ? strlen (spec->user) : 0);
  return bytes <= REQUEST_MAX_BYTES
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                              "the command has %" G_GSIZE_FORMAT " bytes of arguments, at most %u can be sent", bytes,
                              REQUEST_MAX_BYTES);
}

BangerExecSpec *
banger_exec_spec_copy (const BangerExecSpec *spec)
{
  BangerExecSpec *copy = g_memdup2 (spec, sizeof *spec);
  copy->arguments = (const char *const *)g_strdupv ((char **)spec->arguments);
  copy->environment = (const char *const *)g_strdupv ((char **)spec->environment);
  copy->cwd = g_strdup (spec->cwd);
  copy->user = g_strdup (spec->user);
  return copy;
}

void
banger_exec_spec_free (BangerExecSpec *spec)
{
  g_strfreev ((char **)spec->arguments);
  g_strfreev ((char **)spec->environment);
  g_free ((char *)spec->cwd);
  g_free ((char *)spec->user);
  g_free (spec);
}

/* Starting */

static void
start_free (gpointer data)
{
  Start *start = data;
  for (Channel *channel = start->channels; channel < start->channels + N_CHANNELS; channel++) {
    g_clear_handle_id (&channel->source, g_source_remove);
    banger_clear_fd (&channel->fd);
  }
  g_clear_handle_id (&start->timeout, g_source_remove);
  g_byte_array_unref (start->request);
  g_free (start->socket_path);
  g_free (start->token);
  g_free (start);
}

/* @error: (transfer full) (nullable). */
static void
start_end (Start *start, GError *error)
{
  if (start->over)
    return;
  start->over = TRUE;
  g_autoptr (GTask) task = start->task;
  GCancellable *cancellable = g_task_get_cancellable (task);
  for (Channel *channel = start->channels; channel < start->channels + N_CHANNELS; channel++)
    g_clear_handle_id (&channel->source, g_source_remove);
  g_clear_handle_id (&start->timeout, g_source_remove);
  if (cancellable && start->cancel_id)
    g_signal_handler_disconnect (cancellable, start->cancel_id);
  banger_task_return (task, error);
}

static void
start_fail (Start *start, const char *what, int errnum)
{
  GError *error = errnum != 0 ? g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: %s: %s", what,
                                             g_strerror (errnum))
                              : g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: %s", what);
  start_end (start, error);
}

static gboolean on_readable (int fd, GIOCondition condition, gpointer data);
static gboolean on_writable (int fd, GIOCondition condition, gpointer data);

/* As soon as all streams are known to the guest. */
static void
send_request (Start *start)
{
  Channel *control = &start->channels[CONTROL];
  for (const Channel *channel = start->channels; channel < control; channel++)
    if (channel->phase != UNUSED && channel->phase != READY)
      return;
  if (control->phase != WAITING)
    return;
  control->phase = REQUEST_SENT;
  g_clear_handle_id (&control->source, g_source_remove);
  control->source = g_unix_fd_add (control->fd, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_writable, control);
}

static gboolean
on_writable (int fd, GIOCondition condition, gpointer data)
{
  Channel *control = data;
  Start *start = control->start;
  ssize_t n = send (fd, start->request->data + start->sent, start->request->len - start->sent,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  /* A guest that takes no more has an answer ready, mostly. */
  start->sent += n > 0 ? (gsize)n : 0;
  if (n > 0 && start->sent < start->request->len)
    return G_SOURCE_CONTINUE;
  control->source = g_unix_fd_add (fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, control);
  return G_SOURCE_REMOVE;
}

/* "T ok" or "T error TEXT". Returns: whether it is the first. */
static gboolean
is_ok (Start *start, const char *line)
{
  gsize length = strlen (start->token);
  const char *rest = strncmp (line, start->token, length) == 0 && line[length] == ' ' ? line + length + 1 : "";
  if (g_str_equal (rest, "ok"))
    return TRUE;
  g_autofree char *text = banger_log_escape (
      g_str_has_prefix (rest, "error ") ? rest + strlen ("error ") : "the answer is not of our protocol", 200);
  start_fail (start, text, 0);
  return FALSE;
}

static void
take_line (Channel *channel, const char *line)
{
  Start *start = channel->start;
  if (channel->phase == CONNECT_SENT && !g_str_has_prefix (line, "OK ")) {
    start_fail (start, "the answer is not of our protocol", 0);
  } else if (channel->phase == CONNECT_SENT) {
    channel->phase = channel == &start->channels[CONTROL] ? WAITING : STREAM_SENT;
    send_request (start);
  } else if (channel->phase == STREAM_SENT && is_ok (start, line)) {
    channel->phase = READY;
    g_clear_handle_id (&channel->source, g_source_remove);
    send_request (start);
  } else if (channel->phase == REQUEST_SENT && is_ok (start, line)) {
    start_end (start, NULL);
  } else if (channel->phase == WAITING) {
    start_fail (start, "the answer is not of our protocol", 0);
  }
}

static gboolean
on_readable (int fd, GIOCondition condition, gpointer data)
{
  Channel *channel = data;
  g_autoptr (GTask) task = g_object_ref (channel->start->task);
  gboolean failed;
  guint source = channel->source;
  const char *line = banger_line_read (fd, channel->line, &channel->used, &failed);
  if (failed)
    start_fail (channel->start, "the connection was lost", errno);
  else if (line)
    take_line (channel, line);
  return channel->source == source ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* A stream says whose it is at once; the guest reads both lines when it has accepted. */
static gboolean
greet (Channel *channel, const char *name)
{
  g_autofree char *text = name ? g_strdup_printf ("CONNECT %d\nstream %s %s\n", BANGER_GUEST_PORT,
                                                  channel->start->token, name)
                               : g_strdup_printf ("CONNECT %d\n", BANGER_GUEST_PORT);
  gssize length = (gssize)strlen (text);
  channel->phase = CONNECT_SENT;
  return send (channel->fd, text, (gsize)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length;
}

static gboolean on_connect_again (gpointer data);

static void
channel_connect (Channel *channel)
{
  static const char *const names[N_CHANNELS] = { "stdin", "stdout", "stderr", NULL };
  Start *start = channel->start;
  g_autoptr (GError) error = NULL;
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_strlcpy (address.sun_path, start->socket_path, sizeof address.sun_path);
  channel->phase = CONNECTING;
  if (channel->fd < 0)
    channel->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (channel->fd < 0) {
    start_fail (start, "no socket", errno);
  } else if (connect (channel->fd, (struct sockaddr *)&address, sizeof address) < 0) {
    if (errno == EAGAIN)
      channel->source = g_timeout_add (CONNECT_AGAIN_MSEC, on_connect_again, channel);
    else
      start_fail (start, "no connection to the VMM", errno);
  } else if (!banger_peer_check_fd (channel->fd, start->pid, &error)) {
    start_end (start, g_steal_pointer (&error));
  } else if (!greet (channel, names[channel - start->channels])) {
    start_fail (start, "no connection to the VMM", errno);
  } else {
    channel->source = g_unix_fd_add (channel->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, channel);
  }
}

static gboolean
on_connect_again (gpointer data)
{
  Channel *channel = data;
  g_autoptr (GTask) task = g_object_ref (channel->start->task);
  channel->source = 0;
  channel_connect (channel);
  return G_SOURCE_REMOVE;
}

static gboolean
on_timeout (gpointer data)
{
  Start *start = data;
  start->timeout = 0;
  start_end (start, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, "guest agent: no answer within %d s",
                                 START_SECONDS));
  return G_SOURCE_REMOVE;
}

/* From an idle: the handler itself must not free what it is called from. */
static gboolean
on_cancel_idle (gpointer data)
{
  Start *start = data;
  start->timeout = 0;
  start_end (start, banger_error_cancelled ());
  return G_SOURCE_REMOVE;
}

static void
on_cancelled (GCancellable *cancellable, Start *start)
{
  g_clear_handle_id (&start->timeout, g_source_remove);
  start->timeout = g_idle_add (on_cancel_idle, start);
}

void
banger_exec_start_async (const char *socket_path, pid_t pid, const BangerExecSpec *spec, GCancellable *cancellable,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = g_new0 (Start, 1);
  g_autoptr (GByteArray) request = make_request (spec);
  start->task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (start->task, FALSE);
  g_task_set_task_data (start->task, start, start_free);
  start->socket_path = g_strdup (socket_path);
  start->pid = pid;
  start->token = g_strdup_printf ("x%08x%08x", g_random_int (), g_random_int ());
  g_autofree char *head = g_strdup_printf ("exec %s %u\n", start->token, request->len);
  start->request = g_byte_array_new ();
  g_byte_array_append (start->request, (const guint8 *)head, (guint)strlen (head));
  g_byte_array_append (start->request, request->data, request->len);
  for (Channel *channel = start->channels; channel < start->channels + N_CHANNELS; channel++)
    *channel = (Channel){ .start = start, .fd = -1 };
  start->timeout = g_timeout_add_seconds (START_SECONDS, on_timeout, start);
  if (cancellable && g_cancellable_is_cancelled (cancellable)) {
    on_cancelled (cancellable, start);
    return;
  }
  if (cancellable)
    start->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), start);
  const gboolean used[N_CHANNELS] = { !spec->no_stdin, !spec->no_stdout, !spec->terminal, TRUE };
  g_autoptr (GTask) task = g_object_ref (start->task);
  for (int i = 0; i < N_CHANNELS; i++)
    start->channels[i].phase = used[i] ? CONNECTING : UNUSED;
  for (int i = 0; i < N_CHANNELS && !start->over; i++)
    if (used[i])
      channel_connect (&start->channels[i]);
}

BangerExec *
banger_exec_start_finish (GAsyncResult *result, int *ret_fds, GError **error)
{
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return NULL;
  Start *start = g_task_get_task_data (G_TASK (result));
  BangerExec *exec = g_new0 (BangerExec, 1);
  exec->control = banger_steal_fd (&start->channels[CONTROL].fd);
  for (int i = 0; i < BANGER_EXEC_STREAMS; i++)
    ret_fds[i] = banger_steal_fd (&start->channels[i].fd);
  return exec;
}

/* Running */

static void
exec_ended (BangerExec *exec, int status, int number, const GError *error)
{
  BangerExecEnded ended = exec->ended;
  exec->source = 0;
  banger_clear_fd (&exec->control);
  exec->ended = NULL;
  ended (exec, status, number, error, exec->user_data);
}

/* "exit STATUS" or "killed SIGNAL". */
static void
take_end (BangerExec *exec, const char *line)
{
  static const char exited[] = "exit ", killed[] = "killed ";
  guint64 number = 0;
  g_autoptr (GError) error = NULL;
  if (g_str_has_prefix (line, exited) && g_ascii_string_to_unsigned (line + strlen (exited), 10, 0, 255, &number, NULL))
  {
    exec_ended (exec, (int)number, 0, NULL);
  } else if (g_str_has_prefix (line, killed)
             && g_ascii_string_to_unsigned (line + strlen (killed), 10, 1, SIGNAL_MAX, &number, NULL))
  {
    exec_ended (exec, 0, (int)number, NULL);
  } else {
    banger_set_error (&error, BANGER_ERROR_GUEST_FAILED, "the guest did not say how the command ended");
    exec_ended (exec, 0, 0, error);
  }
}

static gboolean
on_control (int fd, GIOCondition condition, gpointer data)
{
  BangerExec *exec = data;
  gboolean failed;
  g_autoptr (GError) error = NULL;
  const char *line = banger_line_read (fd, exec->line, &exec->used, &failed);
  if (!line && !failed)
    return G_SOURCE_CONTINUE;
  if (line) {
    take_end (exec, line);
  } else {
    banger_set_error (&error, BANGER_ERROR_GUEST_FAILED, "the connection to the guest was lost");
    exec_ended (exec, 0, 0, error);
  }
  return G_SOURCE_REMOVE;
}

void
banger_exec_watch (BangerExec *exec, BangerExecEnded ended, gpointer user_data)
{
  exec->ended = ended;
  exec->user_data = user_data;
  exec->source = g_unix_fd_add (exec->control, G_IO_IN | G_IO_HUP | G_IO_ERR, on_control, exec);
}

static gboolean
order (BangerExec *exec, GError **error, const char *text)
{
  gssize length = (gssize)strlen (text);
  if (exec->control < 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the command has ended");
  return send (exec->control, text, (gsize)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length
         || banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "the guest takes no orders for this command");
}

gboolean
banger_exec_signal (BangerExec *exec, guint number, GError **error)
{
  if (number < 1 || number > SIGNAL_MAX)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIGNAL, "there is no signal %u: choose 1 to %u", number,
                             SIGNAL_MAX);
  g_autofree char *text = g_strdup_printf ("signal %u\n", number);
  return order (exec, error, text);
}

gboolean
banger_exec_resize (BangerExec *exec, guint rows, guint columns, GError **error)
{
  if (rows > WINDOW_MAX || columns > WINDOW_MAX)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "a terminal has at most %u rows and columns",
                             WINDOW_MAX);
  g_autofree char *text = g_strdup_printf ("resize %ux%u\n", rows, columns);
  return order (exec, error, text);
}

void
banger_exec_free (BangerExec *exec)
{
  if (!exec)
    return;
  g_clear_handle_id (&exec->source, g_source_remove);
  banger_clear_fd (&exec->control);
  g_free (exec);
}
