/* Forwarded ports that are asked for while there is a VM: into its record, and out of it.
 * Never changes one while a verb is under way. */
#include "manager/vm/private.h"

static gboolean
check_change (BangerVm *vm, GError **error)
{
  const char *name = vm->record.name;
  guint32 fits = VM_BIT (BANGER_VM_STOPPED) | VM_BIT (BANGER_VM_RUNNING) | VM_BIT (BANGER_VM_PAUSED)
                 | VM_BIT (BANGER_VM_SUSPENDED);
  if (!banger_vm_check_free (vm, error))
    return FALSE;
  if (vm->op && vm->op->row)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: wait for it", name, vm->op->row->doing);
  if (!(VM_BIT (vm->record.state) & fits) || vm->unknown)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is %s: its ports cannot be changed now", name,
                             vm->unknown ? "not known yet"
                                         : banger_vm_state_to_string ((BangerVmState)vm->record.state));
  return TRUE;
}

static void
set_recorded (BangerVm *vm, GPtrArray *list)
{
  g_ptr_array_add (list, NULL);
  g_strfreev (vm->record.forwards);
  vm->record.forwards = (char **)g_ptr_array_free (list, FALSE);
  vm_write_record (vm);
}

static GPtrArray *
recorded (BangerVm *vm)
{
  GPtrArray *list = g_ptr_array_new ();
  for (char **text = vm->record.forwards; text && *text; text++)
    g_ptr_array_add (list, g_strdup (*text));
  return list;
}

void
banger_vm_forward_undo (BangerVm *vm, const char *full, gboolean added)
{
  g_autoptr (GPtrArray) list = recorded (vm);
  guint at;
  gboolean there = g_ptr_array_find_with_equal_func (list, full, g_str_equal, &at);
  if (!vm->vms || vm->gone || there != added)
    return;
  if (added) {
    g_free (g_ptr_array_remove_index (list, at));
    vm_forward_leave (vm, full);
  } else {
    g_autoptr (GError) error = NULL;
    g_ptr_array_add (list, g_strdup (full));
    if (vm->pidfd >= 0 && !vm_forward_listen (vm, full, &error))
      vm_log (vm, NULL, LOG_WARNING, "%s is not forwarded until its next start: %s", full, error->message);
  }
  set_recorded (vm, g_steal_pointer (&list));
}

char *
banger_vm_forward_add (BangerVm *vm, const char *text, GError **error)
{
  g_autofree char *full = check_change (vm, error) ? vm_forward_format (text, error) : NULL;
  if (!full)
    return NULL;
  guint n = vm->record.forwards ? g_strv_length (vm->record.forwards) : 0;
  gboolean runs = vm->record.state == BANGER_VM_RUNNING || vm->record.state == BANGER_VM_PAUSED;
  if (n >= VM_MAX_FORWARDS) {
    banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s has %d forwarded ports, more there cannot be",
                      vm->record.name, VM_MAX_FORWARDS);
    return NULL;
  }
  if (n > 0 && g_strv_contains ((const char *const *)vm->record.forwards, full)) {
    banger_set_error (error, BANGER_ERROR_IN_USE, "%s has %s already", vm->record.name, full);
    return NULL;
  }
  const char *const one[] = { full, NULL };
  g_auto (GStrv) checked = runs ? NULL : vm_forwards_check (one, error);
  if (runs ? !vm_forward_listen (vm, full, error) : !checked)
    return NULL;
  GPtrArray *list = recorded (vm);
  g_ptr_array_add (list, g_strdup (full));
  set_recorded (vm, list);
  return g_steal_pointer (&full);
}

char *
banger_vm_forward_remove (BangerVm *vm, const char *text, GError **error)
{
  g_autofree char *full = check_change (vm, error) ? vm_forward_format (text, error) : NULL;
  if (!full)
    return NULL;
  g_autoptr (GPtrArray) list = recorded (vm);
  g_ptr_array_set_free_func (list, g_free);
  guint at;
  if (!g_ptr_array_find_with_equal_func (list, full, g_str_equal, &at)) {
    banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s has no forwarded port %s", vm->record.name, full);
    return NULL;
  }
  g_ptr_array_remove_index (list, at);
  vm_forward_leave (vm, full);
  set_recorded (vm, g_steal_pointer (&list));
  return g_steal_pointer (&full);
}
