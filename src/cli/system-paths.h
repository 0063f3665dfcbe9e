/* Where an installation keeps what only root writes.
 * Never configurable: root finds these before it has read a configuration. */
#pragma once

#define BANGER_ETC_DIR "/etc/banger"
#define BANGER_POLKIT_RULES_DIR "/etc/polkit-1/rules.d"
#define BANGER_POLKIT_RULES_FILE "50-banger.rules"
/* In BANGER_ETC_DIR: install switched lingering on, uninstall switches it off. */
#define BANGER_LINGER_FILE "linger"
/* Likewise: BANGER_FIREWALL_FILE. */
#define BANGER_FIREWALL_NAME "firewall"
/* Below /etc/firewalld. */
#define BANGER_FIREWALLD_ZONE "banger.xml"
#define BANGER_FIREWALLD_POLICY "banger-out.xml"
