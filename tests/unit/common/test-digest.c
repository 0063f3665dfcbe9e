/* Digests against GLib's, in pieces of every size that blocks of 64 bytes could trip over.
 * Run by meson test.
 * Never compares with itself. */
#include "common/digest.h"

#include <string.h>

static void
test_pieces (void)
{
  guint8 data[700];
  for (guint i = 0; i < sizeof data; i++)
    data[i] = (guint8)(i * 7);
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  for (gsize piece = 1; piece < 150; piece++) {
    for (gsize at = 0; at < sizeof data; at += piece)
      banger_digest_update (digest, data + at, MIN (piece, sizeof data - at));
    g_autofree char *text = banger_digest_finish (digest); /* which also begins anew */
    g_autofree char *expected = g_compute_checksum_for_data (G_CHECKSUM_SHA256, data, sizeof data);
    g_assert_true (g_str_has_prefix (text, "sha256:"));
    g_assert_cmpstr (text + strlen ("sha256:"), ==, expected);
  }
}

static void
test_nothing (void)
{
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  g_autofree char *text = banger_digest_finish (digest);
  g_assert_cmpstr (text, ==, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/digest/pieces", test_pieces);
  g_test_add_func ("/digest/nothing", test_nothing);
  return g_test_run ();
}
