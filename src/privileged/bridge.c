/* Bridges.
 * Called by methods.c and tap.c, in worker threads.
 * Never touches a link that banger did not make. */
#include "privileged/bridge.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include "common/validate.h"
#include "privileged/gate.h"
#include "privileged/netlink.h"

typedef struct rtnl_addr Address;
typedef struct nl_addr NetAddress;
typedef struct nl_cache Cache;
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Address, rtnl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NetAddress, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Cache, nl_cache_free)

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

/* One message makes it and one names it: what a crash leaves in between has no address, no port and no alias. The
 * alias is set while the bridge still has a temporary name, so that no nameless br-fc can stay behind. */
static gboolean
make (struct nl_sock *sock, const char *name, GError **error)
{
  g_autofree char *temporary = g_strdup_printf ("brfc-%08x", g_random_int ());
  g_autoptr (BangerNlLink) link = rtnl_link_bridge_alloc ();
  if (!link)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot make a bridge: out of memory");
  rtnl_link_set_name (link, temporary);
  int r = rtnl_link_add (sock, link, NLM_F_CREATE | NLM_F_EXCL);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot make bridge '%s'", name);
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

typedef struct {
  int ifindex; /* of the bridge, 0 if it is not there yet */
  struct in_addr address;
  guint prefix;
  const char *cidr;
  gboolean present;
  GError *error;
} Scan;

static void
scan_address (struct nl_object *object, void *data)
{
  Scan *scan = data;
  struct rtnl_addr *entry = (struct rtnl_addr *)object;
  struct nl_addr *local = rtnl_addr_get_local (entry);
  if (scan->error || !local || nl_addr_get_family (local) != AF_INET)
    return;
  struct in_addr other;
  memcpy (&other, nl_addr_get_binary_addr (local), sizeof other);
  guint prefix = nl_addr_get_prefixlen (local);
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

/* A route of the host's own for a part of the net, or for all of it: a VPN's, say, or one that ends in nothing. The
 * bridge's more specific route would draw that traffic to it. Default routes and those for the internet are for the
 * rest, which the net is no part of: it is private. */
static void
scan_route (struct nl_object *object, void *data)
{
  Scan *scan = data;
  struct rtnl_route *route = (struct rtnl_route *)object;
  struct nl_addr *to = rtnl_route_get_dst (route);
  if (scan->error || !to || rtnl_route_get_table (route) == RT_TABLE_LOCAL
      || nl_addr_get_len (to) != sizeof (struct in_addr))
    return;
  struct in_addr other;
  memcpy (&other, nl_addr_get_binary_addr (to), sizeof other);
  guint prefix = nl_addr_get_prefixlen (to);
  struct rtnl_nexthop *only = rtnl_route_get_nnexthops (route) == 1 ? rtnl_route_nexthop_n (route, 0) : NULL;
  if ((only && scan->ifindex > 0 && rtnl_route_nh_get_ifindex (only) == scan->ifindex)
      || !banger_gate_route_overlaps (other, prefix, scan->address, scan->prefix))
    return;
  char text[INET_ADDRSTRLEN];
  inet_ntop (AF_INET, &other, text, sizeof text);
  banger_set_error (&scan->error, BANGER_ERROR_INVALID_NETWORK,
                    "the host has a route to %s/%u already, it overlaps %s; choose another net", text, prefix,
                    scan->cidr);
}

static gboolean
check_routes (struct nl_sock *sock, int ifindex, const char *cidr, GError **error)
{
  Scan scan = { .ifindex = ifindex, .cidr = cidr };
  g_autoptr (Cache) cache = NULL;
  if (!banger_gate_bridge_address (cidr, &scan.address, &scan.prefix, error))
    return FALSE;
  int r = rtnl_route_alloc_cache (sock, AF_INET, 0, &cache);
  if (r < 0)
    return banger_netlink_fail (r, error, "cannot list the host's routes");
  nl_cache_foreach (cache, scan_route, &scan);
  if (scan.error)
    g_propagate_error (error, scan.error);
  return !scan.error;
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
banger_bridge_ensure_locked (const BangerRoot *root, const char *name, const char *cidr, GError **error)
{
  g_autoptr (BangerNlLink) link = NULL;
  gboolean present = FALSE;
  if (!banger_bridge_name_check (name, error))
    return FALSE;
  g_autoptr (BangerNlSock) sock = banger_netlink_open (error);
  if (!sock || !banger_netlink_find (sock, name, &link, error))
    return FALSE;
  /* Root's own choice may hide a part of a wide route: many a VPN claims all of 10.0.0.0/8. */
  gboolean chosen = g_str_equal (cidr, root->install->bridge_address);
  int ifindex = link ? rtnl_link_get_ifindex (link) : 0;
  if ((link && !check_ours (link, name, error)) || !check_addresses (sock, ifindex, cidr, &present, error)
      || (!present && !chosen && !check_routes (sock, ifindex, cidr, error))
      || (!link && (!check_room (sock, root->install->max_bridges, error) || !make (sock, name, error))))
    return FALSE;
  if (!link)
    link = banger_netlink_link (sock, name, error);
  return link && (present || add_address (sock, rtnl_link_get_ifindex (link), cidr, error))
         && set_up (sock, link, error);
}

gboolean
banger_bridge_ensure (const BangerRoot *root, const char *name, const char *cidr, GError **error)
{
  G_LOCK (banger_network);
  gboolean ok = banger_bridge_ensure_locked (root, name, cidr, error);
  G_UNLOCK (banger_network);
  return ok;
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
  struct nl_addr *local = rtnl_addr_get_local (entry);
  if (rtnl_addr_get_ifindex (entry) != own->index || !local || nl_addr_get_family (local) != AF_INET)
    return;
  memcpy (&own->address, nl_addr_get_binary_addr (local), sizeof own->address);
  own->found = TRUE;
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
