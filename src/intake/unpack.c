/* Decompression through libarchive's filters.
 * Never yields more than it was allowed to, never starts a program. */
#include "intake/unpack.h"

#include <archive.h>
#include <archive_entry.h>

#include "common/error.h"

#define BLOCK (1 << 20)

void
banger_unpack_add_filters (struct archive *archive)
{
  /* Not filter_all: that runs programs for forms that it has no library for. */
  archive_read_support_filter_gzip (archive);
  archive_read_support_filter_bzip2 (archive);
  archive_read_support_filter_xz (archive);
  archive_read_support_filter_lzma (archive);
  archive_read_support_filter_zstd (archive);
  archive_read_support_filter_lz4 (archive);
}

static GBytes *
read_all (struct archive *archive, gsize max, const char *what, GError **error)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_autofree guint8 *block = g_malloc (BLOCK);
  for (;;) {
    la_ssize_t n = archive_read_data (archive, block, BLOCK);
    if (n == 0)
      return g_byte_array_free_to_bytes (g_steal_pointer (&bytes));
    if (n < 0) {
      banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "cannot decompress %s: %s", what,
                        archive_error_string (archive));
      return NULL;
    }
    if ((gsize)n > max - bytes->len) {
      banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "%s is larger than %" G_GSIZE_FORMAT " MiB", what,
                        max >> 20);
      return NULL;
    }
    g_byte_array_append (bytes, block, (guint)n);
  }
}

GBytes *
banger_unpack (const void *data, gsize length, gsize max, const char *what, GError **error)
{
  struct archive_entry *entry;
  struct archive *archive = archive_read_new ();
  GBytes *bytes = NULL;
  banger_unpack_add_filters (archive);
  archive_read_support_format_raw (archive);
  if (archive_read_open_memory (archive, data, length) != ARCHIVE_OK
      || archive_read_next_header (archive, &entry) != ARCHIVE_OK)
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "cannot decompress %s: %s", what,
                      archive_error_string (archive));
  else
    bytes = read_all (archive, max, what, error);
  archive_read_free (archive);
  return bytes;
}
