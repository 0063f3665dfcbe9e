/* The address of the one network interface, set before the image's init runs, or when the machine becomes another.
 * Never asks the network: no DHCP. */
#pragma once

#include "guest/settings.h"

/** guest_network_up: loopback, then address, MTU and default route of the interface with the MAC of @settings. Returns:
 * 0; -1 after guest_warn(). */
int guest_network_up (const GuestSettings *settings, int uevents_fd);

/** guest_network_set: likewise of the interface @name, whose MAC becomes that of @settings, too. */
int guest_network_set (const GuestSettings *settings, char *name);
/** guest_network_down: the interface @name, with its routes and what it knows of its neighbours. */
int guest_network_down (const char *name);
