/* The end of a VM on the helper's side.
 * Called by methods.c, in worker threads.
 * Never stops at the first step that fails. */
#include "privileged/release.h"

#include <errno.h>
#include <fcntl.h>

#include "common/safe-path.h"
#include "privileged/cgroup.h"
#include "privileged/jail.h"
#include "privileged/nat.h"
#include "privileged/snapshot.h"
#include "privileged/tap.h"
#include "privileged/vmm.h"

#define KILL_MS 5000

static gboolean
end_vmm (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_vmm_end (lease, KILL_MS, error);
}

static gboolean
remove_cgroup (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return !lease->cgroup || banger_cgroup_remove (root->cgroup_mount, root->cgroup_root, lease->cgroup, KILL_MS, error);
}

static gboolean
remove_tap (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_tap_delete (lease, error);
}

static gboolean
remove_snapshot (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_snapshot_remove (lease, error);
}

static gboolean
remove_jail (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return !lease->jail || banger_jail_remove (root, lease->vm, error);
}

/* Made by the manager, so it may be there without a jail. */
static gboolean
remove_sockets (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_safe_remove_tree (root->sockets_fd, lease->vm, error);
}

/* The VMM first, since it holds the rest. */
static const struct {
  const char *what;
  gboolean (*step) (const BangerRoot *root, BangerLease *lease, GError **error);
} steps[] = {
  { "VMM", end_vmm },
  { "cgroup", remove_cgroup },
  { "NAT", banger_nat_remove },
  { "tap", remove_tap },
  { "snapshot", remove_snapshot },
  { "chroot", remove_jail },
  { "sockets", remove_sockets },
};

gboolean
banger_release_vm (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autoptr (GString) failed = g_string_new (NULL);
  g_autoptr (BangerLease) lease = banger_lease_get (root, vm, uid, &why);
  if (!lease) {
    if (g_error_matches (why, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE))
      return TRUE;
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
  }
  for (size_t i = 0; i < G_N_ELEMENTS (steps); i++) {
    g_autoptr (GError) step = NULL;
    if (!steps[i].step (root, lease, &step))
      g_string_append_printf (failed, "%s%s: %s", failed->len ? "; " : "", steps[i].what, step->message);
  }
  if (failed->len > 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "VM %s is not fully released: %s", vm, failed->str);
  banger_vmm_forget (vm);
  return banger_lease_remove (root, vm, error);
}
