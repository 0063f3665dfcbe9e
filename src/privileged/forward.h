/* IPv4 forwarding for guests, and for nobody else.
 * Runs in worker threads.
 * Never switches off what another program switched on. */
#pragma once

#include "privileged/root.h"

/**
 * banger_forward_apply_locked:
 * While a lease says NAT: guests' bridges forward, and so does each link with an address, for the answers. A link that
 * did not before is lent: what comes in by it is forwarded to guests and nowhere else. Without such a lease all is as
 * it was before. Where the whole host forwards, nothing is changed. The caller holds the network lock.
 * @without: (nullable): a VM that loses NAT, whatever its lease says.
 */
gboolean banger_forward_apply_locked (const BangerRoot *root, const char *without, GError **error);

/** banger_forward_watch_start: goes on with that when links and settings change, until banger_forward_watch_stop(). */
gboolean banger_forward_watch_start (const BangerRoot *root, GError **error);
void banger_forward_watch_stop (void);
