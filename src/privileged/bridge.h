/* Bridges: banger's own, never another's.
 * Runs in worker threads.
 * Never touches a link that banger did not make. */
#pragma once

#include <netinet/in.h>

#include "privileged/root.h"

/**
 * banger_bridge_ensure:
 * Makes bridge @name with @cidr and brings it up; a bridge of banger's that has the address already is success.
 * Refused: a link of that name that is not banger's bridge, an address that overlaps another link's, one bridge more
 * than limits.bridges. The caller holds the network lock. That root lets bridges have @cidr is the caller's to check:
 * banger_gate_bridge_net().
 */
gboolean banger_bridge_ensure (const BangerRoot *root, const char *name, const char *cidr, GError **error);
/** banger_bridge_reap: removes what a crash left of bridge @name while it was being made. */
void banger_bridge_reap (const char *name);
/** banger_bridge_remove: removes banger's bridge @name if it has no port; a missing one is success. */
gboolean banger_bridge_remove (const char *name, GError **error);

/**
 * banger_bridge_find:
 * The index of banger's bridge @name and its address; *ret_index 0 if there is no link of that name.
 * %BANGER_ERROR_IN_USE if it is not banger's, %BANGER_ERROR_WRONG_STATE if it has no address.
 */
gboolean banger_bridge_find (const char *name, int *ret_index, struct in_addr *ret_address, GError **error);

/* The alias by which a link is known as banger's. Only root can set one. */
#define BANGER_LINK_ALIAS "banger"
