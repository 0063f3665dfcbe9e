/* Counting brackets.
 * Never reads outside of the given bytes. */
#include "common/json-depth.h"

gboolean
banger_json_depth_ok (const char *text, gsize length)
{
  guint depth = 0;
  gboolean string = FALSE;
  for (gsize i = 0; i < length; i++) {
    char c = text[i];
    if (string && c == '\\')
      i++;
    else if (c == '"')
      string = !string;
    else if (!string && (c == '[' || c == '{') && ++depth > BANGER_JSON_MAX_DEPTH)
      return FALSE;
    else if (!string && (c == ']' || c == '}') && depth > 0)
      depth--;
  }
  return TRUE;
}
