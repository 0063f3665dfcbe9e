/* Names of VMs, served on 127.0.0.1 by UDP and TCP. What is answered is zone.c's.
 * Never blocks the main loop, never keeps more than a few connections, never sends more than one answer for a question. */
#pragma once

#include "manager/net/zone.h"

typedef struct BangerDns BangerDns;

/**
 * banger_dns_new:
 * Listens on @port of 127.0.0.1; at priorities below everything else of the main loop.
 * @zone: borrowed. Returns: %NULL with %BANGER_ERROR_IN_USE if somebody else has the port, or another code.
 */
BangerDns *banger_dns_new (BangerZone *zone, guint16 port, GError **error);
void banger_dns_free (BangerDns *dns);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerDns, banger_dns_free)
