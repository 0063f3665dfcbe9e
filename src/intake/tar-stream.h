/* The bytes of a tar, decompressed where they are compressed.
 * Used by tar-reader.c.
 * Never starts a program to decompress: only filters that libarchive has built in. */
#pragma once

#include <gio/gio.h>

#include "common/digest.h"

#define BANGER_TAR_BLOCK 512u

/* Returns: how many bytes there are now at @ret_bytes, 0 at the end, -1 with @error. */
typedef gssize (*BangerTarRead) (gpointer data, const void **ret_bytes, GError **error);

typedef struct BangerTarStream BangerTarStream;

BangerTarStream *banger_tar_stream_new (BangerTarRead read, gpointer data);
void banger_tar_stream_free (BangerTarStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTarStream, banger_tar_stream_free)

/** banger_tar_stream_get: Returns: how many bytes, at most @max, lie at @ret_bytes until the next call; 0 at the end. */
gssize banger_tar_stream_get (BangerTarStream *stream, guint64 max, const guint8 **ret_bytes, GError **error);

/** banger_tar_stream_read: as read(2), but short only at the end. */
gssize banger_tar_stream_read (BangerTarStream *stream, void *bytes, gsize length, GError **error);

/** banger_tar_stream_skip: Returns: 1; 0 if the end comes before; -1. */
int banger_tar_stream_skip (BangerTarStream *stream, guint64 length, GError **error);

/** banger_tar_stream_unread: the next bytes are these again. At most once between two reads. */
void banger_tar_stream_unread (BangerTarStream *stream, const guint8 block[BANGER_TAR_BLOCK]);

/** banger_tar_stream_set_digest: @digest: (transfer none): is told all bytes that come out, from before the first read. */
void banger_tar_stream_set_digest (BangerTarStream *stream, BangerDigest *digest);
