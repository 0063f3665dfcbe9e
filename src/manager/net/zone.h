/* What is answered to questions for names of VMs: RFC 1034, 1035, 2308, 6891. Packets in, packets out, no sockets.
 * Never answers for anything but the domain "vm" and the bridge's own addresses. */
#pragma once

#include "manager/net/address.h"

#define BANGER_ZONE_DOMAIN "vm"
#define BANGER_ZONE_MAX_QUERY 1232 /* bytes; also what we say in EDNS that we take */
#define BANGER_ZONE_MAX_REPLY 512  /* no answer is longer: none is ever cut */

typedef struct BangerZone BangerZone;

/** banger_zone_new: @subnet: of the bridge; addresses of VMs are in it. */
BangerZone *banger_zone_new (const BangerSubnet *subnet);
void banger_zone_free (BangerZone *zone);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerZone, banger_zone_free)

/** banger_zone_put: @id has this @name (a label, lower case) and @address (host byte order) from now on. */
void banger_zone_put (BangerZone *zone, const char *id, const char *name, guint32 address);
void banger_zone_drop (BangerZone *zone, const char *id);
guint banger_zone_size (BangerZone *zone);

/**
 * banger_zone_answer:
 * @query: as it came, of anybody. Returns: (transfer full) (nullable): the answer; %NULL if there is to be none. Never
 * longer than BANGER_ZONE_MAX_REPLY, and longer than the query only if that was well-formed.
 */
guint8 *banger_zone_answer (BangerZone *zone, const guint8 *query, gsize length, gsize *ret_length);
