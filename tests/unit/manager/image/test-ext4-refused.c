/* The ext4 writer: what it refuses, and what has no room in an image.
 * Run by meson test. */
#include "fixture.h"

#include "common/error.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MIB ((gsize)1 << 20)

typedef struct {
  const char *name;
  Item items[3];
  int code;
} Hostile;

static const Hostile hostile[] = {
  { "dotdot", { { .path = "a/../../etc/x", .mode = S_IFREG | 0644 } }, BANGER_ERROR_INVALID_IMAGE },
  { "dotdot-only", { { .path = "..", .mode = S_IFDIR | 0755 } }, BANGER_ERROR_INVALID_IMAGE },
  { "below-symlink",
    { { .path = "l", .mode = S_IFLNK | 0777, .symlink = "/etc" }, { .path = "l/x", .mode = S_IFREG | 0644 } },
    BANGER_ERROR_INVALID_IMAGE },
  { "below-file",
    { { .path = "f", .mode = S_IFREG | 0644 }, { .path = "f/x", .mode = S_IFREG | 0644 } },
    BANGER_ERROR_INVALID_IMAGE },
  { "hardlink-missing", { { .path = "h", .mode = S_IFREG, .hardlink = "nothing" } }, BANGER_ERROR_INVALID_IMAGE },
  { "hardlink-dotdot",
    { { .path = "h", .mode = S_IFREG, .hardlink = "../../etc/shadow" } },
    BANGER_ERROR_INVALID_IMAGE },
  { "hardlink-directory",
    { { .path = "d", .mode = S_IFDIR | 0755 }, { .path = "h", .mode = S_IFREG, .hardlink = "d" } },
    BANGER_ERROR_INVALID_IMAGE },
  { "over-directory",
    { { .path = "d/x", .mode = S_IFREG | 0755 }, { .path = "d", .mode = S_IFREG | 0644 } },
    BANGER_ERROR_INVALID_IMAGE },
  { "root-file", { { .path = ".", .mode = S_IFLNK | 0777, .symlink = "x" } }, BANGER_ERROR_INVALID_IMAGE },
  { "lost-found-file", { { .path = "lost+found", .mode = S_IFREG | 0644 } }, BANGER_ERROR_INVALID_IMAGE },
  { "huge-sparse", { { .path = "x", .mode = S_IFREG | 0644 } }, BANGER_ERROR_INVALID_IMAGE },
};

static void
expect_failure (Fixture *fixture, guint64 size, int code)
{
  g_autoptr (GError) error = NULL;
  BangerExt4Info info = { 0 };
  g_assert_false (make_ext4 (fixture, size, &info, &error));
  if (!g_error_matches (error, BANGER_ERROR, code))
    g_error ("code %d expected, got: %s", code, error->message);
  g_assert_cmpuint (info.size_bytes, ==, 0);
}

static void
test_hostile (gconstpointer data)
{
  const Hostile *row = data;
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  for (guint i = 0; i < G_N_ELEMENTS (row->items) && row->items[i].path != NULL; i++)
    if (strcmp (row->name, "huge-sparse") != 0)
      tar_add (&fixture, &row->items[i]);
  if (strcmp (row->name, "huge-sparse") == 0) {
    struct archive_entry *entry = archive_entry_new ();
    archive_entry_copy_pathname (entry, "x");
    archive_entry_set_mode (entry, S_IFREG | 0644);
    archive_entry_set_size (entry, G_GINT64_CONSTANT (1) << 60);
    archive_entry_sparse_add_entry (entry, 0, 0);
    g_assert_cmpint (archive_write_header (fixture.tar, entry), ==, ARCHIVE_OK);
    archive_entry_free (entry);
    archive_write_free (fixture.tar);
    fixture.tar = NULL;
  } else
    tar_close (&fixture);
  expect_failure (&fixture, 16 * MIB, row->code);
}

static void
test_names (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *name = g_strnfill (256, 'n');
  tar_add (&fixture, &(Item){ .path = name, .mode = S_IFREG | 0644 });
  tar_close (&fixture);
  expect_failure (&fixture, 16 * MIB, BANGER_ERROR_INVALID_IMAGE);
}

static void
test_path_bound (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autoptr (GString) path = g_string_new (NULL);
  while (path->len < BANGER_EXT4_MAX_PATH)
    g_string_append (path, "d/");
  g_string_append (path, "file");
  tar_add (&fixture, &(Item){ .path = path->str, .mode = S_IFREG | 0644 });
  tar_close (&fixture);
  expect_failure (&fixture, 16 * MIB, BANGER_ERROR_INVALID_IMAGE);
}

static void
test_entry_bound (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autoptr (GError) error = NULL;
  BangerExt4Options options = { .time = 0 };
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (fixture.ext4_fd, &options, &error);
  /* The same name again and again: the bound is on what was ever added, which is what costs memory. */
  BangerExt4Entry entry = { .path = "f", .mode = S_IFREG | 0644 };
  for (guint i = 0; i < BANGER_EXT4_MAX_ENTRIES; i++)
    if (!banger_ext4_writer_add (writer, &entry, &error))
      g_error ("%u: %s", i, error->message);
  g_assert_false (banger_ext4_writer_add (writer, &entry, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_clear_error (&error);
  g_assert_false (banger_ext4_writer_finish (writer, NULL, NULL, &error));
}

static void
test_no_space (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *data = noise (20 * MIB, 2);
  tar_add (&fixture, &(Item){ .path = "f", .mode = S_IFREG | 0644, .data = data, .size = 20 * MIB });
  tar_close (&fixture);
  expect_failure (&fixture, 16 * MIB, BANGER_ERROR_NO_SPACE); /* data */
  expect_failure (&fixture, 24 * MIB, BANGER_ERROR_NO_SPACE); /* tables and journal */
  expect_failure (&fixture, 4 * MIB, BANGER_ERROR_INVALID_SIZE);
  expect_failure (&fixture, BANGER_EXT4_MAX_BYTES + 4096, BANGER_ERROR_INVALID_SIZE);
  g_autoptr (GError) error = NULL;
  make_ext4 (&fixture, 0, NULL, &error);
  g_assert_no_error (error);
  assert_clean (fixture.ext4_path);
}

static void
test_many_inodes (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  for (guint i = 0; i < 3000; i++) {
    g_autofree char *path = g_strdup_printf ("f%u", i);
    tar_add (&fixture, &(Item){ .path = path, .mode = S_IFREG | 0644 });
  }
  tar_close (&fixture);
  /* Four times the usual ratio of one for 16 KiB. */
  g_autoptr (GError) error = NULL;
  make_ext4 (&fixture, 12 * MIB, NULL, &error);
  g_assert_no_error (error);
  assert_clean (fixture.ext4_path);
}

/* A size is found for whatever the content is: more files than a group has inodes, and data that ends where rounding
 * makes the journal grow. Holes are cheap: what counts is where the last block lies. */
static void
test_automatic_files (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autoptr (GError) error = NULL;
  const BangerExt4Options options = { .time = 1 };
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (fixture.ext4_fd, &options, &error);
  for (guint i = 0; i < 70000; i++) {
    g_autofree char *path = g_strdup_printf ("root/%u", i);
    const BangerExt4Entry entry = { .path = path, .mode = S_IFREG | 0644 };
    g_assert_true (banger_ext4_writer_add (writer, &entry, &error));
  }
  banger_ext4_writer_finish (writer, NULL, NULL, &error);
  g_assert_no_error (error);
  assert_clean (fixture.ext4_path);
}

static void
write_blocks_of_data (Fixture *fixture, const guint8 *data, guint mib)
{
  g_autoptr (GError) error = NULL;
  const BangerExt4Options options = { .time = 1 };
  g_autoptr (BangerExt4Writer) writer = banger_ext4_writer_new (fixture->ext4_fd, &options, &error);
  const BangerExt4Entry entry = { .path = "f", .mode = S_IFREG | 0644, .size = mib * MIB };
  g_assert_true (banger_ext4_writer_add (writer, &entry, &error));
  for (guint i = 0; i < mib; i++)
    g_assert_true (banger_ext4_writer_data (writer, data, MIB, i * MIB, &error));
  banger_ext4_writer_finish (writer, NULL, NULL, &error);
  if (error != NULL)
    g_error ("%u MiB: %s", mib, error->message);
  assert_clean (fixture->ext4_path);
}

static void
test_automatic_data (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree guint8 *data = g_malloc0 (MIB);
  for (guint mib = 104; mib <= 124; mib++)
    write_blocks_of_data (&fixture, data, mib);
  for (guint mib = 980; mib <= 992; mib += 2)
    write_blocks_of_data (&fixture, data, mib);
}

/* A gigabyte of zeros in a megabyte of gzip: ends at the size of the file system. */
static void
test_bomb (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *path = g_build_filename (fixture.dir, "bomb", NULL),
                  *zeros = g_build_filename (fixture.dir, "z", NULL);
  int fd = open (zeros, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (ftruncate (fd, 1 << 30), ==, 0);
  close (fd);
  g_autofree char *out = run_program (NULL, "tar", "--use-compress-program=gzip -1", "-cf", path, "-C", fixture.dir,
                                      "z", NULL);
  fd = open (path, O_RDONLY | O_CLOEXEC);
  dup2 (fd, fixture.tar_fd);
  close (fd);
  expect_failure (&fixture, 64 * MIB, BANGER_ERROR_NO_SPACE);
  struct stat st;
  g_assert_cmpint (fstat (fixture.ext4_fd, &st), ==, 0);
  g_assert_cmpint (st.st_size, <=, 64 * MIB);
}

static void
test_no_tar (void)
{
  g_auto (Fixture) fixture;
  fixture_init (&fixture);
  g_autofree char *data = noise (2 * MIB, 3);
  tar_add (&fixture, &(Item){ .path = "f", .mode = S_IFREG | 0644, .data = data, .size = 2 * MIB });
  tar_close (&fixture);
  g_assert_cmpint (ftruncate (fixture.tar_fd, MIB), ==, 0);
  expect_failure (&fixture, 16 * MIB, BANGER_ERROR_INVALID_IMAGE);
  g_assert_cmpint (pwrite (fixture.tar_fd, data, MIB, 0), ==, MIB);
  expect_failure (&fixture, 16 * MIB, BANGER_ERROR_INVALID_IMAGE);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (hostile); i++) {
    g_autofree char *path = g_strconcat ("/ext4/hostile/", hostile[i].name, NULL);
    g_test_add_data_func (path, &hostile[i], test_hostile);
  }
  g_test_add_func ("/ext4/hostile/long-name", test_names);
  g_test_add_func ("/ext4/hostile/long-path", test_path_bound);
  g_test_add_func ("/ext4/hostile/entry-bound", test_entry_bound);
  g_test_add_func ("/ext4/hostile/bomb", test_bomb);
  g_test_add_func ("/ext4/hostile/no-tar", test_no_tar);
  g_test_add_func ("/ext4/no-space", test_no_space);
  g_test_add_func ("/ext4/many-inodes", test_many_inodes);
  g_test_add_func ("/ext4/automatic/files", test_automatic_files);
  g_test_add_func ("/ext4/automatic/data", test_automatic_data);
  return g_test_run ();
}
