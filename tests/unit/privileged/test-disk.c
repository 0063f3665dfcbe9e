/* Files in ext4 images: what is read and written, what is refused and changes nothing, and what a broken image can do.
 * Run by meson test; the program itself and the check of a snapshot need root and then say so.
 * Never touches a disk outside its own temporary folder. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/fd.h"
#include "common/safe-path.h"
#include "disk/ext4.h"
#include "privileged/disk.h"
#include "privileged/loop.h"
#include "privileged/worker.h"
#include "need-root.h"

#define NOBODY 65534
#define LIMIT BANGER_DISK_MAX_BYTES

typedef struct {
  char *dir, *image;
} Fixture;

static void
run (const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *command = g_strdup_vprintf (format, args), *err = NULL, *out = NULL;
  va_end (args);
  int status = 0;
  g_assert_true (g_spawn_command_line_sync (command, &out, &err, &status, NULL));
  if (status != 0)
    g_error ("%s: %s%s", command, out, err);
}

static void
put (const char *folder, const char *name, const char *text, gssize length)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  g_assert_true (g_file_set_contents (path, text, length, NULL));
}

static void
populate (const char *tree)
{
  g_autofree char *etc = g_build_filename (tree, "etc", NULL), *full = g_build_filename (tree, "limit", NULL);
  g_autofree char *over = g_build_filename (tree, "over", NULL), *fifo = g_build_filename (tree, "fifo", NULL);
  g_autofree char *leaf = g_build_filename (etc, "link", NULL), *dir = g_build_filename (tree, "linked", NULL);
  g_autofree char *first = g_build_filename (etc, "one", NULL), *second = g_build_filename (etc, "two", NULL);
  g_assert_cmpint (g_mkdir (etc, 0755), ==, 0);
  put (etc, "hostname", "web\n", -1);
  put (etc, "one", "two names\n", -1);
  put (tree, "limit", "", 0);
  put (tree, "over", "", 0);
  g_assert_cmpint (truncate (full, LIMIT), ==, 0);
  g_assert_cmpint (truncate (over, LIMIT + 1), ==, 0);
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  g_assert_cmpint (symlink ("hostname", leaf), ==, 0);
  g_assert_cmpint (symlink ("etc", dir), ==, 0);
  g_assert_cmpint (link (first, second), ==, 0);
}

static void
setup (Fixture *f, gconstpointer features)
{
  f->dir = g_dir_make_tmp ("banger-disk-XXXXXX", NULL);
  f->image = g_build_filename (f->dir, "image", NULL);
  g_autofree char *tree = g_build_filename (f->dir, "tree", NULL);
  g_assert_cmpint (g_chmod (f->dir, 0711), ==, 0);
  g_assert_cmpint (g_mkdir (tree, 0755), ==, 0);
  populate (tree);
  run ("mke2fs -q -t ext4 %s -d %s %s 16m", (const char *)features, tree, f->image);
}

static void
teardown (Fixture *f, gconstpointer features)
{
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (f->dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  g_free (f->dir);
  g_free (f->image);
}

static int
open_request (gpointer path, GError **error)
{
  return open (path, O_RDONLY | O_CLOEXEC);
}

static GByteArray *
request_of (guint32 verb, guint64 image_bytes, const BangerDiskFile *files, guint32 n)
{
  const BangerDiskRequest request = { verb, n, image_bytes };
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *)&request, sizeof request);
  for (guint32 i = 0; i < n; i++) {
    const BangerDiskEntry entry = { (guint32)strlen (files[i].path), files[i].mode, files[i].length };
    g_byte_array_append (bytes, (const guint8 *)&entry, sizeof entry);
    g_byte_array_append (bytes, (const guint8 *)files[i].path, entry.path_length);
    if (files[i].length)
      g_byte_array_append (bytes, files[i].data, (guint)files[i].length);
  }
  return bytes;
}

static BangerDiskStatus
serve (const char *image, guint32 verb, const BangerDiskFile *files, guint32 n, char **ret_text, guint32 *ret_which)
{
  BangerDiskAnswer answer;
  void *data = NULL;
  struct stat st;
  int fd = open (image, (verb == BANGER_DISK_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC); /* closed by the service */
  g_assert_cmpint (fstat (fd, &st), ==, 0);
  g_autoptr (GByteArray) request = request_of (verb, (guint64)st.st_size, files, n);
  banger_disk_serve (request->data, request->len, fd, &answer, &data);
  g_assert_cmpuint (answer.status, <, BANGER_DISK_N_STATUS);
  if (ret_text)
    *ret_text = data ? g_strndup (data, answer.length) : NULL;
  if (ret_which)
    *ret_which = answer.which;
  free (data);
  return answer.status;
}

static BangerDiskStatus
read_path (const Fixture *f, const char *path, char **ret_text)
{
  const BangerDiskFile file = { .path = path };
  return serve (f->image, BANGER_DISK_READ, &file, 1, ret_text, NULL);
}

static BangerDiskStatus
write_path (const Fixture *f, const char *path, const char *text)
{
  const BangerDiskFile file = { path, 0640, text, strlen (text) };
  return serve (f->image, BANGER_DISK_WRITE, &file, 1, NULL, NULL);
}

static char *
sum_of (const Fixture *f)
{
  g_autofree char *bytes = NULL;
  size_t length = 0;
  g_assert_true (g_file_get_contents (f->image, &bytes, &length, NULL));
  return g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guint8 *)bytes, length);
}

static const struct {
  const char *path;
  BangerDiskStatus status;
} refused[] = {
  { "/nothing", BANGER_DISK_NO_FILE },          { "/etc/nothing", BANGER_DISK_NO_FILE },
  { "/nowhere/hostname", BANGER_DISK_NO_FILE }, { "/etc", BANGER_DISK_NOT_PLAIN },
  { "/etc/link", BANGER_DISK_NOT_PLAIN },       { "/linked/hostname", BANGER_DISK_NOT_PLAIN },
  { "/etc/link/x", BANGER_DISK_NOT_PLAIN },     { "/etc/hostname/x", BANGER_DISK_NOT_PLAIN },
  { "/fifo", BANGER_DISK_NOT_PLAIN },           { "/over", BANGER_DISK_TOO_LARGE },
  { "/lost+found", BANGER_DISK_NOT_PLAIN },
};

static void
test_read (Fixture *f, gconstpointer data)
{
  g_autofree char *text = NULL, *full = NULL, *sum = sum_of (f), *after = NULL;
  g_assert_cmpint (read_path (f, "/etc/hostname", &text), ==, BANGER_DISK_OK);
  g_assert_cmpstr (text, ==, "web\n");
  g_assert_cmpint (read_path (f, "/limit", &full), ==, BANGER_DISK_OK);
  for (size_t i = 0; i < G_N_ELEMENTS (refused); i++)
    if (read_path (f, refused[i].path, NULL) != refused[i].status)
      g_error ("%s", refused[i].path);
  after = sum_of (f);
  g_assert_cmpstr (sum, ==, after);
}

static void
test_write (Fixture *f, gconstpointer data)
{
  g_autofree char *replaced = NULL, *made = NULL, *longer = g_strnfill (300000, 'x'), *whole = NULL, *empty = NULL;
  g_assert_cmpint (write_path (f, "/etc/hostname", "other\n"), ==, BANGER_DISK_OK);
  g_assert_cmpint (write_path (f, "/etc/new", "new\n"), ==, BANGER_DISK_OK);
  g_assert_cmpint (write_path (f, "/root-file", longer), ==, BANGER_DISK_OK);
  g_assert_cmpint (write_path (f, "/etc/empty", ""), ==, BANGER_DISK_OK);
  g_assert_cmpint (read_path (f, "/etc/hostname", &replaced), ==, BANGER_DISK_OK);
  g_assert_cmpstr (replaced, ==, "other\n");
  g_assert_cmpint (read_path (f, "/etc/new", &made), ==, BANGER_DISK_OK);
  g_assert_cmpstr (made, ==, "new\n");
  g_assert_cmpint (read_path (f, "/root-file", &whole), ==, BANGER_DISK_OK);
  g_assert_cmpstr (whole, ==, longer);
  g_assert_cmpint (read_path (f, "/etc/empty", &empty), ==, BANGER_DISK_OK);
  g_assert_cmpstr (empty, ==, "");
  run ("e2fsck -fn %s", f->image);
}

/* More names than a folder's first block holds, and the most that one request takes. */
static void
test_write_many (Fixture *f, gconstpointer data)
{
  BangerDiskFile files[BANGER_DISK_MAX_FILES];
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < G_N_ELEMENTS (files); i++) {
    g_ptr_array_add (names, g_strdup_printf ("/etc/%0200u", i));
    files[i] = (BangerDiskFile){ names->pdata[i], 0600, names->pdata[i], strlen (names->pdata[i]) };
  }
  g_assert_cmpint (serve (f->image, BANGER_DISK_WRITE, files, G_N_ELEMENTS (files), NULL, NULL), ==, BANGER_DISK_OK);
  g_autofree char *text = NULL;
  g_assert_cmpint (read_path (f, names->pdata[63], &text), ==, BANGER_DISK_OK);
  g_assert_cmpstr (text, ==, names->pdata[63]);
  run ("e2fsck -fn %s", f->image);
}

static void
test_write_refused (Fixture *f, gconstpointer data)
{
  g_autofree char *before = sum_of (f), *huge = g_strnfill (LIMIT, 'x');
  for (size_t i = 0; i < G_N_ELEMENTS (refused); i++) {
    if (g_str_has_suffix (refused[i].path, "/nothing") || g_str_equal (refused[i].path, "/over"))
      continue; /* those can be written */
    if (write_path (f, refused[i].path, "x") != refused[i].status)
      g_error ("%s", refused[i].path);
  }
  g_assert_cmpint (write_path (f, "/etc/one", "x"), ==, BANGER_DISK_NOT_PLAIN); /* has a second name */
  /* The last of several is wrong: none is written. */
  const BangerDiskFile mixed[] = { { "/etc/hostname", 0600, "x", 1 }, { "/etc/link", 0600, "x", 1 } };
  guint32 which = 9;
  g_assert_cmpint (serve (f->image, BANGER_DISK_WRITE, mixed, 2, NULL, &which), ==, BANGER_DISK_NOT_PLAIN);
  g_assert_cmpuint (which, ==, 1);
  const BangerDiskFile full[] = {
    { "/a", 0600, huge, LIMIT }, { "/b", 0600, huge, LIMIT }, { "/c", 0600, huge, LIMIT }, { "/d", 0600, huge, LIMIT }
  };
  g_assert_cmpint (serve (f->image, BANGER_DISK_WRITE, full, 4, NULL, NULL), ==, BANGER_DISK_NO_SPACE);
  g_autofree char *after = sum_of (f);
  g_assert_cmpstr (before, ==, after);
}

static void
patch (const Fixture *f, off_t offset, guint8 value)
{
  banger_autofd int fd = open (f->image, O_RDWR | O_CLOEXEC);
  g_assert_cmpint (pwrite (fd, &value, 1, offset), ==, 1);
}

static void
test_unclean (Fixture *f, gconstpointer data)
{
  patch (f, 1024 + 58, 0); /* s_state: not unmounted cleanly */
  g_assert_cmpint (read_path (f, "/etc/hostname", NULL), ==, BANGER_DISK_UNCLEAN);
  g_assert_cmpint (write_path (f, "/etc/hostname", "x"), ==, BANGER_DISK_UNCLEAN);
  patch (f, 1024 + 58, 1 | 2); /* clean, but with errors */
  g_assert_cmpint (write_path (f, "/etc/hostname", "x"), ==, BANGER_DISK_UNCLEAN);
  patch (f, 1024 + 58, 1);
  g_assert_cmpint (write_path (f, "/etc/hostname", "x"), ==, BANGER_DISK_OK);
  g_assert_cmpint (truncate (f->image, 15 << 20), ==, 0);
  g_assert_cmpint (read_path (f, "/etc/hostname", NULL), ==, BANGER_DISK_BAD_IMAGE);
  g_assert_cmpint (truncate (f->image, 0), ==, 0);
  g_assert_cmpint (read_path (f, "/etc/hostname", NULL), !=, BANGER_DISK_OK);
  g_assert_true (g_file_set_contents (f->image, "#!/bin/sh\n", -1, NULL));
  g_assert_cmpint (write_path (f, "/etc/hostname", "x"), !=, BANGER_DISK_OK);
}

/* Not one of these may crash, hang or write beyond the image. */
static void
test_mutations (Fixture *f, gconstpointer data)
{
  g_autoptr (GRand) random = g_rand_new_with_seed (20240607);
  g_autofree char *good = NULL;
  size_t length = 0;
  guint served = 0;
  g_assert_true (g_file_get_contents (f->image, &good, &length, NULL));
  for (int round = 0; round < 100; round++) {
    struct stat st;
    g_assert_true (g_file_set_contents (f->image, good, (gssize)length, NULL));
    /* The superblock, the group's tables and the first inodes: where structure is. */
    for (int i = g_rand_int_range (random, 1, 12); i > 0; i--)
      patch (f, g_rand_int_range (random, 1024, round % 2 ? 2048 : 400 * 1024),
             (guint8)g_rand_int_range (random, 0, 256));
    served += read_path (f, "/etc/hostname", NULL) == BANGER_DISK_OK;
    (void)write_path (f, "/etc/hostname", "changed");
    (void)write_path (f, "/etc/another", "made");
    g_assert_cmpint (stat (f->image, &st), ==, 0);
    g_assert_cmpuint ((size_t)st.st_size, ==, length);
  }
  g_test_message ("%u of 100 broken images were still read", served);
}

static void
test_requests (Fixture *f, gconstpointer data)
{
  const BangerDiskFile file = { "/etc/hostname", 0600, "x", 1 };
  g_autoptr (GByteArray) good = request_of (BANGER_DISK_READ, 16 << 20, &file, 1);
  BangerDiskAnswer answer;
  void *nothing;
  for (guint length = 0; length < good->len; length++) { /* each cut short */
    banger_disk_serve (good->data, length, -1, &answer, &nothing);
    g_assert_cmpuint (answer.status, ==, BANGER_DISK_FAILED);
    g_assert_null (nothing);
  }
}

/* banger-disk itself, under its filter of system calls. */
static void
test_program (Fixture *f, gconstpointer data)
{
  static const char *const argv[] = { "banger-disk", NULL };
  int status = -1;
  g_autoptr (GError) error = NULL;
  if (!need_root ())
    return;
  g_assert_cmpint (chown (f->image, NOBODY, NOBODY), ==, 0);
  banger_autofd int program = open (g_getenv ("BANGER_DISK"), O_PATH | O_CLOEXEC);
  banger_autofd int image = open (f->image, O_RDWR | O_CLOEXEC);
  g_autofree char *long_text = g_strnfill (1 << 20, 'y');
  const BangerDiskFile files[] = { { "/etc/hostname", 0600, long_text, 1 << 20 }, { "/etc/made", 0600, "x", 1 } };
  for (guint32 verb = BANGER_DISK_WRITE; verb >= BANGER_DISK_READ; verb--) {
    g_autoptr (GByteArray) request = request_of (verb, 16 << 20, files, 2);
    g_autofree char *path = g_build_filename (f->dir, "request", NULL);
    g_assert_true (g_file_set_contents (path, (const char *)request->data, request->len, NULL));
    const BangerWorker worker = { .program_fd = program,
                                  .argv = argv,
                                  .uid = NOBODY,
                                  .gid = NOBODY,
                                  .request = open_request,
                                  .request_data = path,
                                  .image_fd = image,
                                  .file_bytes = 16 << 20,
                                  .memory_bytes = G_GUINT64_CONSTANT (1) << 30,
                                  .seconds = 30,
                                  .max_output = LIMIT + 100 };
    g_autoptr (GByteArray) output = banger_worker_run (&worker, "banger-disk", &status, &error);
    g_assert_no_error (error);
    g_assert_cmpint (status, ==, 0);
    const BangerDiskAnswer *answer = (const BangerDiskAnswer *)(const void *)output->data;
    g_assert_cmpuint (answer->status, ==, BANGER_DISK_OK);
    if (verb == BANGER_DISK_READ)
      g_assert_true (answer->length == 1 << 20 && memcmp (output->data + sizeof *answer, long_text, 1 << 20) == 0);
  }
  run ("e2fsck -fn %s", f->image);
}

/* While it waits for somebody to take a long answer, its filter can be seen from outside. */
static void
test_filter (Fixture *f, gconstpointer data)
{
#ifdef __SANITIZE_ADDRESS__
  g_test_skip ("sanitizers need more system calls than the filter allows");
#else
  const BangerDiskFile file = { .path = "/limit" };
  g_autoptr (GByteArray) request = request_of (BANGER_DISK_READ, 16 << 20, &file, 1);
  g_autofree char *path = g_build_filename (f->dir, "request", NULL), *text = NULL;
  int pipes[2];
  g_assert_true (g_file_set_contents (path, (const char *)request->data, request->len, NULL));
  g_assert_cmpint (pipe2 (pipes, O_CLOEXEC), ==, 0);
  pid_t pid = fork ();
  if (pid == 0) {
    int image = open (f->image, O_RDONLY), in = open (path, O_RDONLY);
    dup2 (in, 0);
    dup2 (pipes[1], 1);
    dup2 (image, 3);
    execl (g_getenv ("BANGER_DISK"), "banger-disk", NULL);
    _exit (127);
  }
  g_autofree char *status = g_strdup_printf ("/proc/%d/status", pid);
  for (int i = 0; i < 1000 && !(text && strstr (text, "\nSeccomp:\t2\n")); i++) {
    g_clear_pointer (&text, g_free);
    g_assert_true (g_file_get_contents (status, &text, NULL, NULL));
    g_usleep (10000);
  }
  g_assert_nonnull (strstr (text, "\nSeccomp:\t2\n"));
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  close (pipes[0]);
  close (pipes[1]);
#endif
}

/* Of each line "name=errno". */
static guint
check_refused (const char *text)
{
  guint n = 0;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; strchr (*line, '='); line++, n++) {
    if (g_str_has_prefix (*line, "uid=") || g_str_has_prefix (*line, "gid=") || g_str_has_prefix (*line, "pid="))
      continue;
    if (g_str_has_suffix (*line, "=0"))
      g_error ("e2fsck's stand-in may: %s", *line);
  }
  return n;
}

/* A stand-in that was taken over says on the only thing that it can write, its disk, what it could do. */
static void
test_check_taken_over (Fixture *f, gconstpointer data)
{
  BangerInstall install = { .owner_uid = NOBODY, .owner_gid = NOBODY, .state_dir = f->dir, .max_workers = 1 };
  BangerRoot root = { .install = &install };
  g_autoptr (GError) error = NULL;
  g_autofree char *jail = g_build_filename (f->dir, BANGER_JAIL_DIR, NULL);
  dev_t device;
  if (!need_root ())
    return;
  install.tool_e2fsck = (char *)g_getenv ("BANGER_CAGE_PROBE");
  banger_autofd int fit = banger_gate_exec (install.tool_e2fsck, NULL);
  banger_autofd int image = open (f->image, O_RDWR | O_CLOEXEC);
  banger_autofd int loop = fit < 0 ? -1 : banger_loop_attach (image, FALSE, &device, NULL);
  if (loop < 0) {
    g_test_skip ("needs loop devices, and a build folder that is root's");
    return;
  }
  g_assert_cmpint (g_mkdir (jail, 0711), ==, 0);
  const char *result = banger_disk_check (&root, device, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (result, ==, "clean");
  g_autofree char *said = g_malloc0 (65536);
  g_assert_cmpint (fsync (loop), ==, 0);
  g_assert_cmpint (pread (image, said, 65535, 0), ==, 65535);
  g_test_message ("%s", said);
  g_assert_cmpuint (check_refused (said), >, 40);
  g_assert_nonnull (strstr (said, "\nexecveat=2\n"));
  banger_clear_fd (&loop);
  banger_loop_sweep ();
}

/* e2fsck over a block device that only root can open: a loop takes the snapshot's place. */
static void
test_check (Fixture *f, gconstpointer data)
{
  BangerInstall install = { .owner_uid = NOBODY, .owner_gid = NOBODY, .state_dir = f->dir };
  BangerRoot root = { .install = &install };
  g_autoptr (GError) error = NULL, refused_program = NULL;
  g_autofree char *jail = g_build_filename (f->dir, BANGER_JAIL_DIR, NULL);
  dev_t device;
  if (!need_root ())
    return;
  g_assert_cmpint (g_mkdir (jail, 0711), ==, 0);
  install.tool_e2fsck = f->image; /* no program of root's */
  g_assert_null (banger_disk_check (&root, 0, &refused_program));
  g_assert_error (refused_program, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  install.tool_e2fsck = (char *)"/usr/sbin/e2fsck";
  banger_autofd int image = open (f->image, O_RDWR | O_CLOEXEC);
  banger_autofd int loop = banger_loop_attach (image, FALSE, &device, &error);
  if (loop < 0) {
    g_test_skip ("needs loop devices");
    return;
  }
  g_assert_cmpstr (banger_disk_check (&root, device, &error), ==, "clean");
  guint8 bad = 0xff; /* the block bitmap's count in the first group descriptor */
  g_assert_cmpint (pwrite (loop, &bad, 1, 4096 + 12), ==, 1);
  g_assert_cmpint (fsync (loop), ==, 0);
  g_assert_cmpstr (banger_disk_check (&root, device, &error), ==, "repaired");
  g_assert_no_error (error);
  g_assert_cmpstr (banger_disk_check (&root, device, &error), ==, "clean");
  g_autofree guint8 *zeroes = g_malloc0 (1 << 20);
  for (off_t at = 0; at < 16 << 20; at += 1 << 20)
    g_assert_cmpint (pwrite (loop, zeroes, 1 << 20, at), ==, 1 << 20);
  g_assert_null (banger_disk_check (&root, device, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_autofree char *left = g_strdup_printf ("%s/" BANGER_WORKER_NODE, jail);
  g_assert_false (g_file_test (left, G_FILE_TEST_EXISTS)); /* it was in another mount namespace */
  banger_clear_fd (&loop);
  banger_loop_sweep ();
}

#define ADD(name, features, test) g_test_add (name, Fixture, features, setup, test, teardown)

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  ADD ("/disk/read", "", test_read);
  ADD ("/disk/read-ext2", "-O ^has_journal,^extents,^64bit", test_read);
  ADD ("/disk/write", "", test_write);
  ADD ("/disk/write-ext2", "-O ^has_journal,^extents,^64bit", test_write);
  ADD ("/disk/write-inline", "-O inline_data", test_write);
  ADD ("/disk/write-many", "", test_write_many);
  ADD ("/disk/write-refused", "", test_write_refused);
  ADD ("/disk/unclean", "-O ^metadata_csum", test_unclean);
  ADD ("/disk/mutations", "-O ^metadata_csum,^uninit_bg", test_mutations);
  ADD ("/disk/requests", "", test_requests);
  ADD ("/disk/program", "", test_program);
  ADD ("/disk/filter", "", test_filter);
  ADD ("/disk/check", "", test_check);
  ADD ("/disk/check-taken-over", "", test_check_taken_over);
  return g_test_run ();
}
