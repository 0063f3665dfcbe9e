/* The ways in which a guest ends. All are restarts: the VMM ends on a restart of its guest.
 * Called by the agent.
 * Never leaves dirty data behind for longer than two seconds. */
#pragma once

#include <sys/types.h>

/** guest_sync_start: sync(2) in a child. Returns: its pid, or -1 with errno. */
pid_t guest_sync_start (void);

/** guest_ask_init_to_restart: tells process 1 to stop all services and restart. */
void guest_ask_init_to_restart (int is_systemd);

/** guest_restart_now: sync, read-only remount, restart, within two seconds. */
void guest_restart_now (void) __attribute__ ((noreturn));
