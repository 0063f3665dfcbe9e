/* A tar, any compression, streamed into ext4 file systems.
 * Called by image-build.c in a worker thread.
 * Never writes anything outside the given files, whatever the tar says. */
#pragma once

#include "manager/ext4-writer.h"

#define BANGER_EXT4_MAX_TARGETS 4u

/* Where entries go. With a @prefix ("root") only what is below that directory, its own metadata for the root. A hard
 * link whose target lies outside the prefix is left out there. */
typedef struct {
  BangerExt4Writer *writer;
  const char *prefix;
} BangerExt4Target;

typedef struct {
  const BangerExt4Target *targets;
  guint n_targets;
  guint64 expected_bytes; /* of the tar, for the progress on a pipe; 0: unknown, -1 is reported */
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} BangerExt4TarOptions;

/**
 * banger_ext4_read_tar:
 * Reads the tar(5) on @tar_fd (file, pipe or socket; plain, gzip, bzip2, xz, lzma, zstd, lz4) to its very end into all
 * targets. Does not finish the writers. Cancelling also ends a wait for data.
 * @ret_digest: (out) (transfer full): "sha256:" and hex of the bytes read.
 * Errors: those of banger_ext4_writer_add(); %BANGER_ERROR_INVALID_IMAGE for what is no tar or ends early;
 * %BANGER_ERROR_CANCELLED.
 */
gboolean banger_ext4_read_tar (int tar_fd, const BangerExt4TarOptions *options, char **ret_digest, GError **error);

/**
 * banger_ext4_from_tar:
 * One tar into one file: banger_ext4_writer_new(), banger_ext4_read_tar(), banger_ext4_writer_finish().
 * @tar_fd, @ext4_fd: (transfer none).
 */
gboolean banger_ext4_from_tar (int tar_fd, int ext4_fd, const BangerExt4Options *options, BangerProgress progress,
                               gpointer progress_data, GCancellable *cancellable, BangerExt4Info *ret_info,
                               GError **error);
