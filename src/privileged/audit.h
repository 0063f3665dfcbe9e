/* Records of calls: one per call, and audit records for refusals and grants (requirements D1, D4).
 * Called by dispatch.c.
 * Never decides anything. */
#pragma once

#include "privileged/call.h"

/* MESSAGE_IDs; the catalog explains them: systemd/banger.catalog. */
#define BANGER_MESSAGE_REFUSED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d01"
#define BANGER_MESSAGE_GRANTED "7c1f0c5f0b8c4c6b9f3b6f2a4c9f1d02"

/** banger_audit_call: the end of @call; @error %NULL if it went well. */
void banger_audit_call (const BangerCall *call, const GError *error);
/** banger_audit_early: a message that did not become a call of a method. */
void banger_audit_early (const char *member, const char *op_id, uid_t uid, const GError *error);
