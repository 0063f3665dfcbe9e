/* How often one uid may call: bursts, floods, and those who have many uids.
 * Run by meson test.
 * Never waits: the time is an argument. */
#include "privileged/rate.h"

static guint
taken (BangerRates *rates, uid_t uid, guint calls, gint64 now)
{
  guint n = 0;
  for (guint i = 0; i < calls; i++)
    n += banger_rates_take (rates, uid, now);
  return n;
}

static void
test_burst (void)
{
  BangerRates *rates = banger_rates_new (10);
  const guint burst = 10 * BANGER_RATE_BURST_SECONDS;
  g_assert_cmpuint (taken (rates, 1000, burst + 50, 7), ==, burst);
  g_assert_cmpuint (taken (rates, 1000, 5, 7 + 100000 - 1), ==, 0);
  g_assert_cmpuint (taken (rates, 1000, 5, 7 + 100000), ==, 1);
  g_assert_cmpuint (taken (rates, 1000, 50, 7 + 600000), ==, 5);
  g_assert_cmpuint (taken (rates, 1000, burst + 50, 7 + (gint64)3600 * G_USEC_PER_SEC), ==,
                    burst); /* no more is saved up */
  banger_rates_free (rates);
}

static void
test_others (void)
{
  BangerRates *rates = banger_rates_new (10);
  (void)taken (rates, 1000, 1000, 7);
  g_assert_cmpuint (taken (rates, 1001, 5, 7), ==, 5);
  g_assert_cmpuint (taken (rates, 0, 100000, 7), ==, 100000);
  banger_rates_free (rates);
}

/* Somebody with a range of uids has them share one allowance once the table is full; who was quiet is forgotten. */
static void
test_many_uids (void)
{
  BangerRates *rates = banger_rates_new (10);
  guint n = 0;
  for (uid_t uid = 100000; uid < 165536; uid++)
    n += banger_rates_take (rates, uid, 7);
  g_assert_cmpuint (n, <, 1200);
  g_assert_cmpuint (taken (rates, 200000, 5, 7 + (gint64)3600 * G_USEC_PER_SEC), ==, 5);
  banger_rates_free (rates);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/rate/burst", test_burst);
  g_test_add_func ("/rate/others", test_others);
  g_test_add_func ("/rate/many-uids", test_many_uids);
  return g_test_run ();
}
