/* QEMU's monitor protocol over a connected socket.
 * Never blocks the main loop. See docs/interop/qmp-spec of QEMU. */
#include "engine/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "engine/body.h"
#include "engine/engine-log.h"

#define LINE_LIMIT (1024 * 1024)

typedef struct {
  BangerQmpReply reply;
  gpointer user_data;
} Pending;

struct BangerQmp {
  int fd;
  guint source;
  GString *input;
  GQueue pending; /* Pending *, in the order of the commands: QMP without OOB answers in order */
  BangerQmpReply ready;
  BangerQmpEvent event;
  gpointer user_data;
};

static void
fail_pending (BangerQmp *qmp, const char *why)
{
  g_autoptr (GError) error = g_error_new_literal (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, why);
  Pending *pending;
  while ((pending = g_queue_pop_head (&qmp->pending))) {
    if (pending->reply)
      pending->reply (NULL, error, pending->user_data);
    g_free (pending);
  }
}

static void
answer (BangerQmp *qmp, JsonNode *result, const GError *error)
{
  g_autofree Pending *pending = g_queue_pop_head (&qmp->pending);
  if (pending && pending->reply)
    pending->reply (result, error, pending->user_data);
}

static void
handle_message (BangerQmp *qmp, JsonObject *message)
{
  if (json_object_has_member (message, "QMP")) {
    banger_qmp_execute (qmp, "qmp_capabilities", NULL, -1, qmp->ready, qmp->user_data);
  } else if (json_object_has_member (message, "event")) {
    JsonNode *data = json_object_get_member (message, "data");
    JsonObject *object = data && JSON_NODE_HOLDS_OBJECT (data) ? json_node_get_object (data) : NULL;
    qmp->event (json_object_get_string_member_with_default (message, "event", ""), object, qmp->user_data);
  } else if (json_object_has_member (message, "return")) {
    answer (qmp, json_object_get_member (message, "return"), NULL);
  } else if (json_object_has_member (message, "error")) {
    JsonNode *node = json_object_get_member (message, "error");
    const char *text = JSON_NODE_HOLDS_OBJECT (node)
                           ? json_object_get_string_member_with_default (json_node_get_object (node), "desc", "?")
                           : "?";
    g_autoptr (GError) error = g_error_new (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "QEMU refused: %s", text);
    answer (qmp, NULL, error);
  }
}

static void
handle_line (BangerQmp *qmp, const char *line, gsize length)
{
  g_autoptr (JsonParser) parser = json_parser_new ();
  g_autoptr (GError) error = NULL;
  if (!json_parser_load_from_data (parser, line, (gssize)length, &error) || !json_parser_get_root (parser)
      || !JSON_NODE_HOLDS_OBJECT (json_parser_get_root (parser)))
  {
    vmm_warning ("QMP: a line that is no object was dropped");
    return;
  }
  handle_message (qmp, json_node_get_object (json_parser_get_root (parser)));
}

static gboolean
handle_input (int fd, GIOCondition condition, gpointer data)
{
  BangerQmp *qmp = data;
  char buffer[8192];
  ssize_t n = recv (fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n <= 0 || qmp->input->len + (gsize)n > LINE_LIMIT) {
    qmp->source = 0;
    fail_pending (qmp, "QEMU closed its monitor");
    return G_SOURCE_REMOVE;
  }
  g_string_append_len (qmp->input, buffer, n);
  char *end;
  while ((end = memchr (qmp->input->str, '\n', qmp->input->len))) {
    gsize length = (gsize)(end - qmp->input->str);
    g_autofree char *line = g_strndup (qmp->input->str, length);
    g_string_erase (qmp->input, 0, (gssize)length + 1);
    handle_line (qmp, line, length);
  }
  return G_SOURCE_CONTINUE;
}

BangerQmp *
banger_qmp_new (int fd, BangerQmpReply ready, BangerQmpEvent event, gpointer data)
{
  BangerQmp *qmp = g_new0 (BangerQmp, 1);
  qmp->fd = fd;
  qmp->input = g_string_new (NULL);
  g_queue_init (&qmp->pending);
  qmp->ready = ready;
  qmp->event = event;
  qmp->user_data = data;
  qmp->source = g_unix_fd_add (fd, G_IO_IN | G_IO_HUP | G_IO_ERR, handle_input, qmp);
  return qmp;
}

static ssize_t
send_line (int socket, char *line, gsize length, int fd)
{
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE (sizeof (int))];
  } control = { .header = { CMSG_LEN (sizeof fd), SOL_SOCKET, SCM_RIGHTS } };
  struct iovec bytes = { line, length };
  struct msghdr message = { .msg_iov = &bytes, .msg_iovlen = 1 };
  if (fd >= 0) {
    memcpy (CMSG_DATA (&control.header), &fd, sizeof fd);
    message.msg_control = &control;
    message.msg_controllen = sizeof control.room;
  }
  return sendmsg (socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
banger_qmp_execute (BangerQmp *qmp, const char *command, const char *arguments, int fd, BangerQmpReply reply,
                    gpointer data)
{
  g_autofree char *line = arguments ? g_strdup_printf ("{\"execute\":\"%s\",\"arguments\":%s}\n", command, arguments)
                                    : g_strdup_printf ("{\"execute\":\"%s\"}\n", command);
  Pending *pending = g_new0 (Pending, 1);
  pending->reply = reply;
  pending->user_data = data;
  g_queue_push_tail (&qmp->pending, pending);
  /* Commands are far smaller than the socket's buffer; one that does not fit means a dead QEMU. */
  ssize_t length = (ssize_t)strlen (line);
  if (qmp->source == 0 || send_line (qmp->fd, line, (gsize)length, fd) != length)
    fail_pending (qmp, "QEMU does not read its monitor");
}

void
banger_qmp_free (BangerQmp *qmp)
{
  if (qmp->source != 0)
    g_source_remove (qmp->source);
  qmp->source = 0;
  fail_pending (qmp, "QEMU is gone");
  banger_clear_fd (&qmp->fd);
  g_string_free (qmp->input, TRUE);
  g_free (qmp);
}
