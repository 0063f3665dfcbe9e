/* The ways in which a guest ends. All are restarts: the VMM ends on a restart of its guest.
 * Never leaves dirty data behind for longer than two seconds. */
#pragma once

#include <sys/types.h>

/** guest_sync_start: sync(2) in a child. Returns: its pid, or -1 with errno. */
pid_t guest_sync_start (void);

/** guest_end_all: where there is no init to do it: SIGTERM to every process but the agent's and ours, SIGKILL to those
 * that are left after a few seconds, then guest_restart_now(). */
void guest_end_all (void) __attribute__ ((noreturn));

/** guest_restart_now: sync, read-only remount, restart, within two seconds. */
void guest_restart_now (void) __attribute__ ((noreturn));
