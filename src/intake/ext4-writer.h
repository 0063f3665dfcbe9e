/* Writing a new ext4 file system into a file: no mount, no root, no temporary tree.
 * Never changes a file system that exists: the file is emptied first. */
#pragma once

#include <gio/gio.h>

#include "common/vm-bounds.h"

/* Bounds of one file system; more is BANGER_ERROR_LIMITS_EXCEEDED. */
#define BANGER_EXT4_MAX_ENTRIES 1000000u
#define BANGER_EXT4_MAX_PATH 16384u
#define BANGER_EXT4_MAX_LAYERS 1024u
#define BANGER_EXT4_MIN_BYTES BANGER_IMAGE_MIN_BYTES
#define BANGER_EXT4_MAX_BYTES BANGER_IMAGE_MAX_BYTES

/* Zeroed is a good default but for @time, where 0 is 1970. */
typedef struct {
  guint64 size_bytes;    /* of the file system, rounded down to 4 KiB; 0: what the content needs plus @slack_bytes */
  guint64 slack_bytes;   /* free space to leave; only with size_bytes 0 */
  guint64 minimum_bytes; /* smallest file system; only with size_bytes 0 */
  const char *label;     /* at most 16 bytes, or NULL */
  const char *uuid;      /* text form, NULL: random */
  const char *hash_seed; /* text form of 16 bytes, NULL: random */
  gint64 time;           /* of creation and of implied directories, seconds; negative: now */
} BangerExt4Options;

typedef struct {
  guint64 size_bytes; /* of the file system */
  guint64 used_bytes; /* of its blocks that are taken, metadata and journal included */
  guint64 entries;    /* directory entries that were written */
  char digest[72];    /* banger_ext4_from_tar(): "sha256:" and hex of the tar as it was read, compressed if it was */
} BangerExt4Info;

typedef struct {
  const char *name; /* "user.x", "trusted.x", "security.x", "system.posix_acl_access", "system.posix_acl_default" */
  const void *value;
  size_t length;
} BangerExt4Xattr;

typedef struct {
  const char *path; /* of the archive: a leading "/" or "./" is dropped, ".." is refused; "" and "." are the root */
  guint32 mode;     /* with the type, as st_mode */
  gint64 uid, gid;
  gint64 mtime;
  guint32 mtime_nsec;
  guint64 size;         /* regular files: data follows by banger_ext4_writer_data() */
  const char *symlink;  /* target */
  const char *hardlink; /* path of an earlier entry; the other fields are ignored */
  guint32 major, minor; /* device nodes */
  const BangerExt4Xattr *xattrs;
  guint n_xattrs;
} BangerExt4Entry;

typedef struct BangerExt4Writer BangerExt4Writer;
typedef struct Ext4Inode BangerExt4Inode;

/**
 * banger_ext4_writer_new:
 * @fd: (transfer none): a regular file, readable and writable; its content is dropped. Must outlive the writer.
 * Returns: (transfer full): a writer; %NULL with %BANGER_ERROR_INVALID_SIZE, %BANGER_ERROR_INVALID_ARGS.
 */
BangerExt4Writer *banger_ext4_writer_new (int fd, const BangerExt4Options *options, GError **error);

/** banger_ext4_writer_free: what was not finished leaves no valid file system in the file. */
void banger_ext4_writer_free (BangerExt4Writer *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerExt4Writer, banger_ext4_writer_free)

/**
 * banger_ext4_writer_add:
 * Adds an entry as tar would: missing parents are made (root, 0755), a second entry of a path replaces the first, a
 * directory keeps what is in it, the mode of a symbolic link is 0777. Refused with %BANGER_ERROR_INVALID_IMAGE naming the path: "..", a name over 255 bytes,
 * an entry below something that is no directory, a link to what is not there, a file over a directory that is not
 * empty. %BANGER_ERROR_LIMITS_EXCEEDED, %BANGER_ERROR_NO_SPACE.
 */
gboolean banger_ext4_writer_add (BangerExt4Writer *writer, const BangerExt4Entry *entry, GError **error);

/** banger_ext4_writer_last: what the entry that was added last made or changed; not of hard links. Lives with @writer. */
BangerExt4Inode *banger_ext4_writer_last (BangerExt4Writer *writer);

/**
 * banger_ext4_writer_set_xattr:
 * One attribute more of @inode; none if a later entry took its place. @path: for messages.
 */
gboolean banger_ext4_writer_set_xattr (BangerExt4Writer *writer, BangerExt4Inode *inode, const char *path,
                                       const BangerExt4Xattr *xattr, GError **error);

/**
 * banger_ext4_writer_foreign_xattrs:
 * Returns: how many attributes were passed over as no kernel would show them: of other systems (com.apple.FinderInfo),
 * or user.* of a link. @ret_example: (transfer none): the name of the first, or %NULL.
 */
guint banger_ext4_writer_foreign_xattrs (BangerExt4Writer *writer, const char **ret_example);

/**
 * banger_ext4_writer_data:
 * Bytes of the regular file that was added last, in rising order of @offset (bytes); what is left out is a hole.
 */
gboolean banger_ext4_writer_data (BangerExt4Writer *writer, const void *data, size_t length, guint64 offset,
                                  GError **error);

/**
 * banger_ext4_writer_begin_layer:
 * What is added from now on lies over what was added before, as in an image of layers: it may replace a directory that
 * is not empty, and a link of an older layer that leads to a directory is followed.
 */
gboolean banger_ext4_writer_begin_layer (BangerExt4Writer *writer, GError **error);

/**
 * banger_ext4_writer_whiteout:
 * Takes away what older layers have at @path, with @inside only what they have in that directory. What this layer added
 * stays, in whatever order. Nothing there: nothing.
 */
gboolean banger_ext4_writer_whiteout (BangerExt4Writer *writer, const char *path, gboolean inside, GError **error);

/**
 * banger_ext4_writer_has_program:
 * Returns: whether @path, symbolic links followed inside the tree, is a regular file with an execute bit.
 */
gboolean banger_ext4_writer_has_program (BangerExt4Writer *writer, const char *path);

/**
 * banger_ext4_writer_replaced_links:
 * Returns: (transfer full): sentences on links to directories that a later entry replaced with something else, which
 * tar does, too, and seldom is meant: "bin was a link to usr/bin and is a file now". At most a few.
 */
char **banger_ext4_writer_replaced_links (BangerExt4Writer *writer);

/**
 * banger_ext4_writer_finish:
 * Lays out metadata and writes it: ext4(5) with extents, 64bit, flex_bg, dir_index, metadata_csum, a journal and room
 * to grow online beyond 1 TiB (resize_inode). The file gets its full size, sparse. Not synced to the disk.
 * @ret_info: (nullable): written only on success.
 */
gboolean banger_ext4_writer_finish (BangerExt4Writer *writer, GCancellable *cancellable, BangerExt4Info *ret_info,
                                    GError **error);
