/* What a guest says of its memory and load, and what the host's files say of a VM.
 * Run by meson test. */
#include "manager/vm/stats.h"

static void
test_guest (void)
{
  static const struct {
    const char *text;
    gboolean good;
  } rows[] = {
    { "1048576 1048576 0 0 0", TRUE },
    { "1000000 500000 12 5 100000000", TRUE },
    { NULL, FALSE },
    { "", FALSE },
    { "1048577 5 0 0 0", FALSE }, /* more than it was given */
    { "1000 1001 0 0 0", FALSE },
    { "0 0 0 0 0", FALSE },
    { "1000 500 0 0 100000001", FALSE },
    { "1000 500 0 0", FALSE },
    { "1000 500 0 0 0 0", FALSE },
    { "1000 500 0 0 0 ", FALSE },
    { "1000 -5 0 0 0", FALSE },
    { "1000 5.5 0 0 0", FALSE },
    { "18446744073709551617 5 0 0 0", FALSE },
    { "1000 500 0 0 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
      "000000000000000000000000000000",
      FALSE },
  };
  BangerGuestStats stats;
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_test_message ("%s", rows[i].text ? rows[i].text : "nothing");
    g_assert_cmpint (banger_guest_stats_parse (rows[i].text, 1024, &stats), ==, rows[i].good);
  }
  g_assert_true (banger_guest_stats_parse ("1000 500 12 5 100", 1024, &stats));
  g_assert_cmpuint (stats.total_bytes, ==, 1024000);
  g_assert_cmpuint (stats.available_bytes, ==, 512000);
  g_assert_cmpfloat_with_epsilon (stats.loads[0], 0.12, 1e-9);
  g_assert_cmpfloat_with_epsilon (stats.loads[2], 1, 1e-9);
}

static void
test_host (void)
{
  g_assert_cmpuint (banger_stats_read_value ("12\n", NULL), ==, 12);
  g_assert_cmpuint (banger_stats_read_value ("max\n", NULL), ==, G_MAXUINT64);
  g_assert_cmpuint (banger_stats_read_value ("usage_usec_x 1\nusage_usec 7\nuser_usec 3\n", "usage_usec"), ==, 7);
  g_assert_cmpuint (banger_stats_read_value ("user_usec 3\n", "usage_usec"), ==, G_MAXUINT64);
  static const struct {
    const char *text, *wanted;
  } rows[] = {
    { "0::/banger.slice/banger-vm-0123456789ab.scope\n", "/banger.slice/banger-vm-0123456789ab.scope" },
    { "5:cpu:/x\n0::/a/0123456789ab\n", "/a/0123456789ab" },
    { "0::/user.slice\n", NULL }, /* another process */
    { "0::/0123456789ab/other\n", NULL },
    { "0::/../0123456789ab\n", NULL },
    { "", NULL },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autofree char *cgroup = banger_stats_cgroup (rows[i].text, "0123456789ab");
    g_assert_cmpstr (cgroup, ==, rows[i].wanted);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/stats/guest", test_guest);
  g_test_add_func ("/stats/host", test_host);
  return g_test_run ();
}
