/* One list, and whoever waits is told of each end.
 * Runs in worker threads.
 * Never holds its lock while something is done to a disk. */
#include "privileged/disk-use.h"

static GMutex lock;
static GCond ended;
static GSList *uses; /* BangerDiskUse, each on the stack of its thread */

static gboolean
is_at (const BangerDiskUse *use, const char *id)
{
  return id && (g_str_equal (use->id, id) || (use->other && g_str_equal (use->other, id)));
}

static gboolean
is_free (const BangerDiskUse *wanted)
{
  for (const GSList *at = uses; at; at = at->next)
    if (is_at (at->data, wanted->id) || is_at (at->data, wanted->other))
      return FALSE;
  return TRUE;
}

void
banger_disk_use_begin (BangerDiskUse *use)
{
  g_mutex_lock (&lock);
  while (!is_free (use))
    g_cond_wait (&ended, &lock);
  uses = g_slist_prepend (uses, use);
  g_mutex_unlock (&lock);
}

void
banger_disk_use_expect (BangerDiskUse *use, guint64 taken, guint64 size)
{
  g_mutex_lock (&lock);
  use->taken = taken;
  use->size = size;
  g_mutex_unlock (&lock);
}

void
banger_disk_use_end (BangerDiskUse *use)
{
  g_mutex_lock (&lock);
  uses = g_slist_remove (uses, use);
  g_cond_broadcast (&ended);
  g_mutex_unlock (&lock);
}

void
banger_disk_use_stop (const char *id)
{
  g_mutex_lock (&lock);
  for (const GSList *at = uses; at; at = at->next) {
    const BangerDiskUse *use = at->data;
    if (use->stop && g_str_equal (use->id, id))
      g_cancellable_cancel (use->stop);
  }
  g_mutex_unlock (&lock);
}

void
banger_disk_use_foreach (void (*each) (const BangerDiskUse *use, gpointer data), gpointer user_data)
{
  g_mutex_lock (&lock);
  for (const GSList *at = uses; at; at = at->next)
    if (((const BangerDiskUse *)at->data)->size > 0)
      each (at->data, user_data);
  g_mutex_unlock (&lock);
}
