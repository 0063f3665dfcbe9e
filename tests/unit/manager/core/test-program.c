/* Programs that print and wait without end.
 * Run by meson test.
 * Never leaves one behind. */
#include "manager/core/program.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "common/error.h"

static char *
run_shell (const char *script, guint seconds, GCancellable *cancellable, char **ret_errors, GError **error)
{
  const char *const argv[] = { "sh", "-c", script, NULL };
  const BangerProgram program = { argv, "/", 10000, seconds, cancellable };
  char *output = banger_program_run (&program, ret_errors, error);
  g_assert_cmpint (waitpid (-1, NULL, WNOHANG), ==, -1);
  g_assert_cmpint (errno, ==, ECHILD);
  return output;
}

static void
test_output (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *errors = NULL;
  g_autofree char *output = run_shell ("pwd; printf 'a\\377b'; echo E: no >&2; echo $LC_ALL", 10, NULL, &errors,
                                       &error);
  g_assert_no_error (error);
  g_assert_cmpstr (output, ==,
                   "/\na\xef\xbf\xbd"
                   "bC.UTF-8\n");
  g_assert_cmpstr (errors, ==, "E: no\n");
}

static void
test_bad (void)
{
  static const struct {
    const char *script;
    int code;
    const char *words;
  } rows[] = {
    { "exit 3", BANGER_ERROR_FAILED, "3" },
    { "kill -9 $$", BANGER_ERROR_FAILED, "9" },
    { "head -c 10001 /dev/zero", BANGER_ERROR_LIMITS_EXCEEDED, "more than 10000" },
    { "yes", BANGER_ERROR_LIMITS_EXCEEDED, "more than 10000" },
    { "yes | cat", BANGER_ERROR_LIMITS_EXCEEDED, "more than 10000" },
    { "sleep 60", BANGER_ERROR_TIMEOUT, "within 1 s" },
    { "sleep 60 | cat", BANGER_ERROR_TIMEOUT, "within 1 s" },
    { "trap '' TERM; while :; do echo x; sleep 0.1; done", BANGER_ERROR_TIMEOUT, "within 1 s" },
    { "yes >&2", BANGER_ERROR_TIMEOUT, "within 1 s" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *output = run_shell (rows[i].script, 1, NULL, NULL, &error);
    g_assert_null (output);
    g_assert_error (error, BANGER_ERROR, rows[i].code);
    g_assert_nonnull (strstr (error->message, rows[i].words));
  }
  g_autoptr (GError) error = NULL;
  const char *const argv[] = { "no-such-program-here", NULL };
  const BangerProgram program = { argv, NULL, 1, 1, NULL };
  g_assert_null (banger_program_run (&program, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED);
}

/* What it left behind holds the pipes open. */
static void
test_left_behind (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *output = run_shell ("sleep 60 & echo done", 30, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (output, ==, "done\n");
}

static gpointer
cancel_later (gpointer data)
{
  g_usleep (100000);
  g_cancellable_cancel (data);
  return NULL;
}

static void
test_cancelled (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  GThread *thread = g_thread_new ("cancel", cancel_later, cancellable);
  g_autofree char *output = run_shell ("sleep 60", 30, cancellable, NULL, &error);
  g_thread_join (thread);
  g_assert_null (output);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
}

static gboolean
is_there (const char *marker)
{
  g_autofree char *found = NULL, *line = g_strconcat ("pgrep -f '^sleep ", marker, "$'", NULL);
  int status = -1;
  g_assert_true (g_spawn_command_line_sync (line, &found, NULL, &status, NULL));
  return found && *found != '\0';
}

/* Whatever made a session of its own, and lost its parent, ends with the program; also with what waits for none of it. */
static void
test_keeper (void)
{
  static const struct {
    const char *end;
    int code; /* -1: none */
  } rows[] = {
    { "exit 0", -1 },
    { "exit 3", BANGER_ERROR_FAILED },
    { "kill -9 $$", BANGER_ERROR_FAILED },
    { "while :; do sleep 1; done", BANGER_ERROR_TIMEOUT },
    { "trap '' TERM; while :; do sleep 1; done", BANGER_ERROR_TIMEOUT },
    { "head -c 10001 /dev/zero", BANGER_ERROR_LIMITS_EXCEEDED },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *marker = g_strdup_printf ("%u.%u", 1000 + i, (guint)getpid ());
    g_autofree char *script = g_strdup_printf (
        "setsid sh -c 'setsid sh -c \"trap \\\"\\\" TERM; sleep %s\" & setsid yes' >&2 & "
        "sleep 0.2; %s",
        marker, rows[i].end);
    const char *const argv[] = { "sh", "-c", script, NULL };
    const BangerProgram program = {
      .argv = argv, .folder = "/", .max_output = 10000, .seconds = 1, .patience_seconds = 1, .keeper = TRUE
    };
    g_autofree char *output = banger_program_run (&program, NULL, &error);
    g_assert_true ((output != NULL) == (rows[i].code < 0));
    if (rows[i].code >= 0)
      g_assert_error (error, BANGER_ERROR, rows[i].code);
    g_assert_false (is_there (marker));
    g_assert_cmpint (waitpid (-1, NULL, WNOHANG), ==, -1);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/program/output", test_output);
  g_test_add_func ("/program/bad", test_bad);
  g_test_add_func ("/program/left-behind", test_left_behind);
  g_test_add_func ("/program/cancelled", test_cancelled);
  g_test_add_func ("/program/keeper", test_keeper);
  return g_test_run ();
}
