/* What reads as a disk with what device-mapper's snapshot wrote over it: two files, no device.
 * Never believes a number of either without a bound, never writes. */
#pragma once

#include <ext2fs/ext2fs.h>
#include <gio/gio.h>

typedef struct BangerOverlay BangerOverlay;

/**
 * banger_overlay_new:
 * @base_fd: the disk. @cow_fd: the snapshot's own file, persistent (Linux, drivers/md/dm-snap-persistent.c); -1: nothing was
 * written over it. (transfer none): must outlive it. %BANGER_ERROR_INVALID_IMAGE for a snapshot that is none, or was given up.
 */
BangerOverlay *banger_overlay_new (int base_fd, int cow_fd, GError **error);
void banger_overlay_free (BangerOverlay *overlay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerOverlay, banger_overlay_free)

/** banger_overlay_size: of the disk, in bytes. */
guint64 banger_overlay_size (const BangerOverlay *overlay);

/** banger_overlay_read: exactly @length bytes from @offset. Returns: %FALSE: not so many are there; errno. */
gboolean banger_overlay_read (const BangerOverlay *overlay, void *buffer, gsize length, guint64 offset);

/** banger_overlay_fs_open: as ext2fs_open2(), for reading, in one thread. @overlay must outlive what it makes. */
errcode_t banger_overlay_fs_open (const BangerOverlay *overlay, ext2_filsys *ret_fs);
