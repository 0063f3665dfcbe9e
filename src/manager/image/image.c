/* Golden images: their class of asset.
 * Never knows D-Bus, nor how one is made. */
#include "manager/image/image.h"

#include <string.h>

#include "common/error.h"
#include "common/names.h"
#include "manager/image/sources.h"

static const char *const state_words[] = { "building", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_ASSET_STATES + 1);

#define SETTING(key, type, member, property)                                                                           \
  {                                                                                                                    \
    key, BANGER_RECORD_##type, G_STRUCT_OFFSET (BangerImage, member), NULL, FALSE, property, TRUE                      \
  }

const BangerRecordField banger_image_fields[] = {
  BANGER_ASSET_FIELDS (state_words),
  { "size-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, size_bytes), NULL, FALSE, "SizeBytes", TRUE },
  { "used-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, used_bytes), NULL, FALSE, "UsedBytes", TRUE },
  { "seed-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, seed_bytes) },
  { "ssh-server", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, ssh_server), NULL, FALSE, "SshServer", TRUE },
  { "rootfs-digest", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, rootfs_digest) },
  { "seed-digest", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, seed_digest) },
  { "tags", BANGER_RECORD_STRV, G_STRUCT_OFFSET (BangerImage, asset.tags), NULL, FALSE, "Tags", TRUE },
  SETTING ("env", STRV, env, "Env"),
  SETTING ("working-dir", STRING, working_dir, "WorkingDir"),
  SETTING ("user", STRING, user, "User"),
  SETTING ("entrypoint", STRV, entrypoint, "Entrypoint"),
  SETTING ("cmd", STRV, cmd, "Cmd"),
  SETTING ("exposed-ports", STRV, exposed_ports, "ExposedPorts"),
  SETTING ("labels", STRV, labels, "Labels"),
  { NULL },
};

static void
take_settings (BangerImage *image, char **const settings[BANGER_N_INTAKE_SETTINGS])
{
  const struct {
    BangerIntakeSetting kind;
    char ***list;
  } lists[] = { { BANGER_INTAKE_ENV, &image->env },
                { BANGER_INTAKE_ENTRYPOINT, &image->entrypoint },
                { BANGER_INTAKE_CMD, &image->cmd },
                { BANGER_INTAKE_PORT, &image->exposed_ports },
                { BANGER_INTAKE_LABEL, &image->labels } };
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++) {
    g_strfreev (*lists[i].list);
    *lists[i].list = g_strdupv (settings[lists[i].kind]);
  }
  char **working_dir = settings[BANGER_INTAKE_WORKING_DIR], **user = settings[BANGER_INTAKE_USER];
  banger_asset_set_string (&image->working_dir, working_dir ? working_dir[0] : NULL);
  banger_asset_set_string (&image->user, user ? user[0] : NULL);
}

void
banger_image_settings (const BangerImage *image, char **ret[BANGER_N_INTAKE_SETTINGS])
{
  char *working_dir[] = { image->working_dir, NULL }, *user[] = { image->user, NULL };
  char **const lists[BANGER_N_INTAKE_SETTINGS] = {
    [BANGER_INTAKE_ENV] = image->env,
    [BANGER_INTAKE_WORKING_DIR] = *image->working_dir != '\0' ? working_dir : NULL,
    [BANGER_INTAKE_USER] = *image->user != '\0' ? user : NULL,
    [BANGER_INTAKE_ENTRYPOINT] = image->entrypoint,
    [BANGER_INTAKE_CMD] = image->cmd,
    [BANGER_INTAKE_PORT] = image->exposed_ports,
    [BANGER_INTAKE_LABEL] = image->labels,
  };
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    ret[i] = g_strdupv (lists[i]);
}

static void
take (gpointer asset, BangerSource *source)
{
  BangerImage *image = asset;
  const BangerImageInfo *info = &((BangerImageSource *)source)->info;
  image->size_bytes = info->size_bytes;
  image->used_bytes = info->used_bytes;
  image->seed_bytes = info->seed_bytes;
  banger_asset_set_string (&image->ssh_server, info->no_ssh ? BANGER_SSH_SERVER_MISSING : BANGER_SSH_SERVER_FOUND);
  take_settings (image, info->settings);
  banger_asset_set_string (&image->rootfs_digest, info->rootfs_digest);
  banger_asset_set_string (&image->seed_digest, info->seed_digest);
  banger_asset_set_string (&image->asset.digest, info->digest);
}

char **
banger_image_command (const BangerImage *image)
{
  g_autoptr (GStrvBuilder) words = g_strv_builder_new ();
  char **const lists[] = { image->entrypoint, image->cmd };
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
    if (lists[i])
      g_strv_builder_addv (words, (const char **)lists[i]);
  return g_strv_builder_end (words);
}

char **
banger_image_environment (const BangerImage *image)
{
  g_autoptr (GStrvBuilder) pairs = g_strv_builder_new ();
  for (char **pair = image->env; pair && *pair; pair++)
    if (strcspn (*pair, "=") > 0 && strchr (*pair, '='))
      g_strv_builder_add (pairs, *pair);
  return g_strv_builder_end (pairs);
}

const BangerAssetClass banger_image_class = {
  .object = BANGER_OBJECT_IMAGE,
  .kind = "image",
  .a_kind = "an image",
  .size = sizeof (BangerImage),
  .fields = banger_image_fields,
  .states = state_words,
  .making = "being built",
  .hint = "make one with `banger image build` or `banger image import`",
  .exists = BANGER_ERROR_IMAGE_EXISTS,
  .missing = BANGER_ERROR_NO_SUCH_IMAGE,
  .sources = &banger_image_sources,
  .take = take,
};
