/* Records of calls: one per call, and audit records for refusals and grants (requirements D1, D4).
 * Called by dispatch.c.
 * Never decides anything. */
#pragma once

#include "privileged/call.h"

/* MESSAGE_IDs; the catalog explains them: systemd/banger.catalog. */
#define BANGER_MESSAGE_REFUSED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d01"
#define BANGER_MESSAGE_GRANTED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d02"
#define BANGER_MESSAGE_FLOOD "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d03"

/** banger_audit_call: the end of @call; @error %NULL if it went well. Refusals of one who is neither the owner nor root
 * are recorded up to a number in a while, then counted. */
void banger_audit_call (const BangerCall *call, const GError *error);
