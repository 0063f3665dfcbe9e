/* Taps: one per VM, a port of banger's bridge, the owner's to open.
 * Called by methods.c and release.c, in worker threads.
 * Never touches a tap whose name does not follow from the VM's id. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_tap_create:
 * Ensures the bridge, writes the lease, makes the tap (persistent, owned by the lease's uid), makes it an isolated port
 * with the VM's MAC as the only address behind it, and brings it up with its filter in place. What is made before an
 * error is undone. A tap that the lease holds already is success.
 * Returns: (transfer full): its name.
 */
char *banger_tap_create (const BangerRoot *root, BangerLease *lease, const char *bridge, const char *cidr,
                         GError **error);
/** banger_tap_delete: a missing tap is success. Does not touch the lease's file, nor the filter: banger_nat_remove
 * follows. */
gboolean banger_tap_delete (const BangerLease *lease, GError **error);
