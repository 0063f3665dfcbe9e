/* The login shell's own decisions: when it is meant, whose shell a session gets, which terminal type.
 * Run by meson test.
 * Never starts a shell. */
#include <glib.h>
#include <glib/gstdio.h>

#include "guest/shell.h"
#include "guest/words.h"

static void
test_name (void)
{
  g_assert_true (guest_is_shell ("/run/banger/shell"));
  g_assert_true (guest_is_shell ("shell"));
  g_assert_true (guest_is_shell ("-shell"));
  g_assert_false (guest_is_shell ("/run/banger/guest"));
  g_assert_false (guest_is_shell ("@banger-guest"));
  g_assert_false (guest_is_shell ("shells"));
  g_assert_false (guest_is_shell (""));
}

static void
test_passwd (void)
{
  static const struct {
    const char *text, *shell;
  } rows[] = {
    { "root:x:0:0:root:/root:/bin/zsh\n", "/bin/zsh" },
    { "a:x:1:1::/:/x\nroot:x:0:0:root:/root:/bin/fish", "/bin/fish" },
    { "root:x:0:0:root:/root:/first\nroot:x:0:0:root:/root:/second\n", "/first" },
    { "roots:x:0:0:root:/root:/bin/zsh\n", NULL },
    { "root:x:0:0:root:/root:\n", NULL },
    { "root:x:0:0:root\nother:x:1:1:a:b:/bin/zsh\n", NULL },
    { "root:x:0:0:root:/root:/a/shell/that/is/too/long\n", NULL },
    { "", NULL },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    char shell[20] = "";
    g_assert_cmpint (guest_passwd_shell (rows[i].text, "root", shell, sizeof shell), ==, rows[i].shell ? 0 : -1);
    if (rows[i].shell)
      g_assert_cmpstr (shell, ==, rows[i].shell);
  }
}

static void
describe (const char *folder, const char *below, const char *term)
{
  g_autofree char *path = g_build_filename (folder, below, NULL);
  g_assert_cmpint (g_mkdir_with_parents (path, 0755), ==, 0);
  g_autofree char *file = g_build_filename (path, term, NULL);
  g_assert_true (g_file_set_contents (file, "", 0, NULL));
}

static void
test_term (void)
{
  g_autofree char *one = g_dir_make_tmp ("banger-term.XXXXXX", NULL),
                  *two = g_dir_make_tmp ("banger-term.XXXXXX", NULL);
  const char *const folders[] = { "", one, "/nonexistent", two, NULL };
  g_assert_cmpstr (guest_term ("xterm-ghostty", folders), ==, "xterm-256color");
  describe (one, "v", "vt100");
  g_assert_cmpstr (guest_term ("xterm-ghostty", folders), ==, "vt100");
  describe (two, "x", "xterm");
  g_assert_cmpstr (guest_term ("xterm-ghostty", folders), ==, "xterm");
  describe (two, "78", "xterm-ghostty");
  g_assert_cmpstr (guest_term ("xterm-ghostty", folders), ==, "xterm-ghostty");
  g_assert_cmpstr (guest_term ("xterm", folders), ==, "xterm");
  g_assert_cmpstr (guest_term ("", folders), ==, "xterm");
  g_assert_cmpstr (guest_term ("../x/xterm", folders), ==, "xterm");
  for (gsize i = 0; i < 2; i++) {
    g_autofree char *command = g_strdup_printf ("rm -r %s", i ? two : one);
    g_assert_true (g_spawn_command_line_sync (command, NULL, NULL, NULL, NULL));
  }
}

static void
test_words (void)
{
  char text[] = "a\n\nb%20c\nd";
  g_autofree char **words = guest_words_split (text);
  g_autofree char *joined = g_strjoinv ("|", words);
  g_assert_cmpstr (joined, ==, "a|b%20c|d");
  char none[] = "\n";
  g_autofree char **empty = guest_words_split (none);
  g_assert_null (empty[0]);
}

static void
test_refuses (void)
{
  static const char *const refusing[] = { "/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false" };
  static const char *const others[] = { "/bin/sh", "/usr/bin/fish", "/opt/nologin/bash", "/bin/falsework", "" };
  for (gsize i = 0; i < G_N_ELEMENTS (refusing); i++)
    g_assert_true (guest_shell_refuses (refusing[i]));
  for (gsize i = 0; i < G_N_ELEMENTS (others); i++)
    g_assert_false (guest_shell_refuses (others[i]));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/shell/name", test_name);
  g_test_add_func ("/guest/shell/passwd", test_passwd);
  g_test_add_func ("/guest/shell/term", test_term);
  g_test_add_func ("/guest/shell/words", test_words);
  g_test_add_func ("/guest/shell/refuses", test_refuses);
  return g_test_run ();
}
