/* From the tree in memory to inodes, directories, extents and group tables on the disk.
 * Never moves data that is written: tables take what data left free (flex_bg allows that). */
#include <ext2fs/ext2fs.h>
#include <ext2fs/ext3_extents.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "intake/ext4-private.h"

#define BYTES_PER_INODE 16384u
#define INODE_BYTES 256u
#define MAX_INODES_PER_GROUP 32768u
#define ROUND_BLOCKS 1024u /* of automatic sizes */
#define FIRST_INODE 11u    /* lost+found; below it are the reserved ones */
#define LOST_AND_FOUND_BLOCKS 4u
#define MAX_SHOWN_PATH 400u
#define EXTENTS_PER_BLOCK ((EXT4_BLOCK - sizeof (struct ext3_extent_header) - 4) / sizeof (struct ext3_extent))
#define EXTENTS_IN_INODE 4u
#define EXTRA_ISIZE ((guint16)(sizeof (struct ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE))

/* Order and numbers of the inodes */

typedef struct {
  GPtrArray *order;
  guint32 next;
} Numbering;

static gboolean
number_one (gpointer name, gpointer value, gpointer data)
{
  Numbering *numbering = data;
  Ext4Inode *inode = value;
  if (inode->ino == 0) {
    inode->ino = numbering->next++;
    g_ptr_array_add (numbering->order, inode);
  }
  return FALSE;
}

/* Breadth first, so that names of a directory have neighbouring inodes. */
static GPtrArray *
number_inodes (BangerExt4Writer *writer)
{
  Numbering numbering = { g_ptr_array_new (), FIRST_INODE + 1 };
  Ext4Inode *lost = g_tree_lookup (writer->root->children, BANGER_EXT4_LOST_AND_FOUND);
  writer->root->ino = EXT2_ROOT_INO;
  lost->ino = FIRST_INODE;
  g_ptr_array_add (numbering.order, writer->root);
  g_ptr_array_add (numbering.order, lost);
  for (guint i = 0; i < numbering.order->len; i++) {
    Ext4Inode *inode = g_ptr_array_index (numbering.order, i);
    if (inode->children)
      g_tree_foreach (inode->children, number_one, &numbering);
  }
  return numbering.order;
}

static gboolean
ensure_lost_and_found (BangerExt4Writer *writer, GError **error)
{
  if (g_tree_lookup (writer->root->children, BANGER_EXT4_LOST_AND_FOUND))
    return TRUE;
  BangerExt4Entry entry = { .path = BANGER_EXT4_LOST_AND_FOUND, .mode = S_IFDIR | 0700, .mtime = writer->options.time };
  return banger_ext4_writer_add (writer, &entry, error);
}

/* Size */

static gboolean
add_record (gpointer name, gpointer value, gpointer data)
{
  *(guint64 *)data += (8 + strlen (name) + 3) & ~(size_t)3;
  return FALSE;
}

/* At most this many blocks beside data and tables. */
static guint64
estimate_metadata (const GPtrArray *order)
{
  guint64 blocks = LOST_AND_FOUND_BLOCKS + 8;
  for (guint i = 0; i < order->len; i++) {
    const Ext4Inode *inode = g_ptr_array_index (order, i);
    guint64 bytes = 24;
    if (inode->children) {
      g_tree_foreach (inode->children, add_record, &bytes);
      guint64 leaves = bytes / (EXT4_BLOCK - 12 - 264) + 1;
      blocks += leaves + leaves / 500 + 2;
    }
    blocks += (inode->target ? 1 : 0) + (inode->xattrs ? 1 : 0);
    if (inode->runs && inode->runs->len > EXTENTS_IN_INODE)
      blocks += inode->runs->len / EXTENTS_PER_BLOCK + 4;
  }
  return blocks;
}

static guint64
wanted_inodes (guint64 blocks, guint64 needed)
{
  return MAX (blocks * EXT4_BLOCK / BYTES_PER_INODE, needed + needed / 8 + 64);
}

static guint64
journal_blocks (guint64 blocks)
{
  int wanted = ext2fs_default_journal_size (blocks);
  return wanted < 1024 ? 1024 : (guint64)wanted;
}

/* The kernel puts all reserved blocks into one transaction, for which it takes at most a quarter of the journal. */
static guint64
descriptor_blocks (guint64 blocks)
{
  return MIN ((guint64)EXT4_GDT_BLOCKS, journal_blocks (blocks) / 16);
}

static guint64
table_blocks (guint64 blocks, guint64 needed_inodes)
{
  guint64 groups = (blocks + EXT4_GROUP_BLOCKS - 1) / EXT4_GROUP_BLOCKS;
  guint64 backups = 0;
  for (guint64 group = 0; group < groups; group++)
    backups += banger_ext4_is_backup_group (group) ? 1 : 0;
  return wanted_inodes (blocks, needed_inodes) * INODE_BYTES / EXT4_BLOCK + groups * 3 + backups * (1 + EXT4_GDT_BLOCKS)
         + journal_blocks (blocks);
}

static guint64
choose_blocks (BangerExt4Writer *writer, const GPtrArray *order)
{
  if (writer->options.size_bytes != 0)
    return writer->options.size_bytes / EXT4_BLOCK;
  guint64 content = writer->next_block + estimate_metadata (order) + writer->options.slack_bytes / EXT4_BLOCK + 256;
  guint64 minimum = MAX (writer->options.minimum_bytes, BANGER_EXT4_MIN_BYTES) / EXT4_BLOCK;
  guint64 groups = (order->len + FIRST_INODE) / MAX_INODES_PER_GROUP;
  guint64 blocks = MAX (MAX (content, minimum), (groups + 1) * EXT4_GROUP_BLOCKS * (groups > 0));
  /* Tables grow far slower than the file system: ends after a few rounds. Rounding may be what makes them grow. */
  for (guint64 before = 0; before != blocks;) {
    before = blocks;
    blocks = (MAX (blocks, content + table_blocks (blocks, order->len)) + ROUND_BLOCKS - 1) / ROUND_BLOCKS
             * ROUND_BLOCKS;
  }
  return MIN (blocks, BANGER_EXT4_MAX_BYTES / EXT4_BLOCK);
}

/* The empty file system */

static void
fill_parameters (struct ext2_super_block *param, guint64 blocks, guint64 inodes)
{
  guint64 groups = (blocks + EXT4_GROUP_BLOCKS - 1) / EXT4_GROUP_BLOCKS;
  ext2fs_blocks_count_set (param, blocks);
  param->s_rev_level = EXT2_DYNAMIC_REV;
  param->s_log_block_size = param->s_log_cluster_size = 2;
  param->s_inodes_count = (guint32)inodes;
  param->s_inode_size = INODE_BYTES;
  param->s_desc_size = EXT2_MIN_DESC_SIZE_64BIT;
  param->s_log_groups_per_flex = 4;
  param->s_reserved_gdt_blocks = (guint16)(descriptor_blocks (blocks) - (groups + 63) / 64);
  param->s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX
                            | EXT2_FEATURE_COMPAT_RESIZE_INODE;
  param->s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS
                              | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
  param->s_feature_ro_compat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE
                               | EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_DIR_NLINK
                               | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
}

static void
fill_super (BangerExt4Writer *writer)
{
  struct ext2_super_block *super = writer->fs->super;
  writer->fs->now = MAX (writer->options.time, 1); /* 0 would be the clock */
  super->s_checksum_type = EXT2_CRC32C_CHKSUM;
  memcpy (super->s_uuid, writer->uuid, sizeof super->s_uuid);
  memcpy (super->s_hash_seed, writer->hash_seed, sizeof super->s_hash_seed);
  if (writer->label)
    memcpy (super->s_volume_name, writer->label, strlen (writer->label));
  super->s_def_hash_version = EXT2_HASH_HALF_MD4;
  super->s_flags |= EXT2_FLAGS_SIGNED_HASH;
  super->s_mkfs_time = super->s_lastcheck = super->s_wtime = (guint32)writer->fs->now;
  super->s_max_mnt_count = G_MAXUINT16; /* never checked for its count of mounts */
  super->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
  super->s_errors = EXT2_ERRORS_CONTINUE;
  super->s_min_extra_isize = super->s_want_extra_isize = EXTRA_ISIZE;
  ext2fs_init_csum_seed (writer->fs);
}

static gboolean
initialise (BangerExt4Writer *writer, guint64 blocks, guint64 needed_inodes, GError **error)
{
  struct ext2_super_block param = { 0 };
  guint64 groups = (blocks + EXT4_GROUP_BLOCKS - 1) / EXT4_GROUP_BLOCKS;
  guint64 inodes = MIN (wanted_inodes (blocks, needed_inodes), groups * MAX_INODES_PER_GROUP);
  fill_parameters (&param, blocks, inodes);
  if (ftruncate (writer->fd, (off_t)(blocks * EXT4_BLOCK)) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot size the file system");
  banger_autofd int fd = fcntl (writer->fd, F_DUPFD_CLOEXEC, 3); /* closed by libext2fs */
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot duplicate a descriptor");
  g_autofree char *name = g_strdup_printf ("%d", fd);
  errcode_t code = ext2fs_initialize (name, EXT2_FLAG_64BITS, &param, unixfd_io_manager, &writer->fs);
  if (code != 0)
    return banger_ext4_error (error, code, "cannot lay out a file system of %" G_GUINT64_FORMAT " bytes",
                              blocks * EXT4_BLOCK);
  banger_steal_fd (&fd);
  fill_super (writer);
  /* Checksums of directories need the generation of an inode that is not written yet. */
  writer->fs->flags |= EXT2_FLAG_IGNORE_CSUM_ERRORS;
  if (writer->fs->super->s_inodes_count < needed_inodes + FIRST_INODE
      || ext2fs_blocks_count (writer->fs->super) < writer->next_block)
    return banger_set_error (error, BANGER_ERROR_NO_SPACE,
                             "%" G_GUINT64_FORMAT " files do not fit into %" G_GUINT64_FORMAT
                             " bytes; give a larger size",
                             needed_inodes, blocks * EXT4_BLOCK);
  return TRUE;
}

/* Blocks */

static gboolean
claim_runs (BangerExt4Writer *writer, const GArray *runs, GError **error)
{
  for (guint i = 0; runs && i < runs->len; i++) {
    const Ext4Run *run = &g_array_index (runs, Ext4Run, i);
    if (!ext2fs_test_block_bitmap_range2 (writer->fs->block_map, run->physical, run->blocks))
      return banger_set_error (error, BANGER_ERROR_FAILED, "block %" G_GUINT64_FORMAT " is used twice", run->physical);
    ext2fs_block_alloc_stats_range (writer->fs, run->physical, run->blocks, +1);
  }
  return TRUE;
}

static gboolean
allocate (BangerExt4Writer *writer, guint count, guint64 *ret_block, GError **error)
{
  blk64_t block;
  errcode_t code = ext2fs_get_free_blocks2 (writer->fs, writer->meta_next, 0, (int)count, NULL, &block);
  if (code != 0)
    return banger_ext4_error (error, code, "the content does not fit");
  ext2fs_block_alloc_stats_range (writer->fs, block, count, +1);
  writer->meta_next = block + count;
  if (writer->meta_next >= ext2fs_blocks_count (writer->fs->super))
    writer->meta_next = 1;
  *ret_block = block;
  return TRUE;
}

static gboolean
allocate_runs (BangerExt4Writer *writer, guint count, GArray *runs, GError **error)
{
  guint chunk = count;
  for (guint done = 0; done < count;) {
    guint64 block;
    guint part = MIN (chunk, count - done);
    if (allocate (writer, part, &block, part == 1 ? error : NULL)) {
      banger_ext4_runs_append (runs, done, block, part);
      done += part;
    } else if ((chunk = part / 2) == 0)
      return FALSE;
  }
  return TRUE;
}

static gboolean
place_tables (BangerExt4Writer *writer, GError **error)
{
  ext2_filsys fs = writer->fs;
  guint64 block;
  for (dgrp_t group = 0; group < fs->group_desc_count; group++) {
    if (!allocate (writer, 1, &block, error))
      return FALSE;
    ext2fs_block_bitmap_loc_set (fs, group, block);
  }
  for (dgrp_t group = 0; group < fs->group_desc_count; group++) {
    if (!allocate (writer, 1, &block, error))
      return FALSE;
    ext2fs_inode_bitmap_loc_set (fs, group, block);
  }
  for (dgrp_t group = 0; group < fs->group_desc_count; group++) {
    if (!allocate (writer, fs->inode_blocks_per_group, &block, error))
      return FALSE;
    ext2fs_inode_table_loc_set (fs, group, block);
    ext2fs_bg_flags_set (fs, group, EXT2_BG_INODE_ZEROED); /* a hole of the file */
  }
  return TRUE;
}

/* Blocks of replaced files hold old data: make holes of them again. */
static gboolean
punch_free_runs (BangerExt4Writer *writer, GError **error)
{
  for (guint i = 0; i < writer->free_runs->len; i++) {
    const Ext4Run *run = &g_array_index (writer->free_runs, Ext4Run, i);
    off_t start = (off_t)(run->physical * EXT4_BLOCK), length = (off_t)run->blocks * EXT4_BLOCK;
    if (length == 0 || fallocate (writer->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, length) == 0)
      continue;
    static const guint8 zeros[EXT4_BLOCK];
    for (guint32 n = 0; n < run->blocks; n++)
      if (!banger_ext4_out (writer, run->physical + n, zeros, 1, error))
        return FALSE;
  }
  return banger_ext4_out_flush (writer, error);
}

/* Extents: bottom up, so that blocks are full and written once */

static void
fill_header (struct ext3_extent_header *header, guint entries, guint max, guint depth)
{
  header->eh_magic = EXT3_EXT_MAGIC;
  header->eh_entries = (guint16)entries;
  header->eh_max = (guint16)max;
  header->eh_depth = (guint16)depth;
}

/* Packs the 12-byte @entries of one level into blocks. Returns: (transfer full): an index entry for each. */
static GArray *
write_extent_level (BangerExt4Writer *writer, Ext4Inode *inode, const GArray *entries, guint depth, GError **error)
{
  g_autoptr (GArray) above = g_array_new (FALSE, TRUE, sizeof (struct ext3_extent_idx));
  for (guint i = 0; i < entries->len; i += EXTENTS_PER_BLOCK) {
    union {
      struct ext3_extent_header header;
      guint8 bytes[EXT4_BLOCK];
    } block = { 0 };
    guint count = MIN ((guint)EXTENTS_PER_BLOCK, entries->len - i);
    const struct ext3_extent *first = &g_array_index (entries, struct ext3_extent, i);
    fill_header (&block.header, count, EXTENTS_PER_BLOCK, depth);
    memcpy (block.bytes + sizeof block.header, first, count * sizeof *first);
    guint64 where;
    if (!allocate (writer, 1, &where, error))
      return NULL;
    errcode_t code = ext2fs_extent_block_csum_set (writer->fs, inode->ino, &block.header);
    if (code != 0 || !banger_ext4_out (writer, where, block.bytes, 1, error)) {
      if (code != 0)
        banger_ext4_error (error, code, "cannot checksum extents");
      return NULL;
    }
    struct ext3_extent_idx index = { .ei_block = first->ee_block,
                                     .ei_leaf = (guint32)where,
                                     .ei_leaf_hi = (guint16)(where >> 32) };
    g_array_append_val (above, index);
    inode->meta_blocks++;
  }
  return g_steal_pointer (&above);
}

static gboolean
write_extents (BangerExt4Writer *writer, Ext4Inode *inode, const GArray *runs, __u32 *i_block, GError **error)
{
  g_autoptr (GArray) level = g_array_new (FALSE, TRUE, sizeof (struct ext3_extent));
  for (guint i = 0; runs && i < runs->len; i++) {
    const Ext4Run *run = &g_array_index (runs, Ext4Run, i);
    struct ext3_extent extent = { .ee_block = (guint32)run->logical,
                                  .ee_len = (guint16)run->blocks,
                                  .ee_start = (guint32)run->physical,
                                  .ee_start_hi = (guint16)(run->physical >> 32) };
    g_array_append_val (level, extent);
  }
  guint depth = 0;
  for (; level->len > EXTENTS_IN_INODE; depth++) {
    GArray *above = write_extent_level (writer, inode, level, depth, error);
    if (!above)
      return FALSE;
    g_array_unref (level);
    level = above;
  }
  struct ext3_extent_header header = { 0 };
  fill_header (&header, level->len, EXTENTS_IN_INODE, depth);
  memcpy (i_block, &header, sizeof header);
  if (level->len > 0)
    memcpy (i_block + 3, level->data, level->len * sizeof (struct ext3_extent));
  return TRUE;
}

/* Contents that are metadata */

static guint8
file_type (guint32 mode)
{
  static const struct {
    guint32 mode;
    guint8 type;
  } types[] = { { S_IFREG, EXT2_FT_REG_FILE }, { S_IFDIR, EXT2_FT_DIR },    { S_IFLNK, EXT2_FT_SYMLINK },
                { S_IFCHR, EXT2_FT_CHRDEV },   { S_IFBLK, EXT2_FT_BLKDEV }, { S_IFIFO, EXT2_FT_FIFO },
                { S_IFSOCK, EXT2_FT_SOCK } };
  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    if (types[i].mode == (mode & S_IFMT))
      return types[i].type;
  return EXT2_FT_UNKNOWN;
}

static gboolean
collect_name (gpointer name, gpointer value, gpointer data)
{
  const Ext4Inode *inode = value;
  g_array_append_val ((GArray *)data, ((Ext4Name){ name, inode->ino, file_type (inode->mode) }));
  return FALSE;
}

static gboolean
write_blocks (BangerExt4Writer *writer, Ext4Inode *inode, const guint8 *bytes, guint length, GError **error)
{
  inode->runs = g_array_new (FALSE, FALSE, sizeof (Ext4Run));
  if (!allocate_runs (writer, length / EXT4_BLOCK, inode->runs, error))
    return FALSE;
  for (guint i = 0; i < inode->runs->len; i++) {
    const Ext4Run *run = &g_array_index (inode->runs, Ext4Run, i);
    if (!banger_ext4_out (writer, run->physical, bytes + run->logical * EXT4_BLOCK, run->blocks, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
write_directory (BangerExt4Writer *writer, Ext4Inode *inode, GError **error)
{
  g_autoptr (GArray) names = g_array_new (FALSE, FALSE, sizeof (Ext4Name));
  g_tree_foreach (inode->children, collect_name, names);
  guint min_blocks = inode->ino == FIRST_INODE ? LOST_AND_FOUND_BLOCKS : 1;
  g_autoptr (GByteArray) blocks = banger_ext4_dir_build (writer->fs, inode->ino, inode->parent->ino, names, min_blocks,
                                                         &inode->indexed, error);
  if (!blocks)
    return FALSE;
  inode->size = blocks->len;
  return write_blocks (writer, inode, blocks->data, blocks->len, error);
}

static gboolean
write_slow_symlink (BangerExt4Writer *writer, Ext4Inode *inode, GError **error)
{
  guint8 block[EXT4_BLOCK] = { 0 };
  memcpy (block, inode->target, inode->size);
  return write_blocks (writer, inode, block, sizeof block, error);
}

static void
fill_device (const Ext4Inode *inode, __u32 *i_block)
{
  if (inode->major < 256 && inode->minor < 256)
    i_block[0] = inode->major << 8 | inode->minor;
  else
    i_block[1] = (inode->minor & 0xff) | inode->major << 8 | (inode->minor & ~0xffu) << 12;
}

/* What i_block holds, and blocks that it points to. */
static gboolean
write_content (BangerExt4Writer *writer, Ext4Inode *inode, struct ext2_inode_large *large, GError **error)
{
  gboolean slow = S_ISLNK (inode->mode) && inode->size >= sizeof large->i_block;
  if (S_ISCHR (inode->mode) || S_ISBLK (inode->mode))
    fill_device (inode, large->i_block);
  if (S_ISLNK (inode->mode) && !slow)
    memcpy (large->i_block, inode->target, inode->size);
  if (S_ISDIR (inode->mode) && !write_directory (writer, inode, error))
    return FALSE;
  if (slow && !write_slow_symlink (writer, inode, error))
    return FALSE;
  if (!S_ISDIR (inode->mode) && !S_ISREG (inode->mode) && !slow)
    return TRUE;
  large->i_flags |= EXT4_EXTENTS_FL | (inode->indexed ? EXT2_INDEX_FL : 0);
  return write_extents (writer, inode, inode->runs, large->i_block, error);
}

static void
fill_times (const BangerExt4Writer *writer, const Ext4Inode *inode, struct ext2_inode_large *large)
{
  guint32 seconds = (guint32)(gint32)inode->mtime;
  guint32 extra = (guint32)((inode->mtime - (gint32)inode->mtime) >> 32 & 3) | inode->mtime_nsec << 2;
  large->i_mtime = large->i_atime = large->i_ctime = seconds;
  large->i_mtime_extra = large->i_atime_extra = large->i_ctime_extra = extra;
  large->i_crtime = (guint32)writer->fs->now;
  large->i_crtime_extra = (guint32)((guint64)writer->fs->now >> 32 & 3);
}

static guint16
link_count (const Ext4Inode *inode)
{
  if (!S_ISDIR (inode->mode))
    return (guint16)inode->links;
  return inode->subdirs + 2 >= EXT4_MAX_LINKS ? 1 : (guint16)(inode->subdirs + 2); /* dir_nlink */
}

static gboolean
write_xattrs (BangerExt4Writer *writer, const Ext4Inode *inode, GError **error)
{
  struct ext2_xattr_handle *handle = NULL;
  errcode_t code = ext2fs_xattrs_open (writer->fs, inode->ino, &handle);
  for (guint i = 0; code == 0 && i < inode->xattrs->len; i++) {
    const Ext4Xattr *xattr = g_ptr_array_index (inode->xattrs, i);
    code = ext2fs_xattr_set (handle, xattr->name, xattr->value, xattr->length);
  }
  if (code == 0)
    code = ext2fs_xattrs_write (handle);
  if (handle)
    ext2fs_xattrs_close (&handle);
  return code == 0 ? TRUE : banger_ext4_error (error, code, "cannot write extended attributes");
}

static gboolean
write_inode (BangerExt4Writer *writer, Ext4Inode *inode, GError **error)
{
  struct ext2_inode_large large = { 0 };
  if (!write_content (writer, inode, &large, error))
    return FALSE;
  guint64 blocks = inode->meta_blocks;
  for (guint i = 0; inode->runs && i < inode->runs->len; i++)
    blocks += g_array_index (inode->runs, Ext4Run, i).blocks;
  ext2fs_iblk_set (writer->fs, EXT2_INODE (&large), blocks);
  large.i_mode = (guint16)inode->mode;
  large.i_uid = (guint16)inode->uid;
  large.osd2.linux2.l_i_uid_high = (guint16)(inode->uid >> 16);
  large.i_gid = (guint16)inode->gid;
  large.osd2.linux2.l_i_gid_high = (guint16)(inode->gid >> 16);
  large.i_links_count = link_count (inode);
  large.i_size = (guint32)inode->size;
  large.i_size_high = (guint32)(inode->size >> 32);
  large.i_extra_isize = EXTRA_ISIZE;
  fill_times (writer, inode, &large);
  errcode_t code = ext2fs_write_inode_full (writer->fs, inode->ino, EXT2_INODE (&large), sizeof large);
  if (code != 0)
    return banger_ext4_error (error, code, "cannot write an inode");
  if (inode->ino >= FIRST_INODE)
    ext2fs_inode_alloc_stats2 (writer->fs, inode->ino, +1, S_ISDIR (inode->mode));
  return !inode->xattrs || write_xattrs (writer, inode, error);
}

typedef struct {
  const Ext4Inode *wanted;
  const char *name;
} NameSearch;

static gboolean
is_wanted (gpointer name, gpointer value, gpointer data)
{
  NameSearch *search = data;
  search->name = value == search->wanted ? name : NULL;
  return search->name != NULL;
}

/* Returns: the name of @inode in @dir, or %NULL. */
static const char *
find_name (const Ext4Inode *dir, const Ext4Inode *inode)
{
  NameSearch search = { inode, NULL };
  if (dir->children)
    g_tree_foreach (dir->children, is_wanted, &search);
  return search.name;
}

/* Nobody looks for the path of an inode but when it cannot be written. */
static void
prefix_path (const GPtrArray *order, const Ext4Inode *inode, GError **error)
{
  const char *name = NULL;
  const Ext4Inode *dir = NULL;
  for (guint i = 0; i < order->len && !name; i++) {
    dir = order->pdata[i];
    name = find_name (dir, inode);
  }
  g_autoptr (GString) path = g_string_new (name);
  for (; name && dir->parent != dir && path->len < MAX_SHOWN_PATH; dir = dir->parent) {
    g_string_prepend_c (path, '/');
    g_string_prepend (path, find_name (dir->parent, dir));
  }
  g_autofree char *shown = g_utf8_make_valid (path->str, (gssize)path->len);
  g_prefix_error (error, "%s: ", shown);
}

static gboolean
write_inodes (BangerExt4Writer *writer, const GPtrArray *order, GCancellable *cancellable, GError **error)
{
  for (ext2_ino_t ino = 1; ino < FIRST_INODE; ino++)
    ext2fs_inode_alloc_stats2 (writer->fs, ino, +1, ino == EXT2_ROOT_INO);
  for (guint i = 0; i < order->len; i++) {
    if (i % 256 == 0 && g_cancellable_is_cancelled (cancellable))
      return banger_set_cancelled (error);
    if (write_inode (writer, order->pdata[i], error))
      continue;
    prefix_path (order, order->pdata[i], error);
    return FALSE;
  }
  return banger_ext4_out_flush (writer, error);
}

static gboolean
add_special_inodes (BangerExt4Writer *writer, GError **error)
{
  errcode_t code = ext2fs_create_resize_inode (writer->fs);
  if (code != 0)
    return banger_ext4_error (error, code, "cannot reserve room to grow");
  guint64 blocks = journal_blocks (ext2fs_blocks_count (writer->fs->super));
  code = ext2fs_add_journal_inode2 (writer->fs, (blk_t)blocks, writer->meta_next,
                                    EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
  return code == 0 ? TRUE : banger_ext4_error (error, code, "cannot make the journal");
}

static gboolean
lay_out (BangerExt4Writer *writer, const GPtrArray *order, GCancellable *cancellable, GError **error)
{
  if (!initialise (writer, choose_blocks (writer, order), order->len, error))
    return FALSE;
  for (guint i = 0; i < order->len; i++)
    if (!claim_runs (writer, ((Ext4Inode *)g_ptr_array_index (order, i))->runs, error))
      return FALSE;
  writer->meta_next = MIN (writer->next_block, ext2fs_blocks_count (writer->fs->super) - 1);
  return punch_free_runs (writer, error) && place_tables (writer, error)
         && write_inodes (writer, order, cancellable, error) && add_special_inodes (writer, error);
}

gboolean
banger_ext4_writer_finish (BangerExt4Writer *writer, GCancellable *cancellable, BangerExt4Info *ret_info,
                           GError **error)
{
  if (writer->failed)
    return banger_set_error (error, BANGER_ERROR_FAILED, "the writer has failed before");
  if (!banger_ext4_end_file (writer, error) || !banger_ext4_out_flush (writer, error)
      || !ensure_lost_and_found (writer, error))
    return FALSE;
  writer->failed = TRUE; /* a second call is an error, too */
  g_autoptr (GPtrArray) order = number_inodes (writer);
  if (!lay_out (writer, order, cancellable, error))
    return FALSE;

  BangerExt4Info info = { 0 };
  info.size_bytes = ext2fs_blocks_count (writer->fs->super) * EXT4_BLOCK;
  info.used_bytes = info.size_bytes - ext2fs_free_blocks_count (writer->fs->super) * EXT4_BLOCK;
  info.entries = writer->names;
  writer->fs->flags &= ~EXT2_FLAG_IGNORE_CSUM_ERRORS;
  ext2fs_mark_valid (writer->fs);
  errcode_t code = ext2fs_set_gdt_csum (writer->fs);
  if (code == 0)
    code = ext2fs_close2 (writer->fs, EXT2_FLAG_FLUSH_NO_SYNC); /* whoever needs it on the disk syncs it once */
  if (code == 0)
    writer->fs = NULL;
  if (code != 0)
    return banger_ext4_error (error, code, "cannot write the file system");
  if (ret_info)
    *ret_info = info;
  return TRUE;
}
