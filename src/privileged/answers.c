/* Questions of guests for each other's MAC: they go no further than the host, which answers with its own (RFC 3069;
 * proxy_arp_pvlan in the kernel's ip-sysctl).
 * Never touches a link other than the bridge. */
#include "privileged/answers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>

#include "common/fd.h"
#include "privileged/netlink.h"

typedef struct nl_msg Message;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Message, nlmsg_free)

/* The kernel's answers for others wait up to 0.8 s, so that who has the address can say so first: here nobody can. libnl 3.7
 * has no call for it. */
static gboolean
answer_at_once (const char *bridge, GError **error)
{
  struct ndtmsg head = { .ndtm_family = AF_INET };
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  g_autoptr (Message) message = sock ? nlmsg_alloc_simple (RTM_SETNEIGHTBL, 0) : NULL;
  struct nlattr *parameters = NULL;
  if (!sock)
    return FALSE;
  gboolean ok = message && nlmsg_append (message, &head, sizeof head, NLMSG_ALIGNTO) >= 0
                && nla_put_string (message, NDTA_NAME, "arp_cache") >= 0
                && (parameters = nla_nest_start (message, NDTA_PARMS))
                && nla_put_u32 (message, NDTPA_IFINDEX, if_nametoindex (bridge)) >= 0
                && nla_put_u64 (message, NDTPA_PROXY_DELAY, 0) >= 0;
  if (!ok)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot answer on %s: out of memory", bridge);
  nla_nest_end (message, parameters);
  int r = nl_send_auto (sock, message);
  if (r >= 0)
    r = nl_wait_for_ack (sock);
  return r >= 0 || banger_netlink_fail (r, error, "cannot have the host answer at once on %s", bridge);
}

gboolean
banger_answers_set (const char *bridge, gboolean on, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/sys/net/ipv4/conf/%s/proxy_arp_pvlan", bridge), *is = NULL;
  if (g_file_get_contents (path, &is, NULL, NULL) && (is[0] != '0') == on)
    return TRUE;
  if (on && !answer_at_once (bridge, error))
    return FALSE;
  banger_autofd int fd = open (path, O_WRONLY | O_CLOEXEC);
  return (fd >= 0 && write (fd, on ? "1" : "0", 1) == 1)
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write %s", path);
}
