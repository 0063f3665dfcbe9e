/* A catalog, parsed: a table of members, and a table of sources.
 * Never passes over what it does not know. */
#include "manager/fetch/catalog.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "common/error.h"
#include "common/json-depth.h"
#include "common/log.h"
#include "common/validate.h"
#include "manager/fetch/apt.h"
#include "manager/fetch/registry.h"

#define MAX_SOURCE 512u
#define MAX_SUITE 32u
#define MAX_SIZE ((gint64)1 << 40)
#define VERSION_MEMBER "banger-catalog"

static gboolean
is_suite (const char *name)
{
  gsize length = strlen (name);
  return length > 0 && length <= MAX_SUITE && g_ascii_islower (name[0])
         && strspn (name, G_CSET_a_2_z G_CSET_DIGITS "-") == length;
}

static gboolean
is_package (const char *name)
{
  return banger_kernel_check_package (name, NULL);
}

/* What a catalog may name, which is never a file. The words are those of the rows that make it. */
static const struct {
  BangerCatalogClass class;
  const char *word, *kind;
  gboolean (*check) (const char *what);
} sources[] = {
  { BANGER_CATALOG_IMAGES, "debian", "mmdebstrap", is_suite },
  { BANGER_CATALOG_IMAGES, "docker", "registry", banger_registry_is_reference },
  { BANGER_CATALOG_KERNELS, "apt", "apt", is_package },
};

static const char *const members[BANGER_N_CATALOG_CLASSES] = { "images", "kernels" };

static void
entry_free (gpointer data)
{
  BangerCatalogEntry *entry = data;
  g_free (entry->name);
  g_free (entry->word);
  g_free (entry->what);
  g_free (entry->summary);
  g_free (entry);
}

void
banger_catalog_free (BangerCatalog *catalog)
{
  if (!catalog)
    return;
  for (guint class = 0; class < BANGER_N_CATALOG_CLASSES; class ++)
    g_ptr_array_unref (catalog->entries[class]);
  g_free (catalog);
}

const BangerCatalogEntry *
banger_catalog_find (const BangerCatalog *catalog, BangerCatalogClass class, const char *name)
{
  for (guint i = 0; i < catalog->entries[class]->len; i++) {
    const BangerCatalogEntry *entry = catalog->entries[class]->pdata[i];
    if (g_str_equal (entry->name, name))
      return entry;
  }
  return NULL;
}

gboolean
banger_catalog_may_name (const char *name)
{
  return banger_new_name_check (name, "catalog", NULL);
}

/* Reading */

typedef struct {
  const char *name;   /* of the catalog */
  const char *member; /* "images" */
  BangerCatalogClass class;
  guint index;
  BangerCatalogEntry *entry;
} Reader;

static gboolean
bad (const Reader *at, GError **error, const char *what, const char *value)
{
  g_autofree char *shown = banger_log_escape (value, 80);
  return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: %s[%u]: %s%s%s%s", at->name, at->member, at->index,
                           what, *value != '\0' ? " \"" : "", shown, *value != '\0' ? "\"" : "");
}

static const char *
string_of (JsonNode *node)
{
  return JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_STRING ? json_node_get_string (node)
                                                                                          : NULL;
}

static gboolean
read_name (const Reader *at, JsonNode *node, GError **error)
{
  const char *name = string_of (node);
  if (!name || !banger_catalog_may_name (name))
    return bad (at, error, "nothing can be called that, 1 to 63 of a-z, 0-9 and -:", name ? name : "(not a string)");
  at->entry->name = g_strdup (name);
  return TRUE;
}

static gboolean
read_source (const Reader *at, JsonNode *node, GError **error)
{
  const char *source = string_of (node), *colon = source ? strchr (source, ':') : NULL;
  if (!colon || strlen (source) > MAX_SOURCE)
    return bad (at, error, "no source:", source ? source : "(not a string)");
  g_autofree char *word = g_strndup (source, (gsize)(colon - source));
  for (gsize i = 0; i < G_N_ELEMENTS (sources); i++)
    if (sources[i].class == at->class && g_str_equal (sources[i].word, word) && sources[i].check (colon + 1)) {
      at->entry->kind = sources[i].kind;
      at->entry->word = g_steal_pointer (&word);
      at->entry->what = g_strdup (colon + 1);
      return TRUE;
    }
  return bad (at, error, "no source that a catalog may have:", source);
}

static gboolean
read_summary (const Reader *at, JsonNode *node, GError **error)
{
  const char *text = string_of (node);
  if (!text || strlen (text) > BANGER_CATALOG_MAX_SUMMARY)
    return bad (at, error, "summary: a text of at most 200 bytes is needed", "");
  for (const char *c = text; *c != '\0'; c = g_utf8_next_char (c))
    if (!banger_log_is_plain (g_utf8_get_char (c)))
      return bad (at, error, "summary: it has what cannot be printed:", text);
  at->entry->summary = g_strdup (text);
  return TRUE;
}

static gboolean
read_size (const Reader *at, JsonNode *node, GError **error)
{
  gint64 size = JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_INT64
                    ? json_node_get_int (node)
                    : 0;
  if (size < 1 || size > MAX_SIZE)
    return bad (at, error, "size: bytes, from 1 to 1 TiB, are needed", "");
  at->entry->size_bytes = (guint64)size;
  return TRUE;
}

static const struct {
  const char *member;
  gboolean needed;
  gboolean (*read) (const Reader *at, JsonNode *node, GError **error);
} entry_members[] = {
  { "name", TRUE, read_name },
  { "source", TRUE, read_source },
  { "summary", FALSE, read_summary },
  { "size", FALSE, read_size },
};

static gboolean
check_entry_members (const Reader *at, JsonObject *object, GError **error)
{
  g_autoptr (GList) names = json_object_get_members (object);
  for (GList *name = names; name; name = name->next) {
    gboolean known = FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS (entry_members); i++)
      known |= g_str_equal (entry_members[i].member, name->data);
    if (!known)
      return bad (at, error, "it has a member that is not known:", name->data);
  }
  return TRUE;
}

static gboolean
read_entry (Reader *at, JsonNode *node, GError **error)
{
  if (!JSON_NODE_HOLDS_OBJECT (node))
    return bad (at, error, "not an object", "");
  JsonObject *object = json_node_get_object (node);
  if (!check_entry_members (at, object, error))
    return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (entry_members); i++) {
    JsonNode *member = json_object_get_member (object, entry_members[i].member);
    if (!member && entry_members[i].needed)
      return bad (at, error, "it lacks", entry_members[i].member);
    if (member && !entry_members[i].read (at, member, error))
      return FALSE;
  }
  if (!at->entry->summary)
    at->entry->summary = g_strdup ("");
  return TRUE;
}

static gboolean
read_entries (Reader *at, JsonNode *node, BangerCatalog *catalog, GError **error)
{
  g_autoptr (GHashTable) names = g_hash_table_new (g_str_hash, g_str_equal);
  JsonArray *array = JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
  if (!array || json_array_get_length (array) > BANGER_CATALOG_MAX_ENTRIES)
    return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: %s is not a list of at most %u", at->name,
                             at->member, BANGER_CATALOG_MAX_ENTRIES);
  for (at->index = 0; at->index < json_array_get_length (array); at->index++) {
    at->entry = g_new0 (BangerCatalogEntry, 1);
    g_ptr_array_add (catalog->entries[at->class], at->entry);
    if (!read_entry (at, json_array_get_element (array, at->index), error))
      return FALSE;
    if (!g_hash_table_add (names, at->entry->name))
      return bad (at, error, "this name is there twice:", at->entry->name);
  }
  return TRUE;
}

static gboolean
read_version (const char *name, JsonNode *node, GError **error)
{
  gint64 version = node && JSON_NODE_HOLDS_VALUE (node) && json_node_get_value_type (node) == G_TYPE_INT64
                       ? json_node_get_int (node)
                       : 0;
  return version == BANGER_CATALOG_VERSION
         || banger_set_error (error, BANGER_ERROR_INVALID_CATALOG,
                              "%s: it is no catalog of version %d (\"" VERSION_MEMBER
                              "\": %d), which is the one that is "
                              "known here",
                              name, BANGER_CATALOG_VERSION, BANGER_CATALOG_VERSION);
}

/* Returns: BANGER_N_CATALOG_CLASSES: none. */
static BangerCatalogClass
class_named (const char *member)
{
  guint found = 0;
  for (guint i = 0; i < BANGER_N_CATALOG_CLASSES && !g_str_equal (members[i], member); i++)
    found = i + 1;
  return found;
}

static gboolean
read_catalog (JsonObject *root, const char *name, BangerCatalog *catalog, GError **error)
{
  g_autoptr (GList) names = json_object_get_members (root);
  if (!read_version (name, json_object_get_member (root, VERSION_MEMBER), error))
    return FALSE;
  for (GList *each = names; each; each = each->next) {
    Reader at = { .name = name, .member = each->data, .class = class_named (each->data) };
    if (at.class < BANGER_N_CATALOG_CLASSES
        && !read_entries (&at, json_object_get_member (root, each->data), catalog, error))
      return FALSE;
    if (at.class == BANGER_N_CATALOG_CLASSES && !g_str_equal (each->data, VERSION_MEMBER)) {
      g_autofree char *shown = banger_log_escape (each->data, 80);
      return banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: it has a member that is not known: \"%s\"",
                               name, shown);
    }
  }
  return TRUE;
}

static JsonParser *
parse (GBytes *text, const char *name, GError **error)
{
  gsize length = 0;
  const char *bytes = g_bytes_get_data (text, &length);
  g_autoptr (JsonParser) parser = json_parser_new_immutable ();
  g_autoptr (GError) why = NULL;
  const char *what = NULL;
  if (length == 0 || length > BANGER_CATALOG_MAX_BYTES)
    what = "it is empty, or has more than 1 MiB";
  else if (!g_utf8_validate_len (bytes, length, NULL)) /* nor with a NUL in it */
    what = "it is not UTF-8 text";
  else if (!banger_json_depth_ok (bytes, length))
    what = "its brackets stand deeper than 64";
  else if (!json_parser_load_from_data (parser, bytes, (gssize)length, &why))
    what = why->message;
  else if (!json_parser_get_root (parser) || !JSON_NODE_HOLDS_OBJECT (json_parser_get_root (parser)))
    what = "it is not a JSON object";
  if (!what)
    return g_steal_pointer (&parser);
  g_autofree char *shown = banger_log_escape (what, 200);
  banger_set_error (error, BANGER_ERROR_INVALID_CATALOG, "%s: %s", name, shown);
  return NULL;
}

BangerCatalog *
banger_catalog_parse (GBytes *text, const char *name, GError **error)
{
  g_autoptr (JsonParser) parser = parse (text, name, error);
  if (!parser)
    return NULL;
  g_autoptr (BangerCatalog) catalog = g_new0 (BangerCatalog, 1);
  for (guint class = 0; class < BANGER_N_CATALOG_CLASSES; class ++)
    catalog->entries[class] = g_ptr_array_new_with_free_func (entry_free);
  JsonObject *root = json_node_get_object (json_parser_get_root (parser));
  return read_catalog (root, name, catalog, error) ? g_steal_pointer (&catalog) : NULL;
}
