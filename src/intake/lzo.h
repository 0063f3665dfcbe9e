/* The one form of compression of kernels that libarchive does not know without a program: lzop's.
 * Never reads or writes outside the given bytes. */
#pragma once

#include <glib.h>

/** banger_lzo_unpack: @data: as lzop(1) writes it with LZO1X, up to @max bytes of content. %BANGER_ERROR_INVALID_KERNEL.
 * Returns: (transfer full). */
GBytes *banger_lzo_unpack (const guint8 *data, gsize length, gsize max, GError **error);

/** banger_lzo_block: one LZO1X stream into exactly @out_length bytes (Documentation/staging/lzo.rst of the kernel). */
gboolean banger_lzo_block (const guint8 *in, gsize in_length, guint8 *out, gsize out_length);
