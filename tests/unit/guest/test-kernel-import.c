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

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "manager/bzimage.h"
#include "manager/kernel-elf.h"
#include "manager/kernel-import.h"

#define VERSION "6.1.0-test"
#define BANNER "Linux version " VERSION " (x@y)"

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

/* A kernel as small as one can be: one segment that holds the banner. */
static GByteArray *
small_kernel (void)
{
  struct {
    Elf64_Ehdr head;
    Elf64_Phdr segment;
    char banner[64];
  } file = { 0 };
  memcpy (file.head.e_ident, ELFMAG, SELFMAG);
  file.head.e_ident[EI_CLASS] = ELFCLASS64;
  file.head.e_ident[EI_DATA] = ELFDATA2LSB;
  file.head.e_type = ET_EXEC;
  file.head.e_machine = EM_X86_64;
  file.head.e_entry = 0x1000000;
  file.head.e_phoff = sizeof file.head;
  file.head.e_phentsize = sizeof file.segment;
  file.head.e_phnum = 1;
  file.segment.p_type = PT_LOAD;
  file.segment.p_offset = 0;
  file.segment.p_filesz = file.segment.p_memsz = sizeof file;
  strcpy (file.banner, BANNER);
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&file, sizeof file);
  return bytes;
}

/* A module as small as one can be: a .modinfo and the section names. */
static GByteArray *
small_module (const char *depends)
{
  static const char names[] = "\0.modinfo\0.shstrtab";
  static const char vermagic[] = "vermagic=" VERSION " SMP mod_unload";
  g_autofree char *first = g_strconcat ("depends=", depends, NULL);
  gsize info_length = strlen (first) + 1 + sizeof vermagic;
  g_autofree char *info = g_malloc (info_length);
  strcpy (info, first);
  memcpy (info + strlen (first) + 1, vermagic, sizeof vermagic);

  Elf64_Ehdr head = {
    .e_type = ET_REL, .e_machine = EM_X86_64, .e_shentsize = sizeof (Elf64_Shdr), .e_shnum = 3, .e_shstrndx = 2
  };
  memcpy (head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = ELFCLASS64;
  head.e_ident[EI_DATA] = ELFDATA2LSB;
  head.e_shoff = sizeof head + info_length + sizeof names;
  Elf64_Shdr sections[3] = {
    { 0 },
    { .sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = sizeof head, .sh_size = info_length },
    { .sh_name = 10, .sh_type = SHT_STRTAB, .sh_offset = sizeof head + info_length, .sh_size = sizeof names },
  };
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&head, sizeof head);
  g_byte_array_append (bytes, (const guint8 *)info, (guint)info_length);
  g_byte_array_append (bytes, (const guint8 *)names, sizeof names);
  g_byte_array_append (bytes, (const guint8 *)sections, sizeof sections);
  return bytes;
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

static gboolean
import (Fixture *fixture, const char *source, const char *modules, BangerKernelInfo *info, GError **error)
{
  return banger_kernel_import (source, modules, fixture->kernel_fd, NULL, NULL, NULL, info, error);
}

static void
assert_file (Fixture *fixture, const char *name, const char *text)
{
  g_autofree char *path = g_build_filename (fixture->dir, "kernel", name, NULL), *found = NULL;
  g_assert_true (g_file_get_contents (path, &found, NULL, NULL));
  g_assert_cmpstr (found, ==, text);
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
  assert_file (fixture, "modules/order",
               "virtio.ko\nvirtio_ring.ko\nvirtio_mmio.ko\nvirtio_blk.ko virtio:2\nvirtio_net.ko virtio:1\n");
  struct stat st;
  g_assert_cmpint (fstatat (fixture->kernel_fd, "modules/unrelated.ko", &st, 0), ==, -1);
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
    { { { NULL, NULL, NULL, 0 } }, "has no virtio_blk" },
    { { BLOCK_FILE, { "../../etc/cron.d/x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "/etc/cron.d/x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "./boot/../../x", NULL, "x", 0 } }, "leads out of it" },
    { { BLOCK_FILE, { "./boot/vmlinuz-" VERSION "-2", NULL, NULL, 0 } }, "more than one kernel" },
    { { { MODULES "kernel/virtio_blk.ko", NULL, "not a module", 0 } }, "not an ELF file" },
    { { { MODULES "kernel/virtio_blk.ko", "missing", NULL, 0 } }, "needs missing" },
    { { { MODULES "kernel/virtio_blk.ko", "virtio_blk", NULL, 0 } }, "circles" },
    { { BLOCK_FILE, { MODULES "extra/virtio-blk.ko", "", NULL, 0 } }, "twice" },
    /* A link is no module. */
    { { { MODULES "kernel/virtio_blk.ko", "", NULL, AE_IFLNK } }, "has no virtio_blk" },
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
  g_assert_false (
      banger_kernel_import (fixture->file, NULL, fixture->kernel_fd, NULL, NULL, cancellable, &info, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
}

static void
test_elf (Fixture *fixture, gconstpointer data)
{
  g_autoptr (GByteArray) kernel = small_kernel ();
  g_autoptr (GError) error = NULL;
  g_auto (BangerKernelInfo) info = { 0 };
  g_assert_true (g_file_set_contents (fixture->file, (const char *)kernel->data, kernel->len, NULL));
  import (fixture, fixture->file, NULL, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (info.version, ==, VERSION);
  g_assert_cmpuint (info.n_modules, ==, 0);
  assert_file (fixture, "modules/order", "");
}

static void
test_elf_with_modules (Fixture *fixture, gconstpointer data)
{
  static const struct {
    const char *name, *depends;
  } modules[] = { { "virtio_mmio.ko", "virtio" },
                  { "virtio.ko", "" },
                  { "virtio_blk.ko", "virtio" },
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
  g_assert_cmpuint (info.n_modules, ==, 5);
  assert_file (fixture, "modules/order",
               "virtio.ko\nvirtio_mmio.ko\next4.ko\nvirtio_blk.ko virtio:2\nvirtio_net.ko virtio:1\n");
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
put16 (GByteArray *kernel, gsize offset, guint16 value)
{
  value = GUINT16_TO_LE (value);
  memcpy (kernel->data + offset, &value, 2);
}

static void
test_bad_elf (void)
{
  static const struct {
    gsize offset;
    guint16 value;
  } rows[] = {
    { 0, 0 },                 /* magic */
    { EI_CLASS, ELFCLASS32 }, /* with EI_DATA */
    { offsetof (Elf64_Ehdr, e_machine), EM_AARCH64 },
    { offsetof (Elf64_Ehdr, e_type), ET_REL },
    { offsetof (Elf64_Ehdr, e_phnum), 0 },
    { offsetof (Elf64_Ehdr, e_phnum), 2 }, /* the second is no header: more than the file has */
    { offsetof (Elf64_Ehdr, e_phnum), 0xffff },
    { offsetof (Elf64_Ehdr, e_phoff) + 6, 0xffff },
    { offsetof (Elf64_Ehdr, e_phentsize), 1 },
    { sizeof (Elf64_Ehdr) + offsetof (Elf64_Phdr, p_type), PT_NOTE },
    { sizeof (Elf64_Ehdr) + offsetof (Elf64_Phdr, p_offset), 8 },
    { sizeof (Elf64_Ehdr) + offsetof (Elf64_Phdr, p_offset) + 6, 0xffff },
    { sizeof (Elf64_Ehdr) + offsetof (Elf64_Phdr, p_filesz) + 6, 0xffff },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GByteArray) kernel = small_kernel ();
    g_autoptr (GError) error = NULL;
    put16 (kernel, rows[i].offset, rows[i].value);
    gboolean cut = rows[i].offset == offsetof (Elf64_Ehdr, e_phnum) && rows[i].value == 2;
    gsize length = cut ? sizeof (Elf64_Ehdr) + sizeof (Elf64_Phdr) : kernel->len;
    if (banger_elf_check_kernel (kernel->data, length, &error))
      g_error ("row %" G_GSIZE_FORMAT " was taken", i);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  }
}

/* Bytes without sense: an answer, never a read outside (the sanitizer build sees it). */
static void
test_noise (void)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (20261124);
  g_autoptr (GByteArray) module = small_module ("virtio,virtio_ring");
  g_autoptr (GByteArray) kernel = small_kernel ();
  for (int round = 0; round < 20000; round++) {
    GByteArray *original = round % 2 ? module : kernel;
    gsize length = (gsize)g_rand_int_range (random, 1, (gint32)original->len + 1);
    g_autofree guint8 *bytes = g_memdup2 (original->data, length);
    g_auto (BangerModuleInfo) info = { 0 };
    for (int flips = g_rand_int_range (random, 0, 8); flips > 0; flips--)
      bytes[g_rand_int_range (random, 0, (gint32)length)] = (guint8)g_rand_int_range (random, 0, 256);
    banger_elf_check_kernel (bytes, length, NULL);
    g_free (banger_elf_kernel_version (bytes, length));
    banger_elf_read_module (bytes, length, &info, NULL);
  }
}

static void
test_bad_bzimage (void)
{
  static const struct {
    guint16 protocol;
    guint32 offset, length;
    const char *payload, *problem;
  } rows[] = {
    { 0x0207, 0, 100, "\x1f\x8b", "too old" },
    { 0x020f, 0, 0, "\x1f\x8b", "cut short" },
    { 0x020f, 0, 100000, "\x1f\x8b", "cut short" },
    { 0x020f, 0xffffffff, 0xffffffff, "\x1f\x8b", "cut short" },
    { 0x020f, 0, 100, "what", "unknown way" },
    { 0x020f, 0, 100, "\x89LZO", "lzo" },
    { 0x020f, 0, 100, "\x1f\x8b\x08", "cannot decompress" },
    { 0x020f, 0, 100, "\x02\x21\x4c\x18\xff\xff\xff\x7f", "cannot decompress" },
    { 0x020f, 0, 100, "\x28\xb5\x2f\xfd\xff", "cannot decompress" },
    { 0x020f, 0, 1, "\x1f", "unknown way" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    guint8 image[4096] = { 0 };
    g_autoptr (GError) error = NULL;
    image[0x1f1] = 1;
    memcpy (image + 0x1fe, "\x55\xaaxxHdrS", 8);
    memcpy (image + 0x206, &rows[i].protocol, 2);
    memcpy (image + 0x248, &rows[i].offset, 4);
    memcpy (image + 0x24c, &rows[i].length, 4);
    memcpy (image + 1024, rows[i].payload, strlen (rows[i].payload));
    g_autoptr (GBytes) bytes = banger_bzimage_extract (image, sizeof image, &error);
    g_assert_null (bytes);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
    if (strstr (error->message, rows[i].problem) == NULL)
      g_error ("row %" G_GSIZE_FORMAT ": '%s' says nothing of '%s'", i, error->message, rows[i].problem);
  }
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
  if (!banger_kernel_import (BANGER_KERNEL_DEFAULT_SOURCE, NULL, fixture->kernel_fd, on_progress, &last, NULL, &info,
                             &error)
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
  g_assert_cmpint (fstatat (fixture->kernel_fd, "modules/virtio_blk.ko", &st, 0), ==, 0);
  g_assert_cmpint (fstatat (fixture->kernel_fd, "modules/vmw_vsock_virtio_transport.ko", &st, 0), ==, 0);
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
  g_test_add_func ("/guest/kernel/bad-elf", test_bad_elf);
  g_test_add_func ("/guest/kernel/noise", test_noise);
  g_test_add_func ("/guest/kernel/bad-bzimage", test_bad_bzimage);
  g_test_add ("/guest/kernel/bad-sources", Fixture, NULL, set_up, test_bad_sources, tear_down);
  g_test_add ("/guest/kernel/debian", Fixture, NULL, set_up, test_debian, tear_down);
  return g_test_run ();
}
