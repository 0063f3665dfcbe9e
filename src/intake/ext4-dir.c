/* Directory blocks: linear, or with the hash tree that makes large directories fast (Documentation/filesystems/ext4,
 * "Hash Tree Directories"). Never writes: blocks are returned. */
#include <string.h>

#include "common/error.h"
#include "intake/ext4-private.h"

#define TAIL_BYTES 12u
#define USABLE (EXT4_BLOCK - TAIL_BYTES)
#define ROOT_OFFSET 32u
#define NODE_OFFSET 8u
#define ROOT_LIMIT ((EXT4_BLOCK - ROOT_OFFSET - sizeof (struct ext2_dx_tail)) / sizeof (struct ext2_dx_entry))
#define NODE_LIMIT ((EXT4_BLOCK - NODE_OFFSET - sizeof (struct ext2_dx_tail)) / sizeof (struct ext2_dx_entry))

typedef struct {
  guint32 hash, minor;
  const Ext4Name *name;
} Hashed;

static guint
record_length (const char *name)
{
  return (guint)((8 + strlen (name) + 3) & ~(size_t)3);
}

/* One block with records after each other. */
typedef struct {
  guint8 *block;
  guint used, last;
} Packer;

static void
pack (Packer *packer, const char *name, guint32 ino, guint8 type)
{
  guint length = record_length (name);
  struct ext2_dir_entry *record = (struct ext2_dir_entry *)(gpointer)(packer->block + packer->used);
  record->inode = ino;
  record->rec_len = (guint16)length;
  ext2fs_dirent_set_name_len (record, (int)strlen (name));
  ext2fs_dirent_set_file_type (record, type);
  memcpy (record->name, name, strlen (name));
  packer->last = packer->used;
  packer->used += length;
}

/* The last record takes the rest, then the checksum's record. */
static void
seal (ext2_filsys fs, Packer *packer)
{
  struct ext2_dir_entry *record = (struct ext2_dir_entry *)(gpointer)(packer->block + packer->last);
  record->rec_len = (guint16)(USABLE - packer->last);
  ext2fs_initialize_dirent_tail (fs, (struct ext2_dir_entry_tail *)(gpointer)(packer->block + USABLE));
}

static guint8 *
add_block (GByteArray *out)
{
  guint old = out->len;
  g_byte_array_set_size (out, old + EXT4_BLOCK);
  memset (out->data + old, 0, EXT4_BLOCK);
  return out->data + old;
}

static gboolean
fits_one_block (const GArray *names)
{
  guint used = 12 + 12;
  for (guint i = 0; i < names->len; i++)
    if ((used += record_length (g_array_index (names, Ext4Name, i).name)) > USABLE)
      return FALSE;
  return TRUE;
}

static void
build_linear (ext2_filsys fs, guint32 ino, guint32 parent, const GArray *names, guint min_blocks, GByteArray *out)
{
  Packer packer = { .block = add_block (out) };
  pack (&packer, ".", ino, EXT2_FT_DIR);
  pack (&packer, "..", parent, EXT2_FT_DIR);
  for (guint i = 0; i < names->len; i++) {
    const Ext4Name *name = &g_array_index (names, Ext4Name, i);
    pack (&packer, name->name, name->ino, name->type);
  }
  seal (fs, &packer);
  for (guint i = 1; i < min_blocks; i++) {
    Packer empty = { .block = add_block (out) };
    seal (fs, &empty);
  }
}

static int
compare_hashed (gconstpointer a, gconstpointer b)
{
  const Hashed *x = a, *y = b;
  if (x->hash != y->hash)
    return x->hash < y->hash ? -1 : 1;
  if (x->minor != y->minor)
    return x->minor < y->minor ? -1 : 1;
  return strcmp (x->name->name, y->name->name);
}

static GArray *
hash_names (ext2_filsys fs, const GArray *names, GError **error)
{
  g_autoptr (GArray) hashed = g_array_sized_new (FALSE, TRUE, sizeof (Hashed), names->len);
  for (guint i = 0; i < names->len; i++) {
    Hashed one = { .name = &g_array_index (names, Ext4Name, i) };
    errcode_t code = ext2fs_dirhash2 (fs->super->s_def_hash_version, one.name->name, (int)strlen (one.name->name), NULL,
                                      0, fs->super->s_hash_seed, &one.hash, &one.minor);
    if (code != 0) {
      banger_ext4_error (error, code, "cannot hash a name");
      return NULL;
    }
    g_array_append_val (hashed, one);
  }
  g_array_sort (hashed, compare_hashed);
  return g_steal_pointer (&hashed);
}

/* Appends the leaf blocks to @out, and hash and block number of each to @index. */
static void
build_leaves (ext2_filsys fs, const GArray *hashed, GByteArray *out, GArray *index)
{
  guint32 before = 0;
  for (guint i = 0; i < hashed->len;) {
    const Hashed *first = &g_array_index (hashed, Hashed, i);
    /* Bit 0 says that the hash began in the block before. */
    struct ext2_dx_entry entry = { .hash = first->hash | (i > 0 && first->hash == before ? 1 : 0),
                                   .block = out->len / EXT4_BLOCK };
    g_array_append_val (index, entry);
    Packer packer = { .block = add_block (out) };
    for (; i < hashed->len; i++) {
      const Hashed *one = &g_array_index (hashed, Hashed, i);
      if (packer.used + record_length (one->name->name) > USABLE)
        break;
      pack (&packer, one->name->name, one->name->ino, one->name->type);
      before = one->hash;
    }
    seal (fs, &packer);
  }
}

/* The hash of the first entry is implied; limit and count lie in its place. */
static void
fill_index (guint8 *block, guint offset, guint limit, const struct ext2_dx_entry *entries, guint count)
{
  memcpy (block + offset, entries, count * sizeof *entries);
  struct ext2_dx_countlimit *head = (struct ext2_dx_countlimit *)(gpointer)(block + offset);
  head->limit = (guint16)limit;
  head->count = (guint16)count;
}

static void
fill_root (ext2_filsys fs, guint8 *block, guint32 ino, guint32 parent, guint levels)
{
  Packer packer = { .block = block };
  pack (&packer, ".", ino, EXT2_FT_DIR);
  pack (&packer, "..", parent, EXT2_FT_DIR);
  ((struct ext2_dir_entry *)(gpointer)(block + 12))->rec_len = EXT4_BLOCK - 12;
  struct ext2_dx_root_info *info = (struct ext2_dx_root_info *)(gpointer)(block + 24);
  info->hash_version = fs->super->s_def_hash_version;
  info->info_length = 8;
  info->indirect_levels = (guint8)levels;
}

static gboolean
build_indexed (ext2_filsys fs, guint32 ino, guint32 parent, const GArray *names, GByteArray *out, GError **error)
{
  g_autoptr (GArray) hashed = hash_names (fs, names, error);
  if (!hashed)
    return FALSE;
  g_autoptr (GArray) leaves = g_array_new (FALSE, FALSE, sizeof (struct ext2_dx_entry));
  add_block (out);
  build_leaves (fs, hashed, out, leaves);
  const struct ext2_dx_entry *entries = (const struct ext2_dx_entry *)(gpointer)leaves->data;
  if (leaves->len <= ROOT_LIMIT) {
    fill_root (fs, out->data, ino, parent, 0);
    fill_index (out->data, ROOT_OFFSET, ROOT_LIMIT, entries, leaves->len);
    return TRUE;
  }

  g_autoptr (GArray) nodes = g_array_new (FALSE, FALSE, sizeof (struct ext2_dx_entry));
  for (guint i = 0; i < leaves->len; i += NODE_LIMIT) {
    struct ext2_dx_entry node = { .hash = entries[i].hash, .block = out->len / EXT4_BLOCK };
    g_array_append_val (nodes, node);
    guint8 *block = add_block (out);
    ((struct ext2_dir_entry *)(gpointer)block)->rec_len = EXT4_BLOCK;
    fill_index (block, NODE_OFFSET, NODE_LIMIT, entries + i, MIN (NODE_LIMIT, leaves->len - i));
  }
  if (nodes->len > ROOT_LIMIT)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "a directory has too many entries");
  fill_root (fs, out->data, ino, parent, 1);
  fill_index (out->data, ROOT_OFFSET, ROOT_LIMIT, (const struct ext2_dx_entry *)(gpointer)nodes->data, nodes->len);
  return TRUE;
}

GByteArray *
banger_ext4_dir_build (ext2_filsys fs, guint32 ino, guint32 parent, const GArray *names, guint min_blocks,
                       gboolean *ret_indexed, GError **error)
{
  g_autoptr (GByteArray) out = g_byte_array_new ();
  gboolean indexed = !fits_one_block (names);
  if (!indexed)
    build_linear (fs, ino, parent, names, min_blocks, out);
  else if (!build_indexed (fs, ino, parent, names, out, error))
    return NULL;
  for (guint at = 0; at < out->len; at += EXT4_BLOCK) {
    errcode_t code = ext2fs_dir_block_csum_set (fs, ino, (struct ext2_dir_entry *)(gpointer)(out->data + at));
    if (code != 0) {
      banger_ext4_error (error, code, "cannot checksum a directory");
      return NULL;
    }
  }
  *ret_indexed = indexed;
  return g_steal_pointer (&out);
}
