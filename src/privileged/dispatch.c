/* The one way into the helper.
 * Never runs a handler before the caller's uid and polkit said yes. */
#include "privileged/dispatch.h"

#include <errno.h>
#include <string.h>

#include "common/bus-source.h"
#include "common/names.h"
#include "common/op-id.h"
#include "privileged/audit.h"
#include "privileged/caller.h"
#include "privileged/rate.h"
#include "privileged/snapshot.h"

struct BangerDispatch {
  sd_bus *bus;
  const BangerRoot *root;
  sd_bus_slot *filter, *object;
  GArray *vtable;   /* of sd_bus_vtable; sd-bus keeps the address, also to take the object away */
  GPtrArray *texts; /* what the vtable points to */
  BangerCalls *calls;
  BangerCallers *callers;
  BangerAuthority *authority;
  BangerRates *rates;
  gboolean counted; /* the message that is being looked at, among its uid's calls */
};

/* Everything is read and gated again: only what was authorised is done. */
static void
on_authorised (BangerCall *call, const GError *error)
{
  g_autoptr (GError) why = NULL;
  call->watch = sd_bus_slot_unref (call->watch);
  if (error)
    banger_call_end (call, error);
  else if (!banger_caller_check (call->caller, call->owner, &why) || !banger_call_read_args (call, &why))
    banger_call_end (call, why);
  else
    banger_call_queue (call);
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
  banger_audit_call (call, gone);
  banger_call_drop (call);
  return 0;
}

/* Not sd_bus_track: it waits for the bus. A caller who has left before this acts is one whom polkit does not know. */
static gboolean
watch_caller (BangerCall *call, GError **error)
{
  g_autofree char *rule = g_strdup_printf ("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                           "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'",
                                           call->sender);
  int r = sd_bus_add_match_async (banger_call_bus (call), &call->watch, rule, on_name_changed, NULL, call);
  return r >= 0 || banger_set_error_errno (error, BANGER_ERROR_ACCESS_DENIED, -r, "the caller cannot be followed");
}

static gboolean
set_too_many (const BangerInstall *install, uid_t uid, GError **error)
{
  return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                           "uid %u calls more than %" G_GUINT64_FORMAT " times a second (limits.calls)", uid,
                           install->max_calls);
}

/* First, and before anything else is looked at: what is one too many costs next to nothing. */
static gboolean
check_rate (BangerCall *call, GError **error)
{
  return call->counted || banger_rates_take (call->daemon->rates, call->caller, g_get_monotonic_time ())
         || set_too_many (call->root->install, call->caller, error);
}

static gboolean
admit (BangerCall *call, GError **error)
{
  BangerDispatch *self = call->daemon;
  if (!check_rate (call, error))
    return FALSE;
  if (!banger_caller_check (call->caller, call->owner, error))
    return FALSE;
  if (call->early) {
    g_propagate_error (error, g_steal_pointer (&call->early));
    return FALSE;
  }
  if (banger_calls_of (self->calls, call->caller) > self->root->install->max_pending)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                             "%" G_GUINT64_FORMAT " calls of uid %u wait already (limits.pending)",
                             self->root->install->max_pending, call->caller);
  if (!banger_call_read_args (call, error) || !watch_caller (call, error))
    return FALSE;
  banger_authority_check (self->authority, call, on_authorised);
  return TRUE;
}

static void
on_known (BangerCall *call, uid_t uid, const GError *unknown)
{
  g_autoptr (GError) error = NULL;
  call->caller = uid;
  if (unknown)
    banger_call_end (call, unknown);
  else if (!admit (call, &error))
    banger_call_end (call, error);
}

/* @early (transfer full, nullable): what is wrong with the message whoever sent it. */
static void
receive (BangerDispatch *self, sd_bus_message *message, const BangerMethod *method, GError *early)
{
  BangerCall *call = banger_call_new (self->calls, message, method);
  call->daemon = self;
  call->root = self->root;
  call->early = early;
  call->owner = self->root->install->owner_uid;
  call->counted = self->counted;
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

/* A flood has to be worked off faster than the bus brings it, or everybody else waits behind it: what is one too many
 * is not read, has no call and no record of its own, and gets an answer only if one is wanted. */
static gboolean
is_too_many (BangerDispatch *self, sd_bus_message *message)
{
  uid_t uid;
  self->counted = banger_callers_peek (self->callers, sd_bus_message_get_sender (message), &uid);
  if (!self->counted || banger_rates_take (self->rates, uid, g_get_monotonic_time ()))
    return FALSE;
  banger_audit_flood (uid);
  if (sd_bus_message_get_expect_reply (message) > 0) {
    g_autoptr (GError) error = NULL;
    g_autofree char *op_id = banger_op_id_new ();
    set_too_many (self->root->install, uid, &error);
    (void)banger_call_reply_error (message, error, op_id);
  }
  return TRUE;
}

/* Before sd-bus looks at it: sd-bus's own errors carry no op id. */
static int
on_message (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerDispatch *self = userdata;
  GError *error = NULL;
  if (!sd_bus_message_is_method_call (message, NULL, NULL))
    return 0;
  if (is_too_many (self, message))
    return 1;
  if (check_message (message, &error))
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

BangerDispatch *
banger_dispatch_new (sd_bus *bus, const BangerRoot *root, BangerAuthorityLost lost, gpointer data, GError **error)
{
  g_autoptr (BangerDispatch) self = g_new0 (BangerDispatch, 1);
  self->bus = sd_bus_ref (bus);
  self->root = root;
  self->vtable = g_array_new (FALSE, TRUE, sizeof (sd_bus_vtable));
  self->texts = g_ptr_array_new_with_free_func (g_free);
  self->calls = banger_calls_new (bus);
  self->callers = banger_callers_new (bus, on_known);
  self->rates = banger_rates_new (root->install->max_calls);
  self->authority = banger_authority_new (lost, data);
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

void
banger_dispatch_drain (BangerDispatch *self)
{
  banger_calls_drain (self->calls);
}

void
banger_dispatch_free (BangerDispatch *self)
{
  if (!self)
    return;
  sd_bus_slot_unref (self->object);
  sd_bus_slot_unref (self->filter);
  g_clear_pointer (&self->callers, banger_callers_free);
  banger_calls_free (self->calls);
  banger_authority_free (self->authority);
  banger_rates_free (self->rates);
  sd_bus_close (self->bus);
  sd_bus_unref (self->bus);
  g_array_unref (self->vtable);
  g_ptr_array_unref (self->texts);
  g_free (self);
}
