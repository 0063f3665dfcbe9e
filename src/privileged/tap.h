/* Taps: one per VM, a port of banger's bridge, the owner's to open.
 * Runs in worker threads.
 * Never touches a tap whose name does not follow from the VM's id. */
#pragma once

#include "privileged/lease.h"

/** Where a tap is to be; all borrowed. */
typedef struct {
  const char *bridge, *bridge_address; /* name, CIDR */
  const char *guest_address;
  gboolean nat; /* the first elements of a new tap let its guest outside, too; banger_nat_ensure() does the rest */
} BangerTapPlace;

/**
 * banger_tap_create:
 * Ensures the bridge, writes the lease, makes the tap (persistent, owned by the lease's uid), makes it an isolated
 * port, lets it send and receive as the VM's MAC and @place's guest address alone, and brings it up. What is made
 * before an error is undone. A tap that the lease holds already, at that place, is success. Returns: (transfer full):
 * its name.
 */
char *banger_tap_create (const BangerRoot *root, BangerLease *lease, const BangerTapPlace *place, GError **error);
/** banger_tap_open: attaches to the lease's tap, for the VMM alone. Returns: a descriptor, -1 on error;
 * %BANGER_ERROR_IN_USE if something is attached. */
int banger_tap_open (const BangerLease *lease, GError **error);
/** banger_tap_delete: with all that let it send; a missing tap is success. @lease forgets it, its file does not. */
gboolean banger_tap_delete (const BangerRoot *root, BangerLease *lease, GError **error);
/** banger_tap_find: for a VM whose lease is lost: @lease gets its tap, and the bridge and address that the kernel has for
 * it. A link of that name that is not of the VM's group is somebody else's: then it gets nothing. */
gboolean banger_tap_find (const BangerRoot *root, BangerLease *lease, GError **error);
