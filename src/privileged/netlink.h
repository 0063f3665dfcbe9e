/* The few netlink requests that bridge.c and tap.c share.
 * Runs in worker threads.
 * Never keeps a socket: one per call, under the one lock of this file. */
#pragma once

#include <gio/gio.h>
#include <netlink/route/link.h>

#include "privileged/root.h"

/* One network change at a time, whatever the VM. */
G_LOCK_EXTERN (banger_network);

/** banger_network_run: as g_task_run_in_thread(), which is for calls: what keeps guests apart waits for none of those. */
void banger_network_run (GTask *task, GTaskThreadFunc func);

struct nl_sock *banger_netlink_open (GError **error);

/** banger_netlink_link: the link called @name; %BANGER_ERROR_FAILED if there is none. */
struct rtnl_link *banger_netlink_link (struct nl_sock *sock, const char *name, GError **error);
/** banger_netlink_find: the same; that there is none is *ret_link %NULL and success. */
gboolean banger_netlink_find (struct nl_sock *sock, const char *name, struct rtnl_link **ret_link, GError **error);
/** banger_netlink_change: sets what @change holds on @link. */
gboolean banger_netlink_change (struct nl_sock *sock, struct rtnl_link *link, struct rtnl_link *change,
                                const char *what, GError **error);
/** banger_netlink_fail: @r is a libnl error, libnl's strerror is used. Returns: %FALSE. */
gboolean banger_netlink_fail (int r, GError **error, const char *format, ...) G_GNUC_PRINTF (3, 4);

typedef struct nl_sock BangerNlSock;
typedef struct rtnl_link BangerNlLink;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerNlSock, nl_socket_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerNlLink, rtnl_link_put)
