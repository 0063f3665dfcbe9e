/* The coding of arguments for the guest's `exec`, at its edges.
 * Run by meson.
 * Never relies on the guest's side: both directions are in src/common. */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "common/exec-words.h"

static void
round_trip (const char *argument)
{
  char *word = banger_exec_word_encode (argument);
  g_assert_cmpuint (strlen (word), >, 0);
  g_assert_true (word[0] != '-');
  g_assert_null (strpbrk (word, " \t\n'\"\\$`*?[]{}()<>|&;~#!="));
  g_assert_cmpint (banger_exec_word_decode (word), ==, 0);
  g_assert_cmpstr (word, ==, argument);
  free (word);
}

static void
test_every_byte (void)
{
  for (int byte = 1; byte < 256; byte++) {
    round_trip ((const char[]){ (char)byte, '\0' });
    round_trip ((const char[]){ 'a', (char)byte, '-', '\0' });
  }
  round_trip ("");
  round_trip ("--cwd");
  round_trip ("%00");
}

static void
test_fixed (void)
{
  static const struct {
    const char *argument, *word;
  } rows[] = { { "", "%00" },      { "a b", "a%20b" },      { "-x", "%2Dx" },
               { "a-b", "a-b" },   { "%", "%25" },          { "/usr/bin/env", "/usr/bin/env" },
               { "A=1", "A%3D1" }, { "\xc3\xa4", "%C3%A4" } };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    char *word = banger_exec_word_encode (rows[i].argument);
    g_assert_cmpstr (word, ==, rows[i].word);
    free (word);
  }
}

static void
test_refused (void)
{
  static const char *const rows[] = { "",    "-",  "-a",   "a b",  "%",      "%2", "%2g", "%2f",
                                      "%zz", "a%", "a%00", "%00a", "%00%00", "$a", "a'b", "~" };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *word = g_strdup (rows[i]);
    g_assert_cmpint (banger_exec_word_decode (word), ==, -1);
    g_assert_cmpstr (word, ==, rows[i]);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cli/exec-words/every-byte", test_every_byte);
  g_test_add_func ("/cli/exec-words/fixed", test_fixed);
  g_test_add_func ("/cli/exec-words/refused", test_refused);
  return g_test_run ();
}
