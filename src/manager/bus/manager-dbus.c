/* org.banger.Manager: the vtable, and the ear that turns what the domain announces into signals.
 * Never holds state of its own but the registration. */
#include "manager/bus/manager-dbus.h"

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/bus/asset-dbus.h"
#include "manager/bus/catalog-dbus.h"
#include "manager/bus/follow.h"
#include "manager/bus/gate.h"
#include "manager/bus/image-dbus.h"
#include "manager/bus/job-dbus.h"
#include "manager/bus/kernel-dbus.h"
#include "manager/bus/ports-dbus.h"
#include "manager/bus/process-dbus.h"
#include "manager/bus/property.h"
#include "manager/bus/snapshot-dbus.h"
#include "manager/bus/stats-dbus.h"
#include "manager/bus/vm-dbus.h"
#include "manager/bus/workspace-dbus.h"
#include "manager/doctor.h"
#include "manager/image/image.h"
#include "manager/kernel/kernel.h"
#include "manager/names.h"
#include "manager/peer/helper.h"
#include "manager/vm/vm.h"

struct BangerManagerBus {
  BangerManager *manager;
  sd_bus *bus;
  BangerObjects *objects;
  BangerGate *gate;
  BangerFollow *follow;    /* made last */
  sd_bus_slot *clients;    /* of commands in guests */
  gboolean told_available; /* what HelperAvailable was when it was last told */
};

/* What a client may rely on beyond the first release; words are only ever added. */
static const char *const features[] = { "workspace", "config", "exec", "templates", NULL };

/* @r: of writing @reply, negative if it was not. @error: (nullable): why there is none. */
static void
answer (BangerRequest *request, sd_bus_message *reply, int r, const GError *error)
{
  g_autoptr (GError) unwritten = NULL;
  if (r < 0 && !error)
    banger_set_error_errno (&unwritten, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  if (r < 0)
    banger_request_fail (request, error ? error : unwritten);
  else
    banger_request_reply_message (request, reply);
}

static void
diagnose_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (GPtrArray) rows = banger_doctor_run_finish (result, &error);
  int r = !rows ? -1 : sd_bus_message_new_method_return (request->message, &reply);
  if (r >= 0)
    r = sd_bus_message_open_container (reply, 'a', "(ssss)");
  for (guint i = 0; r >= 0 && i < rows->len; i++) {
    const BangerDoctorRow *row = rows->pdata[i];
    r = sd_bus_message_append (reply, "(ssss)", row->check, banger_doctor_status_to_string (row->status), row->seen,
                               row->fix);
  }
  if (r >= 0)
    r = sd_bus_message_close_container (reply);
  answer (request, reply, r, error);
}

static gboolean
handle_diagnose (BangerRequest *request, gconstpointer data, GError **error)
{
  if (!banger_request_no_options (request, error))
    return FALSE;
  banger_doctor_run_async (banger_objects_manager (request->objects), request->op_id, diagnose_done, request);
  return TRUE;
}

/* A port that is fine as a number and cannot be had. */
static int
append_unserved (sd_bus_message *reply, BangerManager *manager)
{
  BangerNamesStatus status;
  banger_names_status (manager->names, &status);
  g_autofree char *text = status.unserved ? g_strdup_printf ("network.dns-port: no names of VMs: %s", status.unserved)
                                          : NULL;
  banger_names_status_clear (&status);
  return text ? banger_property_append_text (reply, text) : 0;
}

static void
reload_done (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  const GPtrArray *problems = banger_objects_manager (request->objects)->config->problems;
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  int r = !banger_manager_reload_finish (result, &error) ? -1
                                                         : sd_bus_message_new_method_return (request->message, &reply);
  if (r >= 0)
    r = sd_bus_message_open_container (reply, 'a', "s");
  for (guint i = 0; r >= 0 && i < problems->len; i++)
    r = banger_property_append_text (reply, problems->pdata[i]);
  if (r >= 0)
    r = append_unserved (reply, banger_objects_manager (request->objects));
  if (r >= 0)
    r = sd_bus_message_close_container (reply);
  answer (request, reply, r, error);
}

static gboolean
handle_reload (BangerRequest *request, gconstpointer data, GError **error)
{
  if (!banger_request_no_options (request, error))
    return FALSE;
  banger_manager_reload_async (banger_objects_manager (request->objects), reload_done, request);
  return TRUE;
}

static int
append_config (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  g_autoptr (GPtrArray) rows = banger_config_rows (((const BangerManager *)data)->config);
  int r = sd_bus_message_open_container (reply, 'a', "(sss)");
  for (guint i = 0; r >= 0 && i < rows->len; i++) {
    const BangerConfigRow *row = rows->pdata[i];
    r = sd_bus_message_append (reply, "(sss)", row->key, row->value, row->from);
  }
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static int
append_version (sd_bus_message *reply, BangerObjects *objects, gpointer manager)
{
  return sd_bus_message_append (reply, "s", BANGER_VERSION);
}

static int
append_features (sd_bus_message *reply, BangerObjects *objects, gpointer manager)
{
  return sd_bus_message_append_strv (reply, (char **)features);
}

static int
append_helper_available (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  const BangerManager *manager = data;
  gboolean available = manager->helper && banger_helper_available (manager->helper);
  return sd_bus_message_append (reply, "b", available);
}

static const BangerProperty manager_properties[] = {
  { "Version", "s", FALSE, append_version },
  { "Features", "as", FALSE, append_features },
  { "HelperAvailable", "b", TRUE, append_helper_available },
  { "Config", "a(sss)", TRUE, append_config },
  { NULL },
};

#define NAMED(member, handler, data)                                                                                   \
  {                                                                                                                    \
    member, "sa{sv}", "o", "name\0options\0job\0", handler, data                                                       \
  }
#define VERB(name, verb) NAMED (name "VM", banger_vm_handle_by_name, &banger_vm_verb_rows[BANGER_VM_VERB_##verb])
#define DELETE(member, class)                                                                                          \
  {                                                                                                                    \
    member, "sa{sv}", "", "name\0options\0", banger_asset_handle_delete, class                                         \
  }

static const BangerMember manager_members[] = {
  NAMED ("CreateVM", banger_vm_handle_create, NULL),
  BANGER_VM_VERBS (VERB),
  { "ImportWorkspace", "ssa{sv}", "o", "name\0path\0options\0job\0", banger_vm_handle_by_name,
    &banger_vm_verb_rows[BANGER_VM_VERB_IMPORT_WORKSPACE] },
  { "CheckWorkspace", "sa{sv}", "ayas", "path\0options\0folder\0notes\0", banger_workspace_handle_check, NULL },
  { "ExecVM", "sasa{sv}", "hhho", "name\0arguments\0options\0stdin\0stdout\0stderr\0process\0",
    banger_process_handle_exec, "" },
  { "AddForwardVM", "ssa{sv}", "s", "name\0forward\0options\0added\0", banger_vm_handle_forward_by_name, NULL },
  { "RemoveForwardVM", "ssa{sv}", "", "name\0forward\0options\0", banger_vm_handle_forward_by_name, "" },
  { "CaptureVM", "sasa{sv}", "ayayi", "name\0arguments\0options\0stdout\0stderr\0status\0",
    banger_process_handle_capture, "" },
  { "ListPortsVM", "sa{sv}", "a(ssqus)", "name\0options\0ports\0", banger_ports_handle_list, "" },
  { "GetStatsVM", "sa{sv}", "a{sv}", "name\0options\0stats\0", banger_stats_handle_get, "" },
  { "ListStats", "a{sv}", "a{sa{sv}}", "options\0stats\0", banger_stats_handle_list, NULL },
  { "GetVM", "s", "o", "name\0vm\0", banger_vm_handle_get, NULL },

  { "SnapshotVM", "ssa{sv}", "o", "vm\0name\0options\0job\0", banger_snapshot_handle_create, "" },
  { "ForkVM", "ssa{sv}", "o", "vm\0name\0options\0job\0", banger_snapshot_handle_fork, "" },
  { "RestoreSnapshot", "ssa{sv}", "o", "vm\0snapshot\0options\0job\0", banger_snapshot_handle_restore, "" },
  { "DeleteSnapshot", "ssa{sv}", "", "vm\0snapshot\0options\0", banger_snapshot_handle_delete, "" },
  { "GetSnapshot", "ss", "o", "vm\0snapshot\0path\0", banger_snapshot_handle_get, NULL },

  NAMED ("BuildImage", banger_image_handle_build, NULL),
  { "ImportImage", "ssa{sv}", "o", "name\0path\0options\0job\0", banger_image_handle_import, NULL },
  { "CommitImage", "ssa{sv}", "o", "name\0vm\0options\0job\0", banger_image_handle_commit, NULL },
  { "PruneImageCache", "a{sv}", "tt", "options\0bytes\0blobs\0", banger_image_handle_prune, NULL },
  { "ListAvailableImages", "a{sv}", "a(sssstsss)as", "options\0entries\0problems\0", banger_catalog_handle_list,
    &banger_catalog_listed_images },
  NAMED ("WarmImage", banger_image_handle_warm, NULL),
  { "VerifyImage", "sa{sv}", "", "name\0options\0", banger_image_handle_verify, NULL },
  NAMED ("ExportImage", banger_image_handle_export, NULL),
  { "PromoteImage", "sa{sv}", "s", "name\0options\0old\0", banger_image_handle_promote, NULL },
  { "TagImage", "ssa{sv}", "", "name\0tag\0options\0", banger_asset_handle_tag, &banger_image_class },
  DELETE ("DeleteImage", &banger_image_class),
  { "GetImage", "s", "o", "name\0image\0", banger_asset_handle_get, &banger_image_class },

  { "ImportKernel", "ssa{sv}", "o", "name\0source\0options\0job\0", banger_kernel_handle_import, NULL },
  { "ListAvailableKernels", "a{sv}", "a(sssstsss)as", "options\0entries\0problems\0", banger_catalog_handle_list,
    &banger_catalog_listed_kernels },
  DELETE ("DeleteKernel", &banger_kernel_class),
  { "GetKernel", "s", "o", "name\0kernel\0", banger_asset_handle_get, &banger_kernel_class },

  { "Diagnose", "a{sv}", "a(ssss)", "options\0checks\0", handle_diagnose, NULL },
  { "ReloadConfig", "a{sv}", "as", "options\0problems\0", handle_reload, NULL },

  { "JobNew", "o", "", "job\0", NULL, NULL },
  { "JobRemoved", "osss", "", "job\0result\0error\0message\0", NULL, NULL },
  { NULL },
};

static gpointer
find_vm (BangerManager *manager, const char *id)
{
  return !manager->vms ? NULL : banger_vms_find_id (manager->vms, id);
}

static gpointer
find_image (BangerManager *manager, const char *id)
{
  return banger_assets_find_id (manager->images, id);
}

static gpointer
find_kernel (BangerManager *manager, const char *id)
{
  return banger_assets_find_id (manager->kernels, id);
}

static gpointer
find_job (BangerManager *manager, const char *id)
{
  return banger_jobs_find (manager->jobs, id);
}

static gpointer
find_process (BangerManager *manager, const char *id)
{
  return banger_processes_find (manager->processes, id);
}

static gpointer
find_snapshot (BangerManager *manager, const char *id)
{
  return !manager->snapshots ? NULL : banger_snapshots_find_id (manager->snapshots, id);
}

static GPtrArray *
list_vms (BangerManager *manager)
{
  GPtrArray *ids = g_ptr_array_new ();
  g_autoptr (GPtrArray) vms = !manager->vms ? g_ptr_array_new () : banger_vms_list (manager->vms);
  for (guint i = 0; i < vms->len; i++)
    g_ptr_array_add (ids, banger_vm_record (vms->pdata[i])->id);
  return ids;
}

static GPtrArray *
list_images (BangerManager *manager)
{
  return banger_assets_ids (manager->images);
}

static GPtrArray *
list_kernels (BangerManager *manager)
{
  return banger_assets_ids (manager->kernels);
}

static GPtrArray *
list_jobs (BangerManager *manager)
{
  return banger_jobs_ids (manager->jobs);
}

static GPtrArray *
list_processes (BangerManager *manager)
{
  return banger_processes_ids (manager->processes);
}

static GPtrArray *
list_snapshots (BangerManager *manager)
{
  return !manager->snapshots ? g_ptr_array_new () : banger_snapshots_ids (manager->snapshots);
}

static gconstpointer
vm_values (gpointer vm)
{
  return banger_vm_record (vm);
}

static const BangerInterface interfaces[] = {
  { BANGER_MANAGER_INTERFACE, manager_members, NULL, manager_properties, .prefix = NULL },
  { BANGER_VM_INTERFACE, banger_vm_members, banger_vm_fields, banger_vm_properties, BANGER_VM_PATH_PREFIX,
    BANGER_OBJECT_VM, find_vm, list_vms, vm_values },
  { BANGER_IMAGE_INTERFACE, banger_image_members, banger_image_fields, banger_image_properties,
    BANGER_IMAGE_PATH_PREFIX, BANGER_OBJECT_IMAGE, find_image, list_images, NULL },
  { BANGER_KERNEL_INTERFACE, banger_kernel_members, banger_kernel_fields, NULL, BANGER_KERNEL_PATH_PREFIX,
    BANGER_OBJECT_KERNEL, find_kernel, list_kernels, NULL },
  { BANGER_JOB_INTERFACE, banger_job_members, NULL, banger_job_properties, BANGER_JOB_PATH_PREFIX, BANGER_OBJECT_JOB,
    find_job, list_jobs, NULL },
  { BANGER_PROCESS_INTERFACE, banger_process_members, NULL, banger_process_properties, BANGER_PROCESS_PATH_PREFIX,
    BANGER_OBJECT_PROCESS, find_process, list_processes, NULL },
  { BANGER_SNAPSHOT_INTERFACE, banger_snapshot_members, banger_vm_snapshot_fields, banger_snapshot_properties,
    BANGER_SNAPSHOT_PATH_PREFIX, BANGER_OBJECT_SNAPSHOT, find_snapshot, list_snapshots, NULL },
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
  g_autofree char *path = banger_objects_path (self->objects, kind, id);
  report (sd_bus_emit_object_added (self->bus, path), "InterfacesAdded", path);
  if (kind == BANGER_OBJECT_VM)
    banger_follow_look (self->follow, id);
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
  g_autofree char *path = banger_objects_path (self->objects, kind, id);
  report (emit_removed (self->bus, path, banger_objects_interface (self->objects, kind)->name), "InterfacesRemoved",
          path);
  if (kind == BANGER_OBJECT_VM)
    banger_follow_forget (self->follow, id);
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer data)
{
  BangerManagerBus *self = data;
  g_autofree char *path = banger_objects_path (self->objects, kind, id);
  const char *interface = banger_objects_interface (self->objects, kind)->name;
  report (sd_bus_emit_properties_changed_strv (self->bus, path, interface, (char **)properties), "PropertiesChanged",
          path);
  if (kind == BANGER_OBJECT_VM)
    banger_follow_look (self->follow, id);
}

static void
on_job_new (BangerJob *job, gpointer data)
{
  BangerManagerBus *self = data;
  banger_job_emit_new (self->objects, job);
}

static void
on_job_finished (BangerJob *job, gpointer data)
{
  BangerManagerBus *self = data;
  banger_job_emit_removed (self->objects, job);
}

static void
on_process_ended (BangerProcess *process, gpointer data)
{
  BangerManagerBus *self = data;
  banger_process_emit_exited (self->objects, process);
}

static void
on_helper_changed (gboolean available, gpointer data)
{
  BangerManagerBus *self = data;
  if (available != self->told_available) /* it may just have come back */
    report (sd_bus_emit_properties_changed (self->bus, BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "HelperAvailable",
                                            NULL),
            "PropertiesChanged", BANGER_MANAGER_PATH);
  self->told_available = available;
  if (available)
    banger_follow_retry (self->follow);
}

static void
on_config_changed (gpointer data)
{
  BangerManagerBus *self = data;
  report (sd_bus_emit_properties_changed (self->bus, BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "Config", NULL),
          "PropertiesChanged", BANGER_MANAGER_PATH);
}

BangerManagerBus *
banger_manager_bus_new (BangerManager *manager, sd_bus *bus, GError **error)
{
  static const BangerManagerObserver observer = { on_added,          on_removed,       on_changed,
                                                  on_job_new,        on_job_finished,  on_process_ended,
                                                  on_helper_changed, on_config_changed };
  g_autoptr (BangerManagerBus) self = g_new0 (BangerManagerBus, 1);
  self->manager = manager;
  self->bus = sd_bus_ref (bus);
  self->objects = banger_objects_new (manager, bus, interfaces, banger_request_call, error);
  self->gate = self->objects ? banger_gate_new (self->objects, error) : NULL;
  if (!self->gate)
    return NULL;
  int r = banger_log_add_control (bus);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot register LogControl1");
    return NULL;
  }
  r = banger_process_follow_clients (manager->processes, bus, &self->clients);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, "cannot see who leaves the session bus");
    return NULL;
  }
  self->follow = banger_follow_new (manager, bus);
  const char *own = NULL;
  sd_bus_get_unique_name (bus, &own);
  g_free (manager->client);
  manager->client = banger_follow_client (bus, own ? own : "");
  manager->observer = &observer;
  manager->observer_data = self;
  return g_steal_pointer (&self);
}

void
banger_manager_bus_free (BangerManagerBus *self)
{
  if (!self)
    return;
  if (self->manager->observer_data == self)
    self->manager->observer = NULL;
  g_autoptr (GError) error = g_error_new (BANGER_ERROR, BANGER_ERROR_FAILED,
                                          "bangerd ends before that is done: the next one carries on or undoes it");
  if (self->objects)
    banger_requests_end (self->objects, error);
  banger_follow_free (self->follow);
  sd_bus_slot_unref (self->clients);
  banger_gate_free (self->gate);
  banger_objects_free (self->objects);
  sd_bus_unref (self->bus);
  g_free (self);
}
