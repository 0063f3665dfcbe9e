/* How often one uid may call.
 * Never remembers more uids than a table's worth: one who has many shares one allowance with others who do. */
#include "privileged/rate.h"

#define MAX_UIDS 1024
#define SHARED_UID ((uid_t)-1)
#define BURST_USEC (BANGER_RATE_BURST_SECONDS * G_USEC_PER_SEC)

struct BangerRates {
  gint64 cost;      /* of one call, in microseconds of allowance */
  GHashTable *busy; /* uid -> when the whole allowance is there again, gint64 */
};

BangerRates *
banger_rates_new (guint64 per_second)
{
  BangerRates *self = g_new0 (BangerRates, 1);
  self->cost = MAX (1, (gint64)(G_USEC_PER_SEC / per_second));
  self->busy = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  return self;
}

void
banger_rates_free (BangerRates *self)
{
  if (!self)
    return;
  g_hash_table_unref (self->busy);
  g_free (self);
}

static gboolean
is_over (gpointer uid, gpointer until, gpointer now)
{
  return *(gint64 *)until <= *(gint64 *)now;
}

static gint64 *
allowance_of (BangerRates *self, uid_t uid, gint64 now)
{
  gint64 *until = g_hash_table_lookup (self->busy, GUINT_TO_POINTER (uid));
  if (until)
    return until;
  if (g_hash_table_size (self->busy) >= MAX_UIDS)
    g_hash_table_foreach_remove (self->busy, is_over, &now);
  if (g_hash_table_size (self->busy) >= MAX_UIDS && uid != SHARED_UID)
    return allowance_of (self, SHARED_UID, now);
  until = g_new0 (gint64, 1);
  g_hash_table_insert (self->busy, GUINT_TO_POINTER (uid), until);
  return until;
}

gboolean
banger_rates_take (BangerRates *self, uid_t uid, gint64 now)
{
  if (uid == 0)
    return TRUE;
  gint64 *until = allowance_of (self, uid, now), next = MAX (*until, now) + self->cost;
  if (next - now > BURST_USEC)
    return FALSE;
  *until = next;
  return TRUE;
}
