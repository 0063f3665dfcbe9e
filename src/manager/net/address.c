/* Guest addresses: one per VM for its life, from the bridge's network.
 * Never gives an address that a record holds. */
#include "manager/net/address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <string.h>

#include "common/error.h"
#include "common/validate.h"

#define MAX_RESOLVERS 3

gboolean
banger_subnet_parse (const char *cidr, BangerSubnet *ret, GError **error)
{
  struct in_addr address;
  guint prefix;
  if (!banger_ipv4_cidr_parse (cidr, &address, &prefix, error))
    return FALSE;
  if (prefix > 30)
    return banger_set_error (error, BANGER_ERROR_INVALID_NETWORK,
                             "bridge address %s: no room for guests, use /30 or wider", cidr);
  ret->gateway = ntohl (address.s_addr);
  ret->prefix = prefix;
  return TRUE;
}

static int
compare (gconstpointer a, gconstpointer b)
{
  guint32 x = *(const guint32 *)a, y = *(const guint32 *)b;
  return x < y ? -1 : x > y;
}

gboolean
banger_subnet_allocate (const BangerSubnet *subnet, const guint32 *taken, gsize n_taken, guint32 *ret, GError **error)
{
  guint32 mask = G_MAXUINT32 << (32 - subnet->prefix);
  guint32 network = subnet->gateway & mask, broadcast = network | ~mask;
  g_autofree guint32 *sorted = g_memdup2 (taken, n_taken * sizeof *taken);
  if (n_taken > 0)
    qsort (sorted, n_taken, sizeof *sorted, compare);
  gsize next = 0;
  for (guint32 candidate = network + 1; candidate < broadcast; candidate++) {
    while (next < n_taken && sorted[next] < candidate)
      next++;
    if (candidate == subnet->gateway || (next < n_taken && sorted[next] == candidate))
      continue;
    *ret = candidate;
    return TRUE;
  }
  g_autofree char *text = banger_address_format (network);
  return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                           "no free address in %s/%u: delete a VM or widen the network in install.toml", text,
                           subnet->prefix);
}

char *
banger_address_format (guint32 address)
{
  struct in_addr in = { .s_addr = htonl (address) };
  char text[INET_ADDRSTRLEN];
  return g_strdup (inet_ntop (AF_INET, &in, text, sizeof text));
}

guint32
banger_address_parse (const char *text)
{
  struct in_addr in;
  return text && banger_ipv4_parse (text, &in, NULL) ? ntohl (in.s_addr) : 0;
}

/* Nothing of the host itself is open to guests, by whatever address. */
static gboolean
is_on_host (guint32 address)
{
  struct ifaddrs *list = NULL;
  gboolean found = address >> 24 == 127;
  if (getifaddrs (&list) != 0)
    return found;
  for (const struct ifaddrs *each = list; each && !found; each = each->ifa_next) {
    struct sockaddr_in in = { 0 };
    if (!each->ifa_addr || each->ifa_addr->sa_family != AF_INET)
      continue;
    memcpy (&in, each->ifa_addr, sizeof in);
    found = ntohl (in.sin_addr.s_addr) == address;
  }
  freeifaddrs (list);
  return found;
}

static gboolean
guest_can_reach (const char *text)
{
  guint32 address = banger_address_parse (text);
  return address != 0 && !is_on_host (address);
}

char **
banger_resolvers (const char *const *paths)
{
  g_autoptr (GStrvBuilder) builder = g_strv_builder_new ();
  guint n = 0;
  for (guint i = 0; paths[i] && n == 0; i++) {
    g_autofree char *text = NULL;
    if (!g_file_get_contents (paths[i], &text, NULL, NULL))
      continue;
    g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
    for (guint l = 0; lines[l] && n < MAX_RESOLVERS; l++) {
      g_auto (GStrv) words = g_strsplit_set (g_strstrip (lines[l]), " \t", 2);
      if (!words[0] || !words[1] || !g_str_equal (words[0], "nameserver") || !guest_can_reach (g_strstrip (words[1])))
        continue;
      g_strv_builder_add (builder, words[1]);
      n++;
    }
  }
  return g_strv_builder_end (builder);
}
