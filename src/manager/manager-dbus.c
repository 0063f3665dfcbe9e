/* org.banger.Manager: the vtable, and the ear that turns what the domain announces into signals.
 * Used by main.c.
 * Never holds state of its own but the registration. */
#include "manager/manager-dbus.h"

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "common/options.h"
#include "manager/asset-dbus.h"
#include "manager/doctor.h"
#include "manager/helper-client.h"
#include "manager/image-dbus.h"
#include "manager/job-dbus.h"
#include "manager/kernel-dbus.h"
#include "manager/vm-dbus.h"

struct BangerManagerBus {
  BangerManager *manager;
  sd_bus *bus;
  BangerDispatch *dispatch;
};

/* What a client may rely on beyond the first release; words are only ever added. */
static const char *const features[] = { "workspace", NULL };

static void
diagnose_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerCall *call = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (GPtrArray) rows = banger_doctor_run_finish (result, &error);
  int r = rows == NULL ? -1 : sd_bus_message_new_method_return (call->message, &reply);
  if (r >= 0)
    r = sd_bus_message_open_container (reply, 'a', "(ssss)");
  for (guint i = 0; r >= 0 && i < rows->len; i++) {
    const BangerDoctorRow *row = rows->pdata[i];
    r = sd_bus_message_append (reply, "(ssss)", row->check, banger_doctor_status_to_string (row->status), row->seen,
                               row->fix);
  }
  if (r >= 0)
    r = sd_bus_message_close_container (reply);
  if (r < 0 && error == NULL)
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  if (error != NULL)
    banger_call_fail (call, error);
  else
    banger_call_reply_message (call, reply);
}

static gboolean
handle_diagnose (BangerCall *call, gconstpointer data, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  if (!banger_options_read (call->message, none, NULL, error))
    return FALSE;
  banger_doctor_run_async (banger_dispatch_manager (call->dispatch), call->op_id, diagnose_done, call);
  return TRUE;
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
  return sd_bus_message_append_strv (reply, (char **)features);
}

static int
get_helper_available (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *userdata, sd_bus_error *ret_error)
{
  BangerManager *manager = banger_dispatch_manager (userdata);
  gboolean available = manager->helper != NULL && banger_helper_available (manager->helper);
  return sd_bus_message_append (reply, "b", available);
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define OPEN SD_BUS_VTABLE_UNPRIVILEGED
#define JOB SD_BUS_RESULT ("o", job)

static const sd_bus_vtable manager_vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_PROPERTY ("Version", "s", get_version, 0, CONST),
  SD_BUS_PROPERTY ("Features", "as", get_features, 0, CONST),
  SD_BUS_PROPERTY ("HelperAvailable", "b", get_helper_available, 0, CHANGES),

  SD_BUS_METHOD_WITH_ARGS ("CreateVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("StartVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("StopVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("KillVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("RestartVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("DeleteVM", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("ImportWorkspace", SD_BUS_ARGS ("s", name, "s", path, "a{sv}", options), JOB,
                           banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("GetVM", SD_BUS_ARGS ("s", name), SD_BUS_RESULT ("o", vm), banger_dispatch_call, OPEN),

  SD_BUS_METHOD_WITH_ARGS ("BuildImage", SD_BUS_ARGS ("s", name, "a{sv}", options), JOB, banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("ImportImage", SD_BUS_ARGS ("s", name, "s", path, "a{sv}", options), JOB,
                           banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("DeleteImage", SD_BUS_ARGS ("s", name, "a{sv}", options), SD_BUS_NO_RESULT,
                           banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("GetImage", SD_BUS_ARGS ("s", name), SD_BUS_RESULT ("o", image), banger_dispatch_call, OPEN),

  SD_BUS_METHOD_WITH_ARGS ("ImportKernel", SD_BUS_ARGS ("s", name, "s", source, "a{sv}", options), JOB,
                           banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("DeleteKernel", SD_BUS_ARGS ("s", name, "a{sv}", options), SD_BUS_NO_RESULT,
                           banger_dispatch_call, OPEN),
  SD_BUS_METHOD_WITH_ARGS ("GetKernel", SD_BUS_ARGS ("s", name), SD_BUS_RESULT ("o", kernel), banger_dispatch_call,
                           OPEN),

  SD_BUS_METHOD_WITH_ARGS ("Diagnose", SD_BUS_ARGS ("a{sv}", options), SD_BUS_RESULT ("a(ssss)", checks),
                           banger_dispatch_call, OPEN),

  SD_BUS_SIGNAL_WITH_ARGS ("JobNew", SD_BUS_ARGS ("o", job), 0),
  SD_BUS_SIGNAL_WITH_ARGS ("JobRemoved", SD_BUS_ARGS ("o", job, "s", result, "s", error, "s", message), 0),
  SD_BUS_VTABLE_END,
};

static const BangerMember manager_members[] = {
  { "CreateVM", banger_vm_handle_create, NULL },
  { "StartVM", banger_vm_handle_by_name, &banger_vm_row_start },
  { "StopVM", banger_vm_handle_by_name, &banger_vm_row_stop },
  { "KillVM", banger_vm_handle_by_name, &banger_vm_row_kill },
  { "RestartVM", banger_vm_handle_by_name, &banger_vm_row_restart },
  { "DeleteVM", banger_vm_handle_by_name, &banger_vm_row_delete },
  { "ImportWorkspace", banger_vm_handle_by_name, &banger_vm_row_import_workspace },
  { "GetVM", banger_vm_handle_get, NULL },
  { "BuildImage", banger_image_handle_build, NULL },
  { "ImportImage", banger_image_handle_import, NULL },
  { "DeleteImage", banger_asset_handle_delete, &banger_image_class },
  { "GetImage", banger_asset_handle_get, &banger_image_class },
  { "ImportKernel", banger_kernel_handle_import, NULL },
  { "DeleteKernel", banger_asset_handle_delete, &banger_kernel_class },
  { "GetKernel", banger_asset_handle_get, &banger_kernel_class },
  { "Diagnose", handle_diagnose, NULL },
  { NULL },
};

static const BangerInterface interfaces[] = {
  { BANGER_MANAGER_INTERFACE, manager_vtable, manager_members, NULL, BANGER_N_OBJECTS },
  { BANGER_VM_INTERFACE, banger_vm_vtable, banger_vm_members, BANGER_VM_PATH_PREFIX, BANGER_OBJECT_VM },
  { BANGER_IMAGE_INTERFACE, banger_image_vtable, banger_image_members, BANGER_IMAGE_PATH_PREFIX, BANGER_OBJECT_IMAGE },
  { BANGER_KERNEL_INTERFACE, banger_kernel_vtable, banger_kernel_members, BANGER_KERNEL_PATH_PREFIX,
    BANGER_OBJECT_KERNEL },
  { BANGER_JOB_INTERFACE, banger_job_vtable, banger_job_members, BANGER_JOB_PATH_PREFIX, BANGER_OBJECT_JOB },
  { NULL },
};

const BangerInterface *
banger_manager_interfaces (void)
{
  return interfaces;
}

static void
report (int r, const char *what, const char *path)
{
  if (r < 0)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_OBJECT, path), "cannot send %s of %s: %s", what, path,
                g_strerror (-r));
}

static void
on_added (BangerObjectKind kind, const char *id, gpointer data)
{
  BangerManagerBus *self = data;
  g_autofree char *path = banger_dispatch_path (self->dispatch, kind, id);
  report (sd_bus_emit_object_added (self->bus, path), "InterfacesAdded", path);
}

/* sd_bus_emit_object_removed() would look the object up, which is gone by now. */
static int
emit_removed (sd_bus *bus, const char *path, const char *interface)
{
  g_autoptr (sd_bus_message) signal = NULL;
  int r = sd_bus_message_new_signal (bus, &signal, BANGER_MANAGER_PATH, "org.freedesktop.DBus.ObjectManager",
                                     "InterfacesRemoved");
  if (r >= 0)
    r = sd_bus_message_append (signal, "oas", path, 4, "org.freedesktop.DBus.Peer",
                               "org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Properties", interface);
  return r < 0 ? r : sd_bus_send (bus, signal, NULL);
}

static void
on_removed (BangerObjectKind kind, const char *id, gpointer data)
{
  BangerManagerBus *self = data;
  g_autofree char *path = banger_dispatch_path (self->dispatch, kind, id);
  report (emit_removed (self->bus, path, banger_dispatch_interface (self->dispatch, kind)->name), "InterfacesRemoved",
          path);
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
  BangerManagerBus *self = data;
  g_autofree char *path = banger_dispatch_path (self->dispatch, kind, id);
  const char *interface = banger_dispatch_interface (self->dispatch, kind)->name;
  report (sd_bus_emit_properties_changed_strv (self->bus, path, interface, (char **)properties), "PropertiesChanged",
          path);
}

static void
on_job_new (BangerJob *job, gpointer data)
{
  BangerManagerBus *self = data;
  banger_job_emit_new (self->dispatch, job);
}

static void
on_job_finished (BangerJob *job, gpointer data)
{
  BangerManagerBus *self = data;
  banger_job_emit_removed (self->dispatch, job);
}

static void
on_helper_changed (gboolean available, gpointer data)
{
  BangerManagerBus *self = data;
  report (sd_bus_emit_properties_changed (self->bus, BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "HelperAvailable",
                                          NULL),
          "PropertiesChanged", BANGER_MANAGER_PATH);
}

BangerManagerBus *
banger_manager_bus_new (BangerManager *manager, sd_bus *bus, GError **error)
{
  static const BangerManagerObserver observer = { on_added,   on_removed,      on_changed,
                                                  on_job_new, on_job_finished, on_helper_changed };
  g_autoptr (BangerManagerBus) self = g_new0 (BangerManagerBus, 1);
  self->manager = manager;
  self->bus = sd_bus_ref (bus);
  self->dispatch = banger_dispatch_new (manager, bus, interfaces, error);
  if (self->dispatch == NULL)
    return NULL;
  int r = banger_log_add_control (bus);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register LogControl1");
    return NULL;
  }
  manager->observer = &observer;
  manager->observer_data = self;
  return g_steal_pointer (&self);
}

void
banger_manager_bus_free (BangerManagerBus *self)
{
  if (self == NULL)
    return;
  if (self->manager->observer_data == self)
    self->manager->observer = NULL;
  banger_dispatch_free (self->dispatch);
  sd_bus_unref (self->bus);
  g_free (self);
}
