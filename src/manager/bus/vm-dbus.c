/* VMs on the bus: properties, and verbs by name (Manager) and by object (VM), one function each.
 * Never changes a VM itself: vm.c does. */
#include "manager/bus/vm-dbus.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/bus/follow.h"
#include "manager/bus/job-dbus.h"
#include "manager/bus/ports-dbus.h"
#include "manager/bus/process-dbus.h"
#include "manager/bus/property.h"
#include "manager/bus/snapshot-dbus.h"
#include "manager/bus/stats-dbus.h"

typedef struct {
  gboolean wait;
  gboolean force;
  gboolean discard;
  guint64 timeout_usec;
  guint64 starts; /* G_MAXUINT64: not given */
  char *path;
  gboolean tracked_only, no_git;
  guint32 depth;
  char *branch, *from;
  char *name;
  char *signal;
  char *setup;
  guint32 vcpus;
  guint32 memory_mib;
  guint64 disk_bytes;
  int nat; /* gboolean; -1: not given */
  char **link, **unlink, **allow_host, **deny_host;
} VerbOptions;

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

static const BangerOption options_start[] = { { "discard", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, discard) },
                                              OPTION_WAIT,
                                              { NULL } };
static const BangerOption options_plain[] = { OPTION_WAIT, { NULL } };
static const BangerOption options_stop[] = { OPTION_TIMEOUT, OPTION_WAIT, { NULL } };
static const BangerOption options_import[] = {
  { "path-bytes", BANGER_OPTION_PATH, G_STRUCT_OFFSET (VerbOptions, path) },
  { "tracked-only", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, tracked_only) },
  { "branch", BANGER_OPTION_STRING, G_STRUCT_OFFSET (VerbOptions, branch) },
  { "from", BANGER_OPTION_STRING, G_STRUCT_OFFSET (VerbOptions, from) },
  { "depth", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (VerbOptions, depth) },
  { "no-git", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, no_git) },
  OPTION_WAIT,
  { NULL },
};
static const BangerOption options_kill[] = { { "signal", BANGER_OPTION_STRING, G_STRUCT_OFFSET (VerbOptions, signal) },
                                             OPTION_WAIT,
                                             { NULL } };
static const BangerOption options_delete[] = {
  OPTION_FORCE, { "starts", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (VerbOptions, starts) }, OPTION_WAIT, { NULL }
};

static const BangerOption options_set[] = {
  { "name", BANGER_OPTION_STRING, G_STRUCT_OFFSET (VerbOptions, name) },
  { "vcpu", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (VerbOptions, vcpus) },
  { "memory-mib", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (VerbOptions, memory_mib) },
  { "disk-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (VerbOptions, disk_bytes) },
  { "nat", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (VerbOptions, nat) },
  { "link", BANGER_OPTION_STRV, G_STRUCT_OFFSET (VerbOptions, link) },
  { "unlink", BANGER_OPTION_STRV, G_STRUCT_OFFSET (VerbOptions, unlink) },
  { "allow-host", BANGER_OPTION_STRV, G_STRUCT_OFFSET (VerbOptions, allow_host) },
  { "deny-host", BANGER_OPTION_STRV, G_STRUCT_OFFSET (VerbOptions, deny_host) },
  { "setup", BANGER_OPTION_STRING, G_STRUCT_OFFSET (VerbOptions, setup) },
  OPTION_WAIT,
  { NULL },
};

const BangerVmVerbRow banger_vm_verb_rows[BANGER_N_VM_VERBS] = {
  [BANGER_VM_VERB_START] = { "start-vm", TRUE, FALSE, options_start },
  [BANGER_VM_VERB_STOP] = { "stop-vm", FALSE, FALSE, options_stop },
  [BANGER_VM_VERB_KILL] = { "kill-vm", FALSE, FALSE, options_kill },
  [BANGER_VM_VERB_RESTART] = { "restart-vm", TRUE, FALSE, options_stop },
  [BANGER_VM_VERB_PAUSE] = { "pause-vm", FALSE, FALSE, options_plain },
  [BANGER_VM_VERB_RESUME] = { "resume-vm", FALSE, FALSE, options_plain },
  [BANGER_VM_VERB_SUSPEND] = { "suspend-vm", TRUE, FALSE, options_plain },
  [BANGER_VM_VERB_DELETE] = { "delete-vm", FALSE, FALSE, options_delete },
  [BANGER_VM_VERB_IMPORT_WORKSPACE] = { "import-workspace", TRUE, TRUE, options_import },
  [BANGER_VM_VERB_SET] = { "set-vm", FALSE, FALSE, options_set },
};

static gboolean
begin (BangerRequest *request, BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options,
       const BangerJobSpec *spec, gboolean wait, GError **error)
{
  BangerJobs *jobs = banger_objects_manager (request->objects)->jobs;
  BangerJob *job = banger_vm_job_new (vm, verb, options, jobs, spec, error);
  if (job)
    banger_request_begin (request, job, wait);
  return job != NULL;
}

/* The rest of the arguments, [path,] options, and the work. */
static gboolean
run_verb (BangerRequest *request, BangerVm *vm, const BangerVmVerbRow *row, const VerbOptions *values, GError **error)
{
  BangerVmVerbOptions options = {
    .timeout_usec = values->timeout_usec,
    .force = values->force,
    .discard = values->discard,
    .only_starts = values->starts != G_MAXUINT64,
    .starts = values->starts,
    .path = values->path,
    .wish = { values->tracked_only, values->branch, values->from, values->depth, values->no_git },
    .name = values->name,
    .signal = values->signal,
    .setup = values->setup,
    .vcpus = values->vcpus,
    .memory_mib = values->memory_mib,
    .disk_bytes = values->disk_bytes,
    .nat = values->nat < 0 ? BANGER_VM_NAT_KEEP
           : values->nat   ? BANGER_VM_NAT_ON
                           : BANGER_VM_NAT_OFF,
    .reach = { (const char *const *)values->link, (const char *const *)values->unlink,
               (const char *const *)values->allow_host, (const char *const *)values->deny_host },
  };
  BangerVmVerb verb = (BangerVmVerb)(row - banger_vm_verb_rows);
  const BangerJobSpec spec = banger_request_job_spec (request, row->kind, row->cancelable);
  return begin (request, vm, verb, &options, &spec, values->wait, error);
}

/* The path is an argument or, if that is empty, an option. */
static gboolean
take_path (const char *path, VerbOptions *values, GError **error)
{
  if (*path != '\0' && values->path)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "give a path or 'path-bytes', not both");
  if (!values->path)
    values->path = g_strdup (path);
  return TRUE;
}

static gboolean
handle_verb (BangerRequest *request, BangerVm *vm, const BangerVmVerbRow *row, GError **error)
{
  const char *path = NULL;
  VerbOptions values = { .nat = -1, .starts = G_MAXUINT64, .depth = BANGER_WORKSPACE_DEPTH_UNSAID };
  gboolean ok = (!row->takes_path || banger_request_read (request, error, "s", &path))
                && banger_options_read (request->message, row->options, &values, error)
                && (!row->takes_path || take_path (path, &values, error))
                && run_verb (request, vm, row, &values, error);
  if (row->takes_path)
    g_clear_pointer (&values.path, g_free);
  banger_options_clear (row->options, &values);
  return ok;
}

static BangerVm *
find_by_name (BangerRequest *request, GError **error)
{
  const char *name = NULL;
  if (!banger_request_read (request, error, "s", &name))
    return NULL;
  return banger_vms_find (banger_objects_manager (request->objects)->vms, name, error);
}

gboolean
banger_vm_handle_by_name (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerVm *vm = find_by_name (request, error);
  return vm && handle_verb (request, vm, data, error);
}

static gboolean
handle_by_path (BangerRequest *request, gconstpointer data, GError **error)
{
  return handle_verb (request, banger_request_object (request, BANGER_OBJECT_VM), data, error);
}

gboolean
banger_vm_handle_get (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerVm *vm = find_by_name (request, error);
  if (!vm)
    return FALSE;
  banger_request_reply_path (request, BANGER_OBJECT_VM, banger_vm_record (vm)->id);
  return TRUE;
}

typedef struct {
  char *image;
  char *kernel;
  char *init;
  char **publish;
  char **link, **allow_host;
  char *setup;
  guint32 vcpus;
  guint32 memory_mib;
  guint64 disk_bytes;
  gboolean nat;
  gboolean no_publish;
  gboolean start;
  gboolean ephemeral;
  gboolean follow;
  gboolean wait;
} CreateOptions;

static const BangerOption create_options[] = {
  { "image", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, image) },
  { "kernel", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, kernel) },
  { "init", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, init) },
  { "publish", BANGER_OPTION_STRV, G_STRUCT_OFFSET (CreateOptions, publish) },
  { "no-publish", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, no_publish) },
  { "link", BANGER_OPTION_STRV, G_STRUCT_OFFSET (CreateOptions, link) },
  { "allow-host", BANGER_OPTION_STRV, G_STRUCT_OFFSET (CreateOptions, allow_host) },
  { "setup", BANGER_OPTION_STRING, G_STRUCT_OFFSET (CreateOptions, setup) },
  { "vcpu", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (CreateOptions, vcpus) },
  { "memory-mib", BANGER_OPTION_UINT32, G_STRUCT_OFFSET (CreateOptions, memory_mib) },
  { "disk-bytes", BANGER_OPTION_UINT64, G_STRUCT_OFFSET (CreateOptions, disk_bytes) },
  { "nat", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, nat) },
  { "start", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, start) },
  { "ephemeral", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, ephemeral) },
  { "follow", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, follow) },
  { "wait", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (CreateOptions, wait) },
  { NULL },
};

static gboolean
create (BangerRequest *request, const char *name, const CreateOptions *values, GError **error)
{
  BangerManager *manager = banger_objects_manager (request->objects);
  if (values->follow && !values->ephemeral)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "option 'follow' is for VMs that go by themselves: it needs 'ephemeral'");
  g_autofree char *client = values->follow ? banger_follow_client (banger_objects_bus (request->objects),
                                                                   sd_bus_message_get_sender (request->message))
                                           : NULL;
  BangerVmSpec spec = {
    .image = values->image,
    .kernel = values->kernel,
    .init = values->init,
    .publish = (const char *const *)values->publish,
    .reach = { .link = (const char *const *)values->link, .allow = (const char *const *)values->allow_host },
    .setup = values->setup,
    .bare = values->no_publish,
    .vcpus = values->vcpus,
    .memory_mib = values->memory_mib,
    .disk_bytes = values->disk_bytes,
    .nat = values->nat,
    .ephemeral = values->ephemeral,
    .client = client,
  };
  BangerVm *vm = banger_vms_add (manager->vms, name, &spec, error);
  if (!vm)
    return FALSE;
  const BangerVmVerbOptions options = { .start = values->start };
  const BangerJobSpec job_spec = banger_request_job_spec (request, "create-vm", TRUE);
  gboolean ok = begin (request, vm, BANGER_VM_VERB_CREATE, &options, &job_spec, values->wait, error);
  if (!ok)
    banger_vm_drop (vm);
  return ok;
}

gboolean
banger_vm_handle_create (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  CreateOptions values = { .nat = banger_objects_manager (request->objects)->config->nat };
  gboolean ok = banger_request_read (request, error, "s", &name)
                && banger_options_read (request->message, create_options, &values, error)
                && create (request, name, &values, error);
  banger_options_clear (create_options, &values);
  return ok;
}

typedef struct {
  BangerRequest *request;
  char *full;
  gboolean added; /* else it was removed */
  GError *error;  /* why it is as it was */
} Forwarding;

static void
on_forward_recorded (BangerVm *vm, const GError *error, gpointer data)
{
  g_autofree Forwarding *forwarding = data;
  if (error && !forwarding->error && !g_error_matches (error, BANGER_ERROR, BANGER_ERROR_TIMEOUT)) {
    forwarding->error = g_error_copy (error);
    banger_vm_forward_undo (vm, forwarding->full, forwarding->added);
    banger_vm_when_recorded (vm, on_forward_recorded, g_steal_pointer (&forwarding));
    return;
  }
  g_autoptr (GError) first = forwarding->error;
  g_autofree char *full = forwarding->full;
  if (first || error)
    banger_request_fail (forwarding->request, first ? first : error);
  else if (forwarding->added)
    banger_request_reply (forwarding->request, "s", full);
  else
    banger_request_reply (forwarding->request, "");
}

/* @remove: (nullable): %NULL: it is added. */
static gboolean
forward (BangerRequest *request, BangerVm *vm, gconstpointer remove, GError **error)
{
  const char *text = NULL;
  if (!vm || !banger_request_read (request, error, "s", &text) || !banger_request_no_options (request, error))
    return FALSE;
  g_autofree char *full = remove ? banger_vm_forward_remove (vm, text, error) : banger_vm_forward_add (vm, text, error);
  if (!full)
    return FALSE;
  Forwarding *forwarding = g_new0 (Forwarding, 1);
  forwarding->request = request;
  forwarding->full = g_steal_pointer (&full);
  forwarding->added = !remove;
  banger_vm_when_recorded (vm, on_forward_recorded, forwarding);
  return TRUE;
}

static gboolean
handle_forward (BangerRequest *request, gconstpointer remove, GError **error)
{
  return forward (request, banger_request_object (request, BANGER_OBJECT_VM), remove, error);
}

gboolean
banger_vm_handle_forward_by_name (BangerRequest *request, gconstpointer remove, GError **error)
{
  return forward (request, find_by_name (request, error), remove, error);
}

typedef struct {
  BangerRequest *request;
  BangerVm *vm;
} Opening;

static void
on_log_opened (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autofree Opening *opening = data;
  g_autofree char *path = NULL;
  g_autoptr (BangerVm) vm = opening->vm;
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = banger_vm_open_log_finish (result, &path, &error);
  if (fd < 0)
    banger_request_fail (opening->request, error);
  else
    banger_request_reply (opening->request, "hs", fd, path);
}

typedef struct {
  gboolean setup;
} ConsoleOptions;

static const BangerOption console_options[] = {
  { "setup", BANGER_OPTION_BOOL, G_STRUCT_OFFSET (ConsoleOptions, setup) },
  { NULL },
};

static gboolean
handle_open_console (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerVm *vm = banger_request_object (request, BANGER_OBJECT_VM);
  ConsoleOptions values = { 0 };
  if (!banger_options_read (request->message, console_options, &values, error))
    return FALSE;
  Opening *opening = g_new0 (Opening, 1);
  opening->request = request;
  opening->vm = banger_vm_ref (vm);
  banger_vm_open_log_async (vm, values.setup, on_log_opened, opening);
  return TRUE;
}

static int
append_state (sd_bus_message *reply, BangerObjects *objects, gpointer vm)
{
  const char *word = banger_vm_state_to_string ((BangerVmState)banger_vm_record (vm)->state);
  return sd_bus_message_append (reply, "s", banger_vm_known (vm) ? word : "unknown");
}

static int
append_reason (sd_bus_message *reply, BangerObjects *objects, gpointer vm)
{
  const char *unknown = "the root helper has not said yet whether it runs";
  return banger_property_append_text (reply, banger_vm_known (vm) ? banger_vm_record (vm)->reason : unknown);
}

static int
append_image_command (sd_bus_message *reply, BangerObjects *objects, gpointer vm)
{
  const BangerImage *image = banger_manager_image_of (banger_objects_manager (objects), vm);
  g_auto (GStrv) words = image ? banger_image_command (image) : NULL;
  return sd_bus_message_append_strv (reply, words);
}

#define APPEND_TEXT(function, text) BANGER_APPEND_TEXT (function, BangerVm, vm, text)
APPEND_TEXT (append_id, banger_vm_record (vm)->id)
APPEND_TEXT (append_identity_file, banger_vm_identity_file (vm))
APPEND_TEXT (append_known_hosts_file, banger_vm_known_hosts_file (vm))
APPEND_TEXT (append_host_key_alias, banger_vm_host_key_alias (vm))
APPEND_TEXT (append_console_log, banger_vm_console_log (vm))

const BangerProperty banger_vm_properties[] = {
  { "Id", "s", FALSE, append_id },
  { "State", "s", TRUE, append_state },
  { "StateReason", "s", TRUE, append_reason },
  { "ImageCommand", "as", FALSE, append_image_command },
  { "IdentityFile", "s", FALSE, append_identity_file },
  { "KnownHostsFile", "s", FALSE, append_known_hosts_file },
  { "HostKeyAlias", "s", FALSE, append_host_key_alias },
  { "ConsoleLog", "s", FALSE, append_console_log },
  { NULL },
};

#define MEMBER(name, verb)                                                                                             \
  {                                                                                                                    \
    name, "a{sv}", "o", "options\0job\0", handle_by_path, &banger_vm_verb_rows[BANGER_VM_VERB_##verb]                  \
  }

const BangerMember banger_vm_members[] = {
  BANGER_VM_VERBS (MEMBER),
  { "ImportWorkspace", "sa{sv}", "o", "path\0options\0job\0", handle_by_path,
    &banger_vm_verb_rows[BANGER_VM_VERB_IMPORT_WORKSPACE] },
  { "Exec", "asa{sv}", "hhho", "arguments\0options\0stdin\0stdout\0stderr\0process\0", banger_process_handle_exec,
    NULL },
  { "Capture", "asa{sv}", "ayayi", "arguments\0options\0stdout\0stderr\0status\0", banger_process_handle_capture,
    NULL },
  { "AddForward", "sa{sv}", "s", "forward\0options\0added\0", handle_forward, NULL },
  { "RemoveForward", "sa{sv}", "", "forward\0options\0", handle_forward, "" },
  { "ListPorts", "a{sv}", "a(ssqus)", "options\0ports\0", banger_ports_handle_list, NULL },
  { "GetStats", "a{sv}", "a{sv}", "options\0stats\0", banger_stats_handle_get, NULL },
  { "Snapshot", "sa{sv}", "o", "name\0options\0job\0", banger_snapshot_handle_create, NULL },
  { "Fork", "sa{sv}", "o", "name\0options\0job\0", banger_snapshot_handle_fork, NULL },
  { "OpenConsole", "a{sv}", "hs", "options\0log\0path\0", handle_open_console, NULL },
  { NULL },
};
