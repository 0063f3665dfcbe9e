/* Files in an ext4 file system that its guest, or anyone, has made.
 * Never follows a link, never believes a number without a bound, never opens anything. */
#pragma once

#include <stddef.h>

#include "disk/protocol.h"

/**
 * banger_disk_serve:
 * One request: @request holds a BangerDiskRequest and its entries, @image_fd the file system (closed afterwards).
 * Writing checks every path and the room before it changes anything, and marks the file system as not clean meanwhile:
 * see ext2fs(3) and Linux, Documentation/filesystems/ext4.
 * @ret_data: malloc(3)ed content of the file that was read.
 */
void banger_disk_serve (const void *request, size_t length, int image_fd, BangerDiskAnswer *ret_answer,
                        void **ret_data);
