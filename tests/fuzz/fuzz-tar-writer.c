/* Entries of any form as a tar, which is read again: names, links, numbers, times, attributes, data and holes are what they were.
 * Run as replay.c says.
 * Never unpacks one. */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "fuzz.h"
#include "intake/ext4-tar.h"
#include "intake/tar-writer.h"

#define MAX_ENTRIES 8
#define MAX_RUNS 3
#define MAX_XATTRS 2

typedef struct {
  const uint8_t *data;
  size_t size, at;
} Input;

typedef struct {
  BangerExt4Entry entry;
  char *path, *target;
  BangerExt4Xattr xattrs[MAX_XATTRS];
  GArray *runs;
} Made;

static guint64
number (Input *input, guint bytes)
{
  guint64 value = 0;
  for (; bytes > 0; bytes--)
    value = value << 8 | (input->at < input->size ? input->data[input->at++] : 0);
  return value;
}

/* Returns: (transfer full): as a name in a file system can be, with @before. */
static char *
text (Input *input, const char *before, const char *instead)
{
  gsize length = number (input, 1) + 1;
  if (length > 250) /* of a path or a link */
    length = number (input, 2) % 4000 + 1;
  g_autoptr (GString) made = g_string_new (before);
  for (gsize i = 0; i < length; i++) {
    char byte = (char)number (input, 1);
    g_string_append_c (made, byte == '\0' || strchr (instead, byte) ? 'x' : byte);
  }
  return g_string_free (g_steal_pointer (&made), FALSE);
}

static void
make_runs (Input *input, Made *made)
{
  made->runs = g_array_new (FALSE, FALSE, sizeof (BangerTarRun));
  guint64 at = 0;
  for (guint i = number (input, 1) % (MAX_RUNS + 1); i > 0; i--) {
    BangerTarRun run = { at + number (input, 2) % 9000 * (i % 2), number (input, 2) % 9000 + 1 };
    g_array_append_val (made->runs, run);
    at = run.offset + run.length;
  }
  made->entry.size = at + (number (input, 1) % 2) * number (input, 2);
}

static void
make (Input *input, Made *made)
{
  static const guint32 types[] = { S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO };
  BangerExt4Entry *entry = &made->entry;
  made->path = text (input, "/n", "/");
  entry->path = made->path;
  entry->mode = types[number (input, 1) % G_N_ELEMENTS (types)] | (number (input, 2) & 07777);
  entry->uid = (gint64)number (input, 4);
  entry->gid = (gint64)number (input, 4);
  entry->mtime = (gint64)number (input, 5) % (G_GINT64_CONSTANT (1) << 34) - (G_GINT64_CONSTANT (1) << 31);
  entry->mtime_nsec = (guint32)(number (input, 4) % 1000000000);
  entry->major = (guint32)number (input, 2) & 0xfff;
  entry->minor = (guint32)number (input, 3) & 0xfffff;
  if (S_ISLNK (entry->mode))
    entry->symlink = made->target = text (input, "", "");
  if (S_ISREG (entry->mode))
    make_runs (input, made);
  entry->n_xattrs = (guint)number (input, 1) % (MAX_XATTRS + 1);
  for (guint i = 0; i < entry->n_xattrs; i++) {
    g_autofree char *before = g_strdup_printf ("user.%u", i);
    char *value = text (input, "", "");
    made->xattrs[i] = (BangerExt4Xattr){ text (input, before, ""), value, strlen (value) };
  }
  entry->xattrs = made->xattrs;
}

static void
made_clear (Made *made)
{
  for (guint i = 0; i < made->entry.n_xattrs; i++) {
    g_free ((char *)made->xattrs[i].name);
    g_free ((char *)made->xattrs[i].value);
  }
  g_clear_pointer (&made->runs, g_array_unref);
  g_free (made->path);
  g_free (made->target);
}

static guint8
byte_at (guint64 offset)
{
  return (guint8)(offset * 31 + offset / 512 + 1);
}

static gboolean
write_one (BangerTarWriter *writer, const Made *made, GError **error)
{
  if (!banger_tar_writer_add (writer, &made->entry, made->runs, error))
    return FALSE;
  for (guint i = 0; made->runs && i < made->runs->len; i++) {
    const BangerTarRun *run = &g_array_index (made->runs, BangerTarRun, i);
    g_autofree guint8 *bytes = g_malloc (run->length);
    for (guint64 n = 0; n < run->length; n++)
      bytes[n] = byte_at (run->offset + n);
    if (!banger_tar_writer_data (writer, bytes, run->length, run->offset, error))
      return FALSE;
  }
  return TRUE;
}

/* Holes may have become zeros and runs may be cut otherwise: what counts is what is read. */
static void
check_data (BangerTarReader *reader, const Made *made)
{
  g_autofree guint8 *wanted = g_malloc0 (made->entry.size + 1), *found = g_malloc0 (made->entry.size + 1);
  g_autoptr (GError) error = NULL;
  const guint8 *bytes;
  gsize length;
  guint64 at;
  int r;
  for (guint i = 0; made->runs && i < made->runs->len; i++) {
    const BangerTarRun *run = &g_array_index (made->runs, BangerTarRun, i);
    for (guint64 n = run->offset; n < run->offset + run->length; n++)
      wanted[n] = byte_at (n);
  }
  while ((r = banger_tar_reader_data (reader, &bytes, &length, &at, &error)) > 0) {
    g_assert_true (at <= made->entry.size && length <= made->entry.size - at);
    memcpy (found + at, bytes, length);
  }
  g_assert_no_error (error);
  g_assert_cmpint (r, ==, 0);
  g_assert_true (memcmp (wanted, found, made->entry.size) == 0);
}

static void
check_xattrs (const BangerTarEntry *read, const BangerExt4Entry *entry)
{
  g_assert_cmpuint (read->xattrs->len, ==, entry->n_xattrs);
  for (guint i = 0; i < entry->n_xattrs; i++) {
    const BangerTarXattr *found = read->xattrs->pdata[i];
    gsize length;
    const void *value = g_bytes_get_data (found->value, &length);
    g_assert_cmpstr (found->name, ==, entry->xattrs[i].name);
    g_assert_cmpmem (value, length, entry->xattrs[i].value, entry->xattrs[i].length);
  }
}

static void
check (BangerTarReader *reader, const Made *made)
{
  const BangerExt4Entry *entry = &made->entry;
  const BangerTarEntry *read;
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (banger_tar_reader_next (reader, &read, &error), ==, 1);
  g_autofree char *path = g_strdup (banger_ext4_skip_root (read->path));
  if (S_ISDIR (entry->mode) && g_str_has_suffix (path, "/"))
    path[strlen (path) - 1] = '\0';
  g_assert_cmpstr (path, ==, banger_ext4_skip_root (entry->path));
  g_assert_cmpuint (read->mode, ==, entry->mode & 07777);
  g_assert_true (read->uid == entry->uid && read->gid == entry->gid);
  g_assert_true (read->mtime == entry->mtime && read->mtime_nsec == entry->mtime_nsec);
  if (S_ISLNK (entry->mode))
    g_assert_cmpstr (read->link, ==, entry->symlink);
  if (S_ISCHR (entry->mode) || S_ISBLK (entry->mode))
    g_assert_true (read->major == entry->major && read->minor == entry->minor);
  check_xattrs (read, entry);
  if (S_ISREG (entry->mode)) {
    g_assert_cmpuint (read->size, ==, entry->size);
    check_data (reader, made);
  }
}

static gssize
read_file (gpointer data, const void **ret_bytes, GError **error)
{
  static guint8 buffer[4096];
  ssize_t n = read (*(const int *)data, buffer, sizeof buffer);
  g_assert_cmpint (n, >=, 0);
  *ret_bytes = buffer;
  return n;
}

static void
read_again (int fd, const Made *made, guint count)
{
  g_assert_cmpint (lseek (fd, 0, SEEK_SET), ==, 0);
  g_autoptr (BangerTarStream) stream = banger_tar_stream_new (read_file, &fd);
  g_autoptr (BangerTarReader) reader = banger_tar_reader_new (stream);
  g_autoptr (GError) error = NULL;
  const BangerTarEntry *none;
  for (guint i = 0; i < count; i++)
    check (reader, &made[i]);
  g_assert_cmpint (banger_tar_reader_next (reader, &none, &error), ==, 0);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  Input input = { data, size, 0 };
  Made made[MAX_ENTRIES] = { 0 };
  guint count = 0, refused = 0;
  guint64 bytes;
  g_autofree char *digest = NULL;
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = memfd_create ("tar", MFD_CLOEXEC);
  g_autoptr (BangerTarWriter) writer = banger_tar_writer_new (fd);
  for (; count < MAX_ENTRIES && input.at < input.size && refused == 0; count++) {
    make (&input, &made[count]);
    refused = write_one (writer, &made[count], &error) ? 0 : 1;
    g_assert_true ((refused > 0) == (error != NULL));
  }
  if (refused == 0) {
    g_assert_true (banger_tar_writer_finish (writer, &bytes, &digest, &error));
    g_assert_cmpint (lseek (fd, 0, SEEK_END), ==, (off_t)bytes);
    read_again (fd, made, count);
  }
  for (guint i = 0; i < count; i++)
    made_clear (&made[i]);
  return 0;
}
