/* The setup header of a bzImage and its payload.
 * Never reads outside the given bytes. */
#include "intake/bzimage.h"

#include <stdio.h>
#include <string.h>

#include "common/error.h"
#include "intake/lzo.h"
#include "intake/unpack.h"

enum {
  PE_OFFSET = 0x3c,
  SETUP_SECTS = 0x1f1,
  SYSSIZE = 0x1f4,
  BOOT_FLAG = 0x1fe,
  HEADER_MAGIC = 0x202,
  PROTOCOL = 0x206,
  VERSION_OFFSET = 0x20e,
  PAYLOAD_OFFSET = 0x248,
  PAYLOAD_LENGTH = 0x24c,
  HEADER_END = 0x250,
};
#define PROTOCOL_WITH_PAYLOAD 0x0208
#define SECTOR 512
#define SIZE_SUFFIX 4
#define PARAGRAPH 16
/* What a signature changes of the PE header: where it is, behind the signature of the header itself. */
enum { PE_CHECKSUM = 24 + 64, PE_CERTIFICATES = 24 + 144 };

static guint32
little (const guint8 *data, gsize bytes)
{
  guint32 value = 0;
  for (gsize i = 0; i < bytes; i++)
    value |= (guint32)data[i] << (8 * i);
  return value;
}

gboolean
banger_bzimage_check (const guint8 *data, gsize length)
{
  return length >= HEADER_END && little (data + BOOT_FLAG, 2) == 0xaa55 && memcmp (data + HEADER_MAGIC, "HdrS", 4) == 0;
}

static GBytes *
unpack_known (const guint8 *data, gsize length, gsize max, GError **error)
{
  return banger_unpack (data, length, max, "the kernel in the bzImage", error);
}

/* The kernel's build appends the size of the result to every form but gzip, which has it in its own trailer
 * (scripts/Makefile.lib, size_append). */
static const struct {
  const char *magic;
  gsize magic_length;
  gsize suffix;
  gboolean checked; /* it has a checksum of its own */
  GBytes *(*unpack) (const guint8 *data, gsize length, gsize max, GError **error);
} forms[] = {
  { "\x1f\x8b", 2, 0, TRUE, unpack_known },
  { "BZh", 3, SIZE_SUFFIX, TRUE, unpack_known },
  { "\xfd"
    "7zXZ\0",
    6, SIZE_SUFFIX, TRUE, unpack_known },
  { "\x5d\0\0", 3, SIZE_SUFFIX, FALSE, unpack_known },         /* lzma */
  { "\x02\x21\x4c\x18", 4, SIZE_SUFFIX, FALSE, unpack_known }, /* lz4 */
  { "\x28\xb5\x2f\xfd", 4, SIZE_SUFFIX, TRUE, unpack_known },  /* zstd */
  { "\x89LZO", 4, SIZE_SUFFIX, TRUE, banger_lzo_unpack },
};

/* IEEE 802.3, not inverted at the end: 0 over bytes that end with their own. @bytes %NULL: zeros. */
static guint32
crc32_add (guint32 crc, const guint8 *bytes, gsize length)
{
  static guint32 table[256];
  for (guint32 i = 0; table[255] == 0 && i < 256; i++) {
    table[i] = i;
    for (guint bit = 0; bit < 8; bit++)
      table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
  }
  for (gsize i = 0; i < length; i++)
    crc = crc >> 8 ^ table[(crc ^ (bytes ? bytes[i] : 0)) & 0xff];
  return crc;
}

/* The kernel's build ended an image with its checksum until Linux 6.15. */
static gboolean
has_checksum (const guint8 *data, gsize length)
{
  guint64 at = little (data + VERSION_OFFSET, 2) + SECTOR;
  g_autofree char *version = at < length ? g_strndup ((const char *)data + at, MIN (length - at, 20)) : NULL;
  unsigned major, minor;
  return version && sscanf (version, "%u.%u", &major, &minor) == 2 && (major < 6 || (major == 6 && minor < 15));
}

/* A signature changes two fields of the header that were zero when the checksum was made. */
static gboolean
checksum_holds (const guint8 *data, gsize length)
{
  guint64 sectors = data[SETUP_SECTS] ? data[SETUP_SECTS] : 4;
  guint64 end = (sectors + 1) * SECTOR + (guint64)little (data + SYSSIZE, 4) * PARAGRAPH;
  guint64 pe = little (data + PE_OFFSET, 4);
  if (end > length)
    return FALSE;
  if (pe >= SECTOR * 2 || pe + PE_CERTIFICATES + 8 > end || memcmp (data + pe, "PE\0", 4) != 0)
    return crc32_add (G_MAXUINT32, data, end) == 0;
  guint64 checksum = pe + PE_CHECKSUM, certificates = pe + PE_CERTIFICATES;
  guint32 crc = crc32_add (G_MAXUINT32, data, checksum);
  crc = crc32_add (crc, NULL, 4);
  crc = crc32_add (crc, data + checksum + 4, certificates - checksum - 4);
  crc = crc32_add (crc, NULL, 8);
  return crc32_add (crc, data + certificates + 8, end - certificates - 8) == 0;
}

/* @image: the whole, for what of it proves that the payload is whole. */
static GBytes *
unpack_payload (const guint8 *image, gsize image_length, const guint8 *payload, gsize length, gsize form,
                GError **error)
{
  if (!forms[form].checked && has_checksum (image, image_length) && !checksum_holds (image, image_length)) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the bzImage is damaged: its checksum does not hold");
    return NULL;
  }
  GBytes *bytes = forms[form].unpack (payload, length - forms[form].suffix, BANGER_VMLINUX_MAX, error);
  if (!bytes || forms[form].suffix == 0
      || g_bytes_get_size (bytes) == little (payload + length - SIZE_SUFFIX, SIZE_SUFFIX))
    return bytes;
  banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                    "the bzImage is damaged: its kernel has %" G_GSIZE_FORMAT " bytes and should have %u",
                    g_bytes_get_size (bytes), little (payload + length - SIZE_SUFFIX, SIZE_SUFFIX));
  g_bytes_unref (bytes);
  return NULL;
}

static GBytes *
extract_payload (const guint8 *image, gsize image_length, const guint8 *payload, gsize length, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (forms); i++) {
    if (length < forms[i].magic_length + forms[i].suffix
        || memcmp (payload, forms[i].magic, forms[i].magic_length) != 0)
      continue;
    return unpack_payload (image, image_length, payload, length, i, error);
  }
  banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the bzImage is compressed in an unknown way");
  return NULL;
}

GBytes *
banger_bzimage_extract (const guint8 *data, gsize length, GError **error)
{
  if (!banger_bzimage_check (data, length)) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a bzImage: no boot header");
    return NULL;
  }
  if (little (data + PROTOCOL, 2) < PROTOCOL_WITH_PAYLOAD) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                      "the bzImage is too old: boot protocol %x.%02x, 2.08 is needed", data[PROTOCOL + 1],
                      data[PROTOCOL]);
    return NULL;
  }
  guint64 sectors = data[SETUP_SECTS] ? data[SETUP_SECTS] : 4;
  guint64 start = (sectors + 1) * SECTOR + little (data + PAYLOAD_OFFSET, 4);
  guint64 size = little (data + PAYLOAD_LENGTH, 4);
  if (size == 0 || start + size > length) {
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                      "the bzImage is cut short or damaged: its payload ends at %" G_GUINT64_FORMAT
                      " of %" G_GSIZE_FORMAT " bytes",
                      start + size, length);
    return NULL;
  }
  return extract_payload (data, length, data + start, size, error);
}
