/* Copy-on-write root disks.
 * Runs in worker threads.
 * Never touches a device whose name does not follow from the VM's id. */
#include "privileged/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/ids.h"
#include "common/names.h"
#include "privileged/cow.h"
#include "privileged/disk-use.h"
#include "privileged/gate.h"
#include "privileged/loop.h"
#include "privileged/udev.h"

#define BUSY_TRIES 50 /* of 100 ms */
#define CHUNK_SECTORS 8
/* A VM's owner can keep a node of its disk, from the jail, for longer than the device lasts. The kernel gives the
 * lowest free minor to the next device, whoever's that is: banger's are from the upper half of the 20 bits, which it
 * never comes to by itself. */
#define FIRST_MINOR (1u << 19)
#define MINORS (1u << 19)
#define MINOR_TRIES 16
#define UUID_PREFIX "BANGER-"
#define ANY_MAJOR 1 /* libdevmapper puts device-mapper's own in its place */

/* libdevmapper keeps global state. */
G_LOCK_DEFINE_STATIC (device_mapper);

typedef struct dm_task Task;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Task, dm_task_destroy)

static void
on_dm_log (int level, const char *file, int line, int errno_or_class, const char *format, ...)
{
  /* What failed is said in the reply; libdevmapper would write to stderr. */
}

gboolean
banger_snapshot_supported (void)
{
  banger_autofd int fd = open ("/dev/mapper/control", O_RDWR | O_CLOEXEC);
  g_autofree char *misc = NULL;
  if (fd >= 0)
    return TRUE;
  return g_file_get_contents ("/proc/misc", &misc, NULL, NULL) && strstr (misc, "device-mapper");
}

static gboolean
check_support (GError **error)
{
  return banger_snapshot_supported ()
         || banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "this kernel has no device-mapper");
}

/* Waits for udev's part at most two seconds; then libdevmapper does it itself. The semaphore goes when it was ready. */
static void
wait_for_udev (guint32 cookie)
{
  int ready = 0;
  for (int i = 0; i < 200 && dm_udev_wait_immediate (cookie, &ready) && !ready; i++)
    g_usleep (10000);
  if (!ready && dm_udev_complete (cookie))
    (void)dm_udev_wait_immediate (cookie, &ready);
}

/* udev makes the link in /dev/mapper and nothing else of it: what is on the disk is its owner's and the guest's word.
 */
static gboolean
run_with_udev (Task *task)
{
  const guint16 hands_off = DM_UDEV_DISABLE_DISK_RULES_FLAG | DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG
                            | DM_UDEV_DISABLE_OTHER_RULES_FLAG | DM_UDEV_LOW_PRIORITY_FLAG;
  guint32 cookie = 0;
  gboolean udev = banger_udev_runs ();
  dm_udev_set_sync_support (udev);
  if (udev && !dm_task_set_cookie (task, &cookie, hands_off))
    return FALSE;
  gboolean ok = dm_task_run (task) != 0;
  int saved = dm_task_get_errno (task);
  if (udev)
    wait_for_udev (cookie);
  dm_task_update_nodes ();
  errno = saved;
  return ok;
}

/* Whether the device is there; its number if so. Holds device_mapper. */
static gboolean
query (const char *name, gboolean *ret_exists, dev_t *ret_device, GError **error)
{
  struct dm_info info;
  g_autoptr (Task) task = dm_task_create (DM_DEVICE_INFO);
  if (!task || !dm_task_set_name (task, name) || !dm_task_run (task) || !dm_task_get_info (task, &info))
    return banger_set_error (error, BANGER_ERROR_FAILED, "device-mapper does not answer about '%s'", name);
  *ret_exists = info.exists != 0;
  if (info.exists && ret_device)
    *ret_device = makedev (info.major, info.minor);
  return TRUE;
}

/* Linux, Documentation/admin-guide/device-mapper/snapshot.rst: persistent, so that a stopped VM keeps its disk. */
static gboolean
map_as (const char *name, guint minor_number, dev_t origin, dev_t cow, guint64 sectors)
{
  g_autofree char *uuid = g_strconcat (UUID_PREFIX, name, NULL);
  g_autofree char *params = g_strdup_printf ("%u:%u %u:%u P %d", major (origin), minor (origin), major (cow),
                                             minor (cow), CHUNK_SECTORS);
  g_autoptr (Task) task = dm_task_create (DM_DEVICE_CREATE);
  return task && dm_task_set_name (task, name) && dm_task_set_uuid (task, uuid)
         && dm_task_set_major_minor (task, ANY_MAJOR, (int)minor_number, TRUE)
         && dm_task_add_target (task, 0, sectors, "snapshot", params) && run_with_udev (task);
}

/* The same VM gets the same number as long as no other one has it. */
static gboolean
map (const char *name, dev_t origin, dev_t cow, guint64 sectors, GError **error)
{
  guint first = g_str_hash (name);
  for (guint i = 0; i < MINOR_TRIES; i++) {
    errno = 0;
    if (map_as (name, FIRST_MINOR + (first + i) % MINORS, origin, cow, sectors))
      return TRUE;
    if (errno != EBUSY)
      break;
  }
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno ? errno : EIO, "cannot map the snapshot '%s'", name);
}

static gboolean
size_sectors (int loop, guint64 *ret_sectors, GError **error)
{
  guint64 bytes = 0;
  if (ioctl (loop, BLKGETSIZE64, &bytes) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the image's size");
  *ret_sectors = bytes / 512;
  return *ret_sectors > 0
         || banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "the image is smaller than one sector");
}

/* Writes go no further, and none is on its way, or go on. udev hears of the latter alone: nobody would complete a cookie of
 * the former. Holds device_mapper. */
static gboolean
hold_still (const char *name, gboolean still)
{
  g_autoptr (Task) task = dm_task_create (still ? DM_DEVICE_SUSPEND : DM_DEVICE_RESUME);
  return task && dm_task_set_name (task, name) && (still ? dm_task_run (task) != 0 : run_with_udev (task));
}

/* What the VMM has written to the device may still be in the host's cache of it. */
static gboolean
write_out (dev_t device)
{
  g_autofree char *path = g_strdup_printf ("/dev/dm-%u", minor (device));
  struct stat st;
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  return fd >= 0 && fstat (fd, &st) == 0 && S_ISBLK (st.st_mode) && st.st_rdev == device && fsync (fd) == 0;
}

/* What it takes is known when nothing more is on its way to it; what is expected is counted before the next. Holds
 * device_mapper, but not while it copies. */
static gboolean
copy_counted (const BangerRoot *root, BangerDiskUse *use, gboolean replace, GError **error)
{
  guint64 taken, bytes;
  if (!banger_cow_check_copy (root, use->other, use->id, &taken, &bytes, error))
    return FALSE;
  banger_disk_use_expect (use, MAX (taken, 1), bytes);
  G_UNLOCK (device_mapper);
  gboolean ok = banger_cow_copy (root, use->other, use->id, replace, use->stop, error);
  G_LOCK (device_mapper);
  return ok;
}

/* Holds device_mapper, but not while it writes out and copies, which takes minutes: nobody else is at the two disks, so
 * nobody unmaps the one meanwhile, or maps the other. */
static gboolean
copy_locked (const BangerRoot *root, BangerDiskUse *use, const char *dm, gboolean replace, GError **error)
{
  gboolean present = FALSE;
  dev_t device = 0;
  if (dm && !query (dm, &present, &device, error))
    return FALSE;
  if (!present)
    return copy_counted (root, use, replace, error);
  G_UNLOCK (device_mapper);
  gboolean written = write_out (device);
  G_LOCK (device_mapper);
  if (!written || !hold_still (dm, TRUE))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot hold the snapshot '%s' still", dm);
  gboolean ok = copy_counted (root, use, replace, error);
  if (hold_still (dm, FALSE))
    return ok;
  g_clear_error (error);
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "the snapshot '%s' is still held still", dm);
}

/* Asked when nobody else is at it: whoever maps it writes its lease before. */
static gboolean
check_unleased (const BangerRoot *root, const char *vm, GError **error)
{
  return !banger_lease_exists (root, vm)
         || banger_set_error (error, BANGER_ERROR_IN_USE, "%s has a lease: a VM may use its disk", vm);
}

gboolean
banger_snapshot_copy (const BangerRoot *root, const char *from, const BangerLease *lease, const char *to,
                      gboolean replace, GError **error)
{
  g_autoptr (GCancellable) stop = g_cancellable_new ();
  BangerDiskUse use = { .id = to, .other = from, .stop = stop, .replaces = replace };
  dm_log_with_errno_init (on_dm_log);
  banger_disk_use_begin (&use);
  G_LOCK (device_mapper);
  gboolean ok = check_unleased (root, to, error) && copy_locked (root, &use, lease ? lease->dm : NULL, replace, error);
  G_UNLOCK (device_mapper);
  banger_disk_use_end (&use);
  return ok;
}

gboolean
banger_snapshot_delete (const BangerRoot *root, const char *vm, GError **error)
{
  BangerDiskUse use = { .id = vm };
  banger_disk_use_stop (vm);
  banger_disk_use_begin (&use);
  gboolean ok = banger_cow_delete (root, vm, error);
  banger_disk_use_end (&use);
  return ok;
}

void
banger_snapshot_thaw_all (const BangerRoot *root)
{
  g_autoptr (GPtrArray) leases = banger_snapshot_supported () ? banger_lease_list (root, NULL, NULL) : NULL;
  dm_log_with_errno_init (on_dm_log);
  G_LOCK (device_mapper);
  for (guint i = 0; leases && i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (lease->dm)
      (void)hold_still (lease->dm, FALSE);
  }
  G_UNLOCK (device_mapper);
}

/* Returns: what the VM wrote, open; -1 with error. Its disk has been made if it was to be. */
static int
open_cow (const BangerRoot *root, const BangerLease *lease, const BangerDisk *disk, BangerDiskUse *use, GError **error)
{
  if (disk->from) {
    g_autoptr (GError) why = NULL;
    g_autoptr (BangerLease) other = banger_lease_get (root, disk->from, lease->uid, &why);
    if (!other && !g_error_matches (why, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE)) {
      g_propagate_error (error, g_steal_pointer (&why));
      return -1;
    }
    if (!copy_locked (root, use, other ? other->dm : NULL, TRUE, error))
      return -1;
  }
  return disk->fresh ? banger_cow_make (root, lease->vm, disk->bytes, error) : banger_cow_open (root, lease->vm, error);
}

static gboolean
attach_and_map (const BangerRoot *root, const BangerLease *lease, const BangerDisk *disk, BangerDiskUse *use,
                GError **error)
{
  dev_t origin, cow;
  guint64 sectors = 0;
  banger_autofd int image_fd = banger_gate_file (root->owner_fd, lease->uid, BANGER_MANAGED_IMAGE, lease->image, NULL,
                                                 error);
  banger_autofd int cow_fd = image_fd < 0 ? -1 : open_cow (root, lease, disk, use, error);
  banger_autofd int origin_loop = cow_fd < 0 ? -1 : banger_loop_attach (image_fd, TRUE, &origin, error);
  banger_autofd int cow_loop = origin_loop < 0 ? -1 : banger_loop_attach (cow_fd, FALSE, &cow, error);
  if (cow_loop >= 0 && size_sectors (origin_loop, &sectors, error) && map (lease->dm, origin, cow, sectors, error))
    return TRUE;
  if ((disk->fresh || disk->from) && cow_fd >= 0)
    (void)banger_cow_delete (root, lease->vm, NULL);
  return FALSE;
}

static gboolean
holds_snapshot (const BangerLease *lease)
{
  return lease->dm != NULL;
}

/* Two loops for each snapshot. */
static gboolean
check_room (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  const BangerInstall *install = root->install;
  return banger_lease_check_room (root, lease, holds_snapshot, install->max_snapshots, "limits.snapshots", error)
         && banger_lease_check_room (root, lease, holds_snapshot, install->max_loops / 2, "limits.loops, two each",
                                     error);
}

static gboolean
create_locked (const BangerRoot *root, BangerLease *lease, const char *image, const BangerDisk *disk,
               BangerDiskUse *use, GError **error)
{
  gboolean present = FALSE, held = lease->dm != NULL;
  g_autofree char *name = banger_dm_name (lease->vm);
  dm_log_with_errno_init (on_dm_log);
  if (!query (name, &present, NULL, error))
    return FALSE;
  if (present && !held)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "device '%s' exists and no lease of banger's names it", name);
  if (present)
    return !disk->from
           || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has a snapshot already; remove it first",
                                lease->vm);
  guint64 bytes = disk->fresh ? disk->bytes : 0;
  if ((disk->from && !banger_cow_size (root, disk->from, &bytes, NULL, error)) || !banger_udev_check_rule (error)
      || !banger_cow_check_room (root, lease->vm, bytes, error))
    return FALSE;
  if (!held) {
    if (!check_room (root, lease, error))
      return FALSE;
    lease->dm = g_strdup (name);
    lease->image = g_strdup (image);
    if (!banger_lease_save (root, lease, error))
      return FALSE;
  }
  return attach_and_map (root, lease, disk, use, error);
}

char *
banger_snapshot_create (const BangerRoot *root, BangerLease *lease, const char *image, const BangerDisk *disk,
                        GError **error)
{
  if (!check_support (error))
    return NULL;
  if (lease->image && !g_str_equal (lease->image, image)) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has a snapshot of image %s already; remove it first",
                      lease->vm, lease->image);
    return NULL;
  }
  BangerDiskUse use = { .id = lease->vm, .other = disk->from, .held = TRUE };
  banger_disk_use_begin (&use);
  G_LOCK (device_mapper);
  gboolean ok = create_locked (root, lease, image, disk, &use, error);
  G_UNLOCK (device_mapper);
  banger_disk_use_end (&use);
  return ok ? g_strconcat ("/dev/mapper/", lease->dm, NULL) : NULL;
}

static gboolean
unmap_once (const char *name, gboolean *ret_gone, GError **error)
{
  gboolean present = FALSE;
  *ret_gone = FALSE;
  if (!query (name, &present, NULL, error))
    return FALSE;
  g_autoptr (Task) task = present ? dm_task_create (DM_DEVICE_REMOVE) : NULL;
  *ret_gone = !present || (task && dm_task_set_name (task, name) && run_with_udev (task));
  if (*ret_gone)
    banger_loop_sweep ();
  else if (errno != EBUSY)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot unmap '%s'", name);
  return TRUE;
}

gboolean
banger_snapshot_remove (const BangerLease *lease, GError **error)
{
  gboolean gone = FALSE;
  if (!lease->dm || !banger_snapshot_supported ())
    return TRUE;
  if (!banger_gate_dm_name (lease->dm, lease->vm, error))
    return FALSE;
  for (int i = 0; i < BUSY_TRIES; i++) {
    BangerDiskUse use = { .id = lease->vm };
    banger_disk_use_begin (&use);
    G_LOCK (device_mapper);
    gboolean ok = unmap_once (lease->dm, &gone, error);
    G_UNLOCK (device_mapper);
    banger_disk_use_end (&use);
    if (!ok || gone)
      return ok;
    g_usleep (100000);
  }
  return banger_set_error (error, BANGER_ERROR_IN_USE, "device '%s' was busy for %d seconds", lease->dm,
                           BUSY_TRIES / 10);
}

gboolean
banger_snapshot_device (const BangerLease *lease, dev_t *ret_device, GError **error)
{
  gboolean present = FALSE;
  if (!lease->dm)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has no snapshot; create it first", lease->vm);
  if (!check_support (error))
    return FALSE;
  G_LOCK (device_mapper);
  gboolean ok = query (lease->dm, &present, ret_device, error);
  G_UNLOCK (device_mapper);
  return ok
         && (present || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "the snapshot of VM %s is gone", lease->vm));
}

int
banger_snapshot_open (const BangerLease *lease, GError **error)
{
  dev_t device;
  struct stat st;
  if (!banger_snapshot_device (lease, &device, error))
    return -1;
  g_autofree char *path = g_strdup_printf ("/dev/dm-%u", minor (device)); /* the kernel's name for it */
  banger_autofd int fd = open (path, O_RDWR | O_EXCL | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0 || fstat (fd, &st) < 0)
    banger_set_error_errno (error, errno == EBUSY ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                            "cannot open the snapshot of VM %s", lease->vm);
  else if (!S_ISBLK (st.st_mode) || st.st_rdev != device)
    banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "'%s' is not the snapshot of VM %s", path, lease->vm);
  else
    return banger_steal_fd (&fd);
  return -1;
}

gboolean
banger_snapshot_find (BangerLease *lease, GError **error)
{
  g_autofree char *name = banger_dm_name (lease->vm), *uuid = g_strconcat (UUID_PREFIX, name, NULL);
  if (!banger_snapshot_supported ())
    return TRUE;
  dm_log_with_errno_init (on_dm_log);
  G_LOCK (device_mapper);
  g_autoptr (Task) task = dm_task_create (DM_DEVICE_INFO);
  gboolean ok = task && dm_task_set_name (task, name) && dm_task_run (task);
  if (ok && g_strcmp0 (dm_task_get_uuid (task), uuid) == 0)
    lease->dm = g_steal_pointer (&name);
  G_UNLOCK (device_mapper);
  return ok || banger_set_error (error, BANGER_ERROR_FAILED, "device-mapper does not answer about '%s'", name);
}
