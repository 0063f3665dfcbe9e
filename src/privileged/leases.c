/* All leases together: whose one is, and what together they may hold.
 * Never makes one beyond a quota, nor one that another one's names would meet. */
#include <string.h>

#include "common/ids.h"
#include "privileged/gate.h"
#include "privileged/lease-cache.h"
#include "privileged/lease.h"

G_LOCK_DEFINE_STATIC (new_leases); /* held from the count to the save */

GPtrArray *
banger_lease_list (const BangerRoot *root, GPtrArray **ret_broken, GError **error)
{
  g_autoptr (BangerLeaseCache) once = root->leases ? NULL : banger_lease_cache_new (root->leases_fd, FALSE);
  return banger_lease_cache_list (root->leases ? root->leases : once, ret_broken, error);
}

gboolean
banger_lease_check_room (const BangerRoot *root, const BangerLease *lease, BangerLeaseHolds holds, guint64 max,
                         const char *key, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  if (!leases)
    return FALSE;
  guint64 held = broken->len; /* they may hold anything */
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *other = leases->pdata[i];
    held += other->uid == lease->uid && !g_str_equal (other->vm, lease->vm) && holds (other);
  }
  return held < max
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                              "%" G_GUINT64_FORMAT " VMs of uid %u hold one already, no more are allowed (%s)", held,
                              lease->uid, key);
}

gboolean
banger_lease_memory (const BangerRoot *root, const char *but, BangerLeaseHolds holds, guint64 *ret_mib, GError **error)
{
  g_autoptr (GPtrArray) leases = banger_lease_list (root, NULL, error);
  *ret_mib = 0;
  for (guint i = 0; leases && i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (lease->memory_mib > 0 && !g_str_equal (lease->vm, but) && holds (lease))
      *ret_mib += lease->memory_mib;
  }
  return leases != NULL;
}

static BangerLease *
load_owned (const BangerRoot *root, const char *vm, uid_t uid, gboolean *ret_missing, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_load (root, vm, ret_missing, error);
  if (lease && lease->uid != uid) {
    banger_set_error (error, BANGER_ERROR_ACCESS_DENIED, "VM %s is held by another user", vm);
    return NULL;
  }
  return g_steal_pointer (&lease);
}

BangerLease *
banger_lease_get (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  BangerLease *lease = load_owned (root, vm, uid, &missing, &why);
  if (missing)
    banger_set_error (error, BANGER_ERROR_NO_SUCH_LEASE, "nothing is held for VM %s", vm);
  else if (!lease)
    g_propagate_error (error, g_steal_pointer (&why));
  return lease;
}

static gboolean
check_names (const char *vm, const char *other, GError **error)
{
  const char *what = strncmp (other, vm, 8) == 0                   ? "tap name"
                     : banger_vm_gid (other) == banger_vm_gid (vm) ? "group"
                                                                   : NULL;
  return !what
         || banger_set_error (error, BANGER_ERROR_IN_USE, "VM %s has the same %s as VM %s; choose another id", vm, what,
                              other);
}

/* A broken lease counts: it may hold anything. */
static gboolean
check_room (const BangerRoot *root, const char *vm, uid_t uid, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  if (!leases)
    return FALSE;
  guint64 held = broken->len;
  for (guint i = 0; i < broken->len; i++)
    if (!check_names (vm, broken->pdata[i], error))
      return FALSE;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *other = leases->pdata[i];
    if (!check_names (vm, other->vm, error))
      return FALSE;
    held += other->uid == uid;
  }
  if (held >= root->install->max_vms)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%" G_GUINT64_FORMAT " VMs hold resources, no more are allowed (limits.vms)", held);
  return TRUE;
}

BangerLease *
banger_lease_ensure (const BangerRoot *root, const char *vm, uid_t uid, gboolean *ret_new, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  if (ret_new)
    *ret_new = FALSE;
  g_autoptr (BangerLease) lease = load_owned (root, vm, uid, &missing, &why);
  if (lease)
    return g_steal_pointer (&lease);
  if (!missing) {
    g_propagate_error (error, g_steal_pointer (&why));
    return NULL;
  }
  lease = banger_lease_new (vm, uid);
  G_LOCK (new_leases);
  gboolean ok = check_room (root, vm, uid, error) && banger_lease_save (root, lease, error);
  G_UNLOCK (new_leases);
  if (ok && ret_new)
    *ret_new = TRUE;
  return ok ? g_steal_pointer (&lease) : NULL;
}
