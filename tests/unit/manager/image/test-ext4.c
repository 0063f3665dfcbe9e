/* The ext4 writer: what goes in by tar comes out by libext2fs, debugfs, e2fsck and the kernel.
 * Run by meson test.
 * Never needs root but for the mount test, which says so when it skips. */
#include "fixture.h"

#include "common/error.h"

#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MIB ((gsize)1 << 20)

static void
assert_line (const char *dump, const char *path, const char *expected)
{
  g_autofree char *line = dump_line (dump, path);
  if (g_strcmp0 (line, expected) != 0)
    g_error ("%s: is '%s', expected '%s'", path, line, expected);
}

static char *
md5 (const char *data, gsize size)
{
  return g_compute_checksum_for_data (G_CHECKSUM_MD5, (const guchar *)data, size);
}

static void
add_acl_file (Fixture *fixture)
{
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_copy_pathname (entry, "acl");
  archive_entry_set_mode (entry, S_IFREG | 0640);
  archive_entry_set_size (entry, 0);
  archive_entry_acl_add_entry (entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_USER_OBJ, -1, "");
  archive_entry_acl_add_entry (entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 7, ARCHIVE_ENTRY_ACL_USER, 1234, "1234");
  archive_entry_acl_add_entry (entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 4, ARCHIVE_ENTRY_ACL_GROUP_OBJ, -1, "");
  archive_entry_acl_add_entry (entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 5, ARCHIVE_ENTRY_ACL_MASK, -1, "");
  archive_entry_acl_add_entry (entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 0, ARCHIVE_ENTRY_ACL_OTHER, -1, "");
  tar_add_entry (fixture, entry, NULL, 0);
}

static void
add_xattr_file (Fixture *fixture)
{
  static const char capability[20] = "\x01\x00\x00\x02\x00\x20";
  g_autofree char *large = g_strnfill (1500, 'v');
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_copy_pathname (entry, "xattrs");
  archive_entry_set_mode (entry, S_IFREG | 0755);
  archive_entry_set_size (entry, 2);
  archive_entry_xattr_add_entry (entry, "security.capability", capability, sizeof capability);
  archive_entry_xattr_add_entry (entry, "user.small", "x", 1);
  archive_entry_xattr_add_entry (entry, "user.large", large, 1500);
  tar_add_entry (fixture, entry, "ok", 2);
}

static char *
sparse_content (void)
{
  char *data = g_malloc0 (64 * MIB);
  memset (data, 'a', 4096);
  memset (data + 32 * MIB + 100, 'b', 50);
  data[64 * MIB - 1] = 'c';
  return data;
}

static void
add_sparse_file (Fixture *fixture)
{
  struct archive_entry *entry = archive_entry_new ();
  archive_entry_copy_pathname (entry, "sparse");
  archive_entry_set_mode (entry, S_IFREG | 0644);
  archive_entry_set_size (entry, (la_int64_t)(64 * MIB));
  archive_entry_sparse_add_entry (entry, 0, 4096);
  archive_entry_sparse_add_entry (entry, 32 * (la_int64_t)MIB + 100, 50);
  archive_entry_sparse_add_entry (entry, 64 * (la_int64_t)MIB - 1, 1);
  g_autofree char *data = sparse_content ();
  tar_add_entry (fixture, entry, data, 64 * MIB);
}

static char *
deep_path (guint depth)
{
  g_autoptr (GString) path = g_string_new ("deep");
  for (guint i = 0; i < depth; i++)
    g_string_append_printf (path, "/%u", i);
  return g_string_free (g_steal_pointer (&path), FALSE);
}

static void
add_rich_tree (Fixture *fixture, const char *long_name, const char *long_target, const char *data)
{
  g_autofree char *deep = deep_path (500);
  const Item items[] = {
    { .path = "./", .mode = S_IFDIR | 0751, .uid = 3, .gid = 4, .mtime = 1600000000 },
    { .path = "setuid",
      .mode = S_IFREG | 04755,
      .data = "#!",
      .size = 2,
      .uid = 0,
      .mtime = 1500000000,
      .nsec = 123456789 },
    { .path = "big", .mode = S_IFREG | 0600, .data = data, .size = 10 * MIB, .uid = 100000, .gid = 4000000000 },
    { .path = "block", .mode = S_IFREG | 0600, .data = data, .size = 4096 },
    { .path = "block+1", .mode = S_IFREG | 0600, .data = data, .size = 4097 },
    { .path = "empty", .mode = S_IFREG | 0444, .mtime = -2 },
    { .path = "late", .mode = S_IFREG | 0444, .mtime = 5000000000 },
    { .path = "a/b/child", .mode = S_IFREG | 0644, .data = "x", .size = 1 },
    { .path = "a/b", .mode = S_IFDIR | 01777, .uid = 7, .gid = 8, .mtime = 1400000000 },
    { .path = "hard", .mode = S_IFREG, .hardlink = "./setuid" },
    { .path = "a/b/hard2", .mode = S_IFREG, .hardlink = "/setuid" },
    { .path = "fast", .mode = S_IFLNK | 0777, .symlink = "../../etc/passwd" },
    { .path = "slow", .mode = S_IFLNK | 0777, .symlink = long_target },
    { .path = "hardsym", .mode = S_IFLNK, .hardlink = "fast" },
    { .path = "null", .mode = S_IFCHR | 0666, .major = 1, .minor = 3 },
    { .path = "bigdev", .mode = S_IFBLK | 0660, .major = 259, .minor = 70000 },
    { .path = "fifo", .mode = S_IFIFO | 0600 },
    { .path = long_name, .mode = S_IFREG | 0644, .data = "long", .size = 4 },
    { .path = "\xc3\xa4\xe2\x82\xac", .mode = S_IFREG | 0644 },
    { .path = "new\nline", .mode = S_IFREG | 0644 },
    { .path = "/absolute", .mode = S_IFREG | 0644 },
    { .path = deep, .mode = S_IFREG | 0644, .data = "deep", .size = 4 },
  };
  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    tar_add (fixture, &items[i]);
  add_acl_file (fixture);
  add_xattr_file (fixture);
  add_sparse_file (fixture);
}

/* What is in it, beside the rest. */
typedef struct {
  char *long_name, *long_target, *data;
} RichTree;

static void
rich_tree_init (RichTree *tree, Fixture *fixture)
{
  *tree = (RichTree){ g_strnfill (255, 'n'), g_strnfill (4000, 't'), noise (10 * MIB, 1) };
  fixture_init (fixture);
  add_rich_tree (fixture, tree->long_name, tree->long_target, tree->data);
  tar_close (fixture);
}

static void
rich_tree_clear (RichTree *tree)
{
  g_free (tree->long_name);
  g_free (tree->long_target);
  g_free (tree->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (RichTree, rich_tree_clear)

static void
check_sparse (const char *ext4_path, const char *dump)
{
  g_autofree char *content = sparse_content (), *digest = md5 (content, 64 * MIB), *line = dump_line (dump, "sparse");
  g_assert_true (g_str_has_suffix (line, digest));
  g_autofree char *stat = run_program (NULL, "debugfs", "-R", "stat sparse", ext4_path, NULL);
  g_assert_nonnull (strstr (stat, "Blockcount: 24")); /* three blocks of 4 KiB */
}

static void
check_rich_dump (const char *dump, const char *long_name, const char *long_target, const char *data)
{
  g_autofree char *big = md5 (data, 10 * MIB), *block = md5 (data, 4096), *more = md5 (data, 4097);
  g_autofree char *expect_big = g_strdup_printf ("100600 100000 4000000000 0.0 1 10485760 %s", big);
  g_autofree char *expect_block = g_strdup_printf ("100600 0 0 0.0 1 4096 %s", block);
  g_autofree char *expect_more = g_strdup_printf ("100600 0 0 0.0 1 4097 %s", more);
  g_autofree char *expect_slow = g_strdup_printf ("120777 0 0 0.0 1 %zu %s", strlen (long_target), long_target);
  g_autofree char *deep = deep_path (500);
  g_autofree char *script = md5 ("#!", 2), *x = md5 ("x", 1), *none = md5 ("", 0), *text = md5 ("long", 4);
  g_autofree char *expect_script = g_strdup_printf ("104755 0 0 1500000000.123456789 3 2 %s", script);
  g_autofree char *expect_x = g_strdup_printf ("100644 0 0 0.0 1 1 %s", x);
  g_autofree char *expect_empty = g_strdup_printf ("100444 0 0 -2.0 1 0 %s", none);
  g_autofree char *expect_late = g_strdup_printf ("100444 0 0 5000000000.0 1 0 %s", none);
  g_autofree char *expect_long = g_strdup_printf ("100644 0 0 0.0 1 4 %s", text);
  g_autofree char *deep_line = dump_line (dump, deep);
  const struct {
    const char *path, *line;
  } lines[] = { { "", "40751 3 4 1600000000.0 5 0 " },
                { "setuid", expect_script },
                { "hard", expect_script },
                { "a/b/hard2", expect_script },
                { "big", expect_big },
                { "block", expect_block },
                { "block+1", expect_more },
                { "empty", expect_empty },
                { "late", expect_late },
                { "a", "40755 0 0 1700000000.0 3 0 " },
                { "a/b", "41777 7 8 1400000000.0 2 0 " },
                { "a/b/child", expect_x },
                { "fast", "120777 0 0 0.0 2 16 ../../etc/passwd" },
                { "hardsym", "120777 0 0 0.0 2 16 ../../etc/passwd" },
                { "slow", expect_slow },
                { "null", "20666 0 0 0.0 1 0 1:3" },
                { "bigdev", "60660 0 0 0.0 1 0 259:70000" },
                { "fifo", "10600 0 0 0.0 1 0 " },
                { "lost+found", "40700 0 0 1700000000.0 2 0 " },
                { long_name, expect_long } };
  for (guint i = 0; i < G_N_ELEMENTS (lines); i++)
    assert_line (dump, lines[i].path, lines[i].line);
  g_assert_nonnull (deep_line);
  g_assert_nonnull (strstr (dump, "\n\xc3\xa4\xe2\x82\xac 100644"));
  g_assert_nonnull (strstr (dump, "\nabsolute 100644"));
}

static void
check_attributes (const char *ext4_path, const char *dump)
{
  g_autofree char *line = dump_line (dump, "xattrs"), *acl = dump_line (dump, "acl");
  g_assert_nonnull (strstr (line, " security.capability="));
  g_assert_nonnull (strstr (line, " user.large="));
  g_assert_nonnull (strstr (line, " user.small=9dd4e461")); /* md5 of "x" */
  g_assert_true (g_str_has_prefix (acl, "100650 "));        /* the mask is the group's bits */
  g_assert_nonnull (strstr (acl, " system.posix_acl_access="));
  g_autofree char *shown = run_program (NULL, "debugfs", "-R", "ea_get -V xattrs user.large", ext4_path, NULL);
  g_autofree char *large = g_strnfill (1500, 'v');
  g_assert_nonnull (strstr (shown, large));
}

static void
test_rich (void)
{
  g_auto (Fixture) fixture;
  g_auto (RichTree) tree;
  rich_tree_init (&tree, &fixture);

  g_autoptr (GError) error = NULL;
  BangerExt4Info info;
  make_ext4 (&fixture, 256 * MIB, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (info.size_bytes, ==, 256 * MIB);
  assert_clean (fixture.ext4_path);
  g_autofree char *dump = dump_ext4 (fixture.ext4_path);
  check_rich_dump (dump, tree.long_name, tree.long_target, tree.data);
  check_attributes (fixture.ext4_path, dump);
  check_sparse (fixture.ext4_path, dump);
  struct stat st;
  g_assert_cmpint (fstat (fixture.ext4_fd, &st), ==, 0);
  g_assert_cmpint (st.st_size, ==, 256 * MIB);
  g_assert_cmpint (st.st_blocks * 512, <, 16 * MIB);
}

/* Last wins */

static void
test_duplicates (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *data = noise (8 * MIB, 4);
  const Item items[] = {
    { .path = "f", .mode = S_IFREG | 0600, .data = data, .size = 8 * MIB },
    { .path = "f", .mode = S_IFREG | 0644, .data = "new", .size = 3 },
    { .path = "g", .mode = S_IFREG | 0600, .data = data, .size = 6 * MIB }, /* only fits where f was */
    { .path = "d/x", .mode = S_IFREG | 0644 },
    { .path = "d", .mode = S_IFDIR | 0700 },
    { .path = "link", .mode = S_IFLNK | 0777, .symlink = "d" },
    { .path = "link", .mode = S_IFDIR | 0711 },
    { .path = "e", .mode = S_IFDIR | 0700 },
    { .path = "e", .mode = S_IFREG | 0640 },
    { .path = "h1", .mode = S_IFREG | 0644, .data = "h", .size = 1 },
    { .path = "h2", .mode = S_IFREG, .hardlink = "h1" },
    { .path = "h1", .mode = S_IFREG | 0600 },
    { .path = "h2", .mode = S_IFREG, .hardlink = "h2" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    tar_add (&fixture, &items[i]);
  tar_close (&fixture);
  g_autoptr (GError) error = NULL;
  make_ext4 (&fixture, 20 * MIB, NULL, &error);
  g_assert_no_error (error);
  assert_clean (fixture.ext4_path);
  g_autofree char *dump = dump_ext4 (fixture.ext4_path);
  g_autofree char *f = dump_line (dump, "f"), *g = dump_line (dump, "g"), *digest = md5 (data, 6 * MIB);
  g_assert_true (g_str_has_prefix (f, "100644 0 0 0.0 1 3 "));
  g_assert_true (g_str_has_suffix (g, digest));
  assert_line (dump, "d", "40700 0 0 0.0 2 0 ");
  assert_line (dump, "link", "40711 0 0 0.0 2 0 ");
  g_autofree char *e = dump_line (dump, "e"), *h1 = dump_line (dump, "h1"), *h2 = dump_line (dump, "h2");
  g_assert_true (g_str_has_prefix (e, "100640 "));
  g_assert_true (g_str_has_prefix (h1, "100600 0 0 0.0 1 0 "));
  g_assert_true (g_str_has_prefix (h2, "100644 0 0 0.0 1 1 "));
  g_assert_nonnull (strstr (dump, "d/x "));
}

/* Many names in one directory: one and two levels of the hash tree */

static void
test_large_directory (gconstpointer data)
{
  guint count = 20000;
  int width = GPOINTER_TO_INT (data);
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  for (guint i = 0; i < count; i++) {
    g_autofree char *path = g_strdup_printf ("d/%0*u", width, i);
    tar_add (&fixture, &(Item){ .path = path, .mode = S_IFREG | 0644 });
  }
  tar_close (&fixture);
  g_autoptr (GError) error = NULL;
  BangerExt4Info info;
  make_ext4 (&fixture, 0, &info, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (info.entries, ==, count + 2);
  assert_clean (fixture.ext4_path);
  g_autofree char *tree = run_program (NULL, "debugfs", "-R", "htree_dump d", fixture.ext4_path, NULL);
  g_assert_nonnull (strstr (tree, width > 100 ? "Indirect levels: 1" : "Indirect levels: 0"));
  g_autofree char *dump = dump_ext4 (fixture.ext4_path);
  g_autofree char *first = g_strdup_printf ("\nd/%0*u ", width, 0u),
                  *last = g_strdup_printf ("\nd/%0*u ", width, count - 1);
  g_assert_nonnull (strstr (dump, first));
  g_assert_nonnull (strstr (dump, last));
}

/* A file in a thousand pieces: extents beyond the inode, in two levels */
static void
test_fragmented (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autoptr (GError) error = NULL;
  BangerExt4Options options = { .size_bytes = 64 * MIB, .time = 1 };
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (fixture.ext4_fd, &options, &error);
  BangerExt4Entry entry = { .path = "holes", .mode = S_IFREG | 0644, .size = 4000 * 4096 };
  g_assert_true (banger_ext4_writer_add (writer, &entry, &error));
  g_autofree char *model = g_malloc0 (4000 * 4096);
  for (guint i = 0; i < 4000; i += 2) {
    memset (model + i * 4096, (int)(i % 255) + 1, 4096);
    g_assert_true (banger_ext4_writer_data (writer, model + i * 4096, 4096, i * 4096, &error));
  }
  g_assert_true (banger_ext4_writer_finish (writer, NULL, NULL, &error));
  assert_clean (fixture.ext4_path);
  g_autofree char *dump = dump_ext4 (fixture.ext4_path), *digest = md5 (model, 4000 * 4096);
  g_autofree char *line = dump_line (dump, "holes");
  g_assert_true (g_str_has_suffix (line, digest));
}

/* Random trees against a model */

typedef struct {
  GHashTable *lines; /* path -> rest of its line; files only */
  GPtrArray *dirs;
} Model;

static void
add_random (Fixture *fixture, Model *model, GRand *rand, guint i)
{
  const char *dir = g_ptr_array_index (model->dirs, (guint)g_rand_int_range (rand, 0, (gint32)model->dirs->len));
  g_autofree char *pad = g_strnfill ((gsize)g_rand_int_range (rand, 0, 200), 'p');
  g_autofree char *path = g_strdup_printf ("%s%s%u%s", dir, *dir != '\0' ? "/" : "", i, pad);
  guint32 permissions = (guint32)g_rand_int_range (rand, 0, 010000);
  Item item = { .path = path,
                .mode = permissions,
                .uid = g_rand_int_range (rand, 0, G_MAXINT32),
                .gid = g_rand_int_range (rand, 0, G_MAXINT32),
                .mtime = g_rand_int_range (rand, 0, G_MAXINT32),
                .nsec = g_rand_int_range (rand, 0, 1000000000) };
  g_autofree char *content = NULL, *data = NULL, *target = NULL;
  switch (g_rand_int_range (rand, 0, 4)) {
    case 0:
      item.mode |= S_IFDIR;
      content = g_strdup ("");
      g_ptr_array_add (model->dirs, g_strdup (path));
      break;
    case 1:
      item.mode = S_IFLNK | 0777;
      item.symlink = target = g_strnfill ((gsize)g_rand_int_range (rand, 1, 300), 's');
      content = g_strdup (target);
      break;
    default:
      item.mode |= S_IFREG;
      item.size = (gsize)g_rand_int_range (rand, 0, g_rand_boolean (rand) ? 100 : 50000);
      item.data = data = noise (item.size + 4, g_rand_int (rand));
      content = md5 (data, item.size);
  }
  tar_add (fixture, &item);
  if (S_ISDIR (item.mode))
    return;
  guint64 size = S_ISLNK (item.mode) ? strlen (target) : item.size;
  g_hash_table_insert (model->lines, g_strdup (path),
                       g_strdup_printf ("%o %u %u %" G_GINT64_FORMAT ".%ld 1 %" G_GUINT64_FORMAT " %s", item.mode,
                                        (guint32)item.uid, (guint32)item.gid, item.mtime, item.nsec, size, content));
}

static void
test_random (void)
{
  for (guint round = 0; round < 4; round++) {
    guint32 seed = g_test_rand_int_range (0, G_MAXINT32);
    g_test_message ("seed %u", seed);
    g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
    g_auto (Fixture) fixture;
    fixture_init (&fixture);
    Model model = { g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free),
                    g_ptr_array_new_with_free_func (g_free) };
    g_ptr_array_add (model.dirs, g_strdup (""));
    for (guint i = 0; i < 1500; i++)
      add_random (&fixture, &model, rand, i);
    tar_close (&fixture);
    g_autoptr (GError) error = NULL;
    make_ext4 (&fixture, 0, NULL, &error);
    g_assert_no_error (error);
    assert_clean (fixture.ext4_path);
    g_autofree char *dump = dump_ext4 (fixture.ext4_path);
    g_auto (GStrv) lines = g_strsplit (dump, "\n", -1);
    guint seen = 0;
    for (guint i = 0; lines[i] != NULL; i++) {
      g_auto (GStrv) parts = g_strsplit (lines[i], " ", 2);
      const char *expected = g_hash_table_lookup (model.lines, parts[0]);
      if (expected != NULL)
        g_assert_cmpstr (parts[1], ==, expected);
      seen += expected != NULL ? 1 : 0;
    }
    g_assert_cmpuint (seen, ==, g_hash_table_size (model.lines));
    g_hash_table_unref (model.lines);
    g_ptr_array_unref (model.dirs);
  }
}

/* The rest */

static void
test_reproducible (void)
{
  g_auto (Fixture) fixture;
  g_auto (RichTree) tree;
  rich_tree_init (&tree, &fixture);
  g_autofree char *before = NULL;
  for (guint i = 0; i < 2; i++) {
    g_autoptr (GError) error = NULL;
    make_ext4 (&fixture, 128 * MIB, NULL, &error);
    g_assert_no_error (error);
    g_autofree char *sum = run_program (NULL, "sha256sum", fixture.ext4_path, NULL);
    if (i == 1)
      g_assert_cmpstr (sum, ==, before);
    g_free (before);
    before = g_steal_pointer (&sum);
    g_usleep (i == 0 ? 1100000 : 0); /* a second on the clock must not show */
  }
}

static void
test_compressed (gconstpointer data)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *path = g_build_filename (fixture.dir, "packed", NULL);
  g_autofree char *program = g_find_program_in_path (data);
  if (program == NULL) {
    g_test_skip ("the program that compresses is not installed");
    return;
  }
  tar_add (&fixture, &(Item){ .path = "f", .mode = S_IFREG | 0644, .data = "packed", .size = 6 });
  tar_close (&fixture);
  g_autofree char *plain = g_build_filename (fixture.dir, "tar", NULL);
  g_autofree char *command = g_strdup_printf ("%s -c < %s > %s", (const char *)data, plain, path);
  g_autofree char *out = run_program (NULL, "sh", "-c", command, NULL);
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  dup2 (fd, fixture.tar_fd);
  close (fd);
  g_autoptr (GError) error = NULL;
  BangerExt4Info info;
  make_ext4 (&fixture, 0, &info, &error);
  g_assert_no_error (error);
  g_autofree char *sum = run_program (NULL, "sha256sum", path, NULL);
  g_assert_true (g_str_has_prefix (info.digest, "sha256:"));
  g_assert_cmpmem (info.digest + 7, 64, sum, 64);
  g_autofree char *dump = dump_ext4 (fixture.ext4_path), *line = dump_line (dump, "f");
  g_assert_true (g_str_has_prefix (line, "100644 0 0 0.0 1 6 "));
}

static gpointer
cancel_later (gpointer data)
{
  g_usleep (200000);
  g_cancellable_cancel (data);
  return NULL;
}

static void
test_cancel (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  int pipe_fds[2];
  g_assert_cmpint (pipe (pipe_fds), ==, 0); /* nothing ever comes */
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  GThread *thread = g_thread_new ("cancel", cancel_later, cancellable);
  g_autoptr (GError) error = NULL;
  BangerExt4Options options = { .size_bytes = 16 * MIB };
  gint64 start = g_get_monotonic_time ();
  g_assert_false (banger_ext4_from_tar (pipe_fds[0], fixture.ext4_fd, &options, NULL, NULL, cancellable, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_cmpint (g_get_monotonic_time () - start, <, 60 * G_USEC_PER_SEC);
  g_thread_join (thread);
  close (pipe_fds[0]);
  close (pipe_fds[1]);
}

static void
note_progress (double fraction, gpointer data)
{
  double *last = data;
  g_assert_cmpfloat (fraction, >=, *last);
  g_assert_cmpfloat (fraction, <=, 1.0);
  *last = fraction;
}

static void
test_progress (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *data = noise (5 * MIB, 6);
  tar_add (&fixture, &(Item){ .path = "f", .mode = S_IFREG | 0644, .data = data, .size = 5 * MIB });
  tar_close (&fixture);
  double last = 0;
  g_autoptr (GError) error = NULL;
  BangerExt4Options options = { .size_bytes = 32 * MIB };
  banger_ext4_from_tar (fixture.tar_fd, fixture.ext4_fd, &options, note_progress, &last, NULL, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpfloat (last, ==, 1.0);
}

/* Room to grow: here by resize2fs with the file system unmounted; the kernel does it in a guest. */
static void
test_grow (gconstpointer data)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  tar_add (&fixture, &(Item){ .path = "f", .mode = S_IFREG | 0644, .data = "stays", .size = 5 });
  tar_close (&fixture);
  g_autoptr (GError) error = NULL;
  make_ext4 (&fixture, GPOINTER_TO_SIZE (data) * MIB, NULL, &error);
  g_assert_no_error (error);
  g_autofree char *grown = run_program (NULL, "resize2fs", fixture.ext4_path, "1200G", NULL);
  assert_clean (fixture.ext4_path);
  g_autofree char *dump = dump_ext4 (fixture.ext4_path), *line = dump_line (dump, "f");
  g_assert_true (g_str_has_prefix (line, "100644 0 0 0.0 1 5 "));
}

/* What system calls say of the entries that GNU tar cannot compare. */
static char *
kernel_view (const char *mount)
{
  g_autofree char *device = g_build_filename (mount, "bigdev", NULL), *acl = g_build_filename (mount, "acl", NULL);
  g_autofree char *xattrs = g_build_filename (mount, "xattrs", NULL),
                  *sparse = g_build_filename (mount, "sparse", NULL);
  g_autofree char *out = run_program (NULL, "stat", "-c", "%a %t:%T", device, NULL);
  g_autofree char *content = NULL;
  gsize length;
  struct stat st;
  g_assert_true (g_file_get_contents (sparse, &content, &length, NULL));
  g_assert_cmpint (stat (sparse, &st), ==, 0);
  g_autofree char *digest = md5 (content, length);
  return g_strdup_printf ("%sacl %zd\ncapability %zd\nsparse %lu %s\n", out,
                          getxattr (acl, "system.posix_acl_access", NULL, 0),
                          getxattr (xattrs, "security.capability", NULL, 0), (gulong)st.st_blocks, digest);
}

static void
test_mount (void)
{
  if (!is_root ()) {
    g_test_skip ("only root can mount");
    return;
  }
  g_auto (Fixture) fixture;
  g_auto (RichTree) tree;
  rich_tree_init (&tree, &fixture);
  g_autofree char *mount = g_build_filename (fixture.dir, "mount", NULL);
  g_autoptr (GError) error = NULL;
  make_ext4 (&fixture, 256 * MIB, NULL, &error);
  g_assert_no_error (error);
  g_assert_cmpint (mkdir (mount, 0700), ==, 0);
  int status, compared;
  g_autofree char *mounted = run_program (&status, "mount", "-o", "loop", fixture.ext4_path, mount, NULL);
  if (status != 0) {
    g_test_skip (mounted);
    return;
  }
  g_autofree char *tar = g_build_filename (fixture.dir, "tar", NULL);
  /* GNU tar reads neither libarchive's ACL masks nor its map of holes: these two are looked at below. */
  g_autofree char *same = run_program (&compared, "tar", "--numeric-owner", "--exclude=acl", "--exclude=sparse", "-df",
                                       tar, "-C", mount, NULL);
  g_autofree char *seen = kernel_view (mount);
  g_autofree char *written = run_program (&status, "sh", "-c", "touch \"$0\"/new && sync -f \"$0\"", mount, NULL);
  g_autofree char *gone = run_program (NULL, "umount", mount, NULL);
  if (compared != 0)
    g_error ("tar -d: %s", same);
  g_assert_cmpint (status, ==, 0);
  g_autofree char *content = sparse_content (), *digest = md5 (content, 64 * MIB);
  g_autofree char *expected = g_strconcat ("660 103:11170\nacl 44\ncapability 20\nsparse 24 ", digest, "\n", NULL);
  g_assert_cmpstr (seen, ==, expected);
  assert_clean (fixture.ext4_path);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/ext4/rich", test_rich);
  g_test_add_func ("/ext4/duplicates", test_duplicates);
  g_test_add_data_func ("/ext4/large-directory/one-level", GINT_TO_POINTER (8), test_large_directory);
  g_test_add_data_func ("/ext4/large-directory/two-levels", GINT_TO_POINTER (160), test_large_directory);
  g_test_add_func ("/ext4/fragmented", test_fragmented);
  g_test_add_func ("/ext4/random", test_random);
  g_test_add_func ("/ext4/reproducible", test_reproducible);
  for (const char *const *tool = (const char *const[]){ "gzip", "bzip2", "xz", "zstd", "lz4", NULL }; *tool != NULL;
       tool++)
  {
    g_autofree char *path = g_strconcat ("/ext4/compressed/", *tool, NULL);
    g_test_add_data_func (path, *tool, test_compressed);
  }
  g_test_add_func ("/ext4/cancel", test_cancel);
  g_test_add_func ("/ext4/progress", test_progress);
  g_test_add_data_func ("/ext4/grow/small", GSIZE_TO_POINTER (16), test_grow);
  g_test_add_data_func ("/ext4/grow/seed", GSIZE_TO_POINTER (128), test_grow);
  g_test_add_data_func ("/ext4/grow/root", GSIZE_TO_POINTER (4096), test_grow);
  g_test_add_func ("/ext4/mount", test_mount);
  return g_test_run ();
}
