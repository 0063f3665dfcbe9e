/* What stands in front of every call on the session bus: op id, caller, known object, member and signature.
 * Never lets a call reach a handler that did not pass. */
#include "manager/bus/gate.h"

#include <stdarg.h>
#include <unistd.h>

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "common/op-id.h"
#include "manager/bus/sender.h"

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"
#define OBJECT_MANAGER_INTERFACE "org.freedesktop.DBus.ObjectManager"

struct BangerGate {
  BangerObjects *objects;
  sd_bus_slot *slot;
  BangerSenders *senders;
};

static gboolean G_GNUC_PRINTF (3, 4) refuse (BangerRefusal *ret, const char *name, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  ret->name = name;
  ret->message = g_strdup_vprintf (format, args);
  va_end (args);
  return FALSE;
}

static gboolean
check_caller (uid_t caller, BangerRefusal *ret)
{
  if (caller == BANGER_NO_UID)
    return refuse (ret, SD_BUS_ERROR_ACCESS_DENIED, "the bus does not say who you are");
  if (caller != 0 && caller != geteuid ())
    return refuse (ret, SD_BUS_ERROR_ACCESS_DENIED, "uid %u may not talk to the bangerd of uid %u", caller, geteuid ());
  return TRUE;
}

static gboolean
check_signature (sd_bus_message *message, const char *wanted, BangerRefusal *ret)
{
  const char *got = sd_bus_message_get_signature (message, TRUE);
  if (g_strcmp0 (got, wanted) == 0)
    return TRUE;
  return refuse (ret, SD_BUS_ERROR_INVALID_ARGS, "%s takes arguments of the types '%s', not '%s'",
                 sd_bus_message_get_member (message), wanted, got);
}

static gboolean
check_own (BangerObjects *objects, const BangerInterface *interface, sd_bus_message *message, BangerRefusal *ret)
{
  const char *path = sd_bus_message_get_path (message);
  const char *member = sd_bus_message_get_member (message);
  if (!banger_objects_has (objects, NULL, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_OBJECT, "no object %s", path);
  if (!banger_objects_has (objects, interface, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "object %s has no interface %s", path, interface->name);
  const BangerMember *row = banger_interface_method (interface, member);
  if (!row)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "%s has no method %s", interface->name, member);
  return check_signature (message, row->arguments, ret);
}

/* What log-control.c would refuse, refused with an op id. @message is at the value. */
static gboolean
check_log_control (sd_bus_message *message, gboolean set, const char *property, BangerRefusal *ret)
{
  const char *level = NULL;
  if (!g_str_equal (property, "LogLevel") && !g_str_equal (property, "LogTarget")
      && !g_str_equal (property, "SyslogIdentifier"))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_PROPERTY, "%s has no property '%s'", BANGER_LOG_CONTROL_INTERFACE,
                   property);
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
check_property (BangerObjects *objects, sd_bus_message *message, BangerRefusal *ret)
{
  const char *path = sd_bus_message_get_path (message);
  const char *member = sd_bus_message_get_member (message);
  const char *interface = NULL, *property = NULL;
  gboolean all = g_str_equal (member, "GetAll");
  int r = all ? sd_bus_message_read (message, "s", &interface)
              : sd_bus_message_read (message, "ss", &interface, &property);
  if (r < 0)
    return refuse (ret, SD_BUS_ERROR_INVALID_ARGS, "the arguments cannot be read");
  if (g_str_equal (path, BANGER_LOG_CONTROL_PATH) && g_str_equal (interface, BANGER_LOG_CONTROL_INTERFACE))
    return all || check_log_control (message, g_str_equal (member, "Set"), property, ret);
  if (all && *interface == '\0')
    return TRUE;
  const BangerInterface *own = banger_objects_interface_named (objects, interface);
  if (!own || !banger_objects_has (objects, own, path))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "object %s has no interface '%s'", path, interface);
  if (all)
    return TRUE;
  if (!banger_interface_has_property (own, property))
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_PROPERTY, "%s has no property '%s'", interface, property);
  if (g_str_equal (member, "Set"))
    return refuse (ret, SD_BUS_ERROR_PROPERTY_READ_ONLY, "property %s cannot be set", property);
  return TRUE;
}

/* What sd-bus answers by itself. */
static gboolean
check_standard (BangerObjects *objects, sd_bus_message *message, BangerRefusal *ret)
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
    if (!banger_objects_is_node (objects, path))
      return refuse (ret, SD_BUS_ERROR_UNKNOWN_OBJECT, "no object %s", path);
    if (!check_signature (message, rows[i].signature, ret))
      return FALSE;
    if (g_str_equal (interface, PROPERTIES_INTERFACE))
      return check_property (objects, message, ret);
    if (g_str_equal (interface, OBJECT_MANAGER_INTERFACE) && !g_str_equal (path, BANGER_MANAGER_PATH))
      return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "the object manager is at %s", BANGER_MANAGER_PATH);
    return TRUE;
  }
  if (interface && known_interface)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "%s has no method %s", interface, member);
  if (!interface)
    return refuse (ret, SD_BUS_ERROR_UNKNOWN_METHOD, "name the interface of %s", member);
  return refuse (ret, SD_BUS_ERROR_UNKNOWN_INTERFACE, "no interface %s here", interface);
}

gboolean
banger_gate_check (BangerObjects *objects, sd_bus_message *message, uid_t caller, BangerRefusal *ret)
{
  const BangerInterface *own = banger_objects_interface_named (objects, sd_bus_message_get_interface (message));
  if (!check_caller (caller, ret))
    return FALSE;
  return own ? check_own (objects, own, message, ret) : check_standard (objects, message, ret);
}

static void
log_refusal (const BangerNow *now, sd_bus_message *message, const BangerRefusal *refusal)
{
  g_autofree char *uid = g_strdup_printf ("%u", now->caller);
  g_autofree char *shown = banger_log_escape (refusal->message, 500);
  const char *member = sd_bus_message_get_member (message);
  banger_log (LOG_NOTICE,
              BANGER_FIELDS (BANGER_FIELD_OP_ID, now->op_id, BANGER_FIELD_METHOD, member, BANGER_FIELD_CALLER_UID, uid,
                             BANGER_FIELD_ERROR, refusal->name),
              "%s refused: %s", member, shown);
}

/* Runs before sd-bus looks at a message; a negative result is the answer. */
static int
on_message (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerGate *gate = userdata;
  BangerNow *now = banger_objects_now (gate->objects);
  BangerRefusal refusal = { 0 };
  guint8 type = 0;
  if (sd_bus_message_get_type (message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
    return 0;
  if (!banger_senders_uid (gate->senders, message, &now->caller))
    return 1; /* it comes again */
  g_free (now->op_id);
  now->op_id = banger_op_id_new ();
  if (banger_gate_check (gate->objects, message, now->caller, &refusal))
    return 0;
  log_refusal (now, message, &refusal);
  int r = sd_bus_error_setf (ret_error, refusal.name, "%s (%s)", refusal.message, now->op_id);
  g_free (refusal.message);
  return r;
}

BangerGate *
banger_gate_new (BangerObjects *objects, GError **error)
{
  g_autoptr (BangerGate) gate = g_new0 (BangerGate, 1);
  gate->objects = objects;
  gate->senders = banger_senders_new (banger_objects_bus (objects));
  int r = sd_bus_add_filter (banger_objects_bus (objects), &gate->slot, on_message, gate);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot stand in front of the objects on the session bus");
    return NULL;
  }
  return g_steal_pointer (&gate);
}

void
banger_gate_free (BangerGate *gate)
{
  if (!gate)
    return;
  sd_bus_slot_unref (gate->slot);
  banger_senders_free (gate->senders);
  g_free (gate);
}
