/* Headers of a tar, one after the other, and where the data of each belongs.
 * Used by ext4-tar.c.
 * Never keeps more of the archive than one extended header. */
#include "intake/tar-private.h"

#include <string.h>
#include <sys/stat.h>

#include "common/error.h"

#define MAX_PADDING ((guint64)64 << 20) /* between two archives */
#define MAX_GLOBAL (16u << 10)          /* they are read anew for each entry */
#define MAX_SHOWN 400

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8];
  char uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
} Header;
G_STATIC_ASSERT (sizeof (Header) == BANGER_TAR_BLOCK);

/* GNU tar's map of a sparse file, in place of the prefix and in blocks behind the header. */
typedef struct {
  char offset[12], length[12];
} SparseRun;
enum { SPARSE_AT = 386, SPARSE_IN_HEADER = 4, SPARSE_MORE_AT = 482, SPARSE_SIZE_AT = 483 };
enum { SPARSE_IN_BLOCK = 21, SPARSE_BLOCK_MORE_AT = 504 };

struct BangerTarReader {
  BangerTarStream *stream;
  TarPax pax;         /* of the entry */
  GByteArray *global; /* records of pax */
  gboolean started;
  guint64 left, padding; /* of the data */
  guint run;
  guint64 run_at; /* bytes of the run that are passed */
};

BangerTarReader *
banger_tar_reader_new (BangerTarStream *stream)
{
  BangerTarReader *reader = g_new0 (BangerTarReader, 1);
  reader->stream = stream;
  reader->global = g_byte_array_new ();
  return reader;
}

void
banger_tar_reader_free (BangerTarReader *reader)
{
  if (!reader)
    return;
  banger_tar_pax_clear (&reader->pax);
  g_byte_array_unref (reader->global);
  g_free (reader);
}

/* What is wrong */

static int
bad (const BangerTarReader *reader, GError **error, const char *what)
{
  const char *path = reader->pax.entry.path;
  g_autofree char *shown = path ? g_utf8_make_valid (path, (gssize)MIN (strlen (path), MAX_SHOWN)) : NULL;
  banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "not a good tar archive: %s%s%s", shown ? shown : "",
                    shown ? ": " : "", what);
  return -1;
}

static int
cut (const BangerTarReader *reader, GError **error)
{
  return bad (reader, error, "it ends early, so it has been cut");
}

/* Fields of headers */

/* Octal, or GNU's base 256 with the sign in the second bit. */
static gint64
number (const char *field, gsize length)
{
  const guint8 *bytes = (const guint8 *)field;
  if (bytes[0] & 0x80) {
    gint64 value = bytes[0] & 0x40 ? -1 : 0;
    for (gsize i = 0; i < length; i++) {
      guint8 byte = i > 0 ? bytes[i] : (guint8)(value < 0 ? bytes[0] : bytes[0] & 0x7f);
      if (value > G_MAXINT64 >> 8 || value < G_MININT64 >> 8)
        return value < 0 ? G_MININT64 : G_MAXINT64;
      value = (gint64)((guint64)value << 8 | byte);
    }
    return value;
  }
  gint64 value = 0;
  gsize at = 0;
  while (at < length && field[at] == ' ')
    at++;
  for (; at < length && field[at] >= '0' && field[at] <= '7'; at++)
    value = value << 3 | (field[at] - '0');
  return value;
}
#define NUMBER(field) number ((field), sizeof (field))

static char *
text (const char *field, gsize length)
{
  return g_strndup (field, strnlen (field, length));
}
#define TEXT(field) text ((field), sizeof (field))

/* Old programs took the bytes for signed ones. */
static gboolean
is_header (const Header *header)
{
  const guint8 *bytes = (const guint8 *)header;
  gint64 with_sign = 0, without = 0, said = NUMBER (header->checksum);
  for (gsize i = 0; i < sizeof *header; i++) {
    gboolean blank = i >= offsetof (Header, checksum) && i < offsetof (Header, type);
    without += blank ? ' ' : bytes[i];
    with_sign += blank ? ' ' : (gint8)bytes[i];
  }
  return said == without || said == with_sign;
}

static gboolean
is_zero (const Header *header)
{
  static const Header zero;
  return memcmp (header, &zero, sizeof zero) == 0;
}

static char *
header_path (const Header *header)
{
  g_autofree char *name = TEXT (header->name);
  gboolean posix = memcmp (header->magic, "ustar\0", 6) == 0, star = memcmp (header->rest + 8, "tar", 4) == 0;
  gsize length = strnlen (header->prefix, star ? 131 : sizeof header->prefix);
  if (!posix || length == 0)
    return g_steal_pointer (&name);
  return g_strdup_printf ("%.*s/%s", (int)length, header->prefix, name);
}

/* Extended headers */

/* Returns: (transfer full): the data of an extended header and a NUL. */
static GByteArray *
read_extension (BangerTarReader *reader, guint64 size, GError **error)
{
  if (size > TAR_MAX_EXTENSION) {
    bad (reader, error, "an extended header of more than 1 MiB");
    return NULL;
  }
  g_autoptr (GByteArray) data = g_byte_array_new ();
  g_byte_array_set_size (data, (guint)size + 1);
  data->data[size] = '\0';
  gssize n = banger_tar_stream_read (reader->stream, data->data, size, error);
  int skipped = n == (gssize)size ? banger_tar_stream_skip (reader->stream, -size % BANGER_TAR_BLOCK, error) : 0;
  if (n >= 0 && n == (gssize)size && skipped > 0)
    return g_steal_pointer (&data);
  if (n >= 0 && skipped == 0)
    cut (reader, error);
  return NULL;
}

static gboolean
take_global (BangerTarReader *reader, const GByteArray *data, GError **error)
{
  g_auto (TarPax) tried = { 0 };
  banger_tar_pax_init (&tried);
  if (!banger_tar_pax_read (&tried, data->data, data->len - 1))
    return bad (reader, error, "a global extended header that is not one") > 0;
  if (reader->global->len + data->len > MAX_GLOBAL)
    return bad (reader, error, "more than 16 KiB of global extended headers") > 0;
  g_byte_array_append (reader->global, data->data, data->len - 1);
  return TRUE;
}

/* Headers that speak of the next one. Long names are GNU's. */
typedef struct {
  GByteArray *pax;
  char *path, *link;
} Extensions;

static void
extensions_clear (Extensions *extensions)
{
  g_clear_pointer (&extensions->pax, g_byte_array_unref);
  g_clear_pointer (&extensions->path, g_free);
  g_clear_pointer (&extensions->link, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Extensions, extensions_clear)

static gboolean
take_extension (BangerTarReader *reader, const Header *header, Extensions *extensions, GError **error)
{
  char **name = header->type == 'L' ? &extensions->path : header->type == 'K' ? &extensions->link : NULL;
  gint64 size = NUMBER (header->size);
  GByteArray *data = read_extension (reader, size < 0 ? G_MAXUINT64 : (guint64)size, error);
  if (!data)
    return FALSE;
  if (name) {
    g_free (*name);
    *name = g_strdup ((const char *)data->data);
  } else if (header->type == 'g' && !take_global (reader, data, error)) {
    g_byte_array_unref (data);
    return FALSE;
  } else if (header->type != 'g') {
    g_clear_pointer (&extensions->pax, g_byte_array_unref);
    extensions->pax = g_steal_pointer (&data);
  }
  g_clear_pointer (&data, g_byte_array_unref);
  return TRUE;
}

/* Returns: 1, 0 at the archive's end, -1. */
static int
read_header (BangerTarReader *reader, Header *header, GError **error)
{
  gssize n = banger_tar_stream_read (reader->stream, header, sizeof *header, error);
  if (n < 0)
    return -1;
  if (n == 0)
    return bad (reader, error,
                reader->started ? "it ends without the mark of its end, so it may have been cut" : "it is empty");
  if (n < (gssize)sizeof *header)
    return reader->started ? cut (reader, error) : bad (reader, error, "no header at its start");
  if (is_zero (header))
    return 0;
  if (!is_header (header))
    return bad (reader, error, reader->started ? "a header is damaged" : "no header at its start");
  reader->started = TRUE;
  return 1;
}

/* Sparse files */

static gboolean
add_gnu_runs (TarPax *pax, const guint8 *bytes, guint count)
{
  const SparseRun *runs = (const SparseRun *)(gconstpointer)bytes;
  for (guint i = 0; i < count && runs[i].length[0] != '\0'; i++) {
    gint64 offset = NUMBER (runs[i].offset), length = NUMBER (runs[i].length);
    if (offset < 0 || length < 0 || pax->runs->len >= TAR_MAX_RUNS)
      return FALSE;
    g_array_append_val (pax->runs, ((BangerTarRun){ (guint64)offset, (guint64)length }));
  }
  return TRUE;
}

/* GNU tar's old form: type 'S'. */
static int
read_gnu_map (BangerTarReader *reader, const Header *header, GError **error)
{
  TarPax *pax = &reader->pax;
  guint8 block[BANGER_TAR_BLOCK];
  memcpy (block, header, sizeof block);
  gint64 size = number ((const char *)block + SPARSE_SIZE_AT, 12);
  g_clear_pointer (&pax->runs, g_array_unref); /* of an extended header */
  pax->runs = g_array_new (FALSE, FALSE, sizeof (BangerTarRun));
  gboolean good = size >= 0 && add_gnu_runs (pax, block + SPARSE_AT, SPARSE_IN_HEADER);
  pax->entry.size = (guint64)size;
  pax->has_real_size = TRUE;
  for (gboolean more = block[SPARSE_MORE_AT] != 0; good && more; more = block[SPARSE_BLOCK_MORE_AT] != 0) {
    gssize n = banger_tar_stream_read (reader->stream, block, sizeof block, error);
    if (n < (gssize)sizeof block)
      return n < 0 ? -1 : cut (reader, error);
    good = add_gnu_runs (pax, block, SPARSE_IN_BLOCK);
  }
  return good ? 1 : bad (reader, error, "its map of holes is damaged");
}

/* One number and a line feed of the map that lies before the data (1.0). Returns: 1, 0 if it is none, -1. */
static int
read_map_number (BangerTarReader *reader, guint64 *ret_value, GError **error)
{
  const guint8 *byte = NULL;
  guint64 value = 0;
  for (guint digits = 0; digits < 20 && reader->left > 0; digits++) {
    gssize n = banger_tar_stream_get (reader->stream, 1, &byte, error);
    if (n <= 0)
      return n < 0 ? -1 : cut (reader, error);
    reader->left--;
    if (*byte == '\n') {
      *ret_value = value;
      return digits > 0;
    }
    if (!g_ascii_isdigit (*byte) || value > (G_MAXINT64 - 9) / 10)
      return 0;
    value = value * 10 + (guint64)(*byte - '0');
  }
  return 0;
}

static int
read_map (BangerTarReader *reader, GError **error)
{
  guint64 count = 0, before = reader->left;
  g_clear_pointer (&reader->pax.runs, g_array_unref);
  GArray *runs = reader->pax.runs = g_array_new (FALSE, TRUE, sizeof (BangerTarRun));
  int r = read_map_number (reader, &count, error);
  if (r > 0 && count > TAR_MAX_RUNS)
    return bad (reader, error, "its map of holes is too long");
  for (guint64 i = 0; r > 0 && i < count; i++) {
    BangerTarRun run = { 0 };
    r = read_map_number (reader, &run.offset, error);
    r = r > 0 ? read_map_number (reader, &run.length, error) : r;
    g_array_append_val (runs, run);
  }
  if (r <= 0)
    return r < 0 ? -1 : bad (reader, error, "its map of holes is damaged");
  guint64 rest = -(before - reader->left) % BANGER_TAR_BLOCK;
  if (rest > reader->left)
    return bad (reader, error, "its map of holes is damaged");
  reader->left -= rest;
  r = banger_tar_stream_skip (reader->stream, rest, error);
  return r == 0 ? cut (reader, error) : r;
}

/* In rising order, inside the file, and as many bytes as there are. */
static int
check_map (BangerTarReader *reader, GError **error)
{
  const TarPax *pax = &reader->pax;
  guint64 end = 0, sum = 0;
  for (guint i = 0; i < pax->runs->len; i++) {
    const BangerTarRun *run = &g_array_index (pax->runs, BangerTarRun, i);
    if (run->offset < end || run->offset > pax->entry.size || run->length > pax->entry.size - run->offset)
      return bad (reader, error, "its map of holes is damaged");
    end = run->offset + run->length;
    sum += run->length;
  }
  return sum == reader->left ? 1 : bad (reader, error, "its map of holes does not fit its data");
}

/* The entry that header and extensions make together */

static void
choose (char **have, char *other)
{
  if (*have)
    g_free (other);
  else
    *have = other;
}

static char
type_of (const Header *header, const char *path)
{
  static const char types[] = "123456";
  if (header->type == 'D')
    return '5';
  if (header->type != '\0' && strchr (types, header->type))
    return header->type;
  /* Before there was a type for them. */
  return (header->type == '\0' || header->type == '0' || header->type == '7') && g_str_has_suffix (path, "/") ? '5'
                                                                                                              : '0';
}

/* A link may carry the data again, pax(1); others say the size of the file all the same and go on with the next header. */
static int
link_has_data (BangerTarReader *reader, gboolean *ret_has, GError **error)
{
  Header next;
  gssize n = banger_tar_stream_read (reader->stream, &next, sizeof next, error);
  if (n < (gssize)sizeof next)
    return n < 0 ? -1 : cut (reader, error);
  *ret_has = !is_zero (&next) && !is_header (&next);
  banger_tar_stream_unread (reader->stream, (const guint8 *)&next);
  return 1;
}

static int
set_data (BangerTarReader *reader, const Header *header, gboolean extended, GError **error)
{
  TarPax *pax = &reader->pax;
  char type = pax->entry.type;
  gboolean has = type == '0' || type == '1' || header->type == 'D';
  if (pax->stored > G_MAXINT64 - BANGER_TAR_BLOCK)
    return bad (reader, error, "its size is not possible");
  if (type == '1' && pax->stored > 0 && !extended && link_has_data (reader, &has, error) < 0)
    return -1;
  reader->left = has ? pax->stored : 0;
  reader->padding = -reader->left % BANGER_TAR_BLOCK;
  if (header->type == 'D') { /* the names in a folder, of an incremental backup: not the folder's data */
    reader->padding += reader->left;
    reader->left = 0;
  }
  reader->run = 0;
  reader->run_at = 0;
  if (header->type == 'S' && read_gnu_map (reader, header, error) < 0)
    return -1;
  if (type == '0' && pax->sparse_major == 1 && read_map (reader, error) < 0)
    return -1;
  if (!pax->runs || !pax->has_real_size || type != '0')
    pax->entry.size = type == '0' || type == '1' ? reader->left : 0;
  if (type != '0')
    g_clear_pointer (&pax->runs, g_array_unref);
  return pax->runs ? check_map (reader, error) : 1;
}

static int
make_entry (BangerTarReader *reader, const Header *header, Extensions *extensions, GError **error)
{
  TarPax *pax = &reader->pax;
  BangerTarEntry *entry = &pax->entry;
  gboolean extended = extensions->pax != NULL;
  if (!banger_tar_pax_read (pax, reader->global->data, reader->global->len)
      || (extended && !banger_tar_pax_read (pax, extensions->pax->data, extensions->pax->len - 1)))
    return bad (reader, error, "an extended header that is not one");
  if (pax->sparse_name) {
    g_free (entry->path);
    entry->path = g_steal_pointer (&pax->sparse_name);
  }
  choose (&entry->path, extensions->path ? g_steal_pointer (&extensions->path) : header_path (header));
  choose (&entry->link, extensions->link ? g_steal_pointer (&extensions->link) : TEXT (header->link));
  entry->type = type_of (header, entry->path);
  entry->mode = (guint32)NUMBER (header->mode) & 07777;
  entry->uid = entry->uid >= 0 ? entry->uid : NUMBER (header->uid);
  entry->gid = entry->gid >= 0 ? entry->gid : NUMBER (header->gid);
  entry->mtime = pax->has_mtime ? entry->mtime : NUMBER (header->mtime);
  entry->major = entry->major >= 0 ? entry->major : NUMBER (header->major);
  entry->minor = entry->minor >= 0 ? entry->minor : NUMBER (header->minor);
  pax->stored = pax->has_size ? pax->stored : (guint64)NUMBER (header->size);
  return set_data (reader, header, extended, error);
}

static int
finish_data (BangerTarReader *reader, GError **error)
{
  int r = banger_tar_stream_skip (reader->stream, reader->left + reader->padding, error);
  reader->left = reader->padding = 0;
  return r == 0 ? cut (reader, error) : r;
}

/* What belongs to no entry: the label of a volume, a list of names. */
static int
pass_over (BangerTarReader *reader, const Header *header, GError **error)
{
  gint64 size = NUMBER (header->size);
  if (size < 0 || size > G_MAXINT64 - BANGER_TAR_BLOCK)
    return bad (reader, error, "a header is damaged");
  reader->left = (guint64)size;
  reader->padding = -reader->left % BANGER_TAR_BLOCK;
  return finish_data (reader, error);
}

int
banger_tar_reader_next (BangerTarReader *reader, const BangerTarEntry **ret_entry, GError **error)
{
  g_auto (Extensions) extensions = { 0 };
  Header header;
  if (finish_data (reader, error) < 0)
    return -1;
  banger_tar_pax_clear (&reader->pax);
  banger_tar_pax_init (&reader->pax);
  for (;;) {
    int r = read_header (reader, &header, error);
    if (r <= 0)
      return r;
    if (header.type == 'M')
      return bad (reader, error, "it is a later part of an archive on several volumes");
    if (header.type == 'V' || header.type == 'N') {
      if (pass_over (reader, &header, error) < 0)
        return -1;
    } else if (header.type != '\0' && strchr ("xXgLK", header.type)) {
      if (!take_extension (reader, &header, &extensions, error))
        return -1;
    } else {
      *ret_entry = &reader->pax.entry;
      return make_entry (reader, &header, &extensions, error);
    }
  }
}

int
banger_tar_reader_again (BangerTarReader *reader, GError **error)
{
  Header header;
  gssize n;
  guint64 zeros = 0;
  do
    n = banger_tar_stream_read (reader->stream, &header, sizeof header, error);
  while (n == (gssize)sizeof header && is_zero (&header) && (zeros += sizeof header) < MAX_PADDING);
  if (n < (gssize)sizeof header || is_zero (&header) || !is_header (&header))
    return n < 0 ? -1 : 0;
  banger_tar_stream_unread (reader->stream, (const guint8 *)&header);
  g_byte_array_set_size (reader->global, 0);
  reader->started = FALSE;
  return 1;
}

/* Data */

int
banger_tar_reader_data (BangerTarReader *reader, const guint8 **ret_bytes, gsize *ret_length, guint64 *ret_offset,
                        GError **error)
{
  const TarPax *pax = &reader->pax;
  guint64 offset = reader->run_at, most = reader->left;
  if (reader->left == 0)
    return 0;
  if (pax->runs) {
    const BangerTarRun *run = &g_array_index (pax->runs, BangerTarRun, reader->run);
    for (; reader->run_at == run->length; run++) { /* there is one: check_map() counted */
      reader->run++;
      reader->run_at = 0;
    }
    offset = run->offset + reader->run_at;
    most = run->length - reader->run_at;
  }
  gssize n = banger_tar_stream_get (reader->stream, most, ret_bytes, error);
  if (n <= 0)
    return n < 0 ? -1 : cut (reader, error);
  reader->left -= (guint64)n;
  reader->run_at += (guint64)n;
  *ret_length = (gsize)n;
  *ret_offset = offset;
  return 1;
}
