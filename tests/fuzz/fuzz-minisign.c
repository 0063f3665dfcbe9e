/* A signature, and the key of a setting before it on the first line: nobody but who has the key signs.
 * Run as replay.c says.
 * Never takes a signature that the corpus has not got: of SIGNED there are these. */
#include <glib.h>
#include <string.h>

#include "common/error.h"
#include "fuzz.h"
#include "manager/fetch/minisign.h"

#define SIGNED "{\"banger-catalog\":1,\"images\":[{\"name\":\"box\",\"source\":\"docker://example.org/box:1\"}]}\n"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const uint8_t *end = memchr (data, '\n', size);
  size_t length = end ? (size_t)(end - data) : size;
  g_autofree char *key = g_strndup ((const char *)data, length);
  g_autoptr (GBytes) text = g_bytes_new_static (SIGNED, strlen (SIGNED)), other = g_bytes_new_static (SIGNED, 3),
                     signature = g_bytes_new (data + length + (end ? 1 : 0), size - length - (end ? 1 : 0));
  g_autoptr (GError) error = NULL, refused = NULL;
  gboolean good = banger_minisign_verify (key, text, signature, "fuzz", &error);
  g_assert_true (good || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_CATALOG));
  g_assert_true (!good || strlen (key) == BANGER_MINISIGN_KEY_LENGTH);
  g_assert_false (banger_minisign_verify (key, other, signature, "fuzz", &refused));
  return 0;
}
