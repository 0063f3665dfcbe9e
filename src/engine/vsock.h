/* Firecracker's vsock socket: clients say "CONNECT <port>", then have a stream to the guest.
 * Never reports OK before the guest's side accepted. See Firecracker's docs/vsock.md. */
#pragma once

#include <glib.h>

typedef struct BangerVsock BangerVsock;

/** banger_vsock_new: listens on @uds_path (mode 0600 from birth), which must not exist. Clients wait until the serial
 * port is set. */
BangerVsock *banger_vsock_new (const char *uds_path, GError **error);

/** banger_vsock_use_serial: @fd (taken): the guest's port, whose streams (common/mux.h) stand for BANGER_GUEST_PORT;
 * other ports are refused. */
void banger_vsock_use_serial (BangerVsock *vsock, int fd);
/** banger_vsock_serial_opened: the guest opened or closed its end of the serial port. */
void banger_vsock_serial_opened (BangerVsock *vsock, gboolean opened);

/** banger_vsock_free: closes every connection and removes the socket. */
void banger_vsock_free (BangerVsock *vsock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVsock, banger_vsock_free)
