/* The parts of PrepareVm.
 * The row of the method table (methods.c) calls it.
 * Never does itself what a power does: each part is the function behind a method of its own. */
#include "privileged/prepare.h"

#include "common/log.h"
#include "common/names.h"
#include "privileged/lease.h"
#include "privileged/nat.h"
#include "privileged/snapshot.h"
#include "privileged/tap.h"

static gboolean
make_tap (BangerCall *call, BangerLease *lease, GError **error)
{
  const BangerTapPlace place = { call->strings[BANGER_ARG_BRIDGE], call->strings[BANGER_ARG_ADDRESS],
                                 call->strings[BANGER_ARG_GUEST_ADDRESS], call->nat };
  call->text = banger_tap_create (call->root, lease, &place, error);
  return call->text != NULL;
}

static gboolean
make_nat (BangerCall *call, BangerLease *lease, GError **error)
{
  return !call->nat || banger_nat_ensure (call->root, lease, call->strings[BANGER_ARG_GUEST_ADDRESS], error);
}

/* Its elements came with the tap's. */
static gboolean
undo_nat (const BangerRoot *root, BangerLease *lease, GError **error)
{
  return !lease->nat || banger_nat_release (root, lease, error);
}

/* A VM that began with a snapshot cannot go on without; one that is new can begin with a copy of the image,
 * or of what the other disk belongs to. */
static gboolean
make_disk (BangerCall *call, BangerLease *lease, GError **error)
{
  const BangerDisk disk = { call->fresh, call->cow_bytes, call->from };
  gboolean without = !call->image || ((call->fresh || call->from) && !banger_snapshot_supported ());
  call->device = without ? g_strdup ("") : banger_snapshot_create (call->root, lease, call->image, &disk, error);
  return call->device != NULL;
}

/* The file of a new disk is gone already if the snapshot could not be made. */
static gboolean
undo_disk (const BangerRoot *root, BangerLease *lease, GError **error)
{
  if (!banger_snapshot_remove (lease, error))
    return FALSE;
  g_clear_pointer (&lease->dm, g_free);
  g_clear_pointer (&lease->image, g_free);
  return TRUE;
}

static const struct {
  gboolean (*make) (BangerCall *call, BangerLease *lease, GError **error);
  gboolean (*undo) (const BangerRoot *root, BangerLease *lease, GError **error); /* what is not there is success */
} parts[] = {
  { make_tap, banger_tap_delete },
  { make_nat, undo_nat },
  { make_disk, undo_disk },
};

/* All of them: the tap's first save names NAT, and a part that failed may have written down what it did not come to
 * make. What cannot be given back stays in the lease as it is, for ReleaseVm. */
static void
undo (const BangerRoot *root, BangerLease *lease)
{
  gboolean clean = TRUE;
  for (size_t i = G_N_ELEMENTS (parts); i-- > 0;) {
    g_autoptr (GError) why = NULL;
    if (parts[i].undo (root, lease, &why))
      continue;
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_VM, lease->vm), "not given back: %s", why->message);
    clean = FALSE;
  }
  if (clean)
    (void)banger_lease_remove (root, lease->vm, NULL);
}

gboolean
banger_prepare (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = banger_lease_ensure (call->root, banger_call_vm (call), call->owner, NULL, error);
  if (!lease)
    return FALSE;
  g_autofree char *held = banger_lease_resources (lease);
  if (*held != '\0')
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s holds %s already; release it first", lease->vm,
                             held);
  for (size_t i = 0; i < G_N_ELEMENTS (parts); i++)
    if (!parts[i].make (call, lease, error)) {
      undo (call->root, lease);
      return FALSE;
    }
  return TRUE;
}
