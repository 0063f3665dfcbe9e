/* Images of layers: OCI image layouts (image-layout.md, manifest.md, config.md of the OCI image specification 1.1, Docker's
 * schema 2 likewise) and the archives of docker save.
 * Used by image.c.
 * Never reads a layer. */
#pragma once

#include "intake/blobs.h"
#include "intake/protocol.h"

#define BANGER_OCI_MAX_JSON (4u << 20) /* bytes of one document */
#define BANGER_OCI_MAX_LAYERS 512u

typedef struct {
  char *name;          /* of its blob */
  char *digest;        /* "sha256:..." */
  gboolean of_content; /* what it unpacks to has that digest, else the blob */
  guint64 length;      /* of the blob; G_MAXUINT64: nobody says */
} BangerOciLayer;

typedef struct {
  char *digest;                                  /* of its manifest; of a saved image: its configuration's */
  GPtrArray *layers;                             /* BangerOciLayer, from the lowest up */
  GPtrArray *settings[BANGER_N_INTAKE_SETTINGS]; /* char *, UTF-8 */
  guint n_settings;
  gsize settings_bytes;
} BangerOciImage;

void banger_oci_image_clear (BangerOciImage *image);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerOciImage, banger_oci_image_clear)

/**
 * banger_oci_read_layout:
 * From index.json to the configuration; where an index has several platforms, the host's. Documents are held against
 * their digests.
 * @reference: which one of several (org.opencontainers.image.ref.name), %NULL: there is one.
 * %BANGER_ERROR_INVALID_IMAGE, also for what is for another machine and for what is no image; %BANGER_ERROR_LIMITS_EXCEEDED.
 */
gboolean banger_oci_read_layout (const BangerBlobs *blobs, const char *reference, BangerOciImage *ret_image,
                                 GError **error);

/**
 * banger_oci_read_expected:
 * Layers that are said to be those of an image of which there is nothing else yet. Returns: (transfer full) (nullable): of BangerOciLayer, the
 * lowest first; %NULL: nobody says.
 */
GPtrArray *banger_oci_read_expected (const BangerBlobs *blobs);

/** banger_oci_has_layers: whether these, with the lengths that were found, are @image's. */
gboolean banger_oci_has_layers (const BangerOciImage *image, const GPtrArray *layers);

/** banger_oci_read_saved: likewise from manifest.json, as docker save writes it. @reference: one of its RepoTags. */
gboolean banger_oci_read_saved (const BangerBlobs *blobs, const char *reference, BangerOciImage *ret_image,
                                GError **error);
