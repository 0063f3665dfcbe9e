/* Reading an ext4 file system that somebody else made: is it whole, does it hold an init, copying a tree out of it.
 * Never writes to it, never follows what leads out of it. */
#pragma once

#include "intake/ext4-writer.h"
#include "intake/overlay.h"
#include "intake/tar-reader.h"

typedef struct BangerExt4Reader BangerExt4Reader;

/**
 * banger_ext4_reader_open:
 * @fd: (transfer none): opened for reading at least.
 * %BANGER_ERROR_INVALID_IMAGE for bad checksums of superblock, groups or bitmaps, an unclean or recovering file system,
 * features that a guest kernel (6.1) does not have, a size beyond the file.
 */
BangerExt4Reader *banger_ext4_reader_open (int fd, GError **error);
/** banger_ext4_reader_open_overlay: likewise, of a VM: %BANGER_ERROR_WRONG_STATE if it did not end in order. @overlay must outlive
 * the reader. */
BangerExt4Reader *banger_ext4_reader_open_overlay (const BangerOverlay *overlay, GError **error);
void banger_ext4_reader_free (BangerExt4Reader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerExt4Reader, banger_ext4_reader_free)

void banger_ext4_reader_sizes (BangerExt4Reader *reader, guint64 *ret_size_bytes, guint64 *ret_used_bytes);

/** banger_ext4_reader_has_program: as banger_ext4_writer_has_program(). */
gboolean banger_ext4_reader_has_program (BangerExt4Reader *reader, const char *path);

/** banger_ext4_reader_root: owner and mode of its root. */
gboolean banger_ext4_reader_root (BangerExt4Reader *reader, guint32 *ret_mode, guint32 *ret_uid, guint32 *ret_gid);

/** banger_ext4_reader_read_file: Returns: (transfer full): the first @max bytes of the regular file @path, links
 * followed; %NULL if there is none that can be read. */
GByteArray *banger_ext4_reader_read_file (BangerExt4Reader *reader, const char *path, guint max);

/* What takes a tree, an entry after its folder. */
typedef struct {
  /* @runs: (nullable): BangerTarRun of a regular file: where its data are. */
  gboolean (*add) (gpointer data, const BangerExt4Entry *entry, const GArray *runs, GError **error);
  gboolean (*bytes) (gpointer data, const void *bytes, gsize length, guint64 offset, GError **error);
  /* Whether neither @path nor what is below it is wanted; of a file with several names the others stay. NULL: all is. */
  gboolean (*skip) (gpointer data, const char *path);
  gpointer data;
  gboolean needs_runs;
} BangerExt4Sink;

/** banger_ext4_reader_walk: what is in directory @path, and it itself, as "", to @sink; as banger_ext4_reader_copy_tree(). */
gboolean banger_ext4_reader_walk (BangerExt4Reader *reader, const char *path, const BangerExt4Sink *sink,
                                  GCancellable *cancellable, GError **error);

/**
 * banger_ext4_reader_copy_tree:
 * Adds what is in directory @path to the root of @writer: owners, modes, times, links, holes, extended attributes. No
 * such directory: nothing. Errors: %BANGER_ERROR_INVALID_IMAGE, those of the writer, %BANGER_ERROR_CANCELLED.
 */
gboolean banger_ext4_reader_copy_tree (BangerExt4Reader *reader, const char *path, BangerExt4Writer *writer,
                                       GCancellable *cancellable, GError **error);
