/* Sockets of a VMM: made the owner's.
 * Runs in worker threads.
 * Never touches a socket that the VM's own VMM does not listen at. */
#pragma once

#include "privileged/lease.h"

/**
 * banger_socket_grant:
 * @which: "api" or "vsock". The socket of that name in <runtime>/<uid>/<vm> passes the gate and its listener is the
 * running VMM of @lease (SO_PEERCRED, unix(7)); then it becomes the owner's with mode 0600, through the descriptor that
 * was checked.
 */
gboolean banger_socket_grant (const BangerRoot *root, const BangerLease *lease, const char *which, GError **error);
