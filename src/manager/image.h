/* Golden images: records, and building and importing them as jobs.
 * Called by the bus side and by vm.c, which reads name, state and sizes.
 * Never knows D-Bus; the bytes are written by image-build.c. */
#pragma once

#include <gio/gio.h>

#include "manager/job.h"

typedef enum {
  BANGER_IMAGE_BUILDING,
  BANGER_IMAGE_READY,
  BANGER_N_IMAGE_STATES,
} BangerImageState;

extern const char *const banger_image_states[]; /* words, NULL-terminated */

typedef struct {
  BangerManager *manager;
  char *id;
  char *name;
  int state;          /* BangerImageState */
  guint64 size_bytes; /* of rootfs.ext4 */
  guint64 used_bytes; /* what the filesystem holds */
  char *source;
  char *digest;       /* "sha256:..." of rootfs.ext4; "" until ready */
  guint64 created_at; /* µs since the epoch */
  guint users;        /* VM verbs under way that rely on it: deletion is refused while not 0 */
} BangerImage;

/* What BuildImage and ImportImage take, already checked for type. */
typedef struct {
  char *suite;
  char *mirror;
  char **packages;
  guint64 size_bytes; /* 0: what fits */
} BangerImageOptions;

void banger_image_free (BangerImage *image);

/** banger_image_load_all: fills manager->images. */
gboolean banger_image_load_all (BangerManager *manager, GError **error);

/**
 * banger_image_create_async:
 * Makes the record in state building, builds (@path %NULL) or imports in a worker, turns it ready by one record write.
 * On failure or cancellation nothing is left. @path: a rootfs tar or ext4 file, absolute.
 */
void banger_image_create_async (BangerManager *manager, const char *name, const char *path,
                                const BangerImageOptions *options, BangerJob *job, GAsyncReadyCallback callback,
                                gpointer user_data);
gboolean banger_image_create_finish (BangerManager *manager, GAsyncResult *result, GError **error);

/** banger_image_delete: InUse naming the VMs that rest on it; WrongState while it is building. */
gboolean banger_image_delete (BangerImage *image, GError **error);
