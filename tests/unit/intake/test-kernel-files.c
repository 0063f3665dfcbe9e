/* Kernels as they are packed: ELF files, bzImages and what is in them; no byte of a bad one is believed.
 * Run by meson test. */
#include <elf.h>
#include <gio/gio.h>
#include <string.h>

#include "../small-kernel.h"
#include "common/error.h"
#include "intake/bzimage.h"
#include "intake/kernel-elf.h"
#include "intake/lzo.h"

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
    { 0x020f, 0, 100, "\x89LZO", "its lzo data is damaged" },
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

/* A bzImage of one lz4 block, signed for PE, with the checksum that Linux before 6.15 has. */
enum { LZ4_TEXT = 14, LZ4_PAYLOAD = 4 + 4 + 1 + LZ4_TEXT + 4, LZ4_PAYLOAD_AT = 0x30, LZ4_END = 1024 + 0x80 };

static guint32
slow_crc32 (const guint8 *bytes, gsize length)
{
  guint32 crc = G_MAXUINT32;
  for (gsize i = 0; i < length * 8; i++)
    crc = crc >> 1 ^ ((crc ^ bytes[i / 8] >> i % 8) & 1 ? 0xedb88320u : 0);
  return crc;
}

static void
fill_lz4_bzimage (guint8 image[LZ4_END + 8], const char *version)
{
  static const guint8 payload[LZ4_PAYLOAD] = "\x02\x21\x4c\x18\x0f\0\0\0\xe0vmlinux is her\x0e\0\0";
  const guint32 fields[] = { LZ4_PAYLOAD_AT, LZ4_PAYLOAD, (LZ4_END - 1024) / 16, 0x80 };
  const guint16 protocol = 0x020f, version_at = 0x160;
  memset (image, 0, LZ4_END + 8);
  image[0x1f1] = 1;
  memcpy (image + 0x1fe, "\x55\xaaxxHdrS", 8);
  memcpy (image + 0x206, &protocol, 2);
  memcpy (image + 0x20e, &version_at, 2);
  memcpy (image + 0x248, &fields[0], 4);
  memcpy (image + 0x24c, &fields[1], 4);
  memcpy (image + 0x1f4, &fields[2], 4);
  memcpy (image + 0x3c, &fields[3], 4);
  memcpy (image + 0x80, "PE\0", 4);
  memcpy (image + 0x200 + version_at, version, strlen (version));
  memcpy (image + 1024 + LZ4_PAYLOAD_AT, payload, sizeof payload);
  guint32 crc = slow_crc32 (image, LZ4_END - 4);
  memcpy (image + LZ4_END - 4, &crc, 4);
  memset (image + 0x80 + 24 + 64, 's', 4); /* the signature comes after the checksum */
  memset (image + 0x80 + 24 + 144, 's', 8);
}

static void
try_lz4_bzimage (const char *version, gsize flipped, const char *problem)
{
  guint8 image[LZ4_END + 8];
  g_autoptr (GError) error = NULL;
  fill_lz4_bzimage (image, version);
  image[flipped] ^= flipped != 0 ? 1 : 0;
  g_autoptr (GBytes) bytes = banger_bzimage_extract (image, sizeof image, &error);
  if (problem == NULL) {
    g_assert_no_error (error);
    g_assert_cmpuint (g_bytes_get_size (bytes), ==, LZ4_TEXT);
    return;
  }
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_KERNEL);
  g_assert_nonnull (strstr (error->message, problem));
}

/* lz4 as the kernel uses it has no checksum: a bit of the kernel that is flipped is seen by the image's own. */
static void
test_flipped_bit (void)
{
  const gsize text = 1024 + LZ4_PAYLOAD_AT + 10, size = 1024 + LZ4_PAYLOAD_AT + LZ4_PAYLOAD - 4;
  try_lz4_bzimage ("6.1.0-56", 0, NULL);
  try_lz4_bzimage ("6.1.0-56", text, "its checksum does not hold");
  try_lz4_bzimage ("5.10.0", text, "its checksum does not hold");
  try_lz4_bzimage ("6.15.0", text, NULL); /* there is none any more */
  try_lz4_bzimage ("of my own", text, NULL);
  try_lz4_bzimage ("6.15.0", size, "should have 15");
}

/* As scripts/Makefile.lib of the kernel calls them, at a speed for tests. */
static const struct {
  const char *name, *command;
  gboolean has_size; /* of its own */
} packers[] = {
  { "gzip", "gzip -n -9", TRUE },
  { "bzip2", "bzip2 -9", FALSE },
  { "xz", "xz --check=crc32 --x86 --lzma2=dict=1MiB", FALSE },
  { "lzma", "xz --format=lzma -6", FALSE },
  { "lz4", "lz4 -l -9 -q", FALSE },
  { "zstd", "zstd -19 -q", FALSE },
  { "lzop", "lzop -9", FALSE },
};

/* More than two blocks of lzop's, and of all kinds: what repeats near and far, and what does not. */
static GBytes *
much_text (void)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (20261130);
  GByteArray *text = g_byte_array_new ();
  while (text->len < 600000) {
    guint kind = (guint)g_rand_int_range (random, 0, 4), length = (guint)g_rand_int_range (random, 1, 3000);
    guint from = (guint)g_rand_int_range (random, 0, (gint32)text->len + 1);
    for (guint i = 0; i < length; i++) {
      guint8 byte = kind == 0          ? (guint8)g_rand_int (random)
                    : kind == 1        ? (guint8)length
                    : from < text->len ? text->data[from++]
                                       : 0x90;
      g_byte_array_append (text, &byte, 1);
    }
  }
  return g_byte_array_free_to_bytes (text);
}

static GByteArray *
bzimage_of (const guint8 *payload, gsize length, guint32 size, gboolean has_size)
{
  const guint16 protocol = 0x020f;
  guint32 bytes = (guint32)length + (has_size ? 0 : 4);
  GByteArray *image = g_byte_array_new ();
  g_byte_array_set_size (image, 1024);
  memset (image->data, 0, 1024);
  image->data[0x1f1] = 1;
  memcpy (image->data + 0x1fe, "\x55\xaaxxHdrS", 8);
  memcpy (image->data + 0x206, &protocol, 2);
  memcpy (image->data + 0x24c, &bytes, 4);
  g_byte_array_append (image, payload, (guint)length);
  if (!has_size)
    g_byte_array_append (image, (const guint8 *)&size, 4);
  return image;
}

static GBytes *
pack (const char *command, GBytes *text)
{
  g_auto (GStrv) words = g_strsplit (command, " ", -1);
  g_autofree char *program = g_find_program_in_path (words[0]);
  g_autoptr (GSubprocess) child = program ? g_subprocess_newv (
                                      (const char *const *)words,
                                      G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL)
                                          : NULL;
  GBytes *packed = NULL;
  if (child
      && (!g_subprocess_communicate (child, text, NULL, &packed, NULL, NULL) || !g_subprocess_get_successful (child)))
    g_error ("%s failed", command);
  return packed;
}

/* Each as its own program writes it; one that is cut is not taken. */
static void
test_packed (gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  g_autoptr (GBytes) text = much_text ();
  g_autoptr (GBytes) packed = pack (packers[row].command, text);
  if (!packed) {
    g_test_skip ("there is no such program here");
    return;
  }
  gsize length;
  const guint8 *payload = g_bytes_get_data (packed, &length);
  g_autoptr (GByteArray) image = bzimage_of (payload, length, (guint32)g_bytes_get_size (text), packers[row].has_size);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) plain = banger_bzimage_extract (image->data, image->len, &error);
  g_assert_no_error (error);
  g_assert_true (g_bytes_equal (plain, text));

  for (gsize cut = length / 7; cut < length; cut += length / 7) {
    g_autoptr (GByteArray) shorter = bzimage_of (payload, cut, (guint32)g_bytes_get_size (text), packers[row].has_size);
    g_assert_null (banger_bzimage_extract (shorter->data, shorter->len, NULL));
  }
}

/* lzop's checksum is looked at: no bit of the content can be another one. */
static void
test_lzo_checksum (void)
{
  g_autoptr (GBytes) text = much_text (), packed = pack ("lzop -9", text);
  if (!packed) {
    g_test_skip ("there is no lzop here");
    return;
  }
  gsize length;
  g_autofree guint8 *bytes = g_memdup2 (g_bytes_get_data (packed, &length), g_bytes_get_size (packed));
  for (gsize at = 60; at < length; at += length / 200) {
    bytes[at] ^= 4;
    g_autoptr (GBytes) plain = banger_lzo_unpack (bytes, length, 1 << 20, NULL);
    g_assert_null (plain);
    bytes[at] ^= 4;
  }
  g_autoptr (GBytes) plain = banger_lzo_unpack (bytes, length, g_bytes_get_size (text) - 1, NULL);
  g_assert_null (plain); /* larger than it may be */
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/kernel/bad-elf", test_bad_elf);
  g_test_add_func ("/kernel/noise", test_noise);
  g_test_add_func ("/kernel/bad-bzimage", test_bad_bzimage);
  for (guint i = 0; i < G_N_ELEMENTS (packers); i++) {
    g_autofree char *path = g_strconcat ("/kernel/packed/", packers[i].name, NULL);
    g_test_add_data_func (path, GUINT_TO_POINTER (i), test_packed);
  }
  g_test_add_func ("/kernel/lzo-checksum", test_lzo_checksum);
  g_test_add_func ("/kernel/flipped-bit", test_flipped_bit);
  return g_test_run ();
}
