/* Lease files, as they are read back from the disk.
 * Run as replay.c says.
 * Never believes a name that does not follow from the VM's id. */
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "privileged/lease.h"

#define VM "0123456789ab"

static char *dir;
static int dir_fd = -1, file_fd = -1;

static void
clean_up (void)
{
  (void)unlinkat (dir_fd, VM ".json", 0);
  (void)rmdir (dir);
  g_free (dir);
}

static void
set_up (void)
{
  dir = g_strdup ("/dev/shm/banger-fuzz-XXXXXX"); /* no disk where there is memory */
  if (!g_mkdtemp (dir)) {
    g_free (dir);
    dir = g_dir_make_tmp ("banger-fuzz-XXXXXX", NULL);
  }
  dir_fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  file_fd = openat (dir_fd, VM ".json", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (file_fd, >=, 0);
  (void)atexit (clean_up);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (file_fd < 0)
    set_up ();
  g_assert_cmpint (ftruncate (file_fd, 0), ==, 0);
  g_assert_cmpint (pwrite (file_fd, data, size, 0), ==, (ssize_t)size);
  const BangerRoot root = { .leases_fd = dir_fd };
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerLease) lease = banger_lease_load (&root, VM, NULL, &error);
  g_assert_true ((lease == NULL) == (error != NULL));
  if (!lease)
    return 0;
  g_assert_cmpstr (lease->vm, ==, VM);
  g_assert_true (!lease->tap || g_str_equal (lease->tap, "tap-fc-01234567"));
  g_assert_true (!lease->dm || g_str_equal (lease->dm, "fc-rootfs-" VM));
  g_assert_true (!lease->bridge || g_str_has_prefix (lease->bridge, "br-fc"));
  g_assert_true (!lease->cgroup || strstr (lease->cgroup, "/banger-vm-" VM));
  g_autofree char *held = banger_lease_resources (lease);
  g_autoptr (JsonObject) again = banger_lease_to_json (lease);
  g_autoptr (BangerLease) same = banger_lease_parse (again, VM, &error);
  g_assert_no_error (error);
  g_autofree char *still = banger_lease_resources (same);
  g_assert_cmpstr (held, ==, still);
  return 0;
}
