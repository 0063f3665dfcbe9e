/* What a terminal shows of words that others wrote.
 * Never changes what goes into a file or a pipe. */
#include "cli/terminal.h"

#include <string.h>
#include <unistd.h>

#include "common/log.h"

#define MAX_LINE 4096
#define PARTIAL ((gunichar)-2) /* g_utf8_get_char_validated() */

/* How many bytes at @text are shown as they are; 0 none; -1 that is not known yet. */
static gssize
plain_bytes (const char *text, gsize length)
{
  if (*text == '\n' || *text == '\t')
    return 1;
  if (*text == '\r') /* a console's end of a line */
    return length == 1 ? -1 : text[1] == '\n' ? 2 : 0;
  gunichar c = g_utf8_get_char_validated (text, (gssize)length);
  if (c == PARTIAL) /* it says so of a NUL, too, after which nothing more comes that makes it whole */
    return memchr (text, '\0', length) ? 0 : -1;
  return banger_log_is_plain (c) ? g_utf8_next_char (text) - text : 0;
}

char *
banger_terminal_escape (const char *text, gsize length, gsize *ret_used)
{
  GString *out = g_string_new (NULL);
  gsize i = 0;
  while (i < length) {
    gssize plain = plain_bytes (text + i, length - i);
    if (plain < 0 && ret_used)
      break;
    if (plain > 0)
      g_string_append_len (out, text + i, plain);
    else
      g_string_append_printf (out, "\\x%02x", (unsigned char)text[i]);
    i += plain > 0 ? (gsize)plain : 1;
  }
  if (ret_used)
    *ret_used = i;
  return g_string_free (out, FALSE);
}

char *
banger_terminal_json (const char *json)
{
  GString *out = g_string_new (NULL);
  for (; *json != '\0'; json = g_utf8_next_char (json)) {
    gunichar c = g_utf8_get_char (json);
    if (c == '\n' || banger_log_is_plain (c))
      g_string_append_unichar (out, c);
    else if (c <= 0xffff)
      g_string_append_printf (out, "\\u%04x", c);
    else /* RFC 8259, section 7 */
      g_string_append_printf (out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
  }
  return g_string_free (out, FALSE);
}

char *
banger_terminal_line (int fd, const char *text)
{
  return isatty (fd) ? banger_log_escape (text, MAX_LINE) : g_strdup (text);
}

/* GLib's own way, which knows the locale, is behind each. */
static void
print_guarded (const char *text)
{
  g_autofree char *shown = banger_terminal_escape (text, strlen (text), NULL);
  GPrintFunc own = g_set_print_handler (NULL);
  g_print ("%s", shown);
  g_set_print_handler (own);
}

static void
printerr_guarded (const char *text)
{
  g_autofree char *shown = banger_terminal_escape (text, strlen (text), NULL);
  GPrintFunc own = g_set_printerr_handler (NULL);
  g_printerr ("%s", shown);
  g_set_printerr_handler (own);
}

void
banger_terminal_guard (void)
{
  if (isatty (STDOUT_FILENO))
    g_set_print_handler (print_guarded);
  if (isatty (STDERR_FILENO))
    g_set_printerr_handler (printerr_guarded);
}
