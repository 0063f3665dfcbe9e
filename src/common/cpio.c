/* The archive writer of cpio.h, on libarchive.
 * Runs in worker threads.
 * Never writes an entry whose size is not known beforehand. */
#include "common/cpio.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"

#define WRITE_BLOCK (256 * 1024)
#define PADDING 512
#define COPY_BLOCK (256 * 1024)

struct BangerCpio {
  struct archive *archive;
  int fd;
  int write_errno;
  gboolean abandoned;
  guint64 written;
  gint64 last_inode; /* equal numbers would mean hard links */
};

static gboolean
write_all (BangerCpio *cpio, const void *data, gsize length)
{
  if (banger_write_all (cpio->fd, data, length) < 0) {
    cpio->write_errno = errno;
    return FALSE;
  }
  cpio->written += length;
  return TRUE;
}

static la_ssize_t
on_write (struct archive *archive, void *data, const void *bytes, size_t length)
{
  BangerCpio *cpio = data;
  if (cpio->abandoned || write_all (cpio, bytes, length))
    return (la_ssize_t)length;
  archive_set_error (archive, cpio->write_errno, "cannot write");
  return ARCHIVE_FATAL;
}

static gboolean
fail (BangerCpio *cpio, const char *path, GError **error)
{
  int errnum = cpio->write_errno ? cpio->write_errno : archive_errno (cpio->archive);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errnum > 0 ? errnum : EIO, "cannot write initramfs (%s)",
                                 path);
}

BangerCpio *
banger_cpio_new (int out_fd, GError **error)
{
  g_autoptr (BangerCpio) cpio = g_new0 (BangerCpio, 1);
  cpio->fd = out_fd;
  cpio->archive = archive_write_new ();
  if (!cpio->archive || archive_write_set_format_cpio_newc (cpio->archive) != ARCHIVE_OK
      || archive_write_set_bytes_per_block (cpio->archive, WRITE_BLOCK) != ARCHIVE_OK
      || archive_write_set_bytes_in_last_block (cpio->archive, 1) != ARCHIVE_OK
      || archive_write_open (cpio->archive, cpio, NULL, on_write, NULL) != ARCHIVE_OK)
  {
    banger_set_error (error, BANGER_ERROR_FAILED, "cannot start a cpio archive: %s",
                      cpio->archive ? archive_error_string (cpio->archive) : "no memory");
    return NULL;
  }
  return g_steal_pointer (&cpio);
}

static gboolean
path_is_plain (const char *path)
{
  if (path[0] == '\0' || path[0] == '/')
    return FALSE;
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **part = parts; *part; part++)
    if (**part == '\0' || g_str_equal (*part, ".") || g_str_equal (*part, ".."))
      return FALSE;
  return TRUE;
}

static gboolean
put_header (BangerCpio *cpio, const char *path, mode_t type, mode_t mode, guint64 size, GError **error)
{
  if (!path_is_plain (path))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "'%s' is not a path in an initramfs", path);
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_set_pathname (entry, path);
  archive_entry_set_filetype (entry, type);
  archive_entry_set_perm (entry, mode);
  archive_entry_set_nlink (entry, 1);
  archive_entry_set_ino64 (entry, ++cpio->last_inode);
  archive_entry_set_mtime (entry, 0, 0);
  archive_entry_set_size (entry, (la_int64_t)size);
  int r = archive_write_header (cpio->archive, entry);
  archive_entry_free (entry);
  return r == ARCHIVE_OK ? TRUE : fail (cpio, path, error);
}

static gboolean
put_data (BangerCpio *cpio, const char *path, const void *data, gsize length, GError **error)
{
  const char *at = data;
  while (length > 0) {
    la_ssize_t n = archive_write_data (cpio->archive, at, length);
    if (n <= 0)
      return fail (cpio, path, error);
    at += n;
    length -= (gsize)n;
  }
  return TRUE;
}

gboolean
banger_cpio_add_dir (BangerCpio *cpio, const char *path, mode_t mode, GError **error)
{
  return put_header (cpio, path, AE_IFDIR, mode, 0, error);
}

gboolean
banger_cpio_add_file (BangerCpio *cpio, const char *path, mode_t mode, const void *data, gsize length, GError **error)
{
  return put_header (cpio, path, AE_IFREG, mode, length, error) && put_data (cpio, path, data, length, error);
}

gboolean
banger_cpio_add_fd (BangerCpio *cpio, const char *path, mode_t mode, int fd, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", path);
  if (!S_ISREG (st.st_mode) || st.st_size > G_MAXUINT32)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s is not a regular file of less than 4 GiB", path);
  if (!put_header (cpio, path, AE_IFREG, mode, (guint64)st.st_size, error))
    return FALSE;

  g_autofree char *block = g_malloc (COPY_BLOCK);
  for (off_t at = 0; at < st.st_size;) {
    gsize n = (gsize)MIN (COPY_BLOCK, st.st_size - at);
    if (banger_read_exactly (fd, block, n, at) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", path);
    if (!put_data (cpio, path, block, n, error))
      return FALSE;
    at += (off_t)n;
  }
  return TRUE;
}

gboolean
banger_cpio_close (BangerCpio *cpio, GError **error)
{
  static const char zeros[PADDING];
  if (archive_write_close (cpio->archive) != ARCHIVE_OK)
    return fail (cpio, "trailer", error);
  gsize padding = (PADDING - cpio->written % PADDING) % PADDING;
  return write_all (cpio, zeros, padding) ? TRUE : fail (cpio, "padding", error);
}

void
banger_cpio_free (BangerCpio *cpio)
{
  if (!cpio)
    return;
  /* Freeing closes; what that would write is nobody's any more. (archive_write_fail() would lose libarchive's buffer.)
   */
  cpio->abandoned = TRUE;
  if (cpio->archive)
    archive_write_free (cpio->archive);
  g_free (cpio);
}
