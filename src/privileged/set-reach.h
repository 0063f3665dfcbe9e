/* What one guest may reach beside the outside: other guests of its owner, and ports of the host.
 * Never by anything but the ids of VMs: names of links and addresses come from their leases. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_reach_set:
 * From here on the guest of @lease can begin conversations with those of the VMs @links (of char *), which have a lease of
 * the same uid and a tap on the same bridge, and with the TCP @ports (of guint16) of its bridge's address; with nobody
 * else, also of whom it could before. What goes to a VM ends with that one's tap, and is there again with the next.
 * NoSuchLease, AccessDenied, WrongState, InvalidArgs.
 */
gboolean banger_reach_set (const BangerRoot *root, BangerLease *lease, const GPtrArray *links, const GArray *ports,
                           GError **error);
