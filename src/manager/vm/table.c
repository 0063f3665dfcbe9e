/* The table of VMs: who is in it, and when the helper is asked again for what is left of them.
 * Never makes or loads one: vms.c does. */
#include "manager/vm/private.h"

#include <fcntl.h>
#include <string.h>

#include "common/fd.h"

#define RETRY_FIRST_SECONDS 1
#define RETRY_LAST_SECONDS 60

void
banger_vm_source_clear (BangerVmSource *source)
{
  g_clear_pointer (&source->id, g_free);
  g_clear_pointer (&source->name, g_free);
  banger_clear_fd (&source->dir_fd);
}

BangerVm *
banger_vms_find_id (BangerVms *vms, const char *id)
{
  return g_hash_table_lookup (vms->table, id);
}

BangerVm *
vm_find_name (BangerVms *vms, const char *name)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    /* While one is renamed it has both: it may yet keep the old one, or get it back. */
    if (g_str_equal (vm->record.name, name) || g_strcmp0 (vm->announced.name, name) == 0
        || (vm->op && g_strcmp0 (vm->op->old_name, name) == 0))
      return vm;
  return NULL;
}

BangerVm *
banger_vms_find (BangerVms *vms, const char *name, GError **error)
{
  BangerVm *vm = banger_vms_find_id (vms, name); /* first: an older record may have a name that looks like one */
  if (!vm)
    vm = vm_find_name (vms, name);
  if (vm)
    return vm;
  g_autofree char *shown = banger_log_escape (name, 64);
  banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "no VM is called '%s'", shown);
  return NULL;
}

static int
compare_age (gconstpointer a, gconstpointer b)
{
  const BangerVm *x = *(BangerVm *const *)a, *y = *(BangerVm *const *)b;
  if (x->record.created_at != y->record.created_at)
    return x->record.created_at < y->record.created_at ? -1 : 1;
  return strcmp (x->record.id, y->record.id);
}

GPtrArray *
banger_vms_list (BangerVms *vms)
{
  GPtrArray *list = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &vm))
    g_ptr_array_add (list, vm);
  g_ptr_array_sort (list, compare_age);
  return list;
}

int
vm_runtime_fd (BangerVms *vms, GError **error)
{
  if (vms->runtime_fd < 0)
    vms->runtime_fd = open (vms->runtime_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (vms->runtime_fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_HELPER_UNAVAILABLE, errno,
                            "cannot open %s, which the root helper makes when it starts", vms->runtime_path);
  return vms->runtime_fd;
}

void
vm_ask (VmOp *op, const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  banger_helper_call (op->vm->vms->helper, &op->job.caller, method, cancellable, callback, user_data,
                      op->vm->record.id);
}

/* Undoing what is not there is success. */
gboolean
vm_undo_finish (GAsyncResult *result, GError **error)
{
  g_autoptr (GError) own = NULL;
  if (banger_helper_finish (result, &own) || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE)
      || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_WRONG_STATE))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

/* A rest that could not be released, of a VM or of none, or a VM that may run and is not watched. */
gboolean
vm_something_left (BangerVms *vms)
{
  GHashTableIter iter;
  BangerVm *vm;
  if (vms->orphans || vms->late)
    return TRUE;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (vm->unreleased)
      return TRUE;
  return FALSE;
}

static gboolean
on_retry (gpointer data)
{
  BangerVms *vms = data;
  vms->retry_id = 0;
  if (!vms->reconciling && (!vms->reconciled || vm_something_left (vms)))
    vms->again (vms);
  return G_SOURCE_REMOVE;
}

void
vm_retry_later (BangerVms *vms)
{
  if (vms->retry_id)
    return;
  vms->retry_seconds = CLAMP (vms->retry_seconds * 2, RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS);
  vms->retry_id = g_timeout_add_seconds (vms->retry_seconds, on_retry, vms);
}
