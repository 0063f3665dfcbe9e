/* The guests' way out: an element in a set of the tables, see filter.h, and IPv4 forwarding.
 * Runs in worker threads.
 * Never lets out a guest whose lease does not say so. */
#pragma once

#include "privileged/lease.h"

/** banger_nat_ensure: writes the lease, then the tables. @guest_address is the one that the lease's tap was made for.
 */
gboolean banger_nat_ensure (const BangerRoot *root, BangerLease *lease, const char *guest_address, GError **error);
/** banger_nat_remove: the tap stays with what it has without NAT; after the last one IPv4 forwarding is what it was. */
gboolean banger_nat_remove (const BangerRoot *root, BangerLease *lease, GError **error);
/** banger_nat_release: the same for a lease that is about to be removed: also where it cannot be written. */
gboolean banger_nat_release (const BangerRoot *root, BangerLease *lease, GError **error);
