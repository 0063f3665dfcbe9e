/* Ends a GTask from the main loop instead of from here: g_task_return_*() may call back at once, and a callback may
 * free what its caller still uses. Called by agent-client.c and vm.c. Never from a worker thread. */
#pragma once

#include <gio/gio.h>

static inline gboolean
banger_task_on_later (gpointer data)
{
  GTask *task = data;
  GError *error = g_object_steal_data (G_OBJECT (task), "later");
  if (error)
    g_task_return_error (task, error);
  else
    g_task_return_boolean (task, TRUE);
  return G_SOURCE_REMOVE;
}

/** banger_task_return_later: @task, @error: (transfer full). %NULL @error: a boolean, true. */
static inline void
banger_task_return_later (GTask *task, GError *error)
{
  g_object_set_data_full (G_OBJECT (task), "later", error, (GDestroyNotify)g_error_free);
  g_idle_add_full (G_PRIORITY_DEFAULT, banger_task_on_later, task, g_object_unref);
}
