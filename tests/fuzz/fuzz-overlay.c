/* A snapshot's own file that somebody else made: what is read through it comes of one of the two files, whole or in parts the same.
 * Run as replay.c says.
 * Never has a device made of it. */
#include <ext2fs/ext2fs.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "fuzz.h"
#include "intake/overlay.h"

#define DISK (64u << 10)
#define MOST (1u << 20) /* of the corpus; a longer one says no more */

static int
memory (const uint8_t *data, size_t size)
{
  int fd = memfd_create ("fuzz", MFD_CLOEXEC);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (pwrite (fd, data, size, 0), ==, (ssize_t)size);
  return fd;
}

/* Each sector of the disk is its own; one that is not is the snapshot's. */
static void
check (const BangerOverlay *overlay, const uint8_t *disk, const uint8_t *data, size_t size)
{
  g_autofree uint8_t *whole = g_malloc (DISK);
  uint8_t part[512];
  gboolean all = banger_overlay_read (overlay, whole, DISK, 0), parts = TRUE;
  for (guint64 at = 0; at < DISK; at += sizeof part) {
    gboolean is = banger_overlay_read (overlay, part, sizeof part, at);
    parts &= is;
    g_assert_true (!all || (is && memcmp (part, whole + at, sizeof part) == 0));
    g_assert_true (!is || memcmp (part, disk + at, sizeof part) == 0 || memmem (data, size, part, sizeof part));
  }
  g_assert_true (all == parts);
  static const guint64 far[] = { DISK,        DISK - 1,         G_MAXINT64, G_MAXINT64 - 1, (guint64)G_MAXINT64 + 1,
                                 G_MAXUINT64, G_MAXUINT64 - 511 };
  for (gsize i = 0; i < G_N_ELEMENTS (far); i++)
    (void)banger_overlay_read (overlay, part, sizeof part, far[i]);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GError) error = NULL;
  g_autofree uint8_t *disk = g_malloc (DISK);
  ext2_filsys fs = NULL;
  if (size > MOST)
    return 0;
  for (guint i = 0; i < DISK; i++)
    disk[i] = (uint8_t)(i >> 9 ^ i);
  banger_autofd int base_fd = memory (disk, DISK), cow_fd = memory (data, size);
  g_autoptr (BangerOverlay) overlay = banger_overlay_new (base_fd, cow_fd, &error);
  g_assert_true (overlay || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE));
  if (!overlay)
    return 0;
  g_assert_cmpuint (banger_overlay_size (overlay), ==, DISK);
  check (overlay, disk, data, size);
  if (banger_overlay_fs_open (overlay, &fs) == 0)
    ext2fs_free (fs);
  return 0;
}
