/* The way out: masquerade, forwarding and anti-spoofing for each guest, in the one table `inet banger`.
 * Called by methods.c and release.c, in worker threads.
 * Never touches a rule of another table. */
#pragma once

#include "privileged/lease.h"

/** banger_nat_ensure: writes the lease, then the table. The lease must hold a tap. */
gboolean banger_nat_ensure (const BangerRoot *root, BangerLease *lease, const char *guest_address, GError **error);
/** banger_nat_remove: takes the guest out of the table and the lease; with the last one the table goes and IPv4
 * forwarding is what it was. */
gboolean banger_nat_remove (const BangerRoot *root, BangerLease *lease, GError **error);

/** banger_nat_script: the transaction that makes the table hold exactly @leases (of BangerLease); for tests too. */
char *banger_nat_script (GPtrArray *leases);
