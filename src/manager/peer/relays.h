/* Bytes between pairs of sockets, in one thread beside the main loop.
 * Never holds more than two buffers of a pair (common/relay.h), nor more than BANGER_RELAYS_MAX pairs. */
#pragma once

#include <glib.h>

#define BANGER_RELAYS_MAX 256

typedef struct BangerRelays BangerRelays;

/** banger_relays_new: Returns: %NULL with error. */
BangerRelays *banger_relays_new (GError **error);
/** banger_relays_free: ends all; nobody is told. */
void banger_relays_free (BangerRelays *relays);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerRelays, banger_relays_free)

/**
 * banger_relays_add:
 * @a, @b: taken, also on error. @group: whose it is. @ended: called from the main loop when it is over, unless the group
 * was dropped before. %BANGER_ERROR_LIMITS_EXCEEDED.
 */
gboolean banger_relays_add (BangerRelays *relays, int a, int b, gpointer group, void (*ended) (gpointer group),
                            GError **error);
/** banger_relays_drop: ends what is @group's; when this returns nothing of it is open, and it is not told. */
void banger_relays_drop (BangerRelays *relays, gpointer group);
