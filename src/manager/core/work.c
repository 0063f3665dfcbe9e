/* Work that waits for a disk, in a thread that its verb does not wait for once it is cancelled.
 * Never touches @data from two threads at a time: it is the thread's until that has ended. */
#include "manager/core/work.h"

#include "manager/core/fault.h"
#include "manager/core/later.h"

typedef struct {
  const BangerWork *work;
  gpointer data;
  gint returned; /* atomic: somebody waited for the end */
} Task;

static gboolean
task_free (gpointer data)
{
  Task *self = data;
  if (self->work->free)
    self->work->free (self->data);
  g_free (self);
  return G_SOURCE_REMOVE;
}

/* The thread may be the last that holds the task. */
static void
task_release (gpointer data)
{
  if (g_main_context_is_owner (g_main_context_default ()))
    task_free (data);
  else
    g_idle_add_full (G_PRIORITY_DEFAULT, task_free, data, NULL);
}

static void
run_in_thread (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Task *self = task_data;
  GError *error = NULL;
  if (!g_cancellable_set_error_if_cancelled (cancellable, &error))
    self->work->run (self->data, cancellable, &error);
  banger_fault_hang (self->work->name);
  if (!g_task_set_return_on_cancel (task, FALSE)) { /* it is cancelled, and who waited was told */
    if (self->work->take_back)
      self->work->take_back (self->data);
    g_clear_error (&error);
    return;
  }
  g_atomic_int_set (&self->returned, TRUE);
  banger_task_return (task, error);
}

void
banger_work_async (const BangerWork *work, gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback,
                   gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  Task *self = g_new0 (Task, 1);
  self->work = work;
  self->data = data;
  g_task_set_task_data (task, self, task_release);
  g_task_set_name (task, work->name);
  g_task_set_return_on_cancel (task, TRUE);
  g_task_run_in_thread (task, run_in_thread);
}

gboolean
banger_work_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gpointer
banger_work_data (GAsyncResult *result)
{
  return ((Task *)g_task_get_task_data (G_TASK (result)))->data;
}

gboolean
banger_work_is_left (GAsyncResult *result)
{
  return !g_atomic_int_get (&((Task *)g_task_get_task_data (G_TASK (result)))->returned);
}
