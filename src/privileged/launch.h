/* Launching a VMM: its jail is planned, a child forked, put into its cgroup, and let go.
 * Rows of the method table (methods.c) call these in order.
 * Never lets the VMM run before its lease names its process and its cgroup holds it. */
#pragma once

#include "privileged/call.h"

/** banger_launch_prepare: worker: gates every file, writes the lease, forks the child, which waits. */
gboolean banger_launch_prepare (BangerCall *call, GError **error);
/** banger_launch_scope: main loop: a scope unit where systemd runs. */
void banger_launch_scope (BangerCall *call);
/** banger_launch_finish: worker: checks the cgroup, lets the child go, reads how it went; or undoes what was made. */
gboolean banger_launch_finish (BangerCall *call, GError **error);
