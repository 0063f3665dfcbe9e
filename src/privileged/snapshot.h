/* Copy-on-write root disks: an image under a device-mapper snapshot, both through loops.
 * Called by methods.c and release.c, in worker threads.
 * Never opens a file by a caller's path, never touches a device whose name does not follow from the VM's id. */
#pragma once

#include "privileged/lease.h"

/** banger_snapshot_supported: whether this kernel has device-mapper (/dev/mapper/control opens or is known). */
gboolean banger_snapshot_supported (void);

/**
 * banger_snapshot_create:
 * Writes the lease, makes vms/<vm>/cow of @cow_bytes if it is missing, and maps images/<image>/rootfs.ext4 with it.
 * A snapshot that the lease holds already is success. %BANGER_ERROR_NOT_SUPPORTED without device-mapper.
 * Returns: (transfer full): "/dev/mapper/fc-rootfs-<vm>".
 */
char *banger_snapshot_create (const BangerRoot *root, BangerLease *lease, const char *image, guint64 cow_bytes,
                              GError **error);
/** banger_snapshot_remove: unmaps it, tries again while it is busy, at most five seconds. A missing one is success.
 * The cow file stays. Does not touch the lease's file. */
gboolean banger_snapshot_remove (const BangerLease *lease, GError **error);
/** banger_snapshot_device: the number of the mapped device, for a node in the jail. */
gboolean banger_snapshot_device (const BangerLease *lease, dev_t *ret_device, GError **error);
/** banger_snapshot_open: the mapped device, read-write and exclusively (open(2), O_EXCL): nobody has it mounted.
 * Returns: a descriptor, -1 on error. */
int banger_snapshot_open (const BangerLease *lease, GError **error);
