/* The table of processes.h.
 * Never waits for a guest: what it says comes from the main loop. */
#include "manager/vm/processes.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"

#define RUNNING_MAX 256u
#define ENDED_MAX 256u /* that are still shown */
#define LINGER_SECONDS 60

struct BangerProcesses {
  const BangerProcessObserver *observer;
  gpointer user_data;
  GHashTable *table;   /* id -> BangerProcess */
  GQueue ended;        /* of them, oldest first */
  GHashTable *pending; /* set of Pending */
};

/* One that is being started. */
typedef struct {
  BangerProcesses *processes; /* NULL once they are gone */
  GTask *task;
  GCancellable *cancellable;
  char *vm, *client;
  int fds[BANGER_EXEC_STREAMS];
} Pending;

static void
tell_watch (BangerProcess *process, gboolean gone)
{
  BangerProcessEnded watch = process->watch;
  process->watch = NULL;
  if (watch)
    watch (gone ? NULL : process, process->watch_data);
}

static void
process_free (gpointer data)
{
  BangerProcess *process = data;
  tell_watch (process, TRUE);
  g_clear_handle_id (&process->linger, g_source_remove);
  banger_exec_free (process->exec);
  g_free (process->id);
  g_free (process->vm);
  g_free (process->client);
  g_free (process->error);
  g_free (process);
}

BangerProcesses *
banger_processes_new (const BangerProcessObserver *observer, gpointer data)
{
  BangerProcesses *processes = g_new0 (BangerProcesses, 1);
  processes->observer = observer;
  processes->user_data = data;
  processes->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, process_free);
  processes->pending = g_hash_table_new (NULL, NULL);
  g_queue_init (&processes->ended);
  return processes;
}

void
banger_processes_free (BangerProcesses *processes)
{
  GHashTableIter iter;
  Pending *pending;
  if (!processes)
    return;
  g_hash_table_iter_init (&iter, processes->pending);
  while (g_hash_table_iter_next (&iter, (gpointer *)&pending, NULL)) {
    pending->processes = NULL;
    g_cancellable_cancel (pending->cancellable);
  }
  g_hash_table_unref (processes->pending);
  g_queue_clear (&processes->ended);
  g_hash_table_unref (processes->table);
  g_free (processes);
}

void
banger_process_forget (BangerProcess *process)
{
  BangerProcesses *processes = process->processes;
  g_queue_remove (&processes->ended, process);
  g_hash_table_steal (processes->table, process->id);
  processes->observer->objects.removed (BANGER_OBJECT_PROCESS, process->id, processes->user_data);
  process_free (process);
}

static gboolean
on_linger (gpointer data)
{
  BangerProcess *process = data;
  process->linger = 0;
  banger_process_forget (process);
  return G_SOURCE_REMOVE;
}

static void
on_ended (BangerExec *exec, int status, int number, const GError *error, gpointer data)
{
  BangerProcess *process = data;
  BangerProcesses *processes = process->processes;
  process->status = error || number != 0 ? -1 : status;
  process->number = error ? 0 : number;
  g_free (process->error);
  process->error = g_strdup (error ? error->message : "");
  g_clear_pointer (&process->exec, banger_exec_free);
  process->linger = g_timeout_add_seconds (LINGER_SECONDS, on_linger, process);
  g_queue_push_tail (&processes->ended, process);
  if (processes->ended.length > ENDED_MAX)
    banger_process_forget (processes->ended.head->data);
  processes->observer->objects.changed (BANGER_OBJECT_PROCESS, process->id,
                                        BANGER_PROPERTIES ("State", "ExitStatus", "ExitSignal", "Error"),
                                        processes->user_data);
  processes->observer->ended (process, processes->user_data);
  tell_watch (process, FALSE);
}

static guint
count_running (BangerProcesses *processes)
{
  return g_hash_table_size (processes->table) - processes->ended.length + g_hash_table_size (processes->pending);
}

static void
pending_free (gpointer data)
{
  Pending *pending = data;
  for (int i = 0; i < BANGER_EXEC_STREAMS; i++)
    banger_clear_fd (&pending->fds[i]);
  g_object_unref (pending->cancellable);
  g_free (pending->vm);
  g_free (pending->client);
  g_free (pending);
}

static BangerProcess *
add (Pending *pending, BangerExec *exec)
{
  BangerProcesses *processes = pending->processes;
  BangerProcess *process = g_new0 (BangerProcess, 1);
  process->processes = processes;
  process->id = banger_id_new ();
  process->vm = g_strdup (pending->vm);
  process->client = g_strdup (pending->client);
  process->exec = exec;
  process->status = -1;
  process->error = g_strdup ("");
  g_hash_table_insert (processes->table, process->id, process);
  banger_exec_watch (exec, on_ended, process);
  processes->observer->objects.added (BANGER_OBJECT_PROCESS, process->id, processes->user_data);
  return process;
}

static void
on_started (GObject *source, GAsyncResult *result, gpointer data)
{
  Pending *pending = data;
  g_autoptr (GTask) task = pending->task;
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerExec) exec = banger_vm_exec_finish (result, pending->fds, &error);
  if (pending->processes)
    g_hash_table_remove (pending->processes->pending, pending);
  if (!exec)
    g_task_return_error (task, g_steal_pointer (&error));
  else if (!pending->processes || g_cancellable_is_cancelled (pending->cancellable))
    g_task_return_error (task, banger_error_cancelled ());
  else
    g_task_return_pointer (task, add (pending, g_steal_pointer (&exec)), NULL);
}

void
banger_processes_start_async (BangerProcesses *processes, BangerVm *vm, const char *client, const BangerExecSpec *spec,
                              GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  GError *error = NULL;
  if (!banger_vm_check_free (vm, &error)) {
    g_task_return_error (task, error);
    return;
  }
  if (count_running (processes) >= RUNNING_MAX) {
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%u commands run in guests, which is the limit: wait for some to end", RUNNING_MAX);
    return;
  }
  Pending *pending = g_new0 (Pending, 1);
  pending->processes = processes;
  pending->cancellable = g_cancellable_new ();
  pending->vm = g_strdup (banger_vm_record (vm)->id);
  pending->client = g_strdup (client);
  for (int i = 0; i < BANGER_EXEC_STREAMS; i++)
    pending->fds[i] = -1;
  pending->task = g_steal_pointer (&task);
  g_task_set_task_data (pending->task, pending, pending_free);
  g_hash_table_add (processes->pending, pending);
  banger_vm_exec_async (vm, spec, pending->cancellable, on_started, pending);
}

BangerProcess *
banger_processes_start_finish (GAsyncResult *result, int *ret_fds, GError **error)
{
  BangerProcess *process = g_task_propagate_pointer (G_TASK (result), error);
  Pending *pending = g_task_get_task_data (G_TASK (result));
  for (int i = 0; i < BANGER_EXEC_STREAMS && process; i++)
    ret_fds[i] = banger_steal_fd (&pending->fds[i]);
  return process;
}

void
banger_processes_client_gone (BangerProcesses *processes, const char *client)
{
  g_autoptr (GPtrArray) gone = g_ptr_array_new ();
  GHashTableIter iter;
  BangerProcess *process;
  Pending *pending;
  g_hash_table_iter_init (&iter, processes->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&process))
    if (g_str_equal (process->client, client))
      g_ptr_array_add (gone, process);
  for (guint i = 0; i < gone->len; i++)
    banger_process_forget (gone->pdata[i]);
  g_hash_table_iter_init (&iter, processes->pending);
  while (g_hash_table_iter_next (&iter, (gpointer *)&pending, NULL))
    if (g_str_equal (pending->client, client))
      g_cancellable_cancel (pending->cancellable);
}

BangerProcess *
banger_processes_find (BangerProcesses *processes, const char *id)
{
  return g_hash_table_lookup (processes->table, id);
}

GPtrArray *
banger_processes_ids (BangerProcesses *processes)
{
  return banger_table_ids (processes->table);
}

const char *
banger_process_state (const BangerProcess *process)
{
  if (process->exec)
    return "running";
  return *process->error != '\0' ? "lost" : process->number != 0 ? "killed" : "exited";
}

void
banger_process_watch (BangerProcess *process, BangerProcessEnded ended, gpointer user_data)
{
  process->watch = ended;
  process->watch_data = user_data;
}
