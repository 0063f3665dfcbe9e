/* Snapshots on the bus: properties, and verbs by name (Manager, VM) and by object (Snapshot).
 * Never touches one itself: the table of snapshots and the VM's verbs do. */
#include "manager/bus/snapshot-dbus.h"

#include "common/error.h"
#include "common/names.h"
#include "common/options.h"
#include "manager/bus/job-dbus.h"
#include "manager/bus/property.h"

/* As they are given: of the VM, and of the snapshot, which has none where it was sent to itself. */
typedef struct {
  const char *vm, *snapshot;
} Names;

static BangerVmSnapshot *
find (BangerRequest *request, const Names *names, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  if (!names->snapshot)
    return banger_request_object (request, BANGER_OBJECT_SNAPSHOT);
  BangerVm *vm = banger_vms_find (manager->vms, names->vm, error);
  return vm ? banger_snapshots_find (manager->snapshots, vm, names->snapshot, error) : NULL;
}

static gboolean
read_names (BangerRequest *request, gconstpointer by_name, Names *ret, GError **error)
{
  return !by_name || banger_request_read (request, error, "ss", &ret->vm, &ret->snapshot);
}

typedef struct {
  gboolean force, start, wait;
  guint32 count;
} Options;

#define OPTION(name, member)                                                                                           \
  {                                                                                                                    \
    name, BANGER_OPTION_BOOL, G_STRUCT_OFFSET (Options, member)                                                        \
  }
static const BangerOption create_options[] = { OPTION ("wait", wait), { NULL } };
static const BangerOption fork_options[] = { { "count", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (Options, count) },
                                             OPTION ("wait", wait),
                                             { NULL } };
static const BangerOption restore_options[] = {
  OPTION ("force", force), OPTION ("start", start), OPTION ("wait", wait), { NULL }
};

gboolean
banger_snapshot_handle_create (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  const char *of = NULL, *name = NULL;
  Options values = { 0 };
  if ((by_name && !banger_request_read (request, error, "s", &of)) || !banger_request_read (request, error, "s", &name)
      || !banger_options_read (request->message, create_options, &values, error))
    return FALSE;
  BangerVm *vm = of ? banger_vms_find (manager->vms, of, error) : banger_request_object (request, BANGER_OBJECT_VM);
  if (!vm)
    return FALSE;
  const BangerJobSpec spec = banger_request_job_spec (request, "snapshot-vm", TRUE);
  BangerJob *job = banger_snapshots_job_new (manager->snapshots, vm, name, manager->jobs, &spec, error);
  if (job)
    banger_request_begin (request, job, values.wait);
  return job != NULL;
}

gboolean
banger_snapshot_handle_fork (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  const char *of = NULL, *name = NULL;
  Options values = { .count = 1 };
  if ((by_name && !banger_request_read (request, error, "s", &of)) || !banger_request_read (request, error, "s", &name)
      || !banger_options_read (request->message, fork_options, &values, error))
    return FALSE;
  BangerVm *vm = of ? banger_vms_find (manager->vms, of, error) : banger_request_object (request, BANGER_OBJECT_VM);
  if (!vm)
    return FALSE;
  const BangerJobSpec spec = banger_request_job_spec (request, "fork-vm", TRUE);
  BangerJob *job = banger_snapshots_fork_job_new (manager->snapshots, manager->templates_fd, vm, name, values.count,
                                                  manager->jobs, &spec, error);
  if (job)
    banger_request_begin (request, job, values.wait);
  return job != NULL;
}

gboolean
banger_snapshot_handle_restore (BangerRequest *request, gconstpointer by_name, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  Names names = { NULL, NULL };
  Options values = { 0 };
  if (!read_names (request, by_name, &names, error)
      || !banger_options_read (request->message, restore_options, &values, error))
    return FALSE;
  BangerVmSnapshot *snapshot = find (request, &names, error);
  BangerVm *vm = snapshot && banger_snapshots_check_stays (manager->snapshots, snapshot, error)
                     ? banger_vms_find (manager->vms, snapshot->vm, error)
                     : NULL;
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
  Names names = { NULL, NULL };
  if (!read_names (request, by_name, &names, error) || !banger_request_no_options (request, error))
    return FALSE;
  BangerVmSnapshot *snapshot = find (request, &names, error);
  if (!snapshot)
    return FALSE;
  banger_snapshots_delete_async (banger_objects_manager (request->objects)->snapshots, snapshot, on_deleted, request);
  return TRUE;
}

gboolean
banger_snapshot_handle_get (BangerRequest *request, gconstpointer data, GError **error)
{
  Names names = { NULL, NULL };
  const BangerVmSnapshot *snapshot = read_names (request, "", &names, error) ? find (request, &names, error) : NULL;
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
