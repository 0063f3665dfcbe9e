/* Whom a guest knows by a name below "vm": itself, the VMs that its links let it reach while they run, and this host where a
 * port of it is open. Told again whenever that changes.
 * Never names a VM that this one may not reach, and believes nothing of the guest but that it has answered. */
#include "common/guest-protocol.h"
#include "manager/core/later.h"
#include "manager/vm/private.h"

#define ANSWER_SECONDS 20
#define WAIT_SECONDS 5u
#define FIRST_SECONDS 1 /* until it is told again, after it did not take it */
#define LAST_SECONDS 600

struct VmNames {
  BangerVm *vm; /* NULL: gone */
  char *told;   /* what its guest has answered to; NULL: nothing */
  char *sent;   /* while an answer is waited for */
  guint retry_id, seconds;
  GPtrArray *waits; /* Wait */
};

typedef struct {
  VmNames *names;
  GTask *task;
  guint late_id;
} Wait;

static gboolean
runs (BangerVm *vm)
{
  return vm->announced.state == BANGER_VM_RUNNING && !vm->announced_unknown && vm->pidfd >= 0;
}

static void
add_name (GString *text, const char *address, const char *name)
{
  g_string_append_printf (text, "%s%s=%s", text->len > 0 ? "," : "", address, name);
}

char *
vm_names_text (BangerVm *vm)
{
  GString *text = g_string_new (NULL);
  gboolean host = vm->record.host_ports != NULL;
  if (!host || !g_str_equal (vm->record.name, BANGER_GUEST_HOST_NAME))
    add_name (text, vm->record.address, vm->record.name);
  for (char **id = vm->record.links; id && *id; id++) {
    BangerVm *other = g_hash_table_lookup (vm->vms->table, *id);
    if (other && other != vm && runs (other) && (!host || !g_str_equal (other->announced.name, BANGER_GUEST_HOST_NAME)))
      add_name (text, other->announced.address, other->announced.name);
  }
  if (host) {
    g_autofree char *gateway = banger_address_format (vm->vms->subnet.gateway);
    add_name (text, gateway, BANGER_GUEST_HOST_NAME);
  }
  return g_string_free (text, FALSE);
}

static void
wait_free (gpointer data)
{
  Wait *wait = data;
  g_clear_handle_id (&wait->late_id, g_source_remove);
  g_object_unref (wait->task);
  g_free (wait);
}

static void
clear (gpointer data)
{
  VmNames *names = data;
  g_free (names->told);
  g_free (names->sent);
  g_ptr_array_unref (names->waits);
}

static void
unref (VmNames *names)
{
  g_rc_box_release_full (names, clear);
}

/* @error: (nullable): why it is not told. */
static void
answer_waits (VmNames *names, const GError *error)
{
  for (guint i = 0; i < names->waits->len; i++)
    banger_task_return_later (g_object_ref (((Wait *)names->waits->pdata[i])->task),
                              error ? g_error_copy (error) : NULL);
  g_ptr_array_set_size (names->waits, 0);
}

void
vm_names_drop (VmNames *names)
{
  g_autoptr (GError) error = banger_error_cancelled ();
  g_clear_handle_id (&names->retry_id, g_source_remove);
  answer_waits (names, error);
  names->vm = NULL;
  unref (names);
}

static void tell (VmNames *names);

static gboolean
on_again (gpointer data)
{
  VmNames *names = data;
  names->retry_id = 0;
  tell (names);
  return G_SOURCE_REMOVE;
}

static void
tell_later (VmNames *names)
{
  names->seconds = CLAMP (names->seconds * 2, FIRST_SECONDS, LAST_SECONDS);
  names->retry_id = g_timeout_add_seconds (names->seconds, on_again, names);
}

static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  VmNames *names = data;
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_agent_call_finish (result, &error);
  g_autofree char *sent = g_steal_pointer (&names->sent);
  if (names->vm && ok) {
    g_free (names->told);
    names->told = g_steal_pointer (&sent);
    names->seconds = 0;
    tell (names);
  } else if (names->vm) {
    banger_log (names->seconds > 0 ? LOG_DEBUG : LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, names->vm->record.id),
                "%s: its guest has not taken the names of others: %s", names->vm->record.name, error->message);
    answer_waits (names, error);
    tell_later (names);
  }
  unref (names);
}

static void
on_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  VmNames *names = data;
  if (!banger_agent_wait_finish (result, NULL) || !names->vm || !banger_agent_can_names (names->vm->agent)) {
    g_clear_pointer (&names->sent, g_free); /* an older one knows nobody: asked again with the next change */
    if (names->vm)
      answer_waits (names, NULL);
    unref (names);
    return;
  }
  g_free (names->sent);
  names->sent = vm_names_text (names->vm);
  banger_agent_call_with_async (names->vm->agent, "names", *names->sent ? names->sent : BANGER_GUEST_NOBODY,
                                ANSWER_SECONDS, NULL, on_told, names);
}

/* Compares what is told with what is so, and takes a step. */
static void
tell (VmNames *names)
{
  BangerVm *vm = names->vm;
  if (names->sent)
    return;
  g_autofree char *text = vm_names_text (vm);
  if (!runs (vm) || g_strcmp0 (text, names->told) == 0) {
    answer_waits (names, NULL);
    return;
  }
  g_clear_handle_id (&names->retry_id, g_source_remove);
  names->sent = g_steal_pointer (&text);
  banger_agent_wait_async (vm->agent, BANGER_AGENT_CONNECTED, NULL, on_connected, g_rc_box_acquire (names));
}

static void
look (BangerVm *vm)
{
  if (!vm->agent || !vm->vms || !runs (vm))
    return;
  if (!vm->names) {
    vm->names = g_rc_box_new0 (VmNames);
    vm->names->vm = vm;
    vm->names->waits = g_ptr_array_new_with_free_func (wait_free);
  }
  tell (vm->names);
}

void
vm_names_forgotten (BangerVm *vm)
{
  if (vm->names)
    g_clear_pointer (&vm->names->told, g_free);
  look (vm);
}

void
banger_vms_look_at_names (BangerVms *vms)
{
  GHashTableIter iter;
  gpointer vm;
  g_hash_table_iter_init (&iter, vms->table);
  while (g_hash_table_iter_next (&iter, NULL, &vm))
    look (vm);
}

static gboolean
on_late (gpointer data)
{
  Wait *wait = data;
  wait->late_id = 0;
  banger_task_return_later (g_object_ref (wait->task), g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT,
                                                                    "no answer within %u s", WAIT_SECONDS));
  g_ptr_array_remove (wait->names->waits, wait);
  return G_SOURCE_REMOVE;
}

void
vm_names_async (BangerVm *vm, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, NULL, callback, user_data);
  look (vm);
  if (!vm->names || !vm->names->sent) { /* nobody to tell, or told */
    banger_task_return_later (task, NULL);
    return;
  }
  Wait *wait = g_new0 (Wait, 1);
  wait->names = vm->names;
  wait->task = task;
  wait->late_id = g_timeout_add_seconds (WAIT_SECONDS, on_late, wait);
  g_ptr_array_add (vm->names->waits, wait);
}

gboolean
vm_names_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

void
vm_names_leave (BangerVm *vm)
{
  if (vm->names)
    answer_waits (vm->names, NULL);
}
