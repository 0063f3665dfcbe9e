/* polkit: the second check of every method (requirement A4). The default answer is no.
 * Called by dispatch.c.
 * Never blocks, never caches, never names a subject by its pid. */
#pragma once

#include "privileged/call.h"

/**
 * banger_authority_check:
 * Asks polkit whether the sender of @call may have @call->method->action; details: vm, bridge, verb, owner. Interaction
 * is allowed only if the message allows it. No polkit, no answer in time, a broken answer: no.
 * See org.freedesktop.PolicyKit1.Authority(8).
 */
gboolean banger_authority_check (BangerCall *call, BangerAuthorityAnswer answer, GError **error);
/** banger_authority_cancel: the caller is gone; the answer will not come. */
void banger_authority_cancel (BangerCall *call);
