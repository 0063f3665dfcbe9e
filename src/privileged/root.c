/* The helper's folders: made at start, opened once, kept as descriptors.
 * Never chmods or chowns what it did not make itself. */
#include "privileged/root.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "common/names.h"
#include "common/safe-path.h"
#include "privileged/cgroup.h"
#include "privileged/lease-cache.h"

typedef struct {
  uid_t uid;
  gid_t gid;
  mode_t mode;
} Rights;

static gboolean
check_rights (int fd, const Rights *want, const char *what, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_UNSAFE_FILE, errno, "folder '%s'", what);
  if (st.st_uid != want->uid)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "folder '%s' belongs to uid %u, it must belong to uid %u",
                             what, st.st_uid, want->uid);
  if (st.st_mode & 07777 & ~want->mode & 022)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "folder '%s' must not be writable by group or others",
                             what);
  return TRUE;
}

/* Opens @name below @parent, made with @want from birth if it is missing. */
static int
ensure_folder (int parent, const char *name, const Rights *want, gboolean *ret_made, GError **error)
{
  mode_t old = umask (0);
  gboolean made = mkdirat (parent, name, want->mode) == 0;
  int saved = errno;
  umask (old);
  if (ret_made)
    *ret_made = made;
  if (!made && saved != EEXIST) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, saved, "cannot make folder '%s'", name);
    return -1;
  }
  banger_autofd int fd = banger_safe_openat (parent, name, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_XDEV, error);
  if (fd < 0)
    return -1;
  if (made && (want->uid != 0 || want->gid != 0) && fchown (fd, want->uid, want->gid) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot give folder '%s' to uid %u", name, want->uid);
    return -1;
  }
  return check_rights (fd, want, name, error) ? banger_steal_fd (&fd) : -1;
}

/* A folder of the configuration; its parents must be there. */
static int
ensure_base (const char *path, GError **error)
{
  const Rights rights = { 0, 0, 0755 };
  g_autofree char *parent_path = g_path_get_dirname (path), *name = g_path_get_basename (path);
  banger_autofd int parent = open (parent_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open '%s'", parent_path);
    return -1;
  }
  return ensure_folder (parent, name, &rights, NULL, error);
}

static gboolean
open_runtime (BangerRoot *root, GError **error)
{
  const BangerInstall *install = root->install;
  const Rights private = { 0, 0, 0700 }, owners = { install->owner_uid, install->owner_gid, 0700 };
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  root->runtime_fd = ensure_base (install->runtime_dir, error);
  if (root->runtime_fd < 0)
    return FALSE;
  root->leases_fd = ensure_folder (root->runtime_fd, "leases", &private, NULL, error);
  if (root->leases_fd < 0)
    return FALSE;
  root->leases = banger_lease_cache_new (root->leases_fd, TRUE);
  root->sockets_fd = ensure_folder (root->runtime_fd, uid, &owners, NULL, error);
  return root->sockets_fd >= 0;
}

/* vms, images and kernels are made while the folder is still root's: nobody can put a link in between. */
static int
ensure_owner_folder (int state_fd, const BangerInstall *install, GError **error)
{
  static const char *const below[] = { BANGER_STATE_FOLDERS };
  const Rights owners = { install->owner_uid, install->owner_gid, 0700 }, roots = { 0, 0, 0700 };
  g_autofree char *uid = g_strdup_printf ("%u", install->owner_uid);
  struct stat st;
  if (fstatat (state_fd, uid, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid != 0)
    return ensure_folder (state_fd, uid, &owners, NULL, error);
  banger_autofd int fd = ensure_folder (state_fd, uid, &roots, NULL, error);
  for (size_t i = 0; fd >= 0 && i < G_N_ELEMENTS (below); i++) {
    struct stat made;
    if (mkdirat (fd, below[i], 0700) < 0 && errno != EEXIST)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make folder '%s'", below[i]), -1;
    if (fstatat (fd, below[i], &made, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR (made.st_mode)
        || fchownat (fd, below[i], owners.uid, owners.gid, AT_SYMLINK_NOFOLLOW) < 0)
      return banger_set_error (error, BANGER_ERROR_FAILED, "cannot give folder '%s' to uid %u", below[i], owners.uid),
             -1;
  }
  if (fd >= 0 && fchown (fd, owners.uid, owners.gid) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot give '%s' to its owner", uid), -1;
  return banger_steal_fd (&fd);
}

static gboolean
open_state (BangerRoot *root, GError **error)
{
  const Rights roots = { 0, 0, 0711 }, private = { 0, 0, 0700 };
  g_autofree char *uid = g_strdup_printf ("%u", root->install->owner_uid);
  banger_autofd int state = ensure_base (root->install->state_dir, error);
  if (state < 0)
    return FALSE;
  root->owner_fd = ensure_owner_folder (state, root->install, error);
  if (root->owner_fd < 0)
    return FALSE;
  banger_autofd int jail = ensure_folder (state, BANGER_JAIL_DIR, &roots, NULL, error);
  root->jail_fd = jail < 0 ? -1 : ensure_folder (jail, BANGER_JAIL_EXEC_NAME, &roots, NULL, error);
  if (root->jail_fd < 0)
    return FALSE;
  banger_autofd int cow = ensure_folder (state, BANGER_COW_DIR, &private, NULL, error);
  root->cow_fd = cow < 0 ? -1 : ensure_folder (cow, uid, &private, NULL, error);
  return root->cow_fd >= 0;
}

BangerRoot *
banger_root_open (const BangerInstall *install, GError **error)
{
  g_autoptr (BangerRoot) root = g_new0 (BangerRoot, 1);
  root->install = install;
  root->runtime_fd = root->leases_fd = root->sockets_fd = root->owner_fd = root->jail_fd = root->cow_fd
      = root->cgroup_fd = -1;
  root->systemd = sd_booted () > 0;
  if (!open_runtime (root, error) || !open_state (root, error))
    return NULL;
  root->cgroup_fd = banger_cgroup_find (&root->cgroup_root, &root->cgroup_own, error);
  return root->cgroup_fd >= 0 ? g_steal_pointer (&root) : NULL;
}

void
banger_root_free (BangerRoot *root)
{
  if (!root)
    return;
  banger_clear_fd (&root->runtime_fd);
  banger_lease_cache_free (root->leases);
  banger_clear_fd (&root->leases_fd);
  banger_clear_fd (&root->sockets_fd);
  banger_clear_fd (&root->owner_fd);
  banger_clear_fd (&root->jail_fd);
  banger_clear_fd (&root->cow_fd);
  banger_clear_fd (&root->cgroup_fd);
  g_free (root->cgroup_root);
  g_free (root->cgroup_own);
  g_free (root);
}

/* Given to the owner before it has content. */
int
banger_root_create_file (const BangerRoot *root, const char *path, int flags, guint64 bytes, GError **error)
{
  banger_autofd int fd = banger_safe_openat (root->owner_fd, path, flags | O_CREAT | O_EXCL, 0600, BANGER_SAFE_NONE,
                                             error);
  if (fd < 0)
    return -1;
  if (fchown (fd, root->install->owner_uid, root->install->owner_gid) == 0 && ftruncate (fd, (off_t)bytes) == 0)
    return banger_steal_fd (&fd);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make '%s'", path);
  return -1;
}
