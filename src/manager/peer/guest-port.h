/* A connection to a TCP port inside a guest, through its agent (docs/guest.md, "connect").
 * Never trusts what the guest says: two lines, bounded and of known words. */
#pragma once

#include <gio/gio.h>

/**
 * banger_guest_port_open_async:
 * @socket_path: of the VMM's vsock. @pid: the VMM, which must be who listens there. At most 20 s.
 * %BANGER_ERROR_GUEST_FAILED (nobody listens on @port there), %BANGER_ERROR_GUEST_TIMEOUT.
 */
void banger_guest_port_open_async (const char *socket_path, pid_t pid, guint16 port, GCancellable *cancellable,
                                   GAsyncReadyCallback callback, gpointer user_data);
/** banger_guest_port_open_finish: Returns: a stream whose next byte is that of whoever listens there; -1 with error. */
int banger_guest_port_open_finish (GAsyncResult *result, GError **error);
