/* Golden images: records, and building and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by image-build.c. */
#pragma once

#include <gio/gio.h>

#include "manager/job.h"

typedef enum {
  BANGER_IMAGE_BUILDING,
  BANGER_IMAGE_READY,
  BANGER_N_IMAGE_STATES,
} BangerImageState;

const char *banger_image_state_to_string (BangerImageState state);
int banger_image_state_from_string (const char *word); /* -1 if unknown */

/* Strings are never NULL; "" is not known yet. */
typedef struct {
  BangerManager *manager;
  char *id;
  char *name;
  int state;          /* BangerImageState */
  guint64 size_bytes; /* of rootfs.ext4 */
  guint64 used_bytes; /* what the file system in it holds */
  guint64 seed_bytes; /* of seed.ext4, 0 if there is none */
  char *source;       /* what it was made from, for people */
  char *digest;       /* "sha256:..." of rootfs.ext4 */
  guint64 created_at; /* µs since the epoch */
} BangerImage;

/* What BuildImage and ImportImage take; 0 and NULL are the defaults of image-build.h. Strings are absent or owned. */
typedef struct {
  char *path; /* to import: a rootfs tar or ext4 file, absolute */
  int fd;     /* to import instead of a path, -1: none; without either the image is built */
  char *suite;
  char *mirror;
  char **packages;
  guint64 size_bytes;
} BangerImageOptions;

void banger_image_free (BangerImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerImage, banger_image_free)

/** banger_image_load_all: fills manager->images; half-made ones are removed. */
gboolean banger_image_load_all (BangerManager *manager, GError **error);

/**
 * banger_image_add:
 * First half of BuildImage and ImportImage: checks name, options and, for a build, what the host has; makes the record
 * in state building. Returns: (transfer none): follow with banger_image_create_async() at once.
 */
BangerImage *banger_image_add (BangerManager *manager, const char *name, const BangerImageOptions *options,
                               GError **error);

/** banger_image_drop: undoes banger_image_add() when no job could be made. */
void banger_image_drop (BangerImage *image);

/**
 * banger_image_create_async:
 * Second half, in a worker: builds or imports, then one record write turns it ready.
 * On failure or cancellation the image is gone. @options: copied, the descriptor is duplicated.
 */
void banger_image_create_async (BangerImage *image, const BangerImageOptions *options, BangerJob *job,
                                GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_image_create_finish (BangerManager *manager, GAsyncResult *result, GError **error);

/** banger_image_delete: InUse naming the VMs that rest on it; WrongState while it is building. */
gboolean banger_image_delete (BangerImage *image, GError **error);
