/* A tar, or the layers of an image, any compression, streamed into ext4 file systems.
 * Runs in worker threads.
 * Never writes anything outside the given files, whatever the tar says. */
#pragma once

#include "common/progress.h"
#include "intake/ext4-writer.h"
#include "intake/tar-reader.h"

#define BANGER_EXT4_MAX_TARGETS 4u

/* Where entries go. With a @prefix ("root") only what is below that directory, its own metadata for the root. A hard
 * link whose target lies outside the prefix is left out there. */
typedef struct {
  BangerExt4Writer *writer;
  const char *prefix;
} BangerExt4Target;

/* "etc/fstab": the first @max bytes of that regular file also go into @bytes. */
typedef struct {
  const char *path; /* NULL ends a list of them */
  gsize max;
  GByteArray *bytes;
} BangerExt4Kept;

/* Looks at the entries of a tar before anything is made of them. Returns: 0 for one that is to be written, -1 with
 * @error; 1: it has read the tar to its end itself, nothing more is written. */
typedef int (*BangerExt4Divert) (BangerTarReader *reader, const BangerTarEntry *entry, gpointer data, GError **error);

typedef struct {
  const BangerExt4Target *targets;
  guint n_targets;
  BangerExt4Divert divert; /* may be NULL */
  gpointer divert_data;
  guint *archives; /* counts those behind the end of the first, which are read, too; NULL: they are not */
  void (*on_entry) (BangerExt4Entry *entry, gpointer data); /* may be NULL; may change it before it is added */
  gpointer entry_data;
  const BangerExt4Kept *kept; /* NULL: none */
  guint64 expected_bytes;     /* of the tar, for the progress on a pipe; 0: unknown, -1 is reported */
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} BangerExt4TarOptions;

/**
 * banger_ext4_read_tar:
 * Reads the tar(5) on @tar_fd (file, pipe or socket; plain, gzip, bzip2, xz, lzma, zstd, lz4) to its very end into all
 * targets. Does not finish the writers. Cancelling also ends a wait for data.
 * @ret_digest: (out) (transfer full) (nullable): "sha256:" and hex of the bytes read.
 * Names in access lists are looked up in the archive's own /etc/passwd and /etc/group.
 * Errors: those of banger_ext4_writer_add(); %BANGER_ERROR_INVALID_IMAGE for what is no tar or ends early, also where
 * an entry could begin: a whole one has a mark at its end; %BANGER_ERROR_CANCELLED.
 */
gboolean banger_ext4_read_tar (int tar_fd, const BangerExt4TarOptions *options, char **ret_digest, GError **error);

/* Part of a file that can be read anywhere: a layer as it is stored. */
typedef struct {
  int fd; /* unowned */
  guint64 offset, length;
  const char *digest;  /* "sha256:..." that it must have */
  gboolean of_content; /* the digest is of what it unpacks to */
} BangerExt4Layer;

typedef struct BangerExt4Layers BangerExt4Layers;

/** banger_ext4_layers_new: @options: (transfer none): must outlive it; expected_bytes is of all layers, 0: the progress is of each. */
BangerExt4Layers *banger_ext4_layers_new (const BangerExt4TarOptions *options);
void banger_ext4_layers_free (BangerExt4Layers *layers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerExt4Layers, banger_ext4_layers_free)

/**
 * banger_ext4_layers_add:
 * Lays one more over those before (from the lowest up: a hard link needs nothing then but what is there). Whiteouts and
 * opaque directories as in the OCI image specification, layer.md. Errors: as banger_ext4_read_tar(), and
 * %BANGER_ERROR_INVALID_IMAGE for another digest, which is known at the layer's end: nothing of it may be used then.
 */
gboolean banger_ext4_layers_add (BangerExt4Layers *layers, const BangerExt4Layer *layer, GError **error);

/** banger_ext4_layers_finish: access lists that name somebody; does not finish the writers. */
gboolean banger_ext4_layers_finish (BangerExt4Layers *layers, GError **error);

/** banger_ext4_skip_root: Returns: @path of an entry without a leading "/" or "./"; "" is the root. */
const char *banger_ext4_skip_root (const char *path);

/**
 * banger_ext4_from_tar:
 * One tar into one file: banger_ext4_writer_new(), banger_ext4_read_tar(), banger_ext4_writer_finish().
 * @tar_fd, @ext4_fd: (transfer none).
 */
gboolean banger_ext4_from_tar (int tar_fd, int ext4_fd, const BangerExt4Options *options, BangerProgress progress,
                               gpointer progress_data, GCancellable *cancellable, BangerExt4Info *ret_info,
                               GError **error);
