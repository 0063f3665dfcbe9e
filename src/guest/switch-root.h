/* From the initramfs into the image.
 * Called by the start-up code.
 * Never leaves the initramfs's files in memory. */
#pragma once

/** guest_switch_root: moves /dev, /proc, /sys and /run below @target, frees the initramfs, makes @target the root.
 * Returns: 0; -1 after guest_warn(). */
int guest_switch_root (const char *target);

/** guest_find_init: the image's init, for the current root. @ret_is_systemd: what its name says. Returns: (transfer
 * none): a path, or NULL. */
const char *guest_find_init (int *ret_is_systemd);
