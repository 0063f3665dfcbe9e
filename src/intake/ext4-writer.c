/* The tree in memory and the data of files, which goes to its final blocks while it streams.
 * Never reads back what it wrote, never keeps data of a file in memory but the last megabytes. */
#include <et/com_err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "intake/ext4-private.h"

/* Stays in a processor's cache; for 2 MiB at once a kernel in a VM takes pages that cost ten times as much. */
#define OUT_BLOCKS 64u
#define BEGIN_BYTES ((size_t)4 << 20)  /* for which the disk begins */
#define WHOLE_BYTES ((size_t)64 << 20) /* at once */
#define MAX_RUN 32768u                 /* of one initialised extent */

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
replaced_free (gpointer data)
{
  Ext4Replaced *replaced = data;
  g_free (replaced->path);
  g_free (replaced->target);
  g_free (replaced);
}

static gboolean
parse_uuid (const char *text, guint8 bytes[16], const char *what, GError **error)
{
  if (!text) {
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
  if (options->label && strlen (options->label) > 16)
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
  writer->inodes = g_ptr_array_new_with_free_func (banger_ext4_inode_free);
  writer->free_runs = g_array_new (FALSE, FALSE, sizeof (Ext4Run));
  writer->replaced = g_ptr_array_new_with_free_func (replaced_free);
  writer->limit_blocks = (options->size_bytes != 0 ? options->size_bytes : BANGER_EXT4_MAX_BYTES) / EXT4_BLOCK;
  writer->out = g_malloc (OUT_BLOCKS * EXT4_BLOCK);
  writer->root = banger_ext4_inode_new (writer, S_IFDIR | 0755);
  writer->root->links = 1;
  writer->root->parent = writer->root;
  writer->root->mtime = writer->options.time;
  return writer;
}

void
banger_ext4_writer_free (BangerExt4Writer *writer)
{
  if (!writer)
    return;
  if (writer->fs)
    ext2fs_free (writer->fs);
  g_ptr_array_unref (writer->inodes);
  g_array_unref (writer->free_runs);
  g_ptr_array_unref (writer->replaced);
  g_clear_pointer (&writer->own_links, g_hash_table_unref);
  g_free (writer->last_dir_path);
  g_free (writer->file_path);
  g_free (writer->label);
  g_free (writer->foreign_example);
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

/* Blocks that lie together, at most *@count of them, which becomes how many there are. */
static gboolean
allocate_blocks (BangerExt4Writer *writer, guint64 *ret_block, guint32 *count, GError **error)
{
  if (writer->free_runs->len > 0) {
    Ext4Run *run = &g_array_index (writer->free_runs, Ext4Run, writer->free_runs->len - 1);
    *count = MIN (*count, run->blocks);
    *ret_block = run->physical;
    run->physical += *count;
    run->blocks -= *count;
    if (run->blocks == 0)
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
  guint64 room = MIN (EXT4_GROUP_BLOCKS - writer->next_block % EXT4_GROUP_BLOCKS,
                      writer->limit_blocks - writer->next_block);
  *count = (guint32)MIN (*count, room);
  *ret_block = writer->next_block;
  writer->next_block += *count;
  return TRUE;
}

/* The disk begins beside what is read and unpacked next; whoever syncs the file waits for the rest only. */
static void
begin_disk (BangerExt4Writer *writer, off_t where, size_t length)
{
  off_t end = where + (off_t)length;
  writer->begin_from = writer->begin_bytes > 0 ? MIN (writer->begin_from, where) : where;
  writer->begin_to = writer->begin_bytes > 0 ? MAX (writer->begin_to, end) : end;
  writer->begin_bytes += length;
  if (writer->begin_bytes < BEGIN_BYTES)
    return;
  (void)sync_file_range (writer->fd, writer->begin_from, writer->begin_to - writer->begin_from, SYNC_FILE_RANGE_WRITE);
  writer->begin_bytes = 0;
}

gboolean
banger_ext4_out_flush (BangerExt4Writer *writer, GError **error)
{
  size_t length = (size_t)writer->out_blocks * EXT4_BLOCK;
  off_t where = (off_t)(writer->out_start * EXT4_BLOCK);
  if (banger_write_at (writer->fd, writer->out, length, where) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the file system");
  writer->out_blocks = 0;
  begin_disk (writer, where, length);
  return TRUE;
}

gboolean
banger_ext4_out (BangerExt4Writer *writer, guint64 block, const void *data, guint32 count, GError **error)
{
  for (const guint8 *bytes = data; count > 0;) {
    if (writer->out_blocks == OUT_BLOCKS || (writer->out_blocks > 0 && writer->out_start + writer->out_blocks != block))
      if (!banger_ext4_out_flush (writer, error))
        return FALSE;
    if (writer->out_blocks == 0)
      writer->out_start = block;
    guint32 part = MIN (count, OUT_BLOCKS - writer->out_blocks);
    memcpy (writer->out + (size_t)writer->out_blocks * EXT4_BLOCK, bytes, (size_t)part * EXT4_BLOCK);
    writer->out_blocks += part;
    block += part;
    bytes += (size_t)part * EXT4_BLOCK;
    count -= part;
  }
  return TRUE;
}

void
banger_ext4_runs_append (GArray *runs, guint64 logical, guint64 physical, guint32 blocks)
{
  while (blocks > 0) {
    Ext4Run *last = runs->len > 0 ? &g_array_index (runs, Ext4Run, runs->len - 1) : NULL;
    guint32 room = MAX_RUN;
    if (last && last->logical + last->blocks == logical && last->physical + last->blocks == physical
        && last->blocks < MAX_RUN)
      room = MAX_RUN - last->blocks;
    else
      last = NULL;
    guint32 part = MIN (blocks, room);
    if (last)
      last->blocks += part;
    else
      g_array_append_val (runs, ((Ext4Run){ logical, physical, part }));
    logical += part;
    physical += part;
    blocks -= part;
  }
}

/* Data of the current file */

static gboolean
commit_blocks (BangerExt4Writer *writer, guint64 logical, const guint8 *data, guint32 count, GError **error)
{
  if (!writer->file->runs)
    writer->file->runs = g_array_new (FALSE, FALSE, sizeof (Ext4Run));
  while (count > 0) {
    guint64 physical = 0;
    guint32 part = count;
    if (!allocate_blocks (writer, &physical, &part, error) || !banger_ext4_out (writer, physical, data, part, error))
      return FALSE;
    banger_ext4_runs_append (writer->file->runs, logical, physical, part);
    logical += part;
    data += (size_t)part * EXT4_BLOCK;
    count -= part;
  }
  writer->file_next = logical;
  return TRUE;
}

static gboolean
commit_tail (BangerExt4Writer *writer, GError **error)
{
  if (!writer->tail_used)
    return TRUE;
  writer->tail_used = FALSE;
  return commit_blocks (writer, writer->tail_block, writer->tail, 1, error);
}

/* Whole blocks, or bytes of one. */
static gboolean
write_part (BangerExt4Writer *writer, const guint8 *data, size_t part, guint64 offset, GError **error)
{
  guint64 block = offset / EXT4_BLOCK;
  if (writer->tail_used && writer->tail_block != block && !commit_tail (writer, error))
    return FALSE;
  if (block < writer->file_next || (part >= EXT4_BLOCK && writer->tail_used))
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: its data is not in rising order",
                             writer->file_path);
  if (part >= EXT4_BLOCK)
    return commit_blocks (writer, block, data, (guint32)(part / EXT4_BLOCK), error);
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
  if (writer->failed || !writer->file)
    return banger_set_error (error, BANGER_ERROR_FAILED, "data without a regular file before it");
  if (offset > writer->file->size || length > writer->file->size - offset)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "%s: more data than its size says", writer->file_path);
  const guint8 *bytes = data;
  while (length > 0) {
    size_t part = MIN (length, EXT4_BLOCK - (size_t)(offset % EXT4_BLOCK));
    if (part == EXT4_BLOCK)
      part = MIN (length, WHOLE_BYTES) / EXT4_BLOCK * EXT4_BLOCK;
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
  gboolean done = !writer->file || commit_tail (writer, error);
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
      if (!entry->symlink || entry->symlink[0] == '\0' || strlen (entry->symlink) >= EXT4_BLOCK)
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
  writer->last = inode;
  inode->layer = writer->layer;
  inode->mode = (entry->mode & S_IFMT) | (S_ISLNK (entry->mode) ? 0777 : entry->mode & 07777);
  inode->uid = (guint32)entry->uid;
  inode->gid = (guint32)entry->gid;
  inode->mtime = CLAMP (entry->mtime, (gint64)G_MININT32, (G_GINT64_CONSTANT (1) << 34) + G_MININT32 - 1);
  inode->mtime_nsec = MIN (entry->mtime_nsec, 999999999u);
  inode->major = entry->major;
  inode->minor = entry->minor;
  if (S_ISLNK (inode->mode))
    inode->target = g_strdup (entry->symlink);
  inode->size = S_ISREG (inode->mode) ? entry->size : S_ISLNK (inode->mode) ? strlen (entry->symlink) : 0;
  return banger_ext4_copy_xattrs (writer, inode, entry, error);
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
  g_autofree char *path = banger_ext4_normalise (entry->hardlink, error);
  if (!path)
    return NULL;
  const char *name;
  Ext4Inode *dir = *path != '\0' ? banger_ext4_walk_to_parent (writer, path, FALSE, &name, NULL) : NULL;
  Ext4Inode *target = dir ? g_tree_lookup (dir->children, name) : NULL;
  const char *why = NULL;
  if (!target)
    why = "hard link to what is not in the archive before it";
  else if (S_ISDIR (target->mode))
    why = "hard link to a directory";
  else if (target->links >= EXT4_MAX_LINKS)
    why = "more than 65000 hard links";
  if (!why)
    return target;
  refuse (error, entry->path, why);
  return NULL;
}

/* Whether it leads to a directory is known at the end: usr/bin may come after bin. */
static void
note_replaced (BangerExt4Writer *writer, const Ext4Inode *old, const char *path, guint32 mode)
{
  if (!old || !S_ISLNK (old->mode) || S_ISLNK (mode) || writer->replaced->len >= 64 * EXT4_MAX_REPLACED)
    return;
  Ext4Replaced *replaced = g_new0 (Ext4Replaced, 1);
  replaced->path = banger_ext4_normalise (path, NULL);
  replaced->target = g_strdup (old->target);
  g_ptr_array_add (writer->replaced, replaced);
}

static gboolean
add_hardlink (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, const BangerExt4Entry *entry, GError **error)
{
  Ext4Inode *target = find_link_target (writer, entry, error);
  if (!target)
    return FALSE;
  Ext4Inode *old = g_tree_lookup (dir->children, name);
  if (old != target) {
    if (old && S_ISDIR (old->mode) && (old->layer == writer->layer || !banger_ext4_gives_way (writer, old)))
      return refuse (error, entry->path, "hard link over a directory");
    if (target->links == 0) /* it was in that directory */
      return refuse (error, entry->path, "hard link to what it replaces");
    note_replaced (writer, old, entry->path, target->mode);
    if (old)
      banger_ext4_unlink_child (writer, dir, name, old);
    if (!banger_ext4_count_name (writer, error))
      return FALSE;
    banger_ext4_link_child (dir, name, target);
    banger_ext4_note_link (writer, dir, name, target);
  }
  if (entry->size > 0 && S_ISREG (target->mode)) /* pax(1): a link may carry the data again */ {
    banger_ext4_drop_data (writer, target);
    target->size = entry->size;
    begin_file (writer, target, entry->path);
  }
  return TRUE;
}

static gboolean
add_named (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, const BangerExt4Entry *entry, GError **error)
{
  Ext4Inode *old = g_tree_lookup (dir->children, name);
  if (old && S_ISDIR (old->mode) && S_ISDIR (entry->mode))
    return fill_inode (writer, old, entry, error);
  if (old && !banger_ext4_gives_way (writer, old))
    return refuse (error, entry->path, "replaces a directory that is not empty");
  note_replaced (writer, old, entry->path, entry->mode);
  if (old)
    banger_ext4_unlink_child (writer, dir, name, old);
  if (!banger_ext4_count_name (writer, error))
    return FALSE;
  Ext4Inode *inode = banger_ext4_inode_new (writer, entry->mode & S_IFMT);
  if (!fill_inode (writer, inode, entry, error))
    return FALSE;
  banger_ext4_link_child (dir, name, inode);
  if (S_ISREG (inode->mode))
    begin_file (writer, inode, entry->path);
  return TRUE;
}

static gboolean
add_entry (BangerExt4Writer *writer, const BangerExt4Entry *entry, GError **error)
{
  g_autofree char *path = banger_ext4_normalise (entry->path, error);
  if (!path || (!entry->hardlink && !check_entry (entry, error)))
    return FALSE;
  if (*path == '\0') {
    if (entry->hardlink || !S_ISDIR (entry->mode))
      return refuse (error, entry->path, "the root must be a directory");
    return fill_inode (writer, writer->root, entry, error);
  }
  if (strcmp (path, BANGER_EXT4_LOST_AND_FOUND) == 0 && (entry->hardlink || !S_ISDIR (entry->mode)))
    return refuse (error, entry->path, "must be a directory, in which e2fsck puts what it finds");
  const char *name;
  Ext4Inode *dir = banger_ext4_walk_to_parent (writer, path, TRUE, &name, error);
  if (!dir)
    return FALSE;
  if (entry->hardlink)
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

BangerExt4Inode *
banger_ext4_writer_last (BangerExt4Writer *writer)
{
  return writer->last;
}

/* Layers */

gboolean
banger_ext4_writer_begin_layer (BangerExt4Writer *writer, GError **error)
{
  if (!banger_ext4_end_file (writer, error))
    return FALSE;
  if (writer->layer >= BANGER_EXT4_MAX_LAYERS)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "more than %u layers", BANGER_EXT4_MAX_LAYERS);
  writer->layer++;
  g_clear_pointer (&writer->own_links, g_hash_table_unref);
  return TRUE;
}

gboolean
banger_ext4_writer_whiteout (BangerExt4Writer *writer, const char *path, gboolean inside, GError **error)
{
  const char *name;
  g_autofree char *normal = banger_ext4_normalise (path, error);
  if (!normal || !banger_ext4_end_file (writer, error))
    return FALSE;
  gboolean root = *normal == '\0';
  Ext4Inode *dir = root ? writer->root : banger_ext4_walk_to_parent (writer, normal, FALSE, &name, NULL);
  Ext4Inode *child = !dir || root ? dir : g_tree_lookup (dir->children, name);
  if (child && !inside && !root)
    banger_ext4_remove_name (writer, dir, name, child);
  else if (child && S_ISDIR (child->mode))
    banger_ext4_remove_lower (writer, child);
  return TRUE;
}
