/* The guests' way out: NAT, and IPv4 forwarding for it.
 * Runs in worker threads.
 * Never lets out a guest whose lease does not say so. */
#include "privileged/nat.h"

#include <net/if.h>

#include "privileged/filter.h"
#include "privileged/forward.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

static gboolean
tap_is_there (const BangerLease *lease)
{
  return lease->tap && if_nametoindex (lease->tap) > 0;
}

/* The lease says it first when a guest gets NAT, and first when it loses it: the tables are what the leases say. But
 * one that is about to go need not say it: on a full disk it could not. */
static gboolean
set_locked (const BangerRoot *root, BangerLease *lease, gboolean on, gboolean going, GError **error)
{
  gboolean before = lease->nat;
  lease->nat = on;
  if ((on == before || banger_lease_save (root, lease, going ? NULL : error) || going)
      && (!tap_is_there (lease) || banger_filter_add_locked (root, lease, error))
      && banger_forward_apply_locked (root, going ? lease->vm : NULL, error)) /* one that stays may have links */
    return TRUE;
  lease->nat = before || on; /* what may be held is named */
  (void)banger_lease_save (root, lease, NULL);
  return FALSE;
}

gboolean
banger_nat_ensure (const BangerRoot *root, BangerLease *lease, const char *address, GError **error)
{
  if (!tap_is_there (lease))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has no tap yet; create it first", lease->vm);
  if (!banger_gate_guest_address (address, lease->bridge_address, error))
    return FALSE;
  if (g_strcmp0 (lease->guest_address, address) != 0)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has a tap for %s; delete it first", lease->vm,
                             lease->guest_address ? lease->guest_address : "no address");
  G_LOCK (banger_network);
  gboolean ok = set_locked (root, lease, TRUE, FALSE, error);
  G_UNLOCK (banger_network);
  return ok;
}

static gboolean
take_back (const BangerRoot *root, BangerLease *lease, gboolean going, GError **error)
{
  if (!lease->tap)
    return TRUE;
  G_LOCK (banger_network);
  gboolean ok = set_locked (root, lease, FALSE, going, error);
  G_UNLOCK (banger_network);
  return ok;
}

gboolean
banger_nat_remove (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return take_back (root, lease, FALSE, error);
}

gboolean
banger_nat_release (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return take_back (root, lease, TRUE, error);
}
