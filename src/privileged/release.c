/* The end of a VM on the helper's side.
 * Runs in worker threads.
 * Never stops at the first step that fails. */
#include "privileged/release.h"

#include <errno.h>
#include <fcntl.h>

#include "common/safe-path.h"
#include "privileged/cgroup.h"
#include "privileged/jail.h"
#include "privileged/nat.h"
#include "privileged/salvage.h"
#include "privileged/snapshot.h"
#include "privileged/tap.h"
#include "privileged/vmm.h"

static gboolean
end_vmm (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_vmm_end (root, lease, BANGER_VMM_KILL_MS, error);
}

static gboolean
remove_cgroup (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return !lease->cgroup
         || banger_cgroup_remove (root->cgroup_fd, root->cgroup_root, lease->cgroup, BANGER_VMM_KILL_MS, error);
}

static gboolean
remove_tap (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return banger_tap_delete (root, lease, error);
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
  { "NAT", banger_nat_release },
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
  if (g_error_matches (why, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE))
    return TRUE;
  if (g_error_matches (why, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT)) {
    g_autoptr (GError) lost = g_steal_pointer (&why);
    lease = banger_salvage (root, vm, uid, lost->message, &why);
  }
  if (!lease) {
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

static gboolean
is_kept (const BangerCall *call, const char *vm)
{
  return g_ptr_array_find_with_equal_func (call->keep, vm, g_str_equal, NULL);
}

/* The lease's word counts beside the table's: a launch that is under way is in the lease first. */
static gboolean
runs (const BangerRoot *root, const BangerLease *lease)
{
  banger_autofd int pidfd = banger_vmm_open (root, lease, NULL);
  return pidfd >= 0 || banger_vmm_is_running (lease);
}

static gboolean
may_reap (const BangerCall *call, const BangerLease *lease)
{
  return lease->uid == call->owner && !is_kept (call, lease->vm) && !runs (call->root, lease);
}

static void
unref_array (gpointer array)
{
  g_ptr_array_unref (array);
}

gboolean
banger_reap_list (BangerCall *call, GError **error)
{
  g_autoptr (GPtrArray) leases = banger_lease_list (call->root, NULL, error);
  if (!leases)
    return FALSE;
  GPtrArray *found = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < leases->len; i++)
    if (may_reap (call, leases->pdata[i]))
      g_ptr_array_add (found, g_strdup (((BangerLease *)leases->pdata[i])->vm));
  call->stage = found;
  call->stage_free = unref_array;
  return TRUE;
}

void
banger_reap_claim (BangerCall *call)
{
  GPtrArray *found = call->stage;
  for (guint i = 0; i < found->len; i++)
    if (!banger_call_claim (call, found->pdata[i]))
      g_ptr_array_remove_index (found, i--);
  banger_call_resume (call, NULL);
}

/* Between the list and the claim a VM may have been launched: it is asked about once more. */
static gboolean
reap_one (BangerCall *call, const char *vm, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_load (call->root, vm, NULL, NULL);
  if (!lease || !may_reap (call, lease))
    return TRUE;
  if (!banger_release_vm (call->root, vm, call->owner, error))
    return FALSE;
  g_ptr_array_add (call->vms, g_strdup (vm));
  return TRUE;
}

gboolean
banger_reap_finish (BangerCall *call, GError **error)
{
  const GPtrArray *found = call->stage;
  g_autoptr (GString) failed = g_string_new (NULL);
  call->vms = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < found->len; i++) {
    g_autoptr (GError) why = NULL;
    if (!reap_one (call, found->pdata[i], &why))
      g_string_append_printf (failed, "%s%s", failed->len ? "; " : "", why->message);
  }
  return failed->len == 0 || banger_set_error (error, BANGER_ERROR_FAILED, "%s", failed->str);
}
