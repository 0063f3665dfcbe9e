/* A VM whose lease cannot be read any more: what its id and the kernel say of it.
 * Never takes what may be another user's. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_salvage:
 * Ends what runs in the group of @vm and unmaps its snapshot, then writes a lease anew that names the rest: its tap
 * with what belongs to it, its cgroup, its chroot. So what follows is as for any other VM, also after a crash. The file
 * that it wrote over its image stays.
 * @why: what is wrong with the lease, for the record.
 * %BANGER_ERROR_ACCESS_DENIED if anything of it is another user's, %BANGER_ERROR_STATE_CORRUPT if @uid has no such VM.
 */
BangerLease *banger_salvage (const BangerRoot *root, const char *vm, uid_t uid, const char *why, GError **error);
