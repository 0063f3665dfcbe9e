/* Users and groups of a guest's files, also of files that are strange or not there. */
#include <glib.h>

#include "guest/account.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "# a comment\n"
                             "\n"
                             "broken:x:zero:0::/:/bin/sh\n"
                             "short:x:5:5\n"
                             "+::::::\n"
                             "web:x:33:44:a: b:/bin/true\n"
                             "ann:x:1000:1000:Ann,,,:/home/ann:/bin/zsh\n"
                             "4:x:7:7::/seven:\n"
                             "last:x:65534:65534::/nonexistent:/usr/sbin/nologin";
static const char group[] = "root:x:0:\n"
                            "staff:x:50:ann,web\n"
                            "annex:x:51:anne\n"
                            "odd:x:x:ann\n"
                            "ann:x:1000:ann\n"
                            "docker:x:999:web,ann";

static void
check (const char *who, gint64 uid, gint64 gid, const char *home, const char *groups)
{
  GuestAccount account;
  g_autoptr (GString) seen = g_string_new (NULL);
  if (uid < 0) {
    g_assert_cmpint (guest_account_find (passwd, group, who, &account), ==, -1);
    return;
  }
  g_assert_cmpint (guest_account_find (passwd, group, who, &account), ==, 0);
  for (gsize i = 0; i < account.n_groups; i++)
    g_string_append_printf (seen, "%s%u", i > 0 ? " " : "", account.groups[i]);
  g_assert_cmpint (account.uid, ==, uid);
  g_assert_cmpint (account.gid, ==, gid);
  g_assert_cmpstr (account.home, ==, home);
  g_assert_cmpstr (seen->str, ==, groups);
}

static void
test_who (void)
{
  check ("root", 0, 0, "/root", "0");
  check ("ann", 1000, 1000, "/home/ann", "1000 50 999");
  check ("1000", 1000, 1000, "/home/ann", "1000 50 999");
  check ("ann:staff", 1000, 50, "/home/ann", "50 1000 999");
  check ("ann:0", 1000, 0, "/home/ann", "0 50 1000 999");
  check ("web", 33, 44, " b", "44 50 999");
  check ("4", 7, 7, "/seven", "7");
  check ("last", 65534, 65534, "/nonexistent", "65534");
  check ("2000", 2000, 2000, "/", "2000");
  check ("2000:ann", 2000, 1000, "/", "1000");
  check ("0", 0, 0, "/root", "0");
  static const char *const nobody[] = { "",           "nobody", "broken",     "short", "+",
                                        "an",         "anne",   ":",          ":0",    "ann:",
                                        "ann:nobody", "-1",     "4294967295", "1e3",   "99999999999999999999",
                                        "ann:-1",     "ann\n" };
  for (gsize i = 0; i < G_N_ELEMENTS (nobody); i++)
    check (nobody[i], -1, 0, NULL, NULL);
}

/* An image may have no such files: root is there all the same. */
static void
test_without_files (void)
{
  GuestAccount account;
  g_assert_cmpint (guest_account_find ("", "", "root", &account), ==, 0);
  g_assert_cmpuint (account.uid, ==, 0);
  g_assert_cmpstr (account.shell, ==, "/bin/sh");
  g_assert_cmpint (guest_account_find ("", "", "5", &account), ==, 0);
  g_assert_cmpstr (account.name, ==, "");
  g_assert_cmpint (guest_account_find ("", "", "ann", &account), ==, -1);
}

static void
test_more_groups_than_fit (void)
{
  GuestAccount account;
  g_autoptr (GString) many = g_string_new (NULL);
  for (int i = 1; i < 1000; i++)
    g_string_append_printf (many, "g%d:x:%d:ann\n", i, i);
  g_assert_cmpint (guest_account_find (passwd, many->str, "ann", &account), ==, 0);
  g_assert_cmpuint (account.n_groups, ==, GUEST_MAX_GROUPS);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/account/who", test_who);
  g_test_add_func ("/account/without-files", test_without_files);
  g_test_add_func ("/account/more-groups-than-fit", test_more_groups_than_fit);
  return g_test_run ();
}
