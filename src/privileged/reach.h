/* What one guest may reach beside the outside: other guests of its owner, and ports of the host.
 * Never by anything but the ids of VMs: names of links and addresses come from their leases. */
#pragma once

#include "privileged/lease.h"

/* What the filter needs to know of each guest for that, also of those without a list, too. */
typedef struct {
  uid_t uid;
  char *bridge, *tap, *mac, *address, *gateway; /* NULL: nothing is known, so it reaches and is reached by nobody */
  char **links, **ports;                        /* NULL: none */
} BangerReachGuest;

void banger_reach_guest_init (BangerReachGuest *guest, const BangerLease *lease, const char *mac, const char *gateway);
void banger_reach_guest_clear (BangerReachGuest *guest);
/**
 * banger_reach_elements:
 * @guests: VM -> BangerReachGuest, those that there are. Returns: (transfer full): a set of elements as nft(8) takes them
 * after `add element`, with $TABLE for the table.
 */
GHashTable *banger_reach_elements (GHashTable *guests);
