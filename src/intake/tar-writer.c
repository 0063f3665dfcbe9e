/* A header for each entry, an extended one before it for what that cannot say, holes by GNU's form 1.0.
 * Used by image.c for an export.
 * Never writes a byte more or less than an entry's header promised. */
#include "intake/tar-writer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/error.h"

#define BLOCK BANGER_TAR_BLOCK
#define BUFFER (256u << 10)
#define MAX_OCTAL 077777777777 /* of eleven digits */
#define MAX_ID 07777777
#define MIN_HOLES (64u << 10) /* less is written as zeros */
#define MAX_RUNS 100000u

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8];
  char uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
} Header;
G_STATIC_ASSERT (sizeof (Header) == BLOCK);

struct BangerTarWriter {
  int fd;
  GString *records; /* of the next extended header */
  BangerDigest *digest;
  guint8 *buffer;
  gsize filled;
  guint64 written;       /* and what is in the buffer */
  guint64 at;            /* in the file: what comes next; G_MAXUINT64: it has a map */
  guint64 left, padding; /* of what the header promised */
};

BangerTarWriter *
banger_tar_writer_new (int fd)
{
  BangerTarWriter *writer = g_new0 (BangerTarWriter, 1);
  writer->fd = fd;
  writer->records = g_string_new (NULL);
  writer->buffer = g_malloc (BUFFER);
  writer->digest = banger_digest_new ();
  return writer;
}

void
banger_tar_writer_free (BangerTarWriter *writer)
{
  if (!writer)
    return;
  g_string_free (writer->records, TRUE);
  g_free (writer->buffer);
  banger_digest_free (writer->digest);
  g_free (writer);
}

/* Bytes */

static gboolean
flush (BangerTarWriter *writer, GError **error)
{
  gsize length = writer->filled;
  writer->filled = 0;
  banger_digest_update (writer->digest, writer->buffer, length);
  if (banger_write_all (writer->fd, writer->buffer, length) == 0)
    return TRUE;
  return banger_set_error_errno (error,
                                 errno == ENOSPC || errno == EDQUOT ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED,
                                 errno, "cannot write the archive");
}

/* @bytes: NULL: zeros. */
static gboolean
put (BangerTarWriter *writer, const void *bytes, guint64 length, GError **error)
{
  writer->written += length;
  while (length > 0) {
    gsize part = (gsize)MIN (length, BUFFER - writer->filled);
    if (bytes)
      memcpy (writer->buffer + writer->filled, bytes, part);
    else
      memset (writer->buffer + writer->filled, 0, part);
    bytes = bytes ? (const char *)bytes + part : NULL;
    writer->filled += part;
    length -= part;
    if (writer->filled == BUFFER && !flush (writer, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean
pad (BangerTarWriter *writer, guint64 length, GError **error)
{
  return put (writer, NULL, -length % BLOCK, error);
}

/* Extended headers */

/* "LENGTH KEY=VALUE\n", where LENGTH counts its own digits. */
static void
record (BangerTarWriter *writer, const char *key, const void *value, gsize length)
{
  gsize rest = strlen (key) + length + 3, whole = rest + 1;
  g_autofree char *digits = NULL;
  for (gsize before = 0; before != whole; whole = rest + strlen (digits)) {
    before = whole;
    g_free (digits);
    digits = g_strdup_printf ("%" G_GSIZE_FORMAT, whole);
  }
  g_string_append_printf (writer->records, "%s %s=", digits, key);
  g_string_append_len (writer->records, value, (gssize)length);
  g_string_append_c (writer->records, '\n');
}

static void
record_text (BangerTarWriter *writer, const char *key, const char *text)
{
  record (writer, key, text, strlen (text));
}

static void
record_number (BangerTarWriter *writer, const char *key, guint64 number)
{
  g_autofree char *text = g_strdup_printf ("%" G_GUINT64_FORMAT, number);
  record_text (writer, key, text);
}

/* A time before 1970 is one number with a sign. */
static void
record_time (BangerTarWriter *writer, gint64 seconds, guint32 nsec)
{
  g_autofree char *text = seconds < 0 && nsec > 0
                              ? g_strdup_printf ("-%" G_GINT64_FORMAT ".%09u", -(seconds + 1), 1000000000 - nsec)
                              : g_strdup_printf ("%" G_GINT64_FORMAT ".%09u", seconds, nsec);
  record_text (writer, "mtime", text);
}

static void
octal (char *field, gsize size, guint64 value)
{
  g_autofree char *text = g_strdup_printf ("%0*" G_GINT64_MODIFIER "o", (int)size - 1, value);
  memcpy (field, text, size);
}

static gboolean
put_header (BangerTarWriter *writer, Header *header, GError **error)
{
  guint sum = 0;
  memcpy (header->magic, "ustar\00000", sizeof header->magic);
  memset (header->checksum, ' ', sizeof header->checksum);
  for (gsize i = 0; i < sizeof *header; i++)
    sum += ((const guint8 *)header)[i];
  octal (header->checksum, sizeof header->checksum - 1, sum);
  return put (writer, header, sizeof *header, error);
}

static gboolean
put_records (BangerTarWriter *writer, GError **error)
{
  Header header = { .name = "./PaxHeaders/x", .type = 'x' };
  gsize length = writer->records->len;
  if (length == 0)
    return TRUE;
  octal (header.mode, sizeof header.mode, 0644);
  octal (header.uid, sizeof header.uid, 0);
  octal (header.gid, sizeof header.gid, 0);
  octal (header.mtime, sizeof header.mtime, 0);
  octal (header.size, sizeof header.size, length);
  if (!put_header (writer, &header, error) || !put (writer, writer->records->str, length, error))
    return FALSE;
  g_string_truncate (writer->records, 0);
  return pad (writer, length, error);
}

/* Entries */

static char
type_of (const BangerExt4Entry *entry)
{
  static const struct {
    guint32 mode;
    char type;
  } types[] = { { S_IFREG, '0' }, { S_IFLNK, '2' }, { S_IFCHR, '3' },
                { S_IFBLK, '4' }, { S_IFDIR, '5' }, { S_IFIFO, '6' } };
  if (entry->hardlink)
    return '1';
  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    if ((entry->mode & S_IFMT) == types[i].mode)
      return types[i].type;
  return '\0';
}

static void
put_id (BangerTarWriter *writer, char field[8], const char *key, gint64 id)
{
  octal (field, 8, id <= MAX_ID ? (guint64)id : 0);
  if (id > MAX_ID)
    record_number (writer, key, (guint64)id);
}

/* Without a NUL if it fits just so, tar(5). */
static void
put_name (BangerTarWriter *writer, char field[100], const char *key, const char *name)
{
  gsize length = strlen (name);
  memcpy (field, name, MIN (length, 100));
  if (length > 100)
    record_text (writer, key, name);
}

/* @stored: bytes that follow. */
static gboolean
put_entry (BangerTarWriter *writer, const BangerExt4Entry *entry, const char *path, char type, guint64 stored,
           GError **error)
{
  Header header = { .type = type };
  const char *link = entry->hardlink ? entry->hardlink : entry->symlink ? entry->symlink : "";
  gboolean device = type == '3' || type == '4', odd_time = entry->mtime < 0 || entry->mtime > MAX_OCTAL;
  put_name (writer, header.name, "path", path);
  put_name (writer, header.link, "linkpath", entry->hardlink ? link + strspn (link, "/") : link);
  octal (header.mode, sizeof header.mode, entry->mode & 07777);
  put_id (writer, header.uid, "uid", entry->uid);
  put_id (writer, header.gid, "gid", entry->gid);
  octal (header.size, sizeof header.size, stored <= MAX_OCTAL ? stored : 0);
  if (stored > MAX_OCTAL)
    record_number (writer, "size", stored);
  octal (header.mtime, sizeof header.mtime, odd_time ? 0 : (guint64)entry->mtime);
  if (odd_time || entry->mtime_nsec > 0)
    record_time (writer, entry->mtime, entry->mtime_nsec);
  octal (header.major, sizeof header.major, device ? entry->major : 0);
  octal (header.minor, sizeof header.minor, device ? entry->minor : 0);
  for (guint i = 0; i < entry->n_xattrs; i++) {
    if (strchr (entry->xattrs[i].name, '='))
      return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                               "%.400s: no tar can hold an extended attribute with = in its name", path);
    g_autofree char *key = g_strconcat ("SCHILY.xattr.", entry->xattrs[i].name, NULL);
    record (writer, key, entry->xattrs[i].value, entry->xattrs[i].length);
  }
  return put_records (writer, error) && put_header (writer, &header, error);
}

/* GNU's sparse format 1.0: numbers, each with a line feed, in whole blocks before the data. */
static gboolean
put_sparse (BangerTarWriter *writer, const BangerExt4Entry *entry, const char *path, const GArray *runs, GError **error)
{
  g_autoptr (GString) map = g_string_new (NULL);
  guint64 stored = 0;
  g_string_append_printf (map, "%u\n", runs->len + 1);
  for (guint i = 0; i < runs->len; i++) {
    const BangerTarRun *run = &g_array_index (runs, BangerTarRun, i);
    g_string_append_printf (map, "%" G_GUINT64_FORMAT "\n%" G_GUINT64_FORMAT "\n", run->offset, run->length);
    stored += run->length;
  }
  g_string_append_printf (map, "%" G_GUINT64_FORMAT "\n0\n", entry->size);
  guint64 whole = (map->len + BLOCK - 1) / BLOCK * BLOCK;
  record_text (writer, "GNU.sparse.major", "1");
  record_text (writer, "GNU.sparse.minor", "0");
  record_text (writer, "GNU.sparse.name", path);
  record_number (writer, "GNU.sparse.realsize", entry->size);
  writer->left = stored;
  return put_entry (writer, entry, "GNUSparseFile/x", '0', whole + stored, error)
         && put (writer, map->str, map->len, error) && pad (writer, map->len, error);
}

static gboolean
end_entry (BangerTarWriter *writer, GError **error)
{
  guint64 left = writer->left, padding = writer->padding;
  writer->left = writer->padding = 0;
  return put (writer, NULL, left + padding, error);
}

static guint64
holes_of (const BangerExt4Entry *entry, const GArray *runs)
{
  guint64 data = 0;
  for (guint i = 0; i < runs->len; i++)
    data += g_array_index (runs, BangerTarRun, i).length;
  return entry->size - MIN (data, entry->size);
}

gboolean
banger_tar_writer_add (BangerTarWriter *writer, const BangerExt4Entry *entry, const GArray *runs, GError **error)
{
  char type = type_of (entry);
  const char *inside = entry->path + strspn (entry->path, "/");
  g_autofree char *path = g_strconcat (*inside != '\0' ? inside : ".", type == '5' ? "/" : NULL, NULL);
  if (!end_entry (writer, error))
    return FALSE;
  if (type == '\0') /* a socket */
    return TRUE;
  writer->at = 0;
  gboolean sparse = type == '0' && runs && runs->len <= MAX_RUNS && holes_of (entry, runs) >= MIN_HOLES;
  if (sparse ? !put_sparse (writer, entry, path, runs, error)
             : !put_entry (writer, entry, path, type, type == '0' ? entry->size : 0, error))
    return FALSE;
  if (type != '0')
    return TRUE;
  writer->left = sparse ? writer->left : entry->size;
  writer->padding = -writer->left % BLOCK;
  writer->at = sparse ? G_MAXUINT64 : 0;
  return TRUE;
}

/* Of a file without a map what lies between are zeros. */
gboolean
banger_tar_writer_data (BangerTarWriter *writer, const void *bytes, gsize length, guint64 offset, GError **error)
{
  guint64 hole = writer->at != G_MAXUINT64 && offset > writer->at ? offset - writer->at : 0;
  if (hole > writer->left || length > writer->left - hole || (writer->at != G_MAXUINT64 && offset < writer->at))
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "a file of the image has data where it has none");
  writer->left -= hole + length;
  if (writer->at != G_MAXUINT64)
    writer->at = offset + length;
  return put (writer, NULL, hole, error) && put (writer, bytes, length, error);
}

gboolean
banger_tar_writer_finish (BangerTarWriter *writer, guint64 *ret_bytes, char **ret_digest, GError **error)
{
  if (!end_entry (writer, error) || !put (writer, NULL, (guint64)2 * BLOCK, error) || !flush (writer, error))
    return FALSE;
  *ret_bytes = writer->written;
  *ret_digest = banger_digest_finish (writer->digest);
  return TRUE;
}
