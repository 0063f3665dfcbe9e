/* Limits of a VM's cgroup where systemd does not run: what is written, and what is said to be missing.
 * Run by meson test; plain files stand in for the kernel's, since few hosts let a test have controllers.
 * Never touches a real cgroup. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "privileged/cgroup.h"

static const BangerLimits limits = { G_GUINT64_CONSTANT (5) << 30, 256, 100 };

typedef struct {
  char *folder;
  int fd;
} Folder;

static void
folder_set_up (Folder *self, gconstpointer data)
{
  self->folder = g_dir_make_tmp ("banger-cgroup-XXXXXX", NULL);
  self->fd = open (self->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (self->fd, >=, 0);
}

static void
folder_tear_down (Folder *self, gconstpointer data)
{
  static const char *const names[] = { "memory.max",  "pids.max",    "cpu.weight", "cgroup.subtree_control",
                                       "cgroup.type", "cgroup.procs" };
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++)
    unlinkat (self->fd, names[i], 0);
  unlinkat (self->fd, "below", AT_REMOVEDIR);
  g_rmdir (self->folder);
  banger_clear_fd (&self->fd);
  g_free (self->folder);
}

static void
put (Folder *self, const char *name, const char *text)
{
  banger_autofd int fd = openat (self->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (write (fd, text, strlen (text)), ==, (gssize)strlen (text));
}

static void
make (Folder *self, const char *name)
{
  put (self, name, "");
}

static void
assert_content (Folder *self, const char *name, const char *wanted)
{
  g_autofree char *path = g_build_filename (self->folder, name, NULL), *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  g_assert_cmpstr (text, ==, wanted);
}

static void
test_all (Folder *self, gconstpointer data)
{
  make (self, "cgroup.subtree_control");
  make (self, "memory.max");
  make (self, "pids.max");
  make (self, "cpu.weight");
  g_autofree char *missing = banger_cgroup_limit (self->fd, self->fd, &limits);
  g_assert_cmpstr (missing, ==, "");
  assert_content (self, "memory.max", "5368709120");
  assert_content (self, "pids.max", "256");
  assert_content (self, "cpu.weight", "100");
}

static void
test_some (Folder *self, gconstpointer data)
{
  make (self, "cgroup.subtree_control");
  make (self, "pids.max");
  g_autofree char *missing = banger_cgroup_limit (self->fd, self->fd, &limits);
  g_assert_cmpstr (missing, ==, "memory, cpu");
  assert_content (self, "pids.max", "256");
}

/* The controller is not switched on, so a file of that name is none of the kernel's. */
static void
test_not_switched_on (Folder *self, gconstpointer data)
{
  make (self, "memory.max");
  g_autofree char *missing = banger_cgroup_limit (self->fd, self->fd, &limits);
  g_assert_cmpstr (missing, ==, "memory, pids, cpu");
  assert_content (self, "memory.max", "");
}

/* The helper is in the cgroup itself: switching a controller on would keep every VMM out of the one below. */
static void
test_helper_inside (Folder *self, gconstpointer data)
{
  make (self, "cgroup.subtree_control");
  make (self, "pids.max");
  put (self, "cgroup.type", "domain\n");
  put (self, "cgroup.procs", "123\n");
  g_autofree char *missing = banger_cgroup_limit (self->fd, self->fd, &limits);
  g_assert_cmpstr (missing, ==, "memory, pids, cpu");
  assert_content (self, "cgroup.subtree_control", "");
  assert_content (self, "pids.max", "");
}

static void
test_nobody_inside (Folder *self, gconstpointer data)
{
  make (self, "cgroup.subtree_control");
  make (self, "pids.max");
  put (self, "cgroup.type", "domain\n");
  make (self, "cgroup.procs");
  g_autofree char *missing = banger_cgroup_limit (self->fd, self->fd, &limits);
  g_assert_cmpstr (missing, ==, "memory, cpu");
  assert_content (self, "pids.max", "256");
}

static void
test_no_folder (Folder *self, gconstpointer data)
{
  g_autofree char *missing = banger_cgroup_limit (-1, -1, &limits);
  g_assert_cmpstr (missing, ==, "memory, pids, cpu");
}

/* The helper's own cgroup may be the one that is mounted. */
static void
test_open (Folder *self, gconstpointer data)
{
  const struct {
    const char *root, *cgroup;
    gboolean there;
  } rows[] = {
    { "/", "/", TRUE },           { "/outer", "/outer", TRUE },       { "/", "/missing", FALSE },
    { "/outer", "/oute", FALSE }, { "/outer", "/", FALSE },           { "/outer", "/outer/..", FALSE },
    { "/", "/below", TRUE },      { "/outer", "/outer/below", TRUE }, { "/outer", "/outerxbelow", FALSE },
  };
  g_assert_cmpint (mkdirat (self->fd, "below", 0755), ==, 0);
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    banger_autofd int fd = banger_cgroup_open (self->fd, rows[i].root, rows[i].cgroup, FALSE, &error);
    g_assert_true ((fd >= 0) == rows[i].there);
    g_assert_true ((error == NULL) == rows[i].there);
  }
}

/* Below what is mounted it cannot be: there is nothing to remove, and that is no reason to keep its lease. */
static void
test_remove (Folder *self, gconstpointer data)
{
  g_autoptr (GError) error = NULL, busy = NULL;
  g_assert_true (banger_cgroup_remove (self->fd, "/outer", "/elsewhere/below", 0, &error));
  g_assert_true (banger_cgroup_remove (self->fd, "/outer", "/outer/missing", 0, &error));
  g_assert_cmpint (mkdirat (self->fd, "below", 0755), ==, 0);
  g_assert_true (banger_cgroup_remove (self->fd, "/outer", "/outer/below", 0, &error));
  g_assert_cmpint (faccessat (self->fd, "below", F_OK, 0), <, 0);
  make (self, "cgroup.procs");
  g_assert_false (banger_cgroup_remove (self->fd, "/", "/cgroup.procs", 0, &busy));
}

int
main (int argc, char **argv)
{
  static const struct {
    const char *path;
    void (*test) (Folder *self, gconstpointer data);
  } tests[] = {
    { "/limits/all", test_all },
    { "/limits/some", test_some },
    { "/limits/not-switched-on", test_not_switched_on },
    { "/limits/helper-inside", test_helper_inside },
    { "/limits/nobody-inside", test_nobody_inside },
    { "/limits/no-folder", test_no_folder },
    { "/limits/open", test_open },
    { "/limits/remove", test_remove },
  };
  g_test_init (&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS (tests); i++)
    g_test_add (tests[i].path, Folder, NULL, folder_set_up, tests[i].test, folder_tear_down);
  return g_test_run ();
}
