/* The entries of tars as entries of the writer, with access lists and extended attributes.
 * Runs in worker threads.
 * Never writes anything outside the given files. */
#include "intake/ext4-tar.h"

#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/error.h"
#include "intake/ext4-acl.h"
#include "intake/tar-reader.h"

#define READ_BYTES (256u * 1024)
#define MAX_ACCOUNTS (1u << 20) /* of passwd(5) */
#define MAX_PADDING (64u << 20) /* behind the end of a layer */

enum { PASSWD, GROUP, N_ACCOUNTS };

typedef struct {
  int fd;
  const BangerExt4Layer *layer; /* NULL: all of @fd */
  guint64 layer_at;             /* bytes of it that were read */
  const BangerExt4TarOptions *options;
  BangerDigest *digest;
  guint8 *buffer;
  guint64 bytes, total; /* read; of the whole tar or 0 */
  BangerExt4Kept accounts[N_ACCOUNTS + 1];
  const BangerExt4Kept *keeping; /* the file that is read now, or NULL */
  const BangerExt4Kept *keeping_account;
  GHashTable *late; /* BangerExt4Inode -> Late */
} Source;

/* Waits for data or for the end of patience of whoever called. */
static gboolean
wait_readable (Source *source, GError **error)
{
  GPollFD cancel = { .fd = -1 };
  gboolean pollable = source->options->cancellable && g_cancellable_make_pollfd (source->options->cancellable, &cancel);
  struct pollfd fds[] = { { .fd = source->fd, .events = POLLIN }, { .fd = cancel.fd, .events = POLLIN } };
  while (poll (fds, G_N_ELEMENTS (fds), -1) < 0 && errno == EINTR)
    ;
  if (pollable)
    g_cancellable_release_fd (source->options->cancellable);
  return !g_cancellable_is_cancelled (source->options->cancellable) || banger_set_cancelled (error);
}

static ssize_t
read_some (Source *source)
{
  const BangerExt4Layer *layer = source->layer;
  if (!layer)
    return read (source->fd, source->buffer, READ_BYTES);
  ssize_t n = banger_read_at (source->fd, source->buffer, MIN (READ_BYTES, layer->length - source->layer_at),
                              (off_t)(layer->offset + source->layer_at));
  source->layer_at += n > 0 ? (guint64)n : 0;
  return n;
}

/* Of a layer of which nobody knows how many follow: how much of it alone. */
static double
fraction_of (const Source *source)
{
  if (source->total == 0 && source->layer && source->layer->length > 0)
    return (double)source->layer_at / (double)source->layer->length;
  return source->total > 0 ? MIN ((double)source->bytes / (double)source->total, 1.0) : -1.0;
}

static gssize
read_source (gpointer data, const void **ret_bytes, GError **error)
{
  Source *source = data;
  ssize_t n;
  do {
    if (!wait_readable (source, error))
      return -1;
    n = read_some (source);
  } while (n < 0 && (errno == EINTR || errno == EAGAIN));
  if (n < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the tar");
    return -1;
  }
  if (source->digest)
    banger_digest_update (source->digest, source->buffer, (gsize)n);
  source->bytes += (guint64)n;
  if (source->options->progress && n > 0)
    source->options->progress (fraction_of (source), source->options->progress_data);
  *ret_bytes = source->buffer;
  return n;
}

/* Access lists and extended attributes */

static const char *const acl_xattrs[BANGER_TAR_N_ACLS] = { "system.posix_acl_access", "system.posix_acl_default" };

/* Of an inode whose access lists name somebody: who that is is known at the end of the archive. */
typedef struct {
  BangerExt4Writer *writer;
  char *path;
  BangerAcl *acls[BANGER_TAR_N_ACLS];
} Late;

static void
late_free (gpointer data)
{
  Late *late = data;
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++)
    banger_acl_free (late->acls[i]);
  g_free (late->path);
  g_free (late);
}

typedef struct {
  GArray *list; /* BangerExt4Xattr */
  BangerAcl *acls[BANGER_TAR_N_ACLS];
  GByteArray *values[BANGER_TAR_N_ACLS];
} Attributes;

static void
attributes_clear (Attributes *attributes)
{
  g_clear_pointer (&attributes->list, g_array_unref);
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++) {
    g_clear_pointer (&attributes->acls[i], banger_acl_free);
    g_clear_pointer (&attributes->values[i], g_byte_array_unref);
  }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Attributes, attributes_clear)

static const BangerTarXattr *
find_xattr (const BangerTarEntry *from, const char *name)
{
  for (guint i = 0; i < from->xattrs->len; i++) {
    const BangerTarXattr *xattr = from->xattrs->pdata[i];
    if (strcmp (xattr->name, name) == 0)
      return xattr;
  }
  return NULL;
}

/* Star's text counts more than the attribute itself. */
static gboolean
read_acl (const BangerTarEntry *from, guint which, BangerAcl **ret_acl, GError **error)
{
  const BangerTarXattr *raw = find_xattr (from, acl_xattrs[which]);
  gsize length = 0;
  const guint8 *bytes = raw ? g_bytes_get_data (raw->value, &length) : NULL;
  *ret_acl = NULL;
  if (from->type == '2' || (!from->acls[which] && !raw) || (which == BANGER_TAR_ACL_DEFAULT && from->type != '5'))
    return TRUE;
  *ret_acl = from->acls[which] != NULL ? banger_acl_parse (from->acls[which]) : banger_acl_from_value (bytes, length);
  if (*ret_acl)
    return TRUE;
  g_autofree char *shown = g_utf8_make_valid (from->path, (gssize)MIN (strlen (from->path), 400));
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: its access list (ACL) is none: %.200s", shown,
                           from->acls[which] ? from->acls[which] : acl_xattrs[which]);
}

/* What there is no number for yet stays in @attributes->acls. */
static gboolean
read_attributes (const BangerTarEntry *from, Attributes *attributes, guint32 *mode, GError **error)
{
  attributes->list = g_array_new (FALSE, FALSE, sizeof (BangerExt4Xattr));
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++) {
    g_autoptr (BangerAcl) acl = NULL;
    if (!read_acl (from, i, &acl, error))
      return FALSE;
    if (!acl)
      continue;
    if (i == BANGER_TAR_ACL_ACCESS)
      *mode = (*mode & ~0777u) | banger_acl_mode (acl);
    if (banger_acl_has_names (acl))
      attributes->acls[i] = g_steal_pointer (&acl);
    else if (i == BANGER_TAR_ACL_DEFAULT || !banger_acl_is_mode (acl)) {
      GByteArray *value = attributes->values[i] = banger_acl_value (acl);
      g_array_append_val (attributes->list, ((BangerExt4Xattr){ acl_xattrs[i], value->data, value->len }));
    }
  }
  for (guint i = 0; i < from->xattrs->len; i++) {
    const BangerTarXattr *xattr = from->xattrs->pdata[i];
    gsize length;
    const void *value = g_bytes_get_data (xattr->value, &length);
    if (strcmp (xattr->name, acl_xattrs[0]) != 0 && strcmp (xattr->name, acl_xattrs[1]) != 0)
      g_array_append_val (attributes->list, ((BangerExt4Xattr){ xattr->name, value, length }));
  }
  return TRUE;
}

/* Also forgets what an entry before said of the same inode. */
static void
note_late (Source *source, BangerExt4Writer *writer, const char *path, const Attributes *attributes)
{
  BangerExt4Inode *inode = banger_ext4_writer_last (writer);
  if (g_hash_table_size (source->late) > 0)
    g_hash_table_remove (source->late, inode);
  Late *late = NULL;
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++) {
    if (!attributes->acls[i])
      continue;
    if (!late) {
      late = g_new0 (Late, 1);
      late->writer = writer;
      late->path = g_utf8_make_valid (path, (gssize)MIN (strlen (path), 400));
      g_hash_table_insert (source->late, inode, late);
    }
    late->acls[i] = banger_acl_ref (attributes->acls[i]);
  }
}

static gboolean
set_late (Source *source, BangerExt4Inode *inode, Late *late, GError **error)
{
  for (guint i = 0; i < BANGER_TAR_N_ACLS; i++) {
    if (!late->acls[i])
      continue;
    const char *nobody = banger_acl_resolve (late->acls[i], source->accounts[PASSWD].bytes,
                                             source->accounts[GROUP].bytes);
    if (nobody)
      return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                               "%s: its access list (ACL) has '%.200s', who has no number there and is not in the "
                               "archive's own /etc/passwd or /etc/group",
                               late->path, nobody);
    g_autoptr (GByteArray) value = banger_acl_value (late->acls[i]);
    const BangerExt4Xattr xattr = { acl_xattrs[i], value->data, value->len };
    if (!banger_ext4_writer_set_xattr (late->writer, inode, late->path, &xattr, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
set_all_late (Source *source, GError **error)
{
  GHashTableIter iter;
  gpointer inode, late;
  g_hash_table_iter_init (&iter, source->late);
  while (g_hash_table_iter_next (&iter, &inode, &late))
    if (!set_late (source, inode, late, error))
      return FALSE;
  return TRUE;
}

/* Entries */

const char *
banger_ext4_skip_root (const char *path)
{
  while (path[0] == '/' || (path[0] == '.' && (path[1] == '/' || path[1] == '\0')))
    path++;
  return path;
}

/* Returns: @path as seen from @prefix, NULL if it lies outside. */
static const char *
below_prefix (const char *path, const char *prefix)
{
  if (!prefix)
    return path;
  path = banger_ext4_skip_root (path);
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
  if (entry->hardlink)
    own.hardlink = below_prefix (entry->hardlink, target->prefix);
  if (!own.path || (entry->hardlink && !own.hardlink))
    return TRUE;
  /* "/root" that is a link somewhere: the seed is empty. */
  if (target->prefix && *banger_ext4_skip_root (own.path) == '\0' && !S_ISDIR (own.mode))
    return banger_ext4_writer_whiteout (target->writer, "", TRUE, error);
  *ret_taken = TRUE;
  return banger_ext4_writer_add (target->writer, &own, error);
}

/* Bytes of a file that is kept; a hole in it is as good as its end. */
static void
keep (const BangerExt4Kept *kept, const void *block, size_t length, guint64 offset)
{
  if (kept && offset == kept->bytes->len)
    g_byte_array_append (kept->bytes, block, (guint)MIN (length, kept->max - kept->bytes->len));
}

/* The last one of the archive counts. */
static const BangerExt4Kept *
find_kept (const BangerExt4Kept *kept, const BangerExt4Entry *entry)
{
  const char *path = banger_ext4_skip_root (entry->path);
  for (; kept && kept->path; kept++) {
    if (strcmp (path, kept->path) != 0)
      continue;
    g_byte_array_set_size (kept->bytes, 0);
    return S_ISREG (entry->mode) && !entry->hardlink ? kept : NULL;
  }
  return NULL;
}

static gboolean
copy_data (Source *source, BangerTarReader *reader, const gboolean *taken, GError **error)
{
  const guint8 *block;
  gsize length;
  guint64 offset;
  int r;
  while ((r = banger_tar_reader_data (reader, &block, &length, &offset, error)) > 0) {
    keep (source->keeping, block, length, offset);
    keep (source->keeping_account, block, length, offset);
    for (guint i = 0; i < source->options->n_targets; i++)
      if (taken[i] && !banger_ext4_writer_data (source->options->targets[i].writer, block, length, offset, error))
        return FALSE;
  }
  return r == 0;
}

static guint32
mode_of (const BangerTarEntry *from)
{
  static const struct {
    char type;
    guint32 mode;
  } types[] = { { '0', S_IFREG }, { '1', S_IFREG }, { '2', S_IFLNK }, { '3', S_IFCHR },
                { '4', S_IFBLK }, { '5', S_IFDIR }, { '6', S_IFIFO } };
  guint row = 0;
  while (types[row].type != from->type)
    row++;
  return types[row].mode | from->mode;
}

static gboolean
copy_entry (Source *source, BangerTarReader *reader, const BangerTarEntry *from, GError **error)
{
  BangerExt4Entry entry = {
    .path = from->path,
    .mode = mode_of (from),
    .uid = from->uid,
    .gid = from->gid,
    .mtime = from->mtime,
    .mtime_nsec = from->mtime_nsec,
    .size = from->size,
    .symlink = from->type == '2' ? from->link : NULL,
    .hardlink = from->type == '1' ? from->link : NULL,
    .major = (guint32)CLAMP (from->major, 0, G_MAXUINT32),
    .minor = (guint32)CLAMP (from->minor, 0, G_MAXUINT32),
  };
  g_auto (Attributes) attributes = { 0 };
  if (!read_attributes (from, &attributes, &entry.mode, error))
    return FALSE;
  entry.xattrs = (const BangerExt4Xattr *)(gconstpointer)attributes.list->data;
  entry.n_xattrs = attributes.list->len;

  if (source->options->on_entry)
    source->options->on_entry (&entry, source->options->entry_data);
  source->keeping = find_kept (source->options->kept, &entry);
  source->keeping_account = find_kept (source->accounts, &entry);
  gboolean taken[BANGER_EXT4_MAX_TARGETS];
  for (guint i = 0; i < source->options->n_targets; i++) {
    const BangerExt4Target *target = &source->options->targets[i];
    if (!add_to_target (target, &entry, &taken[i], error))
      return FALSE;
    if (taken[i] && !entry.hardlink)
      note_late (source, target->writer, entry.path, &attributes);
  }
  return copy_data (source, reader, taken, error);
}

/* OCI image specification, layer.md, "Whiteouts" */

#define WHITEOUT ".wh."
#define WHITEOUT_META WHITEOUT WHITEOUT /* of aufs; one of them is in use */
#define WHITEOUT_OPAQUE WHITEOUT_META ".opq"

static gboolean
whiteout (Source *source, const char *path, gboolean inside, GError **error)
{
  for (guint i = 0; i < source->options->n_targets; i++) {
    const BangerExt4Target *target = &source->options->targets[i];
    const char *below = below_prefix (path, target->prefix);
    if (below && !banger_ext4_writer_whiteout (target->writer, below, inside, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
copy_layer_entry (Source *source, BangerTarReader *reader, const BangerTarEntry *entry, GError **error)
{
  const char *slash = strrchr (entry->path, '/'), *name = slash ? slash + 1 : entry->path;
  g_autofree char *folder = g_strndup (entry->path, (gsize)(name - entry->path));
  if (strcmp (name, WHITEOUT_OPAQUE) == 0)
    return whiteout (source, folder, TRUE, error);
  if (g_str_has_prefix (name, WHITEOUT_META) || strstr (folder, "/" WHITEOUT_META)
      || g_str_has_prefix (folder, WHITEOUT_META))
    return TRUE;
  if (!g_str_has_prefix (name, WHITEOUT))
    return copy_entry (source, reader, entry, error);
  const char *gone = name + strlen (WHITEOUT);
  if (*gone == '\0' || strcmp (gone, ".") == 0 || strcmp (gone, "..") == 0) {
    g_autofree char *shown = g_utf8_make_valid (entry->path, (gssize)MIN (strlen (entry->path), 400));
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: takes away what has no name", shown);
  }
  g_autofree char *path = g_strconcat (folder, gone, NULL);
  return whiteout (source, path, FALSE, error);
}

/* Of the archive, or of the one behind it. */
static int
next_entry (const Source *source, BangerTarReader *reader, const BangerTarEntry **ret_entry, GError **error)
{
  guint *archives = source->options->archives;
  int r = banger_tar_reader_next (reader, ret_entry, error);
  while (r == 0 && archives && (r = banger_tar_reader_again (reader, error)) > 0) {
    (*archives)++;
    r = banger_tar_reader_next (reader, ret_entry, error);
  }
  return r;
}

/* Returns: 1, 0: it was diverted, -1. */
static int
copy_entries (Source *source, BangerTarReader *reader, GError **error)
{
  const BangerTarEntry *entry;
  const BangerExt4TarOptions *options = source->options;
  int r, diverted = 0;
  while ((r = next_entry (source, reader, &entry, error)) > 0) {
    if (options->divert)
      diverted = options->divert (reader, entry, options->divert_data, error);
    if (diverted != 0)
      return diverted > 0 ? 0 : -1;
    if (source->layer ? !copy_layer_entry (source, reader, entry, error) : !copy_entry (source, reader, entry, error))
      return -1;
  }
  return r == 0 ? 1 : -1;
}

/* The padding behind the end, so that a writer on a pipe is not cut off and a digest is of all bytes. */
static gboolean
read_rest (Source *source, BangerTarStream *stream, gboolean of_content, GError **error)
{
  const guint8 *content;
  const void *bytes;
  guint64 rest = 0;
  gssize n;
  while (of_content && (n = banger_tar_stream_get (stream, READ_BYTES, &content, error)) != 0) {
    rest += n > 0 ? (guint64)n : 0;
    if (n < 0)
      return FALSE;
    if (rest > MAX_PADDING)
      return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                               "a layer goes on for more than 64 MiB behind its end");
  }
  while ((n = read_source (source, &bytes, error)) > 0)
    ;
  return n == 0;
}

/* Returns: as copy_entries(). */
static int
read_all (Source *source, BangerDigest *of_content, GError **error)
{
  g_autoptr (BangerTarStream) stream = banger_tar_stream_new (read_source, source);
  banger_tar_stream_set_digest (stream, of_content);
  g_autoptr (BangerTarReader) reader = banger_tar_reader_new (stream);
  int r = copy_entries (source, reader, error);
  return r >= 0 && read_rest (source, stream, of_content != NULL, error) ? r : -1;
}

static void
source_init (Source *source, const BangerExt4TarOptions *options)
{
  *source = (Source){ .fd = -1, .options = options, .total = options->expected_bytes };
  source->buffer = g_malloc (READ_BYTES);
  source->accounts[PASSWD] = (BangerExt4Kept){ "etc/passwd", MAX_ACCOUNTS, g_byte_array_new () };
  source->accounts[GROUP] = (BangerExt4Kept){ "etc/group", MAX_ACCOUNTS, g_byte_array_new () };
  source->late = g_hash_table_new_full (NULL, NULL, NULL, late_free);
}

static void
source_clear (Source *source)
{
  g_free (source->buffer);
  g_byte_array_unref (source->accounts[PASSWD].bytes);
  g_byte_array_unref (source->accounts[GROUP].bytes);
  g_hash_table_unref (source->late);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Source, source_clear)

gboolean
banger_ext4_read_tar (int tar_fd, const BangerExt4TarOptions *options, char **ret_digest, GError **error)
{
  struct stat st;
  g_return_val_if_fail (options->n_targets <= BANGER_EXT4_MAX_TARGETS, FALSE);
  g_autoptr (BangerDigest) digest = ret_digest ? banger_digest_new () : NULL;
  g_auto (Source) source;
  source_init (&source, options);
  source.fd = tar_fd;
  source.digest = digest;
  if (source.total == 0 && fstat (tar_fd, &st) == 0 && S_ISREG (st.st_mode))
    source.total = (guint64)st.st_size;
  int r = read_all (&source, NULL, error);
  if (r < 0 || (r > 0 && !set_all_late (&source, error)))
    return FALSE;
  if (ret_digest)
    *ret_digest = banger_digest_finish (digest);
  return TRUE;
}

/* Layers */

struct BangerExt4Layers {
  Source source;
};

BangerExt4Layers *
banger_ext4_layers_new (const BangerExt4TarOptions *options)
{
  g_return_val_if_fail (options->n_targets <= BANGER_EXT4_MAX_TARGETS, NULL);
  BangerExt4Layers *layers = g_new0 (BangerExt4Layers, 1);
  source_init (&layers->source, options);
  return layers;
}

void
banger_ext4_layers_free (BangerExt4Layers *layers)
{
  if (!layers)
    return;
  source_clear (&layers->source);
  g_free (layers);
}

static gboolean
check_digest (const BangerExt4Layer *layer, BangerDigest *digest, GError **error)
{
  g_autofree char *found = banger_digest_finish (digest);
  return strcmp (found, layer->digest) == 0
         || banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                              "a layer is damaged: its digest is %s and should be %s", found, layer->digest);
}

gboolean
banger_ext4_layers_add (BangerExt4Layers *layers, const BangerExt4Layer *layer, GError **error)
{
  Source *source = &layers->source;
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  for (guint i = 0; i < source->options->n_targets; i++)
    if (!banger_ext4_writer_begin_layer (source->options->targets[i].writer, error))
      return FALSE;
  source->fd = layer->fd;
  source->layer = layer;
  source->layer_at = 0;
  source->digest = layer->of_content ? NULL : digest;
  gboolean done = read_all (source, layer->of_content ? digest : NULL, error) > 0
                  && check_digest (layer, digest, error);
  source->layer = NULL;
  source->digest = NULL;
  return done;
}

gboolean
banger_ext4_layers_finish (BangerExt4Layers *layers, GError **error)
{
  return set_all_late (&layers->source, error);
}

gboolean
banger_ext4_from_tar (int tar_fd, int ext4_fd, const BangerExt4Options *options, BangerProgress progress,
                      gpointer progress_data, GCancellable *cancellable, BangerExt4Info *ret_info, GError **error)
{
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (ext4_fd, options, error);
  if (!writer)
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
  if (ret_info)
    *ret_info = info;
  return TRUE;
}
