/* Lease files: round trip, quota, ownership, and every forged field refused.
 * Run by meson test.
 * Never touches a folder outside its own temporary one. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/safe-path.h"
#include "privileged/lease.h"

#define VM "0123456789ab"

/* A folder whose listing breaks off, in place of libc's. */
static gboolean listing_breaks;

struct dirent *
readdir (DIR *dir)
{
  struct dirent *(*real) (DIR *) = (struct dirent * (*)(DIR *)) dlsym (RTLD_NEXT, "readdir64");
  if (!listing_breaks)
    return real (dir);
  errno = EIO;
  return NULL;
}

typedef struct {
  char *dir;
  BangerInstall install;
  BangerRoot root;
} Fixture;

static void
setup (Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp ("banger-lease-XXXXXX", NULL);
  f->install.max_vms = 2;
  f->root.install = &f->install;
  f->root.leases_fd = open (f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
teardown (Fixture *f, gconstpointer data)
{
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (f->dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  close (f->root.leases_fd);
  g_free (f->dir);
}

static void
put (Fixture *f, const char *vm, const char *text)
{
  g_autofree char *name = g_strconcat (vm, ".json", NULL), *path = g_build_filename (f->dir, name, NULL);
  g_assert_true (g_file_set_contents (path, text, -1, NULL));
}

static void
test_round_trip (Fixture *f, gconstpointer data)
{
  gboolean made = FALSE;
  struct stat st;
  g_autoptr (BangerLease) lease = banger_lease_ensure (&f->root, VM, 1000, &made, NULL);
  g_assert_true (lease && made);
  lease->tap = g_strdup ("tap-fc-01234567");
  lease->bridge = g_strdup ("br-fc");
  lease->bridge_address = g_strdup ("10.213.0.1/24");
  lease->guest_address = g_strdup ("10.213.0.5");
  lease->nat = TRUE;
  lease->dm = g_strdup ("fc-rootfs-" VM);
  lease->image = g_strdup ("aaaaaaaaaaaa");
  lease->cgroup = g_strdup ("/x/banger-vm-" VM);
  lease->jail = TRUE;
  lease->pid = 77;
  lease->start = G_GUINT64_CONSTANT (123456789012);
  g_assert_true (banger_lease_save (&f->root, lease, NULL));
  g_assert_cmpint (fstatat (f->root.leases_fd, VM ".json", &st, 0), ==, 0);
  g_assert_cmpint (st.st_mode & 07777, ==, 0600);
  g_autoptr (BangerLease) again = banger_lease_get (&f->root, VM, 1000, NULL);
  g_autofree char *held = banger_lease_resources (again);
  g_assert_cmpstr (held, ==, "tap,nat,snapshot,jail,cgroup");
  g_assert_cmpstr (again->guest_address, ==, lease->guest_address);
  g_assert_cmpuint (again->start, ==, lease->start);
  g_assert_cmpuint (again->pid, ==, 77);
}

static void
test_owner_and_quota (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) foreign = NULL, twin = NULL, kin = NULL, full = NULL, none = NULL;
  g_autoptr (BangerLease) first = banger_lease_ensure (&f->root, VM, 1000, NULL, NULL);
  g_assert_null (banger_lease_get (&f->root, VM, 1001, &foreign));
  g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_ACCESS_DENIED);
  g_assert_null (banger_lease_ensure (&f->root, "01234567", 1000, NULL, &twin));
  g_assert_error (twin, BANGER_ERROR, BANGER_ERROR_IN_USE);
  g_assert_null (banger_lease_ensure (&f->root, "11214566", 1000, NULL, &kin)); /* the group of VM's VMM */
  g_assert_error (kin, BANGER_ERROR, BANGER_ERROR_IN_USE);
  put (f, "bbbbbbbb", "{ broken");
  g_assert_null (banger_lease_ensure (&f->root, "cccccccc", 1000, NULL, &full));
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_assert_null (banger_lease_get (&f->root, "dddddddd", 1000, &none));
  g_assert_error (none, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE);
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) all = banger_lease_list (&f->root, &broken, NULL);
  g_assert_cmpuint (all->len, ==, 1);
  g_assert_cmpuint (broken->len, ==, 1);
}

/* Nor may a VM share its group or its tap's name with one whose lease cannot be read. */
static void
test_collides_with_a_lost_one (Fixture *f, gconstpointer data)
{
  static const char *const lost[] = { "11214566", "01234567" };
  f->install.max_vms = 9;
  for (size_t i = 0; i < G_N_ELEMENTS (lost); i++) {
    g_autoptr (GError) error = NULL;
    g_autofree char *name = g_strconcat (lost[i], ".json", NULL);
    put (f, lost[i], "{ broken");
    g_assert_null (banger_lease_ensure (&f->root, VM, 1000, NULL, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_IN_USE);
    g_assert_nonnull (strstr (error->message, lost[i]));
    g_assert_cmpint (unlinkat (f->root.leases_fd, name, 0), ==, 0);
  }
  g_autoptr (BangerLease) lease = banger_lease_ensure (&f->root, VM, 1000, NULL, NULL);
  g_assert_nonnull (lease);
}

/* A lease that is not listed would be reaped, or its address be given away. */
static void
test_listing_breaks (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  listing_breaks = TRUE;
  g_autoptr (GPtrArray) all = banger_lease_list (&f->root, NULL, &error);
  listing_breaks = FALSE;
  g_assert_null (all);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
}

static gboolean
holds_tap (const BangerLease *lease)
{
  return lease->tap != NULL;
}

/* Another uid's do not count, nor does the lease itself; what cannot be read may hold anything. */
static void
test_room (Fixture *f, gconstpointer data)
{
#define HELD "\"bridge\":\"br-fc\",\"bridge-address\":\"10.213.0.1/24\"}"
  g_autoptr (GError) full = NULL, broken = NULL;
  put (f, "aaaaaaaa", "{\"version\":1,\"uid\":1000,\"tap\":\"tap-fc-aaaaaaaa\"," HELD);
  put (f, "bbbbbbbb", "{\"version\":1,\"uid\":1001,\"tap\":\"tap-fc-bbbbbbbb\"," HELD);
  put (f, "cccccccc", "{\"version\":1,\"uid\":1000}");
  const BangerLease fresh = { .vm = (char *)"dddddddd", .uid = 1000 },
                    first = { .vm = (char *)"aaaaaaaa", .uid = 1000 };
  g_assert_true (banger_lease_check_room (&f->root, &fresh, holds_tap, 2, "limits.taps", NULL));
  g_assert_true (banger_lease_check_room (&f->root, &first, holds_tap, 1, "limits.taps", NULL));
  g_assert_false (banger_lease_check_room (&f->root, &fresh, holds_tap, 1, "limits.taps", &full));
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
  g_assert_nonnull (strstr (full->message, "limits.taps"));
  put (f, "eeeeeeee", "{ broken");
  g_assert_false (banger_lease_check_room (&f->root, &fresh, holds_tap, 2, "limits.taps", &broken));
  g_assert_error (broken, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
}

static void
test_forged (Fixture *f, gconstpointer data)
{
  const char *fields[] = {
    "\"tap\":\"eth0\",\"bridge\":\"br-fc\",\"bridge-address\":\"10.213.0.1/24\"",
    "\"tap\":\"tap-fc-ffffffff\",\"bridge\":\"br-fc\",\"bridge-address\":\"10.213.0.1/24\"",
    "\"tap\":\"tap-fc-01234567\",\"bridge\":\"eth0\",\"bridge-address\":\"10.213.0.1/24\"",
    "\"tap\":\"tap-fc-01234567\",\"bridge\":\"br-fc\",\"bridge-address\":\"8.8.8.8/24\"",
    "\"tap\":\"tap-fc-01234567\"",
    "\"guest-address\":\"10.213.0.5\"",
    "\"tap\":\"tap-fc-01234567\",\"bridge\":\"br-fc\",\"bridge-address\":\"10.213.0.1/"
    "24\",\"guest-address\":\"10.9.0.5\"",
    "\"links\":\"aaaaaaaa\"",
    "\"ports\":\"80\"",
    "\"dm\":\"other\",\"image\":\"aaaaaaaa\"",
    "\"dm\":\"fc-rootfs-" VM "\"",
    "\"dm\":\"fc-rootfs-" VM "\",\"image\":\"../../x\"",
    "\"cgroup\":\"/\"",
    "\"cgroup\":\"/../banger-vm-" VM "\"",
    "\"pid\":5",
    "\"pid\":-5",
    "\"pid\":\"5\"",
    "\"jail\":2",
    "\"tap\":7",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (fields); i++) {
    g_autofree char *text = g_strdup_printf ("{\"version\":1,\"uid\":1000,%s}", fields[i]);
    put (f, VM, text);
    g_autoptr (BangerLease) lease = banger_lease_load (&f->root, VM, NULL, NULL);
    if (lease)
      g_error ("a lease with %s was believed", fields[i]);
  }
  const char *whole[] = {
    "{}",
    "[]",
    "",
    "null",
    "{\"version\":2,\"uid\":1000}",
    "{\"version\":0,\"uid\":1000}",
    "{\"uid\":1000}",
    "{\"version\":1}",
    "{\"version\":1,\"uid\":-1}",
  };
  for (size_t i = 0; i < G_N_ELEMENTS (whole); i++) {
    put (f, VM, whole[i]);
    g_assert_null (banger_lease_load (&f->root, VM, NULL, NULL));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/lease/round-trip", Fixture, NULL, setup, test_round_trip, teardown);
  g_test_add ("/lease/owner-and-quota", Fixture, NULL, setup, test_owner_and_quota, teardown);
  g_test_add ("/lease/collides-with-a-lost-one", Fixture, NULL, setup, test_collides_with_a_lost_one, teardown);
  g_test_add ("/lease/listing-breaks", Fixture, NULL, setup, test_listing_breaks, teardown);
  g_test_add ("/lease/room", Fixture, NULL, setup, test_room, teardown);
  g_test_add ("/lease/forged", Fixture, NULL, setup, test_forged, teardown);
  return g_test_run ();
}
