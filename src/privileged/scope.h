/* A scope unit per VMM, asked of systemd over D-Bus (requirement A7).
 * Called by launch.c, in the main loop.
 * Never used where systemd does not run. */
#pragma once

#include <systemd/sd-bus.h>

#include "privileged/root.h"

/** BangerScopeDone: @error %NULL when @pid is in its scope. Called once. */
typedef void (*BangerScopeDone) (const GError *error, gpointer user_data);

/** banger_scope_start: StartTransientUnit of banger-vm-@vm.scope in banger.slice with @pid; bounded by ten seconds. */
void banger_scope_start (sd_bus *bus, const char *vm, pid_t pid, BangerScopeDone done, gpointer user_data);
