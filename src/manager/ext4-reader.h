/* Reading an ext4 file system that somebody else made: is it whole, does it hold an init, copying a tree out of it.
 * Called by image-import.c; tests read the writer's results with it.
 * Never writes to it, never follows what leads out of it. */
#pragma once

#include "manager/ext4-writer.h"

typedef struct BangerExt4Reader BangerExt4Reader;

/** banger_ext4_probe: whether the file @fd begins like an ext2, ext3 or ext4 file system (and not like a tar). */
gboolean banger_ext4_probe (int fd);

/**
 * banger_ext4_reader_open:
 * @fd: (transfer none): opened for reading at least.
 * %BANGER_ERROR_INVALID_IMAGE for bad checksums of superblock, groups or bitmaps, an unclean or recovering file system,
 * features that a guest kernel (6.1) does not have, a size beyond the file.
 */
BangerExt4Reader *banger_ext4_reader_open (int fd, GError **error);
void banger_ext4_reader_free (BangerExt4Reader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerExt4Reader, banger_ext4_reader_free)

void banger_ext4_reader_sizes (BangerExt4Reader *reader, guint64 *ret_size_bytes, guint64 *ret_used_bytes);

/** banger_ext4_reader_has_program: as banger_ext4_writer_has_program(). */
gboolean banger_ext4_reader_has_program (BangerExt4Reader *reader, const char *path);

/**
 * banger_ext4_reader_copy_tree:
 * Adds what is in directory @path to the root of @writer: owners, modes, times, links, holes, extended attributes. No
 * such directory: nothing. Errors: %BANGER_ERROR_INVALID_IMAGE, those of the writer, %BANGER_ERROR_CANCELLED.
 */
gboolean banger_ext4_reader_copy_tree (BangerExt4Reader *reader, const char *path, BangerExt4Writer *writer,
                                       GCancellable *cancellable, GError **error);
