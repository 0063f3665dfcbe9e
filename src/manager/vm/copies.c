/* Several VMs at once that become copies of one: all of them are in the table, or none.
 * Never starts one. */
#include "manager/vm/private.h"

static char *
name_copy (const char *name, guint number, guint count)
{
  return count == 1 ? g_strdup (name) : g_strdup_printf ("%s-%u", name, number + 1);
}

void
banger_vms_drop_copies (GPtrArray *copies)
{
  for (guint i = 0; i < copies->len; i++) {
    BangerVm *vm = copies->pdata[i];
    if (!vm->gone && !vm->op && vm->record.state == BANGER_VM_CREATING)
      banger_vm_drop (vm);
  }
}

GPtrArray *
banger_vms_add_copies (BangerVms *vms, BangerVm *of, const char *name, guint count, GError **error)
{
  const BangerVmRecord *record = &of->record;
  const BangerVmSpec spec = {
    .image = record->image_id,
    .kernel = record->kernel_id,
    .vcpus = record->vcpus,
    .memory_mib = record->memory_mib,
    .disk_bytes = record->disk_bytes,
    .nat = record->nat,
    .init = *record->init ? record->init : NULL,
    .bare = TRUE,
    .fork_of = record,
  };
  if (count < 1 || count > BANGER_VM_MOST_COPIES) {
    banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%u copies: 1 to %d are made at a time", count,
                      BANGER_VM_MOST_COPIES);
    return NULL;
  }
  for (guint i = 0; i < count; i++) {
    g_autofree char *own = name_copy (name, i, count);
    if (!vm_check_name (vms, own, error))
      return NULL;
  }
  g_autoptr (GPtrArray) copies = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_vm_unref);
  for (guint i = 0; i < count; i++) {
    g_autofree char *own = name_copy (name, i, count);
    BangerVm *copy = banger_vms_add (vms, own, &spec, error);
    if (!copy) {
      banger_vms_drop_copies (copies);
      return NULL;
    }
    g_ptr_array_add (copies, banger_vm_ref (copy));
  }
  return g_steal_pointer (&copies);
}
