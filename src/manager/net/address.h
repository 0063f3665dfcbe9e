/* Guest addresses: one per VM for its life, from the bridge's network.
 * Never gives an address that a record holds. */
#pragma once

#include <glib.h>
#include <netinet/in.h>

typedef struct {
  guint32 gateway; /* the bridge's own address, host byte order */
  guint prefix;
} BangerSubnet;

/** banger_subnet_parse: @cidr is the bridge's address with its prefix. A prefix over 30 leaves no room: InvalidNetwork.
 */
gboolean banger_subnet_parse (const char *cidr, BangerSubnet *ret, GError **error);

/**
 * banger_subnet_allocate:
 * The lowest free host address; network, broadcast and gateway are never given.
 * @taken: addresses in host byte order. %BANGER_ERROR_LIMITS_EXCEEDED when the network is full.
 */
gboolean banger_subnet_allocate (const BangerSubnet *subnet, const guint32 *taken, gsize n_taken, guint32 *ret,
                                 GError **error);

char *banger_address_format (guint32 address); /* dotted quad */
/** banger_address_parse: host byte order; 0 if @text is not an address. */
guint32 banger_address_parse (const char *text);

/** banger_resolvers: Returns: (transfer full): IPv4 name servers of this host that a guest can reach, at most 3;
 * those that run on this host itself are left out.
 * @paths: NULL-ended resolv.conf(5) files; the first with a usable server counts. */
char **banger_resolvers (const char *const *paths);
