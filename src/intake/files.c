/* The tar reader's entries as frames.
 * Never keeps more of the archive than the reader does. */
#include "intake/files.h"

#include <errno.h>
#include <unistd.h>

#include "intake/entries.h"
#include "intake/tar-reader.h"

#define MAX_BEHIND (1u << 20) /* bytes that may follow the mark of the end: tar(1) fills its last record */

typedef struct {
  int fd;
  guint8 buffer[128 << 10];
} Source;

static gssize
read_source (gpointer data, const void **ret_bytes, GError **error)
{
  Source *source = data;
  ssize_t n;
  while ((n = read (source->fd, source->buffer, sizeof source->buffer)) < 0 && errno == EINTR)
    ;
  *ret_bytes = source->buffer;
  if (n < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read it");
  return n;
}

static gboolean
say_entry (int fd, const BangerTarEntry *tar)
{
  const BangerTreeEntry entry = { .type = tar->type,
                                  .mode = tar->mode,
                                  .mtime = tar->mtime,
                                  .nsec = tar->mtime_nsec,
                                  .size = tar->size,
                                  .path = tar->path,
                                  .link = tar->link };
  return banger_entries_say_entry (fd, &entry);
}

/* Returns: 1, 0 if nobody listens, -1 with @error. */
static int
say_all_of (BangerTarReader *reader, int fd, GError **error)
{
  const BangerTarEntry *entry;
  const guint8 *bytes;
  gsize length;
  guint64 offset;
  int r;
  while ((r = banger_tar_reader_next (reader, &entry, error)) > 0) {
    if (!say_entry (fd, entry))
      return 0;
    while ((r = banger_tar_reader_data (reader, &bytes, &length, &offset, error)) > 0)
      if (!banger_entries_say_data (fd, bytes, length, offset))
        return 0;
    if (r < 0)
      return -1;
  }
  return r < 0 ? -1 : 1;
}

static int
pass_rest (BangerTarStream *stream, GError **error)
{
  const guint8 *bytes;
  gssize n;
  guint64 passed = 0;
  while ((n = banger_tar_stream_get (stream, G_MAXINT, &bytes, error)) > 0)
    if ((passed += (guint64)n) > MAX_BEHIND) {
      banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "it goes on behind its end");
      return -1;
    }
  return n < 0 ? -1 : 1;
}

gboolean
banger_intake_files (int source_fd, int answer_fd)
{
  g_autofree Source *source = g_new (Source, 1);
  g_autoptr (GError) error = NULL;
  source->fd = source_fd;
  g_autoptr (BangerTarStream) stream = banger_tar_stream_new (read_source, source);
  g_autoptr (BangerTarReader) reader = banger_tar_reader_new (stream);
  int r = say_all_of (reader, answer_fd, &error);
  if (r > 0)
    r = pass_rest (stream, &error);
  if (r < 0)
    return banger_entries_say_failed (answer_fd, error->message);
  return r > 0 && banger_entries_say_end (answer_fd);
}
