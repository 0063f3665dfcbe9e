/* What was pulled from registries, by digest: blobs/sha256/HEX beside images/ and kernels/, each once.
 * Runs in worker threads.
 * Never believes that a blob has its digest: whoever reads it looks. */
#pragma once

#include <gio/gio.h>

#define BANGER_BLOBS_SHA256 "sha256"

typedef struct {
  int dir_fd; /* of the store; locked as long as this is open */
  char *path; /* of the store */
  char *pull; /* name of a folder of its own in it, for what is being pulled */
  int pull_fd;
  int sha256_fd;
} BangerBlobStore;

#define BANGER_BLOB_STORE_INIT                                                                                         \
  {                                                                                                                    \
    -1, NULL, NULL, -1, -1                                                                                             \
  }

/**
 * banger_blob_store_open:
 * The store in the owner's folder of state, of which @image_dir_fd is an image's directory; makes it, and a folder for
 * one pull. What pulls left behind that did not end is removed. Nobody prunes it while it is open.
 */
gboolean banger_blob_store_open (BangerBlobStore *store, int image_dir_fd, GError **error);

/** banger_blob_store_clear: removes the pull's own folder; whole blobs stay. */
void banger_blob_store_clear (BangerBlobStore *store);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerBlobStore, banger_blob_store_clear)

/** banger_blob_store_own: Returns: the folder of blobs that are in the pull's own folder, and so not kept; -1: there is
 * none. */
int banger_blob_store_own (const BangerBlobStore *store);

/** banger_blob_store_pulled: Returns: bytes that came since @since (seconds since the epoch), those under way included. */
guint64 banger_blob_store_pulled (const BangerBlobStore *store, gint64 since);

/** banger_blob_store_drop_damaged: removes blobs whose digest is not their name: the next pull fetches them again. */
void banger_blob_store_drop_damaged (const BangerBlobStore *store, GCancellable *cancellable);

/**
 * banger_blobs_prune:
 * Removes all blobs and what pulls left behind. @images_fd: the folder of all images. @dry_run: counts only.
 * %BANGER_ERROR_IN_USE while something is pulled.
 */
gboolean banger_blobs_prune (int images_fd, gboolean dry_run, guint64 *ret_bytes, guint64 *ret_blobs, GError **error);
