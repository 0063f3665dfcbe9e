/* Records of calls: one per call, and audit records for refusals and grants (requirements D1, D4).
 * Never decides anything. */
#pragma once

#include "privileged/call.h"

/* MESSAGE_IDs; the catalog explains them: systemd/banger.catalog. */
#define BANGER_MESSAGE_REFUSED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d01"
#define BANGER_MESSAGE_GRANTED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d02"
#define BANGER_MESSAGE_FLOOD "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d03"
#define BANGER_MESSAGE_FILTER "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d04"
#define BANGER_MESSAGE_FORWARDING "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d05"

/** banger_audit_flood: a call of @uid was one too many in a second; counted among what is left out. */
void banger_audit_flood (uid_t uid);
/** banger_audit_call: the end of @call; @error %NULL if it went well. Errors of one who is not root are recorded up
 * to a number in a while, then counted. */
void banger_audit_call (const BangerCall *call, const GError *error);
