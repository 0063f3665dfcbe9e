/* Attacks on the cleanup of a chroot: links out of it, mounts of others in it, names that look alike.
 * Run by meson test as root, in a mount namespace of its own.
 * Never leaves its temporary folder. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/safe-path.h"
#include "privileged/jail.h"

#define VM "0123456789ab"
#define BASE BANGER_JAIL_DIR "/" BANGER_JAIL_EXEC_NAME

typedef struct {
  BangerInstall install;
  BangerRoot root;
  int top;
  char *outside; /* <top>/outside, which holds "kept" and "folder/kept" */
  char *vm;      /* the chroot's folder */
} Fixture;

static void
put (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  g_assert_true (g_file_set_contents (path, "x", 1, NULL));
}

static char *
below (Fixture *f, const char *name)
{
  return g_build_filename (f->vm, name, NULL);
}

static void
set_up (Fixture *f, gconstpointer data)
{
  f->install.state_dir = g_dir_make_tmp ("banger-attack-XXXXXX", NULL);
  f->root.install = &f->install;
  f->top = open (f->install.state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  f->outside = g_build_filename (f->install.state_dir, "outside", NULL);
  f->vm = g_build_filename (f->install.state_dir, BASE, VM, NULL);
  g_autofree char *folder = g_build_filename (f->outside, "folder", NULL);
  g_assert_cmpint (g_mkdir_with_parents (folder, 0755), ==, 0);
  g_assert_cmpint (g_mkdir_with_parents (f->vm, 0755), ==, 0);
  put (f->outside, "kept");
  put (folder, "kept");
  f->root.jail_fd = openat (f->top, BASE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
check_outside (Fixture *f)
{
  g_assert_cmpint (faccessat (f->top, "outside/kept", F_OK, 0), ==, 0);
  g_assert_cmpint (faccessat (f->top, "outside/folder/kept", F_OK, 0), ==, 0);
}

static void
tear_down (Fixture *f, gconstpointer data)
{
  g_autofree char *name = g_path_get_basename (f->install.state_dir);
  banger_autofd int tmp = open (g_get_tmp_dir (), O_PATH | O_DIRECTORY | O_CLOEXEC);
  check_outside (f);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  close (f->root.jail_fd);
  close (f->top);
  g_free (f->vm);
  g_free (f->outside);
  g_free (f->install.state_dir);
}

static gboolean
is_there (Fixture *f, const char *path)
{
  return faccessat (f->top, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
expect_removed (Fixture *f)
{
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_jail_remove (&f->root, VM, &error));
  g_assert_no_error (error);
  g_assert_false (is_there (f, BASE "/" VM));
  check_outside (f);
}

static void
bind (const char *source, const char *target)
{
  g_assert_cmpint (mount (source, target, NULL, MS_BIND, NULL), ==, 0);
}

static void
test_links_inside (Fixture *f, gconstpointer data)
{
  const char *const links[][2] = {
    { "relative", "../../../outside" }, { "absolute", f->outside }, { "up", "../.." }, { "root", "/" },
    { "dangling", "nothing" },          { "self", "self" }
  };
  g_autofree char *folder = below (f, "folder");
  g_assert_cmpint (g_mkdir (folder, 0755), ==, 0);
  for (size_t i = 0; i < G_N_ELEMENTS (links); i++) {
    g_autofree char *link = g_build_filename (folder, links[i][0], NULL);
    g_assert_cmpint (symlink (links[i][1], link), ==, 0);
  }
  expect_removed (f);
}

static void
test_link_in_place (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (g_rmdir (f->vm), ==, 0);
  g_assert_cmpint (symlink (f->outside, f->vm), ==, 0);
  g_assert_false (banger_jail_remove (&f->root, VM, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_true (is_there (f, BASE "/" VM));
  check_outside (f);
}

/* Below it, over it, over each other, of a file, under names that mountinfo has to escape. */
static void
test_mounts_inside (Fixture *f, gconstpointer data)
{
  g_autofree char *a = below (f, "a"), *odd = below (f, "b c\n\\d\te"), *file = below (f, "file");
  g_assert_cmpint (g_mkdir (a, 0755), ==, 0);
  g_assert_cmpint (g_mkdir (odd, 0755), ==, 0);
  put (f->vm, "file");
  bind (f->outside, a);
  bind (f->outside, a);
  g_autofree char *nested = g_build_filename (a, "folder", NULL);
  g_assert_cmpint (mount ("banger", nested, "tmpfs", 0, NULL), ==, 0);
  put (nested, "made");
  bind (f->outside, odd);
  g_autofree char *kept = g_build_filename (f->outside, "kept", NULL);
  bind (kept, file);
  expect_removed (f);
}

static void
test_mount_over_it (Fixture *f, gconstpointer data)
{
  bind (f->outside, f->vm);
  bind (f->outside, f->vm);
  expect_removed (f);
}

/* What is mounted beside it stays mounted, also where the names begin alike. */
static void
test_neighbours (Fixture *f, gconstpointer data)
{
  g_autofree char *alike = g_strconcat (f->vm, "cd", NULL), *place = g_build_filename (f->outside, "folder", NULL);
  g_assert_cmpint (g_mkdir (alike, 0755), ==, 0);
  g_assert_cmpint (mount ("banger", alike, "tmpfs", 0, NULL), ==, 0);
  put (alike, "stays");
  g_assert_cmpint (mount ("banger", place, "tmpfs", 0, NULL), ==, 0);
  put (place, "stays");
  g_assert_true (banger_jail_remove (&f->root, VM, NULL));
  g_assert_true (is_there (f, BASE "/" VM "cd/stays"));
  g_assert_true (is_there (f, "outside/folder/stays"));
  g_assert_cmpint (umount2 (alike, MNT_DETACH), ==, 0);
  g_assert_cmpint (umount2 (place, MNT_DETACH), ==, 0);
}

/* mount_namespaces(7): what came from a more privileged namespace cannot be unmounted. Then nothing is removed. */
static void
test_locked_mount (Fixture *f, gconstpointer data)
{
  g_autofree char *a = below (f, "a");
  int status;
  g_assert_cmpint (g_mkdir (a, 0755), ==, 0);
  put (f->vm, "stays");
  bind (f->outside, a);
  pid_t child = fork ();
  if (child == 0) {
    g_autoptr (GError) error = NULL;
    if (unshare (CLONE_NEWUSER | CLONE_NEWNS) < 0)
      _exit (77);
    if (banger_jail_remove (&f->root, VM, &error))
      _exit (1);
    _exit (is_there (f, BASE "/" VM "/stays") && is_there (f, BASE "/" VM "/a/kept") ? 0 : 2);
  }
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  g_assert_cmpint (umount2 (a, MNT_DETACH), ==, 0);
  if (WIFEXITED (status) && WEXITSTATUS (status) == 77) {
    g_test_skip ("needs user namespaces");
    return;
  }
  g_assert_true (WIFEXITED (status));
  g_assert_cmpint (WEXITSTATUS (status), ==, 0);
  expect_removed (f);
}

/* The folder of a new chroot is root's alone. */
static void
test_make (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) loose = NULL, foreign = NULL, link = NULL, mounted = NULL;
  g_assert_true (banger_jail_make (f->root.jail_fd, VM, NULL));
  g_assert_cmpint (g_chmod (f->vm, 0777), ==, 0);
  g_assert_false (banger_jail_make (f->root.jail_fd, VM, &loose));
  g_assert_error (loose, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (g_chmod (f->vm, 0711), ==, 0);
  g_assert_cmpint (chown (f->vm, 4242, 4242), ==, 0);
  g_assert_false (banger_jail_make (f->root.jail_fd, VM, &foreign));
  g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (chown (f->vm, 0, 0), ==, 0);
  bind (f->outside, f->vm);
  g_assert_false (banger_jail_make (f->root.jail_fd, VM, &mounted));
  g_assert_error (mounted, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (umount2 (f->vm, MNT_DETACH), ==, 0);
  g_assert_cmpint (g_rmdir (f->vm), ==, 0);
  g_assert_cmpint (symlink (f->outside, f->vm), ==, 0);
  g_assert_false (banger_jail_make (f->root.jail_fd, VM, &link));
  g_assert_error (link, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (geteuid () != 0 || unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
    printf ("1..0 # SKIP needs root for mounts\n");
    return 0;
  }
  const struct {
    const char *name;
    void (*test) (Fixture *f, gconstpointer data);
  } tests[] = {
    { "/attacks/jail/links-inside", test_links_inside },
    { "/attacks/jail/link-in-place", test_link_in_place },
    { "/attacks/jail/mounts-inside", test_mounts_inside },
    { "/attacks/jail/mount-over-it", test_mount_over_it },
    { "/attacks/jail/neighbours", test_neighbours },
    { "/attacks/jail/locked-mount", test_locked_mount },
    { "/attacks/jail/make", test_make },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (tests); i++)
    g_test_add (tests[i].name, Fixture, NULL, set_up, tests[i].test, tear_down);
  return g_test_run ();
}
