/* Running VMMs: found, watched, signalled, always by pidfd.
 * Runs in worker threads and on the main loop.
 * Never signals a process that the process gate has not let through. */
#pragma once

#include "privileged/lease.h"

/* What a killed VMM may take to end. */
#define BANGER_VMM_KILL_MS 10000

typedef struct {
  gboolean running;
  guint32 pid;
  int exit_code;   /* -1 unknown */
  int exit_signal; /* 0 unknown */
} BangerVmmState;

/**
 * banger_vmm_recover:
 * At start: pins again each VMM that a lease names and that still is the one; forgets the pid of the others, whose
 * resources stay until their owner releases them.
 */
gboolean banger_vmm_recover (const BangerRoot *root, GError **error);

/** banger_vmm_add: @pidfd (borrowed) is the helper's own child @pid, launched for @vm. */
void banger_vmm_add (const char *vm, pid_t pid, int pidfd);
/** banger_vmm_forget: after its release. */
void banger_vmm_forget (const char *vm);

/** banger_vmm_get: what is known of the VMM of @vm; reaps the helper's child if it has ended. */
void banger_vmm_get (const char *vm, BangerVmmState *ret_state);
/** banger_vmm_is_running: whether the VMM of @lease runs. */
gboolean banger_vmm_is_running (const BangerLease *lease);
/** banger_vmm_open: Returns: a new pidfd of the running VMM of @lease; -1 with %BANGER_ERROR_WRONG_STATE if none runs.
 */
int banger_vmm_open (const BangerRoot *root, const BangerLease *lease, GError **error);
/** banger_vmm_signal: through the process gate. */
gboolean banger_vmm_signal (const BangerRoot *root, const BangerLease *lease, int sig, GError **error);
/**
 * banger_vmm_kill:
 * Kills it, through the process gate, and waits at most @timeout_ms for its end: what it held can be taken away then.
 * Returns: FALSE with %BANGER_ERROR_WRONG_STATE if none runs. Blocks: for worker threads.
 */
gboolean banger_vmm_kill (const BangerRoot *root, const BangerLease *lease, int timeout_ms, GError **error);
/** banger_vmm_end: the same; that none runs is success. */
gboolean banger_vmm_end (const BangerRoot *root, const BangerLease *lease, int timeout_ms, GError **error);
/**
 * banger_vmm_end_group:
 * The same for a VM whose lease is lost: whatever runs in its group. %BANGER_ERROR_ACCESS_DENIED if one of them is not
 * of @uid.
 */
gboolean banger_vmm_end_group (const char *vm, uid_t uid, int timeout_ms, GError **error);
