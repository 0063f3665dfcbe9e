/* The tree in memory between the files of the writer.
 * Included by these only.
 * Never seen by callers of the writer. */
#pragma once

#include <ext2fs/ext2fs.h>

#include "intake/ext4-writer.h"

#if G_BYTE_ORDER != G_LITTLE_ENDIAN
#error "directory and extent blocks are written in the host's byte order"
#endif

#define EXT4_BLOCK 4096u
#define EXT4_GROUP_BLOCKS 32768u
/* Room for descriptor blocks, used or reserved, behind each copy of the superblock: 64 groups of 128 MiB each, so 2 TiB.
 * A small file system reserves fewer of them in the end. */
#define EXT4_GDT_BLOCKS 256u
#define EXT4_MAX_LINKS 65000u
#define EXT4_MAX_REPLACED 8u /* that are told */
#define BANGER_EXT4_LOST_AND_FOUND "lost+found"

typedef struct {
  guint64 logical, physical;
  guint32 blocks;
} Ext4Run;

typedef struct {
  char *name;
  guint8 *value;
  size_t length;
} Ext4Xattr;

typedef BangerExt4Inode Ext4Inode;
struct Ext4Inode {
  guint32 ino;
  guint32 mode, uid, gid, major, minor;
  gint64 mtime;
  guint32 mtime_nsec;
  guint32 links;   /* names; directories: 1 while in the tree */
  guint32 subdirs; /* directories */
  guint64 size;
  guint64 meta_blocks; /* of the extent tree */
  gboolean indexed;    /* directory with a hash tree */
  guint16 layer;       /* that said what it is */
  guint16 emptied;     /* directories: the layer of which nothing older is left in it */
  GArray *runs;        /* Ext4Run, or NULL */
  GPtrArray *xattrs;   /* Ext4Xattr, or NULL */
  char *target;        /* symbolic links */
  GTree *children;     /* directories: name -> Ext4Inode; sorted, so that the result does not depend on the order */
  Ext4Inode *parent;   /* directories; root: itself */
};

typedef struct {
  char *path, *target; /* as they were */
} Ext4Replaced;

struct BangerExt4Writer {
  int fd;
  BangerExt4Options options;
  char *label;
  guint8 uuid[16], hash_seed[16];

  GPtrArray *inodes; /* owns all, also those without a name any more */
  Ext4Inode *root;
  guint64 names; /* in the tree */
  guint64 added; /* ever, which bounds the memory */
  gboolean failed;
  char *last_dir_path; /* of the entry before: most entries share it */
  Ext4Inode *last_dir;

  guint64 limit_blocks;  /* data may not reach this block */
  guint64 next_block;    /* first block never given out */
  GArray *free_runs;     /* Ext4Run, of replaced files */
  GPtrArray *replaced;   /* Ext4Replaced: links that are something else now */
  guint16 layer;         /* 0: there are none */
  GHashTable *own_links; /* of the layer, to what an older one has: they are its own all the same; NULL: none */

  Ext4Inode *last; /* added, or changed by an entry */
  guint foreign_xattrs;
  char *foreign_example;

  Ext4Inode *file; /* takes data now */
  char *file_path;
  guint64 file_next; /* logical block */
  guint8 tail[EXT4_BLOCK];
  gboolean tail_used;
  guint64 tail_block;

  guint8 *out; /* write-behind */
  guint64 out_start;
  guint32 out_blocks;
  off_t begin_from, begin_to; /* where the disk has not begun */
  size_t begin_bytes;         /* there; 0: nothing */

  ext2_filsys fs;
  guint64 meta_next; /* layout: where to look for free blocks */
};

/* ext4-writer.c */
gboolean banger_ext4_out (BangerExt4Writer *writer, guint64 block, const void *data, guint32 count, GError **error);
gboolean banger_ext4_out_flush (BangerExt4Writer *writer, GError **error);
gboolean banger_ext4_end_file (BangerExt4Writer *writer, GError **error);
gboolean banger_ext4_is_backup_group (guint64 group);
void banger_ext4_runs_append (GArray *runs, guint64 logical, guint64 physical, guint32 blocks);

/* ext4-tree.c */
Ext4Inode *banger_ext4_inode_new (BangerExt4Writer *writer, guint32 mode);
void banger_ext4_inode_free (gpointer inode);
void banger_ext4_drop_data (BangerExt4Writer *writer, Ext4Inode *inode);
char *banger_ext4_normalise (const char *path, GError **error); /* "/./a//b/" -> "a/b" */
gboolean banger_ext4_count_name (BangerExt4Writer *writer, GError **error);
void banger_ext4_link_child (Ext4Inode *dir, const char *name, Ext4Inode *child);
void banger_ext4_unlink_child (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, Ext4Inode *child);
/* The directory that holds the last component of @path; *ret_name points into @path. */
Ext4Inode *banger_ext4_walk_to_parent (BangerExt4Writer *writer, char *path, gboolean make, const char **ret_name,
                                       GError **error);
/* What @path leads to from the directory @here, links followed inside the tree; NULL: nothing. */
Ext4Inode *banger_ext4_resolve (BangerExt4Writer *writer, Ext4Inode *here, const char *path);
void banger_ext4_note_link (BangerExt4Writer *writer, const Ext4Inode *dir, const char *name, const Ext4Inode *target);
/* Takes away what is not of this layer. Of a directory once for each layer: what it adds afterwards is its own. */
void banger_ext4_remove_name (BangerExt4Writer *writer, Ext4Inode *dir, const char *name, Ext4Inode *child);
void banger_ext4_remove_lower (BangerExt4Writer *writer, Ext4Inode *dir);
/* Whether @old makes room for what is no directory; a directory is emptied of what older layers have in it. */
gboolean banger_ext4_gives_way (BangerExt4Writer *writer, Ext4Inode *old);

/* ext4-xattr.c */
gboolean banger_ext4_copy_xattrs (BangerExt4Writer *writer, Ext4Inode *inode, const BangerExt4Entry *entry,
                                  GError **error);

/* ext4-dir.c */
typedef struct {
  const char *name;
  guint32 ino;
  guint8 type; /* EXT2_FT_* */
} Ext4Name;

/**
 * banger_ext4_dir_build:
 * Returns: (transfer full): the blocks of directory @ino with checksums, one linear block or a hash tree.
 * @names: Ext4Name sorted by name, without "." and "..".
 * @min_blocks: at least this many blocks, linear (lost+found); 1 otherwise.
 */
GByteArray *banger_ext4_dir_build (ext2_filsys fs, guint32 ino, guint32 parent, const GArray *names, guint min_blocks,
                                   gboolean *ret_indexed, GError **error);

/** banger_ext4_error: sets @error from a libext2fs @code; no free block or inode is %BANGER_ERROR_NO_SPACE. Returns:
 * %FALSE. */
gboolean banger_ext4_error (GError **error, errcode_t code, const char *format, ...) G_GNUC_PRINTF (3, 4);
