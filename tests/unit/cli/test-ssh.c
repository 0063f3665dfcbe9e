/* ssh's command line and the meaning of its end.
 * Run by meson.
 * Never starts ssh. */
#include <glib.h>
#include <string.h>

#include "cli/ssh.h"
#include "common/error.h"

static const BangerSshTarget target = { (char *)"web",
                                        (char *)"/org/banger/Manager/vm/0123abcd",
                                        (char *)"10.213.0.5",
                                        (char *)"banger-exec",
                                        (char *)"/home/a b/50%/id",
                                        (char *)"/home/a \"b\"/known_hosts",
                                        (char *)"banger-0123abcd" };

static char *
tail_after_host (const BangerSshCommand *command)
{
  g_auto (GStrv) argv = banger_ssh_session_argv (&target, command, "/log");
  guint i = 0;
  while (!g_str_equal (argv[i], "banger-exec@10.213.0.5"))
    i++;
  return g_strjoinv (" ", argv + i + 1);
}

static void
test_words (void)
{
  g_autofree char *shell = tail_after_host (&(BangerSshCommand){ .terminal = TRUE });
  g_assert_cmpstr (shell, ==, "");
  static const char *const words[] = { "--cwd", "", "a b\n'", NULL };
  g_autofree char *plain = tail_after_host (&(BangerSshCommand){ .words = words });
  g_assert_cmpstr (plain, ==, "/run/banger/guest exec %2D-cwd %00 a%20b%0A%27");
  g_autofree char *there = tail_after_host (&(BangerSshCommand){ .words = words + 1, .cwd = "/root/my repo" });
  g_assert_cmpstr (there, ==, "/run/banger/guest exec --cwd /root/my%20repo %00 a%20b%0A%27");
  g_autofree char *shell_there = tail_after_host (&(BangerSshCommand){ .cwd = "/root/x" });
  g_assert_true (g_str_has_prefix (shell_there, "/run/banger/guest exec --cwd /root/x sh %2Dc exec%20%22"));
}

static void
test_options (void)
{
  g_auto (GStrv) argv = banger_ssh_session_argv (&target, &(BangerSshCommand){ .terminal = TRUE }, "/log");
  const char *const *list = (const char *const *)argv;
  g_assert_cmpstr (argv[0], ==, "ssh");
  g_assert_cmpstr (argv[4], ==, "none"); /* -F */
  g_assert_true (g_strv_contains (list, "-t"));
  g_assert_true (g_strv_contains (list, "IdentityFile=\"/home/a b/50%%/id\""));
  g_assert_true (g_strv_contains (list, "UserKnownHostsFile=\"/home/a \\\"b\\\"/known_hosts\""));
  g_assert_true (g_strv_contains (list, "HostKeyAlias=banger-0123abcd"));
  g_assert_true (g_strv_contains (list, "StrictHostKeyChecking=yes"));
  g_assert_true (g_strv_contains (list, "BatchMode=yes"));
  g_assert_true (g_strv_contains (list, "IdentitiesOnly=yes"));
}

/* As OpenSSH 9.2 writes them. */
#define VERBOSE(function, text) "debug1: clientloop.c:" function "():1531 (pid=13054): " text "\r\n"
#define CONNECTED VERBOSE ("client_loop", "Entering interactive session.")

static void
test_outcome (void)
{
  static const struct {
    int status;
    const char *log;
    int expected; /* -1: an error that says @said */
    const char *said;
  } rows[] = {
    { 0, CONNECTED VERBOSE ("client_loop", "Exit status 0"), 0, NULL },
    { 7, CONNECTED VERBOSE ("client_loop", "Exit status 7"), 7, NULL },
    { 255, CONNECTED VERBOSE ("client_loop", "Exit status 255"), 255, NULL },
    { 255, CONNECTED VERBOSE ("client_loop", "Exit status -1"), -1, "lost" },
    { 255, CONNECTED VERBOSE ("client_input_channel_req", "channel 0 rtype exit-signal reply 0"), -1, "signal" },
    { 255, CONNECTED "client_loop: send disconnect: Broken pipe\r\n" VERBOSE ("client_loop", "x"), -1, "Broken pipe" },
    { 255, "ssh: connect to host x port 22: Connection refused\r\n", -1, "cannot connect to web: ssh: connect" },
    { 255, "", -1, "cannot connect to web" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    int status = -1;
    gboolean fine = banger_ssh_outcome ("web", rows[i].status, rows[i].log, &status, &error);
    g_assert_cmpint (fine ? status : -1, ==, rows[i].expected);
    if (rows[i].said == NULL)
      continue;
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED);
    g_assert_nonnull (strstr (error->message, rows[i].said));
  }
}

static void
test_target (void)
{
  g_autoptr (JsonObject) vm = json_object_new ();
  g_autoptr (GError) error = NULL;
  json_object_set_string_member (vm, "Name", "web");
  json_object_set_string_member (vm, "State", "stopped");
  g_assert_null (banger_ssh_target_new (vm, "/org/banger/Manager/vm/x", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_assert_nonnull (strstr (error->message, "banger vm start web"));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/cli/ssh/words", test_words);
  g_test_add_func ("/cli/ssh/options", test_options);
  g_test_add_func ("/cli/ssh/outcome", test_outcome);
  g_test_add_func ("/cli/ssh/target", test_target);
  return g_test_run ();
}
