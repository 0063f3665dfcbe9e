/* The parser of untar.h.
 * Never goes on behind what it does not understand. */
#include "guest/untar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 512
#define BUFFER (128 << 10)
#define MAX_EXTENSION (1 << 20)
#define MAX_RUNS (1 << 18)

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8];
  char uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
} Header;
_Static_assert(sizeof (Header) == BLOCK, "tar(5)");

/* What extended headers say of the next entry; NULL, 0 or -1: nothing. */
typedef struct {
  char *path, *link, *sparse_name;
  int has_mtime, sparse_major, unknown_sparse;
  int64_t mtime, size, real_size;
  unsigned nsec;
} Extra;

typedef struct {
  int fd;
  const char *damage;
  BangerTreeWriter *writer;
  char *buffer;
  size_t at, filled;
} Untar;

static int
damaged (Untar *untar, const char *what)
{
  untar->damage = what;
  return -1;
}

/* Bytes */

/* Returns: 1, 0 at the end, -1. */
static int
fill (Untar *untar)
{
  ssize_t n;
  if (untar->at < untar->filled)
    return 1;
  while ((n = read (untar->fd, untar->buffer, BUFFER)) < 0 && errno == EINTR)
    ;
  untar->at = 0;
  untar->filled = n > 0 ? (size_t)n : 0;
  return n < 0 ? damaged (untar, "it cannot be read") : n > 0;
}

/* Hands @length bytes to @take in pieces. */
static int
pass (Untar *untar, uint64_t length, int (*take) (Untar *, const char *, size_t, void *), void *user_data)
{
  while (length > 0) {
    int r = fill (untar);
    if (r <= 0)
      return r < 0 ? -1 : damaged (untar, "it ends early, so it has been cut");
    size_t part = untar->filled - untar->at;
    if (part > length)
      part = (size_t)length;
    if (take && take (untar, untar->buffer + untar->at, part, user_data) < 0)
      return -1;
    untar->at += part;
    length -= part;
  }
  return 0;
}

static int
take_bytes (Untar *untar, const char *bytes, size_t length, void *data)
{
  char **to = data;
  (void)untar;
  memcpy (*to, bytes, length);
  *to += length;
  return 0;
}

static int
get (Untar *untar, void *bytes, size_t length)
{
  char *to = bytes;
  return pass (untar, length, take_bytes, &to);
}

static int
skip (Untar *untar, uint64_t length)
{
  return pass (untar, length, NULL, NULL);
}

/* Fields */

static int64_t
number (const char *field, size_t size)
{
  const unsigned char *bytes = (const unsigned char *)field;
  int64_t value = 0;
  if (bytes[0] & 0x80) {
    if (bytes[0] != 0x80)
      return -1;
    for (size_t i = 1; i < size; i++) {
      if (value > INT64_MAX >> 8)
        return -1;
      value = value << 8 | bytes[i];
    }
    return value;
  }
  for (; size > 0 && *field == ' '; field++)
    size--;
  for (; size > 0 && *field >= '0' && *field <= '7'; field++, size--)
    value = value << 3 | (*field - '0');
  return value;
}

static int
is_zero (const Header *header)
{
  static const Header zero;
  return memcmp (header, &zero, sizeof zero) == 0;
}

static int
is_header (const Header *header)
{
  int64_t sum = 0;
  for (size_t i = 0; i < sizeof *header; i++) {
    int blank = i >= offsetof (Header, checksum) && i < offsetof (Header, type);
    sum += blank ? ' ' : ((const unsigned char *)header)[i];
  }
  return sum == number (header->checksum, sizeof header->checksum);
}

static char *
header_path (const Header *header)
{
  char path[sizeof header->prefix + sizeof header->name + 2] = "";
  int posix = memcmp (header->magic, "ustar\0", 6) == 0;
  size_t prefix = posix ? strnlen (header->prefix, sizeof header->prefix) : 0, used = 0;
  if (prefix > 0) {
    memcpy (path, header->prefix, prefix);
    path[prefix] = '/';
    used = prefix + 1;
  }
  memcpy (path + used, header->name, strnlen (header->name, sizeof header->name));
  return strdup (path);
}

/* Extended headers */

static void
extra_clear (Extra *extra)
{
  free (extra->path);
  free (extra->link);
  free (extra->sparse_name);
  *extra = (Extra){ .size = -1, .real_size = -1 };
}

static void
keep (char **have, const char *value)
{
  free (*have);
  *have = strdup (value);
}

/* "-12.5" is half a second later than -13. */
static void
take_time (Extra *extra, const char *value)
{
  char *end;
  unsigned nsec = 0, unit = 100000000;
  extra->mtime = strtoll (value, &end, 10);
  if (*end == '.')
    for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10)
      nsec += unit * (unsigned)(*end - '0');
  if (value[0] == '-' && nsec > 0) {
    extra->mtime--;
    nsec = 1000000000 - nsec;
  }
  extra->nsec = nsec;
  extra->has_mtime = 1;
}

static void
take_record (Extra *extra, const char *key, const char *value)
{
  if (strcmp (key, "path") == 0)
    keep (&extra->path, value);
  else if (strcmp (key, "linkpath") == 0)
    keep (&extra->link, value);
  else if (strcmp (key, "mtime") == 0)
    take_time (extra, value);
  else if (strcmp (key, "size") == 0)
    extra->size = strtoll (value, NULL, 10);
  else if (strcmp (key, "GNU.sparse.major") == 0)
    extra->sparse_major = atoi (value);
  else if (strcmp (key, "GNU.sparse.name") == 0)
    keep (&extra->sparse_name, value);
  else if (strcmp (key, "GNU.sparse.realsize") == 0)
    extra->real_size = strtoll (value, NULL, 10);
  else if (strcmp (key, "GNU.sparse.numblocks") == 0)
    extra->unknown_sparse = 1;
}

/* @text: ends with a NUL behind @length bytes. */
static int
take_records (Untar *untar, Extra *extra, char *text, size_t length)
{
  while (length > 0) {
    char *key;
    size_t whole = strtoul (text, &key, 10);
    char *equals = *key == ' ' ? strchr (key, '=') : NULL;
    if (whole > length || !equals || whole < 5 || equals >= text + whole || text[whole - 1] != '\n')
      return damaged (untar, "an extended header that is not one");
    *equals = text[whole - 1] = '\0';
    take_record (extra, key + 1, equals + 1);
    text += whole;
    length -= whole;
  }
  return 0;
}

static int
take_extension (Untar *untar, const Header *header, Extra *extra)
{
  int64_t size = number (header->size, sizeof header->size);
  if (size < 0 || size > MAX_EXTENSION)
    return damaged (untar, "an extended header of more than 1 MiB");
  char *text = malloc ((size_t)size + 1);
  if (!text)
    return damaged (untar, "there is no memory for it");
  text[size] = '\0';
  int r = get (untar, text, (size_t)size) < 0 || skip (untar, -(uint64_t)size % BLOCK) < 0 ? -1 : 0;
  if (r == 0 && header->type == 'L')
    keep (&extra->path, text);
  else if (r == 0 && header->type == 'K')
    keep (&extra->link, text);
  else if (r == 0 && header->type == 'x')
    r = take_records (untar, extra, text, (size_t)size);
  free (text);
  return r;
}

/* Data */

typedef struct {
  uint64_t offset;
} Place;

static int
take_data (Untar *untar, const char *bytes, size_t length, void *data)
{
  Place *place = data;
  if (banger_tree_data (untar->writer, bytes, length, place->offset) < 0)
    return -1;
  place->offset += length;
  return 0;
}

/* A number and a line feed of the map; @left: bytes of the entry. */
static int
map_number (Untar *untar, uint64_t *left, uint64_t *ret)
{
  char digit;
  *ret = 0;
  for (int n = 0; n < 20 && *left > 0; n++) {
    if (get (untar, &digit, 1) < 0)
      return -1;
    --*left;
    if (digit == '\n' && n > 0)
      return 0;
    if (digit < '0' || digit > '9' || *ret > INT64_MAX / 10 - 1)
      break;
    *ret = *ret * 10 + (uint64_t)(digit - '0');
  }
  return damaged (untar, "a map of holes is damaged");
}

static int
take_sparse (Untar *untar, uint64_t stored)
{
  uint64_t count, left = stored;
  if (map_number (untar, &left, &count) < 0)
    return -1;
  uint64_t *runs = count <= MAX_RUNS ? calloc (2 * count + 1, sizeof *runs) : NULL;
  int r = runs ? 0 : damaged (untar, "a map of holes is too long");
  for (uint64_t i = 0; r == 0 && i < 2 * count; i++)
    r = map_number (untar, &left, &runs[i]);
  uint64_t rest = -(stored - left) % BLOCK;
  if (r == 0)
    r = rest > left ? damaged (untar, "a map of holes is damaged") : skip (untar, rest);
  left -= r == 0 ? rest : 0;
  for (uint64_t i = 0; r == 0 && i < count; i++) {
    Place place = { runs[2 * i] };
    if (runs[2 * i + 1] > left)
      r = damaged (untar, "a map of holes does not fit its data");
    else
      r = pass (untar, runs[2 * i + 1], take_data, &place);
    left -= r == 0 ? runs[2 * i + 1] : 0;
  }
  free (runs);
  return r == 0 ? skip (untar, left) : -1;
}

static int
take_entry (Untar *untar, const Header *header, Extra *extra)
{
  int sparse = extra->sparse_major == 1 && extra->real_size >= 0;
  if (header->type == 'S' || (extra->sparse_major == 0 && (extra->unknown_sparse || extra->real_size >= 0)))
    return damaged (untar, "it has holes in an old form: make it with tar --format=pax");
  char *path = extra->sparse_name ? strdup (extra->sparse_name)
               : extra->path      ? strdup (extra->path)
                                  : header_path (header);
  char link[sizeof header->link + 1] = "";
  memcpy (link, header->link, sizeof header->link);
  int64_t stored = extra->size >= 0 ? extra->size : number (header->size, sizeof header->size);
  char type = header->type == '\0' || header->type == '7' ? '0' : header->type;
  if (!path || stored < 0 || stored > INT64_MAX - BLOCK) {
    free (path);
    return damaged (untar, "a size in it is not possible");
  }
  const BangerTreeEntry entry = {
    .type = type == '0' && path[0] != '\0' && path[strlen (path) - 1] == '/' ? '5' : type,
    .mode = (unsigned)number (header->mode, sizeof header->mode),
    .mtime = extra->has_mtime ? extra->mtime : number (header->mtime, sizeof header->mtime),
    .nsec = extra->nsec,
    .size = (uint64_t)(sparse ? extra->real_size : stored),
    .path = path,
    .link = extra->link ? extra->link : link,
  };
  int r = banger_tree_entry (untar->writer, &entry);
  Place place = { 0 };
  uint64_t length = type == '0' || type > '6' ? (uint64_t)stored : 0;
  if (r == 0)
    r = sparse ? take_sparse (untar, length) : pass (untar, length, take_data, &place);
  free (path);
  return r == 0 ? skip (untar, -length % BLOCK) : -1;
}

/* Returns: 1, 0 at the mark of the end, -1. */
static int
take_next (Untar *untar, int *started)
{
  Extra extra = { .size = -1, .real_size = -1 };
  Header header;
  int r;
  do {
    r = fill (untar);
    if (r <= 0)
      return r < 0 ? -1 : damaged (untar, *started ? "it ends without the mark of its end" : "it is empty");
    if (get (untar, &header, sizeof header) < 0)
      r = -1;
    else if (is_zero (&header))
      r = 0;
    else if (!is_header (&header))
      r = damaged (untar,
                   *started ? "a header is damaged" : "it is none: a compressed one is to be decompressed first");
    else if (strchr ("xgLK", header.type) && header.type != '\0')
      r = take_extension (untar, &header, &extra) < 0 ? -1 : 2;
    else
      r = take_entry (untar, &header, &extra) < 0 ? -1 : 1;
    *started = 1;
  } while (r == 2);
  extra_clear (&extra);
  return r;
}

int
guest_untar (int fd, BangerTreeWriter *writer, const char **ret_damage)
{
  Untar untar = { .fd = fd, .writer = writer, .buffer = malloc (BUFFER) };
  int r = untar.buffer ? 1 : damaged (&untar, "there is no memory for it"), started = 0;
  while (r > 0)
    r = take_next (&untar, &started);
  if (r == 0)
    r = banger_tree_finish (writer);
  while (r == 0 && (untar.at = untar.filled, fill (&untar)) > 0) /* what fills the last record of a tape */
    ;
  free (untar.buffer);
  *ret_damage = untar.damage;
  return r;
}
