/* Calls to the root helper, org.banger.Privileged on the system bus.
 * Never blocks, never retries a call by itself: a call fails, the connection comes back. */
#include "manager/peer/helper.h"

#include <systemd/sd-bus.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/core/fault.h"
#include "manager/peer/helper-answers.h"

#ifndef CALL_SECONDS /* the test has less time */
#define CALL_SECONDS 30
#endif
#ifndef GRACE_SECONDS
#define GRACE_SECONDS 5 /* that an answer is waited for after nobody wants it any more */
#endif
#define LAUNCH_SECONDS 60
#define SYNC_SECONDS 600 /* gigabytes of a guest's, to a slow disk */
#define PROMPT_SECONDS 120
/* The helper lets limits.pending calls of a uid wait, and the bus 128 answers: what is more waits here, in a line. */
#define WINDOW 16
#define BACKOFF_FIRST_MSEC 100
#define BACKOFF_LAST_MSEC 10000
#define MAX_REASON 1000 /* of what the helper says: it ends in a record */
#define MAX_OPTIONS 5

typedef struct {
  guint id;
  BangerHelperNotify func;
  gpointer user_data;
} Watcher;

/* What gives back goes first, and has room kept for it: it makes the others' place. */
typedef enum { LANE_RELEASE, LANE_OTHER, N_LANES } Lane;

struct BangerHelper {
  sd_bus *bus; /* NULL while there is no connection */
  GSource *source;
  char *owner; /* the unique name that holds the helper's; NULL nobody */
  gboolean activatable, available;
  guint retry_id, backoff_msec;
  GHashTable *calls;       /* set of Call: sent */
  GQueue waiting[N_LANES]; /* Call: not sent yet */
  guint window;
  GArray *watchers;
  guint last_watcher;
  BangerHelperLate late;
  gpointer late_data;
  GFunc resolver; /* systemd-resolved is there, perhaps again */
  gpointer resolver_data;
};

/* What the helper is asked for. Its options come last: ours, and who asks. */
typedef struct {
  const char *name;
  const char *args;  /* types: s t u; as, and aq of decimal digits: each a char ** or NULL */
  const char *reply; /* types: an answer of others is none */
  guint seconds;     /* that it may take once it is sent; 0: CALL_SECONDS */
  Lane lane;
  struct {
    const char *name, *type; /* b s t u; what is 0, FALSE or NULL is not sent */
  } options[MAX_OPTIONS];    /* the last arguments */
} Method;

/* clang-format off */
static const Method methods[] = {
  { "CheckSuspend", "s", "", .lane = LANE_OTHER },
  { "ClearResolver", "s", "", .lane = LANE_RELEASE },
  { "CopyDisk", "ss", "", SYNC_SECONDS, LANE_OTHER, { { BANGER_OPTION_REPLACE, "b" } } },
  { "CreateTap", "ssss", "s", .lane = LANE_OTHER },
  { "DeleteDisk", "s", "", .lane = LANE_RELEASE },
  { "GetEngine", "", "sss", .lane = LANE_OTHER },
  { "GetVmm", "s", "a{sv}", .lane = LANE_OTHER },
  { "KillVmm", "s", "", .lane = LANE_RELEASE },
  { "LaunchVmm", "sss", "uh", LAUNCH_SECONDS, LANE_OTHER,
    { { BANGER_OPTION_MEMORY_MIB, "u" }, { BANGER_OPTION_TEMPLATE, "s" }, { BANGER_OPTION_MAPPED, "b" } } },
  { "ListLeases", "", "a(ssu)", .lane = LANE_OTHER },
  { "OpenDisk", "s", "h", .lane = LANE_OTHER },
  { "OpenVmm", "s", "uh", .lane = LANE_OTHER },
  { "PrepareVm", "ssss", "ss", .lane = LANE_OTHER,
    .options = { { BANGER_OPTION_NAT, "b" }, { BANGER_OPTION_IMAGE, "s" }, { BANGER_OPTION_COW_BYTES, "t" }, { BANGER_OPTION_NEW, "b" },
                 { BANGER_OPTION_FROM, "s" } } },
  { "ReleaseVm", "s", "", .lane = LANE_RELEASE },
  { "RemoveNat", "s", "", .lane = LANE_RELEASE },
  { "RemoveSnapshot", "s", "", .lane = LANE_RELEASE },
  { "SetReach", "sasaq", "", .lane = LANE_OTHER },
  { "SignalVmm", "ss", "", .lane = LANE_OTHER },
  { "SyncDisk", "s", "", SYNC_SECONDS, .lane = LANE_OTHER },
  { "SyncResolver", "ss", "", .lane = LANE_OTHER },
};
/* clang-format on */

/* One call. Owned by helper->waiting until it is sent, by helper->calls until it is answered; without a task if nobody
 * waits for the answer any more. */
typedef struct {
  BangerHelper *helper;
  GTask *task;
  sd_bus_message *message;
  sd_bus_slot *slot;
  const Method *method;
  guint64 usec;              /* how long it may take once it is sent */
  gint64 sent_at;            /* monotonic µs */
  GCancellable *cancellable; /* NULL; or connected to */
  gulong cancel_id;
  guint cancelled_id, grace_id;
} Call;

static void helper_connect (BangerHelper *helper);
static void send_waiting (BangerHelper *helper);

static void
call_free (gpointer data)
{
  Call *call = data;
  g_clear_signal_handler (&call->cancel_id, call->cancellable);
  g_clear_object (&call->cancellable);
  g_clear_handle_id (&call->cancelled_id, g_source_remove);
  g_clear_handle_id (&call->grace_id, g_source_remove);
  sd_bus_slot_unref (call->slot);
  sd_bus_message_unref (call->message);
  g_clear_object (&call->task);
  g_free (call);
}

/* @back: a helper that could be activated all along is told of too when it is there again: it may have rests to clear.
 */
static void
helper_update (BangerHelper *helper, gboolean back)
{
  gboolean available = helper->bus && (helper->owner || helper->activatable);
  if (available == helper->available && !back)
    return;
  helper->available = available;
  g_autoptr (GArray) watchers = g_array_copy (helper->watchers);
  for (guint i = 0; i < watchers->len; i++)
    g_array_index (watchers, Watcher, i).func (available, g_array_index (watchers, Watcher, i).user_data);
}

static GError *
unavailable (const char *why)
{
  return g_error_new (BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE,
                      "the root helper cannot be reached: %s; look at the service bangerd-root", why);
}

static GError *
no_answer (const Call *call)
{
  return g_error_new (BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE,
                      "%s: the root helper has not answered for %" G_GINT64_FORMAT
                      " s; look at the service bangerd-root and at the disk",
                      call->method->name, (g_get_monotonic_time () - call->sent_at) / G_USEC_PER_SEC);
}

/* Ends what waits or is still on its way when the connection is gone. */
static void
helper_fail_calls (BangerHelper *helper, const char *why)
{
  g_autoptr (GPtrArray) calls = g_ptr_array_new_with_free_func (call_free);
  GHashTableIter iter;
  gpointer call;
  g_hash_table_iter_init (&iter, helper->calls);
  while (g_hash_table_iter_next (&iter, &call, NULL)) {
    g_ptr_array_add (calls, call);
    g_hash_table_iter_steal (&iter);
  }
  for (guint lane = 0; lane < N_LANES; lane++)
    while ((call = g_queue_pop_head (&helper->waiting[lane])))
      g_ptr_array_add (calls, call);
  for (guint i = 0; i < calls->len; i++) {
    const Call *ended = calls->pdata[i];
    if (ended->task)
      g_task_return_error (ended->task, unavailable (why));
    else if (helper->late)
      helper->late (ended->method->name, helper->late_data);
  }
}

static void
helper_disconnect (BangerHelper *helper, const char *why)
{
  g_clear_pointer (&helper->source, banger_bus_source_detach);
  helper_fail_calls (helper, why);
  g_clear_pointer (&helper->owner, g_free);
  helper->activatable = FALSE;
  if (helper->bus)
    sd_bus_close_unref (g_steal_pointer (&helper->bus));
}

static gboolean
on_retry (gpointer data)
{
  BangerHelper *helper = data;
  helper->retry_id = 0;
  helper_connect (helper);
  return G_SOURCE_REMOVE;
}

static void
helper_retry_later (BangerHelper *helper)
{
  helper->retry_id = g_timeout_add (helper->backoff_msec, on_retry, helper);
  helper->backoff_msec = MIN (helper->backoff_msec * 2, BACKOFF_LAST_MSEC);
}

static void
on_closed (sd_bus *bus, int r, gpointer data)
{
  BangerHelper *helper = data;
  banger_log (LOG_WARNING, NULL, "the system bus is gone: %s", g_strerror (-r));
  helper_disconnect (helper, "the system bus is gone");
  helper_update (helper, FALSE);
  helper_retry_later (helper);
}

static int
on_owner_changed (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  BangerHelper *helper = data;
  const char *name, *old_owner, *new_owner;
  if (!banger_bus_is_from (m, BANGER_BUS_DRIVER) || sd_bus_message_read (m, "sss", &name, &old_owner, &new_owner) < 0
      || g_strcmp0 (name, BANGER_PRIVILEGED_BUS_NAME))
    return 0;
  gboolean back = *new_owner && !helper->owner;
  g_free (helper->owner);
  helper->owner = *new_owner ? g_strdup (new_owner) : NULL;
  helper_update (helper, back);
  return 0;
}

static int
on_owner (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  BangerHelper *helper = data;
  const char *owner;
  helper->backoff_msec = BACKOFF_FIRST_MSEC; /* the bus answers */
  if (!sd_bus_message_is_method_error (m, NULL) && sd_bus_message_read (m, "s", &owner) >= 0) {
    g_free (helper->owner);
    helper->owner = g_strdup (owner);
  }
  helper_update (helper, FALSE);
  return 0;
}

static int
on_activatable (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  BangerHelper *helper = data;
  g_auto (GStrv) names = NULL;
  if (sd_bus_message_is_method_error (m, NULL) || sd_bus_message_read_strv (m, &names) < 0 || !names)
    return 0;
  helper->activatable = g_strv_contains ((const char *const *)names, BANGER_PRIVILEGED_BUS_NAME);
  helper_update (helper, FALSE);
  return 0;
}

static int
on_resolver_changed (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  const BangerHelper *helper = data;
  const char *name, *old_owner, *new_owner;
  if (helper->resolver && banger_bus_is_from (m, BANGER_BUS_DRIVER)
      && sd_bus_message_read (m, "sss", &name, &old_owner, &new_owner) >= 0 && *new_owner
      && g_str_equal (name, BANGER_RESOLVED_BUS_NAME))
    helper->resolver (NULL, helper->resolver_data);
  return 0;
}

/* Subscribes first, asks then: no change is missed. */
static int
helper_ask (BangerHelper *helper)
{
#define OWNER_OF(name)                                                                                                 \
  "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" name \
  "'"
  int r = sd_bus_add_match_async (helper->bus, NULL, OWNER_OF (BANGER_PRIVILEGED_BUS_NAME), on_owner_changed, NULL,
                                  helper);
  if (r >= 0)
    r = sd_bus_add_match_async (helper->bus, NULL, OWNER_OF (BANGER_RESOLVED_BUS_NAME), on_resolver_changed, NULL,
                                helper);
  if (r >= 0)
    r = sd_bus_call_method_async (helper->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                  "org.freedesktop.DBus", "GetNameOwner", on_owner, helper, "s",
                                  BANGER_PRIVILEGED_BUS_NAME);
  if (r >= 0)
    r = sd_bus_call_method_async (helper->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                  "org.freedesktop.DBus", "ListActivatableNames", on_activatable, helper, "");
  return r;
}

static void
helper_connect (BangerHelper *helper)
{
  g_autoptr (sd_bus) bus = NULL;
  int r = sd_bus_open_system (&bus);
  if (r >= 0) {
    helper->bus = g_steal_pointer (&bus);
    helper->source = banger_bus_source_attach (helper->bus, on_closed, helper);
    r = helper_ask (helper);
  }
  if (r >= 0)
    return;
  banger_log (LOG_DEBUG, NULL, "cannot connect to the system bus: %s", g_strerror (-r));
  helper_disconnect (helper, g_strerror (-r));
  helper_retry_later (helper);
}

BangerHelper *
banger_helper_new (guint64 pending)
{
  BangerHelper *helper = g_new0 (BangerHelper, 1);
  helper->window = (guint)CLAMP (pending, 1, WINDOW);
  helper->backoff_msec = BACKOFF_FIRST_MSEC;
  helper->calls = g_hash_table_new_full (NULL, NULL, call_free, NULL);
  helper->watchers = g_array_new (FALSE, FALSE, sizeof (Watcher));
  helper_connect (helper);
  return helper;
}

void
banger_helper_free (BangerHelper *helper)
{
  if (!helper)
    return;
  g_clear_handle_id (&helper->retry_id, g_source_remove);
  helper_disconnect (helper, "the daemon ends");
  g_hash_table_unref (helper->calls);
  g_array_unref (helper->watchers);
  g_free (helper);
}

gboolean
banger_helper_available (BangerHelper *helper)
{
  return helper->available;
}

guint
banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data)
{
  Watcher watcher = { ++helper->last_watcher, func, user_data };
  g_array_append_val (helper->watchers, watcher);
  return watcher.id;
}

void
banger_helper_remove_notify (BangerHelper *helper, guint id)
{
  for (guint i = 0; i < helper->watchers->len; i++)
    if (g_array_index (helper->watchers, Watcher, i).id == id) {
      g_array_remove_index (helper->watchers, i);
      return;
    }
}

void
banger_helper_set_resolver (BangerHelper *helper, GFunc resolver, gpointer user_data)
{
  helper->resolver = resolver;
  helper->resolver_data = user_data;
}

void
banger_helper_set_late (BangerHelper *helper, BangerHelperLate late, gpointer data)
{
  helper->late = late;
  helper->late_data = data;
}

/* Errors that mean "nobody there" rather than "refused". */
static gboolean
is_absence (const sd_bus_error *error)
{
#define NAME(word) "org.freedesktop.DBus.Error." word
  static const char *const names[] = { SD_BUS_ERROR_SERVICE_UNKNOWN,
                                       SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                       SD_BUS_ERROR_NO_REPLY,
                                       SD_BUS_ERROR_DISCONNECTED,
                                       SD_BUS_ERROR_NO_SERVER,
                                       SD_BUS_ERROR_TIMEOUT,
                                       NAME ("TimedOut"),
                                       NAME ("Spawn.ChildExited"),
                                       NULL };
  return g_strv_contains (names, error->name);
}

static void
message_unref (gpointer m)
{
  sd_bus_message_unref (m);
}

/* The bus lets nobody answer but who was asked; one that did would be found here. What did not arrive is the bus's, or
 * sd-bus's own in its name. */
static gboolean
is_answer (const BangerHelper *helper, sd_bus_message *m)
{
  return banger_bus_is_from (m, helper->owner)
         || (sd_bus_message_is_method_error (m, NULL) > 0 && banger_bus_is_from (m, BANGER_BUS_DRIVER));
}

static GError *
error_of (const Call *call, const sd_bus_error *remote)
{
  GError *error = NULL;
  g_autofree char *said = banger_log_escape (remote->message ? remote->message : remote->name, MAX_REASON);
  /* sd-bus's own end of the time has the name that the bus gives to an end of the helper. */
  if (is_absence (remote) && g_get_monotonic_time () - call->sent_at >= (gint64)call->usec)
    return no_answer (call);
  if (is_absence (remote)) {
    g_autofree char *why = g_strdup_printf ("%s: %s", call->method->name, said);
    return unavailable (why);
  }
  banger_set_error (&error, banger_error_from_dbus_name (remote->name), "%s: %s", call->method->name, said);
  return error;
}

/* An answer of other types goes no further. */
static void
call_return (const Call *call, sd_bus_message *m)
{
  GError *error = NULL;
  if (sd_bus_message_has_signature (m, call->method->reply) > 0) {
    g_task_return_pointer (call->task, sd_bus_message_ref (m), message_unref);
    return;
  }
  banger_helper_bad_answer (&error, -EBADMSG);
  g_task_return_error (call->task, error);
}

static int
on_reply (sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
  Call *call = data;
  BangerHelper *helper = call->helper;
  g_hash_table_steal (helper->calls, call);
  send_waiting (helper);
  const sd_bus_error *remote = sd_bus_message_get_error (m);
  if (!call->task && helper->late)
    helper->late (call->method->name, helper->late_data);
  if (!call->task) {
    call_free (call);
    return 0;
  }
  if (!is_answer (helper, m))
    g_task_return_error (call->task, unavailable ("somebody else answered"));
  else if (!remote)
    call_return (call, m);
  else
    g_task_return_error (call->task, error_of (call, remote));
  call_free (call);
  return 0;
}

static int
append_list (sd_bus_message *m, char type, char **list)
{
  const char contents[] = { type, '\0' };
  int r = sd_bus_message_open_container (m, 'a', contents);
  for (; r >= 0 && list && *list; list++)
    r = type == 's' ? sd_bus_message_append (m, "s", *list)
                    : sd_bus_message_append (m, "q", (guint16)g_ascii_strtoull (*list, NULL, 10));
  return r < 0 ? r : sd_bus_message_close_container (m);
}

static int
append_args (sd_bus_message *m, const char *types, va_list *args)
{
  int r = 0;
  for (; r >= 0 && *types; types++) {
    char type[] = { *types, '\0' };
    if (*types == 'a')
      r = append_list (m, *++types, va_arg (*args, char **));
    else if (*types == 's')
      r = sd_bus_message_append (m, type, va_arg (*args, const char *));
    else if (*types == 't')
      r = sd_bus_message_append (m, type, va_arg (*args, guint64));
    else
      r = sd_bus_message_append (m, type, va_arg (*args, guint32));
  }
  return r;
}

static int
append_option (sd_bus_message *m, const char *name, const char *type, va_list *args)
{
  const char *text = *type == 's' ? va_arg (*args, const char *) : NULL;
  guint64 number = *type == 's' ? 0 : *type == 't' ? va_arg (*args, guint64) : va_arg (*args, guint32);
  if (!text && number == 0)
    return 0;
  return *type == 's'   ? sd_bus_message_append (m, "{sv}", name, type, text)
         : *type == 't' ? sd_bus_message_append (m, "{sv}", name, type, number)
                        : sd_bus_message_append (m, "{sv}", name, type, (guint32)number);
}

static int
append_options (sd_bus_message *m, const Method *method, const BangerCaller *caller, va_list *args)
{
  int r = sd_bus_message_open_container (m, 'a', "{sv}");
  for (guint i = 0; r >= 0 && i < MAX_OPTIONS && method->options[i].name; i++)
    r = append_option (m, method->options[i].name, method->options[i].type, args);
  if (r >= 0 && caller && caller->op_id)
    r = sd_bus_message_append (m, "{sv}", BANGER_OPTION_OP_ID, "s", caller->op_id);
  return r < 0 ? r : sd_bus_message_close_container (m);
}

static int
call_fill (Call *call, const BangerCaller *caller, va_list *args)
{
  sd_bus *bus = call->helper->bus;
  int r = sd_bus_message_new_method_call (bus, &call->message, BANGER_PRIVILEGED_BUS_NAME, BANGER_PRIVILEGED_PATH,
                                          BANGER_PRIVILEGED_INTERFACE, call->method->name);
  if (r >= 0 && caller && caller->interactive)
    r = sd_bus_message_set_allow_interactive_authorization (call->message, 1);
  if (r >= 0)
    r = append_args (call->message, call->method->args, args);
  return r < 0 ? r : append_options (call->message, call->method, caller, args);
}

static const Method *
find_method (const char *name)
{
  for (guint i = 0; i < G_N_ELEMENTS (methods); i++)
    if (g_str_equal (methods[i].name, name))
      return &methods[i];
  g_error ("the root helper has no method %s", name);
}

/* Nothing was asked of the helper yet. In idle: whoever cancels may be inside of the task. */
static gboolean
on_cancelled_idle (gpointer data)
{
  Call *call = data;
  call->cancelled_id = 0;
  g_task_return_error_if_cancelled (call->task);
  call_free (call);
  return G_SOURCE_REMOVE;
}

/* What it does it does later, or never: see banger_helper_set_late(). */
static gboolean
on_grace_over (gpointer data)
{
  Call *call = data;
  g_autoptr (GTask) task = g_steal_pointer (&call->task);
  call->grace_id = 0;
  g_task_return_error (task, no_answer (call));
  return G_SOURCE_REMOVE;
}

static void
on_cancelled (GCancellable *cancellable, Call *call)
{
  if (g_queue_remove (&call->helper->waiting[call->method->lane], call))
    call->cancelled_id = g_idle_add (on_cancelled_idle, call);
  else if (!call->grace_id && !call->cancelled_id && call->task)
    call->grace_id = g_timeout_add_seconds (GRACE_SECONDS, on_grace_over, call);
}

static void
call_send (Call *call)
{
  BangerHelper *helper = call->helper;
  g_hash_table_add (helper->calls, call);
  call->sent_at = g_get_monotonic_time ();
  int r = sd_bus_call_async (helper->bus, &call->slot, call->message, on_reply, call, call->usec);
  g_clear_pointer (&call->message, sd_bus_message_unref);
  if (r >= 0)
    return;
  g_hash_table_steal (helper->calls, call);
  g_task_return_error (call->task, unavailable (g_strerror (-r)));
  call_free (call);
}

static void
send_waiting (BangerHelper *helper)
{
  for (guint lane = 0; lane < N_LANES; lane++) {
    guint room = lane == LANE_RELEASE ? helper->window : helper->window - helper->window / 4;
    Call *call;
    while (helper->bus && g_hash_table_size (helper->calls) < room
           && (call = g_queue_peek_head (&helper->waiting[lane]))) {
      g_queue_pop_head (&helper->waiting[lane]);
      call_send (call);
    }
  }
}

/* A call that was sent is waited for a while even if @cancellable ends the step: what it made is known then and can be
 * undone. A helper that stands still is not waited for. */
void
banger_helper_call (BangerHelper *helper, const BangerCaller *caller, const char *method, GCancellable *cancellable,
                    GAsyncReadyCallback callback, gpointer user_data, ...)
{
  const Method *row = find_method (method);
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (task, FALSE);
  g_task_set_name (task, row->name);
  if (g_task_return_error_if_cancelled (task) || !helper->bus) {
    if (!helper->bus && !g_cancellable_is_cancelled (cancellable))
      g_task_return_error (task, unavailable ("there is no system bus"));
    g_object_unref (task);
    return;
  }
  guint seconds = row->seconds ? row->seconds : CALL_SECONDS;
  Call *call = g_new0 (Call, 1);
  call->helper = helper;
  call->method = row;
  call->task = task;
  call->usec = (guint64)(seconds * banger_fault_patience () + (caller && caller->interactive ? PROMPT_SECONDS : 0))
               * G_USEC_PER_SEC;
  va_list args;
  va_start (args, user_data);
  int r = call_fill (call, caller, &args);
  va_end (args);
  if (r < 0) {
    g_task_return_error (task, unavailable (g_strerror (-r)));
    call_free (call);
    return;
  }
  if (cancellable) {
    call->cancellable = g_object_ref (cancellable);
    call->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), call);
  }
  g_queue_push_tail (&helper->waiting[row->lane], call);
  send_waiting (helper);
}
