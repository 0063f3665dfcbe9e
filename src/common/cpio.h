/* Archives in the "newc" form that the kernel unpacks as an initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Runs in worker threads. Never reads a file system: names, modes and bytes are given. */
#pragma once

#include <glib.h>
#include <sys/types.h>

typedef struct BangerCpio BangerCpio;

/**
 * banger_cpio_new:
 * An archive appended to @out_fd at its current offset, which must be a multiple of 4; @out_fd stays the caller's.
 * Owners are root and times are 0, so that equal content gives equal bytes.
 * Returns: (transfer full): %NULL on error.
 */
BangerCpio *banger_cpio_new (int out_fd, GError **error);

/* @path: relative, without "." or ".." components; parent directories must have been added before. */
gboolean banger_cpio_add_dir (BangerCpio *cpio, const char *path, mode_t mode, GError **error);
gboolean banger_cpio_add_file (BangerCpio *cpio, const char *path, mode_t mode, const void *data, gsize length,
                               GError **error);
/** banger_cpio_add_fd: a regular file with what @fd holds from its start. */
gboolean banger_cpio_add_fd (BangerCpio *cpio, const char *path, mode_t mode, int fd, GError **error);

/** banger_cpio_close: writes the trailer, padded to 512 bytes. Nothing was promised to be in the file before this
 * succeeds. */
gboolean banger_cpio_close (BangerCpio *cpio, GError **error);
void banger_cpio_free (BangerCpio *cpio);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerCpio, banger_cpio_free)
