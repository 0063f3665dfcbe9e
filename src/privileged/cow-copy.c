/* Disks that are copied, and those of which nobody knows any more.
 * Runs in worker threads; the sweep before anybody can call.
 * Never leaves half a disk under its name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/sparse-copy.h"
#include "common/validate.h"
#include "privileged/cow.h"
#include "privileged/disk-use.h"

#define SPARE_BYTES (G_GUINT64_CONSTANT (16) << 20)

gboolean
banger_cow_size (const BangerRoot *root, const char *vm, guint64 *ret_bytes, guint64 *ret_taken, GError **error)
{
  struct stat st;
  banger_autofd int fd = banger_cow_open (root, vm, error);
  if (fd < 0)
    return FALSE;
  if (fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the disk of %s", vm);
  *ret_bytes = (guint64)st.st_size;
  if (ret_taken)
    *ret_taken = (guint64)st.st_blocks * 512;
  return TRUE;
}

static void
add_taken (const BangerDiskUse *use, gpointer data)
{
  *(guint64 *)data += use->taken;
}

/* What root may write beyond that is not for the owner's copies, all that are under way together. */
gboolean
banger_cow_check_copy (const BangerRoot *root, const char *from, const char *to, guint64 *ret_taken, guint64 *ret_bytes,
                       GError **error)
{
  struct statvfs fs;
  guint64 coming = 0;
  if (!banger_cow_size (root, from, ret_bytes, ret_taken, error) || !banger_cow_check_taken (root, *ret_taken, error))
    return FALSE;
  if (fstatvfs (root->cow_fd, &fs) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the file system of disks");
  banger_disk_use_foreach (add_taken, &coming);
  return fs.f_bavail * fs.f_frsize >= coming + *ret_taken + SPARE_BYTES
         || banger_set_error (error, BANGER_ERROR_NO_SPACE,
                              "there is no room for the disk of %s, a copy of %" G_GUINT64_FORMAT " MiB", to,
                              *ret_taken >> 20);
}

static gboolean
fill (int from, int to, const char *name, GCancellable *cancellable, GError **error)
{
  struct stat st;
  if (fstat (from, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the disk to copy");
  const BangerSparseCopy copy = {
    .from = from, .to = to, .size = (guint64)st.st_size, .name = name, .cancellable = cancellable
  };
  return banger_sparse_copy (&copy, error)
         && (fsync (to) == 0
             || banger_set_error_errno (error, errno == ENOSPC ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errno,
                                        "cannot write %s", name));
}

static gboolean
publish (const BangerRoot *root, const char *part, const char *to, gboolean replace, GError **error)
{
  banger_autofd int old = replace ? banger_cow_open_to_go (root, to) : -1;
  if (renameat2 (root->cow_fd, part, root->cow_fd, to, replace ? 0 : RENAME_NOREPLACE) == 0) {
    banger_cow_empty (old, to);
    return fsync (root->cow_fd) == 0
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno,
                                      "cannot write the folder of disks to the disk");
  }
  return banger_set_error_errno (error, errno == EEXIST ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                                 "cannot keep the disk of %s", to);
}

gboolean
banger_cow_copy (const BangerRoot *root, const char *from, const char *to, gboolean replace, GCancellable *cancellable,
                 GError **error)
{
  struct stat st;
  g_autofree char *part = g_strconcat (to, BANGER_COW_PART, NULL), *name = g_strdup_printf ("the disk of %s", to);
  banger_autofd int from_fd = banger_cow_open (root, from, error);
  if (from_fd < 0)
    return FALSE;
  if (!replace && fstatat (root->cow_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "%s has a disk already", to);
  if (unlinkat (root->cow_fd, part, 0) < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot remove the old %s", part);
  banger_autofd int to_fd = openat (root->cow_fd, part, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (to_fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the disk of %s", to);
  /* Its folder may have gone meanwhile, and who waited for it: nobody would ever delete it. */
  if (fill (from_fd, to_fd, name, cancellable, error) && (replace || banger_cow_check_owner (root, to, error))
      && publish (root, part, to, replace, error))
    return TRUE;
  (void)unlinkat (root->cow_fd, part, 0);
  return FALSE;
}

static const char *const folders[] = { BANGER_DISK_FOLDERS };

static int
open_folder (const BangerRoot *root, const char *name, GError **error)
{
  struct stat st;
  if (fstatat (root->owner_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
    return -1;
  return banger_safe_openat (root->owner_fd, name, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_XDEV, error);
}

/* Also the folder of a VM whose record could not be read, which bangerd has renamed. */
static gboolean
has_folder (int folder_fd, const char *id)
{
  const char *const suffixes[] = { "", ".unreadable" };
  for (size_t i = 0; i < G_N_ELEMENTS (suffixes); i++) {
    g_autofree char *name = g_strconcat (id, suffixes[i], NULL);
    struct stat st;
    if (fstatat (folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
      return TRUE;
  }
  return FALSE;
}

gboolean
banger_cow_check_owner (const BangerRoot *root, const char *id, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++) {
    g_autoptr (GError) why = NULL;
    struct stat st;
    banger_autofd int fd = open_folder (root, folders[i], &why);
    if (fd >= 0 && fstatat (fd, id, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR (st.st_mode))
      return TRUE;
  }
  return banger_set_error (error, BANGER_ERROR_NO_SUCH_VM,
                           "there is no VM, template or snapshot '%s': make its folder first", id);
}

/* What is below the owner's folders, open. */
typedef struct {
  int fds[G_N_ELEMENTS (folders)];
  gboolean any; /* something is */
} Owned;

static gboolean
open_owned (const BangerRoot *root, Owned *owned, GError **error)
{
  GError *why = NULL;
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++)
    owned->fds[i] = -1;
  for (size_t i = 0; !why && i < G_N_ELEMENTS (folders); i++) {
    owned->fds[i] = open_folder (root, folders[i], &why);
    g_autoptr (GPtrArray) names = owned->fds[i] < 0 ? NULL : banger_cow_list (owned->fds[i], &why);
    owned->any |= names && names->len > 0;
  }
  if (why)
    g_propagate_error (error, why);
  return why == NULL;
}

static gboolean
is_owned (const Owned *owned, const char *id)
{
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++)
    if (owned->fds[i] >= 0 && has_folder (owned->fds[i], id))
      return TRUE;
  return FALSE;
}

static void
sweep_one (const BangerRoot *root, const Owned *owned, const char *id)
{
  g_autoptr (GError) error = NULL;
  if (g_str_has_suffix (id, BANGER_COW_PART)) { /* of a copy that was not finished */
    (void)unlinkat (root->cow_fd, id, 0);
    return;
  }
  if (!banger_id_check (id, "disk", NULL) || banger_lease_exists (root, id) || is_owned (owned, id))
    return;
  if (!owned->any)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, id),
                "the disk of VM %s is kept, though its owner has no VM: is a file system not mounted?", id);
  else if (banger_cow_delete (root, id, &error))
    banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, id), "deleted the disk of VM %s, which is no more", id);
  else
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, id), "%s", error->message);
}

void
banger_cow_sweep (const BangerRoot *root)
{
  g_autoptr (GError) error = NULL;
  Owned owned = { 0 };
  g_autoptr (GPtrArray) disks = open_owned (root, &owned, &error) ? banger_cow_list (root->cow_fd, &error) : NULL;
  if (error)
    banger_log (LOG_WARNING, NULL, "disks of VMs that are no more are not looked for: %s", error->message);
  for (guint i = 0; disks && i < disks->len; i++)
    sweep_one (root, &owned, disks->pdata[i]);
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++)
    banger_clear_fd (&owned.fds[i]);
}
