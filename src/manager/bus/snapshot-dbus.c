/* Snapshots on the bus: properties, and verbs by name (Manager, VM) and by object (Snapshot).
 * Never touches one itself: the table of snapshots and the VM's verbs do. */
#include "manager/bus/snapshot-dbus.h"

#include "common/error.h"
#include "common/names.h"
#include "common/options.h"
#include "manager/bus/job-dbus.h"
#include "manager/bus/property.h"

static BangerVm *
read_vm (BangerRequest *request, GError **error)
{
  const char *name = NULL;
  if (!banger_request_read (request, error, "s", &name))
    return NULL;
  return banger_vms_find (banger_objects_manager (request->objects)->vms, name, error);
}

/* The one that is named, or that it was sent to. */
static BangerVmSnapshot *
read_snapshot (BangerRequest *request, gboolean by_name, GError **error)
{
  const char *name = NULL;
  if (!by_name)
    return banger_request_object (request, BANGER_OBJECT_SNAPSHOT);
  BangerVm *vm = read_vm (request, error);
  if (!vm || !banger_request_read (request, error, "s", &name))
    return NULL;
  return banger_snapshots_find (banger_objects_manager (request->objects)->snapshots, vm, name, error);
}

typedef struct {
  gboolean force, start, wait;
} Options;

#define OPTION(name, member)                                                                                           \
  {                                                                                                                    \
    name, BANGER_OPTION_BOOL, G_STRUCT_OFFSET (Options, member)                                                        \
  }
static const BangerOption create_options[] = { OPTION ("wait", wait), { NULL } };
static const BangerOption restore_options[] = {
  OPTION ("force", force), OPTION ("start", start), OPTION ("wait", wait), { NULL }
};

gboolean
banger_snapshot_handle_create (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  BangerVm *vm = by_name ? read_vm (request, error) : banger_request_object (request, BANGER_OBJECT_VM);
  const char *name = NULL;
  Options values = { 0 };
  if (!vm || !banger_request_read (request, error, "s", &name)
      || !banger_options_read (request->message, create_options, &values, error))
    return FALSE;
  const BangerJobSpec spec = banger_request_job_spec (request, "snapshot-vm", TRUE);
  BangerJob *job = banger_snapshots_job_new (manager->snapshots, vm, name, manager->jobs, &spec, error);
  if (job)
    banger_request_begin (request, job, values.wait);
  return job != NULL;
}

gboolean
banger_snapshot_handle_restore (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  BangerVmSnapshot *snapshot = read_snapshot (request, by_name != NULL, error);
  Options values = { 0 };
  if (!snapshot || !banger_options_read (request->message, restore_options, &values, error))
    return FALSE;
  BangerVm *vm = banger_vms_find (manager->vms, snapshot->vm, error);
  const BangerVmVerbOptions options = { .snapshot = snapshot, .force = values.force, .start = values.start };
  const BangerJobSpec spec = banger_request_job_spec (request, "restore-snapshot", TRUE);
  BangerJob *job = vm ? banger_vm_job_new (vm, BANGER_VM_VERB_RESTORE, &options, manager->jobs, &spec, error) : NULL;
  if (job)
    banger_request_begin (request, job, values.wait);
  return job != NULL;
}

static void
on_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  if (banger_snapshots_delete_finish (result, &error))
    banger_request_reply (data, "");
  else
    banger_request_fail (data, error);
}

gboolean
banger_snapshot_handle_delete (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerVmSnapshot *snapshot = read_snapshot (request, by_name != NULL, error);
  if (!snapshot || !banger_request_no_options (request, error))
    return FALSE;
  banger_snapshots_delete_async (banger_objects_manager (request->objects)->snapshots, snapshot, on_deleted, request);
  return TRUE;
}

gboolean
banger_snapshot_handle_get (BangerRequest *request, gconstpointer data, GError **error)
{
  const BangerVmSnapshot *snapshot = read_snapshot (request, TRUE, error);
  if (snapshot)
    banger_request_reply_path (request, BANGER_OBJECT_SNAPSHOT, snapshot->id);
  return snapshot != NULL;
}

static int
append_vm (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  g_autofree char *path = banger_objects_path (objects, BANGER_OBJECT_VM, ((const BangerVmSnapshot *)data)->vm);
  return sd_bus_message_append (reply, "o", path);
}

const BangerProperty banger_snapshot_properties[] = { { "VM", "o", FALSE, append_vm }, { NULL } };

const BangerMember banger_snapshot_members[] = {
  { "Restore", "a{sv}", "o", "options\0job\0", banger_snapshot_handle_restore, NULL },
  { "Delete", "a{sv}", "", "options\0", banger_snapshot_handle_delete, NULL },
  { NULL },
};
