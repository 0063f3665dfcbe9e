/* Importing root file systems, and what a build asks for before it starts.
 * Run by meson test.
 * Never uses the network. */
#include "fixture.h"

#include "common/error.h"
#include "common/fd.h"
#include "intake/protocol.h"
#include "manager/image/build.h"
#include "manager/image/mmdebstrap.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MIB ((gsize)1 << 20)

typedef struct {
  char *path;
  int fd;
  char *rootfs, *seed;
} ImageDir;

static void
image_dir_init (ImageDir *dir, Fixture *fixture)
{
  dir->path = g_build_filename (fixture->dir, "state", "images", "image", NULL);
  g_assert_cmpint (g_mkdir_with_parents (dir->path, 0700), ==, 0);
  dir->fd = open (dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  dir->rootfs = g_build_filename (dir->path, "rootfs.ext4", NULL);
  dir->seed = g_build_filename (dir->path, "seed.ext4", NULL);
}

static void
image_dir_clear (ImageDir *dir)
{
  close (dir->fd);
  g_free (dir->path);
  g_free (dir->rootfs);
  g_free (dir->seed);
}

/* What a test has at its beginning: nothing imported yet. */
typedef struct {
  Fixture fixture;
  ImageDir dir;
  BangerImageInfo info;
  GError *error;
} World;

static void
world_init (World *world)
{
  *world = (World){ 0 };
  fixture_init (&world->fixture);
  image_dir_init (&world->dir, &world->fixture);
}

static void
world_clear (World *world)
{
  g_clear_error (&world->error);
  banger_image_info_clear (&world->info);
  image_dir_clear (&world->dir);
  fixture_clear (&world->fixture);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (World, world_clear)

static void
assert_empty (const ImageDir *dir)
{
  g_autoptr (GDir) listing = g_dir_open (dir->path, 0, NULL);
  g_assert_null (g_dir_read_name (listing));
}

/* A root file system as usr-merged distributions have it: /sbin/init over two symbolic links. */
static void
add_rootfs (Fixture *fixture, gboolean init)
{
  const Item items[] = {
    { .path = "sbin", .mode = S_IFLNK | 0777, .symlink = "usr/sbin" },
    { .path = "lib", .mode = S_IFLNK | 0777, .symlink = "usr/lib" },
    { .path = "usr/sbin/init", .mode = S_IFLNK | 0777, .symlink = "/lib/systemd/systemd" },
    { .path = "root", .mode = S_IFDIR | 0700, .mtime = 1600000000 },
    { .path = "root/.bashrc", .mode = S_IFREG | 0644, .data = "alias l=ls\n", .size = 11, .mtime = 1600000001 },
    { .path = "root/again", .mode = S_IFREG, .hardlink = "root/.bashrc" },
    { .path = "root/link", .mode = S_IFLNK | 0777, .symlink = "/usr/lib" },
    { .path = "root/outside", .mode = S_IFREG, .hardlink = "etc/os-release" },
    { .path = "rootless/file", .mode = S_IFREG | 0644 },
  };
  tar_add (fixture, &(Item){ .path = "etc/os-release", .mode = S_IFREG | 0644 });
  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    tar_add (fixture, &items[i]);
  if (init)
    tar_add (fixture,
             &(Item){ .path = "usr/lib/systemd/systemd", .mode = S_IFREG | 0755, .data = "\177ELF", .size = 4 });
}

static void
check_seed (const ImageDir *dir)
{
  assert_clean (dir->seed);
  g_autofree char *dump = dump_ext4 (dir->seed);
  g_autofree char *root = dump_line (dump, ""), *bashrc = dump_line (dump, ".bashrc"),
                  *again = dump_line (dump, "again");
  g_autofree char *link = dump_line (dump, "link");
  g_assert_true (g_str_has_prefix (root, "40700 0 0 1600000000.0 3 "));
  g_assert_true (g_str_has_prefix (bashrc, "100644 0 0 1600000001.0 2 11 "));
  g_assert_cmpstr (bashrc, ==, again);
  g_assert_true (g_str_has_suffix (link, "/usr/lib"));
  g_assert_null (strstr (dump, "systemd"));
  g_assert_null (strstr (dump, "file"));
}

static void
check_image (const ImageDir *dir, const BangerImageInfo *info, guint64 size)
{
  struct stat st;
  g_assert_cmpint (stat (dir->rootfs, &st), ==, 0);
  g_assert_cmpint (st.st_mode, ==, S_IFREG | 0600);
  g_assert_cmpint (st.st_size, ==, size);
  g_assert_cmpuint (info->size_bytes, ==, size);
  g_assert_cmpuint (info->used_bytes, >, 0);
  g_assert_cmpuint (info->used_bytes, <, info->size_bytes);
  g_assert_cmpint (stat (dir->seed, &st), ==, 0);
  g_assert_cmpint (st.st_size, ==, info->seed_bytes);
  g_assert_cmpuint (strlen (info->digest), ==, strlen ("sha256:") + 64);
  assert_clean (dir->rootfs);
  check_seed (dir);
}

/* As the manager opens it: a pipe without a writer is waited for inside. */
static gboolean
import_path (const char *path, int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
             gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info, GError **error)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  g_assert_cmpint (fd, >=, 0);
  return banger_image_import (fd, image_dir_fd, options, progress, progress_data, cancellable, ret_info, error);
}

static void
test_tar_file (void)
{
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_close (&world.fixture);
  g_autofree char *path = g_build_filename (world.fixture.dir, "tar", NULL);
  BangerImageBuildOptions options = { 0 };
  import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error);
  g_assert_no_error (world.error);
  check_image (&world.dir, &world.info, BANGER_IMAGE_DEFAULT_BYTES);
  /* A second import into the same directory touches nothing. */
  g_assert_false (import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error));
  assert_clean (world.dir.rootfs);
  assert_clean (world.dir.seed);
}

static void
test_pipe (void)
{
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_close (&world.fixture);
  g_autofree char *fifo = g_build_filename (world.fixture.dir, "fifo", NULL),
                  *path = g_build_filename (world.fixture.dir, "tar", NULL);
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  g_autoptr (GSubprocess) writer = g_subprocess_new (G_SUBPROCESS_FLAGS_NONE, &world.error, "sh", "-c",
                                                     "sleep 0.3; gzip -c < \"$0\" > \"$1\"", path, fifo, NULL);
  g_assert_no_error (world.error);
  BangerImageBuildOptions options = { .size_bytes = 64 * MIB };
  import_path (fifo, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error);
  g_assert_no_error (world.error);
  check_image (&world.dir, &world.info, 64 * MIB);
  g_assert_true (g_subprocess_wait_check (writer, NULL, &world.error));
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
  g_auto (World) world;
  world_init (&world);
  g_autofree char *fifo = g_build_filename (world.fixture.dir, "fifo", NULL);
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0); /* nobody ever opens the other end */
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  GThread *thread = g_thread_new ("cancel", cancel_later, cancellable);
  BangerImageBuildOptions options = { 0 };
  g_assert_false (import_path (fifo, world.dir.fd, &options, NULL, NULL, cancellable, &world.info, &world.error));
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_thread_join (thread);
  assert_empty (&world.dir);
}

/* What is odd about it */

/* Imports the tar of @fixture. Returns: the sentences about it, joined. */
static char *
import_warnings (Fixture *fixture, const ImageDir *dir)
{
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (GError) error = NULL;
  BangerImageBuildOptions options = { .size_bytes = 64 * MIB };
  tar_close (fixture);
  banger_image_import (fixture->tar_fd, dir->fd, &options, NULL, NULL, NULL, &info, &error);
  g_assert_no_error (error);
  assert_clean (dir->rootfs);
  return g_strjoinv ("\n", info.warnings);
}

static const Item sshd = { .path = "usr/sbin/sshd", .mode = S_IFREG | 0755, .data = "x", .size = 1 };

#define FSTAB                                                                                                          \
  "# a cloud image\nLABEL=cloudimg-rootfs\t/\text4\tdiscard\t0 1\nLABEL=UEFI /boot/efi vfat umask=0077 0 1\n"          \
  "/dev/vda / ext4\nUUID=1-2 /data xfs nofail,ro\nPARTUUID=3 none swap noauto\ntmpfs /tmp tmpfs\n/swapfile none swap " \
  "sw\n"                                                                                                               \
  "LABEL=banger-work /root ext4\nLABEL=short\n/dev/sda1 none swap sw"

static void
test_warnings (void)
{
  static const struct {
    Item items[4];
    const char *words; /* NULL: nothing to say */
  } rows[] = {
    { { { .path = "./", .mode = S_IFDIR | 0755 } }, NULL },
    { { { .path = "./", .mode = S_IFDIR | 01755, .mtime = 5 } }, NULL },
    { { { .path = "./", .mode = S_IFDIR | 0700 } }, "its / has mode 0700 and belongs to 0:0;" },
    { { { .path = "/", .mode = S_IFDIR | 0777 } }, "its / has mode 0777 and belongs to 0:0;" },
    { { { .path = ".", .mode = S_IFDIR | 0755, .uid = 1000, .gid = 1000 } }, "and belongs to 1000:1000;" },
    { { { .path = "etc/fstab", .mode = S_IFREG | 0644, .data = FSTAB, .size = sizeof FSTAB - 1 } },
      "its /etc/fstab names disks that its VMs have not, for which a start does not wait: LABEL=cloudimg-rootfs, "
      "LABEL=UEFI, /dev/sda1" },
    { { { .path = "./etc/fstab", .mode = S_IFREG | 0644, .data = FSTAB, .size = sizeof FSTAB - 1 },
        { .path = "etc/fstab", .mode = S_IFREG | 0644, .data = "proc /proc proc\n", .size = 16 } },
      NULL }, /* the last one counts */
    { { { .path = "etc/fstab", .mode = S_IFREG | 0644 } }, NULL },
    { { { .path = "sbin", .mode = S_IFDIR | 0755 } },
      "sbin was a link to the folder usr/sbin and is a folder of its own" },
    { { { .path = "lib", .mode = S_IFREG | 0644 } },
      "lib was a link to the folder usr/lib and is a file of its own now" },
    { { { .path = "bin", .mode = S_IFLNK | 0777, .symlink = "usr/bin" },
        { .path = "bin", .mode = S_IFREG, .hardlink = "usr/sbin/sshd" },
        { .path = "usr/bin/x", .mode = S_IFREG | 0755 } },
      "bin was a link to the folder usr/bin and is a file" },
    { { { .path = "usr/lib64", .mode = S_IFLNK | 0777, .symlink = "../lib" },
        { .path = "usr/lib64", .mode = S_IFDIR | 0755 } },
      "usr/lib64 was a link to the folder ../lib and is a folder" },
    /* Nothing is lost behind these. */
    { { { .path = "sbin", .mode = S_IFLNK | 0777, .symlink = "./usr/sbin" } }, NULL },
    { { { .path = "f", .mode = S_IFLNK | 0777, .symlink = "etc/os-release" }, { .path = "f", .mode = S_IFREG } },
      NULL },
    { { { .path = "g", .mode = S_IFLNK | 0777, .symlink = "nowhere" }, { .path = "g", .mode = S_IFDIR | 0755 } },
      NULL },
    { { { .path = "h", .mode = S_IFLNK | 0777, .symlink = "usr" },
        { .path = "h", .mode = S_IFREG },
        { .path = "h", .mode = S_IFLNK | 0777, .symlink = "usr" } },
      NULL },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_auto (World) world;
    world_init (&world);
    add_rootfs (&world.fixture, TRUE);
    tar_add (&world.fixture, &sshd);
    for (guint n = 0; n < G_N_ELEMENTS (rows[i].items) && rows[i].items[n].path != NULL; n++)
      tar_add (&world.fixture, &rows[i].items[n]);
    g_autofree char *text = import_warnings (&world.fixture, &world.dir);
    if (rows[i].words == NULL ? *text != '\0' : strstr (text, rows[i].words) == NULL || strchr (text, '\n') != NULL)
      g_error ("row %u says '%s'", i, text);
    g_autofree char *dump = dump_ext4 (world.dir.rootfs), *root = dump_line (dump, "");
    g_assert_true (g_str_has_prefix (root, i == 1 ? "41755 0 0 " : "40755 0 0 "));
  }
}

static void
test_foreign_xattrs (void)
{
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_add (&world.fixture, &sshd);
  for (guint i = 0; i < 2; i++) {
    struct archive_entry *entry = archive_entry_new ();
    archive_entry_copy_pathname (entry, i == 0 ? "one" : "two");
    archive_entry_set_mode (entry, S_IFREG | 0644);
    archive_entry_xattr_add_entry (entry, i == 0 ? "com.apple.FinderInfo" : "com.apple.quarantine", "x", 1);
    archive_entry_xattr_add_entry (entry, "user.kept", "x", 1);
    tar_add_entry (&world.fixture, entry, NULL, 0);
  }
  g_autofree char *text = import_warnings (&world.fixture, &world.dir);
  g_assert_cmpstr (text, ==,
                   "2 extended attributes are not in the image, as Linux would not show them there: of them "
                   "com.apple.FinderInfo");
  g_autofree char *dump = dump_ext4 (world.dir.rootfs), *one = dump_line (dump, "one");
  g_assert_nonnull (strstr (one, " user.kept="));
}

static void
test_no_sshd (void)
{
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  g_autofree char *text = import_warnings (&world.fixture, &world.dir);
  g_assert_nonnull (strstr (text, "no ssh server inside"));
}

/* banger's own takes its place: told, not refused. */
static void
test_no_init (void)
{
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, FALSE);
  tar_add (&world.fixture, &sshd); /* which nobody starts */
  g_autofree char *text = import_warnings (&world.fixture, &world.dir);
  g_assert_nonnull (strstr (text, "no init program inside"));
  g_assert_nonnull (strstr (text, "no ssh server either"));
}

/* Cut at every place where an entry could begin, and between. */
static void
test_cut (void)
{
  gsize length;
  g_auto (World) world;
  g_autofree char *whole = NULL;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_close (&world.fixture);
  g_autofree char *path = g_build_filename (world.fixture.dir, "tar", NULL);
  g_assert_true (g_file_get_contents (path, &whole, &length, NULL));
  gsize end = length;
  while (end > 0 && whole[end - 1] == '\0')
    end--;
  end = (end + 511) / 512 * 512; /* the mark of the end begins here */
  g_assert_cmpuint (length, >=, end + 1024);
  BangerImageBuildOptions options = { .size_bytes = 64 * MIB };
  for (gsize cut = 256; cut <= end; cut += 256) {
    g_autoptr (GError) error = NULL;
    g_auto (BangerImageInfo) info = { 0 };
    g_assert_true (g_file_set_contents (path, whole, (gssize)cut, NULL));
    if (import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &info, &error))
      g_error ("%" G_GSIZE_FORMAT " bytes of %" G_GSIZE_FORMAT " are an image", cut, length);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE);
    assert_empty (&world.dir);
  }
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_true (g_file_set_contents (path, whole, (gssize)end + 1024, NULL)); /* without padding */
  import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &info, &error);
  g_assert_no_error (error);
}

/* The program that reads it was taken over and lies about what it made. */
static void
test_lies (void)
{
  static const char *const names[] = { "lie-size", "lie-used", "lie-seed", "lie-nothing", "die", "mute" };
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_close (&world.fixture);
  g_autofree char *path = g_build_filename (world.fixture.dir, "tar", NULL);
  g_autofree char *before = g_strdup (g_getenv ("BANGER_INTAKE"));
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autoptr (GError) error = NULL;
    g_auto (BangerImageInfo) info = { 0 };
    g_autofree char *program = g_build_filename (world.fixture.dir, names[i], NULL);
    BangerImageBuildOptions options = { 0 };
    g_assert_cmpint (symlink (g_getenv ("FAKE_INTAKE"), program), ==, 0);
    g_setenv ("BANGER_INTAKE", program, TRUE);
    g_assert_false (import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &info, &error));
    g_assert_nonnull (error);
    assert_empty (&world.dir);
  }
  g_setenv ("BANGER_INTAKE", before, TRUE);
}

/* ext4 files, made by mke2fs so that the reader meets another writer than ours */

static char *
make_foreign_ext4 (Fixture *fixture, const char *features)
{
  add_rootfs (fixture, TRUE);
  tar_close (fixture);
  g_autofree char *tar = g_build_filename (fixture->dir, "tar", NULL),
                  *tree = g_build_filename (fixture->dir, "tree", NULL);
  char *path = g_build_filename (fixture->dir, "foreign", NULL);
  g_assert_cmpint (mkdir (tree, 0700), ==, 0);
  g_autofree char *unpacked = run_program (NULL, "tar", "--no-same-owner", "-xf", tar, "-C", tree, NULL);
  g_autofree char *made = run_program (NULL, "mke2fs", "-q", "-F", "-t", "ext4", "-O", features, "-E", "root_owner=0:0",
                                       "-d", tree, path, "64M", NULL);
  return path;
}

static void
test_ext4 (gconstpointer features)
{
  if (!is_root ()) {
    g_test_skip ("mke2fs -d gives files to whoever runs it: only as root are they root's");
    return;
  }
  g_auto (World) world;
  world_init (&world);
  g_autofree char *path = make_foreign_ext4 (&world.fixture, features);
  BangerImageBuildOptions options = { 0 };
  import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error);
  g_assert_no_error (world.error);
  check_image (&world.dir, &world.info, 64 * MIB);
  g_autofree char *sum = run_program (NULL, "sha256sum", path, NULL);
  g_assert_cmpmem (world.info.digest + 7, 64, sum, 64);
  struct stat st;
  g_assert_cmpint (stat (world.dir.rootfs, &st), ==, 0);
  g_assert_cmpint (st.st_blocks * 512, <, 48 * MIB);
}

/* What must be refused: a debugfs or shell command on the file, and the options. */
static const struct {
  const char *name, *command;
  guint64 size;
  int code;
} bad_ext4[] = {
  { "unclean", "debugfs -w -R 'ssv state 0' \"$0\"", 0, BANGER_ERROR_INVALID_IMAGE },
  { "errors", "debugfs -w -R 'ssv state 3' \"$0\"", 0, BANGER_ERROR_INVALID_IMAGE },
  { "journal", "debugfs -w -R 'feature +needs_recovery' \"$0\"", 0, BANGER_ERROR_INVALID_IMAGE },
  { "features", "debugfs -w -R 'feature +encrypt' \"$0\"", 0, BANGER_ERROR_INVALID_IMAGE },
  { "truncated", "truncate -s 32M \"$0\"", 0, BANGER_ERROR_INVALID_IMAGE },
  { "superblock", "printf '\\377' | dd of=\"$0\" bs=1 seek=1100 conv=notrunc", 0, BANGER_ERROR_INVALID_IMAGE },
  { "bitmap", "dd if=/dev/urandom of=\"$0\" bs=4096 seek=3 count=500 conv=notrunc", 0, BANGER_ERROR_INVALID_IMAGE },
  { "size", "true", 128 << 20, BANGER_ERROR_INVALID_SIZE },
};

static void
test_bad_ext4 (gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  g_auto (World) world;
  world_init (&world);
  g_autofree char *path = make_foreign_ext4 (&world.fixture, "has_journal");
  g_autofree char *out = run_program (NULL, "sh", "-c", bad_ext4[row].command, path, NULL);
  BangerImageBuildOptions options = { .size_bytes = bad_ext4[row].size };
  g_assert_false (import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error));
  g_test_message ("%s", world.error->message);
  g_assert_error (world.error, BANGER_ERROR, (int)bad_ext4[row].code);
  assert_empty (&world.dir);
}

static void
refuse_link (World *world, const char *path, int code)
{
  struct stat st;
  const BangerImageBuildOptions options = { .link = TRUE };
  g_assert_false (import_path (path, world->dir.fd, &options, NULL, NULL, NULL, &world->info, &world->error));
  g_assert_error (world->error, BANGER_ERROR, code);
  g_clear_error (&world->error);
  assert_empty (&world->dir);
  g_assert_cmpint (stat (path, &st), ==, 0);
}

static void
write_meanwhile (const char *stage, gpointer data)
{
  g_assert_cmpint (open (data, O_RDWR | O_NONBLOCK | O_CLOEXEC), ==, -1);
  g_assert_cmpint (errno, ==, EWOULDBLOCK);
}

/* The image is the very file, which stays where it is whatever becomes of the import. */
static void
test_link (void)
{
  if (!is_root ()) {
    g_test_skip ("mke2fs -d gives files to whoever runs it: only as root are they root's");
    return;
  }
  struct stat before, after;
  g_auto (World) world;
  world_init (&world);
  g_autofree char *path = make_foreign_ext4 (&world.fixture, "has_journal"),
                  *second = g_strconcat (path, ".second", NULL),
                  *tar = g_build_filename (world.fixture.dir, "tar", NULL);
  refuse_link (&world, tar, BANGER_ERROR_INVALID_IMAGE);
  g_assert_cmpint (link (path, second), ==, 0);
  refuse_link (&world, path, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (unlink (second), ==, 0);
  int writer = open (path, O_RDWR | O_CLOEXEC);
  refuse_link (&world, path, BANGER_ERROR_IN_USE);
  close (writer);
  g_autofree char *ours = g_build_filename (world.fixture.dir, "state", "images", "other.ext4", NULL);
  g_assert_cmpint (rename (path, ours), ==, 0);
  refuse_link (&world, ours, BANGER_ERROR_INVALID_PATH);
  g_assert_cmpint (rename (ours, path), ==, 0);
  const BangerImageBuildOptions beside = { .link = TRUE, .stage = write_meanwhile, .stage_data = path };
  g_assert_false (import_path (path, world.dir.fd, &beside, NULL, NULL, NULL, &world.info, &world.error));
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_clear_error (&world.error);
  assert_empty (&world.dir);
  g_autofree char *dirty = run_program (NULL, "debugfs", "-w", "-R", "ssv state 0", path, NULL);
  refuse_link (&world, path, BANGER_ERROR_INVALID_IMAGE);
  g_autofree char *clean = run_program (NULL, "debugfs", "-w", "-R", "ssv state 1", path, NULL);
  g_assert_cmpint (chmod (path, 0644), ==, 0);
  g_assert_cmpint (stat (path, &before), ==, 0);
  const BangerImageBuildOptions options = { .link = TRUE };
  import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error);
  g_assert_no_error (world.error);
  check_image (&world.dir, &world.info, 64 * MIB);
  g_assert_cmpint (stat (world.dir.rootfs, &after), ==, 0);
  g_assert_true (before.st_ino == after.st_ino && after.st_nlink == 2 && (after.st_mode & 07777) == 0600);
}

/* A small file whose names would be gigabytes: each entry is kept with its whole path. */
static void
test_long_paths (void)
{
  if (!is_root ()) {
    g_test_skip ("mke2fs -d gives files to whoever runs it: only as root are they root's");
    return;
  }
  g_auto (World) world;
  world_init (&world);
  add_rootfs (&world.fixture, TRUE);
  tar_close (&world.fixture);
  static const char script[] = "cd \"$0\"; mkdir tree; tar --no-same-owner -xf tar -C tree; python3 - <<'END'\n"
                               "import os\n"
                               "os.makedirs('tree/root', exist_ok=True); os.chdir('tree/root')\n"
                               "for _ in range(62):\n"
                               "    os.mkdir('d' * 255); os.chdir('d' * 255)\n"
                               "open('f', 'w').close()\n"
                               "for i in range(18000): os.link('f', str(i))\n"
                               "END\n"
                               "mke2fs -q -F -t ext4 -O ^dir_index -E root_owner=0:0 -d tree foreign 64M";
  g_autofree char *made = run_program (NULL, "sh", "-ec", script, world.fixture.dir, NULL);
  g_autofree char *path = g_build_filename (world.fixture.dir, "foreign", NULL);
  BangerImageBuildOptions options = { 0 };
  g_assert_false (import_path (path, world.dir.fd, &options, NULL, NULL, NULL, &world.info, &world.error));
  g_assert_error (world.error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE);
  g_assert_nonnull (strstr (world.error->message, "too many and too deep"));
  assert_empty (&world.dir);
}

/* Before a build */

static void
test_arguments (void)
{
  static const char *const no_packages[] = { NULL }, *const packages[] = { "g++", "python3.11", NULL };
  static const char *const option[] = { "--hook=x", NULL }, *const comma[] = { "vim,--x", NULL };
  static const char *const empty[] = { "", NULL }, *const upper[] = { "Vim", NULL };
  const struct {
    BangerImageBuildOptions options;
    gboolean good;
  } rows[] = { { { .packages = no_packages }, TRUE },
               { { .packages = packages, .suite = "trixie", .mirror = "http://mirror.example/debian" }, TRUE },
               { { .packages = option }, FALSE },
               { { .packages = comma }, FALSE },
               { { .packages = empty }, FALSE },
               { { .packages = upper }, FALSE },
               { { .suite = "--help" }, FALSE },
               { { .suite = "../x" }, FALSE },
               { { .suite = "" }, FALSE },
               { { .mirror = "file:///etc" }, FALSE },
               { { .mirror = "http://x/ [trusted=yes]" }, FALSE },
               { { .mirror = "http://x\ndeb y" }, FALSE } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_auto (GStrv) argv = banger_mmdebstrap_arguments (&rows[i].options, &error);
    g_assert_cmpint (argv != NULL, ==, rows[i].good);
    if (!rows[i].good)
      g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  }
}

static void
test_subids (void)
{
  const struct {
    const char *text;
    gboolean good;
  } rows[] = { { "dev:100000:65536\n", TRUE },    { "1000:100000:65536", TRUE },
               { "a:1:1\ndev:5:70000\n", TRUE },  { "dev:100000:65535\n", FALSE },
               { "devel:100000:65536\n", FALSE }, { "", FALSE },
               { "dev:100000\ndev:::\n", FALSE }, { "dev:100000:30000\ndev:200000:40000\n", FALSE } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (banger_subids_enough (rows[i].text, "dev", 1000), ==, rows[i].good);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/import/tar", test_tar_file);
  g_test_add_func ("/import/pipe", test_pipe);
  g_test_add_func ("/import/no-init", test_no_init);
  g_test_add_func ("/import/warnings", test_warnings);
  g_test_add_func ("/import/foreign-xattrs", test_foreign_xattrs);
  g_test_add_func ("/import/no-sshd", test_no_sshd);
  g_test_add_func ("/import/cut", test_cut);
  g_test_add_func ("/import/lies", test_lies);
  g_test_add_func ("/import/cancel", test_cancel);
  g_test_add_data_func ("/import/ext4/modern", "has_journal,metadata_csum,64bit", test_ext4);
  g_test_add_data_func ("/import/ext4/ext2-maps", "^extents,^has_journal,^metadata_csum,^64bit,^flex_bg", test_ext4);
  for (guint i = 0; i < G_N_ELEMENTS (bad_ext4); i++) {
    g_autofree char *path = g_strconcat ("/import/bad-ext4/", bad_ext4[i].name, NULL);
    g_test_add_data_func (path, GUINT_TO_POINTER (i), test_bad_ext4);
  }
  g_test_add_func ("/import/ext4/link", test_link);
  g_test_add_func ("/import/bad-ext4/long-paths", test_long_paths);
  g_test_add_func ("/build/arguments", test_arguments);
  g_test_add_func ("/build/subids", test_subids);
  return g_test_run ();
}
