/* A VM whose lease cannot be read any more: what its id and the kernel say of it.
 * Never takes what may be another user's. */
#include "privileged/salvage.h"

#include <errno.h>
#include <fcntl.h>

#include "common/folder.h"
#include "common/log.h"
#include "common/names.h"
#include "common/safe-path.h"
#include "common/validate.h"
#include "privileged/cgroup.h"
#include "privileged/snapshot.h"
#include "privileged/tap.h"
#include "privileged/vmm.h"

/* As bangerd makes them, and renames those whose record it cannot read. */
static gboolean
has_folder (const BangerRoot *root, uid_t uid, const char *vm)
{
  static const char *const suffixes[] = { "", ".unreadable" };
  for (size_t i = 0; i < G_N_ELEMENTS (suffixes); i++) {
    g_autofree char *path = g_strconcat ("vms/", vm, suffixes[i], NULL);
    struct stat st;
    banger_autofd int fd = banger_safe_openat (root->owner_fd, path, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_XDEV, NULL);
    if (fd >= 0 && fstat (fd, &st) == 0 && st.st_uid == uid)
      return TRUE;
  }
  return FALSE;
}

/* Below the state folder. What cannot be told counts as there: it is only ever a reason to refuse. */
static gboolean
has_anything (int state, uid_t uid, const char *vm)
{
  static const struct {
    const char *before, *between, *after;
  } places[] = { { "", "/vms/", "" }, { "", "/vms/", ".unreadable" }, { BANGER_COW_DIR "/", "/", "" } };
  for (size_t i = 0; i < G_N_ELEMENTS (places); i++) {
    g_autofree char *path = g_strdup_printf ("%s%u%s%s%s", places[i].before, uid, places[i].between, vm,
                                             places[i].after);
    struct stat st;
    if (fstatat (state, path, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
      return TRUE;
  }
  return FALSE;
}

/* The folder is the owner's to make, so it alone proves nothing: nobody else may have one, in either place. */
static gboolean
check_owner (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  static const char *const below[] = { "", "/" BANGER_COW_DIR };
  const char *top = root->install->state_dir;
  banger_autofd int state = open (top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (state < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open '%s'", top);
  gboolean foreign = banger_lease_is_of_another (root, vm, uid);
  for (size_t i = 0; i < G_N_ELEMENTS (below); i++) {
    g_autofree char *path = g_strconcat (top, below[i], NULL);
    banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, path);
    guint64 other;
    for (const struct dirent *entry; (entry = banger_folder_next (dir));)
      foreign |= banger_uint_parse (entry->d_name, 0, G_MAXUINT32 - 1, &other, NULL) && other != uid
                 && has_anything (state, (uid_t)other, vm);
    if (errno != 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list '%s'", path);
  }
  if (foreign)
    return banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "VM %s is held by another user", vm);
  return has_folder (root, uid, vm)
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                              "the lease of %s cannot be read, and uid %u has no folder of that VM", vm, uid);
}

static void
say (const BangerLease *lease, const char *why)
{
  banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, lease->vm, BANGER_FIELD_ERROR, why),
              "the lease of VM %s is lost (%s); written anew from its id: %s on bridge %s for %s, cgroup %s. Not known "
              "any more: whether it had NAT, and which image its disk was over",
              lease->vm, why, lease->tap ? lease->tap : "no tap", lease->bridge ? lease->bridge : "(none)",
              lease->guest_address ? lease->guest_address : "no address", lease->cgroup);
}

BangerLease *
banger_salvage (const BangerRoot *root, const char *vm, uid_t uid, const char *why, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_new (vm, uid);
  lease->cgroup = banger_cgroup_of_vm (root->systemd, root->cgroup_own, vm);
  lease->jail = TRUE;
  if (!check_owner (root, vm, uid, error) || !banger_vmm_end_group (vm, uid, BANGER_VMM_KILL_MS, error)
      || !banger_snapshot_find (lease, error) || !banger_snapshot_remove (lease, error)
      || !banger_tap_find (root, lease, error))
    return NULL;
  g_clear_pointer (&lease->dm, g_free); /* a lease that names one names its image */
  if (!banger_lease_save (root, lease, error))
    return NULL;
  say (lease, why);
  return g_steal_pointer (&lease);
}
