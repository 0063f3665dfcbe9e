/* The end of a VM on the helper's side: everything its lease names is given back.
 * Called by methods.c, in worker threads.
 * Never stops at the first step that fails (requirement H6). */
#pragma once

#include "privileged/lease.h"

/**
 * banger_release_vm:
 * Kills the VMM, then removes NAT, tap, snapshot, cgroup, chroot and sockets, then the lease. No lease of @uid's is
 * success. Errors are joined; the lease stays until all steps went well, so that a second call can finish.
 */
gboolean banger_release_vm (const BangerRoot *root, const char *vm, uid_t uid, GError **error);
