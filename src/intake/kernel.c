/* From a kernel package or file to vmlinux and initrd.
 * Never opens anything, never runs what it reads. */
#include "intake/kernel.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cpio.h"
#include "common/guest-protocol.h"
#include "intake/bzimage.h"
#include "intake/kernel-elf.h"
#include "intake/kernel-features.h"
#include "intake/modules.h"
#include "intake/tree.h"
#include "intake/unpack.h"

#define BUILTIN_MAX (4u << 20)
#define CONFIG_MAX (4u << 20)

typedef struct {
  const BangerIntakeEnds *ends;
  gboolean package;
  int modules_fd;                    /* a tar of them; -1: none, or in the package */
  double progress_from, progress_to; /* of the walk under way */
  BangerModuleIndex *index;
  GBytes *image;       /* vmlinuz of the package, or the file itself */
  char *image_version; /* from its name in the package */
  char *config;        /* of the package or in the kernel itself; NULL: it is not known */
  GHashTable *modules; /* file name -> GBytes, not compressed */
  gboolean collecting;
} Import;

static void
on_walk_progress (double fraction, gpointer data)
{
  const Import *import = data;
  double width = import->progress_to - import->progress_from;
  banger_intake_say_progress (import->ends->answer_fd, import->progress_from + CLAMP (fraction, 0, 1) * width);
}

/* First pass: the kernel, the list of what is built in, and what each module needs. */
static gboolean
index_file (Import *import, const char *path, BangerTreeFile *file, GError **error)
{
  static const char boot[] = "boot/vmlinuz-", config[] = "boot/config-";
  if (import->package && g_str_has_prefix (path, boot)) {
    if (import->image)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds more than one kernel");
    import->image = banger_tree_file_read (file, BANGER_BZIMAGE_MAX, error);
    import->image_version = g_strdup (path + strlen (boot));
    return import->image != NULL;
  }
  if (import->package && g_str_has_prefix (path, config) && !import->config) {
    gsize length;
    g_autoptr (GBytes) text = banger_tree_file_read (file, CONFIG_MAX, error);
    const char *data = text ? g_bytes_get_data (text, &length) : NULL;
    import->config = data ? g_strndup (data, length) : NULL;
    return text != NULL;
  }
  if (g_str_has_suffix (path, "modules.builtin")) {
    gsize length;
    g_autoptr (GBytes) text = banger_tree_file_read (file, BUILTIN_MAX, error);
    if (!text)
      return FALSE;
    const char *data = g_bytes_get_data (text, &length);
    banger_module_index_add_builtin (import->index, data, length);
    return TRUE;
  }
  if (!banger_module_is_path (path))
    return TRUE;
  g_autoptr (GBytes) module = banger_tree_file_read (file, BANGER_MODULE_MAX, error);
  return module && banger_module_index_add (import->index, path, module, error);
}

static gboolean
collect_file (Import *import, const char *path, BangerTreeFile *file, gboolean *ret_stop, GError **error)
{
  const char *name = banger_module_index_file_name (import->index, path);
  if (!name)
    return TRUE;
  g_autoptr (GBytes) bytes = banger_tree_file_read (file, BANGER_MODULE_MAX, error);
  if (!bytes)
    return FALSE;
  gsize length;
  gconstpointer data = g_bytes_get_data (bytes, &length);
  GBytes *plain = g_str_has_suffix (path, ".ko") ? g_bytes_ref (bytes)
                                                 : banger_unpack (data, length, BANGER_MODULE_MAX, path, error);
  if (!plain)
    return FALSE;
  g_hash_table_insert (import->modules, g_strdup (name), plain);
  *ret_stop = g_hash_table_size (import->modules) == banger_module_index_n_chosen (import->index);
  return TRUE;
}

static gboolean
on_file (const char *path, BangerTreeFile *file, gpointer data, gboolean *ret_stop, GError **error)
{
  Import *import = data;
  return import->collecting ? collect_file (import, path, file, ret_stop, error)
                            : index_file (import, path, file, error);
}

static gboolean
walk (Import *import, double from, double to, GError **error)
{
  const BangerTreeWalk tree = { on_file, on_walk_progress, import };
  import->progress_from = from;
  import->progress_to = to;
  if (import->package)
    return banger_tree_walk_deb (import->ends->source_fd, &tree, error);
  return import->modules_fd < 0 || banger_tree_walk_tar (import->modules_fd, &tree, error);
}

static gboolean
take_version (Import *import, const guint8 *data, gsize length, BangerIntakeResult *result, GError **error)
{
  g_autofree char *version = banger_elf_kernel_version (data, length);
  if (!version)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the file does not tell its version; it is no Linux kernel");
  if (import->image_version && !g_str_equal (version, import->image_version))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package says kernel %s, the kernel itself %s",
                             import->image_version, version);
  if (strlen (version) >= sizeof result->version)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the kernel's version %s is too long", version);
  g_strlcpy (result->version, version, sizeof result->version);
  return TRUE;
}

static gboolean
has_module (gpointer data, const char *name)
{
  return banger_module_index_has (data, name);
}

static gboolean
check_features (Import *import, const guint8 *data, gsize length, GError **error)
{
  g_autoptr (GPtrArray) warnings = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *own = banger_kernel_config (data, length);
  if (!banger_kernel_features_check (data, length, own ? own : import->config, has_module, import->index, warnings,
                                     error))
    return FALSE;
  for (guint i = 0; i < warnings->len; i++)
    banger_intake_say_warning (import->ends->answer_fd, warnings->pdata[i]);
  return TRUE;
}

static gboolean
write_kernel (Import *import, BangerIntakeResult *result, GError **error)
{
  gsize length;
  const guint8 *data = g_bytes_get_data (import->image, &length);
  g_autoptr (GBytes) elf = banger_bzimage_check (data, length) ? banger_bzimage_extract (data, length, error)
                                                               : g_bytes_ref (import->image);
  if (!elf)
    return FALSE;
  data = g_bytes_get_data (elf, &length);
  return banger_elf_check_kernel (data, length, error) && take_version (import, data, length, result, error)
         && check_features (import, data, length, error)
         && (banger_write_all (import->ends->target_fds[0], data, length) == 0
             || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the kernel"));
}

static gboolean
collect_modules (Import *import, const char *version, GError **error)
{
  if (!import->package && import->modules_fd < 0)
    return TRUE;
  if (!banger_module_index_resolve (import->index, version, error))
    return FALSE;
  import->collecting = TRUE;
  if (banger_module_index_n_chosen (import->index) > 0 && !walk (import, 0.6, 0.95, error))
    return FALSE;
  if (g_hash_table_size (import->modules) != banger_module_index_n_chosen (import->index))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the modules changed while they were read");
  return TRUE;
}

static gboolean
write_initrd (Import *import, GError **error)
{
  const char *folder = BANGER_GUEST_MODULES_DIR + 1;
  g_autofree char *order = banger_module_index_order (import->index);
  g_autofree char *order_path = g_build_filename (folder, "order", NULL);
  g_autoptr (BangerCpio) cpio = banger_cpio_new (import->ends->target_fds[1], error);
  if (!cpio || !banger_cpio_add_dir (cpio, folder, 0755, error))
    return FALSE;
  for (guint i = 0; i < banger_module_index_n_chosen (import->index); i++) {
    const char *name = banger_module_index_chosen_name (import->index, i);
    g_autofree char *path = g_build_filename (folder, name, NULL);
    gsize length;
    gconstpointer data = g_bytes_get_data (g_hash_table_lookup (import->modules, name), &length);
    if (!banger_cpio_add_file (cpio, path, 0644, data, length, error))
      return FALSE;
  }
  return banger_cpio_add_file (cpio, order_path, 0644, order, strlen (order), error) && banger_cpio_close (cpio, error);
}

static gboolean
run (Import *import, BangerIntakeResult *result, GError **error)
{
  if (!walk (import, 0, 0.5, error))
    return FALSE;
  if (!import->image)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds no kernel (boot/vmlinuz-...)");
  if (!write_kernel (import, result, error) || !collect_modules (import, result->version, error)
      || !write_initrd (import, error))
    return FALSE;
  result->n_modules = banger_module_index_n_chosen (import->index);
  return TRUE;
}

static GBytes *
read_image (int fd, guint64 size, GError **error)
{
  if (size > BANGER_VMLINUX_MAX) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                      "the file has %" G_GUINT64_FORMAT " MiB, a kernel may have %u (strip it)", size >> 20,
                      BANGER_VMLINUX_MAX >> 20);
    return NULL;
  }
  g_autofree guint8 *data = g_malloc (size + 1);
  if (banger_read_exactly (fd, data, size, 0) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the kernel");
    return NULL;
  }
  return g_bytes_new_take (g_steal_pointer (&data), size);
}

/* Says by its first bytes what the source is. */
static gboolean
take_source (Import *import, GError **error)
{
  struct stat st;
  guint8 head[1024] = { 0 };
  int fd = import->ends->source_fd;
  ssize_t n = banger_read_at (fd, head, sizeof head, 0);
  if (n < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the kernel");
  import->package = memcmp (head, BANGER_PACKAGE_MAGIC, strlen (BANGER_PACKAGE_MAGIC)) == 0;
  if (import->package)
    return TRUE;
  if (memcmp (head, "\177ELF", 4) != 0 && !banger_bzimage_check (head, (gsize)n))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the file is neither a Debian package nor an ELF vmlinux nor a bzImage");
  import->image = read_image (fd, (guint64)st.st_size, error);
  return import->image != NULL;
}

gboolean
banger_intake_kernel (const BangerIntakeEnds *ends, int modules_fd, BangerIntakeResult *result, GError **error)
{
  g_autoptr (BangerModuleIndex) index = banger_module_index_new ();
  g_autoptr (GHashTable) collected = g_hash_table_new_full (g_str_hash, g_str_equal, g_free,
                                                            (GDestroyNotify)g_bytes_unref);
  Import import = { .ends = ends, .modules_fd = modules_fd, .index = index, .modules = collected };
  gboolean ok = take_source (&import, error) && run (&import, result, error);
  g_clear_pointer (&import.image, g_bytes_unref);
  g_free (import.image_version);
  g_free (import.config);
  return ok;
}
