/* VMs that exist in memory alone and obey at once, in the place of vm.c.
 * Linked into the bangerd of the bus tests.
 * Never part of an installed program. A name that starts with "slow" starts only until it is cancelled. */
#include "manager/vm.h"

#include <fcntl.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/validate.h"

#define STEP_MSEC 20

struct BangerVms {
  const BangerVmSources *sources;
  const BangerVmObserver *observer;
  gpointer data;
  GHashTable *table;
};

struct BangerVm {
  guint refs;
  BangerVms *vms;
  BangerVmRecord record;
};

static const char *const words[] = { "creating", "stopped", "starting", "running", "stopping", "deleting" };
G_STATIC_ASSERT (G_N_ELEMENTS (words) == BANGER_N_VM_STATES);

const char *
banger_vm_state_to_string (BangerVmState state)
{
  return words[state];
}

int
banger_vm_state_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_VM_STATES; i++)
    if (g_strcmp0 (word, words[i]) == 0)
      return i;
  return -1;
}

void
banger_vm_source_clear (BangerVmSource *source)
{
  g_free (source->id);
  g_free (source->name);
  banger_clear_fd (&source->dir_fd);
}

BangerVm *
banger_vm_ref (BangerVm *vm)
{
  vm->refs++;
  return vm;
}

void
banger_vm_unref (BangerVm *vm)
{
  BangerVmRecord *r = &vm->record;
  char *strings[] = { r->id,        r->name,    r->reason, r->image, r->image_id, r->kernel,
                      r->kernel_id, r->address, r->mac,    r->root,  r->boot_id };
  if (--vm->refs > 0)
    return;
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (strings[i]);
  g_free (vm);
}

BangerVms *
banger_vms_new (const BangerInstall *install, BangerHelper *helper, const BangerVmSources *sources,
                const BangerVmObserver *observer, gpointer user_data, GError **error)
{
  BangerVms *vms = g_new0 (BangerVms, 1);
  vms->sources = sources;
  vms->observer = observer;
  vms->data = user_data;
  vms->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)banger_vm_unref);
  return vms;
}

void
banger_vms_free (BangerVms *vms)
{
  g_hash_table_unref (vms->table);
  g_free (vms);
}

void
banger_vms_reconcile (BangerVms *vms)
{
}

BangerVm *
banger_vms_find_id (BangerVms *vms, const char *id)
{
  return g_hash_table_lookup (vms->table, id);
}

BangerVm *
banger_vms_find (BangerVms *vms, const char *name, GError **error)
{
  GHashTableIter iter;
  gpointer value = NULL;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (g_str_equal (((BangerVm *)value)->record.name, name))
      return value;
  value = banger_vms_find_id (vms, name);
  if (value == NULL)
    banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "no VM \"%s\"", name);
  return value;
}

GPtrArray *
banger_vms_list (BangerVms *vms)
{
  GPtrArray *list = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value = NULL;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    g_ptr_array_add (list, value);
  return list;
}

const BangerVmRecord *
banger_vm_record (BangerVm *vm)
{
  return &vm->record;
}

const char *
banger_vm_identity_file (BangerVm *vm)
{
  return "/home/dev/.config/banger/ssh/id_ed25519";
}

const char *
banger_vm_known_hosts_file (BangerVm *vm)
{
  return "/home/dev/.config/banger/ssh/known_hosts";
}

const char *
banger_vm_host_key_alias (BangerVm *vm)
{
  return "banger-test";
}

const char *
banger_vm_console_log (BangerVm *vm)
{
  return "/dev/null";
}

int
banger_vm_open_console (BangerVm *vm, GError **error)
{
  return open ("/dev/null", O_RDONLY | O_CLOEXEC);
}

static gboolean
take_source (gboolean (*find) (const char *, BangerVmSource *, gpointer, GError **), const char *wanted, gpointer data,
             char **ret_name, char **ret_id, GError **error)
{
  BangerVmSource source = { .dir_fd = -1 };
  if (!find (wanted, &source, data, error))
    return FALSE;
  *ret_name = g_strdup (source.name);
  *ret_id = g_strdup (source.id);
  banger_vm_source_clear (&source);
  return TRUE;
}

BangerVm *
banger_vms_add (BangerVms *vms, const char *name, const BangerVmSpec *spec, GError **error)
{
  if (!banger_name_check (name, "VM name", error))
    return NULL;
  if (banger_vms_find (vms, name, NULL) != NULL) {
    banger_set_error (error, BANGER_ERROR_VM_EXISTS, "there is a VM \"%s\" already", name);
    return NULL;
  }
  g_autoptr (BangerVm) vm = g_new0 (BangerVm, 1);
  vm->refs = 1;
  vm->vms = vms;
  BangerVmRecord *record = &vm->record;
  if (!take_source (vms->sources->find_image, spec->image, vms->data, &record->image, &record->image_id, error)
      || !take_source (vms->sources->find_kernel, spec->kernel, vms->data, &record->kernel, &record->kernel_id, error))
    return NULL;
  record->id = banger_id_new ();
  record->name = g_strdup (name);
  record->mac = banger_vm_mac (record->id);
  record->vcpus = spec->vcpus != 0 ? spec->vcpus : 2;
  record->memory_mib = spec->memory_mib;
  record->disk_bytes = spec->disk_bytes;
  record->nat = spec->nat;
  record->ephemeral = spec->ephemeral;
  record->created_at = (guint64)g_get_real_time ();
  g_hash_table_insert (vms->table, record->id, banger_vm_ref (vm));
  vms->observer->added (record->id, vms->data);
  return vm;
}

void
banger_vm_drop (BangerVm *vm)
{
  g_autofree char *id = g_strdup (vm->record.id);
  BangerVms *vms = vm->vms;
  g_hash_table_remove (vms->table, id);
  vms->observer->removed (id, vms->data);
}

gboolean
banger_vm_check (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, GError **error)
{
  gboolean running = vm->record.state == BANGER_VM_RUNNING;
  if (verb == BANGER_VM_VERB_START && running)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM \"%s\" is running already", vm->record.name);
  if (verb == BANGER_VM_VERB_STOP && !running)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM \"%s\" is %s", vm->record.name,
                             words[vm->record.state]);
  if (verb == BANGER_VM_VERB_IMPORT_WORKSPACE && !g_path_is_absolute (options->path))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "path \"%s\" is not absolute", options->path);
  return TRUE;
}

static void
enter (BangerVm *vm, BangerVmState state)
{
  static const char *const changed[] = { "State", "StateReason", NULL };
  vm->record.state = (int)state;
  vm->vms->observer->changed (vm->record.id, changed, vm->vms->data);
}

typedef struct {
  GTask *task;
  BangerVm *vm;
  BangerVmVerb verb;
} Step;

static gboolean
step_over (gpointer data)
{
  Step *step = data;
  static const BangerVmState ends[BANGER_N_VM_VERBS] = { [BANGER_VM_VERB_CREATE] = BANGER_VM_STOPPED,
                                                         [BANGER_VM_VERB_START] = BANGER_VM_RUNNING,
                                                         [BANGER_VM_VERB_STOP] = BANGER_VM_STOPPED,
                                                         [BANGER_VM_VERB_KILL] = BANGER_VM_STOPPED,
                                                         [BANGER_VM_VERB_RESTART] = BANGER_VM_RUNNING,
                                                         [BANGER_VM_VERB_DELETE] = BANGER_VM_DELETING,
                                                         [BANGER_VM_VERB_IMPORT_WORKSPACE] = BANGER_VM_RUNNING };
  gboolean cancelled = g_cancellable_is_cancelled (g_task_get_cancellable (step->task));
  gboolean slow = step->verb == BANGER_VM_VERB_START && g_str_has_prefix (step->vm->record.name, "slow");
  if (slow && !cancelled)
    return G_SOURCE_CONTINUE;
  enter (step->vm, cancelled ? BANGER_VM_STOPPED : ends[step->verb]);
  if (step->verb == BANGER_VM_VERB_DELETE)
    banger_vm_drop (step->vm);
  if (cancelled)
    g_task_return_new_error (step->task, BANGER_ERROR, BANGER_ERROR_CANCELLED, "cannot start %s: cancelled",
                             step->vm->record.name);
  else
    g_task_return_boolean (step->task, TRUE);
  g_object_unref (step->task);
  banger_vm_unref (step->vm);
  g_free (step);
  return G_SOURCE_REMOVE;
}

void
banger_vm_verb_async (BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options, BangerJob *job,
                      GAsyncReadyCallback callback, gpointer user_data)
{
  Step *step = g_new0 (Step, 1);
  step->task = g_task_new (NULL, banger_job_cancellable (job), callback, user_data);
  g_task_set_check_cancellable (step->task, FALSE);
  step->vm = banger_vm_ref (vm);
  step->verb = verb;
  if (verb == BANGER_VM_VERB_START)
    enter (vm, BANGER_VM_STARTING);
  banger_job_set_stage (job, "pretending");
  banger_job_set_progress (job, 0.5);
  g_timeout_add (STEP_MSEC, step_over, step);
}

gboolean
banger_vm_verb_finish (BangerVm *vm, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

const char *const *
banger_vm_fault_stages (void)
{
  static const char *const none[] = { NULL };
  return none;
}
