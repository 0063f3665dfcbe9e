/* Tars that somebody else made: read in one piece and in small ones, and written into an ext4 file system, also as layers.
 * Run as replay.c says.
 * Never unpacks one. */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/fd.h"
#include "fuzz.h"
#include "intake/ext4-acl.h"
#include "intake/ext4-tar.h"
#include "intake/tar-reader.h"

typedef struct {
  const uint8_t *data;
  size_t size, at, piece;
} Input;

static gssize
read_input (gpointer data, const void **ret_bytes, GError **error)
{
  Input *input = data;
  size_t n = MIN (input->piece, input->size - input->at);
  *ret_bytes = input->data + input->at;
  input->at += n;
  return (gssize)n;
}

static void
note_entry (const BangerTarEntry *entry, GChecksum *seen)
{
  g_autofree char *line = g_strdup_printf ("%s %s %c %o %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT
                                           ".%u %" G_GUINT64_FORMAT " %u\n",
                                           entry->path, entry->link, entry->type, entry->mode, entry->uid, entry->gid,
                                           entry->mtime, entry->mtime_nsec, entry->size, entry->xattrs->len);
  g_assert_true (entry->mode <= 07777 && entry->mtime_nsec < 1000000000);
  g_assert_nonnull (strchr ("0123456", entry->type));
  g_checksum_update (seen, (const guchar *)line, -1);
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++) {
    g_autoptr (BangerAcl) acl = entry->acls[i] != NULL ? banger_acl_parse (entry->acls[i]) : NULL;
    g_autoptr (GByteArray) value = acl != NULL ? banger_acl_value (acl) : NULL;
    g_assert_true (acl == NULL || banger_acl_mode (acl) <= 0777);
  }
}

/* Returns: (transfer full): a digest of all that comes of it, errors included. */
static char *
read_all (const uint8_t *data, size_t size, size_t piece)
{
  Input input = { data, size, 0, piece };
  g_autoptr (GChecksum) seen = g_checksum_new (G_CHECKSUM_SHA256);
  g_autoptr (BangerTarStream) stream = banger_tar_stream_new (read_input, &input);
  g_autoptr (BangerTarReader) reader = banger_tar_reader_new (stream);
  g_autoptr (GError) error = NULL;
  const BangerTarEntry *entry;
  const guint8 *bytes;
  gsize length;
  int r, d = 0;
  guint64 at, end = 0;
  while (d >= 0 && (r = banger_tar_reader_next (reader, &entry, &error)) > 0) {
    note_entry (entry, seen);
    for (end = 0; (d = banger_tar_reader_data (reader, &bytes, &length, &at, &error)) > 0; end = at + length) {
      g_assert_true (length > 0 && at >= end && at <= entry->size && length <= entry->size - at);
      g_checksum_update (seen, bytes, (gssize)length);
    }
  }
  g_assert_true ((error != NULL) == (d < 0 || r < 0));
  if (error != NULL)
    g_checksum_update (seen, (const guchar *)error->message, -1);
  return g_strdup (g_checksum_get_string (seen));
}

static void
write_ext4 (const uint8_t *data, size_t size)
{
  banger_autofd int tar = memfd_create ("tar", MFD_CLOEXEC), ext4 = memfd_create ("ext4", MFD_CLOEXEC);
  g_assert_cmpint (pwrite (tar, data, size, 0), ==, (ssize_t)size);
  const BangerExt4Options options = { .size_bytes = BANGER_EXT4_MIN_BYTES, .time = 1 };
  g_autoptr (GError) error = NULL;
  gboolean done = banger_ext4_from_tar (tar, ext4, &options, NULL, NULL, NULL, NULL, &error);
  g_assert_true (done == (error == NULL));
}

/* Over a folder, a link and itself. */
static void
lay (const uint8_t *data, size_t size)
{
  static const BangerExt4Entry below[] = { { .path = "a/b/c", .mode = S_IFREG | 0644 },
                                           { .path = "link", .mode = S_IFLNK | 0777, .symlink = "a/b" },
                                           { .path = "a/up", .mode = S_IFLNK | 0777, .symlink = "../a/up" } };
  banger_autofd int tar = memfd_create ("tar", MFD_CLOEXEC), ext4 = memfd_create ("ext4", MFD_CLOEXEC);
  g_assert_cmpint (pwrite (tar, data, size, 0), ==, (ssize_t)size);
  const BangerExt4Options options = { .size_bytes = BANGER_EXT4_MIN_BYTES, .time = 1 };
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  banger_digest_update (digest, data, size);
  g_autofree char *wanted = banger_digest_finish (digest);
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (ext4, &options, NULL);
  const BangerExt4Target target = { writer, NULL };
  const BangerExt4TarOptions layered = { .targets = &target, .n_targets = 1 };
  const BangerExt4Layer layer = { tar, 0, size, wanted, FALSE };
  g_autoptr (BangerExt4Layers) layers = banger_ext4_layers_new (&layered);
  g_autoptr (GError) error = NULL;
  gboolean done = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (below); i++)
    g_assert_true (banger_ext4_writer_add (writer, &below[i], NULL));
  for (guint i = 0; done && i < 2; i++)
    done = banger_ext4_layers_add (layers, &layer, &error);
  done = done && banger_ext4_layers_finish (layers, &error) && banger_ext4_writer_finish (writer, NULL, NULL, &error);
  g_assert_true (done == (error == NULL));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autofree char *whole = read_all (data, size, SIZE_MAX), *pieces = read_all (data, size, size < 4096 ? 1 : 61);
  g_assert_cmpstr (whole, ==, pieces);
  write_ext4 (data, size);
  lay (data, size);
  return 0;
}
