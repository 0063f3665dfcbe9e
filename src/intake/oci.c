/* JSON of strangers: indexes, manifests, configurations.
 * Used by image.c.
 * Never believes a type, a number or a digest; never lets a digest be a path. */
#include "intake/oci.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/json-depth.h"
#include "common/names.h"

#define INDEX "index.json"
#define SAVED "manifest.json"
#define REF_NAME "org.opencontainers.image.ref.name"
#define MAX_NESTED 4u /* indexes in indexes */
#define MAX_LAYER_BYTES (G_GUINT64_CONSTANT (1) << 40)
#define MAX_EXPECTED (64u << 10)
#define MAX_SHOWN 8u /* names in a message */

static const char *const index_types[] = { "application/vnd.oci.image.index.v1+json",
                                           "application/vnd.docker.distribution.manifest.list.v2+json", NULL };
static const char *const manifest_types[] = { "application/vnd.oci.image.manifest.v1+json",
                                              "application/vnd.docker.distribution.manifest.v2+json", NULL };
static const char *const config_types[] = { "application/vnd.oci.image.config.v1+json",
                                            "application/vnd.docker.container.image.v1+json", NULL };
static const char *const layer_types[] = { "application/vnd.oci.image.layer.v1.tar",
                                           "application/vnd.oci.image.layer.v1.tar+gzip",
                                           "application/vnd.oci.image.layer.v1.tar+zstd",
                                           "application/vnd.oci.image.layer.nondistributable.v1.tar",
                                           "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                                           "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
                                           "application/vnd.docker.image.rootfs.diff.tar",
                                           "application/vnd.docker.image.rootfs.diff.tar.gzip",
                                           "application/vnd.docker.image.rootfs.diff.tar.zstd",
                                           "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                                           NULL };

/* JSON */

static JsonObject *
object_of (JsonNode *node)
{
  return node && JSON_NODE_HOLDS_OBJECT (node) ? json_node_get_object (node) : NULL;
}

static JsonArray *
array_of (JsonNode *node)
{
  return node && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

static const char *
string_of (JsonNode *node)
{
  return node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING
             ? json_node_get_string (node)
             : NULL;
}

static JsonNode *
member (JsonObject *object, const char *name)
{
  return object ? json_object_get_member (object, name) : NULL;
}

static const char *
member_string (JsonObject *object, const char *name)
{
  return string_of (member (object, name));
}

/* Returns: whether it is a number that is no size; @ret_size stays if there is none. */
static gboolean
member_size_bad (JsonObject *object, const char *name, guint64 *ret_size)
{
  JsonNode *node = member (object, name);
  if (!node)
    return FALSE;
  gint64 value = JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_INT64
                     ? json_node_get_int (node)
                     : -1;
  if (value < 0)
    return TRUE;
  *ret_size = (guint64)value;
  return FALSE;
}

static gboolean
bad (GError **error, const char *name, const char *what)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "not a good image: %.100s: %s", name, what);
}

static gboolean
is_digest (const char *text)
{
  static const char prefix[] = "sha256:";
  return text && g_str_has_prefix (text, prefix) && strspn (text + strlen (prefix), "0123456789abcdef") == 64
         && strlen (text) == strlen (prefix) + 64;
}

static char *
blob_name (const char *digest)
{
  return g_strconcat ("blobs/sha256/", strchr (digest, ':') + 1, NULL);
}

/* @digest: what it must have; %NULL: nobody says. Returns: (transfer full): its parser. */
static JsonParser *
read_json (const BangerBlobs *blobs, const char *name, const char *digest, char **ret_digest, GError **error)
{
  g_auto (BangerBlob) blob = BANGER_BLOB_INIT;
  g_autoptr (GError) local = NULL;
  g_autoptr (GBytes) bytes = blobs->open (blobs->data, name, &blob, error)
                                 ? banger_blob_read (&blob, name, BANGER_OCI_MAX_JSON, error)
                                 : NULL;
  if (!bytes)
    return NULL;
  gsize length;
  const char *text = g_bytes_get_data (bytes, &length);
  g_autoptr (BangerDigest) digester = banger_digest_new ();
  banger_digest_update (digester, text, length);
  g_autofree char *found = banger_digest_finish (digester);
  if (digest && strcmp (digest, found) != 0) {
    bad (error, name, "it is damaged: its digest is another one");
    return NULL;
  }
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  if (length == 0 || memchr (text, '\0', length) || !banger_json_depth_ok (text, length)
      || !json_parser_load_from_data (parser, text, (gssize)length, &local))
  {
    bad (error, name, local ? local->message : "it is no JSON");
    return NULL;
  }
  if (ret_digest)
    *ret_digest = g_steal_pointer (&found);
  return g_steal_pointer (&parser);
}

/* Configuration, config.md */

static gboolean
add_setting (BangerOciImage *image, BangerIntakeSetting kind, const char *text, GError **error)
{
  if (!text)
    return bad (error, "configuration", "a value is no text");
  gsize length = strlen (text);
  image->n_settings++;
  image->settings_bytes += length;
  if (image->n_settings > BANGER_INTAKE_MAX_SETTINGS || length > BANGER_INTAKE_MAX_SETTING
      || image->settings_bytes > BANGER_INTAKE_MAX_SETTINGS_BYTES)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "its configuration has more than %u values, one of more than %u bytes, or more than %u "
                             "KiB of all",
                             BANGER_INTAKE_MAX_SETTINGS, BANGER_INTAKE_MAX_SETTING,
                             BANGER_INTAKE_MAX_SETTINGS_BYTES >> 10);
  g_ptr_array_add (image->settings[kind], g_strdup (text));
  return TRUE;
}

static gboolean
is_null (JsonNode *node)
{
  return !node || JSON_NODE_HOLDS_NULL (node);
}

static gboolean
add_list (BangerOciImage *image, BangerIntakeSetting kind, JsonNode *node, GError **error)
{
  JsonArray *array = array_of (node);
  if (!array)
    return bad (error, "configuration", "what should be a list is none");
  for (guint i = 0; i < json_array_get_length (array); i++)
    if (!add_setting (image, kind, string_of (json_array_get_element (array, i)), error))
      return FALSE;
  return TRUE;
}

static gboolean
add_text (BangerOciImage *image, BangerIntakeSetting kind, JsonNode *node, GError **error)
{
  const char *text = string_of (node);
  return (text && *text == '\0') || add_setting (image, kind, text, error);
}

/* "80/tcp": {}, and "name": "value"; sorted, so that the order of members is nothing. */
static gboolean
add_members (BangerOciImage *image, BangerIntakeSetting kind, JsonNode *node, GError **error)
{
  JsonObject *object = object_of (node);
  if (!object)
    return bad (error, "configuration", "what should be an object is none");
  g_autoptr (GList) names = g_list_sort (json_object_get_members (object), (GCompareFunc)strcmp);
  for (GList *item = names; item; item = item->next) {
    const char *value = kind == BANGER_INTAKE_LABEL ? member_string (object, item->data) : "";
    g_autofree char *label = value ? g_strconcat (item->data, kind == BANGER_INTAKE_LABEL ? "=" : "", value, NULL)
                                   : NULL;
    if (!add_setting (image, kind, label, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
read_settings (BangerOciImage *image, JsonObject *config, GError **error)
{
  static const struct {
    const char *name;
    BangerIntakeSetting kind;
    gboolean (*add) (BangerOciImage *, BangerIntakeSetting, JsonNode *, GError **);
  } rows[] = { { "Env", BANGER_INTAKE_ENV, add_list },        { "WorkingDir", BANGER_INTAKE_WORKING_DIR, add_text },
               { "User", BANGER_INTAKE_USER, add_text },      { "Entrypoint", BANGER_INTAKE_ENTRYPOINT, add_list },
               { "Cmd", BANGER_INTAKE_CMD, add_list },        { "ExposedPorts", BANGER_INTAKE_PORT, add_members },
               { "Labels", BANGER_INTAKE_LABEL, add_members } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    JsonNode *node = member (config, rows[i].name);
    if (!is_null (node) && !rows[i].add (image, rows[i].kind, node, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
check_machine (const char *name, JsonObject *object, GError **error)
{
  const char *os = member_string (object, "os"), *architecture = member_string (object, "architecture");
  if ((os && *os != '\0' && strcmp (os, "linux") != 0)
      || (architecture && *architecture != '\0' && strcmp (architecture, BANGER_OCI_ARCHITECTURE) != 0))
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                             "the image is for %.40s/%.40s, and this host is linux/%s", os ? os : "linux",
                             architecture ? architecture : "unknown", BANGER_OCI_ARCHITECTURE);
  return TRUE;
}

/* @diff_ids: also takes the digests of what the layers unpack to, NULL: they are not needed. */
static gboolean
read_config (const BangerBlobs *blobs, const char *name, const char *digest, BangerOciImage *image, GPtrArray *diff_ids,
             char **ret_digest, GError **error)
{
  g_autoptr (JsonParser) parser = read_json (blobs, name, digest, ret_digest, error);
  JsonObject *root = parser ? object_of (json_parser_get_root (parser)) : NULL;
  if (!parser)
    return FALSE;
  if (!root)
    return bad (error, name, "it is no object");
  JsonObject *rootfs = object_of (member (root, "rootfs"));
  JsonArray *ids = array_of (member (rootfs, "diff_ids"));
  for (guint i = 0; diff_ids && ids && i < json_array_get_length (ids); i++) {
    const char *id = string_of (json_array_get_element (ids, i));
    if (!is_digest (id))
      return bad (error, name, "a layer's digest is no sha256");
    g_ptr_array_add (diff_ids, g_strdup (id));
  }
  return check_machine (name, root, error) && read_settings (image, object_of (member (root, "config")), error);
}

/* Manifests and indexes */

static void
layer_free (gpointer data)
{
  BangerOciLayer *layer = data;
  g_free (layer->name);
  g_free (layer->digest);
  g_free (layer);
}

static void
image_init (BangerOciImage *image)
{
  *image = (BangerOciImage){ .layers = g_ptr_array_new_with_free_func (layer_free) };
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    image->settings[i] = g_ptr_array_new_with_free_func (g_free);
}

void
banger_oci_image_clear (BangerOciImage *image)
{
  g_clear_pointer (&image->digest, g_free);
  g_clear_pointer (&image->layers, g_ptr_array_unref);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_clear_pointer (&image->settings[i], g_ptr_array_unref);
}

static gboolean
is_type (JsonObject *descriptor, const char *const *types)
{
  const char *type = member_string (descriptor, "mediaType");
  return type && g_strv_contains (types, type);
}

static gboolean
check_type (const char *name, const char *what, JsonObject *descriptor, const char *const *types, GError **error)
{
  const char *type = member_string (descriptor, "mediaType");
  if (is_type (descriptor, types))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                           "%.100s: %s has the media type '%.100s': no image that a "
                           "machine could start with",
                           name, what, type ? type : "");
}

static gboolean
add_layer (BangerOciImage *image, const char *name, JsonObject *descriptor, GError **error)
{
  const char *digest = member_string (descriptor, "digest");
  guint64 length = G_MAXUINT64;
  if (!is_digest (digest))
    return bad (error, name, "a layer's digest is no sha256");
  if (!check_type (name, "a layer", descriptor, layer_types, error))
    return FALSE;
  if (member_size_bad (descriptor, "size", &length) || length > MAX_LAYER_BYTES)
    return bad (error, name, "a layer's size is not possible");
  if (image->layers->len >= BANGER_OCI_MAX_LAYERS)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "more than %u layers", BANGER_OCI_MAX_LAYERS);
  BangerOciLayer *layer = g_new0 (BangerOciLayer, 1);
  *layer = (BangerOciLayer){ blob_name (digest), g_strdup (digest), FALSE, length };
  g_ptr_array_add (image->layers, layer);
  return TRUE;
}

static gboolean
read_manifest (const BangerBlobs *blobs, const char *name, JsonObject *root, BangerOciImage *image, GError **error)
{
  JsonObject *config = object_of (member (root, "config"));
  JsonArray *layers = array_of (member (root, "layers"));
  const char *digest = member_string (config, "digest");
  if (!layers)
    return bad (error, name, "a manifest of an old form (schema 1), or none at all: it names no layers");
  if (!is_digest (digest))
    return bad (error, name, "its configuration's digest is no sha256");
  if (!check_type (name, "its configuration", config, config_types, error))
    return FALSE;
  for (guint i = 0; i < json_array_get_length (layers); i++)
    if (!add_layer (image, name, object_of (json_array_get_element (layers, i)), error))
      return FALSE;
  g_autofree char *file = blob_name (digest);
  return read_config (blobs, file, digest, image, NULL, NULL, error);
}

static gboolean
is_for_host (JsonObject *descriptor)
{
  JsonObject *platform = object_of (member (descriptor, "platform"));
  const char *os = member_string (platform, "os"), *architecture = member_string (platform, "architecture");
  return !platform || (g_strcmp0 (os, "linux") == 0 && g_strcmp0 (architecture, BANGER_OCI_ARCHITECTURE) == 0);
}

static const char *
ref_name (JsonObject *descriptor)
{
  return member_string (object_of (member (descriptor, "annotations")), REF_NAME);
}

/* What the index has for this host: names of references, or of platforms that it has. */
static gboolean
refuse_choice (const char *name, JsonArray *manifests, const char *reference, guint found, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (guint i = 0; i < json_array_get_length (manifests) && i < MAX_SHOWN; i++) {
    JsonObject *one = object_of (json_array_get_element (manifests, i));
    JsonObject *platform = object_of (member (one, "platform"));
    const char *ref = ref_name (one), *os = member_string (platform, "os");
    const char *architecture = member_string (platform, "architecture");
    g_string_append (names, names->len > 0 ? ", " : "");
    if (ref)
      g_string_append_printf (names, "%.80s", ref);
    else
      g_string_append_printf (names, "%.20s/%.20s", os ? os : "?", architecture ? architecture : "?");
  }
  if (found > 1)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "there are %u images in it: say which one (%s)", found,
                             names->str);
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "there is no image%s%.80s for linux/%s in it; it has %s",
                           reference ? " " : "", reference ? reference : "", BANGER_OCI_ARCHITECTURE,
                           names->len > 0 ? names->str : "none");
}

/* Of a layout's own index one must be meant, of the others the first one for this host is. */
static JsonObject *
choose (const char *name, JsonObject *root, gboolean top, const char *reference, GError **error)
{
  JsonArray *manifests = array_of (member (root, "manifests"));
  JsonObject *chosen = NULL;
  guint found = 0;
  if (!manifests) {
    bad (error, name, "it has no list of manifests");
    return NULL;
  }
  for (guint i = 0; i < json_array_get_length (manifests); i++) {
    JsonObject *one = object_of (json_array_get_element (manifests, i));
    if (!one || !is_for_host (one) || (top && reference && g_strcmp0 (ref_name (one), reference) != 0))
      continue;
    if (chosen && g_strcmp0 (member_string (one, "digest"), member_string (chosen, "digest")) == 0)
      continue;
    found++;
    chosen = chosen ? chosen : one;
  }
  if (found == 1 || (chosen && !top))
    return chosen;
  refuse_choice (name, manifests, top ? reference : NULL, found, error);
  return NULL;
}

static gboolean
read_index (const BangerBlobs *blobs, const char *name, const char *digest, const char *reference, guint depth,
            BangerOciImage *image, GError **error)
{
  g_autoptr (JsonParser) parser = read_json (blobs, name, digest, NULL, error);
  JsonObject *root = parser ? object_of (json_parser_get_root (parser)) : NULL;
  if (!parser)
    return FALSE;
  if (!root || depth > MAX_NESTED)
    return bad (error, name, root ? "indexes in indexes in indexes" : "it is no object");
  if (depth > 0 && (is_type (root, manifest_types) || (!is_type (root, index_types) && member (root, "config")))) {
    image->digest = g_strdup (digest);
    return read_manifest (blobs, name, root, image, error);
  }
  JsonObject *chosen = choose (name, root, depth == 0, reference, error);
  const char *next = member_string (chosen, "digest");
  if (!chosen)
    return FALSE;
  if (!is_digest (next))
    return bad (error, name, "a manifest's digest is no sha256");
  g_autofree char *file = blob_name (next);
  return read_index (blobs, file, next, NULL, depth + 1, image, error);
}

gboolean
banger_oci_read_layout (const BangerBlobs *blobs, const char *reference, BangerOciImage *ret_image, GError **error)
{
  image_init (ret_image);
  return read_index (blobs, INDEX, NULL, reference, 0, ret_image, error);
}

/* What is said of an image before it is there: nothing that is believed, only what is tried first. */
GPtrArray *
banger_oci_read_expected (const BangerBlobs *blobs)
{
  g_auto (BangerBlob) blob = BANGER_BLOB_INIT;
  g_autoptr (GPtrArray) layers = g_ptr_array_new_with_free_func (layer_free);
  g_autoptr (GBytes) bytes = blobs->open (blobs->data, BANGER_INTAKE_EXPECTED, &blob, NULL)
                                 ? banger_blob_read (&blob, BANGER_INTAKE_EXPECTED, MAX_EXPECTED, NULL)
                                 : NULL;
  if (!bytes)
    return NULL;
  g_autofree char *text = g_strndup (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
  g_auto (GStrv) lines = g_strsplit (g_strchomp (text), "\n", (gint)BANGER_OCI_MAX_LAYERS + 1);
  for (char **line = lines; *line; line++) {
    if (!is_digest (*line) || layers->len >= BANGER_OCI_MAX_LAYERS)
      return NULL;
    BangerOciLayer *layer = g_new0 (BangerOciLayer, 1);
    *layer = (BangerOciLayer){ blob_name (*line), g_strdup (*line), FALSE, G_MAXUINT64 };
    g_ptr_array_add (layers, layer);
  }
  return layers->len > 0 ? g_steal_pointer (&layers) : NULL;
}

gboolean
banger_oci_has_layers (const BangerOciImage *image, const GPtrArray *layers)
{
  gboolean same = image->layers->len == layers->len;
  for (guint i = 0; same && i < layers->len; i++) {
    const BangerOciLayer *one = image->layers->pdata[i], *other = layers->pdata[i];
    same = strcmp (one->digest, other->digest) == 0 && (one->length == G_MAXUINT64 || one->length == other->length);
  }
  return same;
}

/* docker save */

static gboolean
has_tag (JsonObject *image, const char *reference)
{
  JsonArray *tags = array_of (member (image, "RepoTags"));
  for (guint i = 0; tags && i < json_array_get_length (tags); i++)
    if (g_strcmp0 (string_of (json_array_get_element (tags, i)), reference) == 0)
      return TRUE;
  return FALSE;
}

/* "HEX.json", "blobs/sha256/HEX", "sha256:HEX": the name says what it must be. NULL: another name. */
static char *
digest_of_name (const char *name)
{
  const char *slash = strrchr (name, '/'), *base = slash ? slash + 1 : name;
  base += g_str_has_prefix (base, "sha256:") ? strlen ("sha256:") : 0;
  g_autofree char *digest = g_strndup (base, strcspn (base, "."));
  g_autofree char *whole = g_strconcat ("sha256:", digest, NULL);
  return is_digest (whole) ? g_steal_pointer (&whole) : NULL;
}

static gboolean
read_saved (const BangerBlobs *blobs, JsonObject *saved, BangerOciImage *image, GError **error)
{
  const char *config = member_string (saved, "Config");
  JsonArray *layers = array_of (member (saved, "Layers"));
  g_autoptr (GPtrArray) diff_ids = g_ptr_array_new_with_free_func (g_free);
  if (!config || !layers)
    return bad (error, SAVED, "it names no configuration or no layers");
  g_autofree char *digest = digest_of_name (config);
  if (!read_config (blobs, config, digest, image, diff_ids, &image->digest, error))
    return FALSE;
  if (diff_ids->len != json_array_get_length (layers) || diff_ids->len > BANGER_OCI_MAX_LAYERS)
    return bad (error, SAVED, "it has another number of layers than its configuration, or too many");
  for (guint i = 0; i < diff_ids->len; i++) {
    const char *name = string_of (json_array_get_element (layers, i));
    if (!name)
      return bad (error, SAVED, "a layer's name is no text");
    BangerOciLayer *layer = g_new0 (BangerOciLayer, 1);
    *layer = (BangerOciLayer){ g_strdup (name), g_strdup (diff_ids->pdata[i]), TRUE, G_MAXUINT64 };
    g_ptr_array_add (image->layers, layer);
  }
  return TRUE;
}

gboolean
banger_oci_read_saved (const BangerBlobs *blobs, const char *reference, BangerOciImage *ret_image, GError **error)
{
  image_init (ret_image);
  g_autoptr (JsonParser) parser = read_json (blobs, SAVED, NULL, NULL, error);
  JsonArray *list = parser ? array_of (json_parser_get_root (parser)) : NULL;
  JsonObject *chosen = NULL;
  guint found = 0;
  if (!parser)
    return FALSE;
  for (guint i = 0; list && i < json_array_get_length (list); i++) {
    JsonObject *one = object_of (json_array_get_element (list, i));
    if (!one || (reference && !has_tag (one, reference)))
      continue;
    found++;
    chosen = one;
  }
  if (found == 1)
    return read_saved (blobs, chosen, ret_image, error);
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "there are %u images%s%.80s in the archive: %s", found,
                           reference ? " called " : "", reference ? reference : "",
                           found > 1 ? "say which one" : "save one with its tag");
}
