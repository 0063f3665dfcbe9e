/* The owner's own settings (~/.config/banger/config.toml).
 * Never fails as a whole: what is wrong is told with its line, and the default holds in its place. */
#include "common/config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/config-lists.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/size.h"
#include "common/toml.h"
#include "common/validate.h"
#include "common/vm-bounds.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)

/* clang-format off */
const BangerConfigKey banger_config_keys[] = {
  { "network", "dns-port", BANGER_CONFIG_NUMBER, G_STRUCT_OFFSET (BangerConfig, dns_port), 0, 65535, 42069, NULL, 1 },
  { "templates", "budget", BANGER_CONFIG_SIZE, G_STRUCT_OFFSET (BangerConfig, template_bytes),
    64 * MIB, BANGER_VM_MAX_DISK_BYTES, 8192 * MIB, NULL, 1 },
  { "templates", "warm", BANGER_CONFIG_WORD, G_STRUCT_OFFSET (BangerConfig, warm), 0, 0, 0, BANGER_WARM_AUTO, 0,
    BANGER_WARM_OFF },
  { "vm_defaults", "vcpu", BANGER_CONFIG_NUMBER, G_STRUCT_OFFSET (BangerConfig, vcpus),
    1, BANGER_VM_MAX_VCPUS, BANGER_VM_DEFAULT_VCPUS, NULL, 1 },
  { "vm_defaults", "memory", BANGER_CONFIG_SIZE, G_STRUCT_OFFSET (BangerConfig, memory_bytes),
    BANGER_VM_MIN_MEMORY_MIB * MIB, BANGER_VM_MAX_MEMORY_MIB * MIB, BANGER_VM_DEFAULT_MEMORY_MIB * MIB, NULL, MIB },
  { "vm_defaults", "disk-size", BANGER_CONFIG_SIZE, G_STRUCT_OFFSET (BangerConfig, disk_bytes),
    BANGER_VM_MIN_DISK_BYTES, BANGER_VM_MAX_DISK_BYTES, BANGER_VM_DEFAULT_DISK_BYTES, NULL, 1 },
  { "vm_defaults", "image", BANGER_CONFIG_NAME, G_STRUCT_OFFSET (BangerConfig, image), 0, 0, 0, "default", 0 },
  { "vm_defaults", "nat", BANGER_CONFIG_BOOL, G_STRUCT_OFFSET (BangerConfig, nat), 0, 1, TRUE, NULL, 0 },
  { NULL },
};
/* clang-format on */

static void
row_free (gpointer data)
{
  BangerConfigRow *row = data;
  g_free (row->key);
  g_free (row->value);
  g_free (row->from);
  g_free (row);
}

void
banger_config_free (BangerConfig *config)
{
  if (!config)
    return;
  banger_config_lists_free (config);
  g_ptr_array_unref (config->rows);
  g_free (config->image);
  g_free (config->warm);
  g_free (config->path);
  g_free (config->lines);
  g_ptr_array_unref (config->problems);
  g_free (config);
}

static BangerConfig *
config_new (const char *name)
{
  BangerConfig *config = g_new0 (BangerConfig, 1);
  config->path = g_strdup (name);
  config->problems = g_ptr_array_new_with_free_func (g_free);
  config->rows = g_ptr_array_new_with_free_func (row_free);
  banger_config_lists_new (config);
  config->lines = g_new0 (guint, G_N_ELEMENTS (banger_config_keys));
  for (const BangerConfigKey *key = banger_config_keys; key->table; key++)
    if (key->type == BANGER_CONFIG_NAME || key->type == BANGER_CONFIG_WORD)
      G_STRUCT_MEMBER (char *, config, key->offset) = g_strdup (key->text);
    else if (key->type == BANGER_CONFIG_BOOL)
      G_STRUCT_MEMBER (gboolean, config, key->offset) = key->number != 0;
    else
      G_STRUCT_MEMBER (guint64, config, key->offset) = key->number;
  return config;
}

static gboolean
read_size (BangerToml *toml, const BangerConfigKey *key, const char *name, gpointer where, GError **error)
{
  g_autofree char *text = NULL, *least = banger_size_format (key->min), *most = banger_size_format (key->max);
  g_autoptr (GError) why = NULL;
  guint64 bytes = 0;
  if (!banger_toml_get_string (toml, key->table, key->key, &text, error))
    return FALSE;
  gboolean read = banger_size_parse (text, &bytes, &why);
  if (read && bytes >= key->min && bytes <= key->max && bytes % key->step == 0) {
    *(guint64 *)where = bytes;
    return TRUE;
  }
  g_autofree char *step = banger_size_format (key->step);
  gboolean bare = read && bytes < key->min && text[strspn (text, G_CSET_DIGITS)] == '\0';
  g_autofree char *hint = bare ? g_strdup_printf ("; a number without a unit is bytes, \"%sG\" has one", text) : NULL;
  return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s.%s must be from %s to %s%s%s%s%s%s", name,
                           banger_toml_line (toml, key->table, key->key), key->table, key->key, least, most,
                           key->step > 1 ? ", a multiple of " : "", key->step > 1 ? step : "", read ? "" : ": ",
                           read ? "" : why->message, hint ? hint : "");
}

static gboolean
read_name (BangerToml *toml, const BangerConfigKey *key, const char *name, gpointer where, GError **error)
{
  g_autofree char *text = NULL;
  g_autoptr (GError) why = NULL;
  if (!banger_toml_get_string (toml, key->table, key->key, &text, error))
    return FALSE;
  if (!banger_name_check (text, key->key, &why))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s.%s: %s", name,
                             banger_toml_line (toml, key->table, key->key), key->table, key->key, why->message);
  g_free (*(char **)where);
  *(char **)where = g_steal_pointer (&text);
  return TRUE;
}

static gboolean
read_word (BangerToml *toml, const BangerConfigKey *key, const char *name, gpointer where, GError **error)
{
  g_autofree char *text = NULL;
  if (!banger_toml_get_string (toml, key->table, key->key, &text, error))
    return FALSE;
  if (strcmp (text, key->text) != 0 && strcmp (text, key->other) != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s, line %u: %s.%s must be \"%s\" or \"%s\"", name,
                             banger_toml_line (toml, key->table, key->key), key->table, key->key, key->text,
                             key->other);
  g_free (*(char **)where);
  *(char **)where = g_steal_pointer (&text);
  return TRUE;
}

/* Of a key that is there. */
static gboolean
read_key (BangerToml *toml, const BangerConfigKey *key, BangerConfig *config, GError **error)
{
  gpointer where = G_STRUCT_MEMBER_P (config, key->offset);
  switch (key->type) {
    case BANGER_CONFIG_NUMBER:
      return banger_toml_get_uint (toml, key->table, key->key, key->min, key->max, where, error);
    case BANGER_CONFIG_BOOL:
      return banger_toml_get_bool (toml, key->table, key->key, where, error);
    case BANGER_CONFIG_SIZE:
      return read_size (toml, key, config->path, where, error);
    case BANGER_CONFIG_WORD:
      return read_word (toml, key, config->path, where, error);
    case BANGER_CONFIG_NAME:
    default:
      return read_name (toml, key, config->path, where, error);
  }
}

BangerConfig *
banger_config_parse (const char *text, size_t length, const char *name)
{
  BangerConfig *config = config_new (name);
  g_autoptr (GError) broken = NULL;
  g_autoptr (BangerToml) toml = banger_toml_parse (text, length, name, &broken);
  if (!toml) {
    config->broken = TRUE;
    g_ptr_array_add (config->problems, g_strdup (broken->message));
    return config;
  }
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  for (const BangerConfigKey *key = banger_config_keys; key->table; key++) {
    g_autofree char *full = g_strconcat (key->table, ".", key->key, NULL);
    g_autoptr (GError) error = NULL;
    guint line = banger_toml_line (toml, key->table, key->key);
    g_strv_builder_add (builder, full);
    if (line > 0 && read_key (toml, key, config, &error))
      config->lines[key - banger_config_keys] = line;
    else if (line > 0)
      g_ptr_array_add (config->problems, g_strdup (error->message));
  }
  banger_config_lists_read (config, toml);
  banger_config_lists_known (toml, builder);
  g_auto (GStrv) known = g_strv_builder_end (builder);
  g_autoptr (GPtrArray) unknown = banger_toml_unknown_keys (toml, (const char *const *)known);
  for (guint i = 0; i < unknown->len; i++)
    g_ptr_array_add (config->problems, g_strdup (unknown->pdata[i]));
  return config;
}

/* O_NONBLOCK: it may be a pipe that nobody writes to. */
static gboolean
read_file (const char *path, char **ret_text, gsize *ret_length, GError **error)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  struct stat st;
  if (fd < 0 && errno == ENOENT) {
    *ret_text = g_strdup ("");
    return TRUE;
  }
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", path);
  if (!S_ISREG (st.st_mode) || st.st_size > BANGER_TOML_MAX_BYTES)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s is not a regular file of at most %d bytes", path,
                             BANGER_TOML_MAX_BYTES);
  g_autofree char *text = g_malloc ((gsize)BANGER_TOML_MAX_BYTES + 1);
  ssize_t n = banger_read_at (fd, text, (gsize)BANGER_TOML_MAX_BYTES + 1, 0);
  if (n < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", path);
  *ret_length = (gsize)n;
  *ret_text = g_steal_pointer (&text);
  return TRUE;
}

static char *
file_of (const char *path)
{
  return path ? g_strdup (path) : g_build_filename (g_get_user_config_dir (), "banger", "config.toml", NULL);
}

BangerConfig *
banger_config_unread (const char *path, const char *why)
{
  g_autofree char *own = file_of (path);
  BangerConfig *config = config_new (own);
  config->broken = TRUE;
  g_ptr_array_add (config->problems, g_strdup (why));
  return config;
}

BangerConfig *
banger_config_load (const char *path)
{
  g_autofree char *own = file_of (path);
  g_autofree char *text = NULL;
  g_autoptr (GError) error = NULL;
  gsize length = 0;
  if (read_file (own, &text, &length, &error))
    return banger_config_parse (text, length, own);
  return banger_config_unread (own, error->message);
}

/* With one decimal at most a size may be another one: then it is in bytes. */
static char *
format_size (guint64 bytes)
{
  char *text = banger_size_format (bytes);
  guint64 back = 0;
  if (banger_size_parse (text, &back, NULL) && back == bytes)
    return text;
  g_free (text);
  return g_strdup_printf ("%" G_GUINT64_FORMAT, bytes);
}

char *
banger_config_value (const BangerConfig *config, const BangerConfigKey *key)
{
  gconstpointer where = G_STRUCT_MEMBER_P (config, key->offset);
  g_autofree char *text = NULL;
  switch (key->type) {
    case BANGER_CONFIG_NUMBER:
      return g_strdup_printf ("%" G_GUINT64_FORMAT, *(const guint64 *)where);
    case BANGER_CONFIG_BOOL:
      return g_strdup (*(const gboolean *)where ? "true" : "false");
    case BANGER_CONFIG_SIZE:
      text = format_size (*(const guint64 *)where);
      break;
    case BANGER_CONFIG_WORD:
    case BANGER_CONFIG_NAME:
    default:
      text = g_strdup (*(char *const *)where);
  }
  return g_strconcat ("\"", text, "\"", NULL);
}

char *
banger_config_origin (const BangerConfig *config, const BangerConfigKey *key)
{
  guint line = config->lines[key - banger_config_keys];
  return line == 0 ? g_strdup ("default") : g_strdup_printf ("line %u", line);
}

GPtrArray *
banger_config_rows (const BangerConfig *config)
{
  GPtrArray *rows = g_ptr_array_new_with_free_func (row_free);
  for (const BangerConfigKey *key = banger_config_keys; key->table; key++) {
    BangerConfigRow *row = g_new0 (BangerConfigRow, 1);
    row->key = g_strconcat (key->table, ".", key->key, NULL);
    row->value = banger_config_value (config, key);
    row->from = banger_config_origin (config, key);
    g_ptr_array_add (rows, row);
  }
  for (guint i = 0; i < config->rows->len; i++) {
    const BangerConfigRow *from = config->rows->pdata[i];
    BangerConfigRow *row = g_new0 (BangerConfigRow, 1);
    *row = (BangerConfigRow){ g_strdup (from->key), g_strdup (from->value), g_strdup (from->from) };
    g_ptr_array_add (rows, row);
  }
  return rows;
}
