/* What stands in front of every call on the session bus: op id, caller gate, known object, member and signature; and
 * what every call ends with: a reply or an error with the op id, one log record. Used by manager-dbus.c, vm-dbus.c,
 * image-dbus.c, kernel-dbus.c and job-dbus.c. Never lets a call reach a handler that did not pass the gate. */
#include "manager/dispatch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "common/op-id.h"
#include "manager/vm.h"

#define MAX_CALLERS 256 /* remembered; a unique name is never given twice */
#define LOG_CONTROL_PATH "/org/freedesktop/LogControl1"
#define LOG_CONTROL_INTERFACE "org.freedesktop.LogControl1"
#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define OBJECT_MANAGER_INTERFACE "org.freedesktop.DBus.ObjectManager"
#define NO_UID ((uid_t)-1)

struct BangerDispatch {
  BangerManager *manager;
  sd_bus *bus;
  const BangerInterface *interfaces;
  GHashTable *callers; /* unique name -> uid */
  GPtrArray *slots;
  GPtrArray *enumerators; /* what the slots point to */
  char *op_id;            /* of the call that sd-bus is processing */
  uid_t caller;
};

BangerManager *
banger_dispatch_manager (BangerDispatch *dispatch)
{
  return dispatch->manager;
}

sd_bus *
banger_dispatch_bus (BangerDispatch *dispatch)
{
  return dispatch->bus;
}

const BangerInterface *
banger_dispatch_interface (BangerDispatch *dispatch, BangerObjectKind kind)
{
  for (const BangerInterface *row = dispatch->interfaces; row->name != NULL; row++)
    if (row->prefix != NULL && row->kind == kind)
      return row;
  g_assert_not_reached ();
}

static const BangerInterface *
interface_by_name (BangerDispatch *dispatch, const char *name)
{
  for (const BangerInterface *row = dispatch->interfaces; row->name != NULL; row++)
    if (g_strcmp0 (row->name, name) == 0)
      return row;
  return NULL;
}

char *
banger_dispatch_path (BangerDispatch *dispatch, BangerObjectKind kind, const char *id)
{
  return banger_object_path (banger_dispatch_interface (dispatch, kind)->prefix, id);
}

static gpointer
object_by_id (BangerManager *manager, BangerObjectKind kind, const char *id)
{
  switch (kind) {
    case BANGER_OBJECT_VM:
      return manager->vms == NULL ? NULL : banger_vms_find_id (manager->vms, id);
    case BANGER_OBJECT_IMAGE:
      return g_hash_table_lookup (manager->images, id);
    case BANGER_OBJECT_KERNEL:
      return g_hash_table_lookup (manager->kernels, id);
    case BANGER_OBJECT_JOB:
      return g_hash_table_lookup (manager->jobs, id);
    case BANGER_N_OBJECTS:
      break;
  }
  g_assert_not_reached ();
}

gpointer
banger_dispatch_object (BangerDispatch *dispatch, BangerObjectKind kind, const char *path)
{
  const char *prefix = banger_dispatch_interface (dispatch, kind)->prefix;
  size_t length = strlen (prefix);
  if (strncmp (path, prefix, length) != 0 || path[length] != '/')
    return NULL;
  return object_by_id (dispatch->manager, kind, path + length + 1);
}

/* Whether @path has an object with @interface. */
static gboolean
interface_at (BangerDispatch *dispatch, const BangerInterface *interface, const char *path)
{
  if (interface->prefix == NULL)
    return g_str_equal (path, BANGER_MANAGER_PATH);
  return banger_dispatch_object (dispatch, interface->kind, path) != NULL;
}

static gboolean
is_object (BangerDispatch *dispatch, const char *path)
{
  for (const BangerInterface *row = dispatch->interfaces; row->name != NULL; row++)
    if (interface_at (dispatch, row, path))
      return TRUE;
  return g_str_equal (path, LOG_CONTROL_PATH);
}

/* Objects and the nodes above them, which can be introspected. */
static gboolean
is_node (BangerDispatch *dispatch, const char *path)
{
  static const char *const leaves[] = { BANGER_VM_PATH_PREFIX, BANGER_IMAGE_PATH_PREFIX, BANGER_KERNEL_PATH_PREFIX,
                                        BANGER_JOB_PATH_PREFIX, LOG_CONTROL_PATH };
  size_t length = strlen (path);
  if (length == 1)
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (leaves); i++)
    if (strncmp (leaves[i], path, length) == 0 && (leaves[i][length] == '/' || leaves[i][length] == '\0'))
      return TRUE;
  return is_object (dispatch, path);
}

static const sd_bus_vtable *
vtable_row (const sd_bus_vtable *vtable, const char *member, gboolean method)
{
  for (const sd_bus_vtable *row = vtable; row->type != _SD_BUS_VTABLE_END; row++) {
    if (method && row->type == _SD_BUS_VTABLE_METHOD && g_str_equal (row->x.method.member, member))
      return row;
    if (!method && (row->type == _SD_BUS_VTABLE_PROPERTY || row->type == _SD_BUS_VTABLE_WRITABLE_PROPERTY)
        && g_str_equal (row->x.property.member, member))
      return row;
  }
  return NULL;
}

/* A refusal in words of the D-Bus specification, for which our own table has no row. */
typedef struct {
  const char *name;
  char *message;
} Refusal;

static gboolean G_GNUC_PRINTF (3, 4) refuse (Refusal *ret, const char *name, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  ret->name = name;
  ret->message = g_strdup_vprintf (format, args);
  va_end (args);
  return FALSE;
}

static uid_t
ask_caller (sd_bus *bus, const char *sender)
{
  g_autoptr (sd_bus_creds) creds = NULL;
  uid_t uid = NO_UID;
  if (sd_bus_get_name_creds (bus, sender, SD_BUS_CREDS_EUID, &creds) < 0)
    return NO_UID;
  if ((sd_bus_creds_get_augmented_mask (creds) & SD_BUS_CREDS_EUID) != 0)
    return NO_UID;
  if (sd_bus_creds_get_euid (creds, &uid) < 0)
    return NO_UID;
  return uid;
}

/* The bus vouches for the uid of a unique name, once for its whole life. */
static uid_t
caller_of (BangerDispatch *dispatch, sd_bus_message *message)
{
  const char *sender = sd_bus_message_get_sender (message);
  gpointer known = NULL;
  if (sender == NULL)
    return NO_UID;
  if (g_hash_table_lookup_extended (dispatch->callers, sender, NULL, &known))
    return (uid_t)GPOINTER_TO_UINT (known);
  uid_t uid = ask_caller (dispatch->bus, sender);
  if (uid == NO_UID)
    return NO_UID;
  if (g_hash_table_size (dispatch->callers) >= MAX_CALLERS)
    g_hash_table_remove_all (dispatch->callers);
  g_hash_table_insert (dispatch->callers, g_strdup (sender), GUINT_TO_POINTER (uid));
  return uid;
}

static gboolean
check_caller (BangerDispatch *dispatch, Refusal *ret)
{
  if (dispatch->caller == NO_UID)
    return refuse (ret, SD_BUS_ERROR_ACCESS_DENIED, "the bus does not say who you are");
  if (dispatch->caller != 0 && dispatch->caller != geteuid ())
    return refuse (ret, SD_BUS_ERROR_ACCESS_DENIED, "uid %u may not talk to the bangerd of uid %u", dispatch->caller,
                   geteuid ());
  return TRUE;
}

static gboolean
check_signature (sd_bus_message *message, const char *wanted, Refusal *ret)
{
  const char *got = sd_bus_message_get_signature (message, TRUE);
  if (g_strcmp0 (got, wanted) == 0)
    return TRUE;
  return refuse (ret, SD_BUS_ERROR_INVALID_ARGS, "%s takes arguments of the types '%s', not '%s'",
                 sd_bus_message_get_member (message), wanted, got);
}

static gboolean
check_own (BangerDispatch *dispatch, const BangerInterface *interface, sd_bus_message *message, Refusal *ret)
{
  const char *path = sd_bus_message_get_path (message);
  const char *member = sd_bus_message_get_member (message);
  if (!is_object (dispatch, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_OBJECT, "no object %s", path);
  if (!interface_at (dispatch, interface, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "object %s has no interface %s", path, interface->name);
  const sd_bus_vtable *row = vtable_row (interface->vtable, member, TRUE);
  if (row == NULL)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "%s has no method %s", interface->name, member);
  return check_signature (message, row->x.method.signature, ret);
}

/* What log-control.c would refuse, refused with an op id. @message is at the value. */
static gboolean
check_log_control (sd_bus_message *message, gboolean set, const char *property, Refusal *ret)
{
  const char *level = NULL;
  if (!g_str_equal (property, "LogLevel") && !g_str_equal (property, "LogTarget")
      && !g_str_equal (property, "SyslogIdentifier"))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_PROPERTY, "%s has no property '%s'", LOG_CONTROL_INTERFACE, property);
  if (!set)
    return TRUE;
  if (!g_str_equal (property, "LogLevel"))
    return refuse (ret, SD_BUS_ERROR_PROPERTY_READ_ONLY, "property %s cannot be set", property);
  if (sd_bus_message_read (message, "v", "s", &level) < 0 || banger_log_level_from_string (level) < 0)
    return refuse (ret, SD_BUS_ERROR_INVALID_ARGS,
                   "LogLevel is a string: one of emerg, alert, crit, err, warning, notice, info, debug");
  return TRUE;
}

static gboolean
check_property (BangerDispatch *dispatch, sd_bus_message *message, Refusal *ret)
{
  const char *path = sd_bus_message_get_path (message);
  const char *member = sd_bus_message_get_member (message);
  const char *interface = NULL, *property = NULL;
  gboolean all = g_str_equal (member, "GetAll");
  int r = all ? sd_bus_message_read (message, "s", &interface)
              : sd_bus_message_read (message, "ss", &interface, &property);
  if (r < 0)
    return refuse (ret, SD_BUS_ERROR_INVALID_ARGS, "the arguments cannot be read");
  if (g_str_equal (path, LOG_CONTROL_PATH) && g_str_equal (interface, LOG_CONTROL_INTERFACE))
    return all || check_log_control (message, g_str_equal (member, "Set"), property, ret);
  if (all && *interface == '\0')
    return TRUE;
  const BangerInterface *own = interface_by_name (dispatch, interface);
  if (own == NULL || !interface_at (dispatch, own, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "object %s has no interface '%s'", path, interface);
  if (all)
    return TRUE;
  if (vtable_row (own->vtable, property, FALSE) == NULL)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_PROPERTY, "%s has no property '%s'", interface, property);
  if (g_str_equal (member, "Set"))
    return refuse (ret, SD_BUS_ERROR_PROPERTY_READ_ONLY, "property %s cannot be set", property);
  return TRUE;
}

/* What sd-bus answers by itself. */
static gboolean
check_standard (BangerDispatch *dispatch, sd_bus_message *message, Refusal *ret)
{
  static const struct {
    const char *interface, *member, *signature;
  } rows[] = {
    { "org.freedesktop.DBus.Peer", "Ping", "" },
    { "org.freedesktop.DBus.Peer", "GetMachineId", "" },
    { "org.freedesktop.DBus.Introspectable", "Introspect", "" },
    { PROPERTIES_INTERFACE, "Get", "ss" },
    { PROPERTIES_INTERFACE, "GetAll", "s" },
    { PROPERTIES_INTERFACE, "Set", "ssv" },
    { OBJECT_MANAGER_INTERFACE, "GetManagedObjects", "" },
  };
  const char *path = sd_bus_message_get_path (message);
  const char *interface = sd_bus_message_get_interface (message);
  const char *member = sd_bus_message_get_member (message);
  gboolean known_interface = FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    gboolean same = g_strcmp0 (interface, rows[i].interface) == 0;
    known_interface |= same;
    if (!same || !g_str_equal (member, rows[i].member))
      continue;
    if (!is_node (dispatch, path))
      return refuse (ret, SD_BUS_ERROR_UNKNOWN_OBJECT, "no object %s", path);
    if (!check_signature (message, rows[i].signature, ret))
      return FALSE;
    if (g_str_equal (interface, PROPERTIES_INTERFACE))
      return check_property (dispatch, message, ret);
    if (g_str_equal (interface, OBJECT_MANAGER_INTERFACE) && !g_str_equal (path, BANGER_MANAGER_PATH))
      return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "the object manager is at %s", BANGER_MANAGER_PATH);
    return TRUE;
  }
  if (interface != NULL && known_interface)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "%s has no method %s", interface, member);
  if (interface == NULL)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "name the interface of %s", member);
  return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "no interface %s here", interface);
}

static void
log_refusal (BangerDispatch *dispatch, sd_bus_message *message, const Refusal *refusal)
{
  g_autofree char *uid = g_strdup_printf ("%u", dispatch->caller);
  g_autofree char *shown = banger_log_escape (refusal->message, 500);
  const char *member = sd_bus_message_get_member (message);
  banger_log (LOG_NOTICE,
              BANGER_FIELDS (BANGER_FIELD_OP_ID, dispatch->op_id, BANGER_FIELD_METHOD, member, BANGER_FIELD_CALLER_UID,
                             uid, BANGER_FIELD_ERROR, refusal->name),
              "%s refused: %s", member, shown);
}

/* Runs before sd-bus looks at a message; a negative result is the answer. */
static int
gate (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerDispatch *dispatch = userdata;
  guint8 type = 0;
  if (sd_bus_message_get_type (message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
    return 0;
  g_free (dispatch->op_id);
  dispatch->op_id = banger_op_id_new ();
  dispatch->caller = caller_of (dispatch, message);
  const BangerInterface *own = interface_by_name (dispatch, sd_bus_message_get_interface (message));
  Refusal refusal = { 0 };
  if (check_caller (dispatch, &refusal)
      && (own != NULL ? check_own (dispatch, own, message, &refusal) : check_standard (dispatch, message, &refusal)))
    return 0;
  log_refusal (dispatch, message, &refusal);
  int r = sd_bus_error_setf (ret_error, refusal.name, "%s (%s)", refusal.message, dispatch->op_id);
  g_free (refusal.message);
  return r;
}

static void
call_free (BangerCall *call)
{
  sd_bus_message_unref (call->message);
  g_free (call->op_id);
  g_free (call);
}

static void
log_call (BangerCall *call, const GError *error)
{
  g_autofree char *duration = g_strdup_printf ("%" G_GINT64_FORMAT, g_get_monotonic_time () - call->started);
  g_autofree char *uid = g_strdup_printf ("%u", call->caller);
  const char *name = error == NULL                   ? NULL
                     : error->domain == BANGER_ERROR ? banger_error_dbus_name ((BangerError)error->code)
                                                     : banger_error_dbus_name (BANGER_ERROR_FAILED);
  g_autofree char *shown = error == NULL ? NULL : banger_log_escape (error->message, 500);
  const char *const *fields = BANGER_FIELDS (BANGER_FIELD_OP_ID, call->op_id, BANGER_FIELD_METHOD, call->method,
                                             BANGER_FIELD_CALLER_UID, uid, BANGER_FIELD_DURATION_USEC, duration,
                                             BANGER_FIELD_OBJECT, sd_bus_message_get_path (call->message),
                                             BANGER_FIELD_ERROR, name);
  if (error == NULL)
    banger_log (LOG_DEBUG, fields, "%s completed", call->method);
  else
    banger_log (call->told ? LOG_DEBUG : LOG_NOTICE, fields, "%s failed: %s", call->method, shown);
}

/* The client may be gone by now, which is its own affair. */
static void
finish_call (BangerCall *call, int r)
{
  if (r < 0)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_OP_ID, call->op_id, BANGER_FIELD_METHOD, call->method),
                "cannot answer %s: %s", call->method, g_strerror (-r));
  call_free (call);
}

void
banger_call_reply (BangerCall *call, const char *types, ...)
{
  va_list args;
  va_start (args, types);
  int r = sd_bus_reply_method_returnv (call->message, types, args);
  va_end (args);
  log_call (call, NULL);
  finish_call (call, r);
}

void
banger_call_reply_path (BangerCall *call, BangerObjectKind kind, const char *id)
{
  g_autofree char *path = banger_dispatch_path (call->dispatch, kind, id);
  banger_call_reply (call, "o", path);
}

void
banger_call_reply_message (BangerCall *call, sd_bus_message *reply)
{
  log_call (call, NULL);
  finish_call (call, sd_bus_send (NULL, reply, NULL));
}

void
banger_call_fail (BangerCall *call, const GError *error)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  banger_error_to_bus (error, call->op_id, &bus_error);
  log_call (call, error);
  finish_call (call, sd_bus_reply_method_error (call->message, &bus_error));
}

gboolean
banger_call_read (BangerCall *call, GError **error, const char *types, ...)
{
  va_list args;
  va_start (args, types);
  int r = sd_bus_message_readv (call->message, types, args);
  va_end (args);
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_ARGS, -r, "%s: the arguments cannot be read",
                                   call->method);
  return TRUE;
}

gboolean
banger_call_interactive (BangerCall *call)
{
  return sd_bus_message_get_allow_interactive_authorization (call->message) > 0;
}

int
banger_dispatch_call (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerDispatch *dispatch = userdata;
  const BangerInterface *own = interface_by_name (dispatch, sd_bus_message_get_interface (message));
  const char *member = sd_bus_message_get_member (message);
  const BangerMember *row = own == NULL ? NULL : own->members;
  while (row != NULL && row->member != NULL && !g_str_equal (row->member, member))
    row++;
  if (row == NULL || row->member == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_METHOD, "no method %s (%s)", member, dispatch->op_id);

  BangerCall *call = g_new0 (BangerCall, 1);
  g_autoptr (GError) error = NULL;
  call->dispatch = dispatch;
  call->message = sd_bus_message_ref (message);
  call->op_id = g_strdup (dispatch->op_id);
  call->method = row->member;
  call->caller = dispatch->caller;
  call->started = g_get_monotonic_time ();
  if (!row->handler (call, row->data, &error))
    banger_call_fail (call, error);
  return 1;
}

static int
find_object (sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
             sd_bus_error *ret_error)
{
  BangerDispatch *dispatch = userdata;
  const BangerInterface *own = interface_by_name (dispatch, interface);
  if (own == NULL || own->prefix == NULL || banger_dispatch_object (dispatch, own->kind, path) == NULL)
    return 0;
  *ret_found = dispatch;
  return 1;
}

/* sd-bus frees what it gets with free(3). */
static void
append_path (GPtrArray *paths, BangerDispatch *dispatch, BangerObjectKind kind, const char *id)
{
  g_autofree char *path = banger_dispatch_path (dispatch, kind, id);
  g_ptr_array_add (paths, strdup (path));
}

static void
append_table (GPtrArray *paths, BangerDispatch *dispatch, BangerObjectKind kind, GHashTable *table)
{
  GHashTableIter iter;
  gpointer key = NULL;
  g_hash_table_iter_init (&iter, table);
  while (g_hash_table_iter_next (&iter, &key, NULL))
    append_path (paths, dispatch, kind, key);
}

static void
append_vms (GPtrArray *paths, BangerDispatch *dispatch)
{
  if (dispatch->manager->vms == NULL)
    return;
  g_autoptr (GPtrArray) vms = banger_vms_list (dispatch->manager->vms);
  for (guint i = 0; i < vms->len; i++)
    append_path (paths, dispatch, BANGER_OBJECT_VM, banger_vm_record (vms->pdata[i])->id);
}

/* sd-bus gives the prefix it was asked about, not the one that was registered: the kind comes along by itself. */
typedef struct {
  BangerDispatch *dispatch;
  BangerObjectKind kind;
} Enumerator;

static void
append_all (GPtrArray *paths, BangerDispatch *dispatch, BangerObjectKind kind)
{
  BangerManager *manager = dispatch->manager;
  switch (kind) {
    case BANGER_OBJECT_VM:
      append_vms (paths, dispatch);
      break;
    case BANGER_OBJECT_IMAGE:
      append_table (paths, dispatch, kind, manager->images);
      break;
    case BANGER_OBJECT_KERNEL:
      append_table (paths, dispatch, kind, manager->kernels);
      break;
    case BANGER_OBJECT_JOB:
      append_table (paths, dispatch, kind, manager->jobs);
      break;
    case BANGER_N_OBJECTS:
      g_assert_not_reached ();
  }
}

static int
enumerate (sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
  const Enumerator *self = userdata;
  g_autoptr (GPtrArray) paths = g_ptr_array_new ();
  append_all (paths, self->dispatch, self->kind);
  char **nodes = calloc (paths->len + 1, sizeof (char *));
  if (nodes == NULL)
    return -ENOMEM;
  if (paths->len > 0)
    memcpy (nodes, paths->pdata, paths->len * sizeof (char *));
  *ret_nodes = nodes;
  return 0;
}

static void
slot_free (gpointer slot)
{
  sd_bus_slot_unref (slot);
}

static int
add_interface (BangerDispatch *dispatch, const BangerInterface *row)
{
  sd_bus_slot *slot = NULL;
  int r;
  if (row->prefix == NULL)
    r = sd_bus_add_object_vtable (dispatch->bus, &slot, BANGER_MANAGER_PATH, row->name, row->vtable, dispatch);
  else
    r = sd_bus_add_fallback_vtable (dispatch->bus, &slot, row->prefix, row->name, row->vtable, find_object, dispatch);
  if (r < 0)
    return r;
  g_ptr_array_add (dispatch->slots, slot);
  if (row->prefix == NULL)
    return 0;
  Enumerator *self = g_new0 (Enumerator, 1);
  self->dispatch = dispatch;
  self->kind = row->kind;
  g_ptr_array_add (dispatch->enumerators, self);
  r = sd_bus_add_node_enumerator (dispatch->bus, &slot, row->prefix, enumerate, self);
  if (r >= 0)
    g_ptr_array_add (dispatch->slots, slot);
  return r;
}

static int
register_all (BangerDispatch *dispatch)
{
  sd_bus_slot *slot = NULL;
  int r = sd_bus_add_filter (dispatch->bus, &slot, gate, dispatch);
  if (r < 0)
    return r;
  g_ptr_array_add (dispatch->slots, slot);
  r = sd_bus_add_object_manager (dispatch->bus, &slot, BANGER_MANAGER_PATH);
  if (r < 0)
    return r;
  g_ptr_array_add (dispatch->slots, slot);
  for (const BangerInterface *row = dispatch->interfaces; row->name != NULL && r >= 0; row++)
    r = add_interface (dispatch, row);
  return r;
}

BangerDispatch *
banger_dispatch_new (BangerManager *manager, sd_bus *bus, const BangerInterface *interfaces, GError **error)
{
  g_autoptr (BangerDispatch) dispatch = g_new0 (BangerDispatch, 1);
  dispatch->manager = manager;
  dispatch->bus = sd_bus_ref (bus);
  dispatch->interfaces = interfaces;
  dispatch->caller = NO_UID;
  dispatch->callers = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  dispatch->enumerators = g_ptr_array_new_with_free_func (g_free);
  dispatch->slots = g_ptr_array_new_with_free_func (slot_free);
  int r = register_all (dispatch);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register the objects on the session bus");
    return NULL;
  }
  return g_steal_pointer (&dispatch);
}

void
banger_dispatch_free (BangerDispatch *dispatch)
{
  if (dispatch == NULL)
    return;
  g_ptr_array_unref (dispatch->slots);
  g_ptr_array_unref (dispatch->enumerators);
  g_hash_table_unref (dispatch->callers);
  sd_bus_unref (dispatch->bus);
  g_free (dispatch->op_id);
  g_free (dispatch);
}
