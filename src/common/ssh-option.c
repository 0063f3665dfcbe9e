/* Paths as ssh_config(5) reads them.
 * Used by banger and bangerd.
 * Never expands anything. */
#include "common/ssh-option.h"

#include <glib.h>

char *
banger_ssh_path_option (const char *key, const char *path)
{
  GString *out = g_string_new (key);
  g_string_append (out, "=\"");
  for (const char *c = path; *c != '\0'; c++) {
    if (*c == '%' || *c == '"' || *c == '\\')
      g_string_append_c (out, *c == '%' ? '%' : '\\');
    g_string_append_c (out, *c);
  }
  g_string_append_c (out, '"');
  return g_string_free (out, FALSE);
}
