/* libarchive's filters as one stream of bytes, without copying them.
 * Used by tar-reader.c.
 * Never keeps more than what the last read gave. */
#include "intake/tar-stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>

#include "common/error.h"
#include "intake/unpack.h"

struct BangerTarStream {
  struct archive *archive;
  gboolean open, ended;
  BangerTarRead read;
  gpointer data;
  BangerDigest *digest;
  GError *failure; /* of the callback */
  const guint8 *bytes;
  gsize left;
  guint8 back[BANGER_TAR_BLOCK];
  gsize back_left;
};

static la_ssize_t
read_callback (struct archive *archive, void *data, const void **ret_bytes)
{
  BangerTarStream *stream = data;
  gssize n = stream->read (stream->data, ret_bytes, &stream->failure);
  if (n < 0)
    archive_set_error (archive, ECANCELED, "%s", stream->failure->message);
  return n;
}

BangerTarStream *
banger_tar_stream_new (BangerTarRead read, gpointer data)
{
  BangerTarStream *stream = g_new0 (BangerTarStream, 1);
  stream->read = read;
  stream->data = data;
  stream->archive = archive_read_new ();
  banger_unpack_add_filters (stream->archive);
  archive_read_support_format_raw (stream->archive);
  archive_read_support_format_empty (stream->archive);
  return stream;
}

void
banger_tar_stream_free (BangerTarStream *stream)
{
  if (!stream)
    return;
  archive_read_free (stream->archive);
  g_clear_error (&stream->failure);
  g_free (stream);
}

static gboolean
failed (BangerTarStream *stream, GError **error)
{
  if (stream->failure) {
    g_propagate_error (error, g_steal_pointer (&stream->failure));
    return FALSE;
  }
  const char *text = archive_error_string (stream->archive);
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "not a good tar archive: %s",
                           text ? text : "it cannot be decompressed");
}

static gboolean
start (BangerTarStream *stream, GError **error)
{
  struct archive_entry *entry;
  if (archive_read_open (stream->archive, stream, NULL, read_callback, NULL) != ARCHIVE_OK)
    return failed (stream, error);
  int r = archive_read_next_header (stream->archive, &entry);
  stream->ended = r == ARCHIVE_EOF;
  stream->open = TRUE;
  return r == ARCHIVE_OK || r == ARCHIVE_EOF || failed (stream, error);
}

static gboolean
next_bytes (BangerTarStream *stream, GError **error)
{
  const void *bytes = NULL;
  size_t length = 0;
  la_int64_t offset;
  if (!stream->open && !start (stream, error))
    return FALSE;
  while (!stream->ended && length == 0) {
    int r = archive_read_data_block (stream->archive, &bytes, &length, &offset);
    if (r != ARCHIVE_OK && r != ARCHIVE_EOF)
      return failed (stream, error);
    stream->ended = r == ARCHIVE_EOF;
  }
  if (stream->digest)
    banger_digest_update (stream->digest, bytes, length);
  stream->bytes = bytes;
  stream->left = length;
  return TRUE;
}

gssize
banger_tar_stream_get (BangerTarStream *stream, guint64 max, const guint8 **ret_bytes, GError **error)
{
  gsize n;
  if (stream->back_left > 0) {
    n = (gsize)MIN (max, stream->back_left);
    *ret_bytes = stream->back + BANGER_TAR_BLOCK - stream->back_left;
    stream->back_left -= n;
    return (gssize)n;
  }
  if (stream->left == 0 && !next_bytes (stream, error))
    return -1;
  n = (gsize)MIN (max, stream->left);
  *ret_bytes = stream->bytes;
  stream->bytes += n;
  stream->left -= n;
  return (gssize)n;
}

gssize
banger_tar_stream_read (BangerTarStream *stream, void *bytes, gsize length, GError **error)
{
  const guint8 *part;
  gssize n = 1;
  gsize done = 0;
  for (; done < length && n > 0; done += (gsize)n) {
    n = banger_tar_stream_get (stream, length - done, &part, error);
    if (n < 0)
      return -1;
    if (n > 0)
      memcpy ((guint8 *)bytes + done, part, (gsize)n);
  }
  return (gssize)done;
}

int
banger_tar_stream_skip (BangerTarStream *stream, guint64 length, GError **error)
{
  const guint8 *part;
  while (length > 0) {
    gssize n = banger_tar_stream_get (stream, length, &part, error);
    if (n <= 0)
      return (int)n;
    length -= (guint64)n;
  }
  return 1;
}

void
banger_tar_stream_unread (BangerTarStream *stream, const guint8 block[BANGER_TAR_BLOCK])
{
  memcpy (stream->back, block, BANGER_TAR_BLOCK);
  stream->back_left = BANGER_TAR_BLOCK;
}

void
banger_tar_stream_set_digest (BangerTarStream *stream, BangerDigest *digest)
{
  stream->digest = digest;
}
