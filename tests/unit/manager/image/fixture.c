/* Tars, dumps of file systems and programs for the image tests.
 * Linked into the tests of this folder.
 * Never leaves its temporary directory behind. */
#include "fixture.h"

#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

void
fixture_init (Fixture *fixture)
{
  *fixture = (Fixture){ .tar_fd = -1, .ext4_fd = -1 };
  fixture->dir = g_dir_make_tmp ("banger-image-test-XXXXXX", NULL);
  g_assert_nonnull (fixture->dir);
  g_autofree char *tar_path = g_build_filename (fixture->dir, "tar", NULL);
  fixture->tar_fd = open (tar_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  fixture->ext4_path = g_build_filename (fixture->dir, "ext4", NULL);
  fixture->ext4_fd = open (fixture->ext4_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (fixture->ext4_fd, >=, 0);
  fixture->tar = archive_write_new ();
  g_assert_cmpint (archive_write_set_format_pax (fixture->tar), ==, ARCHIVE_OK);
  archive_write_set_bytes_per_block (fixture->tar, 10240);
  g_assert_cmpint (archive_write_open_fd (fixture->tar, fixture->tar_fd), ==, ARCHIVE_OK);
}

void
fixture_clear (Fixture *fixture)
{
  if (fixture->tar != NULL)
    archive_write_free (fixture->tar);
  close (fixture->tar_fd);
  close (fixture->ext4_fd);
  g_autofree char *text = run_program (NULL, "rm", "-rf", "--one-file-system", "--", fixture->dir, NULL);
  g_free (fixture->ext4_path);
  g_free (fixture->dir);
}

void
tar_add_entry (Fixture *fixture, struct archive_entry *entry, const void *data, gsize size)
{
  g_assert_cmpint (archive_write_header (fixture->tar, entry), >=, ARCHIVE_WARN);
  if (size > 0)
    g_assert_cmpint (archive_write_data (fixture->tar, data, size), ==, (la_ssize_t)size);
  archive_entry_free (entry);
}

void
tar_add (Fixture *fixture, const Item *item)
{
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_copy_pathname (entry, item->path);
  archive_entry_set_mode (entry, item->mode);
  archive_entry_set_uid (entry, item->uid);
  archive_entry_set_gid (entry, item->gid);
  archive_entry_set_mtime (entry, item->mtime, item->nsec);
  archive_entry_set_size (entry, (la_int64_t)item->size);
  if (item->symlink != NULL)
    archive_entry_copy_symlink (entry, item->symlink);
  if (item->hardlink != NULL)
    archive_entry_copy_hardlink (entry, item->hardlink);
  if (S_ISCHR (item->mode) || S_ISBLK (item->mode)) {
    archive_entry_set_rdevmajor (entry, (dev_t)item->major);
    archive_entry_set_rdevminor (entry, (dev_t)item->minor);
  }
  tar_add_entry (fixture, entry, item->data, item->size);
}

void
tar_close (Fixture *fixture)
{
  g_assert_cmpint (archive_write_close (fixture->tar), ==, ARCHIVE_OK);
  archive_write_free (fixture->tar);
  fixture->tar = NULL;
  lseek (fixture->tar_fd, 0, SEEK_SET);
}

gboolean
make_ext4 (Fixture *fixture, guint64 size, BangerExt4Info *info, GError **error)
{
  BangerExt4Options options = { .size_bytes = size,
                                .time = 1700000000,
                                .uuid = "6f1d3c6e-0d0a-4f6b-9d55-0a5a3c1f2b10",
                                .hash_seed = "0b6f7d1c-52a1-4b5e-8a53-4e1d7c9e8f20" };
  lseek (fixture->tar_fd, 0, SEEK_SET);
  return banger_ext4_from_tar (fixture->tar_fd, fixture->ext4_fd, &options, NULL, NULL, NULL, info, error);
}

char *
run_program (int *ret_status, const char *program, ...)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  va_list args;
  va_start (args, program);
  for (const char *arg = program; arg != NULL; arg = va_arg (args, const char *))
    g_ptr_array_add (argv, (gpointer)arg);
  va_end (args);
  g_ptr_array_add (argv, NULL);

  char *out = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GSubprocess) process = g_subprocess_newv (
      (const char *const *)argv->pdata, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE, &error);
  g_assert_no_error (error);
  GBytes *bytes = NULL;
  g_subprocess_communicate (process, NULL, NULL, &bytes, NULL, &error);
  g_assert_no_error (error);
  out = g_strndup (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
  g_bytes_unref (bytes);
  int status = g_subprocess_get_if_exited (process) ? g_subprocess_get_exit_status (process) : -1;
  if (ret_status != NULL)
    *ret_status = status;
  else if (status != 0)
    g_error ("%s: status %d: %s", program, status, out);
  return out;
}

void
assert_clean (const char *ext4_path)
{
  int status;
  g_autofree char *out = run_program (&status, "e2fsck", "-fn", ext4_path, NULL);
  if (status != 0)
    g_error ("e2fsck: %s", out);
}

gboolean
is_root (void)
{
  return geteuid () == 0;
}

/* Dump */

typedef struct {
  ext2_filsys fs;
  GPtrArray *lines, *queue; /* of char *: lines; paths */
  GArray *inodes;           /* beside queue */
  const char *dir;
  GString *names;
} Dump;

static int
queue_name (ext2_ino_t dir, int kind, struct ext2_dir_entry *entry, int offset, int size, char *buffer, void *data)
{
  Dump *dump = data;
  g_autofree char *name = g_strndup (entry->name, (gsize)ext2fs_dirent_name_len (entry));
  if (strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
    return 0;
  guint32 ino = entry->inode;
  g_ptr_array_add (dump->queue, g_strconcat (dump->dir, *dump->dir != '\0' ? "/" : "", name, NULL));
  g_array_append_val (dump->inodes, ino);
  return 0;
}

static char *
file_digest (ext2_filsys fs, ext2_ino_t ino)
{
  ext2_file_t file;
  unsigned got;
  g_autofree char *buffer = g_malloc (1 << 20);
  g_autoptr (GChecksum) checksum = g_checksum_new (G_CHECKSUM_MD5);
  g_assert_cmpint (ext2fs_file_open (fs, ino, 0, &file), ==, 0);
  while (ext2fs_file_read (file, buffer, 1 << 20, &got) == 0 && got > 0)
    g_checksum_update (checksum, (const guchar *)buffer, got);
  ext2fs_file_close (file);
  return g_strdup (g_checksum_get_string (checksum));
}

static char *
link_target (ext2_filsys fs, ext2_ino_t ino, struct ext2_inode *inode)
{
  if (ext2fs_is_fast_symlink (inode))
    return g_strdup ((const char *)inode->i_block);
  char buffer[8192] = { 0 };
  ext2_file_t file;
  unsigned got;
  g_assert_cmpint (ext2fs_file_open (fs, ino, 0, &file), ==, 0);
  g_assert_cmpint (ext2fs_file_read (file, buffer, sizeof buffer - 1, &got), ==, 0);
  ext2fs_file_close (file);
  return g_strdup (buffer);
}

static int
add_attribute (char *name, char *value, size_t length, void *data)
{
  GChecksum *checksum = g_checksum_new (G_CHECKSUM_MD5);
  g_checksum_update (checksum, (const guchar *)value, (gssize)length);
  g_ptr_array_add (data, g_strdup_printf (" %s=%.8s", name, g_checksum_get_string (checksum)));
  g_checksum_free (checksum);
  return 0;
}

static int
compare_strings (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *)a, *(const char *const *)b);
}

static char *
attributes (ext2_filsys fs, ext2_ino_t ino)
{
  struct ext2_xattr_handle *handle;
  g_autoptr (GPtrArray) list = g_ptr_array_new_with_free_func (g_free);
  g_assert_cmpint (ext2fs_xattrs_open (fs, ino, &handle), ==, 0);
  g_assert_cmpint (ext2fs_xattrs_read (handle), ==, 0);
  g_assert_cmpint (ext2fs_xattrs_iterate (handle, add_attribute, list), ==, 0);
  ext2fs_xattrs_close (&handle);
  g_ptr_array_sort (list, compare_strings);
  g_ptr_array_add (list, NULL);
  return g_strjoinv ("", (char **)list->pdata);
}

static void
dump_one (Dump *dump, const char *path, ext2_ino_t ino)
{
  struct ext2_inode_large large;
  struct ext2_inode *inode = EXT2_INODE (&large);
  g_assert_cmpint (ext2fs_read_inode_full (dump->fs, ino, inode, sizeof large), ==, 0);
  g_autofree char *content = NULL;
  if (S_ISREG (inode->i_mode))
    content = file_digest (dump->fs, ino);
  else if (S_ISLNK (inode->i_mode))
    content = link_target (dump->fs, ino, inode);
  else if (S_ISCHR (inode->i_mode) || S_ISBLK (inode->i_mode)) {
    guint32 dev = inode->i_block[0] != 0 ? inode->i_block[0] : inode->i_block[1];
    content = g_strdup_printf ("%u:%u", (dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00));
  }
  g_autofree char *extra = attributes (dump->fs, ino);
  guint32 uid = inode->i_uid | (guint32)inode->osd2.linux2.l_i_uid_high << 16;
  guint32 gid = inode->i_gid | (guint32)inode->osd2.linux2.l_i_gid_high << 16;
  gint64 mtime = (gint32)inode->i_mtime + ((gint64)(large.i_mtime_extra & 3) << 32);
  g_ptr_array_add (dump->lines,
                   g_strdup_printf ("%s %o %u %u %" G_GINT64_FORMAT ".%u %u %" G_GUINT64_FORMAT " %s%s", path,
                                    inode->i_mode, uid, gid, mtime, large.i_mtime_extra >> 2, inode->i_links_count,
                                    S_ISDIR (inode->i_mode) ? (guint64)0 : (guint64)EXT2_I_SIZE (inode),
                                    content != NULL ? content : "", extra));
  if (!S_ISDIR (inode->i_mode))
    return;
  dump->dir = path;
  g_assert_cmpint (ext2fs_dir_iterate2 (dump->fs, ino, 0, NULL, queue_name, dump), ==, 0);
}

char *
dump_ext4 (const char *ext4_path)
{
  Dump dump = { .lines = g_ptr_array_new_with_free_func (g_free),
                .queue = g_ptr_array_new_with_free_func (g_free),
                .inodes = g_array_new (FALSE, FALSE, sizeof (guint32)) };
  g_assert_cmpint (ext2fs_open (ext4_path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &dump.fs), ==, 0);
  guint32 root = EXT2_ROOT_INO;
  g_ptr_array_add (dump.queue, g_strdup (""));
  g_array_append_val (dump.inodes, root);
  for (guint i = 0; i < dump.queue->len; i++)
    dump_one (&dump, g_ptr_array_index (dump.queue, i), g_array_index (dump.inodes, guint32, i));
  ext2fs_close_free (&dump.fs);
  g_ptr_array_sort (dump.lines, compare_strings);
  g_ptr_array_add (dump.lines, NULL);
  char *text = g_strjoinv ("\n", (char **)dump.lines->pdata);
  g_ptr_array_unref (dump.lines);
  g_ptr_array_unref (dump.queue);
  g_array_unref (dump.inodes);
  return text;
}

char *
dump_line (const char *dump, const char *path)
{
  g_auto (GStrv) lines = g_strsplit (dump, "\n", -1);
  g_autofree char *prefix = g_strconcat (path, " ", NULL);
  for (guint i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], prefix))
      return g_strdup (lines[i] + strlen (prefix));
  return NULL;
}

char *
noise (gsize size, guint32 seed)
{
  char *data = g_malloc (size);
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  for (gsize i = 0; i + 4 <= size; i += 4)
    *(guint32 *)(gpointer)(data + i) = g_rand_int (rand);
  return data;
}
