/* Walks over a .deb (two nested libarchive readers) and over a tar of modules.
 * Never unpacks to disk: names in a package decide nothing. */
#include "intake/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "intake/unpack.h"

#define MAX_FILES 100000
#define MAX_UNPACKED_BYTES (4ull << 30)
#define READ_BLOCK (1 << 18)

struct BangerTreeFile {
  const char *path;
  struct archive *archive;
  guint64 size;
};

typedef struct {
  struct archive *outer;
  int fd;
  guint64 file_bytes, unpacked_bytes;
  const BangerTreeWalk *walk;
} Deb;

static GBytes *
read_part (BangerTreeFile *file, GError **error)
{
  g_autofree guint8 *data = g_malloc (file->size + 1);
  guint64 used = 0;
  while (used < file->size) {
    la_ssize_t n = archive_read_data (file->archive, data + used, file->size - used);
    if (n <= 0) {
      banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "cannot read %s: %s", file->path,
                        n == 0 ? "it is cut short" : archive_error_string (file->archive));
      return NULL;
    }
    used += (guint64)n;
  }
  return g_bytes_new_take (g_steal_pointer (&data), used);
}

GBytes *
banger_tree_file_read (BangerTreeFile *file, gsize max, GError **error)
{
  if (file->size <= max)
    return read_part (file, error);
  banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                    "%s has %" G_GUINT64_FORMAT " MiB, more than the %" G_GSIZE_FORMAT " MiB that are allowed",
                    file->path, file->size >> 20, max >> 20);
  return NULL;
}

static la_ssize_t
on_inner_read (struct archive *inner, void *data, const void **block)
{
  Deb *deb = data;
  size_t size = 0;
  la_int64_t offset;
  int r = archive_read_data_block (deb->outer, block, &size, &offset);
  if (deb->walk->progress && deb->file_bytes > 0)
    deb->walk->progress ((double)archive_filter_bytes (deb->outer, -1) / (double)deb->file_bytes, deb->walk->user_data);
  if (r == ARCHIVE_EOF)
    return 0;
  if (r == ARCHIVE_OK)
    return (la_ssize_t)size;
  archive_set_error (inner, archive_errno (deb->outer), "%s", archive_error_string (deb->outer));
  return -1;
}

/* "./lib/x" and "lib/x" are the same; nothing else is normal in a package. */
static const char *
plain_path (const char *path)
{
  if (!path)
    return NULL;
  while (g_str_has_prefix (path, "./"))
    path += 2;
  if (path[0] == '/')
    return NULL;
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **part = parts; *part; part++)
    if (g_str_equal (*part, ".."))
      return NULL;
  return path;
}

static gboolean
visit_entry (Deb *deb, struct archive *inner, struct archive_entry *entry, gboolean *ret_stop, GError **error)
{
  const char *path = plain_path (archive_entry_pathname (entry));
  if (!path) {
    g_autofree char *shown = g_strescape (archive_entry_pathname (entry) ? archive_entry_pathname (entry) : "", NULL);
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL,
                             "the package holds the path '%s', which leads out of it", shown);
  }
  if (archive_entry_filetype (entry) != AE_IFREG || archive_entry_hardlink (entry))
    return TRUE;
  BangerTreeFile file = { .path = path, .archive = inner, .size = (guint64)archive_entry_size (entry) };
  deb->unpacked_bytes += file.size;
  if (archive_entry_size (entry) < 0 || deb->unpacked_bytes > MAX_UNPACKED_BYTES)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package unpacks to more than %llu GiB",
                             MAX_UNPACKED_BYTES >> 30);
  return deb->walk->visit (path, &file, deb->walk->user_data, ret_stop, error);
}

static gboolean
walk_inner (Deb *deb, struct archive *inner, GError **error)
{
  gboolean stop = FALSE;
  for (guint n = 0; !stop; n++) {
    struct archive_entry *entry;
    int r = archive_read_next_header (inner, &entry);
    if (r == ARCHIVE_EOF)
      return TRUE;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package's files cannot be read: %s",
                               archive_error_string (inner));
    if (n == MAX_FILES)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package holds more than %d files", MAX_FILES);
    if (!visit_entry (deb, inner, entry, &stop, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
walk_data_member (Deb *deb, GError **error)
{
  struct archive *inner = archive_read_new ();
  banger_unpack_add_filters (inner);
  archive_read_support_format_tar (inner);
  gboolean ok;
  if (archive_read_open (inner, deb, NULL, on_inner_read, NULL) == ARCHIVE_OK)
    ok = walk_inner (deb, inner, error);
  else
    ok = banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the package's data cannot be read: %s",
                           archive_error_string (inner));
  archive_read_free (inner);
  return ok;
}

static gboolean
walk_outer (Deb *deb, GError **error)
{
  struct archive_entry *entry;
  if (archive_read_open_fd (deb->outer, deb->fd, READ_BLOCK) != ARCHIVE_OK)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a Debian package: %s",
                             archive_error_string (deb->outer));
  while (archive_read_next_header (deb->outer, &entry) == ARCHIVE_OK) {
    const char *name = archive_entry_pathname (entry);
    if (name && g_str_has_prefix (name, "data.tar"))
      return walk_data_member (deb, error);
  }
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a Debian package: it has no data member");
}

gboolean
banger_tree_walk_deb (int fd, const BangerTreeWalk *walk, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0 || lseek (fd, 0, SEEK_SET) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the package");
  Deb deb = { .outer = archive_read_new (), .fd = fd, .file_bytes = (guint64)st.st_size, .walk = walk };
  archive_read_support_format_ar (deb.outer);
  gboolean ok = walk_outer (&deb, error);
  archive_read_free (deb.outer);
  return ok;
}

gboolean
banger_tree_walk_tar (int fd, const BangerTreeWalk *walk, GError **error)
{
  if (lseek (fd, 0, SEEK_SET) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the modules");
  Deb deb = { .fd = fd, .walk = walk };
  struct archive *tar = archive_read_new ();
  archive_read_support_format_tar (tar);
  gboolean ok = archive_read_open_fd (tar, fd, READ_BLOCK) == ARCHIVE_OK
                    ? walk_inner (&deb, tar, error)
                    : banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the modules cannot be read: %s",
                                        archive_error_string (tar));
  archive_read_free (tar);
  return ok;
}
