/* Who has a port of this host, as /proc tells it: for people.
 * Never decides anything. */
#pragma once

#include <glib.h>

/** banger_port_holder: Returns: (transfer full) (nullable): "dnsmasq, pid 12, of user ann" or as much of it as can be
 * seen; %NULL if nobody is found. May wait for a name service. */
char *banger_port_holder (guint16 port);
