/* Gates on taps, addresses and nets (requirements B2, B3, B4).
 * Never asks the system: values in, verdict out. */
#include <arpa/inet.h>
#include <string.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "privileged/gate.h"

static guint32
mask_of (guint prefix)
{
  return prefix == 0 ? 0 : G_MAXUINT32 << (32 - prefix);
}

gboolean
banger_gate_tap_name (const char *tap, const char *vm, GError **error)
{
  g_autofree char *own = banger_tap_name (vm), *shown = banger_log_escape (tap, 32);
  return g_str_equal (tap, own)
         || banger_set_error (error, BANGER_ERROR_INVALID_NETWORK, "tap '%s' is not the tap of VM %s", shown, vm);
}

gboolean
banger_gate_nets_overlap (struct in_addr a, guint a_prefix, struct in_addr b, guint b_prefix)
{
  guint32 mask = mask_of (MIN (a_prefix, b_prefix));
  return (ntohl (a.s_addr) & mask) == (ntohl (b.s_addr) & mask);
}

static gboolean
is_private (struct in_addr address, guint prefix)
{
  static const struct {
    guint32 net;
    guint prefix;
  } nets[] = { { 0x0a000000, 8 }, { 0xac100000, 12 }, { 0xc0a80000, 16 } };
  for (size_t i = 0; i < G_N_ELEMENTS (nets); i++)
    if (prefix >= nets[i].prefix && (ntohl (address.s_addr) & mask_of (nets[i].prefix)) == nets[i].net)
      return TRUE;
  return FALSE;
}

/* Neither the net itself nor its broadcast; a /31 or /32 has neither (RFC 3021). */
static gboolean
is_host (struct in_addr address, guint prefix)
{
  guint32 host = ntohl (address.s_addr) & ~mask_of (prefix);
  return prefix >= 31 || (host != 0 && host != ~mask_of (prefix));
}

gboolean
banger_gate_bridge_address (const char *cidr, struct in_addr *ret_address, guint *ret_prefix, GError **error)
{
  struct in_addr address;
  guint prefix;
  if (!banger_ipv4_cidr_parse (cidr, &address, &prefix, error))
    return FALSE;
  if (!is_private (address, prefix))
    return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK,
                             "bridge address '%s' is not private: use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
                             cidr);
  if (!is_host (address, prefix))
    return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK,
                             "bridge address '%s' is the net or its broadcast, not a host", cidr);
  if (ret_address)
    *ret_address = address;
  if (ret_prefix)
    *ret_prefix = prefix;
  return TRUE;
}

/* A bridge's route draws traffic of the whole host to guests: which, is root's choice, whatever routes there are. */
gboolean
banger_gate_bridge_net (const BangerInstall *install, const char *cidr, GError **error)
{
  const char *pool = install->network_pool ? install->network_pool : install->bridge_address;
  struct in_addr address, pool_address;
  guint prefix, pool_prefix;
  if (!banger_gate_bridge_address (cidr, &address, &prefix, error)
      || !banger_ipv4_cidr_parse (pool, &pool_address, &pool_prefix, error))
    return FALSE;
  if (g_str_equal (cidr, install->bridge_address)
      || (prefix >= pool_prefix && banger_gate_nets_overlap (address, prefix, pool_address, pool_prefix)))
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK,
                           "bridge address '%s' is not one of this installation's: use %s or a net inside %s "
                           "(network.address and network.pool of install.toml)",
                           cidr, install->bridge_address, pool);
}

gboolean
banger_gate_guest_address (const char *guest, const char *bridge_cidr, GError **error)
{
  struct in_addr address, bridge;
  guint prefix;
  if (!banger_ipv4_parse (guest, &address, error) || !banger_gate_bridge_address (bridge_cidr, &bridge, &prefix, error))
    return FALSE;
  if (address.s_addr == bridge.s_addr || !banger_gate_nets_overlap (address, 32, bridge, prefix)
      || !is_host (address, prefix))
    return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK, "guest address '%s' is not a free host of %s", guest,
                             bridge_cidr);
  return TRUE;
}

static gboolean
refuse_resolver (const char *text, const char *why, GError **error)
{
  g_autofree char *shown = banger_log_escape (text, 64);
  return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK, "resolver '%s' is not allowed: %s", shown, why);
}

/* Names that a guest's owner serves stay on this host: nobody else is asked for them, and nobody else answers. */
static gboolean
is_on_host (struct in_addr address, const struct in_addr *bridge)
{
  static const guint32 host_resolver[] = { 0x7f000035, 0x7f000036 }; /* it would ask itself */
  guint32 host = ntohl (address.s_addr);
  if (host == host_resolver[0] || host == host_resolver[1])
    return FALSE;
  return host >> 24 == 127 || (bridge ? address.s_addr == bridge->s_addr : is_private (address, 32));
}

gboolean
banger_gate_resolver (const char *text, const struct in_addr *bridge_address, BangerResolverAddress *ret,
                      GError **error)
{
  const char *colon = strchr (text, ':');
  g_autofree char *host = colon ? g_strndup (text, (size_t)(colon - text)) : g_strdup (text);
  struct in_addr address;
  guint64 port = 53;
  if (!banger_ipv4_parse (host, &address, NULL))
    return refuse_resolver (text, "an IPv4 address such as 127.0.0.1:42069 is needed", error);
  if (colon && !banger_uint_parse (colon + 1, 1, 65535, &port, NULL))
    return refuse_resolver (text, "the port is a plain number from 1 to 65535", error);
  if (!is_on_host (address, bridge_address))
    return refuse_resolver (text, "only 127.0.0.0/8, without .53 and .54, or the bridge's own address", error);
  if (ret)
    *ret = (BangerResolverAddress){ ntohl (address.s_addr), (guint16)port };
  return TRUE;
}

static gboolean
is_port (const char *text)
{
  guint64 port;
  return banger_uint_parse (text, 1, 65535, &port, NULL);
}

gboolean
banger_gate_link (const char *vm, const char *link, GError **error)
{
  return banger_id_check (link, "VM id", error)
         && (!g_str_equal (vm, link)
             || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "VM %s cannot be linked to itself", vm));
}

gboolean
banger_gate_reach (const char *vm, const char *links, const char *ports, GError **error)
{
  g_auto (GStrv) ids = g_strsplit (links ? links : "", ",", -1), numbers = g_strsplit (ports ? ports : "", ",", -1);
  gboolean ok = (!links || *ids) && (!ports || *numbers);
  for (guint i = 0; ok && ids[i]; i++)
    ok = i < BANGER_REACH_MAX_LINKS && banger_gate_link (vm, ids[i], NULL);
  for (guint i = 0; ok && numbers[i]; i++)
    ok = i < BANGER_REACH_MAX_PORTS && is_port (numbers[i]);
  return ok
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "the lease of %s does not say what it may reach", vm);
}
