/* An image from a registry: skopeo fetches its blobs, banger-intake makes the files of them.
 * Runs in worker threads.
 * Never parses what came. */
#pragma once

#include "manager/image/build.h"

/* How many have come, and how many come a second; again and again. */
typedef void (*BangerImagePulled) (guint64 bytes, guint64 rate, gpointer user_data);

typedef struct {
  const char *transport, *reference; /* "docker" and "//debian:bookworm", checked: see registry.h */
  gboolean own_blobs;                /* they are not kept for the next */
  BangerImagePulled pulled;
} BangerImagePull;

/**
 * banger_image_pull:
 * pulled(), @progress: get @progress_data.
 * Errors: those of banger_registry_pull() and banger_image_import_layers().
 */
gboolean banger_image_pull (const BangerImagePull *pull, int image_dir_fd, const BangerImageBuildOptions *options,
                            BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                            BangerImageInfo *ret_info, GError **error);
