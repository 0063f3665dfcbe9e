/* The few netlink requests that bridge.c and tap.c share.
 * Runs in worker threads.
 * Never keeps a socket. */
#include "privileged/netlink.h"

#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

G_LOCK_DEFINE (banger_network);

typedef struct {
  GTask *task;
  GTaskThreadFunc func;
} Own;

static gpointer
run_own (gpointer data)
{
  g_autofree Own *own = data;
  g_autoptr (GTask) task = own->task;
  own->func (task, g_task_get_source_object (task), g_task_get_task_data (task), g_task_get_cancellable (task));
  return NULL;
}

/* GLib's pool grows by a thread now and then while its threads wait, ever later the more there are: behind all the calls
 * that an owner may have under way the tables would stay away for minutes. */
void
banger_network_run (GTask *task, GTaskThreadFunc func)
{
  Own *own = g_new (Own, 1);
  *own = (Own){ g_object_ref (task), func };
  GThread *thread = g_thread_try_new ("network", run_own, own, NULL);
  if (thread) {
    g_thread_unref (thread);
    return;
  }
  g_object_unref (task);
  g_free (own);
  g_task_run_in_thread (task, func);
}

gboolean
banger_netlink_fail (int r, GError **error, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *what = g_strdup_vprintf (format, args);
  va_end (args);
  return banger_set_error (error, BANGER_ERROR_FAILED, "%s: %s", what, nl_geterror (r));
}

struct nl_sock *
banger_netlink_open (GError **error)
{
  g_autoptr (BangerNlSock) sock = nl_socket_alloc ();
  int r = sock ? nl_connect (sock, NETLINK_ROUTE) : -NLE_NOMEM;
  if (r < 0) {
    banger_netlink_fail (r, error, "cannot open a netlink socket");
    return NULL;
  }
  return g_steal_pointer (&sock);
}

gboolean
banger_netlink_find (struct nl_sock *sock, const char *name, struct rtnl_link **ret_link, GError **error)
{
  *ret_link = NULL;
  int r = rtnl_link_get_kernel (sock, 0, name, ret_link);
  return r >= 0 || r == -NLE_OBJ_NOTFOUND || r == -NLE_NODEV
         || banger_netlink_fail (r, error, "cannot look up link '%s'", name);
}

struct rtnl_link *
banger_netlink_link (struct nl_sock *sock, const char *name, GError **error)
{
  struct rtnl_link *link = NULL;
  if (banger_netlink_find (sock, name, &link, error) && !link)
    banger_set_error (error, BANGER_ERROR_FAILED, "link '%s' is gone", name);
  return link;
}

gboolean
banger_netlink_change (struct nl_sock *sock, struct rtnl_link *link, struct rtnl_link *change, const char *what,
                       GError **error)
{
  int r = rtnl_link_change (sock, link, change, 0);
  return r >= 0 || banger_netlink_fail (r, error, "%s", what);
}
