/* Golden images: records, and building and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by image-build.c. */
#pragma once

#include <gio/gio.h>

#include "manager/asset.h"

typedef struct {
  BangerAsset asset;  /* digest: of rootfs.ext4 */
  guint64 size_bytes; /* of rootfs.ext4 */
  guint64 used_bytes; /* what the file system in it holds */
  guint64 seed_bytes; /* of seed.ext4, 0 if there is none */
} BangerImage;

extern const BangerAssetClass banger_image_class;

/* What BuildImage and ImportImage take; 0 and NULL are the defaults of image-build.h. Strings are absent or owned. */
typedef struct {
  char *path; /* to import: a rootfs tar or ext4 file, absolute */
  int fd;     /* to import instead of a path, -1: none; without either the image is built */
  char *suite;
  char *mirror;
  char **packages;
  guint64 size_bytes;
} BangerImageOptions;

/**
 * banger_image_add:
 * First half of BuildImage and ImportImage: checks name, options and, for a build, what the host has; makes the record
 * in state building. Returns: (transfer none): follow with banger_image_create_async() at once, or banger_asset_drop().
 */
BangerImage *banger_image_add (BangerManager *manager, const char *name, const BangerImageOptions *options,
                               GError **error);

/**
 * banger_image_create_async:
 * Second half, in a worker: builds or imports, then one record write turns it ready.
 * On failure or cancellation the image is gone. @options: copied, the descriptor is duplicated.
 * End it with banger_asset_make_finish().
 */
void banger_image_create_async (BangerImage *image, const BangerImageOptions *options, BangerJob *job,
                                GAsyncReadyCallback callback, gpointer user_data);
