/* What comes out of a tap, in the table `netdev banger`; forwarding and masquerade, in the table `inet banger`.
 * Called by methods.c, release.c and tap.c, in worker threads.
 * Never touches a rule of another table. */
#pragma once

#include "privileged/lease.h"

/** banger_nat_ensure: writes the lease, then the tables. The lease must hold a tap. */
gboolean banger_nat_ensure (const BangerRoot *root, BangerLease *lease, const char *guest_address, GError **error);
/** banger_nat_remove: takes the guest's address out of the tables and the lease; with the last one IPv4 forwarding is
 * what it was. A tap that is there keeps its filter; after the last tap's end this takes the tables away. */
gboolean banger_nat_remove (const BangerRoot *root, BangerLease *lease, GError **error);

/**
 * banger_nat_apply_locked:
 * Makes the tables hold exactly the leases whose tap is there, in one transaction, nft(8). A tap without NAT gets a
 * filter, too. The caller holds the lock banger_network.
 */
gboolean banger_nat_apply_locked (const BangerRoot *root, GError **error);

/** banger_nat_restore: at the helper's start: the tables again for taps that outlived the former one, which may have
 * been older, or whose tables somebody flushed. */
void banger_nat_restore (const BangerRoot *root);

/** banger_nat_script: the transaction that makes the tables hold exactly @leases (of BangerLease); for tests too. */
char *banger_nat_script (GPtrArray *leases);
