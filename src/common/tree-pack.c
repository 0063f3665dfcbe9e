/* One walk by descriptors, one header for each thing that it finds, and a pax header before it for what that cannot say.
 * Never keeps more than the way down and the files that have several names. */
#include "common/tree-pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/folder.h"

#define N_(text) (text)
#define BLOCK 512
#define BUFFER (128 << 10)
#define MAX_DEPTH 400
#define MAX_EXTENTS 10000
#define MIN_SPARSE (64 << 10)
#define MAX_MAP (BLOCK + MAX_EXTENTS * 44)
#define MAX_ID 07777777        /* of seven */
#define MAX_OCTAL 077777777777 /* of eleven digits */
#define MAX_XATTRS (64 << 10)  /* of one file, with their names */
#define MAX_RECORDS (3 * PATH_MAX + 2 * MAX_XATTRS)

typedef struct {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8];
  char uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
} Header;
_Static_assert(sizeof (Header) == BLOCK, "tar(5)");

/* A file with several names, and the first of them. */
typedef struct {
  dev_t dev;
  ino_t ino;
  char *path;
} Seen;

typedef struct {
  off_t offset, length;
} Extent;

typedef struct {
  const BangerTreePacker *packer;
  int complaints, over;
  char path[PATH_MAX]; /* in the tar, of what is looked at */
  size_t length;
  void *seen; /* tsearch(3) */
  char records[MAX_RECORDS];
  size_t records_length;
  int is_sparse; /* what is put next */
  char xattrs[MAX_XATTRS], value[MAX_XATTRS];
  char buffer[BUFFER], content[BUFFER];
  size_t filled;
  Extent extents[MAX_EXTENTS];
  char map[MAX_MAP];
} Pack;

static int
complain (Pack *pack, const char *why, int number)
{
  pack->complaints = 1;
  pack->packer->complain (pack->path, why, number, pack->packer->data);
  return 0;
}

/* Bytes */

static int
flush (Pack *pack)
{
  if (pack->filled > 0 && pack->packer->write (pack->buffer, pack->filled, pack->packer->data) < 0)
    pack->over = 1;
  pack->filled = 0;
  return pack->over ? -1 : 0;
}

static int
put (Pack *pack, const void *bytes, size_t length)
{
  while (length > 0) {
    size_t part = sizeof pack->buffer - pack->filled;
    if (part > length)
      part = length;
    if (bytes)
      memcpy (pack->buffer + pack->filled, bytes, part);
    else
      memset (pack->buffer + pack->filled, 0, part);
    bytes = bytes ? (const char *)bytes + part : NULL;
    pack->filled += part;
    length -= part;
    if (pack->filled == sizeof pack->buffer && flush (pack) < 0)
      return -1;
  }
  return 0;
}

static int
put_zeros (Pack *pack, uint64_t length)
{
  int r = 0;
  for (; r == 0 && length > 0; length -= length < BUFFER ? length : BUFFER)
    r = put (pack, NULL, (size_t)(length < BUFFER ? length : BUFFER));
  return r;
}

static int
pad (Pack *pack, uint64_t length)
{
  return put_zeros (pack, -length % BLOCK);
}

/* Headers */

static size_t
digits_of (size_t number)
{
  size_t n = 1;
  for (; number >= 10; number /= 10)
    n++;
  return n;
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts its own digits. Returns: whether there was room. */
static int
record_bytes (Pack *pack, const char *key, const char *value, size_t size)
{
  size_t rest = strlen (key) + size + 3, length = rest + digits_of (rest);
  length = rest + digits_of (length);
  if (pack->records_length + length >= sizeof pack->records)
    return 0;
  char *at = pack->records + pack->records_length;
  at += snprintf (at, sizeof pack->records - pack->records_length, "%zu %s=", length, key);
  memcpy (at, value, size);
  at[size] = '\n';
  pack->records_length += length;
  return 1;
}

static void
record (Pack *pack, const char *key, const char *value)
{
  (void)record_bytes (pack, key, value, strlen (value));
}

__attribute__ ((format (printf, 3, 4))) static void
record_number (Pack *pack, const char *key, const char *format, ...)
{
  char text[64];
  va_list arguments;
  va_start (arguments, format);
  vsnprintf (text, sizeof text, format, arguments);
  va_end (arguments);
  record (pack, key, text);
}

/* What a header cannot say. A time before 1970 is written as one number with a sign. */
static void
record_time (Pack *pack, const struct timespec *time)
{
  long long seconds = time->tv_sec;
  long nsec = time->tv_nsec;
  if (seconds < 0 && nsec > 0)
    record_number (pack, "mtime", "-%lld.%09ld", -(seconds + 1), 1000000000 - nsec);
  else if (seconds < 0 || seconds > MAX_OCTAL || nsec > 0)
    record_number (pack, "mtime", "%lld.%09ld", seconds, nsec);
}

static void
octal (char *field, size_t size, uint64_t value)
{
  char text[32];
  snprintf (text, sizeof text, "%0*llo", (int)size - 1, (unsigned long long)value);
  memcpy (field, text, size);
}

static int
put_header (Pack *pack, Header *header)
{
  unsigned sum = 0;
  memcpy (header->magic, "ustar\00000", 8);
  memset (header->checksum, ' ', sizeof header->checksum);
  for (size_t i = 0; i < sizeof *header; i++)
    sum += ((const unsigned char *)header)[i];
  octal (header->checksum, sizeof header->checksum - 1, sum);
  return put (pack, header, sizeof *header);
}

static int
put_records (Pack *pack)
{
  Header header = { .name = "./PaxHeaders/x", .type = 'x' };
  if (pack->records_length == 0)
    return 0;
  octal (header.mode, sizeof header.mode, 0644);
  octal (header.uid, sizeof header.uid, 0);
  octal (header.gid, sizeof header.gid, 0);
  octal (header.mtime, sizeof header.mtime, 0);
  octal (header.size, sizeof header.size, pack->records_length);
  size_t length = pack->records_length;
  pack->records_length = 0;
  return put_header (pack, &header) < 0 || put (pack, pack->records, length) < 0 ? -1 : pad (pack, length);
}

/* Without a NUL if it fits just so, tar(5). */
static void
copy_name (char field[100], const char *name)
{
  memcpy (field, name, strnlen (name, 100));
}

static void
put_owner (Pack *pack, char field[8], const char *key, unsigned id)
{
  octal (field, 8, id <= MAX_ID ? id : 0);
  if (id > MAX_ID)
    record_number (pack, key, "%u", id);
}

/* Whoever may read a folder may enter it. */
static unsigned
mode_of (const Pack *pack, const struct stat *st, char type)
{
  unsigned mode = pack->packer->mode;
  if (!pack->packer->set_mode || (type != '0' && type != '1' && type != '5'))
    return st->st_mode & 07777;
  return type == '5' ? mode | (mode & 0444) >> 2 : mode;
}

/* @stored: bytes that follow. */
static int
put_entry (Pack *pack, const struct stat *st, char type, const char *link, uint64_t stored)
{
  Header header = { .type = type };
  int owned = pack->packer->keep_owners && st->st_uid != pack->packer->as_root;
  int sparse = pack->is_sparse;
  pack->is_sparse = 0;
  copy_name (header.name, sparse ? "GNUSparseFile/x" : pack->path);
  if (strlen (pack->path) > sizeof header.name && !sparse)
    record (pack, "path", pack->path);
  copy_name (header.link, link);
  if (strlen (link) > sizeof header.link)
    record (pack, "linkpath", link);
  record_time (pack, &st->st_mtim);
  if (stored > MAX_OCTAL)
    record_number (pack, "size", "%llu", (unsigned long long)stored);
  put_owner (pack, header.uid, "uid", owned ? st->st_uid : 0);
  put_owner (pack, header.gid, "gid", owned ? st->st_gid : 0);
  octal (header.mode, sizeof header.mode, mode_of (pack, st, type));
  octal (header.major, sizeof header.major, type == '3' || type == '4' ? major (st->st_rdev) : 0);
  octal (header.minor, sizeof header.minor, type == '3' || type == '4' ? minor (st->st_rdev) : 0);
  octal (header.size, sizeof header.size, stored > MAX_OCTAL ? 0 : stored);
  octal (header.mtime, sizeof header.mtime,
         st->st_mtim.tv_sec < 0 || st->st_mtim.tv_sec > MAX_OCTAL ? 0 : (uint64_t)st->st_mtim.tv_sec);
  return put_records (pack) < 0 ? -1 : put_header (pack, &header);
}

/* Files */

/* The length is promised by now. */
static int
put_content (Pack *pack, int fd, off_t offset, uint64_t length)
{
  while (length > 0) {
    size_t most = length < sizeof pack->content ? (size_t)length : sizeof pack->content;
    ssize_t n = banger_read_at (fd, pack->content, most, offset);
    if (n <= 0) {
      complain (pack, n < 0 ? NULL : N_ ("it shrank while it was read, and ends with zeros"), errno);
      return put_zeros (pack, length);
    }
    if (put (pack, pack->content, (size_t)n) < 0)
      return -1;
    offset += n;
    length -= (uint64_t)n;
  }
  return 0;
}

/* Where the data of a file with holes are. Returns: how many; -1 where that cannot be said, or is too many. */
static int
find_extents (int fd, off_t size, Extent *extents)
{
  int n = 0;
  for (off_t at = 0; at < size;) {
    off_t data = lseek (fd, at, SEEK_DATA);
    if (data < 0)
      return errno == ENXIO ? n : -1;
    off_t hole = lseek (fd, data, SEEK_HOLE);
    if (hole <= data || n == MAX_EXTENTS)
      return -1;
    if (data < size)
      extents[n++] = (Extent){ data, (hole < size ? hole : size) - data };
    at = hole;
  }
  return n;
}

/* GNU's sparse format 1.0: numbers, each with a line feed, in whole blocks before the data. */
static int
put_sparse (Pack *pack, const struct stat *st, int fd, int n)
{
  const Extent *extents = pack->extents;
  char *map = pack->map;
  size_t length = (size_t)snprintf (map, sizeof pack->map, "%d\n", n + 1);
  uint64_t stored = 0;
  for (int i = 0; i < n; i++) {
    length += (size_t)snprintf (map + length, sizeof pack->map - length, "%lld\n%lld\n", (long long)extents[i].offset,
                                (long long)extents[i].length);
    stored += (uint64_t)extents[i].length;
  }
  length += (size_t)snprintf (map + length, sizeof pack->map - length, "%lld\n0\n", (long long)st->st_size);
  size_t whole = (length + BLOCK - 1) / BLOCK * BLOCK;
  memset (map + length, 0, whole - length);
  pack->is_sparse = 1;
  record (pack, "GNU.sparse.major", "1");
  record (pack, "GNU.sparse.minor", "0");
  record (pack, "GNU.sparse.name", pack->path);
  record_number (pack, "GNU.sparse.realsize", "%lld", (long long)st->st_size);
  int r = put_entry (pack, st, '0', "", whole + stored) < 0 || put (pack, map, whole) < 0 ? -1 : 0;
  for (int i = 0; r == 0 && i < n; i++)
    r = put_content (pack, fd, extents[i].offset, (uint64_t)extents[i].length);
  return r == 0 ? pad (pack, stored) : -1;
}

static int
compare_seen (const void *a, const void *b)
{
  const Seen *one = a, *other = b;
  if (one->dev != other->dev)
    return one->dev < other->dev ? -1 : 1;
  return one->ino < other->ino ? -1 : one->ino > other->ino;
}

static void
free_seen (void *data)
{
  free (((Seen *)data)->path);
  free (data);
}

/* Returns: the name under which it went before; NULL: under none. */
static const char *
seen_before (Pack *pack, const struct stat *st)
{
  if (st->st_nlink < 2)
    return NULL;
  Seen *one = malloc (sizeof *one);
  if (!one)
    return NULL;
  *one = (Seen){ st->st_dev, st->st_ino, strdup (pack->path) };
  Seen **found = one->path ? tsearch (one, &pack->seen, compare_seen) : NULL;
  if (found && *found == one)
    return NULL;
  free_seen (one);
  return found ? (*found)->path : NULL;
}

/* What a label of this host's says means nothing elsewhere, and trusted.* nobody but root is shown. */
static int
is_wanted_xattr (const char *name)
{
  static const char *const wanted[] = { "security.capability", "system.posix_acl_access", "system.posix_acl_default" };
  if (strncmp (name, "user.", strlen ("user.")) == 0)
    return 1;
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
    if (strcmp (name, wanted[i]) == 0)
      return 1;
  return 0;
}

static int
compare_texts (const void *a, const void *b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

/* One that goes meanwhile was not there. */
static void
record_xattr (Pack *pack, int fd, const char *name)
{
  char key[XATTR_NAME_MAX + 32];
  ssize_t n = fgetxattr (fd, name, pack->value, sizeof pack->value);
  if (n < 0 && errno == ENODATA)
    return;
  snprintf (key, sizeof key, "SCHILY.xattr.%s", name);
  if (n < 0)
    complain (pack, NULL, errno);
  else if (!record_bytes (pack, key, pack->value, (size_t)n))
    complain (pack, N_ ("its extended attributes are too large"), 0);
}

static void
record_xattrs (Pack *pack, int fd)
{
  char *names[MAX_XATTRS / 8];
  size_t count = 0;
  ssize_t length = pack->packer->xattrs ? flistxattr (fd, pack->xattrs, sizeof pack->xattrs) : 0;
  if (length < 0 && errno != ENOTSUP)
    complain (pack, NULL, errno);
  for (ssize_t at = 0; at < length; at += (ssize_t)strlen (pack->xattrs + at) + 1)
    if (is_wanted_xattr (pack->xattrs + at) && count < sizeof names / sizeof names[0])
      names[count++] = pack->xattrs + at;
  qsort (names, count, sizeof names[0], compare_texts);
  for (size_t i = 0; i < count; i++)
    record_xattr (pack, fd, names[i]);
}

/* What the kernel makes up has no end, or does something when it is read. */
static int
is_made_up (int fd)
{
  static const unsigned long types[] = { PROC_SUPER_MAGIC,   SYSFS_MAGIC,   CGROUP2_SUPER_MAGIC,
                                         CGROUP_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC,
                                         SECURITYFS_MAGIC,   BPF_FS_MAGIC,  DEVPTS_SUPER_MAGIC };
  struct statfs fs;
  for (size_t i = 0; fstatfs (fd, &fs) == 0 && i < sizeof types / sizeof types[0]; i++)
    if ((unsigned long)fs.f_type == types[i])
      return 1;
  return 0;
}

static int
pack_opened (Pack *pack, int fd)
{
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0)
    return complain (pack, NULL, errno);
  if (!S_ISREG (st.st_mode))
    return complain (pack, N_ ("it became something else while it was read"), 0);
  if (is_made_up (fd)) /* its size says nothing */
    return complain (pack, N_ ("the kernel makes it up when it is read: run cat, or tar, there"), 0);
  const char *before = seen_before (pack, &st);
  if (before)
    return put_entry (pack, &st, '1', before, 0);
  record_xattrs (pack, fd);
  uint64_t size = (uint64_t)st.st_size;
  int n = st.st_size >= MIN_SPARSE && st.st_blocks * 512 < st.st_size ? find_extents (fd, st.st_size, pack->extents)
                                                                      : -1;
  if (n >= 0)
    return put_sparse (pack, &st, fd, n);
  return put_entry (pack, &st, '0', "", size) < 0 || put_content (pack, fd, 0, size) < 0 ? -1 : pad (pack, size);
}

static int
pack_file (Pack *pack, int dir, const char *leaf)
{
  banger_autofd int fd = openat (dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  return pack_opened (pack, fd);
}

static int
pack_link (Pack *pack, int dir, const char *leaf, const struct stat *st)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat (dir, leaf, target, sizeof target - 1);
  if (n < 0)
    return complain (pack, NULL, errno);
  target[n] = '\0';
  const char *why = pack->packer->refuse_link ? pack->packer->refuse_link (pack->path, target, pack->packer->data)
                                              : NULL;
  return why ? complain (pack, why, 0) : put_entry (pack, st, '2', target, 0);
}

/* Folders */

static int pack_one (Pack *pack, int dir, const char *leaf, dev_t above, unsigned depth);

static int
pack_named (Pack *pack, int dir, const char *name, dev_t dev, unsigned depth)
{
  size_t length = pack->length, more = strlen (name);
  if (length + 1 + more >= sizeof pack->path)
    return complain (pack, N_ ("the names in it are too long"), 0);
  pack->path[length] = '/';
  memcpy (pack->path + length + 1, name, more + 1);
  pack->length = length + 1 + more;
  int r = pack_one (pack, dir, name, dev, depth + 1);
  pack->length = length;
  pack->path[length] = '\0';
  return r;
}

static int
is_no_dots (const struct dirent *entry)
{
  return strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0;
}

static int
compare_names (const struct dirent **a, const struct dirent **b)
{
  return strcmp ((*a)->d_name, (*b)->d_name);
}

static int
pack_sorted (Pack *pack, int dir, dev_t dev, unsigned depth)
{
  struct dirent **entries = NULL;
  int n = scandirat (dir, ".", &entries, is_no_dots, compare_names), r = 0;
  if (n < 0)
    return complain (pack, NULL, errno);
  for (int i = 0; i < n; i++) {
    r = r == 0 ? pack_named (pack, dir, entries[i]->d_name, dev, depth) : r;
    free (entries[i]);
  }
  free (entries);
  return r;
}

static int
pack_inside (Pack *pack, DIR *stream, dev_t dev, unsigned depth)
{
  int r = 0;
  if (pack->packer->sorted)
    return pack_sorted (pack, dirfd (stream), dev, depth);
  for (const struct dirent *each; r == 0 && (each = banger_folder_next (stream));)
    r = pack_named (pack, dirfd (stream), each->d_name, dev, depth);
  if (r == 0 && errno != 0)
    complain (pack, NULL, errno);
  return r;
}

static int
pack_folder (Pack *pack, int dir, const char *leaf, const struct stat *st, dev_t above, unsigned depth)
{
  if (depth >= MAX_DEPTH)
    return complain (pack, N_ ("its folders are too deep"), 0);
  int fd = openat (dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofolder DIR *stream = banger_folder_take (fd);
  if (!stream)
    return complain (pack, NULL, errno);
  int made_up = (depth == 0 || st->st_dev != above) && is_made_up (fd);
  if (depth == 0 && made_up)
    return complain (pack, N_ ("the kernel makes it up when it is read: run cat, or tar, there"), 0);
  record_xattrs (pack, fd);
  int r = put_entry (pack, st, '5', "", 0);
  return r == 0 && !made_up ? pack_inside (pack, stream, st->st_dev, depth) : r;
}

static int
pack_one (Pack *pack, int dir, const char *leaf, dev_t above, unsigned depth)
{
  struct stat st;
  if (fstatat (dir, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return depth > 0 && errno == ENOENT ? 0 : complain (pack, NULL, errno);
  if (S_ISDIR (st.st_mode))
    return pack_folder (pack, dir, leaf, &st, above, depth);
  if (S_ISREG (st.st_mode))
    return pack_file (pack, dir, leaf);
  if (S_ISLNK (st.st_mode))
    return pack_link (pack, dir, leaf, &st);
  if (depth == 0)
    return complain (pack, N_ ("it is no file, folder or link"), 0);
  return S_ISSOCK (st.st_mode) ? 0
                               : put_entry (pack, &st,
                                            S_ISCHR (st.st_mode)   ? '3'
                                            : S_ISBLK (st.st_mode) ? '4'
                                                                   : '6',
                                            "", 0);
}

static Pack *
pack_new (const char *name, const BangerTreePacker *packer)
{
  if (strlen (name) >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return NULL;
  }
  Pack *pack = calloc (1, sizeof *pack);
  if (!pack)
    return NULL;
  pack->packer = packer;
  pack->length = strlen (name);
  memcpy (pack->path, name, pack->length);
  return pack;
}

static int
pack_end (Pack *pack, int r)
{
  if (r == 0)
    r = put_zeros (pack, 2 * BLOCK) == 0 ? flush (pack) : -1;
  r = r < 0 ? -1 : pack->complaints;
  tdestroy (pack->seen, free_seen);
  free (pack);
  return r;
}

int
banger_tree_pack (const char *path, const char *name, const BangerTreePacker *packer)
{
  struct stat st;
  if (fstatat (AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return -1;
  Pack *pack = pack_new (name, packer);
  return pack ? pack_end (pack, pack_one (pack, AT_FDCWD, path, st.st_dev, 0)) : -1;
}

int
banger_tree_pack_fd (int fd, const char *name, const BangerTreePacker *packer)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return -1;
  Pack *pack = pack_new (name, packer);
  if (!pack)
    return -1;
  return pack_end (pack,
                   S_ISDIR (st.st_mode) ? pack_folder (pack, fd, ".", &st, st.st_dev, 0) : pack_opened (pack, fd));
}
