/* Taps.
 * Called by methods.c and release.c, in worker threads.
 * Never touches a tap whose name does not follow from the VM's id. */
#include "privileged/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/neighbour.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/ids.h"
#include "privileged/bridge.h"
#include "privileged/gate.h"
#include "privileged/nat.h"
#include "privileged/netlink.h"

typedef struct nl_msg Message;
typedef struct nl_addr NetAddress;
typedef struct rtnl_neigh Neighbour;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Message, nlmsg_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NetAddress, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Neighbour, rtnl_neigh_put)

/* Linux, Documentation/networking/tuntap.rst. EXCL: a tap of that name that is there already is not taken over. */
static gboolean
make_device (const char *name, uid_t uid, GError **error)
{
  struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL) };
  banger_autofd int fd = open ("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, errno, "cannot open /dev/net/tun");
  g_strlcpy (request.ifr_name, name, sizeof request.ifr_name);
  if (ioctl (fd, TUNSETIFF, &request) < 0)
    return banger_set_error_errno (error, errno == EBUSY ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                                   "cannot make tap '%s'", name);
  if (ioctl (fd, TUNSETOWNER, (unsigned long)uid) < 0 || ioctl (fd, TUNSETPERSIST, 1UL) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep tap '%s'", name);
  return TRUE;
}

/* libnl 3.7 has no call for IFLA_BRPORT_ISOLATED, see rtnetlink(7) and linux/if_link.h. Learning is off: the one MAC
 * behind the port is entered by hand, so that a guest cannot take another's. */
static gboolean
set_port_flags (struct nl_sock *sock, int ifindex, GError **error)
{
  struct ifinfomsg info = { .ifi_family = AF_BRIDGE, .ifi_index = ifindex };
  g_autoptr (Message) message = nlmsg_alloc_simple (RTM_SETLINK, 0);
  struct nlattr *port;
  if (!message || nlmsg_append (message, &info, sizeof info, NLMSG_ALIGNTO) < 0
      || !(port = nla_nest_start (message, IFLA_PROTINFO | NLA_F_NESTED))
      || nla_put_u8 (message, IFLA_BRPORT_ISOLATED, 1) < 0 || nla_put_u8 (message, IFLA_BRPORT_LEARNING, 0) < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot isolate the tap: out of memory");
  nla_nest_end (message, port);
  int r = nl_send_auto (sock, message);
  if (r >= 0)
    r = nl_wait_for_ack (sock);
  return r >= 0 || banger_netlink_fail (r, error, "cannot isolate the tap");
}

static gboolean
add_static_mac (struct nl_sock *sock, int ifindex, const char *vm, GError **error)
{
  g_autofree char *mac = banger_vm_mac (vm);
  g_autoptr (Neighbour) entry = rtnl_neigh_alloc ();
  g_autoptr (NetAddress) address = NULL;
  int r = nl_addr_parse (mac, AF_LLC, &address);
  if (r >= 0) {
    rtnl_neigh_set_family (entry, AF_BRIDGE);
    rtnl_neigh_set_ifindex (entry, ifindex);
    rtnl_neigh_set_lladdr (entry, address);
    rtnl_neigh_set_flags (entry, NTF_MASTER);
    rtnl_neigh_set_state (entry, NUD_NOARP);
    r = rtnl_neigh_add (sock, entry, NLM_F_CREATE | NLM_F_REPLACE);
  }
  return r >= 0 || banger_netlink_fail (r, error, "cannot enter the VM's MAC %s", mac);
}

/* Up comes last: a tap that is down takes no frame, so none passes before the filter is there. */
static gboolean
attach (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  g_autoptr (BangerNlLink) bridge = sock ? banger_netlink_link (sock, lease->bridge, error) : NULL;
  g_autoptr (BangerNlLink) tap = bridge ? banger_netlink_link (sock, lease->tap, error) : NULL;
  if (!tap)
    return FALSE;
  g_autoptr (BangerNlLink) change = rtnl_link_alloc (), up = rtnl_link_alloc ();
  g_autofree char *alias = g_strconcat (BANGER_LINK_ALIAS " ", lease->vm, NULL);
  int ifindex = rtnl_link_get_ifindex (tap);
  rtnl_link_set_ifalias (change, alias);
  rtnl_link_set_master (change, rtnl_link_get_ifindex (bridge));
  rtnl_link_set_flags (up, IFF_UP);
  return banger_netlink_change (sock, tap, change, "cannot make the tap a port of its bridge", error)
         && set_port_flags (sock, ifindex, error) && add_static_mac (sock, ifindex, lease->vm, error)
         && banger_nat_apply_locked (root, error)
         && banger_netlink_change (sock, tap, up, "cannot bring the tap up", error);
}

static gboolean
exists (const char *name, gboolean *ret_exists, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  *ret_exists = link != NULL;
  return TRUE;
}

static gboolean
delete_locked (const char *name, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  if (!link)
    return TRUE;
  if (g_strcmp0 (rtnl_link_get_type (link), "tun") != 0)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "'%s' is no tap; it is left alone", name);
  int r = rtnl_link_delete (sock, link);
  return r >= 0 || banger_netlink_fail (r, error, "cannot delete tap '%s'", name);
}

/* The lease forgets the tap only if nothing is left of it. */
static void
undo_locked (const BangerRoot *root, BangerLease *lease, gboolean made, gboolean held)
{
  if ((made && (!delete_locked (lease->tap, NULL) || !banger_nat_apply_locked (root, NULL))) || held)
    return;
  g_clear_pointer (&lease->tap, g_free);
  g_clear_pointer (&lease->bridge, g_free);
  g_clear_pointer (&lease->bridge_address, g_free);
  (void)banger_lease_save (root, lease, NULL);
}

static gboolean
holds_tap (const BangerLease *lease)
{
  return lease->tap != NULL;
}

/* @lease held the tap before: one that is there is ours, else the name must be free. */
static gboolean
create_locked (const BangerRoot *root, BangerLease *lease, const char *bridge, const char *cidr, GError **error)
{
  gboolean present = FALSE, held = lease->tap != NULL;
  g_autofree char *name = banger_tap_name (lease->vm);
  if (!held && !banger_lease_check_room (root, lease, holds_tap, root->install->max_taps, "limits.taps", error))
    return FALSE;
  if (!banger_bridge_ensure_locked (root, bridge, cidr, error) || !exists (name, &present, error))
    return FALSE;
  if (present && !held)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "tap '%s' exists and no lease of banger's names it", name);
  if (!held) {
    lease->tap = g_steal_pointer (&name);
    lease->bridge = g_strdup (bridge);
    lease->bridge_address = g_strdup (cidr);
    if (!banger_lease_save (root, lease, error))
      return FALSE;
  }
  gboolean made = !present && make_device (lease->tap, lease->uid, error);
  if ((present || made) && attach (root, lease, error))
    return TRUE;
  undo_locked (root, lease, made, held);
  return FALSE;
}

char *
banger_tap_create (const BangerRoot *root, BangerLease *lease, const char *bridge, const char *cidr, GError **error)
{
  if (lease->tap && (!g_str_equal (lease->bridge, bridge) || !g_str_equal (lease->bridge_address, cidr))) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has a tap on %s (%s) already; delete it first", lease->vm,
                      lease->bridge, lease->bridge_address);
    return NULL;
  }
  G_LOCK (banger_network);
  gboolean ok = create_locked (root, lease, bridge, cidr, error);
  G_UNLOCK (banger_network);
  return ok ? g_strdup (lease->tap) : NULL;
}

gboolean
banger_tap_delete (const BangerLease *lease, GError **error)
{
  if (!lease->tap)
    return TRUE;
  if (!banger_gate_tap_name (lease->tap, lease->vm, error))
    return FALSE;
  G_LOCK (banger_network);
  gboolean ok = delete_locked (lease->tap, error);
  G_UNLOCK (banger_network);
  return ok;
}
