/* What banger-intake says of a tar of files: entries and their data, one after the other, in the host's byte order.
 * Spoken by its verb `files`, heard by `banger vm cp`.
 * Never lets a frame say how much memory its reader takes; what an entry means is for common/tree-write.h to judge. */
#pragma once

#include "common/tree-write.h"
#include "intake/protocol.h"

#define BANGER_INTAKE_FILES "files" /* number: 0; source: a socket with the tar; answer: a socket for these frames */

#define BANGER_ENTRIES_MAX_DATA (128u << 10)
/* With the final NUL, of a path or a link. What is cut to it is longer than any may be. */
#define BANGER_ENTRIES_MAX_NAME 4097u

typedef enum {
  BANGER_ENTRIES_ENTRY = 1,
  BANGER_ENTRIES_DATA,
  BANGER_ENTRIES_FAILED,
  BANGER_ENTRIES_END
} BangerEntriesKind;

/* The program's side. Each: FALSE if nobody listens. */
gboolean
banger_entries_say_entry (int fd, const BangerTreeEntry *entry); /* a name that is too long is cut, and refused there */
gboolean banger_entries_say_data (int fd, const guint8 *bytes, gsize length, guint64 offset);
gboolean banger_entries_say_failed (int fd, const char *text);
gboolean banger_entries_say_end (int fd);

/* The other side. */

typedef struct {
  BangerEntriesKind kind;
  BangerTreeEntry entry; /* of an ENTRY; its names live as long as the reader, up to the next frame */
  const guint8 *bytes;   /* of DATA */
  gsize length;
  guint64 offset;
  const char *text; /* of FAILED: any bytes, ended by a NUL */
} BangerEntriesFrame;

typedef struct BangerEntriesReader BangerEntriesReader;

/* @read: as read(2), never short but at the end; -1 with errno. */
BangerEntriesReader *banger_entries_reader_new (gssize (*read) (void *bytes, gsize length, gpointer data),
                                                gpointer data);
void banger_entries_reader_free (BangerEntriesReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerEntriesReader, banger_entries_reader_free)

/** banger_entries_next: Returns: FALSE for what is no frame, and when there is none: the last one is END or FAILED. */
gboolean banger_entries_next (BangerEntriesReader *reader, BangerEntriesFrame *ret);
