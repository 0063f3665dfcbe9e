/* Decompression of one stream in memory.
 * Never yields more than it was allowed to, never starts a program. */
#pragma once

#include <glib.h>

struct archive;

/** banger_unpack_add_filters: lets @archive read gzip, bzip2, xz, lzma, zstd and lz4, by libraries only. */
void banger_unpack_add_filters (struct archive *archive);

/**
 * banger_unpack:
 * @data: a stream in one of these forms, or bytes in none, which are copied.
 * @max: bytes that the result may have.
 * Returns: (transfer full): %NULL with %BANGER_ERROR_INVALID_KERNEL. @what is for messages.
 */
GBytes *banger_unpack (const void *data, gsize length, gsize max, const char *what, GError **error);
