/* Root and work disk: waited for, mounted, grown.
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

#define GUEST_EXT4_LABEL 17 /* with the NUL */
#define GUEST_EXT4_UUID 37

/** guest_ext4_names: label and UUID of the superblock @data (1024 bytes). Returns: 0, or -1 if it is not ext4's. */
int guest_ext4_names (const unsigned char *data, char label[GUEST_EXT4_LABEL], char uuid[GUEST_EXT4_UUID]);

/** guest_ext4_read_names: the same of @device. Returns: 0, or -1. */
int guest_ext4_read_names (const char *device, char label[GUEST_EXT4_LABEL], char uuid[GUEST_EXT4_UUID]);
