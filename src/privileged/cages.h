/* What the programs that the helper starts may ask of the kernel.
 * Never the only wall: each of them has its own root, user and group, and no capability. */
#pragma once

#include "common/cage.h"
#include "common/error.h"

/** banger_cage_of_vmm: for a jailer, its VMM, and QEMU below it. Made once. */
const BangerCage *banger_cage_of_vmm (GError **error);
/** banger_cage_of_disk: for banger-disk, which takes on a tighter one when it has read its request. */
const BangerCage *banger_cage_of_disk (GError **error);
/** banger_cage_of_check: for e2fsck; with threads. */
const BangerCage *banger_cage_of_check (GError **error);
