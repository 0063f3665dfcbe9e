/* Disks as files: content, holes, size, whole or not at all.
 * Run by meson test.
 * Never writes outside of a temporary folder. */
#include "manager/disk/rootdisk.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/sparse-copy.h"

#define MIB (1 << 20)

/* A disk that fails at one seek, or a source that somebody cuts then; and one that shares no blocks. In place of
 * libc's. */
static struct {
  int whence, errnum, cut_fd;
} bad_seek;

off_t
lseek (int fd, off_t offset, int whence)
{
  if (bad_seek.cut_fd > 0 && whence == SEEK_HOLE)
    g_assert_cmpint (ftruncate (bad_seek.cut_fd, 20 * MIB), ==, 0);
  if (bad_seek.errnum == 0 || whence != bad_seek.whence)
    return syscall (SYS_lseek, fd, offset, whence);
  errno = bad_seek.errnum;
  return -1;
}

typedef struct {
  char *path;
  int fd;
} Folder;

static void
folder_up (Folder *folder, gconstpointer data)
{
  folder->path = g_dir_make_tmp ("rootdisk-XXXXXX", NULL);
  folder->fd = open (folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (folder->fd, >=, 0);
}

static void
folder_down (Folder *folder, gconstpointer data)
{
  close (folder->fd);
  const char *const names[] = { "source", "copy", "copy.part", "link", NULL };
  for (guint i = 0; names[i]; i++) {
    g_autofree char *path = g_build_filename (folder->path, names[i], NULL);
    g_unlink (path);
  }
  g_assert_cmpint (g_rmdir (folder->path), ==, 0);
  g_free (folder->path);
}

static guint synced;

/* Libc's, of all that is linked into this program. */
int
fsync (int fd)
{
  synced++;
  return fdatasync (fd);
}

static gboolean sticky;

/* Likewise. */
int
unlinkat (int dir_fd, const char *name, int flags)
{
  if (!sticky)
    return (int)syscall (SYS_unlinkat, dir_fd, name, flags);
  errno = EPERM;
  return -1;
}

/* 64 MiB with 1 MiB of data at 16 MiB and four bytes at the end. */
static void
make_source (Folder *folder)
{
  int fd = openat (folder->fd, "source", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  g_autofree char *data = g_malloc (MIB);
  memset (data, 'x', MIB);
  g_assert_cmpint (pwrite (fd, data, MIB, 16 * MIB), ==, MIB);
  g_assert_cmpint (pwrite (fd, "end.", 4, 64 * MIB - 4), ==, 4);
  close (fd);
}

static void
test_sparse (Folder *folder, gconstpointer data)
{
  make_source (folder);
  g_autoptr (GError) error = NULL;
  g_assert_true (
      banger_disk_copy (folder->fd, "source", folder->fd, "copy", 128 * MIB, TRUE, NULL, NULL, NULL, &error));
  g_assert_no_error (error);
  struct stat st;
  g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, ==, 128 * MIB);
  g_assert_cmpint (st.st_mode & 0777, ==, 0600);
  g_assert_cmpint (st.st_blocks * 512, <, 8 * MIB);
  int fd = openat (folder->fd, "copy", O_RDONLY | O_CLOEXEC);
  char buffer[8] = { 0 };
  g_assert_cmpint (pread (fd, buffer, 4, 64 * MIB - 4), ==, 4);
  g_assert_cmpstr (buffer, ==, "end.");
  g_assert_cmpint (pread (fd, buffer, 4, 17 * MIB - 4), ==, 4);
  g_assert_cmpstr (buffer, ==, "xxxx");
  g_assert_cmpint (pread (fd, buffer, 4, 17 * MIB), ==, 4);
  g_assert_cmpmem (buffer, 4, "\0\0\0\0", 4);
  close (fd);
}

/* A name with its size first, and nothing in it; then what a copy has. None is made of one that is there. */
static void
test_halves (Folder *folder, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  struct stat st;
  char buffer[8] = { 0 };
  make_source (folder);
  g_assert_false (banger_disk_fill (folder->fd, "source", folder->fd, "copy", FALSE, NULL, &error));
  g_clear_error (&error);
  g_assert_true (banger_disk_reserve (folder->fd, "source", folder->fd, "copy", &error));
  g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, ==, 64 * MIB);
  g_assert_cmpint (st.st_blocks, ==, 0);
  g_assert_false (banger_disk_reserve (folder->fd, "source", folder->fd, "copy", &error));
  g_clear_error (&error);
  int fd = openat (folder->fd, "copy", O_RDONLY | O_CLOEXEC); /* as a VMM has it open by then */
  synced = 0;
  g_assert_true (banger_disk_fill (folder->fd, "source", folder->fd, "copy", FALSE, NULL, &error));
  g_assert_cmpuint (synced, ==, 0);
  g_assert_true (banger_disk_fill (folder->fd, "source", folder->fd, "copy", TRUE, NULL, &error));
  g_assert_cmpuint (synced, ==, 2);
  g_assert_no_error (error);
  g_assert_cmpint (pread (fd, buffer, 4, 64 * MIB - 4), ==, 4);
  g_assert_cmpstr (buffer, ==, "end.");
  g_assert_cmpint (fstat (fd, &st), ==, 0);
  g_assert_cmpint (st.st_size, ==, 64 * MIB);
  g_assert_cmpint (st.st_blocks * 512, <, 8 * MIB);
  close (fd);
}

/* The file, and the folder with its name; of a VM that goes with the host's power neither is waited for. */
static void
test_durable (Folder *folder, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  make_source (folder);
  synced = 0;
  g_assert_true (banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, FALSE, NULL, NULL, NULL, &error));
  g_assert_cmpuint (synced, ==, 0);
  struct stat st;
  g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, ==, 64 * MIB);
  g_assert_cmpint (fstatat (folder->fd, "copy.part", &st, 0), <, 0);
  g_assert_true (banger_disk_copy (folder->fd, "source", folder->fd, "kept", 0, TRUE, NULL, NULL, NULL, &error));
  g_assert_cmpuint (synced, ==, 2);
  g_assert_cmpint (unlinkat (folder->fd, "kept", 0), ==, 0);
}

static void
test_existing_stays (Folder *folder, gconstpointer data)
{
  make_source (folder);
  int fd = openat (folder->fd, "copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (write (fd, "mine", 4), ==, 4);
  close (fd);
  g_assert_true (banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, NULL));
  struct stat st;
  g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, ==, 4);
}

static void
cancel_at_once (double fraction, gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
}

static gboolean
missing (Folder *folder, const char *name)
{
  struct stat st;
  return fstatat (folder->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static void
test_cancelled_leaves_nothing (Folder *folder, gconstpointer data)
{
  make_source (folder);
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  g_autoptr (GError) error = NULL;
  g_cancellable_cancel (cancellable);
  gboolean ok = banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, TRUE, cancel_at_once, cancellable,
                                  cancellable, &error);
  /* A file system that shares blocks is done before anybody can cancel. */
  if (ok)
    return;
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (missing (folder, "copy"));
  g_assert_true (missing (folder, "copy.part"));
}

static void
test_refusals (Folder *folder, gconstpointer data)
{
  make_source (folder);
  g_autoptr (GError) error = NULL;
  g_assert_false (banger_disk_copy (folder->fd, "source", folder->fd, "copy", MIB, TRUE, NULL, NULL, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_SIZE);
  g_clear_error (&error);
  g_assert_cmpint (symlinkat ("source", folder->fd, "link"), ==, 0);
  g_assert_false (banger_disk_copy (folder->fd, "link", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_clear_error (&error);
  g_assert_cmpint (mkfifoat (folder->fd, "pipe", 0600), ==, 0); /* that nobody writes to */
  g_assert_false (banger_disk_copy (folder->fd, "pipe", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (unlinkat (folder->fd, "pipe", 0), ==, 0);
  g_assert_true (missing (folder, "copy"));
}

/* A disk of zeros was called done. */
static void
test_failing_seeks (Folder *folder, gconstpointer data)
{
  static const struct {
    int whence, errnum;
  } rows[] = { { SEEK_DATA, EIO }, { SEEK_DATA, EINVAL }, { SEEK_HOLE, EIO }, { SEEK_HOLE, ENXIO } };
  make_source (folder);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    bad_seek.whence = rows[i].whence;
    bad_seek.errnum = rows[i].errnum;
    gboolean ok = banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, &error);
    bad_seek.errnum = 0;
    g_assert_false (ok);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
    g_assert_nonnull (strstr (error->message, "copy"));
    g_assert_true (missing (folder, "copy"));
    g_assert_true (missing (folder, "copy.part"));
  }
}

static void
test_source_cut (Folder *folder, gconstpointer data)
{
  make_source (folder);
  g_autoptr (GError) error = NULL;
  bad_seek.cut_fd = openat (folder->fd, "source", O_RDWR | O_CLOEXEC);
  gboolean ok = banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, &error);
  close (bad_seek.cut_fd);
  bad_seek.cut_fd = 0;
  g_assert_false (ok);
  g_assert_nonnull (strstr (error->message, "became shorter"));
  g_assert_true (missing (folder, "copy"));
}

static void
test_remove (Folder *folder, gconstpointer data)
{
  static const char *const names[] = { "copy", "copy.part" };
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++) {
    int fd = openat (folder->fd, names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_true (fd >= 0 && close (fd) == 0);
  }
  g_assert_true (banger_disk_remove (folder->fd, "copy", NULL));
  g_assert_true (missing (folder, "copy"));
  g_assert_true (missing (folder, "copy.part"));
  g_assert_true (banger_disk_remove (folder->fd, "copy", NULL));
}

/* A start that failed wants its disk gone; the next one is not to find what was half of it. */
static void
test_remove_fails (Folder *folder, gconstpointer data)
{
  struct stat st;
  g_autoptr (GError) error = NULL;
  make_source (folder);
  for (guint i = 0; i < 2; i++) {
    g_assert_true (banger_disk_reserve (folder->fd, "source", folder->fd, "copy", &error));
    sticky = TRUE;
    g_assert_false (banger_disk_remove (folder->fd, "copy", &error));
    sticky = FALSE;
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
    g_clear_error (&error);
    g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
    g_assert_cmpint (st.st_size, ==, 0);
  }
  g_assert_true (banger_disk_copy (folder->fd, "source", folder->fd, "copy", 0, TRUE, NULL, NULL, NULL, &error));
  g_assert_cmpint (fstatat (folder->fd, "copy", &st, 0), ==, 0);
  g_assert_cmpint (st.st_size, ==, 64 * MIB);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/rootdisk/" name, Folder, NULL, folder_up, func, folder_down)
  ADD ("sparse", test_sparse);
  ADD ("halves", test_halves);
  ADD ("durable", test_durable);
  ADD ("existing-stays", test_existing_stays);
  ADD ("cancelled-leaves-nothing", test_cancelled_leaves_nothing);
  ADD ("refusals", test_refusals);
  ADD ("failing-seeks", test_failing_seeks);
  ADD ("source-cut", test_source_cut);
  ADD ("make-and-remove", test_remove);
  ADD ("remove-fails", test_remove_fails);
  return g_test_run ();
}
