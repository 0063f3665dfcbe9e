/* Spools the files of an archive of layers: they come in any order and are needed from the lowest layer up.
 * Used by image.c.
 * Never believes a name: it is a key of a table and nothing else. */
#include "intake/spool.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "intake/ext4-tar.h"

#define MAX_FILES 8192u
#define MAX_NAME 512u
#define MAX_BYTES (G_GUINT64_CONSTANT (1) << 40)
#define HEX_DIGITS 64u

typedef struct {
  guint64 offset, length;
  char *link; /* to another file of the archive; NULL: it is one */
} File;

struct BangerArchive {
  int fd;
  GHashTable *files; /* name -> File */
  guint64 end;       /* of what was written */
  enum { UNDECIDED, ROOTFS, TAKEN } kind;
};

void
banger_blob_clear (BangerBlob *blob)
{
  if (blob->own)
    banger_clear_fd (&blob->fd);
  blob->fd = -1;
}

GBytes *
banger_blob_read (const BangerBlob *blob, const char *name, gsize max, GError **error)
{
  if (blob->length > max) {
    banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s has more than %" G_GSIZE_FORMAT " KiB", name, max >> 10);
    return NULL;
  }
  g_autofree char *bytes = g_malloc (blob->length + 1);
  if (banger_read_exactly (blob->fd, bytes, blob->length, (off_t)blob->offset) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", name);
    return NULL;
  }
  return g_bytes_new_take (g_steal_pointer (&bytes), blob->length);
}

static void
file_free (gpointer data)
{
  File *file = data;
  g_free (file->link);
  g_free (file);
}

BangerArchive *
banger_archive_new (int fd)
{
  BangerArchive *archive = g_new0 (BangerArchive, 1);
  archive->fd = fd;
  archive->kind = fd < 0 ? ROOTFS : UNDECIDED;
  archive->files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, file_free);
  return archive;
}

void
banger_archive_free (BangerArchive *archive)
{
  if (!archive)
    return;
  g_hash_table_unref (archive->files);
  g_free (archive);
}

/* What it is */

static const char *
skip_hex (const char *name)
{
  return strspn (name, "0123456789abcdef") == HEX_DIGITS ? name + HEX_DIGITS : NULL;
}

/* "index.json" and so on; "blobs/sha256/HEX"; "HEX.json", "HEX.tar", "HEX/layer.tar"; "sha256:HEX" of crane. */
static gboolean
is_of_archive (const char *name)
{
  static const char *const files[] = { "index.json", "manifest.json", "oci-layout", "repositories", NULL };
  static const char *const behind[] = { "",         ".json", ".tar",       ".tar.gz", ".tar.zst",
                                        "/VERSION", "/json", "/layer.tar", NULL };
  static const char *const before[] = { "blobs/sha256/", "sha256:", "", NULL };
  if (g_strv_contains (files, name))
    return TRUE;
  for (guint i = 0; before[i]; i++) {
    const char *rest = g_str_has_prefix (name, before[i]) ? skip_hex (name + strlen (before[i])) : NULL;
    if (rest && g_strv_contains (behind, rest))
      return TRUE;
  }
  return FALSE;
}

/* Spooling */

static gboolean
write_at (BangerArchive *archive, const guint8 *bytes, gsize length, guint64 at, GError **error)
{
  return banger_write_at (archive->fd, bytes, length, (off_t)at) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep the archive");
}

static int
spool_file (BangerArchive *archive, BangerTarReader *reader, const BangerTarEntry *entry, File *file, GError **error)
{
  const guint8 *bytes;
  gsize length;
  guint64 at;
  int r;
  if (entry->size > MAX_BYTES - archive->end) {
    banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "an archive of more than 1 TiB");
    return -1;
  }
  file->offset = archive->end;
  file->length = entry->size;
  while ((r = banger_tar_reader_data (reader, &bytes, &length, &at, error)) > 0)
    if (!write_at (archive, bytes, length, file->offset + at, error))
      return -1;
  archive->end += entry->size;
  return r;
}

/* "a/../b/c" as seen from the folder of @name. */
static char *
link_target (const char *name, const char *target)
{
  g_autofree char *folder = g_path_get_dirname (name);
  g_autofree char *joined = g_build_filename ("/", strcmp (folder, ".") == 0 ? "" : folder, target, NULL);
  g_autofree char *whole = g_canonicalize_filename (joined, "/");
  return g_strdup (whole + 1);
}

static int
spool (BangerArchive *archive, BangerTarReader *reader, const BangerTarEntry *entry, GError **error)
{
  const char *name = banger_ext4_skip_root (entry->path);
  gboolean symbolic = entry->type == '2', link = symbolic || entry->type == '1';
  if (entry->type != '0' && !link)
    return 1;
  if (strlen (name) > MAX_NAME || g_hash_table_size (archive->files) >= MAX_FILES) {
    banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                      "an archive of layers with more than %u files, or names of more than %u bytes", MAX_FILES,
                      MAX_NAME);
    return -1;
  }
  File *file = g_new0 (File, 1);
  g_hash_table_replace (archive->files, g_strdup (name), file);
  if (!link)
    return spool_file (archive, reader, entry, file, error) < 0 ? -1 : 1;
  file->link = symbolic ? link_target (name, entry->link) : g_strdup (banger_ext4_skip_root (entry->link));
  return 1;
}

int
banger_archive_divert (BangerTarReader *reader, const BangerTarEntry *entry, gpointer data, GError **error)
{
  BangerArchive *archive = data;
  int r = 1;
  if (archive->kind == UNDECIDED && entry->type != '5')
    archive->kind = is_of_archive (banger_ext4_skip_root (entry->path)) ? TAKEN : ROOTFS;
  if (archive->kind != TAKEN)
    return 0;
  while (r > 0 && (r = spool (archive, reader, entry, error)) > 0)
    r = banger_tar_reader_next (reader, &entry, error);
  return r < 0 ? -1 : 1;
}

/* Its files */

gboolean
banger_archive_taken (const BangerArchive *archive)
{
  return archive->kind == TAKEN;
}

/* One link is followed: programs that write more are not known. */
static const File *
find (const BangerArchive *archive, const char *name)
{
  const File *file = g_hash_table_lookup (archive->files, name);
  if (file && file->link)
    file = g_hash_table_lookup (archive->files, file->link);
  return file && !file->link ? file : NULL;
}

gboolean
banger_archive_has (const BangerArchive *archive, const char *name)
{
  return find (archive, name) != NULL;
}

static gboolean
open_file (gpointer data, const char *name, BangerBlob *ret_blob, GError **error)
{
  const BangerArchive *archive = data;
  const File *file = find (archive, name);
  if (!file)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "the archive has no %.200s", name);
  *ret_blob = (BangerBlob){ archive->fd, file->offset, file->length, FALSE };
  return TRUE;
}

BangerBlobs
banger_archive_blobs (BangerArchive *archive)
{
  return (BangerBlobs){ open_file, archive };
}
