/* Who calls: the first check of every method (requirement A4).
 * Never looks at a pid, never waits for the bus, never trusts what the bus did not vouch for. */
#pragma once

#include "privileged/call.h"

typedef struct BangerCallers BangerCallers;

/** The uid of @call's sender; @error %NULL if the bus told it. */
typedef void (*BangerCallerKnown) (BangerCall *call, uid_t uid, const GError *error);

/** banger_callers_new: @bus is borrowed. @known is called once for each call, from the main loop. */
BangerCallers *banger_callers_new (sd_bus *bus, BangerCallerKnown known);
void banger_callers_free (BangerCallers *callers);

/**
 * banger_callers_identify:
 * Finds the uid of @call->sender: at once if this connection was asked about before (a unique name is never given to
 * another), else when the bus has answered GetConnectionUnixUser. Waiting for the answer here would read everything
 * that others have sent meanwhile, so a flood could fill the helper. An answer that does not come is asked for again.
 * @max_waiting: how many calls of one connection may wait; more are %BANGER_ERROR_LIMITS_EXCEEDED.
 */
void banger_callers_identify (BangerCallers *callers, BangerCall *call, guint64 max_waiting);

/** banger_callers_peek: the uid of @sender if this connection was asked about before. */
gboolean banger_callers_peek (const BangerCallers *callers, const char *sender, uid_t *ret_uid);

/** banger_caller_check: @uid is root or the owner. */
gboolean banger_caller_check (uid_t uid, uid_t owner, GError **error);
