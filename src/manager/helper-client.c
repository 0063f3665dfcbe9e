/* Calls to the root helper, org.banger.Privileged on the system bus.
 * Called by the VM verbs and by reconcile; manager-dbus.c reads the availability.
 * Never blocks, never retries a call by itself: a call fails, the connection comes back. */
#include "manager/helper-client.h"

#include <fcntl.h>
#include <systemd/sd-bus.h>

#include "common/bus-source.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/names.h"
#include "common/pidfd.h"

#define CALL_SECONDS 30
#define LAUNCH_SECONDS 60
#define PROMPT_SECONDS 120
#define BACKOFF_FIRST_MSEC 100
#define BACKOFF_LAST_MSEC 10000

typedef struct {
  guint id;
  BangerHelperNotify func;
  gpointer user_data;
} Watcher;

struct BangerHelper {
  sd_bus *bus; /* NULL while there is no connection */
  GSource *source;
  gboolean owned, activatable, available;
  guint retry_id, backoff_msec;
  GHashTable *calls; /* set of Call */
  GArray *watchers;
  guint last_watcher;
};

/* One call on its way. Owned by helper->calls until it is answered. */
typedef struct {
  BangerHelper *helper;
  GTask *task;
  sd_bus_slot *slot;
  const char *method;
} Call;

static void helper_connect (BangerHelper *helper);

static void
call_free (gpointer data)
{
  Call *call = data;
  sd_bus_slot_unref (call->slot);
  g_object_unref (call->task);
  g_free (call);
}

/* @back: a helper that could be activated all along is told of too when it is there again: it may have rests to clear.
 */
static void
helper_update (BangerHelper *helper, gboolean back)
{
  gboolean available = helper->bus != NULL && (helper->owned || helper->activatable);
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

/* Ends what is still on its way when the connection is gone. */
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
  for (guint i = 0; i < calls->len; i++)
    g_task_return_error (((Call *)calls->pdata[i])->task, unavailable (why));
}

static void
helper_disconnect (BangerHelper *helper, const char *why)
{
  g_clear_pointer (&helper->source, banger_bus_source_detach);
  helper_fail_calls (helper, why);
  helper->owned = helper->activatable = FALSE;
  if (helper->bus)
    sd_bus_close_unref (g_steal_pointer (&helper->bus));
}

static gboolean
on_retry (gpointer user_data)
{
  BangerHelper *helper = user_data;
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
on_closed (sd_bus *bus, int r, gpointer user_data)
{
  BangerHelper *helper = user_data;
  banger_log (LOG_WARNING, NULL, "the system bus is gone: %s", g_strerror (-r));
  helper_disconnect (helper, "the system bus is gone");
  helper_update (helper, FALSE);
  helper_retry_later (helper);
}

static int
on_owner_changed (sd_bus_message *m, void *user_data, sd_bus_error *ret_error)
{
  BangerHelper *helper = user_data;
  const char *name, *old_owner, *new_owner;
  if (!banger_bus_is_from (m, BANGER_BUS_DRIVER) || sd_bus_message_read (m, "sss", &name, &old_owner, &new_owner) < 0
      || g_strcmp0 (name, BANGER_PRIVILEGED_BUS_NAME))
    return 0;
  gboolean owned = *new_owner != '\0';
  gboolean back = owned && !helper->owned;
  helper->owned = owned;
  helper_update (helper, back);
  return 0;
}

static int
on_has_owner (sd_bus_message *m, void *user_data, sd_bus_error *ret_error)
{
  BangerHelper *helper = user_data;
  int owned;
  helper->backoff_msec = BACKOFF_FIRST_MSEC; /* the bus answers */
  if (!sd_bus_message_is_method_error (m, NULL) && sd_bus_message_read (m, "b", &owned) >= 0 && owned)
    helper->owned = TRUE;
  helper_update (helper, FALSE);
  return 0;
}

static int
on_activatable (sd_bus_message *m, void *user_data, sd_bus_error *ret_error)
{
  BangerHelper *helper = user_data;
  g_auto (GStrv) names = NULL;
  if (sd_bus_message_is_method_error (m, NULL) || sd_bus_message_read_strv (m, &names) < 0 || !names)
    return 0;
  helper->activatable = g_strv_contains ((const char *const *)names, BANGER_PRIVILEGED_BUS_NAME);
  helper_update (helper, FALSE);
  return 0;
}

/* Subscribes first, asks then: no change is missed. */
static int
helper_ask (BangerHelper *helper)
{
  static const char match[] = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                              "member='NameOwnerChanged',arg0='" BANGER_PRIVILEGED_BUS_NAME "'";
  int r = sd_bus_add_match_async (helper->bus, NULL, match, on_owner_changed, NULL, helper);
  if (r >= 0)
    r = sd_bus_call_method_async (helper->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                  "org.freedesktop.DBus", "NameHasOwner", on_has_owner, helper, "s",
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
banger_helper_new (void)
{
  BangerHelper *helper = g_new0 (BangerHelper, 1);
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

/* Errors that mean "nobody there" rather than "refused". */
static gboolean
is_absence (const sd_bus_error *error)
{
  static const char *const names[] = {
    SD_BUS_ERROR_SERVICE_UNKNOWN,
    SD_BUS_ERROR_NAME_HAS_NO_OWNER,
    SD_BUS_ERROR_NO_REPLY,
    SD_BUS_ERROR_DISCONNECTED,
    SD_BUS_ERROR_NO_SERVER,
    SD_BUS_ERROR_TIMEOUT,
    "org.freedesktop.DBus.Error.TimedOut",
    "org.freedesktop.DBus.Error.Spawn.ChildExited",
    NULL,
  };
  return g_strv_contains (names, error->name);
}

static void
message_unref (gpointer m)
{
  sd_bus_message_unref (m);
}

static int
on_reply (sd_bus_message *m, void *user_data, sd_bus_error *ret_error)
{
  Call *call = user_data;
  g_hash_table_steal (call->helper->calls, call);
  const sd_bus_error *remote = sd_bus_message_get_error (m);
  if (!remote) {
    g_task_return_pointer (call->task, sd_bus_message_ref (m), message_unref);
  } else if (is_absence (remote)) {
    g_autofree char *why = g_strdup_printf ("%s: %s", call->method, remote->message ? remote->message : remote->name);
    g_task_return_error (call->task, unavailable (why));
  } else {
    GError *error = NULL;
    banger_error_from_bus (&error, remote, -sd_bus_error_get_errno (remote), call->method);
    g_task_return_error (call->task, error);
  }
  call_free (call);
  return 0;
}

static int
append_options (sd_bus_message *m, const BangerHelperCaller *caller)
{
  if (caller && caller->op_id)
    return sd_bus_message_append (m, "a{sv}", 1, BANGER_OPTION_OP_ID, "s", caller->op_id);
  return sd_bus_message_append (m, "a{sv}", 0);
}

static int
call_send (BangerHelper *helper, Call *call, const BangerHelperCaller *caller, guint seconds, const char *types,
           va_list args)
{
  g_autoptr (sd_bus_message) m = NULL;
  int r = sd_bus_message_new_method_call (helper->bus, &m, BANGER_PRIVILEGED_BUS_NAME, BANGER_PRIVILEGED_PATH,
                                          BANGER_PRIVILEGED_INTERFACE, call->method);
  if (r >= 0 && caller && caller->interactive)
    r = sd_bus_message_set_allow_interactive_authorization (m, 1);
  if (r >= 0 && *types)
    r = sd_bus_message_appendv (m, types, args);
  if (r >= 0 && !g_str_has_suffix (types, "a{sv}"))
    r = append_options (m, caller);
  if (r < 0)
    return r;
  guint64 usec = (guint64)(seconds + (caller && caller->interactive ? PROMPT_SECONDS : 0)) * G_USEC_PER_SEC;
  return sd_bus_call_async (helper->bus, &call->slot, m, on_reply, call, usec);
}

/* A call that was sent is waited for even if @cancellable ends the step: what it made is known then and can be undone.
 */
static void
call_method (BangerHelper *helper, const BangerHelperCaller *caller, const char *method, guint seconds,
             GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data, const char *types, ...)
{
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (task, FALSE);
  g_task_set_name (task, method);
  if (g_task_return_error_if_cancelled (task) || !helper->bus) {
    if (!helper->bus && !g_cancellable_is_cancelled (cancellable))
      g_task_return_error (task, unavailable ("there is no system bus"));
    g_object_unref (task);
    return;
  }
  Call *call = g_new0 (Call, 1);
  call->helper = helper;
  call->method = method;
  call->task = task;
  va_list args;
  va_start (args, types);
  int r = call_send (helper, call, caller, seconds, types, args);
  va_end (args);
  if (r >= 0) {
    g_hash_table_add (helper->calls, call);
    return;
  }
  g_task_return_error (task, unavailable (g_strerror (-r)));
  call_free (call);
}

void
banger_helper_ensure_bridge (BangerHelper *helper, const BangerHelperCaller *caller, const char *bridge,
                             const char *address, GCancellable *cancellable, GAsyncReadyCallback callback,
                             gpointer user_data)
{
  call_method (helper, caller, "EnsureBridge", CALL_SECONDS, cancellable, callback, user_data, "ss", bridge, address);
}

void
banger_helper_create_tap (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *bridge,
                          const char *address, GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data)
{
  call_method (helper, caller, "CreateTap", CALL_SECONDS, cancellable, callback, user_data, "sss", vm, bridge, address);
}

void
banger_helper_delete_tap (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "DeleteTap", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_ensure_nat (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                          const char *guest_address, GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data)
{
  call_method (helper, caller, "EnsureNat", CALL_SECONDS, cancellable, callback, user_data, "ss", vm, guest_address);
}

void
banger_helper_remove_nat (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "RemoveNat", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_create_snapshot (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                               const char *image, guint64 cow_bytes, GCancellable *cancellable,
                               GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "CreateSnapshot", CALL_SECONDS, cancellable, callback, user_data, "sst", vm, image,
               cow_bytes);
}

void
banger_helper_remove_snapshot (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                               GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "RemoveSnapshot", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_launch_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *kernel,
                          const char *root, guint32 memory_mib, GCancellable *cancellable, GAsyncReadyCallback callback,
                          gpointer user_data)
{
  gboolean known = caller && caller->op_id;
  call_method (helper, caller, "LaunchVmm", LAUNCH_SECONDS, cancellable, callback, user_data, "sssa{sv}", vm, kernel,
               root, known ? 2 : 1, BANGER_OPTION_MEMORY_MIB, "u", memory_mib, BANGER_OPTION_OP_ID, "s",
               known ? caller->op_id : NULL);
}

void
banger_helper_open_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                        GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "OpenVmm", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_get_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                       GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "GetVmm", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_signal_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *signal,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "SignalVmm", CALL_SECONDS, cancellable, callback, user_data, "ss", vm, signal);
}

void
banger_helper_kill_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                        GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "KillVmm", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_release_vm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "ReleaseVm", CALL_SECONDS, cancellable, callback, user_data, "s", vm);
}

void
banger_helper_list_leases (BangerHelper *helper, const BangerHelperCaller *caller, GCancellable *cancellable,
                           GAsyncReadyCallback callback, gpointer user_data)
{
  call_method (helper, caller, "ListLeases", CALL_SECONDS, cancellable, callback, user_data, "");
}

static gboolean
bad_reply (GError **error, int r)
{
  return banger_set_error_errno (error, BANGER_ERROR_HELPER_UNAVAILABLE, r < 0 ? -r : EBADMSG,
                                 "the root helper's answer cannot be read: is it of another version");
}

gboolean
banger_helper_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  return m != NULL;
}

char *
banger_helper_string_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return NULL;
  const char *text;
  int r = sd_bus_message_read (m, "s", &text);
  if (r >= 0)
    return g_strdup (text);
  bad_reply (error, r);
  return NULL;
}

int
banger_helper_vmm_finish (BangerHelper *helper, GAsyncResult *result, guint32 *ret_pid, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return -1;
  guint32 pid;
  int borrowed;
  int r = sd_bus_message_read (m, "uh", &pid, &borrowed);
  if (r < 0) {
    bad_reply (error, r);
    return -1;
  }
  int pidfd = fcntl (borrowed, F_DUPFD_CLOEXEC, 3); /* the message's own is closed with it */
  if (pidfd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot keep the VMM's descriptor");
  else
    *ret_pid = pid;
  return pidfd;
}

/* One entry of GetVmm's answer; keys that are not known are passed over. */
static int
read_status_entry (sd_bus_message *m, BangerVmmStatus *status)
{
  const char *key, *contents;
  int r = sd_bus_message_read (m, "s", &key);
  if (r >= 0)
    r = sd_bus_message_peek_type (m, NULL, &contents);
  if (r < 0)
    return r;
  int truth, number;
  if (g_str_equal (key, "running") && g_str_equal (contents, "b")) {
    r = sd_bus_message_read (m, "v", "b", &truth);
    status->running = r >= 0 && truth;
  } else if (g_str_equal (key, "pid") && g_str_equal (contents, "u")) {
    r = sd_bus_message_read (m, "v", "u", &status->pid);
  } else if (g_str_equal (key, "exit-code") && g_str_equal (contents, "i")) {
    r = sd_bus_message_read (m, "v", "i", &number);
    status->exit_code = r >= 0 ? number : -1;
  } else if (g_str_equal (key, "exit-signal") && g_str_equal (contents, "i")) {
    r = sd_bus_message_read (m, "v", "i", &number);
    status->exit_signal = r >= 0 ? number : 0;
  } else {
    r = sd_bus_message_skip (m, "v");
  }
  return r;
}

gboolean
banger_helper_status_finish (BangerHelper *helper, GAsyncResult *result, BangerVmmStatus *ret, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return FALSE;
  BangerVmmStatus status = { .exit_code = -1 };
  int r = sd_bus_message_enter_container (m, 'a', "{sv}");
  while (r >= 0 && (r = sd_bus_message_enter_container (m, 'e', "sv")) > 0) {
    r = read_status_entry (m, &status);
    if (r >= 0)
      r = sd_bus_message_exit_container (m);
  }
  if (r < 0)
    return bad_reply (error, r);
  *ret = status;
  return TRUE;
}

static void
lease_info_free (gpointer data)
{
  BangerLeaseInfo *info = data;
  g_free (info->vm);
  g_strfreev (info->resources);
  g_free (info);
}

GPtrArray *
banger_helper_leases_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  g_autoptr (sd_bus_message) m = g_task_propagate_pointer (G_TASK (result), error);
  if (!m)
    return NULL;
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func (lease_info_free);
  const char *vm, *resources;
  guint32 pid;
  int r = sd_bus_message_enter_container (m, 'a', "(ssu)");
  while (r >= 0 && (r = sd_bus_message_read (m, "(ssu)", &vm, &resources, &pid)) > 0) {
    BangerLeaseInfo *info = g_new0 (BangerLeaseInfo, 1);
    info->vm = g_strdup (vm);
    info->resources = g_strsplit (resources, ",", -1);
    info->pid = pid;
    g_ptr_array_add (leases, info);
  }
  if (r < 0) {
    bad_reply (error, r);
    return NULL;
  }
  return g_steal_pointer (&leases);
}
