/* One connection through the VMM's socket, two lines each way.
 * Called by forward.c.
 * Never carries a byte behind that. */
#include "manager/peer/guest-port.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "manager/peer/credentials.h"
#include "manager/peer/line.h"

#define OPEN_SECONDS 20

typedef struct {
  GTask *task;
  int fd;
  char *token;
  gboolean connected; /* the VMM has said so: the next line is the agent's */
  char line[BANGER_LINE_BYTES];
  gsize used;
  guint source, timeout, idle;
  gulong cancel_id;
} Opening;

static void
opening_free (gpointer data)
{
  Opening *opening = data;
  banger_clear_fd (&opening->fd);
  g_free (opening->token);
  g_free (opening);
}

/* @error: (transfer full) (nullable). */
static void
opening_end (Opening *opening, GError *error)
{
  g_autoptr (GTask) task = opening->task;
  GCancellable *cancellable = g_task_get_cancellable (task);
  g_clear_handle_id (&opening->source, g_source_remove);
  g_clear_handle_id (&opening->timeout, g_source_remove);
  g_clear_handle_id (&opening->idle, g_source_remove);
  if (cancellable && opening->cancel_id)
    g_signal_handler_disconnect (cancellable, opening->cancel_id);
  if (error)
    g_task_return_error (task, error);
  else
    g_task_return_int (task, banger_steal_fd (&opening->fd));
}

static void
opening_fail (Opening *opening, const char *what)
{
  opening_end (opening, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: %s", what));
}

/* "T ok" or "T error TEXT". */
static void
take_answer (Opening *opening, const char *line)
{
  gsize length = strlen (opening->token);
  const char *rest = strncmp (line, opening->token, length) == 0 && line[length] == ' ' ? line + length + 1 : "";
  if (g_str_equal (rest, "ok")) {
    opening_end (opening, NULL);
    return;
  }
  g_autofree char *text = banger_log_escape (
      g_str_has_prefix (rest, "error ") ? rest + strlen ("error ") : "the answer is not of our protocol", 200);
  opening_fail (opening, text);
}

static gboolean
on_readable (int fd, GIOCondition condition, gpointer data)
{
  Opening *opening = data;
  gboolean failed;
  const char *line = banger_line_read (fd, opening->line, &opening->used, &failed);
  if (line && !opening->connected && g_str_has_prefix (line, "OK ")) {
    opening->connected = TRUE;
    return G_SOURCE_CONTINUE;
  }
  if (!line && !failed)
    return G_SOURCE_CONTINUE;
  opening->source = 0;
  if (failed)
    opening_fail (opening, "the connection was lost");
  else if (!opening->connected)
    opening_fail (opening, "the answer is not of our protocol");
  else
    take_answer (opening, line);
  return G_SOURCE_REMOVE;
}

static gboolean
on_timeout (gpointer data)
{
  Opening *opening = data;
  opening->timeout = 0;
  opening_end (opening, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, "guest agent: no answer within %d s",
                                     OPEN_SECONDS));
  return G_SOURCE_REMOVE;
}

/* From an idle: the handler itself must not free what it is called from. */
static gboolean
on_cancel_idle (gpointer data)
{
  Opening *opening = data;
  opening->idle = 0;
  opening_end (opening, banger_error_cancelled ());
  return G_SOURCE_REMOVE;
}

static void
on_cancelled (GCancellable *cancellable, Opening *opening)
{
  if (!opening->idle)
    opening->idle = g_idle_add (on_cancel_idle, opening);
}

/* Both lines at once: the guest reads its own when it has accepted. */
static gboolean
greet (Opening *opening, const char *socket_path, pid_t pid, guint16 port, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_strlcpy (address.sun_path, socket_path, sizeof address.sun_path);
  g_autofree char *text = g_strdup_printf ("CONNECT %d\nconnect %s %u\n", BANGER_GUEST_PORT, opening->token, port);
  gssize length = (gssize)strlen (text);
  opening->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (opening->fd < 0 || connect (opening->fd, (struct sockaddr *)&address, sizeof address) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_GUEST_FAILED, errno, "guest agent: no connection to the VMM");
  if (!banger_peer_check_fd (opening->fd, pid, error))
    return FALSE;
  return send (opening->fd, text, (gsize)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length
         || banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "guest agent: the VMM takes nothing");
}

void
banger_guest_port_open_async (const char *socket_path, pid_t pid, guint16 port, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data)
{
  static guint last;
  Opening *opening = g_new0 (Opening, 1);
  GError *error = NULL;
  opening->fd = -1;
  opening->token = g_strdup_printf ("c%x-%u", g_random_int (), ++last);
  opening->task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (opening->task, FALSE);
  g_task_set_task_data (opening->task, opening, opening_free);
  if (!greet (opening, socket_path, pid, port, &error)) {
    opening_end (opening, error);
    return;
  }
  opening->source = g_unix_fd_add (opening->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, opening);
  opening->timeout = g_timeout_add_seconds (OPEN_SECONDS, on_timeout, opening);
  if (cancellable)
    opening->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), opening);
}

int
banger_guest_port_open_finish (GAsyncResult *result, GError **error)
{
  return (int)g_task_propagate_int (G_TASK (result), error); /* -1 with an error */
}
