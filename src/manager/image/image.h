/* Golden images: their class of asset.
 * Never knows D-Bus; what they are made from is in sources.h. */
#pragma once

#include <gio/gio.h>

#include "manager/core/asset.h"
#include "manager/disk/intake.h"

typedef struct {
  BangerAsset asset;  /* digest: of rootfs.ext4 */
  guint64 size_bytes; /* of rootfs.ext4 */
  guint64 used_bytes; /* what the file system in it holds */
  guint64 seed_bytes; /* of seed.ext4, 0 if there is none */
  /* Of an image of layers, as config.md of the OCI image specification has them; nothing in others. */
  char **env, **entrypoint, **cmd, **exposed_ports, **labels;
  char *working_dir, *user;
  char *rootfs_digest, *seed_digest; /* of the files as they were made, see content.h; "" before there was that */
  char *ssh_server;                  /* BANGER_SSH_SERVER_*; "" if nobody looked: it was made by an earlier version */
} BangerImage;

extern const BangerRecordField banger_image_fields[];
extern const BangerAssetClass banger_image_class;

/** banger_image_settings: what it says of itself, as an intake does. @ret: gets (transfer full) lists. */
void banger_image_settings (const BangerImage *image, char **ret[BANGER_N_INTAKE_SETTINGS]);
/** banger_image_command: Returns: (transfer full): entry point and command, what it starts with; empty: it says nothing. */
char **banger_image_command (const BangerImage *image);
/** banger_image_environment: Returns: (transfer full): NAME=VALUE, and nothing else that a stranger wrote there. */
char **banger_image_environment (const BangerImage *image);
