/* Structured log: journal fields where stderr is the journal, else JSON lines on stderr.
 * Used by both services and the engine programs.
 * Never writes a caller's string unescaped. */
#include "common/log.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <systemd/sd-journal.h>

#include "common/fd.h"
#include "common/names.h"

#define MAX_FIELDS 24
#define MAX_VALUE 4096

static struct {
  const char *ident;
  int level;
  gboolean journal;
} log_state = { "banger", LOG_INFO, FALSE };

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
  int level = banger_log_level_from_string (g_getenv (BANGER_ENV_LOG_LEVEL));
  if (level >= 0)
    log_state.level = level;
}

/* Shown as it is: not control or format characters (they turn the direction of text), not line separators. */
static gboolean
is_plain (gunichar c)
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
    gboolean plain = is_plain (g_utf8_get_char_validated (piece, (gssize)(length - i)));
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

static void
send_to_journal (GPtrArray *pairs)
{
  struct iovec iov[MAX_FIELDS + 5];
  int n = 0;
  for (guint i = 0; i < pairs->len && n < (int)G_N_ELEMENTS (iov); i++)
    iov[n++] = (struct iovec){ pairs->pdata[i], strlen (pairs->pdata[i]) };
  (void)sd_journal_sendv (iov, n);
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
  (void)!write (STDERR_FILENO, ended, strlen (ended));
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
