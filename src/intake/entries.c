/* Frames: kind, length, that many bytes.
 * Never keeps more than one of them. */
#include "intake/entries.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct {
  guint32 kind, length;
} Header;

/* Before the two names of an entry, each with its NUL. */
typedef struct {
  gint64 mtime;
  guint64 size;
  guint32 nsec, mode;
  guint32 type, path_length; /* with the NUL */
} Fixed;

#define MAX_PAYLOAD (sizeof (guint64) + BANGER_ENTRIES_MAX_DATA)
G_STATIC_ASSERT (sizeof (Fixed) + 2 * BANGER_ENTRIES_MAX_NAME <= MAX_PAYLOAD);
G_STATIC_ASSERT (BANGER_INTAKE_MAX_TEXT < MAX_PAYLOAD);

/* The program's side */

static gboolean
say (int fd, const void *bytes, gsize length)
{
  for (gsize done = 0; done < length;) {
    ssize_t n = write (fd, (const guint8 *)bytes + done, length - done);
    if (n < 0 && errno != EINTR)
      return FALSE;
    done += n > 0 ? (gsize)n : 0;
  }
  return TRUE;
}

static gboolean
say_frame (int fd, BangerEntriesKind kind, const void *payload, gsize length)
{
  const Header header = { kind, (guint32)length };
  return say (fd, &header, sizeof header) && say (fd, payload, length);
}

static gsize
add_name (guint8 *to, const char *name)
{
  gsize length = MIN (strlen (name), BANGER_ENTRIES_MAX_NAME - 1);
  memcpy (to, name, length);
  to[length] = '\0';
  return length + 1;
}

gboolean
banger_entries_say_entry (int fd, const BangerTreeEntry *entry)
{
  guint8 payload[sizeof (Fixed) + 2 * BANGER_ENTRIES_MAX_NAME];
  Fixed fixed = { entry->mtime, entry->size, entry->nsec, entry->mode, (guint8)entry->type, 0 };
  gsize length = sizeof fixed;
  length += add_name (payload + length, entry->path);
  fixed.path_length = (guint32)(length - sizeof fixed);
  length += add_name (payload + length, entry->link ? entry->link : "");
  memcpy (payload, &fixed, sizeof fixed);
  return say_frame (fd, BANGER_ENTRIES_ENTRY, payload, length);
}

gboolean
banger_entries_say_data (int fd, const guint8 *bytes, gsize length, guint64 offset)
{
  while (length > 0) {
    gsize part = MIN (length, BANGER_ENTRIES_MAX_DATA);
    const Header header = { BANGER_ENTRIES_DATA, (guint32)(sizeof offset + part) };
    if (!say (fd, &header, sizeof header) || !say (fd, &offset, sizeof offset) || !say (fd, bytes, part))
      return FALSE;
    bytes += part;
    offset += part;
    length -= part;
  }
  return TRUE;
}

gboolean
banger_entries_say_failed (int fd, const char *text)
{
  return say_frame (fd, BANGER_ENTRIES_FAILED, text, MIN (strlen (text), BANGER_INTAKE_MAX_TEXT));
}

gboolean
banger_entries_say_end (int fd)
{
  return say_frame (fd, BANGER_ENTRIES_END, NULL, 0);
}

/* The other side */

struct BangerEntriesReader {
  gssize (*read) (void *bytes, gsize length, gpointer data);
  gpointer data;
  gboolean ended;
  guint8 payload[MAX_PAYLOAD + 1];
};

BangerEntriesReader *
banger_entries_reader_new (gssize (*read) (void *bytes, gsize length, gpointer data), gpointer user_data)
{
  BangerEntriesReader *reader = g_new0 (BangerEntriesReader, 1);
  reader->read = read;
  reader->data = user_data;
  return reader;
}

void
banger_entries_reader_free (BangerEntriesReader *reader)
{
  g_free (reader);
}

static gboolean
take_entry (BangerEntriesReader *reader, gsize length, BangerEntriesFrame *ret)
{
  Fixed fixed;
  const char *names = (const char *)reader->payload + sizeof fixed;
  if (length < sizeof fixed + 2)
    return FALSE;
  memcpy (&fixed, reader->payload, sizeof fixed);
  gsize rest = length - sizeof fixed;
  if (fixed.path_length == 0 || fixed.path_length >= rest || fixed.path_length > BANGER_ENTRIES_MAX_NAME
      || rest - fixed.path_length > BANGER_ENTRIES_MAX_NAME || strnlen (names, rest) != fixed.path_length - 1
      || strnlen (names + fixed.path_length, rest - fixed.path_length) != rest - fixed.path_length - 1
      || fixed.type > 127)
    return FALSE;
  ret->entry = (BangerTreeEntry){ .type = (char)fixed.type,
                                  .mode = fixed.mode,
                                  .mtime = fixed.mtime,
                                  .nsec = fixed.nsec,
                                  .size = fixed.size,
                                  .path = names,
                                  .link = names + fixed.path_length };
  return TRUE;
}

static gboolean
take_data (BangerEntriesReader *reader, gsize length, BangerEntriesFrame *ret)
{
  if (length <= sizeof ret->offset)
    return FALSE;
  memcpy (&ret->offset, reader->payload, sizeof ret->offset);
  ret->bytes = reader->payload + sizeof ret->offset;
  ret->length = length - sizeof ret->offset;
  return TRUE;
}

static gboolean
take_failed (BangerEntriesReader *reader, gsize length, BangerEntriesFrame *ret)
{
  reader->payload[length] = '\0';
  ret->text = (const char *)reader->payload;
  reader->ended = TRUE;
  return length <= BANGER_INTAKE_MAX_TEXT;
}

static gboolean
take_end (BangerEntriesReader *reader, gsize length, BangerEntriesFrame *ret)
{
  reader->ended = TRUE;
  return length == 0;
}

gboolean
banger_entries_next (BangerEntriesReader *reader, BangerEntriesFrame *ret)
{
  static gboolean (*const takers[]) (BangerEntriesReader *, gsize, BangerEntriesFrame *) = {
    [BANGER_ENTRIES_ENTRY] = take_entry,
    [BANGER_ENTRIES_DATA] = take_data,
    [BANGER_ENTRIES_FAILED] = take_failed,
    [BANGER_ENTRIES_END] = take_end,
  };
  Header header;
  if (reader->ended || reader->read (&header, sizeof header, reader->data) != sizeof header
      || header.kind < BANGER_ENTRIES_ENTRY || header.kind > BANGER_ENTRIES_END || header.length > MAX_PAYLOAD
      || reader->read (reader->payload, header.length, reader->data) != (gssize)header.length)
  {
    reader->ended = TRUE;
    return FALSE;
  }
  *ret = (BangerEntriesFrame){ .kind = header.kind };
  if (takers[header.kind](reader, header.length, ret))
    return TRUE;
  reader->ended = TRUE;
  return FALSE;
}
