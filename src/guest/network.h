/* The address of the one network interface, set before the image's init runs.
 * Called by the start-up code.
 * Never asks the network: no DHCP. */
#pragma once

#include "guest/settings.h"

/** guest_network_up: loopback, then address, MTU and default route of the interface with the MAC of @settings. Returns:
 * 0; -1 after guest_warn(). */
int guest_network_up (const GuestSettings *settings, int uevents_fd);
