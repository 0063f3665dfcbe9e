/* Lists of tables in config.toml, a row for each kind.
 * Never leaves out a bad entry without a word, nor the good ones beside it. */
#include "common/config-lists.h"

#include <gio/gio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "common/log.h"

#define MAX_ENTRIES 64
#define SHOWN 200
#define PATTERN "abcdefghijklmnopqrstuvwxyz0123456789-*?"

typedef struct {
  BangerToml *toml;
  const char *name; /* of the file */
  char *table;      /* "file_sync[2]" */
  guint number, line;
} Entry;

typedef struct {
  const char *name;
  const char *const *keys;
  size_t offset; /* of the GPtrArray in a BangerConfig */
  /* With an error, too: it is bad, and stays. */
  gpointer (*read) (const Entry *entry, GError **error);
  GDestroyNotify free;
} List;

/* @key: NULL: of the entry as a whole. */
G_GNUC_PRINTF (4, 5) static gboolean bad (const Entry *entry, const char *key, GError **error, const char *format, ...)
{
  va_list arguments;
  va_start (arguments, format);
  g_autofree char *why = g_strdup_vprintf (format, arguments);
  va_end (arguments);
  guint line = key ? banger_toml_line (entry->toml, entry->table, key) : entry->line;
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s%s%s %s", entry->name, line, entry->table,
                           key ? "." : "", key ? key : ":", why);
}

/* Paths */

static gboolean
is_clean (const char *path)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **part = parts; *part; part++)
    if (strcmp (*part, "..") == 0)
      return FALSE;
  for (const char *p = path; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f)
      return FALSE;
  return strlen (path) < PATH_MAX;
}

/* Without "." and doubled slashes. */
static char *
tidy (const char *path)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  g_autoptr (GString) text = g_string_new (NULL);
  for (char **part = parts; *part; part++)
    if (**part && strcmp (*part, ".") != 0)
      g_string_append_printf (text, "%s%s", text->len > 0 ? "/" : "", *part);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

char *
banger_config_below_home (const char *text, const char *home, GError **error)
{
  gsize length = strlen (home);
  const char *rest = text;
  if (g_str_equal (text, "~") || g_str_has_prefix (text, "~/"))
    rest = text + 1;
  else if (length > 1 && g_str_has_prefix (text, home) && (text[length] == '/' || text[length] == '\0'))
    rest = text + length;
  else if (text[0] == '/' || text[0] == '~') {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it is outside of the home folder");
    return NULL;
  }
  if (!is_clean (rest)) {
    banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it has '..' or a control character, or is too long");
    return NULL;
  }
  g_autofree char *below = tidy (rest);
  if (*below)
    return g_steal_pointer (&below);
  banger_set_error (error, BANGER_ERROR_INVALID_PATH, "it is the whole home folder: name what is to be in the guest");
  return NULL;
}

/* Returns: (transfer full): below the home folder; NULL with error. */
static char *
read_home_path (const Entry *entry, const char *key, GError **error)
{
  g_autofree char *text = NULL;
  g_autoptr (GError) why = NULL;
  if (!banger_toml_get_string (entry->toml, entry->table, key, &text, error))
    return NULL;
  char *below = banger_config_below_home (text, g_get_home_dir (), &why);
  g_autofree char *shown = banger_log_escape (text, SHOWN);
  if (!below)
    bad (entry, key, error, "'%s': %s", shown, why->message);
  return below;
}

/* file_sync */

static void
file_sync_free (gpointer data)
{
  BangerFileSync *sync = data;
  g_free (sync->source);
  g_free (sync->target);
  g_free (sync);
}

static gboolean
read_target (const Entry *entry, BangerFileSync *sync, GError **error)
{
  g_autofree char *text = NULL;
  if (!banger_toml_get_string (entry->toml, entry->table, "target", &text, error))
    return FALSE;
  if (!text)
    text = g_strconcat ("/root/", sync->source, NULL);
  g_autofree char *shown = banger_log_escape (text, SHOWN), *rest = is_clean (text) ? tidy (text) : NULL;
  if (text[0] != '/' || !rest || !*rest)
    return bad (entry, "target", error, "'%s': an absolute path in the guest is needed, without '..'", shown);
  sync->target = g_strconcat ("/", rest, NULL);
  return TRUE;
}

static gboolean
read_mode (const Entry *entry, int *ret, GError **error)
{
  g_autofree char *text = NULL;
  if (!banger_toml_get_string (entry->toml, entry->table, "mode", &text, error))
    return FALSE;
  if (!text)
    return TRUE;
  gsize digits = strspn (text, "01234567");
  if (digits == 0 || digits > 4 || text[digits] || strtoul (text, NULL, 8) > 0777)
    return bad (entry, "mode", error, "must be from \"0\" to \"0777\", in octal digits");
  *ret = (int)strtoul (text, NULL, 8);
  return TRUE;
}

static gpointer
read_file_sync (const Entry *entry, GError **error)
{
  BangerFileSync *sync = g_new0 (BangerFileSync, 1);
  sync->number = entry->number;
  sync->mode = -1;
  gboolean ok = banger_toml_line (entry->toml, entry->table, "source") > 0
                || bad (entry, NULL, error, "source is missing: what of the home folder is to be in the guest");
  if (ok && (sync->source = read_home_path (entry, "source", error)) && read_target (entry, sync, error)
      && read_mode (entry, &sync->mode, error))
    return sync;
  file_sync_free (sync);
  return NULL;
}

/* catalog */

#define MAX_URL 2048u
#define KEY_LENGTH 56u
#define SHA256_LENGTH 64u

static void
catalog_free (gpointer data)
{
  BangerConfigCatalog *catalog = data;
  g_free (catalog->file);
  g_free (catalog->url);
  g_free (catalog->key);
  g_free (catalog->sha256);
  g_free (catalog->problem);
  g_free (catalog);
}

static gboolean
is_catalog_file (const char *text)
{
  return (g_path_is_absolute (text) || g_str_has_prefix (text, "~/")) && is_clean (text);
}

/* Whoever it is fetched from is asked for exactly that: no space, no control character, no fragment. */
static gboolean
is_catalog_url (const char *text)
{
  const char *host = g_str_has_prefix (text, "https://")  ? text + strlen ("https://")
                     : g_str_has_prefix (text, "http://") ? text + strlen ("http://")
                                                          : "";
  for (const char *c = text; *c != '\0'; c++)
    if (!g_ascii_isgraph (*c) || *c == '#')
      return FALSE;
  return g_ascii_isalnum (*host) && strlen (text) <= MAX_URL;
}

static gboolean
is_minisign_key (const char *text)
{
  return strlen (text) == KEY_LENGTH && strspn (text, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "+/") == KEY_LENGTH;
}

static gboolean
is_sha256 (const char *text)
{
  return strlen (text) == SHA256_LENGTH && strspn (text, G_CSET_DIGITS "abcdef") == SHA256_LENGTH;
}

static const struct {
  const char *key;
  size_t offset;
  gboolean (*check) (const char *text);
  const char *what;
} catalog_values[] = {
  { "file", G_STRUCT_OFFSET (BangerConfigCatalog, file), is_catalog_file,
    "an absolute path, or one that begins with ~/, without '..'" },
  { "url", G_STRUCT_OFFSET (BangerConfigCatalog, url), is_catalog_url, "a URL that begins with https:// or http://" },
  { "key", G_STRUCT_OFFSET (BangerConfigCatalog, key), is_minisign_key, "a public key of minisign's: 56 characters" },
  { "sha256", G_STRUCT_OFFSET (BangerConfigCatalog, sha256), is_sha256, "64 hex digits, as sha256sum prints them" },
};

static gboolean
read_catalog_values (const Entry *entry, BangerConfigCatalog *catalog, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (catalog_values); i++) {
    char **where = G_STRUCT_MEMBER_P (catalog, catalog_values[i].offset);
    if (!banger_toml_get_string (entry->toml, entry->table, catalog_values[i].key, where, error))
      return FALSE;
    if (*where && !catalog_values[i].check (*where))
      return bad (entry, catalog_values[i].key, error, "must be %s", catalog_values[i].what);
  }
  if (!catalog->file == !catalog->url)
    return bad (entry, NULL, error, "a file or a url is needed, and not both");
  return !catalog->key || !catalog->sha256 || bad (entry, NULL, error, "a key or a sha256, not both");
}

/* One that is bad stays, as one that cannot be used: what it has is not to be had from the next one. */
static gpointer
read_catalog (const Entry *entry, GError **error)
{
  BangerConfigCatalog *catalog = g_new0 (BangerConfigCatalog, 1);
  g_autoptr (GError) why = NULL;
  if (!read_catalog_values (entry, catalog, &why)) {
    catalog->problem = g_strdup (why->message);
    g_propagate_error (error, g_steal_pointer (&why));
  } else if (catalog->file && *catalog->file == '~') {
    char *path = g_build_filename (g_get_home_dir (), catalog->file + 2, NULL);
    g_free (catalog->file);
    catalog->file = path;
  }
  return catalog;
}

/* setup */

static void
setup_free (gpointer data)
{
  BangerSetup *setup = data;
  g_free (setup->script);
  g_free (setup->run);
  g_strfreev (setup->images);
  g_free (setup);
}

gboolean
banger_config_fits (char **patterns, const char *name)
{
  gboolean fits = !patterns;
  for (char **pattern = patterns; pattern && *pattern && !fits; pattern++)
    fits = g_pattern_match_simple (*pattern, name);
  return fits;
}

static gboolean
read_patterns (const Entry *entry, const char *key, char ***ret, GError **error)
{
  if (!banger_toml_get_strv (entry->toml, entry->table, key, ret, error))
    return FALSE;
  for (char **pattern = *ret; pattern && *pattern; pattern++)
    if (!**pattern || strlen (*pattern) > 63 || (*pattern)[strspn (*pattern, PATTERN)]) {
      g_autofree char *shown = banger_log_escape (*pattern, SHOWN);
      return bad (entry, key, error, "'%s': a name is needed, or a pattern of names with '*' and '?'", shown);
    }
  return TRUE;
}

static gboolean
read_what_runs (const Entry *entry, BangerSetup *setup, GError **error)
{
  gboolean script = banger_toml_line (entry->toml, entry->table, "script") > 0,
           run = banger_toml_line (entry->toml, entry->table, "run") > 0;
  if (script == run)
    return bad (entry, NULL, error, "give script, a file of the home folder, or run, its text: one of them");
  if (script)
    return (setup->script = read_home_path (entry, "script", error)) != NULL;
  if (!banger_toml_get_string (entry->toml, entry->table, "run", &setup->run, error))
    return FALSE;
  return (*setup->run && strlen (setup->run) <= BANGER_SETUP_MAX_BYTES)
         || bad (entry, "run", error, "must be from 1 to %d bytes", BANGER_SETUP_MAX_BYTES);
}

static gpointer
read_setup (const Entry *entry, GError **error)
{
  BangerSetup *setup = g_new0 (BangerSetup, 1);
  setup->number = entry->number;
  if (read_what_runs (entry, setup, error) && read_patterns (entry, "images", &setup->images, error))
    return setup;
  setup_free (setup);
  return NULL;
}

/* publish */

static void
publish_free (gpointer data)
{
  BangerPublish *publish = data;
  g_free (publish->forward);
  g_strfreev (publish->images);
  g_strfreev (publish->names);
  g_free (publish);
}

/* As a forwarded port is recorded. Whether this host has that address is found out when somebody is to listen there. */
static gboolean
read_forward (const Entry *entry, BangerPublish *publish, GError **error)
{
  guint64 port = 0, guest_port = 0;
  g_autofree char *text = NULL;
  if (!banger_toml_get_uint (entry->toml, entry->table, "port", 1, G_MAXUINT16, &port, error)
      || !banger_toml_get_uint (entry->toml, entry->table, "guest_port", 1, G_MAXUINT16, &guest_port, error)
      || !banger_toml_get_string (entry->toml, entry->table, "address", &text, error))
    return FALSE;
  if (port == 0)
    return bad (entry, NULL, error, "port is missing: the one of this host");
  g_autoptr (GInetAddress) address = g_inet_address_new_from_string (text ? text : "127.0.0.1");
  g_autofree char *shown = text ? banger_log_escape (text, SHOWN) : NULL;
  if (!address)
    return bad (entry, "address", error, "'%s': an address of this host is needed, as numbers", shown);
  g_autofree char *numbers = g_inet_address_to_string (address);
  gboolean six = g_inet_address_get_family (address) == G_SOCKET_FAMILY_IPV6;
  publish->forward = g_strdup_printf ("%s%s%s:%u:%u", six ? "[" : "", numbers, six ? "]" : "", (guint)port,
                                      (guint)(guest_port ? guest_port : port));
  return TRUE;
}

static gpointer
read_publish (const Entry *entry, GError **error)
{
  BangerPublish *publish = g_new0 (BangerPublish, 1);
  publish->number = entry->number;
  if (read_forward (entry, publish, error) && read_patterns (entry, "images", &publish->images, error)
      && read_patterns (entry, "names", &publish->names, error))
    return publish;
  publish_free (publish);
  return NULL;
}

/* The table */

static const char *const file_sync_keys[] = { "source", "target", "mode", NULL };
static const char *const publish_keys[] = { "port", "guest_port", "address", "images", "names", NULL };
static const char *const setup_keys[] = { "script", "run", "images", NULL };

static const char *const catalog_keys[] = { "file", "url", "key", "sha256", NULL };

static const List lists[] = {
  { "catalog", catalog_keys, G_STRUCT_OFFSET (BangerConfig, catalogs), read_catalog, catalog_free },
  { "file_sync", file_sync_keys, G_STRUCT_OFFSET (BangerConfig, file_sync), read_file_sync, file_sync_free },
  { "publish", publish_keys, G_STRUCT_OFFSET (BangerConfig, publish), read_publish, publish_free },
  { "setup", setup_keys, G_STRUCT_OFFSET (BangerConfig, setup), read_setup, setup_free },
};

void
banger_config_lists_new (BangerConfig *config)
{
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
    G_STRUCT_MEMBER (GPtrArray *, config, lists[i].offset) = g_ptr_array_new_with_free_func (lists[i].free);
}

void
banger_config_lists_free (BangerConfig *config)
{
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
    g_ptr_array_unref (G_STRUCT_MEMBER (GPtrArray *, config, lists[i].offset));
}

static Entry
entry_of (BangerToml *toml, const List *list, guint number, const char *name)
{
  return (Entry){ .toml = toml,
                  .name = name,
                  .table = g_strdup_printf ("%s[%u]", list->name, number),
                  .number = number,
                  .line = banger_toml_list_line (toml, list->name, number) };
}

static void
add_known (GStrvBuilder *known, const List *list, const char *table)
{
  for (const char *const *key = list->keys; *key; key++) {
    g_autofree char *full = g_strconcat (table, ".", *key, NULL);
    g_strv_builder_add (known, full);
  }
}

/* [setup] for [[setup]]: nothing of it is used. */
static void
look_for_single (BangerConfig *config, BangerToml *toml, const List *list)
{
  for (const char *const *key = list->keys; *key; key++) {
    guint line = banger_toml_line (toml, list->name, *key);
    if (line == 0)
      continue;
    g_ptr_array_add (config->problems, g_strdup_printf ("%s, line %u: '%s.%s' is not a known setting: %s is a list, "
                                                        "each entry of which begins with [[%s]]",
                                                        config->path, line, list->name, *key, list->name, list->name));
    break;
  }
}

void
banger_config_lists_known (BangerToml *toml, GStrvBuilder *known)
{
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++) {
    add_known (known, &lists[i], lists[i].name); /* told by look_for_single() */
    for (guint n = 1; n <= banger_toml_list_length (toml, lists[i].name); n++) {
      g_autofree char *table = g_strdup_printf ("%s[%u]", lists[i].name, n);
      add_known (known, &lists[i], table);
    }
  }
}

static void
add_rows (BangerConfig *config, const Entry *entry, const List *list)
{
  for (const char *const *key = list->keys; *key; key++) {
    guint line = banger_toml_line (entry->toml, entry->table, *key);
    g_autofree char *value = line > 0 ? banger_toml_format (entry->toml, entry->table, *key) : NULL;
    if (!value)
      continue;
    BangerConfigRow *row = g_new0 (BangerConfigRow, 1);
    row->key = g_strdup_printf ("%s.%s", entry->table, *key);
    row->value = banger_log_escape (value, SHOWN);
    row->from = g_strdup_printf ("line %u", line);
    g_ptr_array_add (config->rows, row);
  }
}

void
banger_config_lists_read (BangerConfig *config, BangerToml *toml)
{
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++) {
    guint n = banger_toml_list_length (toml, lists[i].name);
    look_for_single (config, toml, &lists[i]);
    for (guint number = 1; number <= n; number++) {
      g_autoptr (GError) error = NULL;
      Entry entry = entry_of (toml, &lists[i], number, config->path);
      g_autofree char *table = entry.table;
      gpointer good = number <= MAX_ENTRIES || bad (&entry, NULL, &error, "more than %d there cannot be", MAX_ENTRIES)
                          ? lists[i].read (&entry, &error)
                          : NULL;
      if (good) {
        g_ptr_array_add (G_STRUCT_MEMBER (GPtrArray *, config, lists[i].offset), good);
        add_rows (config, &entry, &lists[i]);
      }
      if (error)
        g_ptr_array_add (config->problems, g_strdup (error->message));
      if (number > MAX_ENTRIES)
        break;
    }
  }
}
