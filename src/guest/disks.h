/* Root and work disk: waited for, mounted, grown.
 * Called by the start-up code.
 * Never formats anything. */
#pragma once

#include "guest/settings.h"

/**
 * guest_disks_mount:
 * Mounts the root disk on @target and the work disk, if there is one, on @target/root; a filesystem smaller than its
 * device is grown. Returns: 0; -1 after guest_warn().
 */
int guest_disks_mount (const GuestSettings *settings, const char *target, int uevents_fd);

/** guest_ext4_blocks: reads the superblock @data (1024 bytes). Returns: 0, or -1 if it is not ext4's. */
int guest_ext4_blocks (const unsigned char *data, unsigned long long *ret_blocks, unsigned *ret_block_size);
