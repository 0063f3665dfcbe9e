/* What lets guests out through the host's own firewall.
 * Never touches another program's rules or zones: each firewall is told by its own means. */
#pragma once

#include "common/install.h"

/**
 * banger_system_allow_guests:
 * Tells each firewall that guests with NAT may pass: a zone and a policy of firewalld where it is installed, which is
 * asked to read them if it runs; a route rule of ufw where it is active. What was done is noted in
 * %BANGER_FIREWALL_FILE. Where firewalld's admin gave the bridge a zone, that stands. What fails is said on standard
 * error, and is no reason not to install.
 */
void banger_system_allow_guests (const BangerInstall *install);

/** banger_system_forget_guests: takes away what %BANGER_FIREWALL_FILE says that was done, for whatever bridge; as well
 * as it can. */
void banger_system_forget_guests (void);
