/* The texts that banger puts into an image's files.
 * Never touches the system; results are for free(3), NULL only without memory. */
#pragma once

#include "guest/settings.h"

/** guest_text_authorized_keys: @old (nullable) with the marked block replaced by @keys; other lines stay as they are.
 */
char *guest_text_authorized_keys (const char *old, const char *keys);

/**
 * guest_text_passwd:
 * @old, of passwd(5), with one line for the account BANGER_GUEST_LOGIN at its end: root's id, and so found after root
 * by whoever looks for a name of it; no password.
 */
char *guest_text_passwd (const char *old);

/** guest_text_hosts: @old (nullable) with one marked line for @hostname, and one for each of @names. */
char *guest_text_hosts (const char *old, const char *hostname, const char *names);
/** guest_text_names: likewise, of @names alone. @names: as guest_names_ok() wants them, or "". */
char *guest_text_names (const char *old, const char *names);

char *guest_text_resolv_conf (const GuestSettings *settings);
char *guest_text_networkd (const GuestSettings *settings);        /* systemd.network(5) */
char *guest_text_networkd_link (const GuestSettings *settings);   /* systemd.link(5): keep the kernel's name */
char *guest_text_network_manager (const GuestSettings *settings); /* NetworkManager.conf(5) */
char *guest_text_ifstate (const char *interface);                 /* ifup(8): already configured */
