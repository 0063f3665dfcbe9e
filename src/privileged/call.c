/* The calls that have no reply yet: which of them runs, which waits for another one of the same VM, how they end.
 * Never runs two handlers of one VM at once, and none of a call that was not queued. */
#include "privileged/call.h"

#include "privileged/audit.h"

struct BangerCalls {
  sd_bus *bus;
  GHashTable *all;  /* set */
  GHashTable *busy; /* key -> GQueue of calls; the head runs */
  guint active;     /* whose handler has begun */
  gboolean closing;
};

static void start_worker (BangerCall *call);

sd_bus *
banger_call_bus (BangerCall *call)
{
  return call->calls->bus;
}

static void
call_free (gpointer data)
{
  BangerCall *call = data;
  if (call->question)
    call->withdraw (call->question);
  sd_bus_slot_unref (call->watch);
  sd_bus_message_unref (call->message);
  g_clear_error (&call->early);
  if (call->stage && call->stage_free)
    call->stage_free (call->stage);
  banger_clear_fd (&call->pidfd);
  banger_clear_fd (&call->disk);
  g_clear_pointer (&call->leases, g_ptr_array_unref);
  g_clear_pointer (&call->vms, g_ptr_array_unref);
  g_clear_pointer (&call->files, g_ptr_array_unref);
  g_clear_pointer (&call->keep, g_ptr_array_unref);
  g_clear_pointer (&call->ports, g_array_unref);
  g_clear_pointer (&call->claims, g_ptr_array_unref);
  g_free (call->from);
  g_free (call->template_id);
  g_clear_pointer (&call->data, g_bytes_unref);
  g_free (call->text);
  g_free (call->device);
  g_free (call->image);
  banger_engine_report_clear (&call->engine);
  g_free (call->op_id);
  g_free (call->sender);
  g_free (call->key);
  g_free (call);
}

static void
queue_free (gpointer queue)
{
  g_queue_free (queue);
}

BangerCalls *
banger_calls_new (sd_bus *bus)
{
  BangerCalls *calls = g_new0 (BangerCalls, 1);
  calls->bus = sd_bus_ref (bus);
  calls->all = g_hash_table_new_full (NULL, NULL, call_free, NULL);
  calls->busy = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, queue_free);
  return calls;
}

void
banger_calls_free (BangerCalls *calls)
{
  g_hash_table_unref (calls->busy);
  g_hash_table_unref (calls->all);
  sd_bus_unref (calls->bus);
  g_free (calls);
}

guint
banger_calls_of (BangerCalls *calls, uid_t uid)
{
  GHashTableIter iter;
  gpointer key;
  guint n = 0;
  g_hash_table_iter_init (&iter, calls->all);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    n += ((BangerCall *)key)->caller == uid;
  return n;
}

/* A worker holds its call and the root: neither may go before it has ended. */
void
banger_calls_drain (BangerCalls *calls)
{
  calls->closing = TRUE;
  while (calls->active > 0)
    g_main_context_iteration (NULL, TRUE);
}

BangerCall *
banger_call_new (BangerCalls *calls, sd_bus_message *message, const BangerMethod *method)
{
  BangerCall *call = g_new0 (BangerCall, 1);
  call->calls = calls;
  call->method = method;
  call->op_id = banger_call_read_op_id (message);
  call->caller = (uid_t)-1;
  call->started = g_get_monotonic_time ();
  call->pidfd = call->disk = call->exit_code = -1;
  call->message = sd_bus_message_ref (message);
  call->sender = g_strdup (sd_bus_message_get_sender (message));
  g_hash_table_add (calls->all, call);
  return call;
}

/* Queues */

static void
leave_queue (BangerCall *call, const char *key)
{
  GQueue *queue = key ? g_hash_table_lookup (call->calls->busy, key) : NULL;
  if (!queue || !g_queue_remove (queue, call))
    return;
  BangerCall *next = g_queue_peek_head (queue);
  if (next)
    start_worker (next);
  else
    g_hash_table_remove (call->calls->busy, key);
}

gboolean
banger_call_claim (BangerCall *call, const char *vm)
{
  GHashTable *busy = call->calls->busy;
  if (g_hash_table_contains (busy, vm))
    return FALSE;
  GQueue *queue = g_queue_new ();
  g_queue_push_tail (queue, call);
  g_hash_table_insert (busy, g_strdup (vm), queue);
  if (!call->claims)
    call->claims = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (call->claims, g_strdup (vm));
  return TRUE;
}

void
banger_call_queue (BangerCall *call)
{
  const char *object = banger_call_vm (call);
  if (!object)
    object = call->strings[BANGER_ARG_BRIDGE];
  call->key = g_strdup (object ? object : "");
  call->next = call->method->handler;
  if (!object) { /* reads only; no need to wait for others */
    start_worker (call);
    return;
  }
  GQueue *queue = g_hash_table_lookup (call->calls->busy, call->key);
  if (!queue) {
    queue = g_queue_new ();
    g_hash_table_insert (call->calls->busy, g_strdup (call->key), queue);
  }
  g_queue_push_tail (queue, call);
  if (queue->length == 1)
    start_worker (call);
}

/* The end */

int
banger_call_reply_error (sd_bus_message *message, const GError *error, const char *op_id)
{
  g_auto (sd_bus_error) e = SD_BUS_ERROR_NULL;
  banger_error_to_bus (error, op_id, &e);
  return sd_bus_reply_method_error (message, &e);
}

static int
reply (BangerCall *call, const GError *error)
{
  if (sd_bus_message_get_expect_reply (call->message) <= 0)
    return 0;
  return error ? banger_call_reply_error (call->message, error, call->op_id) : banger_call_reply (call);
}

/* The record is there before the caller has the answer. */
void
banger_call_end (BangerCall *call, const GError *error)
{
  g_autoptr (GError) unsent = NULL;
  banger_audit_call (call, error);
  int r = reply (call, error);
  if (r < 0 && !error) {
    banger_set_error_errno (&unsent, BANGER_ERROR_FAILED, -r, "the reply cannot be sent");
    banger_audit_call (call, unsent);
    (void)banger_call_reply_error (call->message, unsent, call->op_id);
  }
  call->calls->active -= call->active;
  leave_queue (call, call->key);
  for (guint i = 0; call->claims && i < call->claims->len; i++)
    leave_queue (call, call->claims->pdata[i]);
  banger_call_drop (call);
}

void
banger_call_drop (BangerCall *call)
{
  g_hash_table_remove (call->calls->all, call);
}

/* Work: the handler, and behind the interlude what finishes it */

static void
run_in_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  BangerCall *call = data;
  GError *error = NULL;
  if (call->next (call, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, error);
}

static void
on_worker_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerCall *call = data;
  g_autoptr (GError) error = NULL;
  gboolean again = call->next == call->method->handler && call->method->interlude;
  if (!g_task_propagate_boolean (G_TASK (result), &error) || !again)
    banger_call_end (call, error);
  else
    call->method->interlude (call);
}

static void
start_worker (BangerCall *call)
{
  if (!call->active && call->calls->closing) {
    g_autoptr (GError) error = NULL;
    banger_set_error (&error, BANGER_ERROR_HELPER_UNAVAILABLE, "the helper is about to end");
    banger_call_end (call, error);
    return;
  }
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_worker_done, call);
  g_task_set_task_data (task, call, NULL);
  call->calls->active += !call->active;
  call->active = TRUE;
  g_task_run_in_thread (task, run_in_thread);
}

void
banger_call_resume (BangerCall *call, GError *error)
{
  g_autoptr (GError) owned = error;
  if (owned) {
    banger_call_end (call, owned);
    return;
  }
  call->next = call->method->finish;
  start_worker (call);
}
