/* Finding a listener in the kernel's socket tables.
 * Run by meson test.
 * Never opens a port. */
#include <glib.h>

#include "guest/ready.h"
#include "guest/usage.h"

#define HEAD "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
#define REST " 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"

static void
test_tables (void)
{
  static const struct {
    const char *table;
    int listening;
  } rows[] = {
    { "", 0 },
    { HEAD, 0 },
    { HEAD "   0: 00000000:0016 00000000:0000 0A" REST, 1 },
    { HEAD "   0: 0500D50A:0016 0200D50A:9C40 01" REST, 0 },
    { HEAD "   0: 00000000:0017 00000000:0000 0A" REST "   1: 0100007F:0016 00000000:0000 0A" REST, 1 },
    { HEAD "   0: 00000000:1600 00000000:0000 0A" REST, 0 },
    { HEAD "  10: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A" REST, 1 },
    { HEAD "not a row at all\n\n:::\n", 0 },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (guest_tcp_listening (rows[i].table, 22, 0), ==, rows[i].listening);
}

static void
test_usage (void)
{
  char text[64];
  static const char meminfo[] = "MemTotal:        1000000 kB\nMemFree: 1 kB\nMemAvailable:     500 kB\n";
  g_assert_cmpint (guest_usage_format (meminfo, "0.05 12.00 0.99 1/88 4\n", text, sizeof text), ==, 0);
  g_assert_cmpstr (text, ==, "1000000 500 5 1200 99"); /* as numbers: no zero in front */
  g_assert_cmpint (guest_usage_format (meminfo, "odd", text, sizeof text), ==, -1);
  g_assert_cmpint (guest_usage_format ("MemTotal: 5 kB\n", "0 0 0", text, sizeof text), ==, -1);
  g_assert_cmpint (guest_usage_format (meminfo, "0.05 12.00 0.99", text, 8), ==, -1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/ready/tables", test_tables);
  g_test_add_func ("/guest/usage", test_usage);
  return g_test_run ();
}
