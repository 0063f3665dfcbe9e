/* Packets that come to the port where names of VMs are told: of anybody on this host.
 * Run as replay.c says.
 * Never answers what is no question, and never at length. */
#include <glib.h>

#include "fuzz.h"
#include "manager/net/zone.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static BangerZone *zone;
  gsize length = 0;
  if (!zone) {
    zone = banger_zone_new (&(BangerSubnet){ .gateway = 0x0ad50001, .prefix = 24 });
    banger_zone_put (zone, "1", "web", 0x0ad50007);
  }
  g_autofree guint8 *reply = banger_zone_answer (zone, data, size, &length);
  if (!reply)
    return 0;
  g_assert_true (size >= 12 && (data[2] & 0x80) == 0);
  g_assert_true (length >= 12 && length <= BANGER_ZONE_MAX_REPLY);
  g_assert_true (reply[0] == data[0] && reply[1] == data[1]);
  g_assert_true ((reply[2] & 0x82) == 0x80 && (reply[3] & 0x80) == 0);
  g_assert_true (length <= size || (reply[3] & 15) != 1);
  return 0;
}
