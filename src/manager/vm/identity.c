/* The request's parts from the VM's own configuration, in a worker; then the agent; then what the manager knows of it.
 * Never lets two set a guest's clock at a time. */
#include "manager/vm/identity.h"

#include <string.h>

#include "common/guest-protocol.h"
#include "manager/core/work.h"
#include "manager/peer/guest-identity.h"
#include "manager/vm/guest-config.h"

#define OFF_TOLD_USEC 50000

typedef struct {
  BangerVm *vm;
  char *boot_id; /* the guest's to be; NULL: it keeps its own */
} Becoming;

typedef struct {
  VmGuestConfig *guest;
  char *boot_id;
  GByteArray *parts;
} Parts;

static void
becoming_free (gpointer data)
{
  Becoming *becoming = data;
  banger_vm_unref (becoming->vm);
  g_free (becoming->boot_id);
  g_free (becoming);
}

static void
parts_free (gpointer data)
{
  Parts *parts = data;
  vm_guest_config_free (parts->guest);
  g_byte_array_unref (parts->parts);
  g_free (parts->boot_id);
  g_free (parts);
}

static gboolean
make_parts (gpointer data, GCancellable *cancellable, GError **error)
{
  Parts *parts = data;
  const BangerGuestConfig *config = vm_guest_config_read (parts->guest, error);
  g_autofree char *text = config ? banger_guest_config_text (config, error) : NULL;
  BangerGuestFile files[BANGER_GUEST_FILES];
  if (!text)
    return FALSE;
  banger_guest_files (config, text, files);
  for (gsize i = 0; i < BANGER_GUEST_FILES; i++)
    banger_guest_identity_add (parts->parts, BANGER_GUEST_PART (files[i].path), files[i].text, strlen (files[i].text));
  banger_guest_identity_add (parts->parts, BANGER_GUEST_PART_BOOT_ID, parts->boot_id, strlen (parts->boot_id));
  return TRUE;
}

/* The agent may be gone, and another one there, if the VMM has ended meanwhile. */
static void
on_told (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  const Becoming *becoming = g_task_get_task_data (task);
  BangerVm *vm = becoming->vm;
  GError *error = NULL;
  gint64 off = 0;
  gboolean ok = banger_guest_identity_finish (result, &off, &error);
  if (vm->agent && !vm->clock)
    vm->clock = banger_guest_clock_new (vm->agent, vm->record.id); /* looks at once */
  if (!ok) {
    g_task_return_error (task, error);
    return;
  }
  if (ABS (off) > OFF_TOLD_USEC)
    vm_log (vm, vm->op, LOG_WARNING, "its guest's clock is off by %" G_GINT64_FORMAT " ms after it was set",
            off / 1000);
  if (vm->agent && becoming->boot_id)
    banger_agent_set_boot_id (vm->agent, becoming->boot_id);
  g_task_return_boolean (task, TRUE);
}

/* What is on its way to the guest of a difference of clocks is that of the time before. */
static void
tell (GTask *task, GBytes *parts)
{
  const Becoming *becoming = g_task_get_task_data (task);
  BangerVm *vm = becoming->vm;
  GError *error = NULL;
  if (!vm->agent || !banger_agent_can_identity (vm->agent)) {
    banger_set_error (&error, BANGER_ERROR_NOT_SUPPORTED, "the agent in %s is of an older banger, or not connected",
                      vm->record.name);
    g_task_return_error (task, error);
    return;
  }
  g_clear_pointer (&vm->clock, banger_guest_clock_free);
  if (becoming->boot_id)
    banger_agent_renew (vm->agent);
  banger_guest_identity_async (vm->vsock_socket, (pid_t)vm->record.pid, parts, becoming->boot_id,
                               g_task_get_cancellable (task), on_told, g_object_ref (task));
}

static void
on_parts (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  const Parts *parts = banger_work_data (result);
  GError *error = NULL;
  if (!banger_work_finish (result, &error)) {
    g_task_return_error (task, error);
    return;
  }
  g_autoptr (GBytes) bytes = g_bytes_new (parts->parts->data, parts->parts->len);
  tell (task, bytes);
}

void
vm_identity_async (BangerVm *vm, VmIdentity what, gboolean work_disk, GCancellable *cancellable,
                   GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork reading = { "identity", make_parts, NULL, parts_free };
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  Becoming *becoming = g_new0 (Becoming, 1);
  becoming->vm = banger_vm_ref (vm);
  g_task_set_check_cancellable (task, FALSE);
  g_task_set_task_data (task, becoming, becoming_free);
  if (what == VM_IDENTITY_SAME) {
    g_autoptr (GBytes) nothing = g_bytes_new (NULL, 0);
    tell (task, nothing);
    return;
  }
  becoming->boot_id = g_uuid_string_random ();
  Parts *parts = g_new0 (Parts, 1);
  parts->guest = vm_guest_config_new (vm, work_disk);
  parts->boot_id = g_strdup (becoming->boot_id);
  parts->parts = g_byte_array_new ();
  banger_work_async (&reading, parts, cancellable, on_parts, g_object_ref (task));
}

gboolean
vm_identity_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
