/* Who calls: the first check of every method (requirement A4).
 * Called by dispatch.c.
 * Never looks at a pid, never trusts what the bus did not vouch for. */
#pragma once

#include "privileged/call.h"

/**
 * banger_caller_uid:
 * The effective uid of the sender of @message as the bus knows it (sd_bus_query_sender_creds(3), not augmented).
 * @ret_uid: written only on success.
 */
gboolean banger_caller_uid (sd_bus_message *message, uid_t *ret_uid, GError **error);

/** banger_caller_check: @uid is root or the owner. */
gboolean banger_caller_check (uid_t uid, uid_t owner, GError **error);
