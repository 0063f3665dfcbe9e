/* Checks of a foreign ext4 file system and a copy of one of its directories, over libext2fs.
 * Never believes a number of the file system without a bound. */
#include "intake/ext4-reader.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "intake/ext4-private.h"

#define MAX_PATH_BYTES (256u << 20) /* of all entries together, which are in memory */

/* What Linux 6.1 mounts and libext2fs reads. */
#define KNOWN_INCOMPAT                                                                                                 \
  (EXT2_FEATURE_INCOMPAT_FILETYPE | EXT2_FEATURE_INCOMPAT_META_BG | EXT3_FEATURE_INCOMPAT_EXTENTS                      \
   | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_CSUM_SEED                     \
   | EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_LARGEDIR)

struct BangerExt4Reader {
  ext2_filsys fs;
};

static gboolean
bad (GError **error, const char *why)
{
  return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "not a good ext4 file system: %s", why);
}

static gboolean
bad_code (GError **error, errcode_t code, const char *what)
{
  g_autoptr (GError) inner = NULL;
  banger_ext4_error (&inner, code, "%s", what);
  return bad (error, inner->message);
}

/* A VM that ended in order has a clean one; another one's is mended at its next start. */
static gboolean
is_unclean (GError **error, const char *why, gboolean of_vm)
{
  if (of_vm)
    return banger_set_error (
        error, BANGER_ERROR_WRONG_STATE,
        "the VM did not end in order, so that not all of it may be on its disks: start it and stop it");
  g_autofree char *text = g_strconcat (why, "; run e2fsck -f on it", NULL);
  return bad (error, text);
}

static gboolean
check_super (ext2_filsys fs, guint64 file_bytes, gboolean of_vm, GError **error)
{
  struct ext2_super_block *super = fs->super;
  guint32 unknown = super->s_feature_incompat & ~(guint32)KNOWN_INCOMPAT;
  if (super->s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER)
    return is_unclean (error, "its journal must be replayed", of_vm);
  if (unknown != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                             "the ext4 file system has features that a guest may not know (0x%x); make it without them",
                             unknown);
  if (!(super->s_state & EXT2_VALID_FS) || (super->s_state & EXT2_ERROR_FS))
    return is_unclean (error, "it was not unmounted cleanly or has errors", of_vm);
  if (ext2fs_blocks_count (super) > file_bytes / fs->blocksize)
    return bad (error, "the file is shorter than the file system in it");
  return TRUE;
}

/* @fs: (transfer full). */
static BangerExt4Reader *
reader_new (ext2_filsys fs, guint64 file_bytes, gboolean of_vm, GError **error)
{
  g_autoptr (BangerExt4Reader) reader = g_new0 (BangerExt4Reader, 1);
  reader->fs = fs;
  if (!check_super (fs, file_bytes, of_vm, error))
    return NULL;
  errcode_t code = ext2fs_check_desc (fs);
  if (code == 0)
    code = ext2fs_read_bitmaps (fs);
  if (code == 0)
    code = ext2fs_check_directory (fs, EXT2_ROOT_INO);
  if (code != 0) {
    bad_code (error, code, "its group tables");
    return NULL;
  }
  return g_steal_pointer (&reader);
}

BangerExt4Reader *
banger_ext4_reader_open (int fd, GError **error)
{
  struct stat st;
  ext2_filsys fs = NULL;
  banger_autofd int own = fcntl (fd, F_DUPFD_CLOEXEC, 3);
  if (own < 0 || fstat (fd, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot duplicate a descriptor");
    return NULL;
  }
  g_autofree char *name = g_strdup_printf ("%d", own);
  errcode_t code = ext2fs_open2 (name, NULL, EXT2_FLAG_64BITS, 0, 0, unixfd_io_manager, &fs);
  if (code != 0) {
    bad_code (error, code, "its superblock");
    return NULL;
  }
  banger_steal_fd (&own); /* closed with the file system */
  return reader_new (fs, (guint64)st.st_size, FALSE, error);
}

BangerExt4Reader *
banger_ext4_reader_open_overlay (const BangerOverlay *overlay, GError **error)
{
  ext2_filsys fs = NULL;
  errcode_t code = banger_overlay_fs_open (overlay, &fs);
  if (code == 0)
    return reader_new (fs, banger_overlay_size (overlay), TRUE, error);
  bad_code (error, code, "its superblock");
  return NULL;
}

void
banger_ext4_reader_free (BangerExt4Reader *reader)
{
  if (!reader)
    return;
  if (reader->fs)
    ext2fs_free (reader->fs);
  g_free (reader);
}

void
banger_ext4_reader_sizes (BangerExt4Reader *reader, guint64 *ret_size_bytes, guint64 *ret_used_bytes)
{
  guint64 blocks = ext2fs_blocks_count (reader->fs->super), free_blocks = ext2fs_free_blocks_count (reader->fs->super);
  *ret_size_bytes = blocks * reader->fs->blocksize;
  *ret_used_bytes = (blocks - MIN (blocks, free_blocks)) * reader->fs->blocksize;
}

gboolean
banger_ext4_reader_has_program (BangerExt4Reader *reader, const char *path)
{
  ext2_ino_t ino;
  struct ext2_inode inode;
  return ext2fs_namei_follow (reader->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0
         && ext2fs_read_inode (reader->fs, ino, &inode) == 0 && S_ISREG (inode.i_mode) && (inode.i_mode & 0111) != 0;
}

gboolean
banger_ext4_reader_root (BangerExt4Reader *reader, guint32 *ret_mode, guint32 *ret_uid, guint32 *ret_gid)
{
  struct ext2_inode inode;
  if (ext2fs_read_inode (reader->fs, EXT2_ROOT_INO, &inode) != 0)
    return FALSE;
  *ret_mode = inode.i_mode;
  *ret_uid = inode_uid (inode);
  *ret_gid = inode_gid (inode);
  return TRUE;
}

GByteArray *
banger_ext4_reader_read_file (BangerExt4Reader *reader, const char *path, guint max)
{
  ext2_ino_t ino;
  struct ext2_inode inode;
  ext2_file_t file = NULL;
  unsigned got = 0;
  if (ext2fs_namei_follow (reader->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) != 0
      || ext2fs_read_inode (reader->fs, ino, &inode) != 0 || !S_ISREG (inode.i_mode)
      || ext2fs_file_open (reader->fs, ino, 0, &file) != 0)
    return NULL;
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_byte_array_set_size (bytes, (guint)MIN (EXT2_I_SIZE (&inode), max));
  errcode_t code = ext2fs_file_read (file, bytes->data, bytes->len, &got);
  ext2fs_file_close (file);
  g_byte_array_set_size (bytes, got);
  return code == 0 ? g_steal_pointer (&bytes) : NULL;
}

/* Copying a tree */

typedef struct {
  char *path;
  ext2_ino_t ino;
} Found;

static void
found_free (gpointer data)
{
  Found *found = data;
  g_free (found->path);
  g_free (found);
}

typedef struct {
  BangerExt4Reader *reader;
  const BangerExt4Sink *sink;
  GCancellable *cancellable;
  GPtrArray *queue;  /* Found */
  gsize path_bytes;  /* in it */
  GHashTable *paths; /* inode number -> path of its first name */
  const char *dir;   /* being listed */
  GError *error;
} Tree;

static int
list_entry (ext2_ino_t dir, int kind, struct ext2_dir_entry *entry, int offset, int block_size, char *buffer,
            void *data)
{
  Tree *tree = data;
  g_autofree char *name = g_strndup (entry->name, (gsize)ext2fs_dirent_name_len (entry));
  if (strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    return 0;
  if (*name == '\0' || strchr (name, '/') || tree->queue->len > BANGER_EXT4_MAX_ENTRIES) {
    bad (&tree->error, "a directory has a bad name or too many of them");
    return DIRENT_ABORT;
  }
  tree->path_bytes += strlen (tree->dir) + strlen (name) + 2;
  if (tree->path_bytes > MAX_PATH_BYTES) {
    bad (&tree->error, "its directories are too many and too deep");
    return DIRENT_ABORT;
  }
  Found *found = g_new0 (Found, 1);
  found->path = g_strconcat (tree->dir, "/", name, NULL);
  found->ino = entry->inode;
  g_ptr_array_add (tree->queue, found);
  return 0;
}

typedef struct {
  Tree *tree;
  ext2_ino_t ino;
  struct ext2_inode *inode;
  guint64 size;
  char *buffer;
  GArray *runs; /* BangerTarRun */
} FileCopy;

/* Returns: whether there is a block with data; its number. */
static gboolean
find_block (const FileCopy *file, e2_blkcnt_t logical, blk64_t *ret_physical, errcode_t *ret_code)
{
  int flags = 0;
  *ret_code = 0;
  *ret_physical = 0;
  if (logical < 0 || (guint64)logical * file->tree->reader->fs->blocksize >= file->size)
    return FALSE;
  *ret_code = ext2fs_bmap2 (file->tree->reader->fs, file->ino, file->inode, NULL, 0, (blk64_t)logical, &flags,
                            ret_physical);
  return *ret_code == 0 && *ret_physical != 0 && !(flags & BMAP_RET_UNINIT);
}

static int
copy_block (ext2_filsys fs, blk64_t *block, e2_blkcnt_t logical, blk64_t ref_block, int ref_offset, void *data)
{
  FileCopy *file = data;
  blk64_t physical;
  errcode_t code;
  gboolean there = find_block (file, logical, &physical, &code);
  if (there)
    code = io_channel_read_blk64 (fs->io, physical, 1, file->buffer);
  if (code != 0) {
    bad_code (&file->tree->error, code, "a file");
    return BLOCK_ABORT;
  }
  if (!there)
    return 0;
  guint64 offset = (guint64)logical * fs->blocksize;
  size_t length = (size_t)MIN ((guint64)fs->blocksize, file->size - offset);
  if (g_cancellable_is_cancelled (file->tree->cancellable))
    banger_set_cancelled (&file->tree->error);
  else if (file->tree->sink->bytes (file->tree->sink->data, file->buffer, length, offset, &file->tree->error))
    return 0;
  return BLOCK_ABORT;
}

static int
list_block (ext2_filsys fs, blk64_t *block, e2_blkcnt_t logical, blk64_t ref_block, int ref_offset, void *data)
{
  FileCopy *file = data;
  blk64_t physical;
  errcode_t code;
  if (!find_block (file, logical, &physical, &code)) {
    if (code != 0)
      bad_code (&file->tree->error, code, "a file");
    return code != 0 ? BLOCK_ABORT : 0;
  }
  BangerTarRun next = { (guint64)logical * fs->blocksize, fs->blocksize };
  next.length = MIN (next.length, file->size - next.offset);
  BangerTarRun *last = file->runs->len > 0 ? &g_array_index (file->runs, BangerTarRun, file->runs->len - 1) : NULL;
  if (last && last->offset + last->length == next.offset)
    last->length += next.length;
  else
    g_array_append_val (file->runs, next);
  return 0;
}

typedef int (*EachBlock) (ext2_filsys fs, blk64_t *block, e2_blkcnt_t logical, blk64_t ref_block, int ref_offset,
                          void *data);

static gboolean
each_block (FileCopy *file, EachBlock each, GError **error)
{
  Tree *tree = file->tree;
  ext2_filsys fs = tree->reader->fs;
  errcode_t code = ext2fs_inode_has_valid_blocks2 (fs, file->inode) ? ext2fs_block_iterate3 (
                       fs, file->ino, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, NULL, each, file)
                                                                    : 0;
  if (tree->error) {
    g_propagate_error (error, g_steal_pointer (&tree->error));
    return FALSE;
  }
  return code == 0 ? TRUE : bad_code (error, code, "a file");
}

/* Returns: (transfer full): BangerTarRun: where its data are. */
static GArray *
list_runs (Tree *tree, ext2_ino_t ino, struct ext2_inode *inode, GError **error)
{
  g_autoptr (GArray) runs = g_array_new (FALSE, FALSE, sizeof (BangerTarRun));
  FileCopy file = { tree, ino, inode, EXT2_I_SIZE (inode), NULL, runs };
  return each_block (&file, list_block, error) ? g_steal_pointer (&runs) : NULL;
}

static gboolean
copy_file (Tree *tree, ext2_ino_t ino, struct ext2_inode *inode, GError **error)
{
  g_autofree char *buffer = g_malloc (tree->reader->fs->blocksize);
  FileCopy file = { tree, ino, inode, EXT2_I_SIZE (inode), buffer, NULL };
  return each_block (&file, copy_block, error);
}

static char *
read_symlink (ext2_filsys fs, ext2_ino_t ino, struct ext2_inode *inode, GError **error)
{
  guint64 size = EXT2_I_SIZE (inode);
  if (size == 0 || size >= EXT4_BLOCK) {
    bad (error, "a symbolic link has a bad length");
    return NULL;
  }
  if (ext2fs_is_fast_symlink (inode))
    return g_strndup ((const char *)inode->i_block, MIN (size, sizeof inode->i_block));
  g_autofree char *target = g_malloc0 (size + 1);
  ext2_file_t file = NULL;
  unsigned got = 0;
  errcode_t code = ext2fs_file_open (fs, ino, 0, &file);
  if (code == 0)
    code = ext2fs_file_read (file, target, (unsigned)size, &got);
  if (file)
    ext2fs_file_close (file);
  if (code == 0 && got == size)
    return g_steal_pointer (&target);
  bad_code (error, code, "a symbolic link");
  return NULL;
}

/* Extended attributes: the list belongs to @values. */

typedef struct {
  struct ext2_xattr_handle *handle;
  GArray *list;      /* BangerExt4Xattr */
  GPtrArray *values; /* names and values */
} XattrList;

static int
take_xattr (char *name, char *raw, size_t raw_length, void *data)
{
  XattrList *xattrs = data;
  void *value = NULL;
  size_t length = 0;
  /* Once more by name: this turns ACLs into the form of the system call. */
  if (ext2fs_xattr_get (xattrs->handle, name, &value, &length) != 0)
    return 0;
  BangerExt4Xattr xattr = { g_strdup (name), g_memdup2 (value, length), length };
  g_array_append_val (xattrs->list, xattr);
  g_ptr_array_add (xattrs->values, (gpointer)xattr.name);
  g_ptr_array_add (xattrs->values, (gpointer)xattr.value);
  ext2fs_free_mem (&value);
  return 0;
}

static gboolean
read_xattrs (ext2_filsys fs, ext2_ino_t ino, XattrList *xattrs, GError **error)
{
  errcode_t code = ext2fs_xattrs_open (fs, ino, &xattrs->handle);
  if (code == 0)
    code = ext2fs_xattrs_read (xattrs->handle);
  if (code == 0)
    code = ext2fs_xattrs_iterate (xattrs->handle, take_xattr, xattrs);
  if (xattrs->handle)
    ext2fs_xattrs_close (&xattrs->handle);
  return code == 0 ? TRUE : bad_code (error, code, "extended attributes");
}

static void
fill_device (const struct ext2_inode *inode, BangerExt4Entry *entry)
{
  guint32 old = inode->i_block[0], large = inode->i_block[1];
  entry->major = old != 0 ? old >> 8 & 0xff : large >> 8 & 0xfff;
  entry->minor = old != 0 ? old & 0xff : (large & 0xff) | (large >> 12 & 0xfff00);
}

static void
fill_entry (const struct ext2_inode_large *large, const char *path, BangerExt4Entry *entry)
{
  const struct ext2_inode *inode = (const struct ext2_inode *)large;
  entry->path = path;
  entry->mode = inode->i_mode;
  entry->uid = inode->i_uid | (gint64)inode->osd2.linux2.l_i_uid_high << 16;
  entry->gid = inode->i_gid | (gint64)inode->osd2.linux2.l_i_gid_high << 16;
  entry->mtime = (gint32)inode->i_mtime;
  if (large->i_extra_isize >= offsetof (struct ext2_inode_large, i_mtime_extra) + 4 - EXT2_GOOD_OLD_INODE_SIZE) {
    entry->mtime += (gint64)(large->i_mtime_extra & 3) << 32;
    entry->mtime_nsec = large->i_mtime_extra >> 2;
  }
  entry->size = S_ISREG (inode->i_mode) ? EXT2_I_SIZE (inode) : 0;
  if (S_ISCHR (inode->i_mode) || S_ISBLK (inode->i_mode))
    fill_device (inode, entry);
}

/* A second name of a file, or a directory seen twice (a loop). */
static gboolean
is_known (Tree *tree, const Found *found, guint32 mode, gboolean *ret_done, GError **error)
{
  const char *first = g_hash_table_lookup (tree->paths, GUINT_TO_POINTER (found->ino));
  *ret_done = FALSE;
  if (!first) {
    g_hash_table_insert (tree->paths, GUINT_TO_POINTER (found->ino), found->path);
    return TRUE;
  }
  if (S_ISDIR (mode))
    return bad (error, "a directory has two names");
  *ret_done = TRUE;
  BangerExt4Entry link = { .path = found->path, .mode = mode, .hardlink = first };
  return tree->sink->add (tree->sink->data, &link, NULL, error);
}

static gboolean
add_content (Tree *tree, const Found *found, struct ext2_inode *inode, GError **error)
{
  ext2_filsys fs = tree->reader->fs;
  if (S_ISREG (inode->i_mode))
    return copy_file (tree, found->ino, inode, error);
  if (!S_ISDIR (inode->i_mode))
    return TRUE;
  tree->dir = found->path;
  errcode_t code = ext2fs_dir_iterate2 (fs, found->ino, 0, NULL, list_entry, tree);
  if (tree->error) {
    g_propagate_error (error, g_steal_pointer (&tree->error));
    return FALSE;
  }
  return code == 0 ? TRUE : bad_code (error, code, "a directory");
}

static gboolean
copy_one (Tree *tree, const Found *found, GError **error)
{
  ext2_filsys fs = tree->reader->fs;
  struct ext2_inode_large large = { 0 };
  gboolean done;
  if (tree->sink->skip && tree->sink->skip (tree->sink->data, found->path))
    return TRUE;
  errcode_t code = ext2fs_read_inode_full (fs, found->ino, EXT2_INODE (&large), sizeof large);
  if (code != 0)
    return bad_code (error, code, "an inode");
  if (!is_known (tree, found, large.i_mode, &done, error) || done)
    return done;

  BangerExt4Entry entry = { 0 };
  fill_entry (&large, found->path, &entry);
  g_autoptr (GArray) list = g_array_new (FALSE, FALSE, sizeof (BangerExt4Xattr));
  g_autoptr (GPtrArray) values = g_ptr_array_new_with_free_func (g_free);
  XattrList xattrs = { NULL, list, values };
  g_autofree char *target = NULL;
  if (!read_xattrs (fs, found->ino, &xattrs, error))
    return FALSE;
  if (S_ISLNK (entry.mode) && !(target = read_symlink (fs, found->ino, EXT2_INODE (&large), error)))
    return FALSE;
  entry.symlink = target;
  entry.xattrs = (const BangerExt4Xattr *)(gpointer)list->data;
  entry.n_xattrs = list->len;
  g_autoptr (GArray) runs = NULL;
  if (tree->sink->needs_runs && S_ISREG (entry.mode)
      && !(runs = list_runs (tree, found->ino, EXT2_INODE (&large), error)))
    return FALSE;
  return tree->sink->add (tree->sink->data, &entry, runs, error)
         && add_content (tree, found, EXT2_INODE (&large), error);
}

/* What is in a folder right behind it: tar(1) sets the time of one that it has left. */
static gboolean
go_down (Tree *tree, GError **error)
{
  g_autoptr (GArray) stack = g_array_new (FALSE, FALSE, sizeof (guint));
  guint i = 0;
  g_array_append_val (stack, i);
  while (stack->len > 0) {
    i = g_array_index (stack, guint, stack->len - 1);
    g_array_set_size (stack, stack->len - 1);
    guint before = tree->queue->len;
    if (g_cancellable_is_cancelled (tree->cancellable))
      return banger_set_cancelled (error);
    if (!copy_one (tree, g_ptr_array_index (tree->queue, i), error))
      return FALSE;
    for (guint next = tree->queue->len; next > before; next--) {
      i = next - 1;
      g_array_append_val (stack, i);
    }
  }
  return TRUE;
}

gboolean
banger_ext4_reader_walk (BangerExt4Reader *reader, const char *path, const BangerExt4Sink *sink,
                         GCancellable *cancellable, GError **error)
{
  ext2_ino_t ino;
  if (ext2fs_namei (reader->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) != 0
      || ext2fs_check_directory (reader->fs, ino) != 0)
    return TRUE;
  g_autoptr (GPtrArray) queue = g_ptr_array_new_with_free_func (found_free);
  g_autoptr (GHashTable) paths = g_hash_table_new (NULL, NULL);
  Tree tree = { .reader = reader, .sink = sink, .cancellable = cancellable, .queue = queue, .paths = paths };
  Found *root = g_new0 (Found, 1);
  root->path = g_strdup ("");
  root->ino = ino;
  g_ptr_array_add (queue, root);
  return go_down (&tree, error);
}

static gboolean
add_to_writer (gpointer writer, const BangerExt4Entry *entry, const GArray *runs, GError **error)
{
  return banger_ext4_writer_add (writer, entry, error);
}

static gboolean
give_to_writer (gpointer writer, const void *bytes, gsize length, guint64 offset, GError **error)
{
  return banger_ext4_writer_data (writer, bytes, length, offset, error);
}

gboolean
banger_ext4_reader_copy_tree (BangerExt4Reader *reader, const char *path, BangerExt4Writer *writer,
                              GCancellable *cancellable, GError **error)
{
  const BangerExt4Sink sink = { .add = add_to_writer, .bytes = give_to_writer, .data = writer };
  return banger_ext4_reader_walk (reader, path, &sink, cancellable, error);
}
