/* Log records as JSON lines, and the escaping of callers' strings.
 * Run by meson test.
 * Never writes to the journal: its socket is one of the test's. */
#define JOURNAL_SOCKET "banger-test-journal"
#include "common/log.c"

#include <json-glib/json-glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static void
on_alarm (int number)
{
  _exit (7); /* the log waits for its reader */
}

/* Nobody waits for whoever reads the log; how much is lost is told when somebody does. */
static void
test_unread (void)
{
  int fds[2];
  if (g_test_subprocess ()) {
    g_assert_cmpint (pipe (fds), ==, 0);
    int kept = dup (STDERR_FILENO);
    signal (SIGALRM, on_alarm);
    alarm (10);
    g_unsetenv ("JOURNAL_STREAM");
    banger_log_init ("test");
    dup2 (fds[1], STDERR_FILENO);
    g_autofree char *wide = g_strnfill (4000, 'x');
    for (guint i = 0; i < 100; i++)
      banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_METHOD, wide), "%u %s", i, wide);
    char text[16384];
    for (guint i = 0; i < 4; i++)
      g_assert_cmpint (read (fds[0], text, sizeof text), >, 0);
    banger_log (LOG_INFO, NULL, "read again");
    ssize_t n = read (fds[0], text, sizeof text - 1);
    g_assert_cmpint (n, >, 0);
    text[n] = '\0';
    dup2 (kept, STDERR_FILENO);
    fputs (text, stderr);
    return;
  }
  g_test_trap_subprocess (NULL, 0, 0);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr ("*\n{*9? records are lost: nobody read the log\"}\n{*read again*");
}

/* What is read of the socket that stands for the journal's; %NULL: nothing. */
static char *
received (int journal)
{
  char text[8192];
  ssize_t n = recv (journal, text, sizeof text - 1, MSG_DONTWAIT);
  return n < 0 ? NULL : g_strndup (text, (gsize)n);
}

/* A journal that does not read keeps nobody waiting, and is told how much it missed. */
static void
test_journal (void)
{
  if (!g_test_subprocess ()) {
    g_test_trap_subprocess (NULL, 20 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_passed ();
    return;
  }
  struct stat st;
  const struct sockaddr_un at = { AF_UNIX, JOURNAL_SOCKET };
  g_autofree char *folder = g_dir_make_tmp ("log-XXXXXX", NULL);
  g_assert_cmpint (chdir (folder), ==, 0);
  int journal = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  g_assert_cmpint (bind (journal, (const struct sockaddr *)&at, sizeof at), ==, 0);
  g_assert_cmpint (fstat (STDERR_FILENO, &st), ==, 0);
  g_autofree char *stream = g_strdup_printf ("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
  g_setenv ("JOURNAL_STREAM", stream, TRUE);
  banger_log_init ("test");
  for (guint i = 0; i < 5000; i++)
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, "web"), "record %u\n", i);
  g_autofree char *first = received (journal), *note = NULL;
  g_assert_cmpstr (first, ==, "PRIORITY=6\nSYSLOG_IDENTIFIER=test\nMESSAGE=record 0\\x0a\nBANGER_VM=web\n");
  for (char *text = received (journal); text; text = received (journal))
    g_free (text);
  banger_log (LOG_INFO, NULL, "again");
  note = received (journal);
  g_autofree char *again = received (journal);
  g_assert_true (g_str_has_prefix (note, "PRIORITY=4\nSYSLOG_IDENTIFIER=test\nMESSAGE=")
                 && strstr (note, " records are lost: nobody read the log\n"));
  g_assert_nonnull (strstr (again, "MESSAGE=again\n"));
  unlink (JOURNAL_SOCKET);
  g_assert_cmpint (chdir ("/") | rmdir (folder), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/log/escape", test_escape);
  g_test_add_func ("/log/json", test_json);
  g_test_add_func ("/log/journal", test_journal);
  g_test_add_func ("/log/levels", test_levels);
  g_test_add_func ("/log/unread", test_unread);
  return g_test_run ();
}
