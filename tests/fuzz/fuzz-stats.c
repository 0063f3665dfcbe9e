/* What a guest says of its memory and load.
 * Run as replay.c says.
 * Never lets through a number that cannot be so. */
#include <glib.h>
#include <string.h>

#include "fuzz.h"
#include "manager/vm/stats.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  BangerGuestStats stats;
  g_autofree char *text = g_strndup ((const char *)data, size);
  g_autofree char *cgroup = banger_stats_cgroup (text, "0123456789ab");
  g_assert_false (cgroup && (strstr (cgroup, "/..") || *cgroup != '/'));
  banger_stats_read_value (text, "usage_usec");
  if (!banger_guest_stats_parse (text, 1024, &stats))
    return 0;
  g_assert_cmpuint (stats.total_bytes, <=, G_GUINT64_CONSTANT (1) << 30);
  g_assert_cmpuint (stats.available_bytes, <=, stats.total_bytes);
  for (guint i = 0; i < BANGER_STATS_LOADS; i++)
    g_assert_true (stats.loads[i] >= 0 && stats.loads[i] <= 1e6);
  return 0;
}
