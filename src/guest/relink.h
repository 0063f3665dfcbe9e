/* The network of a machine that becomes another: nothing of the old address is left, no connection either.
 * Never sends a packet with the old address. */
#pragma once

/** guest_unlink: takes the interface @name down, ends its connections, and takes its addresses away. guest_network_set() is
 * what comes after. Returns: 0, or -1 with errno. */
int guest_unlink (const char *name);
