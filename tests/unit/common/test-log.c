/* Log records as JSON lines, and the escaping of callers' strings.
 * Run by meson test.
 * Never writes to the journal. */
#include <json-glib/json-glib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/names.h"

static void
test_escape (void)
{
  static const struct {
    const char *text;
    size_t max;
    const char *escaped;
  } rows[] = {
    { "plain %s", 100, "plain %s" },
    { "a\nb\t\x7f\x1b[1m", 100, "a\\x0ab\\x09\\x7f\\x1b[1m" },
    { "caf\xc3\xa9 \xff\xfe", 100, "caf\xc3\xa9 \\xff\\xfe" },
    { "\xc2\x9b", 100, "\\xc2\\x9b" },
    { "\xe2\x80\xae"
      "a\xe2\x80\xa8",
      100, "\\xe2\\x80\\xaea\\xe2\\x80\\xa8" }, /* direction, line separator */
    { "abcdef", 3, "abc" },
    { "ab\xc3\xa9", 3, "ab" }, /* no half a character */
    { "ab\xc3\xa9", 4, "ab\xc3\xa9" },
    { "a\n", 4, "a" },
    { "", 0, "" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *escaped = banger_log_escape (rows[i].text, rows[i].max);
    g_assert_cmpstr (escaped, ==, rows[i].escaped);
  }
}

static void
test_json (void)
{
  if (g_test_subprocess ()) {
    g_unsetenv ("JOURNAL_STREAM");
    banger_log_init ("test");
    banger_log_set_level (LOG_INFO);
    banger_log (LOG_DEBUG, NULL, "not shown");
    banger_log_set_level (LOG_ERR);
    banger_log_audit ("0123456789abcdef0123456789abcdef", NULL, "always shown");
    banger_log_set_level (LOG_INFO);
    banger_log (LOG_INFO,
                BANGER_FIELDS (BANGER_FIELD_OP_ID, "op-123456", BANGER_FIELD_VM, NULL, BANGER_FIELD_METHOD, "a\"\n"),
                "tap %s\n", "x");
    return;
  }
  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr ("*\"PRIORITY\":\"6\"*\"MESSAGE\":\"tap x\\\\x0a\"*\"BANGER_OP_ID\":\"op-123456\"*");
  g_test_trap_assert_stderr ("*always shown*MESSAGE_ID*");
  g_test_trap_assert_stderr_unmatched ("*not shown*");
  g_test_trap_assert_stderr_unmatched ("*BANGER_VM*");
}

static void
test_levels (void)
{
  for (int level = LOG_EMERG; level <= LOG_DEBUG; level++)
    g_assert_cmpint (banger_log_level_from_string (banger_log_level_to_string (level)), ==, level);
  g_assert_cmpint (banger_log_level_from_string ("loud"), ==, -1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/log/escape", test_escape);
  g_test_add_func ("/log/json", test_json);
  g_test_add_func ("/log/levels", test_levels);
  return g_test_run ();
}
