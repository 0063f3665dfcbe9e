/* Copy-on-write root disks: an image under a device-mapper snapshot, both through loops.
 * Runs in worker threads.
 * Never opens a file by a caller's path, never touches a device whose name does not follow from the VM's id. */
#pragma once

#include "privileged/lease.h"

/** banger_snapshot_supported: whether this kernel has device-mapper (/dev/mapper/control opens or is known). */
gboolean banger_snapshot_supported (void);

/** What the VM writes goes into a file of root's (cow.h). */
typedef struct {
  gboolean fresh;   /* the VM never ran: a new one is made. Else one that is missing is an error. */
  guint64 bytes;    /* of a new one */
  const char *from; /* NULL; or it is made as a copy of the disk of this id, in place of one that is there */
} BangerDisk;

/**
 * banger_snapshot_create:
 * Writes the lease, makes or opens the VM's file, and maps images/<image>/rootfs.ext4 with it.
 * A snapshot that the lease holds already is success. %BANGER_ERROR_NOT_SUPPORTED without device-mapper.
 * Returns: (transfer full): "/dev/mapper/fc-rootfs-<vm>".
 */
char *banger_snapshot_create (const BangerRoot *root, BangerLease *lease, const char *image, const BangerDisk *disk,
                              GError **error);
/**
 * banger_snapshot_copy:
 * The disk of @from as one of @to, which has no lease, and no disk, unless it is to @replace that: it stays until the copy is
 * whole. While the snapshot of @from is mapped, by @lease (nullable), nothing is written to it: what was written before is
 * in the copy. Other disks are worked on meanwhile; whoever wants one of these two waits.
 */
gboolean banger_snapshot_copy (const BangerRoot *root, const char *from, const BangerLease *lease, const char *to,
                               gboolean replace, GError **error);
/** banger_snapshot_delete: the disk of @vm, which no snapshot is mapped on; what is being copied to it ends. */
gboolean banger_snapshot_delete (const BangerRoot *root, const char *vm, GError **error);
/** banger_snapshot_thaw_all: those that a helper which ended has held still. Call before anybody can call. */
void banger_snapshot_thaw_all (const BangerRoot *root);
/** banger_snapshot_remove: unmaps it, tries again while it is busy, at most five seconds. A missing one is success.
 * The VM's file stays. Does not touch the lease's file. */
gboolean banger_snapshot_remove (const BangerLease *lease, GError **error);
/** banger_snapshot_device: the number of the mapped device, for a node in the jail. */
gboolean banger_snapshot_device (const BangerLease *lease, dev_t *ret_device, GError **error);
/** banger_snapshot_open: the mapped device, read-write and exclusively (open(2), O_EXCL): nobody has it mounted.
 * Returns: a descriptor, -1 on error. */
int banger_snapshot_open (const BangerLease *lease, GError **error);
/** banger_snapshot_find: for a VM whose lease is lost: @lease gets the name of its device if banger made one. */
gboolean banger_snapshot_find (BangerLease *lease, GError **error);
