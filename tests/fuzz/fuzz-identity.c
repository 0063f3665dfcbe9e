/* What a guest answers that was told who it is.
 * Run as replay.c says.
 * Never takes anything but a boot id and a time from it. */
#include <glib.h>

#include "fuzz.h"
#include "manager/peer/guest-identity.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const char id[] = "0f8fad5b-d9cb-469f-a165-70867728950e";
  g_autofree char *line = g_strndup ((const char *)data, size);
  for (int given = 0; given < 2; given++) {
    g_autoptr (GError) error = NULL;
    gint64 usec = -1;
    gboolean ok = banger_guest_identity_parse (line, "i1-1", given ? id : NULL, &usec, &error);
    g_assert_true (ok == !error && ok == (usec >= 0));
    g_assert_true (!ok || g_str_has_prefix (line, "i1-1 ok "));
    g_assert_true (!error || g_utf8_validate (error->message, -1, NULL));
  }
  return 0;
}
