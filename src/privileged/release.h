/* The end of a VM on the helper's side: everything its lease names is given back.
 * Runs in worker threads.
 * Never stops at the first step that fails (requirement H6). */
#pragma once

#include "privileged/call.h"
#include "privileged/lease.h"

/**
 * banger_release_vm:
 * Kills the VMM, then removes NAT, tap, snapshot, cgroup, chroot and sockets, then the lease. No lease of @uid's is
 * success; one that is lost is salvaged first (salvage.h). Errors are joined; the lease stays until all steps went well, so that a second call can finish.
 */
gboolean banger_release_vm (const BangerRoot *root, const char *vm, uid_t uid, GError **error);

/* ReapVms: what ReleaseVm does, for every VM of the owner that no VMM runs for, that is not to be kept, and that no
 * other call works on. It leaves alone: running VMMs, leases that cannot be read, other users', bridges, and all files
 * of VMs. */

/** banger_reap_list: worker: the candidates. */
gboolean banger_reap_list (BangerCall *call, GError **error);
/** banger_reap_claim: main loop: holds every call for them until the end, and passes over those that have one. */
void banger_reap_claim (BangerCall *call);
/** banger_reap_finish: worker: releases each; errors are joined. @call->vms: what was released. */
gboolean banger_reap_finish (BangerCall *call, GError **error);
