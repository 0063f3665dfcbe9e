/* An index of a kernel's modules by name, and the walk along their dependencies.
 * Never follows a circle, however a package is made. */
#include "intake/modules.h"

#include <string.h>

#include "common/error.h"
#include "intake/kernel-elf.h"
#include "intake/unpack.h"

#define MAX_DEPTH 16
#define MAX_VISITS 4096
#define MAX_MODULES 20000

/* virtio 1.2, section 5: device types. 0: needed whatever devices there are. */
enum { VIRTIO_ALWAYS = 0, VIRTIO_NET = 1, VIRTIO_BLOCK = 2, VIRTIO_CONSOLE = 3, VIRTIO_VSOCK = 19 };

static const struct {
  const char *name;
  guint virtio;
} needed[] = {
  { "virtio_mmio", VIRTIO_ALWAYS },
  { "crc32c_generic", VIRTIO_ALWAYS }, /* what a modular ext4 asks the crypto layer for */
  { "ext4", VIRTIO_ALWAYS },
  { "tcp_diag", VIRTIO_ALWAYS }, /* a guest that becomes another ends connections by it; no modprobe(8) would find it */
  { "virtio_blk", VIRTIO_BLOCK },
  { "virtio_net", VIRTIO_NET },
  { "vmw_vsock_virtio_transport", VIRTIO_VSOCK },
  { "virtio_console", VIRTIO_CONSOLE },
};

typedef struct {
  char *name; /* with '_' for '-' */
  char *path;
  char *file_name;
  BangerModuleInfo info;
  gboolean chosen, always;
  guint32 virtio; /* bit per type */
} Module;

struct BangerModuleIndex {
  GHashTable *by_name; /* name -> Module */
  GHashTable *by_path; /* path -> Module */
  GHashTable *builtin; /* names */
  GPtrArray *order;    /* chosen Modules */
  guint n_visits;
};

static void
module_free (gpointer data)
{
  Module *module = data;
  banger_module_info_clear (&module->info);
  g_free (module->name);
  g_free (module->path);
  g_free (module->file_name);
  g_free (module);
}

BangerModuleIndex *
banger_module_index_new (void)
{
  BangerModuleIndex *index = g_new0 (BangerModuleIndex, 1);
  index->by_name = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, module_free);
  index->by_path = g_hash_table_new (g_str_hash, g_str_equal);
  index->builtin = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  index->order = g_ptr_array_new ();
  return index;
}

void
banger_module_index_free (BangerModuleIndex *index)
{
  if (!index)
    return;
  g_ptr_array_unref (index->order);
  g_hash_table_unref (index->builtin);
  g_hash_table_unref (index->by_path);
  g_hash_table_unref (index->by_name);
  g_free (index);
}

/* "kernel/drivers/char/virtio-rng.ko.xz" -> "virtio_rng", or NULL. */
static char *
module_name (const char *path)
{
  static const char *const ends[] = { ".ko", ".ko.xz", ".ko.zst", ".ko.gz" };
  g_autofree char *base = g_path_get_basename (path);
  for (gsize i = 0; i < G_N_ELEMENTS (ends); i++) {
    if (!g_str_has_suffix (base, ends[i]))
      continue;
    char *name = g_strndup (base, strlen (base) - strlen (ends[i]));
    g_strdelimit (name, "-", '_');
    if (name[0] != '\0' && name[strspn (name, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "_")] == '\0')
      return name;
    g_free (name);
    return NULL;
  }
  return NULL;
}

gboolean
banger_module_is_path (const char *path)
{
  g_autofree char *name = module_name (path);
  return name != NULL;
}

gboolean
banger_module_index_add (BangerModuleIndex *index, const char *path, GBytes *data, GError **error)
{
  gsize length;
  g_autofree char *name = module_name (path);
  if (!name || g_hash_table_size (index->by_name) >= MAX_MODULES)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "'%s' is not a module, or there are too many", path);
  if (g_hash_table_contains (index->by_name, name))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "module %s is there twice", name);
  g_autoptr (GBytes) plain = NULL;
  if (!g_str_has_suffix (path, ".ko")) {
    gconstpointer packed = g_bytes_get_data (data, &length);
    plain = banger_unpack (packed, length, BANGER_MODULE_MAX, path, error);
    if (!plain)
      return FALSE;
    data = plain;
  }

  BangerModuleInfo info;
  const guint8 *bytes = g_bytes_get_data (data, &length);
  if (!banger_elf_read_module (bytes, length, &info, error)) {
    g_prefix_error (error, "%s: ", path);
    return FALSE;
  }
  Module *module = g_new0 (Module, 1);
  module->name = g_steal_pointer (&name);
  module->path = g_strdup (path);
  module->file_name = g_strconcat (module->name, ".ko", NULL);
  module->info = info;
  g_hash_table_insert (index->by_name, module->name, module);
  g_hash_table_insert (index->by_path, module->path, module);
  return TRUE;
}

void
banger_module_index_add_builtin (BangerModuleIndex *index, const char *text, gsize length)
{
  g_autofree char *copy = g_strndup (text, length);
  g_auto (GStrv) lines = g_strsplit (copy, "\n", -1);
  for (char **line = lines; *line; line++) {
    char *name = module_name (*line);
    if (name)
      g_hash_table_add (index->builtin, name);
  }
}

static gboolean
check_version (const Module *module, const char *version, GError **error)
{
  if (!version || g_strcmp0 (module->info.version, version) == 0)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "module %s is for kernel %s, not %s", module->name,
                           module->info.version ? module->info.version : "(unknown)", version);
}

static gboolean
choose (BangerModuleIndex *index, Module *module, guint virtio, const char *version, guint depth, GError **error)
{
  if (depth > MAX_DEPTH || ++index->n_visits > MAX_VISITS)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the modules that %s needs go in circles",
                             module->name);
  if (!check_version (module, version, error))
    return FALSE;
  for (char **depend = module->info.depends; *depend; depend++) {
    g_autofree char *name = g_strdelimit (g_strdup (*depend), "-", '_');
    Module *other = g_hash_table_lookup (index->by_name, name);
    if (!other && g_hash_table_contains (index->builtin, name))
      continue;
    if (!other)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "module %s needs %s, which is not there",
                               module->name, name);
    if (!choose (index, other, virtio, version, depth + 1, error))
      return FALSE;
  }
  if (!module->chosen)
    g_ptr_array_add (index->order, module);
  module->chosen = TRUE;
  module->always |= virtio == VIRTIO_ALWAYS;
  module->virtio |= 1u << virtio;
  return TRUE;
}

gboolean
banger_module_index_resolve (BangerModuleIndex *index, const char *version, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (needed); i++) {
    Module *module = g_hash_table_lookup (index->by_name, needed[i].name);
    if (module && !choose (index, module, needed[i].virtio, version, 0, error))
      return FALSE;
  }
  return TRUE;
}

gboolean
banger_module_index_has (BangerModuleIndex *index, const char *name)
{
  return g_hash_table_contains (index->by_name, name) || g_hash_table_contains (index->builtin, name);
}

guint
banger_module_index_n_chosen (BangerModuleIndex *index)
{
  return index->order->len;
}

const char *
banger_module_index_file_name (BangerModuleIndex *index, const char *path)
{
  Module *module = g_hash_table_lookup (index->by_path, path);
  return module && module->chosen ? module->file_name : NULL;
}

const char *
banger_module_index_chosen_name (BangerModuleIndex *index, guint i)
{
  return ((Module *)g_ptr_array_index (index->order, i))->file_name;
}

char *
banger_module_index_order (BangerModuleIndex *index)
{
  GString *text = g_string_new (NULL);
  for (guint i = 0; i < index->order->len; i++) {
    Module *module = g_ptr_array_index (index->order, i);
    g_string_append (text, module->file_name);
    const char *separator = " virtio:";
    for (guint type = 1; type < 32 && !module->always; type++)
      if (module->virtio & (1u << type)) {
        g_string_append_printf (text, "%s%u", separator, type);
        separator = ",";
      }
    g_string_append_c (text, '\n');
  }
  return g_string_free (text, FALSE);
}
