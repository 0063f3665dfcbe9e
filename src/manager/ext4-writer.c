/* The tree in memory and the data of files, which goes to its final blocks while it streams.
 * Called by ext4-tar.c and image-build.c; ext4-layout.c finishes.
 * Never reads back what it wrote, never keeps data of a file in memory but the last megabytes. */
#include "manager/ext4-private.h"

#include "common/error.h"
#include "common/fd.h"

#include <et/com_err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define OUT_BLOCKS 1024u /* 4 MiB */
#define MAX_RUN 32768u   /* of one initialised extent */
#define MAX_SYMLINKS 40  /* as the kernel follows */

gboolean
banger_ext4_error (GError **error, errcode_t code, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);

  if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL || code == EXT2_ET_TOOSMALL)
    return banger_set_error (error, BANGER_ERROR_NO_SPACE, "%s: the file system is too small; give a larger size",
                             what);
  if (code == EXT2_ET_EA_NO_SPACE)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: extended attributes over 4 KiB", what);
  if (code > 0 && code < 4096)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, (int)code, "%s", what);
  initialize_ext2_error_table ();
  return banger_set_error (error, BANGER_ERROR_FAILED, "%s: %s", what, error_message (code));
}

static void
xattr_free (gpointer data)
{
  Ext4Xattr *xattr = data;
  g_free (xattr->name);
  g_free (xattr->value);
  g_free (xattr);
}

static void
inode_clear (Ext4Inode *inode)
{
  g_clear_pointer (&inode->runs, g_array_unref);
  g_clear_pointer (&inode->xattrs, g_ptr_array_unref);
  g_clear_pointer (&inode->children, g_tree_unref);
  g_clear_pointer (&inode->target, g_free);
}

static void
inode_free (gpointer data)
{
  inode_clear (data);
  g_free (data);
}

static int
compare_names (gconstpointer a, gconstpointer b, gpointer data)
{
  return strcmp (a, b);
}

static Ext4Inode *
inode_new (BangerExt4Writer *writer, guint32 mode)
{
  Ext4Inode *inode = g_new0 (Ext4Inode, 1);
  inode->mode = mode;
  if (S_ISDIR (mode))
    inode->children = g_tree_new_full (compare_names, NULL, g_free, NULL);
  g_ptr_array_add (writer->inodes, inode);
  return inode;
}

static gboolean
parse_uuid (const char *text, guint8 bytes[16], const char *what, GError **error)
{
  if (text == NULL) {
    if (getrandom (bytes, 16, 0) != 16)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot get random bytes");
    bytes[6] = (guint8)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (guint8)((bytes[8] & 0x3f) | 0x80);
    return TRUE;
  }
  if (!g_uuid_string_is_valid (text))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s '%s' is no UUID", what, text);
  for (guint i = 0; i < 16; i++, text += 2) {
    text += *text == '-' ? 1 : 0;
    bytes[i] = (guint8)(g_ascii_xdigit_value (text[0]) << 4 | g_ascii_xdigit_value (text[1]));
  }
  return TRUE;
}

static gboolean
check_options (const BangerExt4Options *options, GError **error)
{
  if (options->label != NULL && strlen (options->label) > 16)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "label '%s' is longer than 16 bytes", options->label);
  if (options->size_bytes == 0)
    return TRUE;
  if (options->size_bytes < BANGER_EXT4_MIN_BYTES || options->size_bytes > BANGER_EXT4_MAX_BYTES)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                             "a file system of %" G_GUINT64_FORMAT " bytes: give a size from 8 MiB to 1 TiB",
                             options->size_bytes);
  return TRUE;
}

BangerExt4Writer *
banger_ext4_writer_new (int fd, const BangerExt4Options *options, GError **error)
{
  guint8 uuid[16], seed[16];
  if (!check_options (options, error) || !parse_uuid (options->uuid, uuid, "uuid", error)
      || !parse_uuid (options->hash_seed, seed, "hash seed", error))
    return NULL;
  if (ftruncate (fd, 0) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot empty the file for the file system");
    return NULL;
  }

  BangerExt4Writer *writer = g_new0 (BangerExt4Writer, 1);
  writer->fd = fd;
  writer->options = *options;
  writer->label = g_strdup (options->label);
  writer->options.label = writer->label;
  writer->options.uuid = writer->options.hash_seed = NULL;
  if (options->time < 0)
    writer->options.time = g_get_real_time () / G_USEC_PER_SEC;
  memcpy (writer->uuid, uuid, sizeof uuid);
  memcpy (writer->hash_seed, seed, sizeof seed);
  writer->inodes = g_ptr_array_new_with_free_func (inode_free);
  writer->free_runs = g_array_new (FALSE, FALSE, sizeof (Ext4Run));
  writer->limit_blocks = (options->size_bytes != 0 ? options->size_bytes : BANGER_EXT4_MAX_BYTES) / EXT4_BLOCK;
  writer->out = g_malloc (OUT_BLOCKS * EXT4_BLOCK);
  writer->root = inode_new (writer, S_IFDIR | 0755);
  writer->root->links = 1;
  writer->root->parent = writer->root;
  writer->root->mtime = writer->options.time;
  return writer;
}

void
banger_ext4_writer_free (BangerExt4Writer *writer)
{
  if (writer == NULL)
    return;
  if (writer->fs != NULL)
    ext2fs_free (writer->fs);
  g_ptr_array_unref (writer->inodes);
  g_array_unref (writer->free_runs);
  g_free (writer->last_dir_path);
  g_free (writer->file_path);
  g_free (writer->label);
  g_free (writer->out);
  g_free (writer);
}

/* Blocks */

gboolean
banger_ext4_is_backup_group (guint64 group)
{
  static const guint bases[] = { 3, 5, 7 };
  if (group <= 1)
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (bases); i++) {
    guint64 power = bases[i];
    while (power < group)
      power *= bases[i];
    if (power == group)
      return TRUE;
  }
  return FALSE;
}

static gboolean
allocate_block (BangerExt4Writer *writer, guint64 *ret_block, GError **error)
{
  if (writer->free_runs->len > 0) {
    Ext4Run *run = &g_array_index (writer->free_runs, Ext4Run, writer->free_runs->len - 1);
    *ret_block = run->physical++;
    if (--run->blocks == 0)
      g_array_set_size (writer->free_runs, writer->free_runs->len - 1);
    return TRUE;
  }
  if (writer->next_block % EXT4_GROUP_BLOCKS == 0
      && banger_ext4_is_backup_group (writer->next_block / EXT4_GROUP_BLOCKS))
    writer->next_block += 1 + EXT4_GDT_BLOCKS;
  if (writer->next_block >= writer->limit_blocks)
    return banger_set_error (error, BANGER_ERROR_NO_SPACE,
                             "the content does not fit into %" G_GUINT64_FORMAT " bytes; give a larger size",
                             writer->limit_blocks * EXT4_BLOCK);
  *ret_block = writer->next_block++;
  return TRUE;
}

gboolean
banger_ext4_out_flush (BangerExt4Writer *writer, GError **error)
{
  size_t length = (size_t)writer->out_blocks * EXT4_BLOCK;
  for (size_t done = 0; done < length;) {
    off_t where = (off_t)(writer->out_start * EXT4_BLOCK + done);
    ssize_t n = pwrite (writer->fd, writer->out + done, length - done, where);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the file system");
    done += (size_t)n;
  }
  writer->out_blocks = 0;
  return TRUE;
}

gboolean
banger_ext4_out (BangerExt4Writer *writer, guint64 block, const void *data, GError **error)
{
  if (writer->out_blocks == OUT_BLOCKS || (writer->out_blocks > 0 && writer->out_start + writer->out_blocks != block))
    if (!banger_ext4_out_flush (writer, error))
      return FALSE;
  if (writer->out_blocks == 0)
    writer->out_start = block;
  memcpy (writer->out + (size_t)writer->out_blocks * EXT4_BLOCK, data, EXT4_BLOCK);
  writer->out_blocks++;
  return TRUE;
}

void
banger_ext4_runs_append (GArray *runs, guint64 logical, guint64 physical, guint32 blocks)
{
  while (blocks > 0) {
    Ext4Run *last = runs->len > 0 ? &g_array_index (runs, Ext4Run, runs->len - 1) : NULL;
    guint32 room = MAX_RUN;
    if (last != NULL && last->logical + last->blocks == logical && last->physical + last->blocks == physical
        && last->blocks < MAX_RUN)
      room = MAX_RUN - last->blocks;
    else
      last = NULL;
    guint32 part = MIN (blocks, room);
    if (last != NULL)
      last->blocks += part;
    else
      g_array_append_val (runs, ((Ext4Run){ logical, physical, part }));
    logical += part;
    physical += part;
    blocks -= part;
  }
}

static void
drop_data (BangerExt4Writer *writer, Ext4Inode *inode)
{
  if (inode->runs != NULL && inode->runs->len > 0)
    g_array_append_vals (writer->free_runs, inode->runs->data, inode->runs->len);
  g_clear_pointer (&inode->runs, g_array_unref);
}

/* Data of the current file */

static gboolean
commit_block (BangerExt4Writer *writer, guint64 logical, const void *data, GError **error)
{
  guint64 physical = 0;
  if (!allocate_block (writer, &physical, error) || !banger_ext4_out (writer, physical, data, error))
    return FALSE;
  if (writer->file->runs == NULL)
    writer->file->runs = g_array_new (FALSE, FALSE, sizeof (Ext4Run));
  banger_ext4_runs_append (writer->file->runs, logical, physical, 1);
  writer->file_next = logical + 1;
  return TRUE;
}

static gboolean
commit_tail (BangerExt4Writer *writer, GError **error)
{
  if (!writer->tail_used)
    return TRUE;
  writer->tail_used = FALSE;
  return commit_block (writer, writer->tail_block, writer->tail, error);
}

static gboolean
write_part (BangerExt4Writer *writer, const guint8 *data, size_t part, guint64 offset, GError **error)
{
  guint64 block = offset / EXT4_BLOCK;
  if (writer->tail_used && writer->tail_block != block && !commit_tail (writer, error))
    return FALSE;
  if (block < writer->file_next)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: its data is not in rising order",
                             writer->file_path);
  if (part == EXT4_BLOCK && !writer->tail_used)
    return commit_block (writer, block, data, error);
  if (!writer->tail_used) {
    memset (writer->tail, 0, sizeof writer->tail);
    writer->tail_used = TRUE;
    writer->tail_block = block;
  }
  memcpy (writer->tail + offset % EXT4_BLOCK, data, part);
  return TRUE;
}

gboolean
banger_ext4_writer_data (BangerExt4Writer *writer, const void *data, size_t length, guint64 offset, GError **error)
{
  if (length == 0)
    return TRUE;
  if (writer->failed || writer->file == NULL)
    return banger_set_error (error, BANGER_ERROR_FAILED, "data without a regular file before it");
  if (offset > writer->file->size || length > writer->file->size - offset)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: more data than its size says", writer->file_path);
  const guint8 *bytes = data;
  while (length > 0) {
    size_t part = MIN (length, EXT4_BLOCK - (size_t)(offset % EXT4_BLOCK));
    if (!write_part (writer, bytes, part, offset, error)) {
      writer->failed = TRUE;
      return FALSE;
    }
    bytes += part;
    offset += part;
    length -= part;
  }
  return TRUE;
}

gboolean
banger_ext4_end_file (BangerExt4Writer *writer, GError **error)
{
  gboolean done = writer->file == NULL || commit_tail (writer, error);
  writer->file = NULL;
  writer->file_next = 0;
  return done;
}

/* Names */

static gboolean
refuse (GError **error, const char *path, const char *why)
{
  g_autofree char *shown = g_utf8_make_valid (path, (gssize)MIN (strlen (path), 400));
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: %s", shown, why);
}

/* "/./a//b/" -> "a/b". */
static char *
normalise (const char *path, GError **error)
{
  size_t length = strlen (path);
  if (length > BANGER_EXT4_MAX_PATH) {
    refuse (error, path, "path is longer than 16384 bytes");
    return NULL;
  }
  g_autoptr (GString) out = g_string_sized_new (length);
  for (const char *start = path; *start != '\0';) {
    size_t n = strcspn (start, "/");
    const char *why = NULL;
    if (n > 255)
      why = "a name is longer than 255 bytes";
    else if (n == 2 && strncmp (start, "..", 2) == 0)
      why = "'..' in a path";
    if (why != NULL) {
      refuse (error, path, why);
      return NULL;
    }
    if (n > 0 && !(n == 1 && *start == '.')) {
      if (out->len > 0)
        g_string_append_c (out, '/');
      g_string_append_len (out, start, (gssize)n);
    }
    start += n + (start[n] == '/' ? 1 : 0);
  }
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static gboolean
count_name (BangerExt4Writer *writer, GError **error)
{
  if (writer->added >= BANGER_EXT4_MAX_ENTRIES)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "more than %u entries", BANGER_EXT4_MAX_ENTRIES);
  writer->added++;
  writer->names++;
  return TRUE;
}

static void
link_child (Ext4Inode *dir, const char *name, Ext4Inode *child)
{
  g_tree_insert (dir->children, g_strdup (name), child);
  child->links++;
  if (S_ISDIR (child->mode)) {
    child->parent = dir;
    dir->subdirs++;
  }
}

/* The directory that holds the last component of @path; *ret_name points into @path. */
static Ext4Inode *
walk_to_parent (BangerExt4Writer *writer, char *path, gboolean make, const char **ret_name, GError **error)
{
  char *slash = strrchr (path, '/');
  *ret_name = slash != NULL ? slash + 1 : path;
  if (slash == NULL)
    return writer->root;
  if (writer->last_dir != NULL && strncmp (writer->last_dir_path, path, (size_t)(slash - path)) == 0
      && writer->last_dir_path[slash - path] == '\0')
    return writer->last_dir;

  g_autofree char *dirs = g_strndup (path, (gsize)(slash - path));
  Ext4Inode *dir = writer->root;
  char *rest = NULL;
  for (char *name = strtok_r (dirs, "/", &rest); name != NULL; name = strtok_r (NULL, "/", &rest)) {
    Ext4Inode *next = g_tree_lookup (dir->children, name);
    if (next == NULL && make) {
      if (!count_name (writer, error))
        return NULL;
      next = inode_new (writer, S_IFDIR | 0755);
      next->mtime = writer->options.time;
      link_child (dir, name, next);
    }
    if (next == NULL || !S_ISDIR (next->mode)) {
      refuse (error, path, next == NULL ? "no such entry" : "lies below what is no directory");
      return NULL;
    }
    dir = next;
  }
  g_free (writer->last_dir_path);
  writer->last_dir_path = g_strndup (path, (gsize)(slash - path));
  writer->last_dir = dir;
  return dir;
}

static void
unlink_child (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, Ext4Inode *child)
{
  g_tree_remove (dir->children, name);
  writer->names--;
  child->links--;
  if (S_ISDIR (child->mode)) {
    dir->subdirs--;
    writer->last_dir = NULL;
  }
  if (child->links == 0) {
    drop_data (writer, child);
    inode_clear (child);
  }
}

static gboolean
copy_xattrs (Ext4Inode *inode, const BangerExt4Entry *entry, GError **error)
{
  g_clear_pointer (&inode->xattrs, g_ptr_array_unref);
  size_t total = 0;
  for (guint i = 0; i < entry->n_xattrs; i++) {
    const BangerExt4Xattr *given = &entry->xattrs[i];
    total += strlen (given->name) + given->length;
    if (total > EXT4_BLOCK)
      return refuse (error, entry->path, "extended attributes over 4 KiB");
    if (inode->xattrs == NULL)
      inode->xattrs = g_ptr_array_new_with_free_func (xattr_free);
    Ext4Xattr *xattr = g_new0 (Ext4Xattr, 1);
    xattr->name = g_strdup (given->name);
    xattr->value = g_memdup2 (given->value, given->length);
    xattr->length = given->length;
    g_ptr_array_add (inode->xattrs, xattr);
  }
  return TRUE;
}

static gboolean
check_entry (const BangerExt4Entry *entry, GError **error)
{
  if (entry->uid < 0 || entry->uid >= G_MAXUINT32 || entry->gid < 0 || entry->gid >= G_MAXUINT32)
    return refuse (error, entry->path, "owner or group is out of range");
  switch (entry->mode & S_IFMT) {
    case S_IFREG:
      /* Logical block numbers have 32 bits. */
      if (entry->size > (guint64)(G_MAXUINT32 - 1) * EXT4_BLOCK)
        return refuse (error, entry->path, "file is larger than 16 TiB");
      return TRUE;
    case S_IFLNK:
      if (entry->symlink == NULL || entry->symlink[0] == '\0' || strlen (entry->symlink) >= EXT4_BLOCK)
        return refuse (error, entry->path, "symbolic link with an empty or over-long target");
      return TRUE;
    case S_IFCHR:
    case S_IFBLK:
      if (entry->major > 0xfff || entry->minor > 0xfffff)
        return refuse (error, entry->path, "device number is out of range");
      return TRUE;
    case S_IFDIR:
    case S_IFIFO:
    case S_IFSOCK:
      return TRUE;
    default:
      return refuse (error, entry->path, "entry of an unknown type");
  }
}

static gboolean
fill_inode (BangerExt4Writer *writer, Ext4Inode *inode, const BangerExt4Entry *entry, GError **error)
{
  inode->mode = (entry->mode & S_IFMT) | (entry->mode & 07777);
  inode->uid = (guint32)entry->uid;
  inode->gid = (guint32)entry->gid;
  inode->mtime = CLAMP (entry->mtime, (gint64)G_MININT32, (G_GINT64_CONSTANT (1) << 34) + G_MININT32 - 1);
  inode->mtime_nsec = MIN (entry->mtime_nsec, 999999999u);
  inode->major = entry->major;
  inode->minor = entry->minor;
  if (S_ISLNK (inode->mode))
    inode->target = g_strdup (entry->symlink);
  inode->size = S_ISREG (inode->mode) ? entry->size : S_ISLNK (inode->mode) ? strlen (entry->symlink) : 0;
  return copy_xattrs (inode, entry, error);
}

static void
begin_file (BangerExt4Writer *writer, Ext4Inode *inode, const char *path)
{
  writer->file = inode;
  writer->file_next = 0;
  g_free (writer->file_path);
  writer->file_path = g_utf8_make_valid (path, (gssize)MIN (strlen (path), 400));
}

/* What hard links may point to. */
static Ext4Inode *
find_link_target (BangerExt4Writer *writer, const BangerExt4Entry *entry, GError **error)
{
  g_autofree char *path = normalise (entry->hardlink, error);
  if (path == NULL)
    return NULL;
  const char *name;
  Ext4Inode *dir = *path != '\0' ? walk_to_parent (writer, path, FALSE, &name, NULL) : NULL;
  Ext4Inode *target = dir != NULL ? g_tree_lookup (dir->children, name) : NULL;
  const char *why = NULL;
  if (target == NULL)
    why = "hard link to what is not in the archive before it";
  else if (S_ISDIR (target->mode))
    why = "hard link to a directory";
  else if (target->links >= EXT4_MAX_LINKS)
    why = "more than 65000 hard links";
  if (why == NULL)
    return target;
  refuse (error, entry->path, why);
  return NULL;
}

static gboolean
add_hardlink (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, const BangerExt4Entry *entry, GError **error)
{
  Ext4Inode *target = find_link_target (writer, entry, error);
  if (target == NULL)
    return FALSE;
  Ext4Inode *old = g_tree_lookup (dir->children, name);
  if (old != target) {
    if (old != NULL && S_ISDIR (old->mode))
      return refuse (error, entry->path, "hard link over a directory");
    if (old != NULL)
      unlink_child (writer, dir, name, old);
    if (!count_name (writer, error))
      return FALSE;
    link_child (dir, name, target);
  }
  if (entry->size > 0 && S_ISREG (target->mode)) /* pax(1): a link may carry the data again */ {
    drop_data (writer, target);
    target->size = entry->size;
    begin_file (writer, target, entry->path);
  }
  return TRUE;
}

static gboolean
add_named (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, const BangerExt4Entry *entry, GError **error)
{
  Ext4Inode *old = g_tree_lookup (dir->children, name);
  if (old != NULL && S_ISDIR (old->mode) && S_ISDIR (entry->mode))
    return fill_inode (writer, old, entry, error);
  if (old != NULL && S_ISDIR (old->mode) && g_tree_nnodes (old->children) > 0)
    return refuse (error, entry->path, "replaces a directory that is not empty");
  if (old != NULL)
    unlink_child (writer, dir, name, old);
  if (!count_name (writer, error))
    return FALSE;
  Ext4Inode *inode = inode_new (writer, entry->mode & S_IFMT);
  if (!fill_inode (writer, inode, entry, error))
    return FALSE;
  link_child (dir, name, inode);
  if (S_ISREG (inode->mode))
    begin_file (writer, inode, entry->path);
  return TRUE;
}

static gboolean
add_entry (BangerExt4Writer *writer, const BangerExt4Entry *entry, GError **error)
{
  g_autofree char *path = normalise (entry->path, error);
  if (path == NULL || (entry->hardlink == NULL && !check_entry (entry, error)))
    return FALSE;
  if (*path == '\0') {
    if (entry->hardlink != NULL || !S_ISDIR (entry->mode))
      return refuse (error, entry->path, "the root must be a directory");
    return fill_inode (writer, writer->root, entry, error);
  }
  const char *name;
  Ext4Inode *dir = walk_to_parent (writer, path, TRUE, &name, error);
  if (dir == NULL)
    return FALSE;
  if (entry->hardlink != NULL)
    return add_hardlink (writer, dir, name, entry, error);
  return add_named (writer, dir, name, entry, error);
}

gboolean
banger_ext4_writer_add (BangerExt4Writer *writer, const BangerExt4Entry *entry, GError **error)
{
  if (writer->failed)
    return banger_set_error (error, BANGER_ERROR_FAILED, "the writer has failed before");
  if (banger_ext4_end_file (writer, error) && add_entry (writer, entry, error))
    return TRUE;
  writer->failed = TRUE;
  return FALSE;
}

/* Symbolic links inside the tree, for the check that there is an init */

static Ext4Inode *
step (BangerExt4Writer *writer, Ext4Inode *dir, const char *name)
{
  if (strcmp (name, ".") == 0 || *name == '\0')
    return dir;
  if (strcmp (name, "..") == 0)
    return dir->parent;
  return g_tree_lookup (dir->children, name);
}

gboolean
banger_ext4_writer_has_program (BangerExt4Writer *writer, const char *path)
{
  g_autofree char *rest = g_strdup (path);
  Ext4Inode *here = writer->root;
  for (guint links = 0; *rest != '\0';) {
    size_t n = strcspn (rest, "/");
    g_autofree char *name = g_strndup (rest, n);
    g_autofree char *after = g_strdup (rest + n + (rest[n] == '/' ? 1 : 0));
    Ext4Inode *next = S_ISDIR (here->mode) ? step (writer, here, name) : NULL;
    if (next == NULL || (S_ISLNK (next->mode) && ++links > MAX_SYMLINKS))
      return FALSE;
    g_free (rest);
    if (!S_ISLNK (next->mode)) {
      here = next;
      rest = g_steal_pointer (&after);
      continue;
    }
    if (next->target[0] == '/')
      here = writer->root;
    rest = *after != '\0' ? g_strconcat (next->target, "/", after, NULL) : g_strdup (next->target);
  }
  return S_ISREG (here->mode) && (here->mode & 0111) != 0;
}
