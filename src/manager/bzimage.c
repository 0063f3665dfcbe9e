/* The setup header of a bzImage and its payload.
 * Called by kernel-import.c.
 * Never reads outside the given bytes. */
#include "manager/bzimage.h"

#include <string.h>

#include "common/error.h"
#include "manager/unpack.h"

enum {
  SETUP_SECTS = 0x1f1,
  BOOT_FLAG = 0x1fe,
  HEADER_MAGIC = 0x202,
  PROTOCOL = 0x206,
  PAYLOAD_OFFSET = 0x248,
  PAYLOAD_LENGTH = 0x24c,
  HEADER_END = 0x250,
};
#define PROTOCOL_WITH_PAYLOAD 0x0208
#define SECTOR 512
#define SIZE_SUFFIX 4

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

/* The kernel's build appends the size of the result to every form but gzip, which has it in its own trailer
 * (scripts/Makefile.lib, size_append). */
static const struct {
  const char *name, *magic;
  gsize magic_length;
  gsize suffix;
  gboolean supported;
} forms[] = {
  { "gzip", "\x1f\x8b", 2, 0, TRUE },
  { "bzip2", "BZh", 3, SIZE_SUFFIX, TRUE },
  { "xz",
    "\xfd"
    "7zXZ\0",
    6, SIZE_SUFFIX, TRUE },
  { "lzma", "\x5d\0\0", 3, SIZE_SUFFIX, TRUE },
  { "lz4", "\x02\x21\x4c\x18", 4, SIZE_SUFFIX, TRUE },
  { "zstd", "\x28\xb5\x2f\xfd", 4, SIZE_SUFFIX, TRUE },
  { "lzo", "\x89LZO", 4, SIZE_SUFFIX, FALSE },
};

static GBytes *
extract_payload (const guint8 *payload, gsize length, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (forms); i++) {
    if (length < forms[i].magic_length + forms[i].suffix
        || memcmp (payload, forms[i].magic, forms[i].magic_length) != 0)
      continue;
    if (forms[i].supported)
      return banger_unpack (payload, length - forms[i].suffix, BANGER_VMLINUX_MAX, "the kernel in the bzImage", error);
    banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                      "the bzImage is compressed with %s, which is not supported; import its ELF vmlinux",
                      forms[i].name);
    return NULL;
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
  return extract_payload (data + start, size, error);
}
