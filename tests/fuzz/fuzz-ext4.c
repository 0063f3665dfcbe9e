/* ext4 images that somebody else made: opening, looking for a program, copying a tree out.
 * Run as replay.c says.
 * Never mounts one. */
#include <glib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "fuzz.h"
#include "intake/ext4-reader.h"

static int
memory (const uint8_t *data, size_t size)
{
  int fd = memfd_create ("fuzz", MFD_CLOEXEC);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (pwrite (fd, data, size, 0), ==, (ssize_t)size);
  return fd;
}

static void
copy (BangerExt4Reader *reader)
{
  const BangerExt4Options options = { .size_bytes = BANGER_EXT4_MIN_BYTES };
  banger_autofd int fd = memory (NULL, 0);
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (fd, &options, NULL);
  g_autoptr (GError) error = NULL;
  if (writer && !banger_ext4_reader_copy_tree (reader, "/root", writer, NULL, &error))
    g_assert_nonnull (error);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  banger_autofd int fd = memory (data, size);
  g_autoptr (GError) error = NULL;
  guint64 total = 0, used = 0;
  g_autoptr (BangerExt4Reader) reader = banger_ext4_reader_open (fd, &error);
  g_assert_true ((reader == NULL) == (error != NULL));
  if (!reader)
    return 0;
  banger_ext4_reader_sizes (reader, &total, &used);
  g_assert_true (total <= size && used <= total);
  (void)banger_ext4_reader_has_program (reader, "/sbin/init");
  g_autoptr (GByteArray) fstab = banger_ext4_reader_read_file (reader, "/etc/fstab", 1000);
  g_assert_true (fstab == NULL || fstab->len <= 1000);
  copy (reader);
  return 0;
}
