/* Assignments, a line each.
 * Never takes a line that is none. */
#include "guest/environment.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "guest/file.h"

#define MAX_BYTES (256 << 10)
#define NAME "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"

/* The locale's: Debian's name, and systemd's. The first that is there. */
static const char *const locales[] = { "/etc/default/locale", "/etc/locale.conf" };

/* Returns: @line without what is around the assignment. */
static char *
strip (char *line)
{
  static const char export[] = "export ";
  line[strcspn (line, "#")] = '\0';
  line += strspn (line, " \t");
  if (strncmp (line, export, sizeof export - 1) == 0)
    line += sizeof export - 1;
  for (size_t length = strlen (line); length > 0 && isspace ((unsigned char)line[length - 1]); length--)
    line[length - 1] = '\0';
  return line;
}

static void
unquote (char *value)
{
  size_t length = strlen (value);
  if (value[0] != '"' && value[0] != '\'')
    return;
  if (length > 1 && value[length - 1] == value[0])
    length--;
  memmove (value, value + 1, length - 1);
  value[length - 1] = '\0';
}

char *
guest_environment_next (char **rest)
{
  for (char *line = strsep (rest, "\n"); line; line = strsep (rest, "\n")) {
    line = strip (line);
    size_t name = strspn (line, NAME);
    if (name == 0 || line[name] != '=' || isdigit ((unsigned char)line[0]))
      continue;
    unquote (line + name + 1);
    return line;
  }
  return NULL;
}

/* Returns: whether there is such a file. */
static int
set_from (const char *path)
{
  char *text = guest_read_file (path, MAX_BYTES), *rest = text;
  for (char *pair = text ? guest_environment_next (&rest) : NULL; pair; pair = guest_environment_next (&rest)) {
    char *equals = strchr (pair, '=');
    *equals = '\0';
    setenv (pair, equals + 1, 1);
  }
  free (text);
  return text != NULL;
}

void
guest_environment_set (void)
{
  set_from ("/etc/environment");
  for (size_t i = 0; i < sizeof locales / sizeof locales[0]; i++)
    if (set_from (locales[i]))
      return;
}
