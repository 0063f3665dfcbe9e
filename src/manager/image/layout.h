/* An OCI image layout as one tar (oci-archive of skopeo and podman), around a layer that somebody else writes into it.
 * Never reads the layer. */
#pragma once

#include <gio/gio.h>

#include "manager/disk/intake.h"

typedef struct {
  char *name;                                /* org.opencontainers.image.ref.name */
  char **settings[BANGER_N_INTAKE_SETTINGS]; /* of its configuration; NULL: none */
} BangerLayout;

void banger_layout_clear (BangerLayout *layout);

/** banger_layout_begin: up to where the layer begins, which is where @fd, an empty file, stands then. */
gboolean banger_layout_begin (int fd, GError **error);

/** banger_layout_finish: all else. @length: of the layer, a tar, in bytes. @digest: "sha256:...", its own. */
gboolean banger_layout_finish (int fd, const BangerLayout *layout, guint64 length, const char *digest, GError **error);
