/* Files in the disks of a VM, through banger-disk.
 * Runs in worker threads.
 * Never looks into a disk itself: what the owner or a guest made is parsed without root's rights. */
#pragma once

#include "privileged/gate.h"
#include "privileged/lease.h"

/** banger_disk_read: @path in the disk @fd (of the owner's file or snapshot). Errors: %BANGER_ERROR_INVALID_PATH,
 * %BANGER_ERROR_UNSAFE_FILE, %BANGER_ERROR_INVALID_SIZE, %BANGER_ERROR_INVALID_IMAGE, %BANGER_ERROR_WRONG_STATE. */
GBytes *banger_disk_read (const BangerRoot *root, int fd, const char *path, GError **error);
/** banger_disk_write: replaces or makes @files (of BangerDiskFile); folders must be there. The same errors. */
gboolean banger_disk_write (const BangerRoot *root, int fd, const GPtrArray *files, GError **error);

/** banger_disk_check: e2fsck on the snapshot @device, everything that can be mended is. Bounded by two minutes.
 * Returns: "clean" or "repaired"; %BANGER_ERROR_INVALID_IMAGE if errors are left. */
const char *banger_disk_check (const BangerRoot *root, dev_t device, GError **error);
