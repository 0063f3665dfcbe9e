/* How often one uid may call: an allowance that fills up with time, so a burst is served and a flood is not.
 * Never counts root. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#define BANGER_RATE_BURST_SECONDS 4 /* what a quiet uid has saved up */

typedef struct BangerRates BangerRates;

/** banger_rates_new: @per_second calls of each uid, limits.calls. */
BangerRates *banger_rates_new (guint64 per_second);
void banger_rates_free (BangerRates *rates);
/** banger_rates_take: a call of @uid at @now, monotonic microseconds. Returns: %FALSE if it is one too many. */
gboolean banger_rates_take (BangerRates *rates, uid_t uid, gint64 now);
