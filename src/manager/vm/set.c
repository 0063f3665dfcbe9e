/* What a VM is, changed: its name at any time, virtual CPUs, memory, work disk and its way out while it does not run.
 * Never makes a disk smaller, and never larger than its record says: that is written first, and a start makes up for what a
 * crash left between the two. */
#include "manager/vm/private.h"

#include "common/guest-protocol.h"
#include "common/size.h"

/* What was before, of what may change. */
struct VmShape {
  char *name;
  guint32 vcpus, memory_mib;
  guint64 disk_bytes;
  gboolean nat;
  char **links, **host_ports;
  char *setup;
};

void
vm_shape_free (VmShape *shape)
{
  g_free (shape->name);
  g_strfreev (shape->links);
  g_strfreev (shape->host_ports);
  g_free (shape->setup);
  g_free (shape);
}

/* Nothing of @shape that is 0 or %NULL. */
static void
apply (BangerVmRecord *record, const VmShape *shape)
{
  if (shape->name)
    vm_set_string (&record->name, shape->name);
  if (shape->vcpus)
    record->vcpus = shape->vcpus;
  if (shape->memory_mib)
    record->memory_mib = shape->memory_mib;
  if (shape->disk_bytes)
    record->disk_bytes = shape->disk_bytes;
  if (shape->setup)
    vm_set_string (&record->setup_script, shape->setup);
  record->nat = shape->nat;
  g_strfreev (record->links);
  g_strfreev (record->host_ports);
  record->links = g_strdupv (shape->links);
  record->host_ports = g_strdupv (shape->host_ports);
}

static VmShape *
shape_of (const BangerVmRecord *record)
{
  VmShape *shape = g_new0 (VmShape, 1);
  *shape = (VmShape){ g_strdup (record->name),
                      record->vcpus,
                      record->memory_mib,
                      record->disk_bytes,
                      record->nat,
                      g_strdupv (record->links),
                      g_strdupv (record->host_ports),
                      g_strdup (record->setup_script) };
  return shape;
}

/* An image without a seed has no work disk. */
static gboolean
find_seed (const BangerVm *vm, guint64 *ret_bytes, GError **error)
{
  BangerVmSource image = { .dir_fd = -1 };
  if (!vm->vms->sources->find_image (vm->record.image_id, &image, vm->vms->user_data, error))
    return FALSE;
  *ret_bytes = image.seed_bytes;
  banger_vm_source_clear (&image);
  return *ret_bytes > 0
         || banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                              "%s has no work disk: its image %s has /root on the root disk", vm->record.name,
                              vm->record.image);
}

static gboolean
check_disk (const BangerVm *vm, guint64 bytes, guint64 *ret_bytes, GError **error)
{
  const BangerVmRecord *record = &vm->record;
  guint64 seed_bytes;
  if (bytes < record->disk_bytes) {
    g_autofree char *asked = banger_size_format (bytes), *is = banger_size_format (record->disk_bytes);
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE,
                             "%s of work disk: %s has %s, and a disk only grows; make a new VM for a smaller one",
                             asked, record->name, is);
  }
  if (!find_seed (vm, &seed_bytes, error))
    return FALSE;
  *ret_bytes = vm_check_disk (bytes, seed_bytes, error);
  return *ret_bytes > 0;
}

/* What a guest that runs or is on the disk was given is not taken back. */
static gboolean
check_state (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  const BangerVmRecord *record = &vm->record;
  const struct {
    gboolean asked;
    const char *what;
    guint32 states; /* in which it may change, beside stopped */
  } rows[] = {
    { options->vcpus > 0, "virtual CPUs", 0 },
    { options->memory_mib > 0, "memory", 0 },
    { options->disk_bytes > 0, "work disk", 0 },
    { options->nat != BANGER_VM_NAT_KEEP, "way out", VM_BIT (BANGER_VM_SUSPENDED) },
  };
  if (record->state == BANGER_VM_STOPPED)
    return TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    if (rows[i].asked && !(rows[i].states & VM_BIT (record->state)))
      return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: its %s can be changed when it is stopped%s",
                               record->name, banger_vm_state_to_string ((BangerVmState)record->state), rows[i].what,
                               record->state == BANGER_VM_SUSPENDED
                                   ? ", as its guest is to go on with what it has: start it, and stop it"
                                   : "");
  return TRUE;
}

/* One that has run has done what it did. */
static gboolean
check_setup (const BangerVmRecord *record, const char *text, GError **error)
{
  gboolean due = g_str_equal (record->setup, BANGER_SETUP_PENDING) || g_str_equal (record->setup, BANGER_SETUP_FAILED);
  if (*record->setup == '\0')
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "%s was made without a script: run this one with `banger vm exec`", record->name);
  return vm_check_setup (text, error)
         && (due
             || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                                  "%s is set up: a script is replaced as long as it has not run well; run another one "
                                  "with `banger vm exec`",
                                  record->name));
}

/* Returns: (transfer full): what it is to be; %NULL with error. */
static VmShape *
check (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  const BangerVmRecord *record = &vm->record;
  gboolean renamed = options->name && !g_str_equal (options->name, record->name);
  VmShape shape = { .nat = options->nat == BANGER_VM_NAT_KEEP ? record->nat : options->nat == BANGER_VM_NAT_ON };
  if (!options->name && !options->vcpus && !options->memory_mib && !options->disk_bytes
      && options->nat == BANGER_VM_NAT_KEEP && !options->setup && vm_reach_is_empty (&options->reach))
    banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                      "nothing is to change: give 'name', 'vcpu', 'memory-mib', 'disk-bytes', 'nat', 'link', 'unlink', "
                      "'allow-host', 'deny-host' or 'setup'");
  else if ((!renamed || vm_check_name (vm->vms, options->name, error))
           && (!options->vcpus || vm_check_vcpus (options->vcpus, error))
           && (!options->setup || check_setup (record, options->setup, error))
           && (!options->memory_mib || vm_check_memory (vm->vms->install, options->memory_mib, error))
           && (!options->disk_bytes || check_disk (vm, options->disk_bytes, &shape.disk_bytes, error))
           && vm_reach_lists (vm->vms, record, &options->reach, &shape.links, &shape.host_ports, error))
  {
    shape.name = renamed ? g_strdup (options->name) : NULL;
    shape.vcpus = options->vcpus;
    shape.memory_mib = options->memory_mib;
    shape.setup = g_strdup (options->setup);
    return g_memdup2 (&shape, sizeof shape);
  }
  return NULL;
}

gboolean
vm_check_set (const BangerVm *vm, const BangerVmVerbOptions *options, GError **error)
{
  if (!vm->unknown && !check_state (vm, options, error)) /* else its state is of yesterday: looked at when it begins */
    return FALSE;
  VmShape *shape = check (vm, options, error);
  gboolean ok = shape != NULL;
  g_clear_pointer (&shape, vm_shape_free);
  return ok;
}

static void
record (VmOp *op)
{
  BangerVm *vm = op->vm;
  GError *error = NULL;
  VmShape *shape = check_state (vm, &op->options, &error) ? check (vm, &op->options, &error) : NULL;
  if (!shape) {
    vm_go_on (op, error);
    return;
  }
  op->before = shape_of (&vm->record);
  op->old_name = op->before->name;
  if (shape->name) {
    vm_log (vm, op, LOG_INFO, "is called %s from here on", shape->name);
    if (vm->record.state != BANGER_VM_STOPPED)
      banger_job_warn (&op->job, "the guest itself has its old name until it is booted again");
  }
  apply (&vm->record, shape);
  vm_shape_free (shape);
  vm_set_state_then (op, (BangerVmState)vm->record.state, vm->record.reason, vm_go_on);
}

/* A VM that never ran has no disk yet. */
static gboolean
needs_not_grow (VmOp *op)
{
  return op->vm->record.disk_bytes == op->before->disk_bytes || *op->vm->record.root == '\0';
}

static void
on_grown (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_files_finish (result, &error);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = banger_error_cancelled ();
  }
  vm_go_on (data, error);
}

static void
grow (VmOp *op)
{
  vm_files_grow_async (op->vm, BANGER_FILE_VM_WORK, op->vm->record.disk_bytes, op->job.cancellable, on_grown, op);
}

/* A guest that does not run is told of when it does. */
static gboolean
reaches_as_before (VmOp *op)
{
  return op->vm->pidfd < 0 || vm_reach_is_empty (&op->options.reach);
}

static void
on_reached (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  vm_reach_finish (result, &error);
  vm_go_on (data, error);
}

static void
reach (VmOp *op)
{
  vm_reach_async (op->vm, &op->job.caller, op->job.cancellable, on_reached, op);
}

/* What was done is done. */
static void
on_names_told (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autoptr (GError) error = NULL;
  if (!vm_names_finish (result, &error) && !g_error_matches (error, BANGER_ERROR, BANGER_ERROR_CANCELLED)) {
    g_autofree char *text = g_strdup_printf ("its guest does not know it by name yet: %s", error->message);
    banger_job_warn (&op->job, text);
  }
  vm_go_on (op, NULL);
}

static void
tell_names (VmOp *op)
{
  vm_names_async (op->vm, on_names_told, op);
}

static void
leave_names (VmOp *op)
{
  vm_names_leave (op->vm);
}

static gboolean
is_unchanged (VmOp *op)
{
  return !op->before;
}

/* Behind what the disk may still take of the other. */
static void
put_back (VmOp *op)
{
  op->disk_late = g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  apply (&op->vm->record, op->before);
  vm_set_state_then (op, (BangerVmState)op->vm->record.state, op->vm->record.reason, vm_go_on);
}

const VmStep vm_part_set[] = {
  { "record", record },
  { "grow", grow, .skip = needs_not_grow },
  { "reach", reach, .skip = reaches_as_before },
  { "names", tell_names, .skip = reaches_as_before, .on_interrupt = leave_names },
  { "put-back", put_back, .when = VM_IF_BAD, .skip = is_unchanged },
  { NULL },
};
