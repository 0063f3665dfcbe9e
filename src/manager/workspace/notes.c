/* What stays behind, and why, in words for the user.
 * Never holds more of them than somebody reads. */
#include "common/log.h"
#include "manager/workspace/private.h"

#define MAX_NOTES 100

void
workspace_note (BangerWorkspace *workspace, const char *format, ...)
{
  if (workspace->notes->len >= MAX_NOTES)
    return;
  va_list arguments;
  va_start (arguments, format);
  g_autofree char *text = g_strdup_vprintf (format, arguments);
  va_end (arguments);
  g_ptr_array_add (workspace->notes, banger_log_escape (text, 2048));
}
