/* A scope unit per VMM, asked of systemd over D-Bus (requirement A7).
 * Never used where systemd does not run. */
#pragma once

#include <systemd/sd-bus.h>

#include "privileged/cgroup.h"
#include "privileged/root.h"

/** BangerScopeDone: @error %NULL when the process is in its scope. %BANGER_ERROR_TIMEOUT: systemd may still put the
 * process number into the scope. Called once. */
typedef void (*BangerScopeDone) (const GError *error, gpointer user_data);

/**
 * banger_scope_start:
 * StartTransientUnit of banger-vm-@vm.scope in banger.slice with @pid and @limits; bounded by ten seconds. While the
 * scope of an earlier VMM of @vm is not collected yet, it is asked again.
 */
void banger_scope_start (sd_bus *bus, const char *vm, pid_t pid, const BangerLimits *limits, BangerScopeDone done,
                         gpointer user_data);
