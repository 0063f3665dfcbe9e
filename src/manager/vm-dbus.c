/* VMs on the bus: properties, and verbs by name (Manager) and by object (VM), one function each.
 * Used by manager-dbus.c.
 * Never changes a VM itself: vm.c does. */
#include "manager/vm-dbus.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/options.h"
#include "manager/job-dbus.h"
#include "manager/property.h"
#include "manager/vm.h"

typedef struct {
  gboolean wait;
  gboolean force;
  guint64 timeout_usec;
} VerbOptions;

struct BangerVmVerbRow {
  const char *kind; /* of the job */
  BangerVmVerb verb;
  gboolean cancelable;
  gboolean takes_path;
  const BangerOption *options;
};

#define OPTION_WAIT                                                                                                    \
  {                                                                                                                    \
    "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, wait)                                                    \
  }
#define OPTION_FORCE                                                                                                   \
  {                                                                                                                    \
    "force", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, force)                                                  \
  }
#define OPTION_TIMEOUT                                                                                                 \
  {                                                                                                                    \
    "timeout-us", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (VerbOptions, timeout_usec)                                    \
  }

static const BangerOption options_plain[] = { OPTION_WAIT, { NULL } };
static const BangerOption options_stop[] = { OPTION_TIMEOUT, OPTION_WAIT, { NULL } };
static const BangerOption options_delete[] = { OPTION_FORCE, OPTION_WAIT, { NULL } };

const BangerVmVerbRow banger_vm_row_start = { "start-vm", BANGER_VM_VERB_START, TRUE, FALSE, options_plain };
const BangerVmVerbRow banger_vm_row_stop = { "stop-vm", BANGER_VM_VERB_STOP, FALSE, FALSE, options_stop };
const BangerVmVerbRow banger_vm_row_kill = { "kill-vm", BANGER_VM_VERB_KILL, FALSE, FALSE, options_plain };
const BangerVmVerbRow banger_vm_row_restart = { "restart-vm", BANGER_VM_VERB_RESTART, TRUE, FALSE, options_stop };
const BangerVmVerbRow banger_vm_row_delete = { "delete-vm", BANGER_VM_VERB_DELETE, FALSE, FALSE, options_delete };
const BangerVmVerbRow banger_vm_row_import_workspace = { "import-workspace", BANGER_VM_VERB_IMPORT_WORKSPACE, TRUE,
                                                         TRUE, options_plain };

typedef struct {
  BangerRun *run;
  BangerVm *vm;
  gboolean start_next; /* CreateVM with start */
} Verb;

static void
verb_end (Verb *verb, const GError *error)
{
  banger_run_end (verb->run, error);
  banger_vm_unref (verb->vm);
  g_free (verb);
}

static void
verb_done (GObject *source, GAsyncResult *result, gpointer data)
{
  Verb *verb = data;
  g_autoptr (GError) error = NULL;
  if (!banger_vm_verb_finish (verb->vm, result, &error) || !verb->start_next) {
    verb_end (verb, error);
    return;
  }
  verb->start_next = FALSE;
  static const BangerVmVerbOptions defaults = { 0 };
  banger_vm_verb_async (verb->vm, BANGER_VM_VERB_START, &defaults, banger_run_job (verb->run), verb_done, verb);
}

static void
verb_begin (BangerRun *run, BangerVm *vm, BangerVmVerb kind, const BangerVmVerbOptions *options, gboolean start_next)
{
  Verb *verb = g_new0 (Verb, 1);
  verb->run = run;
  verb->vm = banger_vm_ref (vm);
  verb->start_next = start_next;
  banger_vm_verb_async (vm, kind, options, banger_run_job (run), verb_done, verb);
}

/* The rest of the arguments, [path,] options, and the work. */
static gboolean
handle_verb (BangerCall *call, BangerVm *vm, const BangerVmVerbRow *row, GError **error)
{
  const char *path = NULL;
  VerbOptions values = { 0 };
  if (row->takes_path && !banger_call_read (call, error, "s", &path))
    return FALSE;
  if (!banger_options_read (call->message, row->options, &values, error))
    return FALSE;
  BangerVmVerbOptions options = { .timeout_usec = values.timeout_usec, .force = values.force, .path = path };
  if (!banger_vm_check (vm, row->verb, &options, error))
    return FALSE;
  BangerRunSpec spec = {
    .kind = row->kind,
    .cancelable = row->cancelable,
    .wait = values.wait,
    .object_kind = BANGER_OBJECT_VM,
    .object_id = banger_vm_record (vm)->id,
  };
  /* The path lives in the message, which the answer may free. */
  g_autoptr (sd_bus_message) keep = sd_bus_message_ref (call->message);
  BangerRun *run = banger_run_new (call, &spec, error);
  if (run == NULL)
    return FALSE;
  verb_begin (run, vm, row->verb, &options, FALSE);
  return TRUE;
}

static BangerVm *
find_by_name (BangerCall *call, GError **error)
{
  const char *name = NULL;
  if (!banger_call_read (call, error, "s", &name))
    return NULL;
  return banger_vms_find (banger_dispatch_manager (call->dispatch)->vms, name, error);
}

static BangerVm *
find_by_path (BangerCall *call)
{
  return banger_dispatch_object (call->dispatch, BANGER_OBJECT_VM, sd_bus_message_get_path (call->message));
}

gboolean
banger_vm_handle_by_name (BangerCall *call, gconstpointer data, GError **error)
{
  BangerVm *vm = find_by_name (call, error);
  return vm != NULL && handle_verb (call, vm, data, error);
}

static gboolean
handle_by_path (BangerCall *call, gconstpointer data, GError **error)
{
  return handle_verb (call, find_by_path (call), data, error);
}

gboolean
banger_vm_handle_get (BangerCall *call, gconstpointer data, GError **error)
{
  BangerVm *vm = find_by_name (call, error);
  if (vm == NULL)
    return FALSE;
  banger_call_reply_path (call, BANGER_OBJECT_VM, banger_vm_record (vm)->id);
  return TRUE;
}

typedef struct {
  char *image;
  char *kernel;
  guint32 vcpus;
  guint32 memory_mib;
  guint64 disk_bytes;
  gboolean nat;
  gboolean start;
  gboolean ephemeral;
  gboolean wait;
} CreateOptions;

static const BangerOption create_options[] = {
  { "image", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, image) },
  { "kernel", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, kernel) },
  { "vcpu", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (CreateOptions, vcpus) },
  { "memory-mib", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (CreateOptions, memory_mib) },
  { "disk-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (CreateOptions, disk_bytes) },
  { "nat", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, nat) },
  { "start", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, start) },
  { "ephemeral", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, ephemeral) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, wait) },
  { NULL },
};

static gboolean
create (BangerCall *call, const char *name, const CreateOptions *values, GError **error)
{
  BangerManager *manager = banger_dispatch_manager (call->dispatch);
  BangerVmSpec spec = {
    .image = values->image,
    .kernel = values->kernel,
    .vcpus = values->vcpus,
    .memory_mib = values->memory_mib,
    .disk_bytes = values->disk_bytes,
    .nat = values->nat,
    .ephemeral = values->ephemeral,
  };
  BangerVm *vm = banger_vms_add (manager->vms, name, &spec, error);
  if (vm == NULL)
    return FALSE;
  BangerRunSpec run_spec = {
    .kind = "create-vm",
    .cancelable = TRUE,
    .wait = values->wait,
    .object_kind = BANGER_OBJECT_VM,
    .object_id = banger_vm_record (vm)->id,
  };
  BangerRun *run = banger_run_new (call, &run_spec, error);
  if (run == NULL) {
    banger_vm_drop (vm);
    return FALSE;
  }
  static const BangerVmVerbOptions defaults = { 0 };
  verb_begin (run, vm, BANGER_VM_VERB_CREATE, &defaults, values->start);
  return TRUE;
}

gboolean
banger_vm_handle_create (BangerCall *call, gconstpointer data, GError **error)
{
  const char *name = NULL;
  CreateOptions values = { .nat = TRUE };
  gboolean ok = banger_call_read (call, error, "s", &name)
                && banger_options_read (call->message, create_options, &values, error)
                && create (call, name, &values, error);
  banger_options_clear (create_options, &values);
  return ok;
}

static gboolean
handle_open_console (BangerCall *call, gconstpointer data, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  BangerVm *vm = find_by_path (call);
  if (!banger_options_read (call->message, none, NULL, error))
    return FALSE;
  banger_autofd int fd = banger_vm_open_console (vm, error);
  if (fd < 0)
    return FALSE;
  banger_call_reply (call, "hs", fd, banger_vm_console_log (vm));
  return TRUE;
}

static const char *
state_word (int state)
{
  return banger_vm_state_to_string ((BangerVmState)state);
}

#define FIELD(name, type, field)                                                                                       \
  {                                                                                                                    \
    name, type, G_STRUCT_OFFSET (BangerVmRecord, field), NULL                                                          \
  }

static const BangerProperty record_properties[] = {
  FIELD ("Id", 's', id),
  FIELD ("Name", 's', name),
  { "State", 'w', G_STRUCT_OFFSET (BangerVmRecord, state), state_word },
  FIELD ("StateReason", 's', reason),
  FIELD ("Image", 's', image),
  FIELD ("ImageId", 's', image_id),
  FIELD ("Kernel", 's', kernel),
  FIELD ("KernelId", 's', kernel_id),
  FIELD ("VCPUs", 'u', vcpus),
  FIELD ("MemoryMiB", 'u', memory_mib),
  FIELD ("DiskBytes", 't', disk_bytes),
  FIELD ("Nat", 'b', nat),
  FIELD ("Address", 's', address),
  FIELD ("MacAddress", 's', mac),
  FIELD ("CreatedAt", 't', created_at),
  FIELD ("StartedAt", 't', started_at),
  FIELD ("Pid", 'u', pid),
  FIELD ("BootId", 's', boot_id),
  { NULL },
};

static int
get_record (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
            void *userdata, sd_bus_error *ret_error)
{
  BangerVm *vm = banger_dispatch_object (userdata, BANGER_OBJECT_VM, path);
  if (vm == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no VM %s", path);
  return banger_property_append (reply, record_properties, property, banger_vm_record (vm));
}

static int
get_file (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
          void *userdata, sd_bus_error *ret_error)
{
  static const struct {
    const char *property;
    const char *(*get) (BangerVm *vm);
  } rows[] = {
    { "IdentityFile", banger_vm_identity_file },
    { "KnownHostsFile", banger_vm_known_hosts_file },
    { "HostKeyAlias", banger_vm_host_key_alias },
    { "ConsoleLog", banger_vm_console_log },
  };
  BangerVm *vm = banger_dispatch_object (userdata, BANGER_OBJECT_VM, path);
  for (guint i = 0; vm != NULL && i < G_N_ELEMENTS (rows); i++)
    if (g_str_equal (rows[i].property, property))
      return sd_bus_message_append (reply, "s", rows[i].get (vm));
  return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no VM %s", path);
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define VERB(member)                                                                                                   \
  SD_BUS_METHOD_WITH_ARGS (member, SD_BUS_ARGS ("a{sv}", options), SD_BUS_RESULT ("o", job), banger_dispatch_call,     \
                           SD_BUS_VTABLE_UNPRIVILEGED)

const sd_bus_vtable banger_vm_vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_PROPERTY ("Id", "s", get_record, 0, CONST),
  SD_BUS_PROPERTY ("Name", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("State", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("StateReason", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("Image", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("ImageId", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("Kernel", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("KernelId", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("VCPUs", "u", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("MemoryMiB", "u", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("DiskBytes", "t", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("Nat", "b", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("Address", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("MacAddress", "s", get_record, 0, CONST),
  SD_BUS_PROPERTY ("CreatedAt", "t", get_record, 0, CONST),
  SD_BUS_PROPERTY ("StartedAt", "t", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("Pid", "u", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("BootId", "s", get_record, 0, CHANGES),
  SD_BUS_PROPERTY ("IdentityFile", "s", get_file, 0, CONST),
  SD_BUS_PROPERTY ("KnownHostsFile", "s", get_file, 0, CONST),
  SD_BUS_PROPERTY ("HostKeyAlias", "s", get_file, 0, CONST),
  SD_BUS_PROPERTY ("ConsoleLog", "s", get_file, 0, CONST),
  VERB ("Start"),
  VERB ("Stop"),
  VERB ("Kill"),
  VERB ("Restart"),
  VERB ("Delete"),
  SD_BUS_METHOD_WITH_ARGS ("ImportWorkspace", SD_BUS_ARGS ("s", path, "a{sv}", options), SD_BUS_RESULT ("o", job),
                           banger_dispatch_call, SD_BUS_VTABLE_UNPRIVILEGED),
  SD_BUS_METHOD_WITH_ARGS ("OpenConsole", SD_BUS_ARGS ("a{sv}", options), SD_BUS_RESULT ("h", log, "s", path),
                           banger_dispatch_call, SD_BUS_VTABLE_UNPRIVILEGED),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_vm_members[] = {
  { "Start", handle_by_path, &banger_vm_row_start },
  { "Stop", handle_by_path, &banger_vm_row_stop },
  { "Kill", handle_by_path, &banger_vm_row_kill },
  { "Restart", handle_by_path, &banger_vm_row_restart },
  { "Delete", handle_by_path, &banger_vm_row_delete },
  { "ImportWorkspace", handle_by_path, &banger_vm_row_import_workspace },
  { "OpenConsole", handle_open_console, NULL },
  { NULL },
};
