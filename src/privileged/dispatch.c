/* The one way into the helper.
 * Called by helper.c.
 * Never runs a handler before the caller's uid and polkit said yes. */
#include "privileged/dispatch.h"

#include <errno.h>
#include <string.h>

#include "common/bus-source.h"
#include "common/names.h"
#include "privileged/audit.h"
#include "privileged/authority.h"
#include "privileged/caller.h"
#include "privileged/snapshot.h"

struct BangerDispatch {
  sd_bus *bus;
  const BangerRoot *root;
  sd_bus_slot *filter, *object;
  GArray *vtable;    /* of sd_bus_vtable; sd-bus keeps the address, also to take the object away */
  GPtrArray *texts;  /* what the vtable points to */
  GHashTable *calls; /* set: every call that has no reply yet */
  GHashTable *busy;  /* key -> GQueue of calls; the head runs */
  BangerCallers *callers;
  guint active; /* calls whose handler has begun */
  gboolean closing;
};

static void start_worker (BangerCall *call);

sd_bus *
banger_call_bus (BangerCall *call)
{
  return call->daemon->bus;
}

static void
call_free (gpointer data)
{
  BangerCall *call = data;
  sd_bus_slot_unref (call->polkit);
  sd_bus_slot_unref (call->watch);
  sd_bus_message_unref (call->message);
  g_clear_error (&call->early);
  if (call->stage && call->stage_free)
    call->stage_free (call->stage);
  banger_clear_fd (&call->pidfd);
  g_clear_pointer (&call->leases, g_ptr_array_unref);
  g_clear_pointer (&call->vms, g_ptr_array_unref);
  g_clear_pointer (&call->files, g_ptr_array_unref);
  g_clear_pointer (&call->keep, g_ptr_array_unref);
  g_clear_pointer (&call->claims, g_ptr_array_unref);
  g_clear_pointer (&call->data, g_bytes_unref);
  g_free (call->text);
  g_free (call->op_id);
  g_free (call->sender);
  g_free (call->key);
  g_free (call->ticket);
  g_free (call);
}

static int
reply_error (sd_bus_message *message, const GError *error, const char *op_id)
{
  g_auto (sd_bus_error) e = SD_BUS_ERROR_NULL;
  banger_error_to_bus (error, op_id, &e);
  return sd_bus_reply_method_error (message, &e);
}

static void
leave_queue (BangerCall *call, const char *key)
{
  GQueue *queue = key ? g_hash_table_lookup (call->daemon->busy, key) : NULL;
  if (!queue || !g_queue_remove (queue, call))
    return;
  BangerCall *next = g_queue_peek_head (queue);
  if (next)
    start_worker (next);
  else
    g_hash_table_remove (call->daemon->busy, key);
}

gboolean
banger_call_claim (BangerCall *call, const char *vm)
{
  GHashTable *busy = call->daemon->busy;
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

static int
reply (BangerCall *call, const GError *error)
{
  if (sd_bus_message_get_expect_reply (call->message) <= 0)
    return 0;
  return error ? reply_error (call->message, error, call->op_id) : banger_call_reply (call);
}

/* The end of every call; its record is there before the caller has the answer. */
static void
finish (BangerCall *call, const GError *error)
{
  g_autoptr (GError) unsent = NULL;
  banger_audit_call (call, error);
  int r = reply (call, error);
  if (r < 0 && !error) {
    banger_set_error_errno (&unsent, BANGER_ERROR_FAILED, -r, "the reply cannot be sent");
    banger_audit_call (call, unsent);
    (void)reply_error (call->message, unsent, call->op_id);
  }
  call->daemon->active -= call->active;
  leave_queue (call, call->key);
  for (guint i = 0; call->claims && i < call->claims->len; i++)
    leave_queue (call, call->claims->pdata[i]);
  g_hash_table_remove (call->daemon->calls, call); /* frees it */
}

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
    finish (call, error);
  else
    call->method->interlude (call);
}

static void
start_worker (BangerCall *call)
{
  if (!call->active && call->daemon->closing) {
    g_autoptr (GError) error = NULL;
    banger_set_error (&error, BANGER_ERROR_HELPER_UNAVAILABLE, "the helper is about to end");
    finish (call, error);
    return;
  }
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_worker_done, call);
  g_task_set_task_data (task, call, NULL);
  call->daemon->active += !call->active;
  call->active = TRUE;
  g_task_run_in_thread (task, run_in_thread);
}

void
banger_call_resume (BangerCall *call, GError *error)
{
  g_autoptr (GError) owned = error;
  if (owned) {
    finish (call, owned);
    return;
  }
  call->next = call->method->finish;
  start_worker (call);
}

static void
enqueue (BangerCall *call)
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
  GQueue *queue = g_hash_table_lookup (call->daemon->busy, call->key);
  if (!queue) {
    queue = g_queue_new ();
    g_hash_table_insert (call->daemon->busy, g_strdup (call->key), queue);
  }
  g_queue_push_tail (queue, call);
  if (queue->length == 1)
    start_worker (call);
}

/* Everything is read and gated again: only what was authorised is done. */
static void
on_authorised (BangerCall *call, const GError *error)
{
  g_autoptr (GError) why = NULL;
  call->watch = sd_bus_slot_unref (call->watch);
  if (error)
    finish (call, error);
  else if (!banger_caller_check (call->caller, call->owner, &why) || !banger_call_read_args (call, &why))
    finish (call, why);
  else
    enqueue (call);
}

/* The caller left the bus while polkit was asked: nobody wants the answer. */
static int
on_name_changed (sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
  BangerCall *call = userdata;
  g_autoptr (GError) gone = NULL;
  const char *name = NULL, *owner = NULL;
  if (!banger_bus_is_from (m, BANGER_BUS_DRIVER) || sd_bus_message_read (m, "sss", &name, NULL, &owner) < 0
      || !g_str_equal (name, call->sender) || *owner)
    return 0;
  banger_set_error (&gone, BANGER_ERROR_CANCELLED, "the caller left before polkit answered");
  banger_authority_cancel (call);
  banger_audit_call (call, gone);
  g_hash_table_remove (call->daemon->calls, call);
  return 0;
}

/* Not sd_bus_track: it waits for the bus. A caller who has left before this acts is one whom polkit does not know. */
static gboolean
watch_caller (BangerCall *call, GError **error)
{
  g_autofree char *rule = g_strdup_printf ("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                           "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
                                           call->sender);
  int r = sd_bus_add_match_async (call->daemon->bus, &call->watch, rule, on_name_changed, NULL, call);
  return r >= 0 || banger_set_error_errno (error, BANGER_ERROR_ACCESS_DENIED, -r, "the caller cannot be followed");
}

static guint
pending_of (const BangerDispatch *self, uid_t uid)
{
  GHashTableIter iter;
  gpointer key;
  guint n = 0;
  g_hash_table_iter_init (&iter, self->calls);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    n += ((BangerCall *)key)->caller == uid;
  return n;
}

static gboolean
admit (BangerCall *call, GError **error)
{
  BangerDispatch *self = call->daemon;
  if (!banger_caller_check (call->caller, call->owner, error))
    return FALSE;
  if (call->early) {
    g_propagate_error (error, g_steal_pointer (&call->early));
    return FALSE;
  }
  if (pending_of (self, call->caller) > self->root->install->max_pending)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%" G_GUINT64_FORMAT " calls of uid %u wait already (limits.pending)",
                             self->root->install->max_pending, call->caller);
  return banger_call_read_args (call, error) && watch_caller (call, error)
         && banger_authority_check (call, on_authorised, error);
}

static void
on_known (BangerCall *call, uid_t uid, const GError *unknown)
{
  g_autoptr (GError) error = NULL;
  call->caller = uid;
  if (unknown)
    finish (call, unknown);
  else if (!admit (call, &error))
    finish (call, error);
}

/* @early (transfer full, nullable): what is wrong with the message whoever sent it. */
static void
receive (BangerDispatch *self, sd_bus_message *message, const BangerMethod *method, GError *early)
{
  BangerCall *call = g_new0 (BangerCall, 1);
  call->daemon = self;
  call->root = self->root;
  call->method = method;
  call->early = early;
  call->op_id = banger_call_read_op_id (message);
  call->caller = (uid_t)-1;
  call->owner = self->root->install->owner_uid;
  call->started = g_get_monotonic_time ();
  call->pidfd = call->exit_code = -1;
  call->message = sd_bus_message_ref (message);
  call->sender = g_strdup (sd_bus_message_get_sender (message));
  g_hash_table_add (self->calls, call);
  banger_callers_identify (self->callers, call, self->root->install->max_pending);
}

static int
on_method (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  const BangerMethod *method = banger_method_find (sd_bus_message_get_member (message));
  if (!method || !method->action)
    return -EPERM; /* the filter let through only rows of the table */
  receive (userdata, message, method, NULL);
  return 1;
}

/* Interfaces that sd-bus or common/log-control.c serve. */
static gboolean
is_standard (const char *interface)
{
  static const char *const names[] = { "org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable",
                                       "org.freedesktop.DBus.Properties", "org.freedesktop.LogControl1", NULL };
  return g_strv_contains (names, interface);
}

static gboolean
check_message (sd_bus_message *message, GError **error)
{
  const char *path = sd_bus_message_get_path (message), *interface = sd_bus_message_get_interface (message);
  const char *member = sd_bus_message_get_member (message), *signature = sd_bus_message_get_signature (message, TRUE);
  const BangerMethod *method = banger_method_find (member);
  if (interface && is_standard (interface))
    return TRUE;
  if (!method || (interface && !g_str_equal (interface, BANGER_PRIVILEGED_INTERFACE))
      || !g_str_equal (path, BANGER_PRIVILEGED_PATH))
    return banger_set_error (error, BANGER_ERROR_UNKNOWN_METHOD, "there is no method %s.%s at %s",
                             interface ? interface : BANGER_PRIVILEGED_INTERFACE, member, path);
  g_autofree char *wanted = banger_method_signature (method);
  return g_strcmp0 (signature, wanted) == 0
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s takes arguments of type '%s', not '%s'", member,
                              wanted, signature);
}

/* Before sd-bus looks at it: sd-bus's own errors carry no op id. */
static int
on_message (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  GError *error = NULL;
  if (!sd_bus_message_is_method_call (message, NULL, NULL) || check_message (message, &error))
    return 0;
  receive (userdata, message, NULL, error);
  return 1;
}

static int
get_version (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
             void *userdata, sd_bus_error *ret_error)
{
  return sd_bus_message_append (reply, "s", BANGER_VERSION);
}

static int
get_features (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  BangerDispatch *self = userdata;
  return sd_bus_message_append_strv (reply, (char **)banger_dispatch_features (self->root));
}

const char *const *
banger_dispatch_features (const BangerRoot *root)
{
  static const char *features[3];
  int n = 0;
  if (banger_snapshot_supported ())
    features[n++] = "snapshot";
  if (root->systemd)
    features[n++] = "systemd";
  features[n] = NULL;
  return features;
}

static const char *
keep (BangerDispatch *self, char *text)
{
  g_ptr_array_add (self->texts, text);
  return text;
}

/* "vm\0options\0tap\0": sd-bus wants the names of all arguments and results, each ended. */
static const char *
argument_names (BangerDispatch *self, const BangerMethod *method)
{
  g_autoptr (GString) names = g_string_new (NULL);
  for (int i = 0; i < BANGER_MAX_ARGS && method->args[i] != BANGER_ARG_NONE; i++)
    g_string_append_len (names, banger_arg_name (method->args[i]),
                         (gssize)strlen (banger_arg_name (method->args[i])) + 1);
  g_string_append_len (names, "options", sizeof "options");
  for (const char *name = banger_result_names (method->result); *name; name += strlen (name) + 1)
    g_string_append_len (names, name, (gssize)strlen (name) + 1);
  return keep (self, g_memdup2 (names->str, names->len + 1));
}

static void
build_vtable (BangerDispatch *self)
{
  const sd_bus_vtable start = SD_BUS_VTABLE_START (0), end = SD_BUS_VTABLE_END;
  const sd_bus_vtable properties[] = {
    SD_BUS_PROPERTY ("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY ("Features", "as", get_features, 0, SD_BUS_VTABLE_PROPERTY_CONST),
  };
  g_array_append_val (self->vtable, start);
  g_array_append_vals (self->vtable, properties, G_N_ELEMENTS (properties));
  for (const BangerMethod *method = banger_methods; method->name; method++) {
    /* UNPRIVILEGED only for sd-bus's own check: ours stands before every handler. */
    sd_bus_vtable row = SD_BUS_METHOD_WITH_NAMES (method->name, NULL, "", NULL, "", on_method,
                                                  SD_BUS_VTABLE_UNPRIVILEGED);
    row.x.method.signature = keep (self, banger_method_signature (method));
    row.x.method.result = banger_result_type (method->result);
    row.x.method.names = argument_names (self, method);
    g_array_append_val (self->vtable, row);
  }
  g_array_append_val (self->vtable, end);
}

static void
queue_free (gpointer queue)
{
  g_queue_free (queue);
}

BangerDispatch *
banger_dispatch_new (sd_bus *bus, const BangerRoot *root, GError **error)
{
  g_autoptr (BangerDispatch) self = g_new0 (BangerDispatch, 1);
  self->bus = sd_bus_ref (bus);
  self->root = root;
  self->vtable = g_array_new (FALSE, TRUE, sizeof (sd_bus_vtable));
  self->texts = g_ptr_array_new_with_free_func (g_free);
  self->calls = g_hash_table_new_full (NULL, NULL, call_free, NULL);
  self->busy = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, queue_free);
  self->callers = banger_callers_new (bus, on_known);
  build_vtable (self);
  int r = sd_bus_add_filter (bus, &self->filter, on_message, self);
  if (r >= 0)
    r = sd_bus_add_object_vtable (bus, &self->object, BANGER_PRIVILEGED_PATH, BANGER_PRIVILEGED_INTERFACE,
                                  (const sd_bus_vtable *)(void *)self->vtable->data, self);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register the helper's methods");
    return NULL;
  }
  return g_steal_pointer (&self);
}

/* A worker holds its call and the root: neither may go before it has ended. */
void
banger_dispatch_drain (BangerDispatch *self)
{
  self->closing = TRUE;
  while (self->active > 0)
    g_main_context_iteration (NULL, TRUE);
}

void
banger_dispatch_free (BangerDispatch *self)
{
  if (!self)
    return;
  sd_bus_slot_unref (self->object);
  sd_bus_slot_unref (self->filter);
  g_clear_pointer (&self->callers, banger_callers_free);
  g_hash_table_unref (self->busy);
  g_hash_table_unref (self->calls);
  sd_bus_close (self->bus);
  sd_bus_unref (self->bus);
  g_array_unref (self->vtable);
  g_ptr_array_unref (self->texts);
  g_free (self);
}
