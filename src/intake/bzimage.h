/* The ELF kernel inside a bzImage.
 * Never runs the image's own decompressor. */
#pragma once

#include <glib.h>

#define BANGER_BZIMAGE_MAX (128u << 20)
#define BANGER_VMLINUX_MAX (256u << 20)

/** banger_bzimage_check: whether @data begins as a bzImage does ("HdrS", the Linux/x86 boot protocol). */
gboolean banger_bzimage_check (const guint8 *data, gsize length);

/**
 * banger_bzimage_extract:
 * Finds payload_offset and payload_length (Documentation/arch/x86/boot.rst, protocol 2.08) and decompresses.
 * Returns: (transfer full): %NULL with %BANGER_ERROR_INVALID_KERNEL.
 */
GBytes *banger_bzimage_extract (const guint8 *data, gsize length, GError **error);
