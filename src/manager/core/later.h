/* How a GTask ends that has no more to say than whether it went well, and what is not waited for without end. */
#pragma once

#include <gio/gio.h>

/** banger_task_return: @error: (transfer full) (nullable): %NULL: a boolean, true. */
static inline void
banger_task_return (GTask *task, GError *error)
{
  if (error)
    g_task_return_error (task, error);
  else
    g_task_return_boolean (task, TRUE);
}

static inline gboolean
banger_task_on_later (gpointer data)
{
  GTask *task = data;
  banger_task_return (task, g_object_steal_data (G_OBJECT (task), "later"));
  return G_SOURCE_REMOVE;
}

/** banger_task_return_later: likewise, from the main loop: g_task_return_*() may call back at once, and a callback may
 * free what its caller still uses. Never from a worker thread. @task: (transfer full). */
static inline void
banger_task_return_later (GTask *task, GError *error)
{
  g_object_set_data_full (G_OBJECT (task), "later", error, (GDestroyNotify)g_error_free);
  g_idle_add_full (G_PRIORITY_DEFAULT, banger_task_on_later, task, g_object_unref);
}

static inline gboolean
banger_on_cancel_later (gpointer data)
{
  g_cancellable_cancel (data);
  return G_SOURCE_REMOVE;
}

/** banger_cancel_later: when the time is over. Until then it is kept: whoever does not need it any more just leaves it. */
static inline void
banger_cancel_later (GCancellable *cancellable, guint seconds)
{
  g_timeout_add_seconds_full (G_PRIORITY_DEFAULT, seconds, banger_on_cancel_later, g_object_ref (cancellable),
                              g_object_unref);
}
