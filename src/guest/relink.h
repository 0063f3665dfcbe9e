/* The network of a machine that becomes another: nothing of the old address is left, no connection either.
 * Never sends a packet with the old address. */
#pragma once

#include "guest/settings.h"

/** guest_relink: takes the interface @name down, ends its connections, then sets it up by @settings. Returns: 0, or -1 with
 * errno. */
int guest_relink (const GuestSettings *settings, char *name);
