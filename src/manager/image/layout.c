/* Headers of tar(5), and the three documents of image-layout.md, manifest.md and config.md (OCI image specification 1.1).
 * Used by export.c.
 * Never a name that is not a digest of ours. */
#include "manager/image/layout.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/error.h"
#include "common/names.h"

#define BLOCK 512u
#define TYPE "application/vnd.oci.image."

static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8], rest[247];
} Header;
G_STATIC_ASSERT (sizeof (Header) == BLOCK);

/* Of a file as long as 8 GiB and more, too: GNU's base 256. */
static void
put_size (char field[12], guint64 size)
{
  if (size <= 077777777777) {
    g_snprintf (field, 12, "%011" G_GINT64_MODIFIER "o", size);
    return;
  }
  for (guint i = 0; i < 8; i++)
    field[11 - i] = (char)(size >> (8 * i));
  field[0] = (char)0x80;
}

static void
make_header (Header *header, const char *name, guint64 size)
{
  guint sum = 0;
  *header = (Header){ .mode = "0000644", .uid = "0000000", .gid = "0000000", .mtime = "00000000000", .type = '0' };
  g_strlcpy (header->name, name, sizeof header->name);
  put_size (header->size, size);
  memcpy (header->magic, "ustar\00000", sizeof header->magic);
  memset (header->checksum, ' ', sizeof header->checksum);
  for (gsize i = 0; i < sizeof *header; i++)
    sum += ((const guint8 *)header)[i];
  g_snprintf (header->checksum, sizeof header->checksum, "%06o", sum);
}

static gboolean
check (int r, GError **error)
{
  gboolean full = errno == ENOSPC || errno == EDQUOT;
  return r == 0
         || banger_set_error_errno (error, full ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errno,
                                    "cannot write the archive");
}

static gboolean
put_file (int fd, const char *name, const char *bytes, gsize length, GError **error)
{
  static const guint8 zeros[BLOCK];
  Header header;
  make_header (&header, name, length);
  return check (banger_write_all (fd, &header, sizeof header), error)
         && check (banger_write_all (fd, bytes, length), error)
         && check (banger_write_all (fd, zeros, -length % BLOCK), error);
}

static char *
blob_name (const char *digest)
{
  return g_strconcat ("blobs/sha256/", digest + strlen ("sha256:"), NULL);
}

void
banger_layout_clear (BangerLayout *layout)
{
  g_clear_pointer (&layout->name, g_free);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_clear_pointer (&layout->settings[i], g_strfreev);
}

gboolean
banger_layout_begin (int fd, GError **error)
{
  static const Header later;
  return put_file (fd, "oci-layout", version, strlen (version), error)
         && check (banger_write_all (fd, &later, sizeof later), error);
}

/* Documents */

static void
put_text (JsonBuilder *builder, const char *member, const char *text)
{
  json_builder_set_member_name (builder, member);
  json_builder_add_string_value (builder, text);
}

static void
put_one (JsonBuilder *builder, const char *member, char **texts)
{
  put_text (builder, member, texts[0]);
}

static void
put_list (JsonBuilder *builder, const char *member, char **texts)
{
  json_builder_set_member_name (builder, member);
  json_builder_begin_array (builder);
  for (; *texts; texts++)
    json_builder_add_string_value (builder, *texts);
  json_builder_end_array (builder);
}

/* "80/tcp" becomes "80/tcp": {}, "name=value" "name": "value". */
static void
put_members (JsonBuilder *builder, const char *member, char **texts)
{
  json_builder_set_member_name (builder, member);
  json_builder_begin_object (builder);
  for (; *texts; texts++) {
    gsize length = strcspn (*texts, "=");
    g_autofree char *name = g_strndup (*texts, length);
    json_builder_set_member_name (builder, name);
    if ((*texts)[length] == '=') {
      json_builder_add_string_value (builder, *texts + length + 1);
    } else {
      json_builder_begin_object (builder);
      json_builder_end_object (builder);
    }
  }
  json_builder_end_object (builder);
}

static void
put_settings (JsonBuilder *builder, const BangerLayout *layout)
{
  static const struct {
    const char *member;
    void (*put) (JsonBuilder *builder, const char *member, char **texts);
  } rows[BANGER_N_INTAKE_SETTINGS] = {
    [BANGER_INTAKE_ENV] = { "Env", put_list },         [BANGER_INTAKE_WORKING_DIR] = { "WorkingDir", put_one },
    [BANGER_INTAKE_USER] = { "User", put_one },        [BANGER_INTAKE_ENTRYPOINT] = { "Entrypoint", put_list },
    [BANGER_INTAKE_CMD] = { "Cmd", put_list },         [BANGER_INTAKE_PORT] = { "ExposedPorts", put_members },
    [BANGER_INTAKE_LABEL] = { "Labels", put_members },
  };
  json_builder_set_member_name (builder, "config");
  json_builder_begin_object (builder);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    if (layout->settings[i] && layout->settings[i][0])
      rows[i].put (builder, rows[i].member, layout->settings[i]);
  json_builder_end_object (builder);
}

/* Its root object is ended. Returns: (transfer full): its text. */
static char *
finish_document (JsonBuilder *builder)
{
  g_autoptr (JsonGenerator) generator = json_generator_new ();
  json_builder_end_object (builder);
  g_autoptr (JsonNode) root = json_builder_get_root (builder);
  json_generator_set_root (generator, root);
  return json_generator_to_data (generator, NULL);
}

static JsonBuilder *
begin_document (void)
{
  JsonBuilder *builder = json_builder_new ();
  json_builder_begin_object (builder);
  return builder;
}

static char *
make_config (const BangerLayout *layout, const char *digest)
{
  g_autoptr (JsonBuilder) builder = begin_document ();
  char *const ids[] = { (char *)digest, NULL };
  put_text (builder, "architecture", BANGER_OCI_ARCHITECTURE);
  put_text (builder, "os", "linux");
  put_settings (builder, layout);
  json_builder_set_member_name (builder, "rootfs");
  json_builder_begin_object (builder);
  put_text (builder, "type", "layers");
  put_list (builder, "diff_ids", (char **)ids);
  json_builder_end_object (builder);
  return finish_document (builder);
}

/* @name: (nullable): by which the index knows it. */
static void
put_descriptor (JsonBuilder *builder, const char *type, const char *digest, guint64 size, const char *name)
{
  json_builder_begin_object (builder);
  put_text (builder, "mediaType", type);
  put_text (builder, "digest", digest);
  json_builder_set_member_name (builder, "size");
  json_builder_add_int_value (builder, (gint64)size);
  if (name) {
    json_builder_set_member_name (builder, "annotations");
    json_builder_begin_object (builder);
    put_text (builder, "org.opencontainers.image.ref.name", name);
    json_builder_end_object (builder);
  }
  json_builder_end_object (builder);
}

static JsonBuilder *
begin_manifest (const char *type)
{
  JsonBuilder *builder = begin_document ();
  json_builder_set_member_name (builder, "schemaVersion");
  json_builder_add_int_value (builder, 2);
  put_text (builder, "mediaType", type);
  return builder;
}

/* Returns: (transfer full): the digest under which @text is in the archive now. */
static char *
put_blob (int fd, const char *text, GError **error)
{
  g_autoptr (BangerDigest) sum = banger_digest_new ();
  banger_digest_update (sum, text, strlen (text));
  g_autofree char *digest = banger_digest_finish (sum);
  g_autofree char *name = blob_name (digest);
  return put_file (fd, name, text, strlen (text), error) ? g_steal_pointer (&digest) : NULL;
}

gboolean
banger_layout_finish (int fd, const BangerLayout *layout, guint64 length, const char *digest, GError **error)
{
  static const guint8 end[2 * BLOCK];
  Header header;
  g_autofree char *name = blob_name (digest), *config = make_config (layout, digest);
  g_autofree char *config_digest = put_blob (fd, config, error);
  if (!config_digest)
    return FALSE;
  g_autoptr (JsonBuilder) builder = begin_manifest (TYPE "manifest.v1+json");
  json_builder_set_member_name (builder, "config");
  put_descriptor (builder, TYPE "config.v1+json", config_digest, strlen (config), NULL);
  json_builder_set_member_name (builder, "layers");
  json_builder_begin_array (builder);
  put_descriptor (builder, TYPE "layer.v1.tar", digest, length, NULL);
  json_builder_end_array (builder);
  g_autofree char *manifest = finish_document (builder), *manifest_digest = put_blob (fd, manifest, error);
  if (!manifest_digest)
    return FALSE;
  g_autoptr (JsonBuilder) list = begin_manifest (TYPE "index.v1+json");
  json_builder_set_member_name (list, "manifests");
  json_builder_begin_array (list);
  put_descriptor (list, TYPE "manifest.v1+json", manifest_digest, strlen (manifest), layout->name);
  json_builder_end_array (list);
  g_autofree char *index = finish_document (list);
  make_header (&header, name, length);
  return put_file (fd, "index.json", index, strlen (index), error)
         && check (banger_write_all (fd, end, sizeof end), error)
         && check (banger_write_at (fd, &header, sizeof header, 2 * BLOCK), error);
}
