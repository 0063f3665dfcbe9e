/* What is known of a VM: its record, its state, and how a change of it gets to the disk and to those who look.
 * Never announces what is not on the disk yet, and never waits for the disk. */
#include "manager/vm/private.h"

#include <fcntl.h>

#include "common/fd.h"
#include "common/guest-protocol.h"

#define RECORD_SECONDS 30   /* that a verb waits for the disk */
#define BOUNDED_SECONDS 5   /* if it is a kill or a deletion */
#define IMPATIENT_SECONDS 1 /* if another one waits for its end, or the disk is known not to answer */
#define TOLD_SECONDS 5      /* who has set a thing that is so already waits for the disk */
#define REWRITE_FIRST_SECONDS 1
#define REWRITE_LAST_SECONDS 60

static const char *const state_words[] = { "creating", "stopped",   "starting", "running",   "stopping",
                                           "deleting", "suspended", "paused",   "unreadable" };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_VM_STATES);
/* What is told of a VM whose record did not get to the disk in time. */
static const char *const state_is_so[] = {
  [BANGER_VM_CREATING] = "it is not made yet",   [BANGER_VM_STOPPED] = "it is stopped",
  [BANGER_VM_STARTING] = "it was to be started", [BANGER_VM_RUNNING] = "it runs",
  [BANGER_VM_STOPPING] = "it is being stopped",  [BANGER_VM_DELETING] = "it is being deleted",
  [BANGER_VM_SUSPENDED] = "it is suspended",     [BANGER_VM_PAUSED] = "it is paused",
  [BANGER_VM_UNREADABLE] = "it is unreadable",
};
G_STATIC_ASSERT (G_N_ELEMENTS (state_is_so) == BANGER_N_VM_STATES);
const char *
banger_vm_state_to_string (BangerVmState state)
{
  g_return_val_if_fail ((guint)state < BANGER_N_VM_STATES, "stopped");
  return state_words[state];
}

/* Strings of a record are never NULL for those who read it. */
void
vm_record_fill (BangerVmRecord *record)
{
  for (const BangerRecordField *field = banger_vm_fields; field->key; field++) {
    char **text = G_STRUCT_MEMBER_P (record, field->offset);
    if (field->type == BANGER_RECORD_STRING && !*text)
      *text = g_strdup ("");
  }
  if (*record->login_user == '\0') /* of a record that is older than this field */
    vm_set_string (&record->login_user, "root");
}

void
vm_record_clear (BangerVmRecord *record)
{
  banger_record_clear (banger_vm_fields, record);
  g_clear_pointer (&record->id, g_free);
}

void
vm_record_copy (BangerVmRecord *to, const BangerVmRecord *from)
{
  vm_record_clear (to);
  *to = *from;
  to->id = g_strdup (from->id);
  for (const BangerRecordField *field = banger_vm_fields; field->key; field++)
    if (field->type == BANGER_RECORD_STRING) {
      char **text = G_STRUCT_MEMBER_P (to, field->offset);
      *text = g_strdup (*text);
    } else if (field->type == BANGER_RECORD_STRV) {
      char ***list = G_STRUCT_MEMBER_P (to, field->offset);
      *list = g_strdupv (*list);
    }
}

/* One announcement for all that differs from the last. @now: what is on the disk, or was to be. */
static void
vm_announce (BangerVm *vm, const BangerVmRecord *now)
{
  g_autoptr (GPtrArray) changed = banger_record_changes (banger_vm_fields, &vm->announced, now);
  if (vm->unknown != vm->announced_unknown) { /* which the rows may have named */
    g_ptr_array_add (changed, (gpointer) "State");
    g_ptr_array_add (changed, (gpointer) "StateReason");
  }
  guint n = changed->len;
  g_ptr_array_add (changed, NULL);
  vm->announced_unknown = vm->unknown;
  if (now != &vm->announced)
    vm_record_copy (&vm->announced, now);
  if (n > 0 && vm->vms && !vm->gone)
    vm->vms->observer->objects.changed (BANGER_OBJECT_VM, vm->record.id, (const char *const *)changed->pdata,
                                        vm->vms->user_data);
}

void
vm_set_known (BangerVm *vm)
{
  vm->unknown = FALSE;
  vm_announce (vm, &vm->announced);
}

gboolean
banger_vm_known (BangerVm *vm)
{
  return !vm->announced_unknown;
}

gboolean
banger_vm_check_free (const BangerVm *vm, GError **error)
{
  if (*vm->record.forked)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s is being made as a copy of a VM: wait until it runs",
                             vm->record.name);
  return !vm->reserved
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                              "%s becomes a template and goes by itself: it can only be deleted", vm->record.name);
}

void
vm_set_string (char **field, const char *value)
{
  if (g_strcmp0 (*field, value) == 0)
    return;
  g_free (*field);
  *field = g_strdup (value);
}

void
vm_log (BangerVm *vm, VmOp *op, int priority, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  banger_log (priority, BANGER_FIELDS (BANGER_FIELD_VM, vm->record.id, BANGER_FIELD_OP_ID, op ? op->job.op_id : NULL),
              "%s: %s", vm->record.name, text);
}

/* The VM, as long as somebody has it. */

void
vm_unwatch (BangerVm *vm)
{
  g_clear_handle_id (&vm->death_watch, g_source_remove);
  g_clear_handle_id (&vm->console_watch, g_source_remove);
  banger_clear_fd (&vm->pidfd);
  vm->died = FALSE;
}

void
vm_drop_agent (BangerVm *vm)
{
  g_clear_pointer (&vm->names, vm_names_drop);
  g_clear_pointer (&vm->clock, banger_guest_clock_free);
  g_clear_pointer (&vm->agent, banger_agent_free);
}

BangerVm *
banger_vm_ref (BangerVm *vm)
{
  g_ref_count_inc (&vm->refs);
  return vm;
}

void
banger_vm_unref (BangerVm *vm)
{
  if (!vm || !g_ref_count_dec (&vm->refs))
    return;
  vm_forwards_close (vm);
  vm_drop_agent (vm);
  vm_unwatch (vm);
  g_clear_handle_id (&vm->rewrite_id, g_source_remove);
  g_clear_error (&vm->unwritten);
  banger_clear_fd (&vm->dir_fd);
  vm_record_clear (&vm->record);
  vm_record_clear (&vm->announced);
  g_free (vm->alias);
  g_free (vm->dir_path);
  g_free (vm->console_log);
  g_free (vm->run_path);
  g_free (vm->api_socket);
  g_free (vm->vsock_socket);
  g_free (vm);
}

void
vm_forget (BangerVm *vm)
{
  if (vm->gone)
    return;
  vm->gone = TRUE;
  vm_forwards_close (vm);
  BangerVms *vms = vm->vms;
  g_autofree char *id = g_strdup (vm->record.id);
  g_hash_table_remove (vms->table, id);
  vms->observer->objects.removed (BANGER_OBJECT_VM, id, vms->user_data);
}

/* What was set, on its way to the disk. */
struct VmRecording {
  BangerVm *vm;
  BangerVmRecord record; /* announced when it is there */
  guint64 number;
  VmOp *op; /* that waits, NULL: none, or not any more */
  VmNext next;
  guint timeout_id, seconds;
};

static void
recording_free (VmRecording *recording)
{
  vm_record_clear (&recording->record);
  banger_vm_unref (recording->vm);
  g_free (recording);
}

/* An older state that arrives after a newer one was announced is not told any more. */
static void
recording_announce (VmRecording *recording)
{
  BangerVm *vm = recording->vm;
  if (recording->number <= vm->announced_number)
    return;
  vm->announced_number = recording->number;
  vm->unknown = FALSE;
  vm_announce (vm, &recording->record);
}

/* @error: (transfer full) (nullable): of the writing, or why it is not waited for. */
static void
recording_go_on (VmRecording *recording, GError *error)
{
  VmOp *op = g_steal_pointer (&recording->op);
  g_clear_handle_id (&recording->timeout_id, g_source_remove);
  if (error && (!op || op->error)) {
    vm_log (recording->vm, op, LOG_ERR, "cannot write the record: %s", error->message);
    g_clear_error (&error);
  }
  if (!op || !recording->vm->vms)
    return;
  op->recording = NULL;
  recording->next (op, error);
}

static gboolean
on_write_again (gpointer data)
{
  BangerVm *vm = data;
  vm->rewrite_id = 0;
  if (vm->vms && !vm->gone && vm->record.state != BANGER_VM_DELETING)
    vm_write_record (vm);
  return G_SOURCE_REMOVE;
}

/* What could not be written is so all the same, and the next bangerd is to find it. */
static void
recording_retry (const VmRecording *recording, gboolean failed)
{
  BangerVm *vm = recording->vm;
  if (recording->number != vm->set_number)
    return;
  g_clear_handle_id (&vm->rewrite_id, g_source_remove);
  vm->rewrite_seconds = failed ? CLAMP (vm->rewrite_seconds * 2, REWRITE_FIRST_SECONDS, REWRITE_LAST_SECONDS) : 0;
  if (failed)
    vm->rewrite_id = g_timeout_add_seconds (vm->rewrite_seconds, on_write_again, vm);
}

static void
on_recorded (GObject *source, GAsyncResult *result, gpointer data)
{
  VmRecording *recording = data;
  GError *error = NULL;
  recording_retry (recording, !banger_writer_finish (result, &error));
  if (error || recording->number == recording->vm->set_number) { /* a newer one is on its way, which may fail, too */
    g_clear_error (&recording->vm->unwritten);
    recording->vm->unwritten = error ? g_error_copy (error) : NULL;
  }
  recording_announce (recording); /* also if it could not be written: it is so */
  recording_go_on (recording, error);
  recording_free (recording);
}

static gboolean
on_disk_too_slow (gpointer data)
{
  VmRecording *recording = data;
  recording->timeout_id = 0;
  recording_announce (recording);
  recording_go_on (recording, g_error_new (BANGER_ERROR, BANGER_ERROR_TIMEOUT,
                                           "%s, but the disk has not taken its record yet, %u s after that was due",
                                           state_is_so[recording->record.state], recording->seconds));
  return G_SOURCE_REMOVE;
}

/* What the disk takes after its verb has given up is nobody's. */
static void
on_added (GObject *source, GAsyncResult *result, gpointer data)
{
  VmRecording *recording = data;
  BangerVm *vm = recording->vm;
  GError *error = NULL;
  banger_writer_finish (result, &error);
  if (!recording->op && vm->vms)
    banger_record_remove_async (vm->vms->vms_fd, vm->record.id, NULL, NULL);
  recording_go_on (recording, error);
  recording_free (recording);
}

static void
recording_bound (VmRecording *recording, guint seconds)
{
  g_clear_handle_id (&recording->timeout_id, g_source_remove);
  recording->seconds = seconds;
  recording->timeout_id = g_timeout_add_seconds (seconds, on_disk_too_slow, recording);
}

void
vm_wait_less (VmOp *op)
{
  if (op->recording)
    recording_bound (op->recording, IMPATIENT_SECONDS);
}

void
vm_no_time (VmOp *op, GError **error)
{
  if (!g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || !g_cancellable_is_cancelled (op->bound))
    return;
  g_clear_error (error);
  banger_set_error (error, BANGER_ERROR_HELPER_UNAVAILABLE,
                    "no time was left to ask the root helper; look at the service bangerd-root and at the disk");
}

static gboolean
nothing_to_write (gpointer data, GError **error)
{
  return TRUE;
}

static VmRecording *
recording_of (BangerVm *vm)
{
  VmRecording *recording = g_new0 (VmRecording, 1);
  recording->vm = banger_vm_ref (vm);
  recording->number = ++vm->set_number;
  vm_record_copy (&recording->record, &vm->record);
  return recording;
}

static VmRecording *
recording_new (BangerVm *vm)
{
  VmRecording *recording = recording_of (vm);
  /* What is in an unreadable one is not ours to lose. */
  if (!vm->unreadable)
    banger_record_put (vm->vms->writer, vm, vm->dir_fd, "vm", banger_vm_fields, &vm->record, on_recorded, recording);
  else
    banger_writer_put (vm->vms->writer, vm, nothing_to_write, NULL, NULL, on_recorded, recording);
  return recording;
}

void
vm_write_record (BangerVm *vm)
{
  recording_new (vm);
}

typedef struct {
  BangerVm *vm;
  BangerVmTold told; /* NULL: it was */
  gpointer data;
  guint timeout_id;
} Waiting;

static void
waiting_tell (Waiting *waiting, const GError *error)
{
  BangerVmTold told = waiting->told;
  waiting->told = NULL;
  told (waiting->vm, error, waiting->data);
}

static gboolean
on_told_late (gpointer data)
{
  Waiting *waiting = data;
  g_autoptr (GError) error = g_error_new (
      BANGER_ERROR, BANGER_ERROR_TIMEOUT,
      "it is so, but the disk has not taken the record yet, %d s after that was due", TOLD_SECONDS);
  waiting->timeout_id = 0;
  waiting_tell (waiting, error);
  return G_SOURCE_REMOVE;
}

static void
on_all_written (GObject *source, GAsyncResult *result, gpointer data)
{
  Waiting *waiting = data;
  g_autoptr (GError) error = NULL;
  banger_writer_finish (result, &error);
  g_clear_handle_id (&waiting->timeout_id, g_source_remove);
  if (waiting->told)
    waiting_tell (waiting, waiting->vm->unwritten);
  banger_vm_unref (waiting->vm);
  g_free (waiting);
}

void
banger_vm_when_recorded (BangerVm *vm, BangerVmTold told, gpointer data)
{
  Waiting *waiting = g_new0 (Waiting, 1);
  waiting->vm = banger_vm_ref (vm);
  waiting->told = told;
  waiting->data = data;
  waiting->timeout_id = g_timeout_add_seconds (TOLD_SECONDS, on_told_late, waiting);
  banger_writer_put (vm->vms->writer, NULL, nothing_to_write, NULL, NULL, on_all_written, waiting);
}

static void
change_state (VmOp *op, BangerVmState state, const char *reason)
{
  BangerVm *vm = op->vm;
  BangerVmState before = (BangerVmState)vm->record.state;
  if (vm->unreadable && state != BANGER_VM_DELETING)
    state = BANGER_VM_UNREADABLE;
  vm->record.state = state;
  vm_set_string (&vm->record.reason, reason ? reason : "");
  if (state != BANGER_VM_RUNNING && state != BANGER_VM_PAUSED && state != BANGER_VM_STOPPING) {
    vm->record.started_at = 0;
    vm->record.pid = 0;
    if (state != BANGER_VM_STARTING)
      vm_forwards_close (vm);
    vm_set_string (&vm->record.boot_id, "");
  }
  if (before != state)
    vm_log (vm, op, LOG_INFO, "%s -> %s%s%s", state_words[before], state_words[state], reason && *reason ? ": " : "",
            reason ? reason : "");
}

void
vm_set_state (VmOp *op, BangerVmState state, const char *reason)
{
  change_state (op, state, reason);
  recording_new (op->vm);
}

/* A verb that is bounded waits for no record beyond that, and not long: what it did is so. */
static guint
record_seconds (const VmOp *op)
{
  gint64 gone = (g_get_monotonic_time () - op->begun_at) / G_USEC_PER_SEC;
  if (op->vm->queue || op->disk_late)
    return IMPATIENT_SECONDS;
  if (!op->row->bounded)
    return RECORD_SECONDS;
  gint64 left = (gint64)op->vm->vms->end_seconds - gone;
  return (guint)CLAMP (left, IMPATIENT_SECONDS, BOUNDED_SECONDS);
}

static void
recording_wait (VmRecording *recording, VmOp *op, VmNext next)
{
  recording->op = op;
  recording->next = next;
  op->recording = recording;
  recording_bound (recording, record_seconds (op));
}

void
vm_set_state_then (VmOp *op, BangerVmState state, const char *reason, VmNext next)
{
  change_state (op, state, reason);
  recording_wait (recording_new (op->vm), op, next);
}

void
vm_add_record_then (VmOp *op, VmNext next)
{
  BangerVm *vm = op->vm;
  VmRecording *recording = recording_of (vm);
  recording_wait (recording, op, next);
  banger_record_add (vm->vms->writer, vm->vms->vms_fd, vm->record.id, "vm", banger_vm_fields, &vm->record, on_added,
                     recording);
}
