/* Sizes of disks and memory as people write them.
 * Never rounds silently: what does not fit is refused. */
#pragma once

#include <glib.h>

/**
 * banger_size_parse:
 * Reads "512M", "4G", "4GiB", "1.5G", "1048576", "64 KiB". Units K M G T, powers of 1024, any case, "B" and "iB"
 * allowed.
 * @ret_bytes: written only on success; at least 1.
 */
gboolean banger_size_parse (const char *text, guint64 *ret_bytes, GError **error);

/** banger_size_format: Returns: (transfer full): "1.2 GiB", "512 MiB", "17 B"; one decimal only where it is not 0. */
char *banger_size_format (guint64 bytes);
