/* Bridges.
 * Runs in worker threads.
 * Never touches a link that banger did not make. */
#include "privileged/bridge.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>

#include "common/log.h"
#include "common/validate.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

typedef struct rtnl_addr Address;
typedef struct nl_addr NetAddress;
typedef struct nl_cache Cache;
typedef struct nl_msg Message;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Address, rtnl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NetAddress, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Cache, nl_cache_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Message, nlmsg_free)

static gboolean
is_ours (struct rtnl_link *link)
{
  return g_strcmp0 (rtnl_link_get_type (link), "bridge") == 0
         && g_strcmp0 (rtnl_link_get_ifalias (link), BANGER_LINK_ALIAS) == 0;
}

static gboolean
check_ours (struct rtnl_link *link, const char *name, GError **error)
{
  return is_ours (link)
         || banger_set_error (error, BANGER_ERROR_IN_USE,
                              "'%s' exists and is not banger's; remove it or configure another bridge", name);
}

/* Locally administered and unicast, and no guest's: theirs begin with 06. */
static void
bridge_mac (const char *name, guint8 mac[ETH_ALEN])
{
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, name, -1);
  mac[0] = 0x0a;
  for (size_t i = 1; i < ETH_ALEN; i++)
    mac[i] = (guint8)(g_ascii_xdigit_value (sum[2 * i]) << 4 | g_ascii_xdigit_value (sum[2 * i + 1]));
}

/* Frames for 01:80:c2:00:00:03 to 0f are forwarded, which means filtered, like any others; the kernel would hand them
 * to the host around the filter. */
#define GROUP_FWD_MASK 0xfff8

/* With a MAC that it is given, best at its birth, a bridge never takes a port's: each change of its MAC would end the
 * permanent neighbour entries. libnl 3.7 has no call for the mask. @ifindex: 0 for a new one. */
static gboolean
put_bridge (struct nl_sock *sock, int ifindex, const char *new_name, const char *name, GError **error)
{
  guint8 mac[ETH_ALEN];
  struct ifinfomsg info = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
  g_autoptr (Message) message = nlmsg_alloc_simple (RTM_NEWLINK, ifindex == 0 ? NLM_F_CREATE | NLM_F_EXCL : 0);
  struct nlattr *kind = NULL, *data = NULL;
  bridge_mac (name, mac);
  if (!message || nlmsg_append (message, &info, sizeof info, NLMSG_ALIGNTO) < 0
      || (new_name && nla_put_string (message, IFLA_IFNAME, new_name) < 0)
      || nla_put (message, IFLA_ADDRESS, sizeof mac, mac) < 0 || !(kind = nla_nest_start (message, IFLA_LINKINFO))
      || nla_put_string (message, IFLA_INFO_KIND, "bridge") < 0 || !(data = nla_nest_start (message, IFLA_INFO_DATA))
      || nla_put_u16 (message, IFLA_BR_GROUP_FWD_MASK, GROUP_FWD_MASK) < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot make a bridge: out of memory");
  nla_nest_end (message, data);
  nla_nest_end (message, kind);
  int r = nl_send_auto (sock, message);
  if (r >= 0)
    r = nl_wait_for_ack (sock);
  return r >= 0 || banger_netlink_fail (r, error, "cannot make bridge '%s'", name);
}

/* Until it has its alias and its name. Of one name alone: a helper on another bus may be making its own here. */
static char *
temporary_name (const guint8 mac[ETH_ALEN])
{
  return g_strdup_printf ("brfc-%02x%02x%02x%02x", mac[2], mac[3], mac[4], mac[5]);
}

static gboolean
is_half_made (struct rtnl_link *link, const guint8 mac[ETH_ALEN])
{
  const char *alias = rtnl_link_get_ifalias (link);
  struct nl_addr *address = rtnl_link_get_addr (link);
  return g_strcmp0 (rtnl_link_get_type (link), "bridge") == 0 && (!alias || g_str_equal (alias, BANGER_LINK_ALIAS))
         && address && nl_addr_get_len (address) == ETH_ALEN
         && memcmp (nl_addr_get_binary_addr (address), mac, ETH_ALEN) == 0;
}

/* With the lock held, which whoever makes one has: what is there was left by a crash. */
static gboolean
reap (struct nl_sock *sock, const guint8 mac[ETH_ALEN], const char *temporary, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  if (!banger_netlink_find (sock, temporary, &link, error))
    return FALSE;
  if (!link || !is_half_made (link, mac))
    return TRUE;
  int r = rtnl_link_delete (sock, link);
  return r >= 0 || banger_netlink_fail (r, error, "cannot remove the half-made bridge '%s'", temporary);
}

void
banger_bridge_reap (const char *name)
{
  g_autoptr (GError) error = NULL;
  guint8 mac[ETH_ALEN];
  bridge_mac (name, mac);
  g_autofree char *temporary = temporary_name (mac);
  G_LOCK (banger_network);
  g_autoptr (BangerNlSock) sock = banger_netlink_open (&error);
  if (!sock || !reap (sock, mac, temporary, &error))
    banger_log (LOG_WARNING, NULL, "cannot look for a half-made bridge: %s", error->message);
  G_UNLOCK (banger_network);
}

/* One message makes it and one names it: what a crash leaves in between has no address, no port and no alias, and is
 * reaped by its name. The alias is set while the bridge still has that one, so that no nameless br-fc can stay behind. */
static gboolean
make (struct nl_sock *sock, const char *name, GError **error)
{
  guint8 mac[ETH_ALEN];
  bridge_mac (name, mac);
  g_autofree char *temporary = temporary_name (mac);
  if (!reap (sock, mac, temporary, error) || !put_bridge (sock, 0, temporary, name, error))
    return FALSE;
  g_autoptr (BangerNlLink) made = banger_netlink_link (sock, temporary, error);
  if (!made)
    return FALSE;
  g_autoptr (BangerNlLink) alias = rtnl_link_alloc (), rename = rtnl_link_alloc ();
  rtnl_link_set_ifalias (alias, BANGER_LINK_ALIAS);
  rtnl_link_set_name (rename, name);
  if (banger_netlink_change (sock, made, alias, "cannot mark the new bridge", error)
      && banger_netlink_change (sock, made, rename, "cannot name the new bridge", error))
    return TRUE;
  (void)rtnl_link_delete (sock, made);
  return FALSE;
}

/* A former version's bridge has a port's MAC. */
static gboolean
keep_mac (struct nl_sock *sock, struct rtnl_link *link, const char *name, GError **error)
{
  guint8 mac[ETH_ALEN];
  struct nl_addr *has = rtnl_link_get_addr (link);
  bridge_mac (name, mac);
  return (has && nl_addr_get_len (has) == sizeof mac && memcmp (nl_addr_get_binary_addr (has), mac, sizeof mac) == 0)
         || put_bridge (sock, rtnl_link_get_ifindex (link), NULL, name, error);
}

typedef struct {
  int ifindex; /* of the bridge, 0 if it is not there yet */
  struct in_addr address;
  guint prefix;
  const char *cidr;
  gboolean present;
  GError *error;
} Scan;

static gboolean
is_ipv4 (struct rtnl_addr *entry, struct in_addr *ret)
{
  struct nl_addr *local = rtnl_addr_get_local (entry);
  if (!local || nl_addr_get_family (local) != AF_INET)
    return FALSE;
  memcpy (ret, nl_addr_get_binary_addr (local), sizeof *ret);
  return TRUE;
}

static void
scan_address (struct nl_object *object, void *data)
{
  Scan *scan = data;
  struct rtnl_addr *entry = (struct rtnl_addr *)object;
  struct in_addr other;
  if (scan->error || !is_ipv4 (entry, &other))
    return;
  guint prefix = nl_addr_get_prefixlen (rtnl_addr_get_local (entry));
  gboolean own = scan->ifindex > 0 && rtnl_addr_get_ifindex (entry) == scan->ifindex;
  if (own && other.s_addr == scan->address.s_addr && prefix == scan->prefix)
    scan->present = TRUE;
  else if (own || banger_gate_nets_overlap (other, prefix, scan->address, scan->prefix)) {
    char text[INET_ADDRSTRLEN];
    inet_ntop (AF_INET, &other, text, sizeof text);
    banger_set_error (&scan->error, BANGER_ERROR_INVALID_NETWORK,
                      own ? "the bridge has the address %s/%u, it cannot get %s as well"
                          : "the host uses %s/%u already, it overlaps %s; choose another net",
                      text, prefix, scan->cidr);
  }
}

/* @ret_present: the bridge has the address already. */
static gboolean
check_addresses (struct nl_sock *sock, int ifindex, const char *cidr, gboolean *ret_present, GError **error)
{
  Scan scan = { .ifindex = ifindex, .cidr = cidr };
  g_autoptr (Cache) cache = NULL;
  if (!banger_gate_bridge_address (cidr, &scan.address, &scan.prefix, error))
    return FALSE;
  int r = rtnl_addr_alloc_cache (sock, &cache);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the host's addresses");
  nl_cache_foreach (cache, scan_address, &scan);
  if (scan.error) {
    g_propagate_error (error, scan.error);
    return FALSE;
  }
  *ret_present = scan.present;
  return TRUE;
}

static gboolean
add_address (struct nl_sock *sock, int ifindex, const char *cidr, GError **error)
{
  g_autoptr (NetAddress) local = NULL;
  g_autoptr (Address) address = rtnl_addr_alloc ();
  int r = nl_addr_parse (cidr, AF_INET, &local);
  if (r >= 0)
    r = rtnl_addr_set_local (address, local);
  rtnl_addr_set_ifindex (address, ifindex);
  if (r >= 0)
    r = rtnl_addr_add (sock, address, 0);
  return r >= 0 || banger_netlink_fail (r, error, "cannot give the bridge its address %s", cidr);
}

static gboolean
set_up (struct nl_sock *sock, struct rtnl_link *link, GError **error)
{
  if (rtnl_link_get_flags (link) & IFF_UP)
    return TRUE;
  g_autoptr (BangerNlLink) change = rtnl_link_alloc ();
  rtnl_link_set_flags (change, IFF_UP);
  return banger_netlink_change (sock, link, change, "cannot bring the bridge up", error);
}

static void
count_ours (struct nl_object *object, void *data)
{
  *(guint64 *)data += is_ours ((struct rtnl_link *)object);
}

static gboolean
check_room (struct nl_sock *sock, guint64 max, GError **error)
{
  g_autoptr (Cache) links = NULL;
  guint64 held = 0;
  int r = rtnl_link_alloc_cache (sock, AF_UNSPEC, &links);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the links");
  nl_cache_foreach (links, count_ours, &held);
  return held < max
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                              "there are %" G_GUINT64_FORMAT " bridges of banger's, no more are allowed "
                              "(limits.bridges)",
                              held);
}

gboolean
banger_bridge_ensure (const BangerRoot *root, const char *name, const char *cidr, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  gboolean present = FALSE;
  if (!banger_bridge_name_check (name, error))
    return FALSE;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  int ifindex = link ? rtnl_link_get_ifindex (link) : 0;
  if ((link && !check_ours (link, name, error)) || !check_addresses (sock, ifindex, cidr, &present, error)
      || (!link && (!check_room (sock, root->install->max_bridges, error) || !make (sock, name, error))))
    return FALSE;
  if (!link)
    link = banger_netlink_link (sock, name, error);
  return link && keep_mac (sock, link, name, error)
         && (present || add_address (sock, rtnl_link_get_ifindex (link), cidr, error)) && set_up (sock, link, error);
}

typedef struct {
  int master;
  guint ports;
} Ports;

static void
count_port (struct nl_object *object, void *data)
{
  Ports *ports = data;
  if (rtnl_link_get_master ((struct rtnl_link *)object) == ports->master)
    ports->ports++;
}

static gboolean
remove_locked (const char *name, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  g_autoptr (Cache) links = NULL;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  if (!link)
    return TRUE;
  if (!check_ours (link, name, error))
    return FALSE;
  int r = rtnl_link_alloc_cache (sock, AF_UNSPEC, &links);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the links");
  Ports ports = { rtnl_link_get_ifindex (link), 0 };
  nl_cache_foreach (links, count_port, &ports);
  if (ports.ports > 0)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "bridge '%s' has %u ports; stop its VMs first", name,
                             ports.ports);
  r = rtnl_link_delete (sock, link);
  return r >= 0 || banger_netlink_fail (r, error, "cannot remove bridge '%s'", name);
}

gboolean
banger_bridge_remove (const char *name, GError **error)
{
  if (!banger_bridge_name_check (name, error))
    return FALSE;
  G_LOCK (banger_network);
  gboolean ok = remove_locked (name, error);
  G_UNLOCK (banger_network);
  return ok;
}

typedef struct {
  int index;
  gboolean found;
  struct in_addr address;
} Own;

static void
take_address (struct nl_object *object, void *data)
{
  Own *own = data;
  struct rtnl_addr *entry = (struct rtnl_addr *)object;
  own->found |= rtnl_addr_get_ifindex (entry) == own->index && is_ipv4 (entry, &own->address);
}

gboolean
banger_bridge_find (const char *name, int *ret_index, struct in_addr *ret_address, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  g_autoptr (Cache) addresses = NULL;
  *ret_index = 0;
  if (!banger_bridge_name_check (name, error))
    return FALSE;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  if (!link)
    return TRUE;
  if (!check_ours (link, name, error))
    return FALSE;
  int r = rtnl_addr_alloc_cache (sock, &addresses);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the host's addresses");
  Own own = { .index = rtnl_link_get_ifindex (link) };
  nl_cache_foreach (addresses, take_address, &own);
  if (!own.found)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "bridge '%s' has no address", name);
  *ret_address = own.address;
  *ret_index = own.index;
  return TRUE;
}
