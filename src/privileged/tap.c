/* Taps.
 * Runs in worker threads.
 * Never touches a tap whose name does not follow from the VM's id. */
#include "privileged/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet6.h>
#include <netlink/route/neighbour.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/ids.h"
#include "common/validate.h"
#include "privileged/bridge.h"
#include "privileged/filter.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

typedef struct nl_msg Message;
typedef struct nl_addr NetAddress;
typedef struct rtnl_neigh Neighbour;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Message, nlmsg_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NetAddress, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Neighbour, rtnl_neigh_put)

/* Linux, Documentation/networking/tuntap.rst. EXCL: a tap of that name that is there already is not taken over. It is
 * from birth the group's that this VM's VMM alone runs in. No owner is set: kernels differ in whether an owner without
 * the group would do. */
static gboolean
make_device (const char *name, gid_t gid, GError **error)
{
  struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL) };
  banger_autofd int fd = open ("/dev/net/tun", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, errno, "cannot open /dev/net/tun");
  g_strlcpy (request.ifr_name, name, sizeof request.ifr_name);
  if (ioctl (fd, TUNSETIFF, &request) < 0)
    return banger_set_error_errno (error, errno == EBUSY ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                                   "cannot make tap '%s'", name);
  if (ioctl (fd, TUNSETGROUP, (unsigned long)gid) < 0 || ioctl (fd, TUNSETPERSIST, 1UL) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep tap '%s'", name);
  return TRUE;
}

/* libnl 3.7 has no call for IFLA_BRPORT_ISOLATED, see rtnetlink(7) and linux/if_link.h. The port learns no address and
 * none is entered, and nothing is flooded to it: what is for its guest comes past the bridge, see filter.c. */
static gboolean
set_port_flags (struct nl_sock *sock, int ifindex, GError **error)
{
  static const struct {
    int type;
    guint8 value;
  } flags[] = { { IFLA_BRPORT_ISOLATED, 1 },
                { IFLA_BRPORT_LEARNING, 0 },
                { IFLA_BRPORT_UNICAST_FLOOD, 0 },
                { IFLA_BRPORT_MCAST_FLOOD, 0 },
                { IFLA_BRPORT_BCAST_FLOOD, 0 } };
  struct ifinfomsg info = { .ifi_family = AF_BRIDGE, .ifi_index = ifindex };
  g_autoptr (Message) message = nlmsg_alloc_simple (RTM_SETLINK, 0);
  struct nlattr *port = NULL;
  gboolean ok = message && nlmsg_append (message, &info, sizeof info, NLMSG_ALIGNTO) >= 0
                && (port = nla_nest_start (message, IFLA_PROTINFO | NLA_F_NESTED));
  for (size_t i = 0; ok && i < G_N_ELEMENTS (flags); i++)
    ok = nla_put_u8 (message, flags[i].type, flags[i].value) >= 0;
  if (!ok)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot isolate the tap: out of memory");
  nla_nest_end (message, port);
  int r = nl_send_auto (sock, message);
  if (r >= 0)
    r = nl_wait_for_ack (sock);
  return r >= 0 || banger_netlink_fail (r, error, "cannot isolate the tap");
}

/* A permanent neighbour entry: the host asks nobody who has the guest's address. */
static gboolean
set_neighbour (struct nl_sock *sock, const BangerLease *lease, gboolean add, GError **error)
{
  g_autofree char *mac = banger_vm_mac (lease->vm);
  g_autoptr (Neighbour) entry = rtnl_neigh_alloc ();
  g_autoptr (NetAddress) link = NULL, address = NULL;
  int index = (int)if_nametoindex (lease->bridge);
  if (index == 0)
    return !add || banger_set_error (error, BANGER_ERROR_FAILED, "bridge '%s' is gone", lease->bridge);
  int r = nl_addr_parse (mac, AF_LLC, &link);
  if (r >= 0)
    r = nl_addr_parse (lease->guest_address, AF_INET, &address);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot enter the neighbour %s", lease->guest_address);
  rtnl_neigh_set_ifindex (entry, index);
  rtnl_neigh_set_dst (entry, address);
  rtnl_neigh_set_lladdr (entry, link);
  rtnl_neigh_set_state (entry, NUD_PERMANENT);
  r = add ? rtnl_neigh_add (sock, entry, NLM_F_CREATE | NLM_F_REPLACE) : rtnl_neigh_delete (sock, entry, 0);
  if (!add && r == -NLE_OBJ_NOTFOUND)
    r = 0;
  return r >= 0 || banger_netlink_fail (r, error, "neighbour %s on '%s'", lease->guest_address, lease->bridge);
}

/* The host itself says nothing on a tap: no address, no solicitation. Where there is no IPv6 there is nothing to do. */
static void
set_silent (struct nl_sock *sock, struct rtnl_link *tap)
{
  g_autoptr (BangerNlLink) change = rtnl_link_alloc ();
  if (rtnl_link_inet6_set_addr_gen_mode (change, rtnl_link_inet6_str2addrgenmode ("none")) >= 0)
    (void)rtnl_link_change (sock, tap, change, 0);
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
  set_silent (sock, tap);
  return banger_netlink_change (sock, tap, change, "cannot make the tap a port of its bridge", error)
         && set_port_flags (sock, ifindex, error) && set_neighbour (sock, lease, TRUE, error)
         && banger_filter_add_locked (root, lease, error)
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
delete_device (const char *name, GError **error)
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

/* The tap goes first, so that it is never there without its filter. */
static gboolean
delete_locked (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  return sock && delete_device (lease->tap, error) && banger_filter_remove_locked (root, lease->vm, error)
         && (!lease->guest_address || set_neighbour (sock, lease, FALSE, error));
}

static void
clear (BangerLease *lease)
{
  g_clear_pointer (&lease->tap, g_free);
  g_clear_pointer (&lease->bridge, g_free);
  g_clear_pointer (&lease->bridge_address, g_free);
  g_clear_pointer (&lease->guest_address, g_free);
  g_clear_pointer (&lease->links, g_free);
  g_clear_pointer (&lease->ports, g_free);
  lease->nat = FALSE;
}

/* The lease forgets the tap only if nothing is left of it. */
static void
undo_locked (const BangerRoot *root, BangerLease *lease, gboolean made, gboolean held)
{
  if ((made && !delete_locked (root, lease, NULL)) || held)
    return;
  clear (lease);
  (void)banger_lease_save (root, lease, NULL);
}

static gboolean
holds_tap (const BangerLease *lease)
{
  return lease->tap != NULL;
}

static gboolean
check_free (const BangerRoot *root, const char *vm, const char *address, GError **error)
{
  g_autoptr (GPtrArray) leases = banger_lease_list (root, NULL, error);
  if (!leases)
    return FALSE;
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    if (!g_str_equal (lease->vm, vm) && g_strcmp0 (lease->guest_address, address) == 0)
      return banger_set_error (error, BANGER_ERROR_IN_USE, "address %s is VM %s's", address, lease->vm);
  }
  return TRUE;
}

/* @lease held the tap before: one that is there is ours, else the name must be free. */
static gboolean
create_locked (const BangerRoot *root, BangerLease *lease, const BangerTapPlace *place, GError **error)
{
  gboolean present = FALSE, held = lease->tap != NULL, known = held && lease->guest_address;
  g_autofree char *name = banger_tap_name (lease->vm);
  if ((!held && !banger_lease_check_room (root, lease, holds_tap, root->install->max_taps, "limits.taps", error))
      || (!known && !check_free (root, lease->vm, place->guest_address, error)))
    return FALSE;
  if (!banger_bridge_ensure (root, place->bridge, place->bridge_address, error) || !exists (name, &present, error))
    return FALSE;
  if (present && !held)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "tap '%s' exists and no lease of banger's names it", name);
  if (!held) {
    lease->tap = g_steal_pointer (&name);
    lease->bridge = g_strdup (place->bridge);
    lease->bridge_address = g_strdup (place->bridge_address);
    lease->nat = place->nat;
  }
  if (!known) {
    lease->guest_address = g_strdup (place->guest_address);
    if (!banger_lease_save (root, lease, error))
      return FALSE;
  }
  gboolean made = !present && make_device (lease->tap, banger_vm_gid (lease->vm), error);
  if ((present || made) && attach (root, lease, error))
    return TRUE;
  undo_locked (root, lease, made, held);
  return FALSE;
}

/* A tap of an older version's lease knows no guest, so nothing passes it: it learns of one as a new tap does. */
char *
banger_tap_create (const BangerRoot *root, BangerLease *lease, const BangerTapPlace *place, GError **error)
{
  if (!banger_gate_guest_address (place->guest_address, place->bridge_address, error))
    return NULL;
  if (lease->tap
      && (!g_str_equal (lease->bridge, place->bridge) || !g_str_equal (lease->bridge_address, place->bridge_address)
          || (lease->guest_address && !g_str_equal (lease->guest_address, place->guest_address))))
  {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s has a tap on %s (%s) for %s already; delete it first",
                      lease->vm, lease->bridge, lease->bridge_address,
                      lease->guest_address ? lease->guest_address : "no address");
    return NULL;
  }
  G_LOCK (banger_network);
  gboolean ok = create_locked (root, lease, place, error);
  G_UNLOCK (banger_network);
  return ok ? g_strdup (lease->tap) : NULL;
}

gboolean
banger_tap_delete (const BangerRoot *root, BangerLease *lease, GError **error)
{
  if (!lease->tap)
    return TRUE;
  if (!banger_gate_tap_name (lease->tap, lease->vm, error))
    return FALSE;
  G_LOCK (banger_network);
  gboolean ok = delete_locked (root, lease, error);
  G_UNLOCK (banger_network);
  if (ok)
    clear (lease);
  return ok;
}

/* TUNSETIFF makes what is not there; such a tap has no flag PERSIST, and goes with the descriptor. Without IFF_VNET_HDR
 * no guest has the kernel cut its frames, or put a checksum where it says: that is done behind every filter, and could
 * change the ports that they saw. Who holds the descriptor cannot switch it on. */
int
banger_tap_open (const BangerLease *lease, GError **error)
{
  struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI }, seen = { 0 };
  if (!banger_gate_tap_name (lease->tap, lease->vm, error))
    return -1;
  g_strlcpy (request.ifr_name, lease->tap, sizeof request.ifr_name);
  banger_autofd int fd = open ("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || ioctl (fd, TUNSETIFF, &request) < 0 || ioctl (fd, TUNGETIFF, &seen) < 0) {
    banger_set_error_errno (error, errno == EBUSY ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                            "cannot attach to tap '%s'", lease->tap);
    return -1;
  }
  if (!((unsigned short)seen.ifr_flags & IFF_PERSIST)) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "tap '%s' is gone; create it again", lease->tap);
    return -1;
  }
  return banger_steal_fd (&fd);
}

/* The tap is the group's from birth, see make_device(). */
static gboolean
is_of_group (const char *name, gid_t gid)
{
  guint64 group;
  g_autofree char *path = g_strdup_printf ("/sys/class/net/%s/group", name), *text = NULL;
  return g_file_get_contents (path, &text, NULL, NULL)
         && banger_uint_parse (g_strchomp (text), 0, G_MAXUINT32, &group, NULL) && group == gid;
}

typedef struct {
  const char *mac;
  int index; /* of the bridge; 0 unknown */
  char *guest, *bridge;
} Search;

static void
take_neighbour (struct nl_object *object, void *data)
{
  Search *search = data;
  Neighbour *entry = (Neighbour *)object;
  char mac[32], guest[INET_ADDRSTRLEN];
  NetAddress *link = rtnl_neigh_get_lladdr (entry), *address = rtnl_neigh_get_dst (entry);
  if (search->guest || !link || !address || nl_addr_get_family (address) != AF_INET
      || !g_str_equal (nl_addr2str (link, mac, sizeof mac), search->mac)
      || (search->index > 0 && search->index != rtnl_neigh_get_ifindex (entry)))
    return;
  search->index = rtnl_neigh_get_ifindex (entry);
  search->guest = g_strdup (inet_ntop (AF_INET, nl_addr_get_binary_addr (address), guest, sizeof guest));
}

static void
take_address (struct nl_object *object, void *data)
{
  Search *search = data;
  struct rtnl_addr *entry = (struct rtnl_addr *)object;
  char text[INET_ADDRSTRLEN];
  if (search->bridge || rtnl_addr_get_family (entry) != AF_INET || rtnl_addr_get_ifindex (entry) != search->index)
    return;
  inet_ntop (AF_INET, nl_addr_get_binary_addr (rtnl_addr_get_local (entry)), text, sizeof text);
  search->bridge = g_strdup_printf ("%s/%d", text, rtnl_addr_get_prefixlen (entry));
}

static gboolean
look_for (struct nl_sock *sock, int (*list) (struct nl_sock *sock, struct nl_cache **ret),
          void (*take) (struct nl_object *object, void *data), Search *search, GError **error)
{
  struct nl_cache *cache = NULL;
  int r = list (sock, &cache);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the host's neighbours and addresses");
  nl_cache_foreach (cache, take, search);
  nl_cache_free (cache);
  return TRUE;
}

/* Where it was, as far as the kernel says; the bridge of the installation for one that was nowhere yet. */
static void
fill_in (const BangerInstall *install, const Search *search, BangerLease *lease)
{
  char bridge[IF_NAMESIZE];
  gboolean known = search->index > 0 && if_indextoname ((guint)search->index, bridge)
                   && banger_bridge_name_check (bridge, NULL) && search->bridge
                   && banger_gate_bridge_address (search->bridge, NULL, NULL, NULL);
  lease->tap = banger_tap_name (lease->vm);
  lease->bridge = g_strdup (known ? bridge : install->bridge);
  lease->bridge_address = g_strdup (known ? search->bridge : install->bridge_address);
  if (known && search->guest && banger_gate_guest_address (search->guest, lease->bridge_address, NULL))
    lease->guest_address = g_strdup (search->guest);
}

gboolean
banger_tap_find (const BangerRoot *root, BangerLease *lease, GError **error)
{
  g_autofree char *name = banger_tap_name (lease->vm), *mac = banger_vm_mac (lease->vm);
  g_autoptr (BangerNlLink) link = NULL;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  Search search = { .mac = mac };
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  if (link && !is_of_group (name, banger_vm_gid (lease->vm)))
    return TRUE;
  search.index = link ? rtnl_link_get_master (link) : 0;
  gboolean ok = look_for (sock, rtnl_neigh_alloc_cache, take_neighbour, &search, error)
                && look_for (sock, rtnl_addr_alloc_cache, take_address, &search, error);
  if (ok)
    fill_in (root->install, &search, lease);
  g_free (search.guest);
  g_free (search.bridge);
  return ok;
}
