/* Where an installation keeps what only root writes.
 * Used by system.c and system-remove.c.
 * Never configurable: root finds these before it has read a configuration. */
#pragma once

#define BANGER_ETC_DIR "/etc/banger"
#define BANGER_POLKIT_RULES_DIR "/etc/polkit-1/rules.d"
#define BANGER_POLKIT_RULES_FILE "50-banger.rules"
/* In BANGER_ETC_DIR: install switched lingering on, uninstall switches it off. */
#define BANGER_LINGER_FILE "linger"
