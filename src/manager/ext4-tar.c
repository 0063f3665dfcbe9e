/* libarchive's entries, their ACLs and extended attributes, as entries of the writer.
 * Called by image-build.c and tests.
 * Never starts a program to decompress: only filters that libarchive has built in. */
#include "manager/ext4-tar.h"

#include "common/error.h"
#include "common/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <locale.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#define READ_BYTES (256u * 1024)
#define MAX_XATTRS 64u

typedef struct {
  int fd;
  const BangerExt4TarOptions *options;
  GChecksum *checksum;
  guint8 *buffer;
  guint64 bytes, total; /* read; of the whole tar or 0 */
  GError *error;        /* why the callback failed */
} Source;

/* Waits for data or for the end of patience of whoever called. */
static gboolean
wait_readable (Source *source)
{
  GPollFD cancel = { .fd = -1 };
  gboolean pollable = source->options->cancellable != NULL
                      && g_cancellable_make_pollfd (source->options->cancellable, &cancel);
  struct pollfd fds[] = { { .fd = source->fd, .events = POLLIN }, { .fd = cancel.fd, .events = POLLIN } };
  while (poll (fds, G_N_ELEMENTS (fds), -1) < 0 && errno == EINTR)
    ;
  if (pollable)
    g_cancellable_release_fd (source->options->cancellable);
  if (!g_cancellable_is_cancelled (source->options->cancellable))
    return TRUE;
  g_set_error_literal (&source->error, BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled");
  return FALSE;
}

static ssize_t
read_source (Source *source)
{
  ssize_t n;
  do {
    if (!wait_readable (source))
      return -1;
    n = read (source->fd, source->buffer, READ_BYTES);
  } while (n < 0 && (errno == EINTR || errno == EAGAIN));
  if (n < 0) {
    banger_set_error_errno (&source->error, BANGER_ERROR_FAILED, errno, "cannot read the tar");
    return -1;
  }
  g_checksum_update (source->checksum, source->buffer, n);
  source->bytes += (guint64)n;
  if (source->options->progress != NULL && n > 0)
    source->options->progress (source->total > 0 ? MIN ((double)source->bytes / (double)source->total, 1.0) : -1.0,
                               source->options->progress_data);
  return n;
}

static la_ssize_t
read_callback (struct archive *archive, void *data, const void **ret_buffer)
{
  Source *source = data;
  ssize_t n = read_source (source);
  if (n < 0)
    archive_set_error (archive, ECANCELED, "%s", source->error->message);
  *ret_buffer = source->buffer;
  return n;
}

static gboolean
archive_failed (Source *source, struct archive *archive, GError **error)
{
  if (source->error != NULL) {
    g_propagate_error (error, g_steal_pointer (&source->error));
    return FALSE;
  }
  const char *text = archive_error_string (archive);
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "not a good tar archive: %s",
                           text != NULL ? text : "unknown error");
}

/* POSIX ACLs: libarchive's list to the form of the system.posix_acl_* attributes, see acl(5) */

static gboolean
acl_tag (int archive_tag, guint16 *ret_tag)
{
  static const struct {
    int archive;
    guint16 tag;
  } tags[] = { { ARCHIVE_ENTRY_ACL_USER_OBJ, ACL_USER_OBJ },   { ARCHIVE_ENTRY_ACL_USER, ACL_USER },
               { ARCHIVE_ENTRY_ACL_GROUP_OBJ, ACL_GROUP_OBJ }, { ARCHIVE_ENTRY_ACL_GROUP, ACL_GROUP },
               { ARCHIVE_ENTRY_ACL_MASK, ACL_MASK },           { ARCHIVE_ENTRY_ACL_OTHER, ACL_OTHER } };
  for (guint i = 0; i < G_N_ELEMENTS (tags); i++)
    if (tags[i].archive == archive_tag) {
      *ret_tag = tags[i].tag;
      return TRUE;
    }
  return FALSE;
}

static int
compare_acl (gconstpointer a, gconstpointer b)
{
  const struct posix_acl_xattr_entry *x = a, *y = b;
  if (x->e_tag != y->e_tag)
    return x->e_tag < y->e_tag ? -1 : 1;
  return x->e_id == y->e_id ? 0 : x->e_id < y->e_id ? -1 : 1;
}

/* Returns: the attribute's value; NULL without @error when there is no such ACL. */
static GByteArray *
read_acl (struct archive_entry *entry, int type, guint32 *mode, GError **error)
{
  if (archive_entry_acl_reset (entry, type) == 0)
    return NULL;
  g_autoptr (GArray) list = g_array_new (FALSE, TRUE, sizeof (struct posix_acl_xattr_entry));
  int entry_type, permset, tag, id;
  const char *name;
  while (archive_entry_acl_next (entry, type, &entry_type, &permset, &tag, &id, &name) == ARCHIVE_OK) {
    struct posix_acl_xattr_entry one = { .e_perm = (guint16)(permset & 7), .e_id = G_MAXUINT32 };
    if (!acl_tag (tag, &one.e_tag))
      continue;
    gboolean named = one.e_tag == ACL_USER || one.e_tag == ACL_GROUP;
    if (named && id < 0) {
      banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: its ACL has '%s' without a number",
                        archive_entry_pathname (entry), name != NULL ? name : "");
      return NULL;
    }
    if (named)
      one.e_id = (guint32)id;
    if (one.e_tag == ACL_MASK && type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
      *mode = (*mode & ~070u) | (guint32)one.e_perm << 3;
    g_array_append_val (list, one);
  }
  if (list->len == 0)
    return NULL;
  g_array_sort (list, compare_acl);
  struct posix_acl_xattr_header header = { .a_version = POSIX_ACL_XATTR_VERSION };
  GByteArray *value = g_byte_array_new ();
  g_byte_array_append (value, (const guint8 *)&header, sizeof header);
  g_byte_array_append (value, (const guint8 *)list->data, list->len * (guint)sizeof (struct posix_acl_xattr_entry));
  return value;
}

typedef struct {
  BangerExt4Xattr list[MAX_XATTRS];
  guint count;
  GByteArray *acls[2];
} Xattrs;

static gboolean
add_xattr (Xattrs *xattrs, const char *name, const void *value, size_t length, GError **error)
{
  for (guint i = 0; i < xattrs->count; i++)
    if (strcmp (xattrs->list[i].name, name) == 0)
      return TRUE;
  if (xattrs->count == MAX_XATTRS)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "an entry has more than %u extended attributes",
                             MAX_XATTRS);
  xattrs->list[xattrs->count++] = (BangerExt4Xattr){ name, value, length };
  return TRUE;
}

static gboolean
read_xattrs (struct archive_entry *entry, Xattrs *xattrs, guint32 *mode, GError **error)
{
  static const struct {
    int type;
    const char *name;
  } acls[] = { { ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access" },
               { ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default" } };
  for (guint i = 0; i < G_N_ELEMENTS (acls); i++) {
    g_autoptr (GError) failure = NULL;
    xattrs->acls[i] = read_acl (entry, acls[i].type, mode, &failure);
    if (failure != NULL) {
      g_propagate_error (error, g_steal_pointer (&failure));
      return FALSE;
    }
    if (xattrs->acls[i] != NULL
        && !add_xattr (xattrs, acls[i].name, xattrs->acls[i]->data, xattrs->acls[i]->len, error))
      return FALSE;
  }
  const char *name;
  const void *value;
  size_t length;
  archive_entry_xattr_reset (entry);
  while (archive_entry_xattr_next (entry, &name, &value, &length) == ARCHIVE_OK)
    if (!add_xattr (xattrs, name, value, length, error))
      return FALSE;
  return TRUE;
}

static void
xattrs_clear (Xattrs *xattrs)
{
  for (guint i = 0; i < G_N_ELEMENTS (xattrs->acls); i++)
    g_clear_pointer (&xattrs->acls[i], g_byte_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Xattrs, xattrs_clear)

/* Entries */

static const char *
skip_root (const char *path)
{
  while (path[0] == '/' || (path[0] == '.' && (path[1] == '/' || path[1] == '\0')))
    path++;
  return path;
}

/* Returns: @path as seen from @prefix, NULL if it lies outside. */
static const char *
below_prefix (const char *path, const char *prefix)
{
  if (prefix == NULL)
    return path;
  path = skip_root (path);
  size_t n = strlen (prefix);
  if (strncmp (path, prefix, n) != 0 || (path[n] != '\0' && path[n] != '/'))
    return NULL;
  return path + n;
}

/* Whether @target takes the entry; data follows to those that do. */
static gboolean
add_to_target (const BangerExt4Target *target, const BangerExt4Entry *entry, gboolean *ret_taken, GError **error)
{
  BangerExt4Entry own = *entry;
  *ret_taken = FALSE;
  own.path = below_prefix (entry->path, target->prefix);
  if (entry->hardlink != NULL)
    own.hardlink = below_prefix (entry->hardlink, target->prefix);
  if (own.path == NULL || (entry->hardlink != NULL && own.hardlink == NULL))
    return TRUE;
  /* "/root" that is a link somewhere: the seed stays empty. */
  if (target->prefix != NULL && *skip_root (own.path) == '\0' && !S_ISDIR (own.mode))
    return TRUE;
  *ret_taken = TRUE;
  return banger_ext4_writer_add (target->writer, &own, error);
}

static gboolean
copy_data (Source *source, struct archive *archive, const gboolean *taken, GError **error)
{
  const void *block;
  size_t length;
  la_int64_t offset;
  int r;
  while ((r = archive_read_data_block (archive, &block, &length, &offset)) == ARCHIVE_OK)
    for (guint i = 0; i < source->options->n_targets; i++)
      if (taken[i]
          && !banger_ext4_writer_data (source->options->targets[i].writer, block, length, (guint64)offset, error))
        return FALSE;
  return r == ARCHIVE_EOF ? TRUE : archive_failed (source, archive, error);
}

static gboolean
copy_entry (Source *source, struct archive *archive, struct archive_entry *from, GError **error)
{
  if (archive_entry_pathname (from) == NULL)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "an entry has a name that cannot be read");
  BangerExt4Entry entry = {
    .path = archive_entry_pathname (from),
    .mode = archive_entry_mode (from),
    .uid = archive_entry_uid (from),
    .gid = archive_entry_gid (from),
    .mtime = archive_entry_mtime (from),
    .mtime_nsec = (guint32)archive_entry_mtime_nsec (from),
    .size = archive_entry_size_is_set (from) && archive_entry_size (from) > 0 ? (guint64)archive_entry_size (from) : 0,
    .symlink = archive_entry_symlink (from),
    .hardlink = archive_entry_hardlink (from),
    .major = (guint32)archive_entry_rdevmajor (from),
    .minor = (guint32)archive_entry_rdevminor (from),
  };
  g_auto (Xattrs) xattrs = { 0 };
  if (!read_xattrs (from, &xattrs, &entry.mode, error))
    return FALSE;
  entry.xattrs = xattrs.list;
  entry.n_xattrs = xattrs.count;

  gboolean taken[BANGER_EXT4_MAX_TARGETS];
  for (guint i = 0; i < source->options->n_targets; i++)
    if (!add_to_target (&source->options->targets[i], &entry, &taken[i], error))
      return FALSE;
  if (!S_ISREG (entry.mode) && entry.hardlink == NULL)
    return TRUE;
  return entry.size == 0 || copy_data (source, archive, taken, error);
}

static gboolean
copy_entries (Source *source, struct archive *archive, GError **error)
{
  for (;;) {
    struct archive_entry *entry;
    int r = archive_read_next_header (archive, &entry);
    if (r == ARCHIVE_EOF)
      break;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
      return archive_failed (source, archive, error);
    if (!copy_entry (source, archive, entry, error))
      return FALSE;
  }
  /* The padding behind the end, so that a writer on a pipe is not cut off and the digest is of all bytes. */
  ssize_t n;
  while ((n = read_source (source)) > 0)
    ;
  return n == 0 ? TRUE : archive_failed (source, archive, error);
}

static struct archive *
open_archive (void)
{
  static int (*const filters[]) (struct archive *) = {
    archive_read_support_filter_gzip, archive_read_support_filter_bzip2, archive_read_support_filter_xz,
    archive_read_support_filter_lzma, archive_read_support_filter_zstd,  archive_read_support_filter_lz4
  };
  struct archive *archive = archive_read_new ();
  archive_read_support_format_tar (archive);
  for (guint i = 0; i < G_N_ELEMENTS (filters); i++)
    filters[i](archive);
  return archive;
}

static gboolean
read_all (Source *source, GError **error)
{
  struct archive *archive = open_archive ();
  gboolean done = archive_read_open (archive, source, NULL, read_callback, NULL) == ARCHIVE_OK
                      ? copy_entries (source, archive, error)
                      : archive_failed (source, archive, error);
  archive_read_free (archive);
  return done;
}

gboolean
banger_ext4_read_tar (int tar_fd, const BangerExt4TarOptions *options, char **ret_digest, GError **error)
{
  struct stat st;
  g_return_val_if_fail (options->n_targets <= BANGER_EXT4_MAX_TARGETS, FALSE);
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree guint8 *buffer = g_malloc (READ_BYTES);
  Source source = {
    .fd = tar_fd, .options = options, .checksum = checksum, .buffer = buffer, .total = options->expected_bytes
  };
  if (source.total == 0 && fstat (tar_fd, &st) == 0 && S_ISREG (st.st_mode))
    source.total = (guint64)st.st_size;

  /* Names are bytes: without a UTF-8 locale libarchive would refuse those beyond ASCII. */
  locale_t utf8 = newlocale (LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
  locale_t before = utf8 != (locale_t)0 ? uselocale (utf8) : (locale_t)0;
  gboolean done = read_all (&source, error);
  if (utf8 != (locale_t)0) {
    uselocale (before);
    freelocale (utf8);
  }
  g_clear_error (&source.error);
  if (done && ret_digest != NULL)
    *ret_digest = g_strconcat ("sha256:", g_checksum_get_string (checksum), NULL);
  return done;
}

gboolean
banger_ext4_from_tar (int tar_fd, int ext4_fd, const BangerExt4Options *options, BangerProgress progress,
                      gpointer progress_data, GCancellable *cancellable, BangerExt4Info *ret_info, GError **error)
{
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (ext4_fd, options, error);
  if (writer == NULL)
    return FALSE;
  BangerExt4Target target = { writer, NULL };
  BangerExt4TarOptions tar = {
    .targets = &target, .n_targets = 1, .progress = progress, .progress_data = progress_data, .cancellable = cancellable
  };
  BangerExt4Info info;
  g_autofree char *digest = NULL;
  if (!banger_ext4_read_tar (tar_fd, &tar, &digest, error)
      || !banger_ext4_writer_finish (writer, cancellable, &info, error))
    return FALSE;
  g_strlcpy (info.digest, digest, sizeof info.digest);
  if (ret_info != NULL)
    *ret_info = info;
  return TRUE;
}
