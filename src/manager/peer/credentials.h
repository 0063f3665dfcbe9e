/* Who listens on a VMM's socket.
 * Never trusts a path: any program of the owner's could have put its own socket there. */
#pragma once

#include <gio/gio.h>

/**
 * banger_peer_check:
 * @pid: of the VMM by its lease; its pidfd is held, so that the number is still its own.
 * %BANGER_ERROR_UNSAFE_FILE if another process listened when @connection was made, unix(7), SO_PEERCRED.
 */
gboolean banger_peer_check (GSocketConnection *connection, pid_t pid, GError **error);
/** banger_peer_check_fd: likewise, of a connected unix socket. */
gboolean banger_peer_check_fd (int fd, pid_t pid, GError **error);
