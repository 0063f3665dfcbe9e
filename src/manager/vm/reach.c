/* What a VM may reach beside the outside, other VMs and ports of the host: in its record as ids, and the helper told while
 * it runs.
 * Never believed by the helper: it asks its leases whose they are. */
#include "manager/vm/private.h"

#include <string.h>

#include "common/validate.h"

/* As the helper has them, see docs/privileges.md. */
#define MAX_LINKS 32
#define MAX_PORTS 16

static void
take_all (GPtrArray *list, char **from)
{
  for (; from && *from; from++)
    g_ptr_array_add (list, g_strdup (*from));
}

/* NULL: none. */
static char **
end_list (GPtrArray *list)
{
  gboolean empty = list->len == 0;
  g_ptr_array_add (list, NULL);
  char **strv = (char **)g_ptr_array_free (list, FALSE);
  if (empty)
    g_clear_pointer (&strv, g_strfreev);
  return strv;
}

static gboolean
add_word (GPtrArray *list, const char *word, guint most, const char *what, GError **error)
{
  if (g_ptr_array_find_with_equal_func (list, word, g_str_equal, NULL))
    return TRUE;
  if (list->len >= most)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "there can be %u %s of a VM", most, what);
  g_ptr_array_add (list, g_strdup (word));
  return TRUE;
}

static gboolean
remove_word (GPtrArray *list, const char *word)
{
  guint at;
  if (!g_ptr_array_find_with_equal_func (list, word, g_str_equal, &at))
    return FALSE;
  g_free (g_ptr_array_remove_index (list, at));
  return TRUE;
}

static gboolean
change_link (BangerVms *vms, const char *id, GPtrArray *list, const char *name, gboolean add, GError **error)
{
  const BangerVm *other = banger_vms_find (vms, name, error);
  if (!other)
    return FALSE;
  if (g_str_equal (other->record.id, id))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "a VM is not linked to itself, as '%s' would be", name);
  if (add && other->record.state == BANGER_VM_DELETING)
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "'%s' is being deleted", name);
  if (add)
    return add_word (list, other->record.id, MAX_LINKS, "links", error);
  return remove_word (list, other->record.id)
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "there is no link to '%s'", name);
}

static gboolean
change_port (GPtrArray *list, const char *text, gboolean add, GError **error)
{
  guint64 port;
  g_autofree char *shown = banger_log_escape (text, 32);
  if (!banger_uint_parse (text, 1, 65535, &port, NULL))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "'%s' is no port of the host: a number from 1 to 65535",
                             shown);
  g_autofree char *plain = g_strdup_printf ("%u", (guint)port);
  if (add)
    return add_word (list, plain, MAX_PORTS, "open ports of the host", error);
  return remove_word (list, plain)
         || banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "port %s of the host is not open to it", plain);
}

gboolean
vm_reach_is_empty (const BangerVmReach *reach)
{
  const char *const *const lists[] = { reach->link, reach->unlink, reach->allow, reach->deny };
  for (guint i = 0; i < G_N_ELEMENTS (lists); i++)
    if (lists[i] && lists[i][0])
      return FALSE;
  return TRUE;
}

gboolean
vm_reach_lists (BangerVms *vms, const BangerVmRecord *record, const BangerVmReach *reach, char ***ret_links,
                char ***ret_ports, GError **error)
{
  g_autoptr (GPtrArray) links = g_ptr_array_new (), ports = g_ptr_array_new ();
  const struct {
    const char *const *words;
    gboolean links, add;
  } rows[] = { { reach->unlink, TRUE, FALSE },
               { reach->link, TRUE, TRUE },
               { reach->deny, FALSE, FALSE },
               { reach->allow, FALSE, TRUE } };
  gboolean ok = TRUE;
  take_all (links, record->links);
  take_all (ports, record->host_ports);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    for (const char *const *word = rows[i].words; ok && word && *word; word++)
      ok = rows[i].links ? change_link (vms, record->id, links, *word, rows[i].add, error)
                         : change_port (ports, *word, rows[i].add, error);
  char **new_links = end_list (g_steal_pointer (&links)), **new_ports = end_list (g_steal_pointer (&ports));
  if (!ok) {
    g_strfreev (new_links);
    g_strfreev (new_ports);
    return FALSE;
  }
  *ret_links = new_links;
  *ret_ports = new_ports;
  return TRUE;
}

/* One call after the other. */
typedef struct {
  GQueue left; /* BangerVm */
  char **sent; /* links of the first of them */
  guint again; /* how often it was told anew */
  char *op_id;
  gboolean interactive;
  GError *error; /* the first */
} Telling;

#define AGAIN_MOST 3

static void
unref_vm (gpointer data)
{
  banger_vm_unref (data);
}

static void
telling_free (gpointer data)
{
  Telling *telling = data;
  g_queue_clear_full (&telling->left, unref_vm);
  g_strfreev (telling->sent);
  g_free (telling->op_id);
  g_clear_error (&telling->error);
  g_free (telling);
}

/* A VMM has a tap. */
static gboolean
has_tap (const BangerVm *vm)
{
  return vm->vms && vm->pidfd >= 0;
}

static gboolean
is_linked (const BangerVm *vm, const char *id)
{
  return vm->record.links && g_strv_contains ((const char *const *)vm->record.links, id);
}

/* Those of its links that are there now. */
static char **
links_now (const BangerVm *vm)
{
  GPtrArray *list = g_ptr_array_new ();
  for (char **id = vm->record.links; id && *id; id++) {
    const BangerVm *other = banger_vms_find_id (vm->vms, *id);
    if (other && has_tap (other))
      g_ptr_array_add (list, g_strdup (*id));
  }
  g_ptr_array_add (list, NULL);
  return (char **)g_ptr_array_free (list, FALSE);
}

static void tell_next (GTask *task);

/* Calls for one VM may pass each other on their way: the last word is what is so now. */
static gboolean
is_old (const Telling *telling, const BangerVm *vm)
{
  g_auto (GStrv) now = has_tap (vm) ? links_now (vm) : NULL;
  return now && !g_strv_equal ((const char *const *)now, (const char *const *)telling->sent);
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  Telling *telling = g_task_get_task_data (task);
  BangerVm *vm = g_queue_peek_head (&telling->left);
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_helper_finish (result, &error), old = telling->again < AGAIN_MOST && is_old (telling, vm);
  telling->again = old ? telling->again + 1 : 0;
  if (!old) {
    if (!ok && has_tap (vm) && !telling->error)
      telling->error = g_error_copy (error);
    banger_vm_unref (g_queue_pop_head (&telling->left));
  }
  tell_next (task);
}

static void
tell_next (GTask *task)
{
  Telling *telling = g_task_get_task_data (task);
  BangerVm *vm = g_queue_peek_head (&telling->left);
  for (; vm && !has_tap (vm); vm = g_queue_peek_head (&telling->left))
    banger_vm_unref (g_queue_pop_head (&telling->left));
  if (!vm) {
    if (telling->error)
      g_task_return_error (task, g_steal_pointer (&telling->error));
    else
      g_task_return_boolean (task, TRUE);
    return;
  }
  const BangerCaller caller = { .op_id = telling->op_id, .interactive = telling->interactive };
  g_strfreev (telling->sent);
  telling->sent = links_now (vm);
  banger_helper_call (vm->vms->helper, &caller, "SetReach", g_task_get_cancellable (task), on_told, g_object_ref (task),
                      vm->record.id, telling->sent, vm->record.host_ports);
}

void
vm_reach_async (BangerVm *vm, const BangerCaller *caller, GCancellable *cancellable, GAsyncReadyCallback callback,
                gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  Telling *telling = g_new0 (Telling, 1);
  GHashTableIter iter;
  gpointer other;
  g_task_set_task_data (task, telling, telling_free);
  g_task_set_check_cancellable (task, FALSE);
  telling->op_id = caller ? g_strdup (caller->op_id) : NULL;
  telling->interactive = caller && caller->interactive;
  /* A list that has become empty is told, too: only who knows that there never was one says nothing. */
  if (vm->record.links || vm->record.host_ports || (vm->op && !vm_reach_is_empty (&vm->op->options.reach)))
    g_queue_push_tail (&telling->left, banger_vm_ref (vm));
  g_hash_table_iter_init (&iter, vm->vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &other))
    if (other != vm && has_tap (other) && is_linked (other, vm->record.id))
      g_queue_push_tail (&telling->left, banger_vm_ref (other));
  tell_next (task);
}

gboolean
vm_reach_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

static void
on_told_quietly (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (BangerVm) vm = data;
  g_autoptr (GError) error = NULL;
  if (!vm_reach_finish (result, &error))
    vm_log (vm, NULL, LOG_WARNING, "what it may reach is not as its record says: %s", error->message);
}

static void
tell (BangerVm *vm)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, on_told_quietly, banger_vm_ref (vm));
  Telling *telling = g_new0 (Telling, 1);
  g_task_set_task_data (task, telling, telling_free);
  g_queue_push_tail (&telling->left, banger_vm_ref (vm));
  tell_next (task);
}

void
vm_reach_again (BangerVms *vms)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm))
    if (has_tap (vm) && (vm->record.links || vm->record.host_ports))
      tell (vm);
}

void
vm_reach_drop (BangerVm *gone)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, gone->vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    if (vm == gone || !is_linked (vm, gone->record.id))
      continue;
    GPtrArray *links = g_ptr_array_new ();
    take_all (links, vm->record.links);
    remove_word (links, gone->record.id);
    g_strfreev (vm->record.links);
    vm->record.links = end_list (links);
    if (!vm->op) /* else it writes it */
      vm_write_record (vm);
    if (has_tap (vm))
      tell (vm);
  }
}

void
vm_reach_tidy (BangerVms *vms)
{
  GHashTableIter iter;
  BangerVm *vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&vm)) {
    GPtrArray *links = g_ptr_array_new ();
    for (char **id = vm->record.links; id && *id; id++)
      if (banger_vms_find_id (vms, *id))
        g_ptr_array_add (links, g_strdup (*id));
    g_strfreev (vm->record.links);
    vm->record.links = end_list (links);
    vm_record_copy (&vm->announced, &vm->record);
  }
}
