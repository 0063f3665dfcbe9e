/* Kernels from good and bad packages and files; the good one is Debian's own, fetched with apt.
 * Run by meson test.
 * Never boots anything. */
#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../small-kernel.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "intake/kernel-features.h"
#include "intake/kernel-elf.h"
#include "manager/kernel/sources.h"

typedef struct {
  char *dir, *file;
  int fd, kernel_fd;
} Fixture;

static void
set_up (Fixture *fixture, gconstpointer data)
{
  fixture->dir = g_dir_make_tmp ("banger-test-XXXXXX", NULL);
  fixture->file = g_build_filename (fixture->dir, "source", NULL);
  fixture->fd = open (fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (mkdirat (fixture->fd, "kernel", 0700), ==, 0);
  fixture->kernel_fd = openat (fixture->fd, "kernel", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
tear_down (Fixture *fixture, gconstpointer data)
{
  g_autofree char *base = g_path_get_basename (fixture->dir);
  g_autofree char *parent = g_path_get_dirname (fixture->dir);
  banger_autofd int parent_fd = open (parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  close (fixture->fd);
  close (fixture->kernel_fd);
  g_assert_true (banger_safe_remove_tree (parent_fd, base, NULL));
  g_free (fixture->file);
  g_free (fixture->dir);
}

typedef struct {
  const char *path;
  const char *depends; /* NULL: no module but text, or the kernel for a vmlinuz */
  const char *text;
  mode_t type; /* 0: a regular file */
} PackageFile;

#define MODULES "./lib/modules/" VERSION "/"
#define BASE_FILES                                                                                                     \
  { "./boot/vmlinuz-" VERSION, NULL, NULL, 0 }, { MODULES "kernel/virtio_mmio.ko", "virtio,virtio-ring", NULL, 0 },    \
      { MODULES "kernel/virtio.ko", "", NULL, 0 }, { MODULES "kernel/virtio-ring.ko", "virtio", NULL, 0 },             \
      { MODULES "modules.builtin", NULL, "kernel/fs/ext4/ext4.ko\nkernel/drivers/net/failover.ko\n", 0 },              \
  {                                                                                                                    \
    MODULES "kernel/virtio_net.ko", "failover,virtio", NULL, 0                                                         \
  }
#define BLOCK_FILE                                                                                                     \
  {                                                                                                                    \
    MODULES "kernel/virtio_blk.ko", "virtio_ring", NULL, 0                                                             \
  }

static void
add_member (struct archive *archive, const char *path, mode_t type, const void *data, gsize length)
{
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_set_pathname (entry, path);
  archive_entry_set_filetype (entry, type ? type : AE_IFREG);
  archive_entry_set_perm (entry, 0644);
  if (type == AE_IFLNK)
    archive_entry_set_symlink (entry, "/etc/passwd");
  archive_entry_set_size (entry, type ? 0 : (la_int64_t)length);
  g_assert_cmpint (archive_write_header (archive, entry), ==, ARCHIVE_OK);
  if (!type)
    g_assert_cmpint (archive_write_data (archive, data, length), ==, length);
  archive_entry_free (entry);
}

static GByteArray *
content_of (const PackageFile *file)
{
  if (file->depends != NULL)
    return small_module (file->depends);
  if (file->text == NULL)
    return small_kernel ();
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)file->text, (guint)strlen (file->text));
  return bytes;
}

/* A package (deb(5)) with @files, its data compressed with zstd. */
static void
write_deb (const char *path, const PackageFile *files)
{
  g_autofree char *data = g_malloc (1 << 20);
  gsize used = 0;
  struct archive *tar = archive_write_new ();
  archive_write_set_format_ustar (tar);
  archive_write_add_filter_zstd (tar);
  g_assert_cmpint (archive_write_open_memory (tar, data, 1 << 20, &used), ==, ARCHIVE_OK);
  for (; files->path != NULL; files++) {
    g_autoptr (GByteArray) bytes = content_of (files);
    add_member (tar, files->path, files->type, bytes->data, bytes->len);
  }
  archive_write_close (tar);
  archive_write_free (tar);

  struct archive *ar = archive_write_new ();
  archive_write_set_format_ar_bsd (ar);
  g_assert_cmpint (archive_write_open_filename (ar, path), ==, ARCHIVE_OK);
  add_member (ar, "debian-binary", 0, "2.0\n", 4);
  add_member (ar, "data.tar.zst", 0, data, used);
  archive_write_close (ar);
  archive_write_free (ar);
}

/* As the manager does: by the row that @text and @modules name. */
static gboolean
import_cancellable (Fixture *fixture, const char *text, const char *modules, GCancellable *cancellable,
                    BangerKernelInfo *info, GError **error)
{
  g_autoptr (BangerJobProgress) progress = banger_job_progress_new (NULL);
  BangerKernelSource *kernel = banger_kernel_source_new (text, g_strdup (modules));
  g_autoptr (BangerSource) source = &kernel->source;
  gboolean ok = source->row->check (source, error)
                && source->row->make (source, fixture->kernel_fd, progress, cancellable, error);
  *info = kernel->info;
  kernel->info = (BangerKernelInfo){ 0 };
  return ok;
}

static gboolean
import (Fixture *fixture, const char *text, const char *modules, BangerKernelInfo *info, GError **error)
{
  return import_cancellable (fixture, text, modules, NULL, info, error);
}

/* Whether @text is in the archive of modules, which is not compressed. */
static gboolean
initrd_holds (Fixture *fixture, const char *text)
{
  gsize length;
  g_autofree char *path = g_build_filename (fixture->dir, "kernel", BANGER_FILE_KERNEL_INITRD, NULL), *found = NULL;
  g_assert_true (g_file_get_contents (path, &found, &length, NULL));
  return memmem (found, length, text, strlen (text)) != NULL;
}

static void
assert_only_files (Fixture *fixture)
{
  g_autofree char *path = g_build_filename (fixture->dir, "kernel", NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  for (const char *name; (name = g_dir_read_name (dir)) != NULL;)
    g_assert_true (g_str_equal (name, BANGER_FILE_KERNEL_VMLINUX) || g_str_equal (name, BANGER_FILE_KERNEL_INITRD));
}

static void
test_package (Fixture *fixture, gconstpointer data)
{
  const PackageFile files[] = {
    BASE_FILES, BLOCK_FILE, { MODULES "kernel/unrelated.ko", "", NULL, 0 }, { NULL, NULL, NULL, 0 }
  };
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  write_deb (fixture->file, files);
  import (fixture, fixture->file, NULL, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (info.version, ==, VERSION);
  g_assert_true (g_str_has_prefix (info.digest, "sha256:"));
  g_assert_cmpuint (strlen (info.digest), ==, 7 + 64);
  g_assert_cmpuint (info.n_modules, ==, 5);
  g_assert_true (initrd_holds (
      fixture, "virtio.ko\nvirtio_ring.ko\nvirtio_mmio.ko\nvirtio_blk.ko virtio:2\nvirtio_net.ko virtio:1\n"));
  assert_only_files (fixture);
  struct stat st;
  g_assert_true (initrd_holds (fixture, "virtio_blk.ko"));
  g_assert_false (initrd_holds (fixture, "unrelated"));
  g_assert_cmpint (fstatat (fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD, &st, 0), ==, 0);
  g_assert_cmpint (st.st_size % 512, ==, 0);
}

static void
test_bad_packages (Fixture *fixture, gconstpointer data)
{
  static const struct {
    PackageFile extra[3];
    const char *problem;
  } rows[] = {
    { { { NULL, NULL, NULL, 0 } }, "has no virtio disks (CONFIG_VIRTIO_BLK)" },
    { { BLOCK_FILE, { "../../etc/cron.d/x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "/etc/cron.d/x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "./boot/../../x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "./boot/vmlinuz-" VERSION "-2", NULL, NULL, 0 } }, "more than one kernel" },
    { { { MODULES "kernel/virtio_blk.ko", NULL, "not a module", 0 } }, "not an ELF file" },
    { { { MODULES "kernel/virtio_blk.ko", "missing", NULL, 0 } }, "needs missing" },
    { { { MODULES "kernel/virtio_blk.ko", "virtio_blk", NULL, 0 } }, "circles" },
    { { BLOCK_FILE, { MODULES "extra/virtio-blk.ko", "", NULL, 0 } }, "twice" },
    /* A link is no module. */
    { { { MODULES "kernel/virtio_blk.ko", "", NULL, AE_IFLNK } }, "has no virtio disks" },
    { { { MODULES "kernel/virtio_blk.ko.xz", NULL, "not compressed", 0 } }, "not an ELF file" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    const PackageFile files[] = {
      BASE_FILES, rows[i].extra[0], rows[i].extra[1], rows[i].extra[2], { NULL, NULL, NULL, 0 }
    };
    g_autoptr (GError) error = NULL;
    g_auto (BangerKernelInfo) info = { 0 };
    write_deb (fixture->file, files);
    g_assert_false (import (fixture, fixture->file, NULL, &info, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
    if (strstr (error->message, rows[i].problem) == NULL)
      g_error ("row %" G_GSIZE_FORMAT ": '%s' says nothing of '%s'", i, error->message, rows[i].problem);
    g_assert_null (info.version);
  }
}

static void
test_cut_packages (Fixture *fixture, gconstpointer data)
{
  const PackageFile files[] = { BASE_FILES, BLOCK_FILE, { NULL, NULL, NULL, 0 } };
  g_autofree char *whole = NULL;
  gsize length;
  write_deb (fixture->file, files);
  g_assert_true (g_file_get_contents (fixture->file, &whole, &length, NULL));
  for (gsize cut = 8; cut < length; cut += length / 40) {
    g_autoptr (GError) error = NULL;
    g_auto (BangerKernelInfo) info = { 0 };
    g_assert_true (g_file_set_contents (fixture->file, whole, (gssize)cut, NULL));
    g_assert_false (import (fixture, fixture->file, NULL, &info, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  }
}

static void
test_cancelled (Fixture *fixture, gconstpointer data)
{
  const PackageFile files[] = { BASE_FILES, BLOCK_FILE, { NULL, NULL, NULL, 0 } };
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  write_deb (fixture->file, files);
  g_cancellable_cancel (cancellable);
  g_assert_false (import_cancellable (fixture, fixture->file, NULL, cancellable, &info, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
}

static void
test_elf (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GByteArray) kernel = small_kernel ();
  g_byte_array_append (kernel, (const guint8 *)DRIVER_WORDS, sizeof DRIVER_WORDS);
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  g_assert_true (g_file_set_contents (fixture->file, (const char *)kernel->data, kernel->len, NULL));
  import (fixture, fixture->file, NULL, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (info.version, ==, VERSION);
  g_assert_cmpuint (info.n_modules, ==, 0);
  g_assert_cmpuint (g_strv_length (info.warnings), ==, 1);
  g_assert_nonnull (strstr (info.warnings[0], "no vsock"));
  assert_only_files (fixture);
}

/* A kernel's configuration as it holds it. */
static void
append_config (GByteArray *kernel, const char *text)
{
  g_autoptr (GZlibCompressor) gzip = g_zlib_compressor_new (G_ZLIB_COMPRESSOR_FORMAT_GZIP, 9);
  guint8 packed[4096];
  gsize in, out;
  g_assert_cmpint (g_converter_convert (G_CONVERTER (gzip), text, strlen (text), packed, sizeof packed,
                                        G_CONVERTER_INPUT_AT_END, &in, &out, NULL),
                   ==, G_CONVERTER_FINISHED);
  g_byte_array_append (kernel, (const guint8 *)"IKCFG_ST", 8);
  g_byte_array_append (kernel, packed, (guint)out);
  g_byte_array_append (kernel, (const guint8 *)"IKCFG_ED", 9);
}

/* Told before a guest hangs; what its configuration says counts more than what stands in it. */
static void
test_cannot_work (Fixture *fixture, gconstpointer data)
{
#define ALL                                                                                                            \
  "CONFIG_BLK_DEV_INITRD=y\nCONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\nCONFIG_EXT4_FS=y\n"        \
  "CONFIG_DEVTMPFS=y\nCONFIG_TMPFS=y\nCONFIG_UNIX=y\n"
  static const struct {
    const char *config;
    char words[64];
    const char *problem;
    guint warnings;
  } rows[] = {
    { NULL, "virtio_blk\0virtio_net\0ext4\0", "has no virtio-mmio (CONFIG_VIRTIO_MMIO), neither", 0 },
    { NULL, "virtio-mmio\0virtio_blk\0virtio_net\0ext4-", "has no ext4 (CONFIG_EXT4_FS)", 0 },
    { ALL "CONFIG_VIRTIO_VSOCKETS=y\nCONFIG_VIRTIO_CONSOLE=y\n", "", NULL, 0 },
    { ALL "# CONFIG_VIRTIO_VSOCKETS is not set\nCONFIG_VIRTIO_CONSOLE=y\n", "", NULL, 1 },
    { ALL, DRIVER_WORDS, "has no vsock or virtio consoles", 0 },
    { "CONFIG_VIRTIO_CONSOLE=y\n# CONFIG_BLK_DEV_INITRD is not set\n" ALL, "",
      "no initramfs support (CONFIG_BLK_DEV_INITRD), neither", 0 },
    { "CONFIG_VIRTIO_CONSOLE=y\nCONFIG_EXT4_FS=m\n" ALL, "", "no ext4 (CONFIG_EXT4_FS), neither", 0 },
    { "CONFIG_VIRTIO_CONSOLE=y\n", DRIVER_WORDS,
      "initramfs support (CONFIG_BLK_DEV_INITRD), virtio-mmio (CONFIG_VIRTIO_MMIO), virtio disks", 0 },
  };
#undef ALL
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GByteArray) kernel = small_kernel ();
    g_autoptr (GError) error = NULL;
    g_auto (BangerKernelInfo) info = { 0 };
    g_byte_array_append (kernel, (const guint8 *)rows[i].words, sizeof rows[i].words);
    if (rows[i].config)
      append_config (kernel, rows[i].config);
    g_assert_true (g_file_set_contents (fixture->file, (const char *)kernel->data, kernel->len, NULL));
    gboolean good = import (fixture, fixture->file, NULL, &info, &error);
    if (good != (rows[i].problem == NULL) || (error && strstr (error->message, rows[i].problem) == NULL))
      g_error ("row %" G_GSIZE_FORMAT ": %s", i, error ? error->message : "was taken");
    g_assert_cmpuint (info.warnings ? g_strv_length (info.warnings) : 0, ==, rows[i].warnings);
  }
}

static void
test_config (void)
{
  static const char config[]
      = "# CONFIG_A is not set\nCONFIG_AB=y\nCONFIG_ABC=m\nCONFIG_X=\"CONFIG_N=y\"\nXCONFIG_Q=y\n";
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_A"), ==, 'n');
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_AB"), ==, 'y');
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_ABC"), ==, 'm');
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_N"), ==, 'n');
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_Q"), ==, 'n');
  g_assert_cmpint (banger_kernel_config_value (config, "CONFIG_ABCD"), ==, 'n');
  static const char *const broken[] = { "IKCFG_ST", "IKCFG_STIKCFG_ED", "IKCFG_ST\x1f\x8b\x08IKCFG_ED", "IKCFG_ED" };
  for (gsize i = 0; i < G_N_ELEMENTS (broken); i++)
    g_assert_null (banger_kernel_config ((const guint8 *)broken[i], strlen (broken[i])));
}

static void
test_elf_with_modules (Fixture *fixture, gconstpointer data)
{
  static const struct {
    const char *name, *depends;
  } modules[] = { { "virtio_mmio.ko", "virtio" },
                  { "virtio.ko", "" },
                  { "virtio_blk.ko", "virtio" },
                  { "tcp_diag.ko", "inet_diag" },
                  { "inet_diag.ko", "" },
                  { "virtio_net.ko", "" },
                  { "ext4.ko", "" } };
  g_autoptr (GByteArray) kernel = small_kernel ();
  g_autofree char *folder = g_build_filename (fixture->dir, "lib", "deep", NULL);
  g_autofree char *root = g_build_filename (fixture->dir, "lib", NULL);
  g_assert_cmpint (g_mkdir_with_parents (folder, 0700), ==, 0);
  g_assert_true (g_file_set_contents (fixture->file, (const char *)kernel->data, kernel->len, NULL));
  for (gsize i = 0; i < G_N_ELEMENTS (modules); i++) {
    g_autofree char *path = g_build_filename (folder, modules[i].name, NULL);
    g_autoptr (GByteArray) module = small_module (modules[i].depends);
    g_assert_true (g_file_set_contents (path, (const char *)module->data, module->len, NULL));
  }
  /* As /lib/modules/VERSION/build is; not followed. */
  g_autofree char *loop = g_build_filename (folder, "build", NULL);
  g_assert_cmpint (symlink ("..", loop), ==, 0);

  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  import (fixture, fixture->file, root, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (info.n_modules, ==, 7);
  g_assert_true (initrd_holds (
      fixture,
      "virtio.ko\nvirtio_mmio.ko\next4.ko\ninet_diag.ko\ntcp_diag.ko\nvirtio_blk.ko virtio:2\nvirtio_net.ko virtio:1\n"));
  assert_only_files (fixture);
}

static void
test_modules_of_another_kernel (Fixture *fixture, gconstpointer data)
{
  const PackageFile files[] = { BASE_FILES, BLOCK_FILE, { NULL, NULL, NULL, 0 } };
  g_autoptr (GByteArray) kernel = small_kernel ();
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  g_autofree char *folder = g_build_filename (fixture->dir, "lib", NULL);
  g_assert_cmpint (g_mkdir_with_parents (folder, 0700), ==, 0);
  for (const PackageFile *file = files; file->path != NULL; file++) {
    g_autofree char *name = g_path_get_basename (file->path);
    g_autofree char *path = g_build_filename (folder, name, NULL);
    g_autoptr (GByteArray) bytes = content_of (file);
    g_assert_true (g_file_set_contents (path, (const char *)bytes->data, bytes->len, NULL));
  }
  guint8 *banner = memmem (kernel->data, kernel->len, VERSION, strlen (VERSION));
  banner[0] = '7';
  g_assert_true (g_file_set_contents (fixture->file, (const char *)kernel->data, kernel->len, NULL));
  g_assert_false (import (fixture, fixture->file, folder, &info, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  g_assert_nonnull (strstr (error->message, "is for kernel " VERSION ", not 7.1.0-test"));
}

static void
test_bad_sources (Fixture *fixture, gconstpointer data)
{
  static const struct {
    const char *source, *modules;
    BangerError code;
  } rows[] = {
    { "/nonexistent/vmlinux", NULL, BANGER_ERROR_INVALID_PATH },
    { "/dev/null", NULL, BANGER_ERROR_INVALID_PATH },
    { "/", NULL, BANGER_ERROR_INVALID_PATH },
    { "vmlinux", NULL, BANGER_ERROR_INVALID_PATH },
    { "/bin/sh", "lib/modules", BANGER_ERROR_INVALID_PATH },
    { "/bin/sh", "/nonexistent", BANGER_ERROR_INVALID_PATH },
    { "/bin/sh", "/etc/passwd", BANGER_ERROR_INVALID_PATH },
    { "/etc/passwd", NULL, BANGER_ERROR_INVALID_KERNEL },
    { "/bin/sh", NULL, BANGER_ERROR_INVALID_KERNEL },
    { "apt:", NULL, BANGER_ERROR_INVALID_ARGS },
    { "apt:-oDir=/", NULL, BANGER_ERROR_INVALID_ARGS },
    { "apt:a b", NULL, BANGER_ERROR_INVALID_ARGS },
    { "apt:../x", NULL, BANGER_ERROR_INVALID_ARGS },
    { "apt:linux-image-cloud-amd64", "/lib/modules", BANGER_ERROR_INVALID_ARGS },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_auto (BangerKernelInfo) info = { 0 };
    g_assert_false (import (fixture, rows[i].source, rows[i].modules, &info, &error));
    g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
  }
}

static void
on_progress (double fraction, gpointer user_data)
{
  double *last = user_data;
  g_assert_cmpfloat (fraction, >=, *last);
  g_assert_cmpfloat (fraction, <=, 1);
  *last = fraction;
}

static void
test_debian (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  double last = 0;
  struct stat st;
  const BangerKernelImport what = { .name = "linux-image-cloud-amd64",
                                    .fd = -1,
                                    .modules_fd = -1,
                                    .dir_fd = fixture->kernel_fd,
                                    .progress = on_progress,
                                    .progress_data = &last };
  if (!banger_kernel_import_package (&what, &info, &error)
      && (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_KERNEL)
          || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED)))
  {
    g_test_skip (error->message);
    return;
  }
  g_assert_no_error (error);
  g_assert_cmpfloat (last, ==, 1);
  g_assert_true (g_str_has_suffix (info.version, "-cloud-amd64"));
  g_assert_cmpuint (info.n_modules, >=, 8);
  g_assert_cmpint (fstatat (fixture->kernel_fd, BANGER_FILE_KERNEL_VMLINUX, &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, >, 20 << 20);
  g_assert_true (initrd_holds (fixture, "virtio_blk.ko"));
  g_assert_true (initrd_holds (fixture, "vmw_vsock_virtio_transport.ko"));
  g_assert_cmpint (fstatat (fixture->kernel_fd, BANGER_FILE_KERNEL_INITRD, &st, 0), ==, 0);
  /* The package itself is not kept. */
  g_assert_cmpint (fstatat (fixture->kernel_fd, "download", &st, 0), ==, -1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/guest/kernel/package", Fixture, NULL, set_up, test_package, tear_down);
  g_test_add ("/guest/kernel/bad-packages", Fixture, NULL, set_up, test_bad_packages, tear_down);
  g_test_add ("/guest/kernel/cut-packages", Fixture, NULL, set_up, test_cut_packages, tear_down);
  g_test_add ("/guest/kernel/cancelled", Fixture, NULL, set_up, test_cancelled, tear_down);
  g_test_add ("/guest/kernel/elf", Fixture, NULL, set_up, test_elf, tear_down);
  g_test_add ("/guest/kernel/elf-with-modules", Fixture, NULL, set_up, test_elf_with_modules, tear_down);
  g_test_add ("/guest/kernel/other-version", Fixture, NULL, set_up, test_modules_of_another_kernel, tear_down);
  g_test_add ("/guest/kernel/cannot-work", Fixture, NULL, set_up, test_cannot_work, tear_down);
  g_test_add_func ("/guest/kernel/config", test_config);
  g_test_add ("/guest/kernel/bad-sources", Fixture, NULL, set_up, test_bad_sources, tear_down);
  g_test_add ("/guest/kernel/debian", Fixture, NULL, set_up, test_debian, tear_down);
  return g_test_run ();
}
