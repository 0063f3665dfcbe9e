/* What the manager and the guest agent agree on. See docs/guest.md.
 * Used by the manager, banger-vmm-qemu and banger-guest (no GLib here).
 * Never changed in place: a new word is added, an old one keeps its meaning. */
#pragma once

#define BANGER_GUEST_PORT 1024                        /* vsock port on which the agent listens */
#define BANGER_GUEST_SERIAL_PORT "org.banger.agent.0" /* virtio-serial port where there is no vsock */
#define BANGER_GUEST_MAX_LINE 4096

/* Lines, '\n'-ended. Host: "<verb> <token>[ args]"; guest: "<token> ok[ text]" or "<token> error <text>", and unasked
 * "ready <boot-id>". hello T      -> T ok banger-guest <version>; then "ready <boot-id>" at once if the guest is ready
 * already ping T       -> T ok shutdown T   -> T ok; the image's init is told to restart, which ends the VMM poweroff T
 * -> T ok; sync, read-only remount, restart, within two seconds sync T       -> T ok after sync(2) A host that connects
 * first sends "\nhello <token>\n" and drops everything up to the answer with that token. */

/* Files of the per-VM archive below this folder of the initramfs. */
#define BANGER_GUEST_CONFIG_DIR "/banger"
#define BANGER_GUEST_CONFIG_FILE                                                                                       \
  "/banger/config" /* key=value lines: hostname address gateway dns mac root work mtu machine-id boot-token */
#define BANGER_GUEST_AUTHORIZED_KEYS "/banger/authorized_keys"
#define BANGER_GUEST_HOST_KEY "/banger/ssh_host_ed25519_key" /* and .pub */
#define BANGER_GUEST_MODULES_DIR "/modules"                  /* *.ko, and `order` */
/* A line of `order`: a file name, then optionally " virtio:<n>[,<n>...]": wanted only where a virtio device of such a
 * type (virtio 1.2, section 5) is present. */

/* In the running guest. */
#define BANGER_GUEST_RUN_DIR "/run/banger"
#define BANGER_GUEST_BINARY "/run/banger/guest" /* `guest exec ARG...` runs argv given as percent-encoded words */
