/* What VMs wrote over their images: files of root's, one for each VM, which outlive its stops.
 * Runs in worker threads.
 * Never takes a file that anybody but root could have written: the kernel believes its header. */
#include "privileged/cow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/disk-use.h"

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define MAX_BYTES (G_GUINT64_CONSTANT (4) << 40)
/* Linux 6.1, drivers/md/dm-snap.c: tables of at most 2 MiB and an eighth of that, buffers of a chunk each, and 32 bytes
 * for each chunk of 4 KiB that was written. */
#define KERNEL_BYTES (3 * MIB)
#define KERNEL_SHARE 128
#define SPARE_BYTES (16 * MIB)
#define MOST_NAMES 16384 /* the owner makes what is below its vms/ */

GPtrArray *
banger_cow_list (int folder_fd, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  banger_autofolder DIR *dir = banger_folder_open (folder_fd, ".");
  const struct dirent *entry;
  while (names->len <= MOST_NAMES && (entry = banger_folder_next (dir)))
    if (entry->d_name[0] != '.')
      g_ptr_array_add (names, g_strdup (entry->d_name));
  if (names->len > MOST_NAMES)
    errno = E2BIG;
  if (errno == 0)
    return g_steal_pointer (&names);
  banger_set_error_errno (error, errno == E2BIG ? BANGER_ERROR_LIMITS_EXCEEDED : BANGER_ERROR_FAILED, errno,
                          "cannot list the disks of VMs");
  return NULL;
}

static int
open_file (const BangerRoot *root, const char *vm, int flags, gboolean *ret_missing, GError **error)
{
  struct stat st;
  *ret_missing = fstatat (root->cow_fd, vm, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
  banger_autofd int fd = banger_safe_openat (root->cow_fd, vm, flags | O_NONBLOCK, 0, BANGER_SAFE_NONE, error);
  return fd >= 0 && banger_safe_check_regular (fd, 0, MAX_BYTES, vm, NULL, error) ? banger_steal_fd (&fd) : -1;
}

static int
open_existing (const BangerRoot *root, const char *vm, int flags, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  int fd = open_file (root, vm, flags, &missing, &why);
  if (fd < 0 && missing)
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                      "the disk of VM %s is gone (%s/" BANGER_COW_DIR "/%u/%s): all that it wrote is lost unless the "
                      "file is put back; an empty one is not put in its place",
                      vm, root->install->state_dir, root->install->owner_uid, vm);
  else if (fd < 0)
    g_propagate_error (error, g_steal_pointer (&why));
  return fd;
}

int
banger_cow_open (const BangerRoot *root, const char *vm, GError **error)
{
  return open_existing (root, vm, O_RDWR, error);
}

int
banger_cow_open_to_read (const BangerRoot *root, const char *vm, GError **error)
{
  return open_existing (root, vm, O_RDONLY, error);
}

/* The name is as durable as what it names. */
static gboolean
sync_folder (const BangerRoot *root, GError **error)
{
  return fsync (root->cow_fd) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the folder of disks to the disk");
}

int
banger_cow_make (const BangerRoot *root, const char *vm, guint64 bytes, GError **error)
{
  if (!banger_cow_delete (root, vm, error))
    return -1;
  banger_autofd int fd = openat (root->cow_fd, vm, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate (fd, (off_t)bytes) < 0 || fsync (fd) < 0)
    banger_set_error_errno (error, errno == ENOSPC ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errno,
                            "cannot make the disk of VM %s", vm);
  else if (sync_folder (root, error))
    return banger_steal_fd (&fd);
  (void)unlinkat (root->cow_fd, vm, 0);
  return -1;
}

gboolean
banger_cow_sync (const BangerRoot *root, const char *vm, GError **error)
{
  banger_autofd int fd = banger_cow_open (root, vm, error);
  return fd >= 0
         && (fsync (fd) == 0
             || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the disk of VM %s", vm));
}

int
banger_cow_open_to_go (const BangerRoot *root, const char *vm)
{
  return openat (root->cow_fd, vm, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

void
banger_cow_empty (int fd, const char *vm)
{
  if (fd >= 0 && ftruncate (fd, 0) < 0)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, vm), "the old disk of VM %s cannot be emptied: %s", vm,
                g_strerror (errno));
}

gboolean
banger_cow_delete (const BangerRoot *root, const char *vm, GError **error)
{
  banger_autofd int fd = banger_cow_open_to_go (root, vm);
  if (unlinkat (root->cow_fd, vm, 0) == 0) {
    banger_cow_empty (fd, vm);
    return sync_folder (root, error);
  }
  return errno == ENOENT
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot delete the disk of VM %s", vm);
}

guint64
banger_cow_kernel_bytes (guint64 bytes)
{
  return KERNEL_BYTES + bytes / KERNEL_SHARE;
}

static gboolean
limits_exceeded (guint64 bytes, guint64 limit, const char *what, const char *key, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                           "%s %" G_GUINT64_FORMAT " MiB, more than %" G_GUINT64_FORMAT " MiB are not allowed (%s)",
                           what, bytes / MIB, limit / MIB, key);
}

/* What the disks take, and what they can come to while those run that are held, the new one with them. */
typedef struct {
  guint64 taken, full; /* bytes */
  guint64 kernel;      /* of its memory, if each that is held is written all over */
} Sums;

/* A lease that cannot be read may hold a snapshot. */
static GHashTable *
list_held (const BangerRoot *root, const char *but, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  g_autoptr (GHashTable) held = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  if (!leases)
    return NULL;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (lease->dm)
      g_hash_table_add (held, g_strdup (lease->vm));
  }
  for (guint i = 0; i < broken->len; i++)
    g_hash_table_add (held, g_strdup (broken->pdata[i]));
  g_hash_table_add (held, g_strdup (but));
  return g_steal_pointer (&held);
}

/* What files of these names take below @kind, but in the folder @but. */
static gboolean
owners_bytes (const BangerRoot *root, const char *kind, const char *const *names, const char *but, guint64 *bytes,
              GError **error)
{
  banger_autofd int kind_fd = banger_safe_openat (root->owner_fd, kind, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE,
                                                  NULL);
  g_autoptr (GPtrArray) folders = kind_fd < 0 ? NULL : banger_cow_list (kind_fd, error);
  for (guint i = 0; folders && i < folders->len; i++) {
    const char *id = folders->pdata[i];
    struct stat st;
    banger_autofd int folder = g_str_equal (id, but) || !banger_id_check (id, "id", NULL)
                                   ? -1
                                   : banger_safe_openat (kind_fd, id, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE,
                                                         NULL);
    for (const char *const *name = names; folder >= 0 && *name; name++)
      if (fstatat (folder, *name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG (st.st_mode))
        *bytes += (guint64)st.st_blocks * 512;
  }
  return kind_fd < 0 || folders;
}

/* What the guests of suspended VMs and of snapshots take on the disk, but @but's: it goes when that goes on. */
static gboolean
guests_bytes (const BangerRoot *root, const char *but, guint64 *ret_bytes, GError **error)
{
  static const char *const of_vm[] = { BANGER_FILE_VM_SAVED_STATE, BANGER_FILE_VM_SAVED_MEMORY,
                                       BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_VM_SAVE_MEMORY, NULL },
                           *const of_snapshot[] = { BANGER_FILE_TEMPLATE_STATE, BANGER_FILE_TEMPLATE_MEMORY,
                                                    BANGER_FILE_VM_WORK, BANGER_FILE_VM_ROOTFS, NULL };
  *ret_bytes = 0;
  return owners_bytes (root, BANGER_FOLDER_VMS, of_vm, but, ret_bytes, error)
         && owners_bytes (root, BANGER_FOLDER_SNAPSHOTS, of_snapshot, "", ret_bytes, error);
}

typedef struct {
  Sums *sums;
  GHashTable *coming; /* set: whose file is counted as it will be, or its part */
} Coming;

static void
add_coming (const BangerDiskUse *use, gpointer data)
{
  const Coming *coming = data;
  coming->sums->taken += use->taken;
  coming->sums->full += use->held ? MAX (use->size, use->taken) : use->taken;
  coming->sums->kernel += use->held ? banger_cow_kernel_bytes (use->size) : 0;
  if (!use->replaces)
    g_hash_table_add (coming->coming, g_strdup (use->id));
}

static gboolean
is_coming (GHashTable *coming, const char *name)
{
  return g_str_has_suffix (name, BANGER_COW_PART) || g_hash_table_contains (coming, name);
}

/* @fresh: the size of the disk that is to be made for @vm, in place of one that is there; 0: it has one. */
static gboolean
sum_up (const BangerRoot *root, const char *vm, guint64 fresh, Sums *ret, GError **error)
{
  g_autoptr (GHashTable) held = list_held (root, vm, error);
  g_autoptr (GHashTable) coming = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Sums sums = { 0, fresh, fresh ? banger_cow_kernel_bytes (fresh) : 0 };
  banger_disk_use_foreach (add_coming, &(Coming){ &sums, coming });
  g_autoptr (GPtrArray) names = held ? banger_cow_list (root->cow_fd, error) : NULL;
  for (guint i = 0; names && i < names->len; i++) {
    struct stat st;
    if (is_coming (coming, names->pdata[i]) || fstatat (root->cow_fd, names->pdata[i], &st, AT_SYMLINK_NOFOLLOW) < 0
        || (fresh && g_str_equal (names->pdata[i], vm)))
      continue;
    guint64 blocks = (guint64)st.st_blocks * 512, size = (guint64)st.st_size;
    gboolean grows = g_hash_table_contains (held, names->pdata[i]);
    sums.taken += blocks;
    sums.full += grows ? MAX (size, blocks) : blocks;
    sums.kernel += grows ? banger_cow_kernel_bytes (size) : 0;
  }
  guint64 suspended = 0;
  if (root->install->max_disk_mib > 0 && !guests_bytes (root, vm, &suspended, error))
    return FALSE;
  sums.taken += suspended;
  sums.full += suspended;
  *ret = sums;
  return names != NULL;
}

/* A loop writes with root's rights, also into what a file system keeps for root. */
static gboolean
check_disk (const BangerRoot *root, const Sums *sums, GError **error)
{
  struct statvfs fs;
  const guint64 own = root->install->max_disk_mib * MIB;
  if (fstatvfs (root->cow_fd, &fs) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the file system of disks");
  const guint64 unit = fs.f_frsize, all = (fs.f_blocks - (fs.f_bfree - fs.f_bavail)) * unit;
  if (own && sums->full > own)
    return limits_exceeded (sums->full, own, "with this one the disks of VMs could take", "limits.disk-mib", error);
  if (sums->taken >= all)
    return limits_exceeded (sums->taken, all, "the disks of VMs take", "limits.disk-mib", error);
  return fs.f_bavail * unit >= SPARE_BYTES
         || banger_set_error (error, BANGER_ERROR_NO_SPACE,
                              "the file system of %s/" BANGER_COW_DIR " has less than %d MiB left, but for what is "
                              "reserved for root",
                              root->install->state_dir, (int)(SPARE_BYTES / MIB));
}

gboolean
banger_cow_check_room (const BangerRoot *root, const char *vm, guint64 fresh, GError **error)
{
  const guint64 limit = root->install->max_snapshot_memory_mib * MIB;
  Sums sums;
  if (!sum_up (root, vm, fresh, &sums, error))
    return FALSE;
  if (sums.kernel > limit)
    return limits_exceeded (sums.kernel, limit, "with this one the kernel would need for snapshots up to",
                            "limits.snapshot-memory-mib", error);
  return check_disk (root, &sums, error);
}

gboolean
banger_cow_check_taken (const BangerRoot *root, guint64 bytes, GError **error)
{
  Sums sums;
  if (!sum_up (root, "", 0, &sums, error))
    return FALSE;
  sums.taken += bytes;
  sums.full += bytes;
  return check_disk (root, &sums, error);
}

gboolean
banger_cow_check_guest (const BangerRoot *root, const char *vm, guint64 bytes, GError **error)
{
  const guint64 limit = root->install->max_disk_mib * MIB;
  Sums sums;
  if (limit == 0)
    return TRUE;
  if (!sum_up (root, vm, 0, &sums, error))
    return FALSE;
  return sums.full + bytes <= limit
         || limits_exceeded (sums.full + bytes, limit, "with its memory the disks of VMs could take", "limits.disk-mib",
                             error);
}
