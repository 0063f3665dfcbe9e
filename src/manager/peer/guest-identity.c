/* One connection through the VMM's socket: the time is that at which the request is sent.
 * Called by vm/identity.c.
 * Never says that a guest is who it is to be before the guest has said so. */
#include "manager/peer/guest-identity.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "manager/core/later.h"
#include "manager/peer/credentials.h"
#include "manager/peer/line.h"

#define ANSWER_SECONDS 20
#define ENTROPY_BYTES 64
#define TIME_MAX (G_MAXINT64 / 4)

G_STATIC_ASSERT (ENTROPY_BYTES >= BANGER_GUEST_MIN_ENTROPY && ENTROPY_BYTES <= BANGER_GUEST_MAX_ENTROPY);

typedef struct {
  GTask *task;
  int fd;
  char *token, *boot_id;
  GBytes *parts;
  GByteArray *request; /* NULL: the VMM has not said yet that there is a connection */
  gsize sent;
  gint64 sent_at; /* CLOCK_REALTIME */
  gint64 off;
  char line[BANGER_LINE_BYTES];
  gsize used;
  guint source, timeout, idle;
  gulong cancel_id;
} Telling;

static void
telling_free (gpointer data)
{
  Telling *telling = data;
  banger_clear_fd (&telling->fd);
  g_clear_pointer (&telling->request, g_byte_array_unref);
  g_bytes_unref (telling->parts);
  g_free (telling->boot_id);
  g_free (telling->token);
  g_free (telling);
}

/* @error: (transfer full) (nullable). */
static void
telling_end (Telling *telling, GError *error)
{
  g_autoptr (GTask) task = telling->task;
  GCancellable *cancellable = g_task_get_cancellable (task);
  g_clear_handle_id (&telling->source, g_source_remove);
  g_clear_handle_id (&telling->timeout, g_source_remove);
  g_clear_handle_id (&telling->idle, g_source_remove);
  if (cancellable && telling->cancel_id)
    g_signal_handler_disconnect (cancellable, telling->cancel_id);
  banger_clear_fd (&telling->fd);
  banger_task_return (task, error);
}

static void
telling_fail (Telling *telling, const char *what)
{
  telling_end (telling, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: %s", what));
}

void
banger_guest_identity_add (GByteArray *parts, const char *name, gconstpointer data, gsize length)
{
  g_autofree char *head = g_strdup_printf ("%s %" G_GSIZE_FORMAT "\n", name, length);
  g_byte_array_append (parts, (const guint8 *)head, (guint)strlen (head));
  g_byte_array_append (parts, data, (guint)length);
}

gboolean
banger_guest_identity_parse (const char *line, const char *token, const char *boot_id, gint64 *ret_usec, GError **error)
{
  gsize length = strlen (token);
  const char *rest = strncmp (line, token, length) == 0 && line[length] == ' ' ? line + length + 1 : "";
  g_auto (GStrv) words = g_strsplit (rest, " ", 4);
  gint64 usec;
  if (g_str_has_prefix (rest, "error ")) {
    g_autofree char *text = banger_log_escape (rest + strlen ("error "), 200);
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "the guest cannot be made this VM: %s", text);
  }
  if (g_strv_length (words) != 3 || !g_str_equal (words[0], "ok") || !g_uuid_string_is_valid (words[1])
      || !g_ascii_string_to_signed (words[2], 10, 0, TIME_MAX, &usec, NULL))
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "guest agent: the answer is not of our protocol");
  if (boot_id && !g_str_equal (words[1], boot_id))
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "the guest does not have the boot id that it was given");
  *ret_usec = usec;
  return TRUE;
}

/* Its time was true between question and answer: what is outside of that is off. */
static void
take_answer (Telling *telling, const char *line)
{
  GError *error = NULL;
  gint64 usec, now = g_get_real_time ();
  if (banger_guest_identity_parse (line, telling->token, telling->boot_id, &usec, &error))
    telling->off = usec < telling->sent_at ? usec - telling->sent_at : usec > now ? usec - now : 0;
  telling_end (telling, error);
}

static gboolean on_readable (int fd, GIOCondition condition, gpointer data);

static gboolean
on_writable (int fd, GIOCondition condition, gpointer data)
{
  Telling *telling = data;
  ssize_t n = send (fd, telling->request->data + telling->sent, telling->request->len - telling->sent,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  /* A guest that takes no more has an answer ready, mostly. */
  telling->sent += n > 0 ? (gsize)n : 0;
  if (n > 0 && telling->sent < telling->request->len)
    return G_SOURCE_CONTINUE;
  telling->source = g_unix_fd_add (fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, telling);
  return G_SOURCE_REMOVE;
}

/* Returns: FALSE with an error where there is no entropy to give. */
static gboolean
make_request (Telling *telling, GError **error)
{
  guint8 entropy[ENTROPY_BYTES];
  g_autoptr (GByteArray) body = g_byte_array_new ();
  if (getrandom (entropy, sizeof entropy, 0) != sizeof entropy)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "no random bytes for the guest");
  telling->sent_at = g_get_real_time ();
  g_autofree char *now = g_strdup_printf ("%" G_GINT64_FORMAT, telling->sent_at);
  banger_guest_identity_add (body, BANGER_GUEST_PART_TIME, now, strlen (now));
  banger_guest_identity_add (body, BANGER_GUEST_PART_ENTROPY, entropy, sizeof entropy);
  memset (entropy, 0, sizeof entropy);
  g_byte_array_append (body, g_bytes_get_data (telling->parts, NULL), (guint)g_bytes_get_size (telling->parts));
  if (body->len > BANGER_GUEST_MAX_IDENTITY)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "a guest takes at most %d bytes of keys and names",
                             BANGER_GUEST_MAX_IDENTITY);
  g_autofree char *head = g_strdup_printf ("identity %s %u\n", telling->token, body->len);
  telling->request = g_byte_array_new ();
  g_byte_array_append (telling->request, (const guint8 *)head, (guint)strlen (head));
  g_byte_array_append (telling->request, body->data, body->len);
  return TRUE;
}

static gboolean
on_readable (int fd, GIOCondition condition, gpointer data)
{
  Telling *telling = data;
  gboolean failed;
  GError *error = NULL;
  const char *line = banger_line_read (fd, telling->line, &telling->used, &failed);
  if (!line && !failed)
    return G_SOURCE_CONTINUE;
  telling->source = 0;
  if (failed) {
    telling_fail (telling, "the connection was lost");
  } else if (telling->request) {
    take_answer (telling, line);
  } else if (!g_str_has_prefix (line, "OK ")) {
    telling_fail (telling, "the answer is not of our protocol");
  } else if (!make_request (telling, &error)) {
    telling_end (telling, error);
  } else {
    telling->source = g_unix_fd_add (fd, G_IO_OUT | G_IO_HUP | G_IO_ERR, on_writable, telling);
  }
  return G_SOURCE_REMOVE;
}

static gboolean
on_timeout (gpointer data)
{
  Telling *telling = data;
  telling->timeout = 0;
  telling_end (telling, g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, "guest agent: no answer within %d s",
                                     ANSWER_SECONDS));
  return G_SOURCE_REMOVE;
}

/* From an idle: the handler itself must not free what it is called from. */
static gboolean
on_cancel_idle (gpointer data)
{
  Telling *telling = data;
  telling->idle = 0;
  telling_end (telling, banger_error_cancelled ());
  return G_SOURCE_REMOVE;
}

static void
on_cancelled (GCancellable *cancellable, Telling *telling)
{
  if (!telling->idle)
    telling->idle = g_idle_add (on_cancel_idle, telling);
}

static gboolean
greet (Telling *telling, const char *socket_path, pid_t pid, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_strlcpy (address.sun_path, socket_path, sizeof address.sun_path);
  g_autofree char *text = g_strdup_printf ("CONNECT %d\n", BANGER_GUEST_PORT);
  gssize length = (gssize)strlen (text);
  telling->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (telling->fd < 0 || connect (telling->fd, (struct sockaddr *)&address, sizeof address) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_GUEST_FAILED, errno, "guest agent: no connection to the VMM");
  if (!banger_peer_check_fd (telling->fd, pid, error))
    return FALSE;
  return send (telling->fd, text, (gsize)length, MSG_DONTWAIT | MSG_NOSIGNAL) == length
         || banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "guest agent: the VMM takes nothing");
}

void
banger_guest_identity_async (const char *socket_path, pid_t pid, GBytes *parts, const char *boot_id,
                             GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static guint last;
  Telling *telling = g_new0 (Telling, 1);
  GError *error = NULL;
  telling->fd = -1;
  telling->token = g_strdup_printf ("i%x-%u", g_random_int (), ++last);
  telling->boot_id = g_strdup (boot_id);
  telling->parts = g_bytes_ref (parts);
  telling->task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (telling->task, FALSE);
  g_task_set_task_data (telling->task, telling, telling_free);
  if (cancellable && g_cancellable_is_cancelled (cancellable)) {
    telling_end (telling, banger_error_cancelled ());
    return;
  }
  if (!greet (telling, socket_path, pid, &error)) {
    telling_end (telling, error);
    return;
  }
  telling->source = g_unix_fd_add (telling->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, telling);
  telling->timeout = g_timeout_add_seconds (ANSWER_SECONDS, on_timeout, telling);
  if (cancellable)
    telling->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), telling);
}

gboolean
banger_guest_identity_finish (GAsyncResult *result, gint64 *ret_off, GError **error)
{
  const Telling *telling = g_task_get_task_data (G_TASK (result));
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return FALSE;
  *ret_off = telling->off;
  return TRUE;
}
