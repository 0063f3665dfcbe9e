/* From the initramfs into the image.
 * Never leaves the initramfs's files in memory. */
#pragma once

/** guest_switch_root: moves /dev, /proc, /sys and /run below @target, frees the initramfs, makes @target the root.
 * Returns: 0; -1 after guest_warn(). */
int guest_switch_root (const char *target);
