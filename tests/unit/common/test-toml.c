/* The TOML subset and install.toml: accept, refuse, boundary.
 * Run by meson test.
 * Never reads a file outside its own folder. */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/install.h"
#include "common/toml.h"

#define OWNER "[owner]\nuser = \"dev\"\nuid = 1000\ngid = 1000\nhome = \"/home/dev\"\n"

static void
test_values (void)
{
  static const char text[]
      = "# top\nversion = \"1\" # why\r\n\n[a.b]\ns = \"x\\n\\u00e9\\\"\\\\\"\nn = 42\nt = true\nf=false\n"
        "l = [ \"one\" , \"two\", ]\nempty = []\n";
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerToml) toml = banger_toml_parse (text, strlen (text), "t", &error);
  g_assert_no_error (error);
  g_autofree char *s = NULL;
  g_auto (GStrv) l = NULL;
  guint64 n = 0;
  gboolean t = FALSE, f = TRUE;
  g_assert_true (banger_toml_get_string (toml, "a.b", "s", &s, &error));
  g_assert_cmpstr (s, ==, "x\n\xc3\xa9\"\\");
  g_assert_true (banger_toml_get_uint (toml, "a.b", "n", 0, 100, &n, &error));
  g_assert_cmpuint (n, ==, 42);
  g_assert_true (banger_toml_get_bool (toml, "a.b", "t", &t, &error) && t);
  g_assert_true (banger_toml_get_bool (toml, "a.b", "f", &f, &error) && !f);
  g_assert_true (banger_toml_get_strv (toml, "a.b", "l", &l, &error));
  g_assert_cmpstrv (l, ((const char *const[]){ "one", "two", NULL }));
  /* Missing: untouched. Wrong type or range: an error. */
  g_assert_true (banger_toml_get_uint (toml, "a.b", "none", 0, 1, &n, &error));
  g_assert_cmpuint (n, ==, 42);
  g_assert_false (banger_toml_get_uint (toml, "a.b", "s", 0, 1, &n, NULL));
  g_assert_false (banger_toml_get_uint (toml, "a.b", "n", 0, 41, &n, NULL));
  g_assert_false (banger_toml_check_keys (toml, (const char *const[]){ "version", NULL }, NULL));
}

static void
test_lists (void)
{
  static const char text[] = "[[l]]\na = 1\n[t]\na = 2\n[[l]] # two\n\n[[l]]\ns = \"x\\\"\\n\"\nv = [\"a\", \"b\"]\n";
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerToml) toml = banger_toml_parse (text, strlen (text), "t", &error);
  g_assert_no_error (error);
  guint64 n = 0;
  g_assert_cmpuint (banger_toml_list_length (toml, "l"), ==, 3);
  g_assert_cmpuint (banger_toml_list_length (toml, "t"), ==, 0);
  g_assert_cmpuint (banger_toml_list_line (toml, "l", 2), ==, 5);
  g_assert_cmpuint (banger_toml_list_line (toml, "l", 4), ==, 0);
  g_assert_true (banger_toml_get_uint (toml, "l[1]", "a", 0, 9, &n, &error) && n == 1);
  g_assert_true (banger_toml_get_uint (toml, "t", "a", 0, 9, &n, &error) && n == 2);
  g_assert_cmpuint (banger_toml_line (toml, "l[3]", "s"), ==, 8);
  g_autofree char *s = banger_toml_format (toml, "l[3]", "s"), *v = banger_toml_format (toml, "l[3]", "v");
  g_assert_cmpstr (s, ==, "\"x\\\"\\n\"");
  g_assert_cmpstr (v, ==, "[\"a\", \"b\"]");
}

static void
test_refuse (void)
{
  static const char *const rows[] = {
    "a",
    "a =",
    "a = 'x'",
    "a = \"x",
    "a = \"x\ny\"",
    "a = \"\\q\"",
    "a = 01",
    "a = -1",
    "a = 1.5",
    "a = 1 2",
    "a = 1\na = 1",
    "[a\n",
    "[a]\n[a]\n",
    "[a]\n[[a]]\n",
    "[[a]]\n[a]\n",
    "[[a]\n",
    "[[a] ]\n",
    "[[]]\n",
    "[[a]]\nb = 1\nb = 2\n",
    "[]",
    "[.a]",
    "[a..b]",
    "a.b = 1",
    "\"a\" = 1",
    "a = [1]",
    "a = [\"x\"",
    "a = [\n\"x\"]",
    "a = { b = 1 }",
    "a = \"\"\"x\"\"\"",
    "a = \"\\u0000\"",
    "a = \"\\ud800\"",
    "= 1",
    "a = 9223372036854775808",
    "a = trueish",
    "a = \x01",
    "# \x01",
    "a = 1\rb = 2",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_autoptr (BangerToml) toml = banger_toml_parse (rows[i], strlen (rows[i]), "t", &error);
    if (toml)
      g_error ("accepted: %s", rows[i]);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  }
  g_assert_null (banger_toml_parse ("a = \"\xff\"", 9, "t", NULL));
  g_assert_null (banger_toml_parse ("a\0b", 3, "t", NULL));
}

static BangerInstall *
parse (const char *text, GError **error)
{
  return banger_install_parse (text, strlen (text), "install.toml", error);
}

static void
test_install (void)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerInstall) install = parse (OWNER, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (install->owner_uid, ==, 1000);
  g_assert_cmpstr (install->state_dir, ==, "/var/lib/banger");
  g_assert_cmpstr (install->bridge, ==, "br-fc");
  g_assert_null (install->network_pool);
  g_assert_cmpuint (install->max_vms, ==, 64);
  g_assert_cmpuint (install->max_memory_mib, ==, 1024 * 1024);
  g_assert_cmpuint (install->guest_seconds, ==, 120);
  g_assert_cmpuint (install->max_calls, ==, 250);
  g_assert_cmpuint (install->max_workers, >=, 1);
  g_assert_cmpuint (install->max_workers, <=, 8);
  const guint64 host = (guint64)sysconf (_SC_PHYS_PAGES) * (guint64)sysconf (_SC_PAGESIZE) >> 20;
  g_assert_cmpuint (install->max_total_memory_mib, ==, host);
  g_autoptr (BangerInstall) small = parse (OWNER "[limits]\nmemory-mib = 16\n", &error);
  g_assert_no_error (error);
  g_assert_cmpuint (small->max_memory_mib, ==, 16);
  g_assert_cmpuint (install->max_taps, ==, 64);
  g_assert_cmpuint (install->max_loops, ==, 128);
  g_assert_cmpstr (install->tool_e2fsck, ==, "/usr/sbin/e2fsck");
  g_autoptr (BangerInstall) most = parse (
      OWNER "[limits]\ntaps = 1000\nloops = 2000\nguest-seconds = 3600\ncalls = 1\nworkers = 8\n"
            "total-memory-mib = 16\n",
      &error);
  g_assert_no_error (error);
  g_assert_cmpuint (most->max_taps, ==, 1000);
  g_assert_cmpuint (most->max_loops, ==, 2000);
  g_assert_cmpuint (most->max_bridges, ==, 8);
  g_assert_cmpuint (most->guest_seconds, ==, 3600);
  /* 52 bytes, and the sockets below still fit unix(7)'s 108. */
  g_autoptr (BangerInstall) longest = parse (OWNER
                                             "[paths]\nruntime = \"/run/23456789012345678901234567890123456789012345678"
                                             "\"\n[limits]\nbridges = 64\n",
                                             &error);
  g_assert_no_error (error);
  g_assert_cmpuint (strlen (longest->runtime_dir), ==, 52);
  g_assert_cmpuint (longest->max_bridges, ==, 64);
}

static void
test_bad_install (void)
{
  static const char *const bad[] = {
    "",
    "[owner]\nuser = \"root\"\nuid = 0\ngid = 0\nhome = \"/root\"\n",
    "[owner]\nuser = \"dev\"\nuid = 1000\nhome = \"/home/dev\"\n",
    OWNER "shoe = 1\n",
    OWNER "[paths]\nstate = \"var\"\n",
    OWNER "[paths]\nstate = \"/var/../etc\"\n",
    OWNER "[network]\nbridge = \"eth0\"\n",
    OWNER "[network]\naddress = \"10.0.0.1/7\"\n",
    OWNER "[network]\npool = \"10.0.0.0\"\n",
    OWNER "[engine]\nuse = \"xen\"\n",
    OWNER "[limits]\nvms = 0\n",
    OWNER "[limits]\ncalls = 0\n",
    OWNER "[limits]\ncalls = 100001\n",
    OWNER "[limits]\nworkers = 0\n",
    OWNER "[limits]\nworkers = 9\n",
    OWNER "[limits]\ntotal-memory-mib = 15\n",
    OWNER "[limits]\nmemory-mib = 15\n",
    OWNER "[limits]\nmemory-mib = 1048577\n",
    OWNER "[limits]\nguest-seconds = 9\n",
    OWNER "[limits]\nguest-seconds = 3601\n",
    OWNER "[paths]\nruntime = \"/run/234567890123456789012345678901234567890123456789\"\n",
    OWNER "[limits]\nbridges = 0\n",
    OWNER "[limits]\nbridges = 65\n",
    OWNER "[limits]\ntaps = 0\n",
    OWNER "[limits]\ntaps = 1001\n",
    OWNER "[limits]\nloops = 2001\n",
    OWNER "[limits]\nvms = 1001\n",
    OWNER "[limits]\npending = 241\n",
    OWNER "[tools]\ne2fsck = \"e2fsck\"\n",
    OWNER "[tools]\nshell = \"/bin/sh\"\n",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (BangerInstall) none = parse (bad[i], NULL);
    if (none)
      g_error ("accepted: %s", bad[i]);
  }
}

static void
test_trusted (void)
{
  g_autofree char *dir = g_dir_make_tmp ("banger-toml-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (dir, "install.toml", NULL), *link = g_build_filename (dir, "link", NULL);
  g_assert_true (g_file_set_contents (path, OWNER, -1, NULL));
  g_assert_cmpint (symlink (path, link), ==, 0);
  g_assert_null (banger_install_load_trusted (link, NULL));
  if (geteuid () == 0) {
    g_assert_cmpint (chmod (path, 0644), ==, 0);
    g_autoptr (BangerInstall) good = banger_install_load_trusted (path, NULL);
    g_assert_nonnull (good);
    g_assert_cmpint (chmod (path, 0664), ==, 0);
    g_assert_null (banger_install_load_trusted (path, NULL));
    g_assert_cmpint (chmod (path, 0644), ==, 0);
    g_assert_cmpint (chown (path, 65534, 0), ==, 0);
    g_assert_null (banger_install_load_trusted (path, NULL));
  }
  g_unlink (link);
  g_unlink (path);
  g_rmdir (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/toml/lists", test_lists);
  g_test_add_func ("/toml/values", test_values);
  g_test_add_func ("/toml/refuse", test_refuse);
  g_test_add_func ("/toml/install", test_install);
  g_test_add_func ("/toml/install/bad", test_bad_install);
  g_test_add_func ("/toml/trusted", test_trusted);
  return g_test_run ();
}
