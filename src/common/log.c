/* Structured log: journal fields where stderr is the journal, else JSON lines on stderr.
 * Never writes a caller's string unescaped. */
#include "common/log.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/names.h"

#define MAX_FIELDS 24
#define MAX_VALUE 4096
#ifndef JOURNAL_SOCKET /* the test has another */
#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#endif

static struct {
  const char *ident;
  int level;
  gboolean journal;
  int journal_fd;
} log_state = { "banger", LOG_INFO, FALSE, -1 };

static const struct {
  int priority;
  const char *word;
} levels[] = {
  { LOG_EMERG, "emerg" },     { LOG_ALERT, "alert" },   { LOG_CRIT, "crit" }, { LOG_ERR, "err" },
  { LOG_WARNING, "warning" }, { LOG_NOTICE, "notice" }, { LOG_INFO, "info" }, { LOG_DEBUG, "debug" },
};

const char *
banger_log_level_to_string (int priority)
{
  for (size_t i = 0; i < G_N_ELEMENTS (levels); i++)
    if (levels[i].priority == priority)
      return levels[i].word;
  return "info";
}

int
banger_log_level_from_string (const char *word)
{
  for (size_t i = 0; word && i < G_N_ELEMENTS (levels); i++)
    if (g_str_equal (levels[i].word, word))
      return levels[i].priority;
  return g_strcmp0 (word, "error") == 0 ? LOG_ERR : -1;
}

int
banger_log_get_level (void)
{
  return log_state.level;
}

void
banger_log_set_level (int priority)
{
  log_state.level = CLAMP (priority, LOG_EMERG, LOG_DEBUG);
}

/* systemd.exec(5): $JOURNAL_STREAM is "device:inode" of the stream that goes to the journal. */
static gboolean
stderr_is_journal (void)
{
  const char *stream = g_getenv ("JOURNAL_STREAM");
  struct stat st;
  if (!stream || fstat (STDERR_FILENO, &st) < 0)
    return FALSE;
  g_autofree char *own = g_strdup_printf ("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
  return g_str_equal (own, stream);
}

void
banger_log_init (const char *ident)
{
  log_state.ident = ident;
  log_state.journal = stderr_is_journal ();
  if (log_state.journal && log_state.journal_fd < 0)
    log_state.journal_fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int level = banger_log_level_from_string (g_getenv (BANGER_ENV_LOG_LEVEL));
  if (level >= 0)
    log_state.level = level;
}

/* Shown as it is: not control or format characters (they turn the direction of text), not line separators. */
gboolean
banger_log_is_plain (gunichar c)
{
  return c != (gunichar)-1 && c != (gunichar)-2 && g_unichar_isprint (c) && c != 0x2028 && c != 0x2029;
}

/* A piece that does not fit whole ends the text: half a character would not be UTF-8. */
char *
banger_log_escape (const char *text, size_t max)
{
  GString *out = g_string_new (NULL);
  size_t length = strlen (text), bytes;
  for (size_t i = 0; i < length; i += bytes) {
    char hex[5];
    const char *piece = text + i;
    gboolean plain = banger_log_is_plain (g_utf8_get_char_validated (piece, (gssize)(length - i)));
    bytes = plain ? (size_t)(g_utf8_next_char (piece) - piece) : 1;
    if (!plain) {
      g_snprintf (hex, sizeof hex, "\\x%02x", (unsigned char)*piece);
      piece = hex;
    }
    size_t needed = plain ? bytes : strlen (hex);
    if (out->len + needed > max)
      break;
    g_string_append_len (out, piece, (gssize)needed);
  }
  return g_string_free (out, FALSE);
}

/* Whoever reads the log, or does not, never makes a service wait: what is lost is counted, and told between @before and
 * @after. */
static void
send_counted (gboolean (*send) (const char *text, size_t length), const char *before, const char *after,
              const char *text, size_t length)
{
  static GMutex lock;
  static guint lost;
  g_autoptr (GMutexLocker) locker = g_mutex_locker_new (&lock);
  if (lost > 0) {
    g_autofree char *note = g_strdup_printf ("%s%u records are lost: nobody read the log%s", before, lost, after);
    if (!send (note, strlen (note))) {
      lost++;
      return;
    }
  }
  lost = send (text, length) ? 0 : 1;
}

/* The journal's own protocol; values have no newline. sd_journal_sendv(3) waits for a journald that stands still. */
static gboolean
send_datagram (const char *text, size_t length)
{
  static const struct sockaddr_un to = { AF_UNIX, JOURNAL_SOCKET };
  return sendto (log_state.journal_fd, text, length, MSG_NOSIGNAL, (const struct sockaddr *)&to, sizeof to)
         == (ssize_t)length;
}

static void
send_to_journal (GPtrArray *pairs)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < pairs->len; i++)
    g_string_append_printf (text, "%s\n", (const char *)pairs->pdata[i]);
  g_autofree char *note = g_strdup_printf ("PRIORITY=4\nSYSLOG_IDENTIFIER=%s\nMESSAGE=", log_state.ident);
  send_counted (send_datagram, note, "\n", text->str, text->len);
}

/* In pieces that a pipe takes whole or not at all; what does not fit is left. */
static gboolean
write_if_read (const char *text, size_t length)
{
  while (length > 0) {
    struct pollfd reader = { STDERR_FILENO, POLLOUT, 0 };
    if (poll (&reader, 1, 0) < 1 || !(reader.revents & POLLOUT))
      return FALSE;
    ssize_t n = write (STDERR_FILENO, text, MIN (length, PIPE_BUF));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return FALSE;
    text += n;
    length -= (size_t)n;
  }
  return TRUE;
}

static void
send_to_stderr (GPtrArray *pairs)
{
  g_autoptr (JsonObject) object = json_object_new ();
  g_autoptr (GDateTime) now = g_date_time_new_now_utc ();
  g_autofree char *stamp = g_date_time_format (now, "%Y-%m-%dT%H:%M:%S.%fZ");
  json_object_set_string_member (object, "TIME", stamp);
  for (guint i = 0; i < pairs->len; i++) {
    const char *pair = pairs->pdata[i], *equals = strchr (pair, '=');
    g_autofree char *key = g_strndup (pair, (size_t)(equals - pair));
    json_object_set_string_member (object, key, equals + 1);
  }
  g_autoptr (JsonNode) node = json_node_init_object (json_node_alloc (), object);
  g_autofree char *line = json_to_string (node, FALSE);
  g_autofree char *ended = g_strconcat (line, "\n", NULL);
  /* The last line may have ended anywhere. */
  g_autofree char *note = g_strdup_printf ("\n{\"PRIORITY\":\"4\",\"SYSLOG_IDENTIFIER\":\"%s\",\"MESSAGE\":\"",
                                           log_state.ident);
  send_counted (write_if_read, note, "\"}\n", ended, strlen (ended));
}

static void
emit (int priority, const char *message_id, const char *const *fields, const char *format, va_list args)
{
  if (priority > log_state.level && !message_id)
    return;
  g_autofree char *raw = g_strdup_vprintf (format, args);
  g_autofree char *message = banger_log_escape (raw, MAX_VALUE);
  g_autoptr (GPtrArray) pairs = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (pairs, g_strdup_printf ("PRIORITY=%d", priority));
  g_ptr_array_add (pairs, g_strconcat ("SYSLOG_IDENTIFIER=", log_state.ident, NULL));
  g_ptr_array_add (pairs, g_strconcat ("MESSAGE=", message, NULL));
  if (message_id)
    g_ptr_array_add (pairs, g_strconcat ("MESSAGE_ID=", message_id, NULL));
  for (; fields && fields[0] && pairs->len < MAX_FIELDS; fields += 2) {
    if (!fields[1])
      continue;
    g_autofree char *value = banger_log_escape (fields[1], MAX_VALUE);
    g_ptr_array_add (pairs, g_strconcat (fields[0], "=", value, NULL));
  }
  (log_state.journal ? send_to_journal : send_to_stderr) (pairs);
}

void
banger_log (int priority, const char *const *fields, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  emit (priority, NULL, fields, format, args);
  va_end (args);
}

void
banger_log_audit (const char *message_id, const char *const *fields, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  emit (LOG_NOTICE, message_id, fields, format, args);
  va_end (args);
}
