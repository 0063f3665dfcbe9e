/* Firecracker's vsock socket: clients say "CONNECT <port>", then have a stream to the guest.
 * Used by the instance.
 * Never reports OK before the guest's side accepted. See Firecracker's docs/vsock.md. */
#pragma once

#include <glib.h>

typedef struct BangerVsock BangerVsock;

/** banger_vsock_new: listens on @uds_path (mode 0600 from birth), which must not exist. Clients wait until a transport
 * is set. */
BangerVsock *banger_vsock_new (const char *uds_path, GError **error);

/** banger_vsock_use_vhost: connections go to AF_VSOCK (@cid, port). */
void banger_vsock_use_vhost (BangerVsock *vsock, guint32 cid);

/** banger_vsock_use_serial: one stream, @fd (taken), which stands for BANGER_GUEST_PORT; other ports are refused. */
void banger_vsock_use_serial (BangerVsock *vsock, int fd);
/** banger_vsock_serial_opened: the guest opened or closed its end of the serial port. */
void banger_vsock_serial_opened (BangerVsock *vsock, gboolean opened);

/** banger_vsock_free: closes every connection and removes the socket. */
void banger_vsock_free (BangerVsock *vsock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerVsock, banger_vsock_free)
