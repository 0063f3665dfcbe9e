/* A cgroup2 hierarchy that is mounted more than once, or covered: the one that is seen is taken.
 * Run by meson test as root, in a mount namespace of its own.
 * Never makes a cgroup. */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "common/error.h"
#include "common/fd.h"
#include "privileged/cgroup.h"

static char *place; /* where the host has it */

static void
assert_found (const char *expected_root)
{
  g_autofree char *root = NULL, *own = NULL;
  g_autoptr (GError) error = NULL;
  struct statfs fs;
  banger_autofd int fd = banger_cgroup_find (&root, &own, &error);
  g_assert_no_error (error);
  g_assert_cmpint (fstatfs (fd, &fs), ==, 0);
  g_assert_cmphex ((guint64)fs.f_type, ==, CGROUP2_SUPER_MAGIC);
  g_assert_cmpstr (root, ==, expected_root);
  g_assert_cmpint (faccessat (fd, "cgroup.controllers", F_OK, 0), ==, 0);
}

static void
test_plain (void)
{
  assert_found ("/");
}

/* Only files: nothing that is there can be seen. */
static void
test_covered (void)
{
  g_autofree char *root = NULL, *own = NULL, *elsewhere = g_dir_make_tmp ("banger-cgroup-XXXXXX", NULL);
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (mount ("none", place, "tmpfs", 0, NULL), ==, 0);
  g_assert_cmpint (banger_cgroup_find (&root, &own, &error), ==, -1);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED);
  g_assert_nonnull (strstr (error->message, "covered"));
  g_assert_cmpint (mount ("none", elsewhere, "cgroup2", 0, NULL), ==, 0);
  assert_found ("/");
  g_assert_cmpint (umount2 (elsewhere, MNT_DETACH), ==, 0);
  g_assert_cmpint (mount ("none", place, "cgroup2", 0, NULL), ==, 0);
  assert_found ("/");
  g_assert_cmpint (umount2 (place, MNT_DETACH) | umount2 (place, MNT_DETACH), ==, 0);
  g_assert_cmpint (g_rmdir (elsewhere), ==, 0);
}

/* A part of the hierarchy over the whole: a path in it is relative to that part. Where the whole is seen as well, our own
 * cgroup is below it. */
static void
test_part (void)
{
  g_autoptr (GDir) dir = g_dir_open (place, 0, NULL);
  g_autofree char *part = NULL, *elsewhere = g_dir_make_tmp ("banger-cgroup-XXXXXX", NULL), *text = NULL;
  for (const char *name; !part && (name = g_dir_read_name (dir));) {
    g_autofree char *path = g_build_filename (place, name, NULL), *own = g_strdup_printf ("0::/%s\n", name);
    if (g_file_test (path, G_FILE_TEST_IS_DIR) && g_file_get_contents ("/proc/self/cgroup", &text, NULL, NULL)
        && !strstr (text, own))
      part = g_steal_pointer (&path);
  }
  if (!part) {
    g_rmdir (elsewhere);
    g_test_skip ("there is no other cgroup");
    return;
  }
  g_assert_cmpint (mount (place, elsewhere, NULL, MS_BIND, NULL), ==, 0);
  g_assert_cmpint (mount (part, place, NULL, MS_BIND, NULL), ==, 0);
  assert_found ("/"); /* elsewhere */
  g_assert_cmpint (umount2 (elsewhere, MNT_DETACH), ==, 0);
  assert_found (part + strlen (place));
  g_assert_cmpint (umount2 (place, MNT_DETACH), ==, 0);
  g_assert_cmpint (g_rmdir (elsewhere), ==, 0);
}

/* Our own cgroup is the root of what is mounted, so that the tests know what is right. */
static char *
find_place (void)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents ("/proc/self/mountinfo", &text, NULL, NULL))
    return NULL;
  g_autoptr (GPtrArray) mounts = banger_cgroup_parse_mountinfo (text);
  const BangerCgroupMount *only = mounts->len == 1 ? mounts->pdata[0] : NULL;
  return only && g_str_equal (only->root, "/") ? g_strdup (only->path) : NULL;
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  place = geteuid () == 0 ? find_place () : NULL;
  if (!place || unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
    printf ("1..0 # SKIP needs root, and one cgroup2 mount\n");
    return 0;
  }
  g_test_add_func ("/cgroup-mounts/plain", test_plain);
  g_test_add_func ("/cgroup-mounts/covered", test_covered);
  g_test_add_func ("/cgroup-mounts/part", test_part);
  return g_test_run ();
}
