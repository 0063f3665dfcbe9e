/* The host resolver's way to the names of the guests: systemd-resolved over D-Bus (requirements B4, F2).
 * Rows of the method table (methods.c) call these in order.
 * Never routes more than names below "vm", and never to another host. */
#pragma once

#include "privileged/call.h"

/** banger_resolver_prepare: worker: finds the bridge, gates the resolver's address against the bridge's own. */
gboolean banger_resolver_prepare (BangerCall *call, GError **error);
/** banger_resolver_sync: main loop: SetLinkDNSEx, SetLinkDomains, SetLinkDefaultRoute; what was set is reverted if one
 * fails. See org.freedesktop.resolve1(5). Each call is bounded by five seconds. */
void banger_resolver_sync (BangerCall *call);
/** banger_resolver_clear: main loop: RevertLink. A bridge that is gone is success: resolved has forgotten it. */
void banger_resolver_clear (BangerCall *call);
/** banger_resolver_finish: worker: the bridge still is the one that was asked about. */
gboolean banger_resolver_finish (BangerCall *call, GError **error);

/** banger_resolver_forget: a helper that starts does not know who had names routed: nobody has. */
void banger_resolver_forget (sd_bus *bus);
/** banger_resolver_drop: the bus is about to go. */
void banger_resolver_drop (void);
