/* The steps from a package or file to a kernel's directory.
 * Called by kernel.c in a worker thread.
 * Never leaves a link or a foreign name in that directory. */
#include "manager/kernel-import.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/state-file.h"
#include "manager/bzimage.h"
#include "manager/cpio.h"
#include "manager/kernel-elf.h"
#include "manager/kernel-fetch.h"
#include "manager/kernel-modules.h"
#include "manager/kernel-tree.h"
#include "manager/unpack.h"

#define APT_PREFIX "apt:"
#define DOWNLOAD_DIR "download"
#define MODULES_DIR "modules"
#define PACKAGE_MAX (1ull << 30)
#define BUILTIN_MAX (4u << 20)

typedef struct {
  int dir_fd;
  const char *modules_dir; /* NULL: from the package */
  int package_fd;          /* -1: none */
  GCancellable *cancellable;
  BangerProgress progress;
  gpointer progress_data;
  double progress_from, progress_to; /* of the walk under way */
  BangerModuleIndex *index;
  GBytes *image;       /* vmlinuz of the package, or the file itself */
  char *image_version; /* from its name in the package */
  GHashTable *modules; /* file name -> GBytes, not compressed */
  gboolean collecting;
} Import;

static void
report (Import *import, double fraction)
{
  if (import->progress != NULL)
    import->progress (fraction, import->progress_data);
}

static void
on_walk_progress (double fraction, gpointer user_data)
{
  Import *import = user_data;
  report (import, import->progress_from + CLAMP (fraction, 0, 1) * (import->progress_to - import->progress_from));
}

static gboolean
check_cancelled (Import *import, GError **error)
{
  return g_cancellable_is_cancelled (import->cancellable)
             ? banger_set_error (error, BANGER_ERROR_CANCELLED, "kernel import cancelled")
             : TRUE;
}

/* First pass: the kernel, the list of what is built in, and what each module needs. */
static gboolean
index_file (Import *import, const char *path, BangerTreeFile *file, GError **error)
{
  static const char boot[] = "boot/vmlinuz-";
  if (import->package_fd >= 0 && g_str_has_prefix (path, boot)) {
    if (import->image != NULL)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds more than one kernel");
    import->image = banger_tree_file_read (file, BANGER_BZIMAGE_MAX, error);
    import->image_version = g_strdup (path + strlen (boot));
    return import->image != NULL;
  }
  if (g_str_has_suffix (path, "modules.builtin")) {
    gsize length;
    g_autoptr (GBytes) text = banger_tree_file_read (file, BUILTIN_MAX, error);
    if (text == NULL)
      return FALSE;
    const char *data = g_bytes_get_data (text, &length);
    banger_module_index_add_builtin (import->index, data, length);
    return TRUE;
  }
  if (!banger_module_is_path (path))
    return TRUE;
  g_autoptr (GBytes) module = banger_tree_file_read (file, BANGER_MODULE_MAX, error);
  return module != NULL && banger_module_index_add (import->index, path, module, error);
}

static gboolean
collect_file (Import *import, const char *path, BangerTreeFile *file, gboolean *ret_stop, GError **error)
{
  const char *name = banger_module_index_file_name (import->index, path);
  if (name == NULL)
    return TRUE;
  g_autoptr (GBytes) bytes = banger_tree_file_read (file, BANGER_MODULE_MAX, error);
  if (bytes == NULL)
    return FALSE;
  gsize length;
  gconstpointer data = g_bytes_get_data (bytes, &length);
  GBytes *plain = g_str_has_suffix (path, ".ko") ? g_bytes_ref (bytes)
                                                 : banger_unpack (data, length, BANGER_MODULE_MAX, path, error);
  if (plain == NULL)
    return FALSE;
  g_hash_table_insert (import->modules, g_strdup (name), plain);
  *ret_stop = g_hash_table_size (import->modules) == banger_module_index_n_chosen (import->index);
  return TRUE;
}

static gboolean
on_file (const char *path, BangerTreeFile *file, gpointer user_data, gboolean *ret_stop, GError **error)
{
  Import *import = user_data;
  return import->collecting ? collect_file (import, path, file, ret_stop, error)
                            : index_file (import, path, file, error);
}

static gboolean
walk (Import *import, double from, double to, GError **error)
{
  BangerTreeWalk walk = { on_file, on_walk_progress, import, import->cancellable };
  import->progress_from = from;
  import->progress_to = to;
  if (import->package_fd >= 0)
    return banger_tree_walk_deb (import->package_fd, &walk, error);
  return import->modules_dir == NULL || banger_tree_walk_dir (import->modules_dir, &walk, error);
}

static gboolean
write_kernel (Import *import, BangerKernelInfo *info, GError **error)
{
  gsize length;
  const guint8 *data = g_bytes_get_data (import->image, &length);
  g_autoptr (GBytes) elf = banger_bzimage_check (data, length) ? banger_bzimage_extract (data, length, error)
                                                               : g_bytes_ref (import->image);
  if (elf == NULL)
    return FALSE;
  data = g_bytes_get_data (elf, &length);
  if (!banger_elf_check_kernel (data, length, error))
    return FALSE;
  info->version = banger_elf_kernel_version (data, length);
  if (info->version == NULL)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the file does not tell its version; it is no Linux kernel");
  if (import->image_version != NULL && !g_str_equal (info->version, import->image_version))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package says kernel %s, the kernel itself %s",
                             import->image_version, info->version);
  g_autofree char *digest = g_compute_checksum_for_data (G_CHECKSUM_SHA256, data, length);
  info->digest = g_strconcat ("sha256:", digest, NULL);
  return banger_state_write (import->dir_fd, BANGER_FILE_KERNEL_VMLINUX, (const char *)data, length, 0644, error);
}

static gboolean
collect_modules (Import *import, const char *version, GError **error)
{
  if (import->package_fd < 0 && import->modules_dir == NULL)
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
write_modules (Import *import, GError **error)
{
  g_autofree char *order = banger_module_index_order (import->index);
  if (mkdirat (import->dir_fd, MODULES_DIR, 0755) < 0 && errno != EEXIST)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", MODULES_DIR);
  banger_autofd int fd = openat (import->dir_fd, MODULES_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open %s", MODULES_DIR);
  for (guint i = 0; i < banger_module_index_n_chosen (import->index); i++) {
    const char *name = banger_module_index_chosen_name (import->index, i);
    gsize length;
    const char *data = g_bytes_get_data (g_hash_table_lookup (import->modules, name), &length);
    if (!check_cancelled (import, error) || !banger_state_write (fd, name, data, length, 0644, error))
      return FALSE;
  }
  return banger_state_write (fd, "order", order, strlen (order), 0644, error);
}

static gboolean
fill_initrd (Import *import, int fd, GError **error)
{
  const char *folder = BANGER_GUEST_MODULES_DIR + 1;
  g_autofree char *order = banger_module_index_order (import->index);
  g_autofree char *order_path = g_build_filename (folder, "order", NULL);
  g_autoptr (BangerCpio) cpio = banger_cpio_new (fd, error);
  if (cpio == NULL || !banger_cpio_add_dir (cpio, folder, 0755, error))
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
write_initrd (Import *import, GError **error)
{
  static const char temporary[] = BANGER_FILE_KERNEL_INITRD ".new";
  banger_autofd int fd = openat (import->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                                 0644);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", temporary);
  if (!fill_initrd (import, fd, error))
    return FALSE;
  if (fsync (fd) < 0 || renameat (import->dir_fd, temporary, import->dir_fd, BANGER_FILE_KERNEL_INITRD) < 0
      || fsync (import->dir_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s", BANGER_FILE_KERNEL_INITRD);
  return TRUE;
}

static gboolean
run (Import *import, BangerKernelInfo *ret_info, GError **error)
{
  g_auto (BangerKernelInfo) info = { 0 };
  if (!walk (import, 0.2, 0.6, error))
    return FALSE;
  if (import->image == NULL)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds no kernel (boot/vmlinuz-...)");
  if (!check_cancelled (import, error) || !write_kernel (import, &info, error)
      || !collect_modules (import, info.version, error) || !write_modules (import, error)
      || !write_initrd (import, error))
    return FALSE;
  info.n_modules = banger_module_index_n_chosen (import->index);
  report (import, 1);
  *ret_info = info;
  memset (&info, 0, sizeof info);
  return TRUE;
}

static GBytes *
read_image (int fd, guint64 size, const char *path, GError **error)
{
  if (size > BANGER_VMLINUX_MAX) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                      "%s has %" G_GUINT64_FORMAT " MiB, a kernel may have %u (strip it)", path, size >> 20,
                      BANGER_VMLINUX_MAX >> 20);
    return NULL;
  }
  g_autofree guint8 *data = g_malloc (size + 1);
  for (guint64 at = 0; at < size;) {
    ssize_t n = pread (fd, data + at, size - at, (off_t)at);
    if (n <= 0) {
      banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, n < 0 ? errno : EIO, "cannot read %s", path);
      return NULL;
    }
    at += (guint64)n;
  }
  return g_bytes_new_take (g_steal_pointer (&data), size);
}

/* Says by its first bytes what @fd is. */
static gboolean
take_source (Import *import, int fd, guint64 size, const char *path, GError **error)
{
  guint8 head[1024] = { 0 };
  ssize_t n = pread (fd, head, sizeof head, 0);
  if (n < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot read %s", path);
  if (memcmp (head, "!<arch>\n", 8) == 0) {
    if (import->modules_dir != NULL)
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s is a package and brings its own modules", path);
    import->package_fd = fd;
    return TRUE;
  }
  if (memcmp (head, "\177ELF", 4) != 0 && !banger_bzimage_check (head, (gsize)n))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "%s is neither a Debian package nor an ELF vmlinux nor a bzImage", path);
  import->image = read_image (fd, size, path, error);
  return import->image != NULL;
}

static gboolean
import_file (Import *import, const char *path, BangerKernelInfo *ret_info, GError **error)
{
  struct stat st;
  banger_autofd int fd = open (path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", path);
  if (!S_ISREG (st.st_mode) || (guint64)st.st_size > PACKAGE_MAX)
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s is not a regular file of at most 1 GiB", path);
  return take_source (import, fd, (guint64)st.st_size, path, error) && run (import, ret_info, error);
}

static char *
make_download_dir (int dir_fd, GError **error)
{
  char path[PATH_MAX];
  g_autofree char *by_descriptor = g_strdup_printf ("/proc/self/fd/%d", dir_fd);
  ssize_t n = readlink (by_descriptor, path, sizeof path - 1);
  if (n < 0 || (mkdirat (dir_fd, DOWNLOAD_DIR, 0700) < 0 && errno != EEXIST)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a folder for the download");
    return NULL;
  }
  path[n] = '\0';
  return g_build_filename (path, DOWNLOAD_DIR, NULL);
}

static gboolean
import_package (Import *import, const char *package, BangerKernelInfo *ret_info, GError **error)
{
  if (import->modules_dir != NULL)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "package %s brings its own modules", package);
  g_autofree char *dir = make_download_dir (import->dir_fd, error);
  if (dir == NULL)
    return FALSE;
  g_autofree char *path = banger_kernel_fetch (package, dir, import->cancellable, error);
  report (import, 0.2);
  gboolean ok = path != NULL && import_file (import, path, ret_info, error);
  return banger_safe_remove_tree (import->dir_fd, DOWNLOAD_DIR, ok ? error : NULL) && ok;
}

gboolean
banger_kernel_import (const char *source, const char *modules, int kernel_dir_fd, BangerProgress progress,
                      gpointer progress_data, GCancellable *cancellable, BangerKernelInfo *ret_info, GError **error)
{
  g_autoptr (BangerModuleIndex) index = banger_module_index_new ();
  g_autoptr (GHashTable) collected = g_hash_table_new_full (g_str_hash, g_str_equal, g_free,
                                                            (GDestroyNotify)g_bytes_unref);
  Import import = { .dir_fd = kernel_dir_fd,
                    .modules_dir = modules,
                    .package_fd = -1,
                    .cancellable = cancellable,
                    .progress = progress,
                    .progress_data = progress_data,
                    .index = index,
                    .modules = collected };
  gboolean ok = g_str_has_prefix (source, APT_PREFIX)
                    ? import_package (&import, source + strlen (APT_PREFIX), ret_info, error)
                    : import_file (&import, source, ret_info, error);
  g_clear_pointer (&import.image, g_bytes_unref);
  g_free (import.image_version);
  return ok;
}

void
banger_kernel_info_clear (BangerKernelInfo *info)
{
  g_clear_pointer (&info->version, g_free);
  g_clear_pointer (&info->digest, g_free);
}
