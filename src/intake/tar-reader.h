/* tar(5) as strangers write it: v7, ustar, pax, GNU with long names and all four forms of sparse files, star.
 * Used by ext4-tar.c.
 * Never keeps data of a file, never believes a length. */
#pragma once

#include "intake/tar-stream.h"

typedef struct {
  guint64 offset, length;
} BangerTarRun;

typedef struct {
  char *name;
  GBytes *value;
} BangerTarXattr;

typedef enum { BANGER_TAR_ACL_ACCESS, BANGER_TAR_ACL_DEFAULT, BANGER_TAR_N_ACLS } BangerTarAcl;

/* One entry, as the archive says; names are bytes. */
typedef struct {
  char *path;
  char *link;   /* of a symbolic or a hard link */
  char type;    /* '0' file, '1' hard link, '2' symbolic link, '3', '4' devices, '5' directory, '6' FIFO */
  guint32 mode; /* without a type */
  gint64 uid, gid, mtime;
  guint32 mtime_nsec;
  guint64 size; /* of the file, holes included */
  gint64 major, minor;
  GPtrArray *xattrs;             /* BangerTarXattr */
  char *acls[BANGER_TAR_N_ACLS]; /* acl(5) in its short text form; NULL: none */
} BangerTarEntry;

typedef struct BangerTarReader BangerTarReader;

/** banger_tar_reader_new: @stream: (transfer none): must outlive it. */
BangerTarReader *banger_tar_reader_new (BangerTarStream *stream);
void banger_tar_reader_free (BangerTarReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerTarReader, banger_tar_reader_free)

/**
 * banger_tar_reader_next:
 * What is left of the data of the entry before is passed over.
 * @ret_entry: valid until the next call.
 * Returns: 1; 0 at the archive's mark of its end; -1 with %BANGER_ERROR_INVALID_IMAGE or what the stream says.
 */
int banger_tar_reader_next (BangerTarReader *reader, const BangerTarEntry **ret_entry, GError **error);

/**
 * banger_tar_reader_again:
 * Behind the mark of an archive's end: whether another archive begins there, as `cat a.tar b.tar` makes it. Zeros in between
 * are padding; whatever else is there is none.
 * Returns: 1; 0; -1.
 */
int banger_tar_reader_again (BangerTarReader *reader, GError **error);

/**
 * banger_tar_reader_data:
 * The next bytes of the entry's data and where in the file they belong; what is left out is a hole.
 * Returns: 1; 0 when there are no more; -1.
 */
int banger_tar_reader_data (BangerTarReader *reader, const guint8 **ret_bytes, gsize *ret_length, guint64 *ret_offset,
                            GError **error);
