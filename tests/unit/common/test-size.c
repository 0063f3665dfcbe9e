/* Sizes: what is read, refused and printed.
 * Run by meson test.
 * Never rounds. */
#include "common/error.h"
#include "common/size.h"

#define KIB G_GUINT64_CONSTANT (1024)

static void
test_accept (void)
{
  static const struct {
    const char *text;
    guint64 bytes;
  } rows[] = {
    { "1", 1 },
    { "17B", 17 },
    { "512M", 512 * KIB * KIB },
    { "4G", 4 * KIB * KIB * KIB },
    { "4GiB", 4 * KIB * KIB * KIB },
    { "4gb", 4 * KIB * KIB * KIB },
    { "64 KiB", 64 * KIB },
    { "1.5G", 1536 * KIB * KIB },
    { "0.5K", 512 },
    { "1048576", KIB * KIB },
    { "2T", 2 * KIB * KIB * KIB * KIB },
    { "8388607T", 8388607 * KIB * KIB * KIB * KIB },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    guint64 bytes = 0;
    g_autoptr (GError) error = NULL;
    g_assert_true (banger_size_parse (rows[i].text, &bytes, &error));
    g_assert_cmpuint (bytes, ==, rows[i].bytes);
  }
}

static void
test_refuse (void)
{
  static const char *const rows[] = {
    "",    "0",   "0G",   "-1",  "+1",   "G",        "1.G",  ".5G",  "1.5.5G", "1e3",        "4X",
    "4GG", " 4G", "4  G", "4iB", "0x10", "8388608T", "1,5G", "4G\n", "nan",    "1.0000001G", "99999999999999999999",
    "\xff"
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    guint64 bytes = 7;
    g_autoptr (GError) error = NULL;
    gboolean ok = banger_size_parse (rows[i], &bytes, &error);
    if (ok)
      g_error ("'%s' was accepted", rows[i]);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_SIZE);
    g_assert_cmpuint (bytes, ==, 7);
  }
}

static void
test_format (void)
{
  static const struct {
    guint64 bytes;
    const char *text;
  } rows[] = {
    { 0, "0 B" },
    { 17, "17 B" },
    { 1023, "1023 B" },
    { 1024, "1 KiB" },
    { 1536, "1.5 KiB" },
    { 512 * KIB * KIB, "512 MiB" },
    { 1288490189, "1.2 GiB" },
    { 4 * KIB * KIB * KIB, "4 GiB" },
    { G_MAXUINT64, "16777216 TiB" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *text = banger_size_format (rows[i].bytes);
    g_assert_cmpstr (text, ==, rows[i].text);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/size/accept", test_accept);
  g_test_add_func ("/size/refuse", test_refuse);
  g_test_add_func ("/size/format", test_format);
  return g_test_run ();
}
