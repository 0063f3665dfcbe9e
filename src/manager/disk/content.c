/* Data by lseek(2), in pieces at fixed places: a copy with other holes has the same digest.
 * Runs in worker threads.
 * Never changes where anybody else reads. */
#include "manager/disk/content.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/error.h"

#define PIECE ((off_t)64 << 10)

static void
update_number (BangerDigest *digest, guint64 number)
{
  const guint64 bytes = GUINT64_TO_LE (number);
  banger_digest_update (digest, &bytes, sizeof bytes);
}

static gboolean
is_zero (const guint8 *piece, ssize_t length)
{
  return length == 0 || (piece[0] == 0 && memcmp (piece, piece + 1, (size_t)length - 1) == 0);
}

char *
banger_content_digest (int fd, GCancellable *cancellable, GError **error)
{
  struct stat st;
  g_autofree guint8 *piece = g_malloc ((gsize)PIECE);
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  gboolean good = fstat (fd, &st) == 0;
  update_number (digest, good ? (guint64)st.st_size : 0);
  off_t data = 0;
  for (off_t at = 0; good && (data = lseek (fd, at, SEEK_DATA)) >= 0;) {
    off_t hole = lseek (fd, data, SEEK_HOLE);
    good = hole >= 0;
    for (at = data / PIECE * PIECE; good && at < hole; at += PIECE) {
      ssize_t length = banger_read_at (fd, piece, (size_t)PIECE, at);
      if (g_cancellable_is_cancelled (cancellable)) {
        banger_set_cancelled (error);
        return NULL;
      }
      good = length >= 0;
      if (!good || is_zero (piece, length))
        continue;
      update_number (digest, (guint64)at);
      banger_digest_update (digest, piece, (gsize)length);
    }
  }
  if (good && (data >= 0 || errno == ENXIO)) /* ENXIO: no data behind that */
    return banger_digest_finish (digest);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the file");
  return NULL;
}
