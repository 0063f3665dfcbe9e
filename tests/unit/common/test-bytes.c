/* Reads and writes that are cut short, disturbed and failing, and folders whose listing breaks off. */
#include <dlfcn.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "common/bytes.h"
#include "common/folder.h"
#include "common/safe-path.h"

#define TEXT "what is to be there, all of it"

/* In place of libc's: of each two calls one is disturbed, the other takes so many bytes; at last one fails. */
static struct {
  size_t most;
  int calls, fail_at, errnum; /* 0: never */
} bad;

static gboolean
stumbles (size_t *length)
{
  bad.calls++;
  if (bad.most > 0)
    *length = MIN (*length, bad.most);
  errno = bad.fail_at > 0 && bad.calls >= bad.fail_at ? bad.errnum : EINTR;
  return errno != EINTR || (bad.most > 0 && bad.calls % 2 == 1);
}

ssize_t
write (int fd, const void *bytes, size_t length)
{
  return stumbles (&length) ? -1 : syscall (SYS_write, fd, bytes, length);
}

ssize_t
pwrite (int fd, const void *bytes, size_t length, off_t at)
{
  return stumbles (&length) ? -1 : syscall (SYS_pwrite64, fd, bytes, length, at);
}

ssize_t
pread (int fd, void *bytes, size_t length, off_t at)
{
  return stumbles (&length) ? -1 : syscall (SYS_pread64, fd, bytes, length, at);
}

ssize_t
sendfile (int to, int from, off_t *at, size_t length)
{
  return stumbles (&length) ? -1 : syscall (SYS_sendfile, to, from, at, length);
}

struct dirent *
readdir (DIR *dir)
{
  struct dirent *(*real) (DIR *) = (struct dirent * (*)(DIR *)) dlsym (RTLD_NEXT, "readdir64");
  if (bad.fail_at == 0 || ++bad.calls < bad.fail_at)
    return real (dir);
  errno = bad.errnum;
  return NULL;
}

static void
be (size_t most, int fail_at, int errnum)
{
  bad.most = most;
  bad.calls = 0;
  bad.fail_at = fail_at;
  bad.errnum = errnum;
}

static int
new_file (void)
{
  be (0, 0, 0);
  int fd = memfd_create ("bytes", MFD_CLOEXEC);
  g_assert_cmpint (fd, >=, 0);
  return fd;
}

static void
assert_holds (int fd)
{
  char text[sizeof TEXT + 1] = "";
  be (0, 0, 0);
  g_assert_cmpint (syscall (SYS_pread64, fd, text, sizeof text, 0), ==, sizeof TEXT);
  g_assert_cmpstr (text, ==, TEXT);
}

static void
test_write (void)
{
  for (int at = 0; at < 2; at++) {
    banger_autofd int fd = new_file ();
    be (3, 0, 0);
    g_assert_cmpint (at ? banger_write_at (fd, TEXT, sizeof TEXT, 0) : banger_write_all (fd, TEXT, sizeof TEXT), ==, 0);
    assert_holds (fd);
    be (3, 6, ENOSPC);
    g_assert_cmpint (at ? banger_write_at (fd, TEXT, sizeof TEXT, 0) : banger_write_all (fd, TEXT, sizeof TEXT), ==,
                     -1);
    g_assert_cmpint (errno, ==, ENOSPC);
  }
}

static void
test_read (void)
{
  char text[sizeof TEXT + 4];
  banger_autofd int fd = new_file ();
  g_assert_cmpint (banger_write_all (fd, TEXT, sizeof TEXT), ==, 0);
  be (3, 0, 0);
  g_assert_cmpint (banger_read_at (fd, text, sizeof text, 0), ==, sizeof TEXT);
  g_assert_cmpstr (text, ==, TEXT);
  g_assert_cmpint (banger_read_exactly (fd, text, sizeof TEXT, 0), ==, 0);
  g_assert_cmpint (banger_read_exactly (fd, text, sizeof TEXT, 1), ==, -1);
  g_assert_cmpint (errno, ==, EIO);
  be (3, 6, EACCES);
  g_assert_cmpint (banger_read_at (fd, text, sizeof text, 0), ==, -1);
  g_assert_cmpint (errno, ==, EACCES);
}

static void
test_send (void)
{
  banger_autofd int from = new_file ();
  banger_autofd int to = new_file ();
  g_assert_cmpint (banger_write_all (from, TEXT, sizeof TEXT), ==, 0);
  g_assert_cmpint (lseek (from, 0, SEEK_SET), ==, 0);
  be (3, 0, 0);
  g_assert_cmpint (banger_send_file (to, from, 5), ==, 5);
  g_assert_cmpint (banger_send_file (to, from, G_MAXINT64), ==, sizeof TEXT - 5);
  assert_holds (to);
  g_assert_cmpint (lseek (from, 0, SEEK_SET), ==, 0);
  be (3, 6, ENOSPC);
  g_assert_cmpint (banger_send_file (to, from, G_MAXINT64), ==, -1);
  g_assert_cmpint (errno, ==, ENOSPC);
}

static void
test_folder (void)
{
  guint n = 0;
  g_autofree char *path = g_dir_make_tmp ("folder-XXXXXX", NULL), *file = g_build_filename (path, "one", NULL);
  be (0, 0, 0);
  g_assert_true (g_file_set_contents (file, "", 0, NULL));
  for (int broken = 0; broken < 2; broken++) {
    banger_autofolder DIR *folder = banger_folder_open (AT_FDCWD, path);
    be (0, broken ? 3 : 0, EIO);
    for (n = 0; banger_folder_next (folder); n++)
      continue;
    g_assert_cmpint (errno, ==, broken ? EIO : 0);
    g_assert_cmpuint (n, <=, 1);
  }
  be (0, 0, 0);
  DIR *none = banger_folder_open (AT_FDCWD, "/no/such");
  g_assert_null (none);
  g_assert_null (banger_folder_next (none));
  g_assert_cmpint (errno, ==, ENOENT);
  unlink (file);
  rmdir (path);
}

/* Not "it is filled faster than it is emptied", after ever so many tries. */
static void
test_remove (void)
{
  g_autofree char *path = g_dir_make_tmp ("tree-XXXXXX", NULL), *below = g_build_filename (path, "tree", "below", NULL);
  be (0, 0, 0);
  g_assert_cmpint (g_mkdir_with_parents (below, 0700), ==, 0);
  banger_autofd int fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int call = 1; call < 7; call++) {
    g_autoptr (GError) error = NULL;
    be (0, call, EIO);
    gboolean gone = banger_safe_remove_tree (fd, "tree", &error);
    be (0, 0, 0);
    g_assert_true (gone || g_str_has_prefix (error->message, "cannot list a folder"));
    g_assert_true (call > 1 || !gone);
  }
  g_assert_true (banger_safe_remove_tree (fd, "tree", NULL));
  rmdir (path);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/bytes/write", test_write);
  g_test_add_func ("/bytes/read", test_read);
  g_test_add_func ("/bytes/send", test_send);
  g_test_add_func ("/bytes/folder", test_folder);
  g_test_add_func ("/bytes/remove", test_remove);
  return g_test_run ();
}
