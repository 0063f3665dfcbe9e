/* Asks the helper about the VMM of a VM that may run: whether it does, and for what it does not have yet.
 * Never takes silence for an answer. */
#include "manager/vm/private.h"

#include "common/fd.h"
#include "common/ids.h"

/* One question. The verb may be gone when the answer comes. */
typedef struct {
  VmOp *op; /* NULL: interrupted */
  BangerVm *vm;
  VmNext next;
} Question;

static Question *
question_new (VmOp *op, VmNext next)
{
  Question *question = g_new0 (Question, 1);
  question->op = op;
  question->vm = banger_vm_ref (op->vm);
  question->next = next;
  op->data = question;
  return question;
}

/* @error: (transfer full) (nullable): goes to nobody if nobody waits. */
static void
question_end (Question *question, GError *error)
{
  VmOp *op = question->op;
  VmNext next = question->next;
  banger_vm_unref (question->vm);
  g_free (question);
  if (!op) {
    g_clear_error (&error);
    return;
  }
  op->data = NULL;
  next (op, error);
}

void
vm_leave_question (VmOp *op)
{
  Question *question = g_steal_pointer (&op->data);
  question->op = NULL;
  question->next (op, banger_error_cancelled ());
}

gboolean
vm_is_watched (VmOp *op)
{
  return op->vm->pidfd >= 0;
}

gboolean
vm_is_not_watched (VmOp *op)
{
  return op->vm->pidfd < 0;
}

static void
adopted (VmOp *op, GError *error)
{
  op->vm->unreleased = error != NULL;
  if (error && !g_error_matches (error, BANGER_ERROR, BANGER_ERROR_CANCELLED))
    g_prefix_error (&error, "whether it runs cannot be found out: ");
  if (error)
    vm_retry_later (op->vm->vms);
  vm_go_on (op, error);
}

static void
on_opened (GObject *source, GAsyncResult *result, gpointer data)
{
  Question *question = data;
  BangerVm *vm = question->vm;
  guint32 pid = 0;
  GError *error = NULL;
  banger_autofd int pidfd = banger_helper_vmm_finish (result, &pid, &error);
  if (pidfd >= 0 && question->op) {
    vm->record.pid = pid;
    if (vm_watch (vm, banger_steal_fd (&pidfd), &error))
      vm_keep_agent (vm);
    g_autoptr (GError) unheard = NULL;
    if (vm->pidfd >= 0 && !vm_forwards_open (vm, NULL, &unheard))
      vm_log (vm, question->op, LOG_WARNING, "%s", unheard->message);
  } else if (g_error_matches (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE)
             || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE))
  {
    g_clear_error (&error);
  }
  question_end (question, error);
}

void
vm_adopt (VmOp *op)
{
  vm_ask (op, "OpenVmm", NULL, on_opened, question_new (op, adopted));
}

static void
on_addressed (GObject *source, GAsyncResult *result, gpointer data)
{
  Question *question = data;
  BangerVm *vm = question->vm;
  g_autoptr (GError) error = NULL;
  g_autofree char *tap = banger_tap_name (vm->record.id);
  if (!banger_helper_name_finish (result, tap, &error))
    vm_log (vm, question->op, LOG_WARNING,
            "an older version started it: it has no network until it is started again: %s", error->message);
  vm->old_tap = FALSE;
  question_end (question, NULL);
}

/* Without NAT older versions told the helper of no guest behind a tap: nothing would pass it. */
void
vm_address (VmOp *op)
{
  BangerVm *vm = op->vm;
  const BangerInstall *install = vm->vms->install;
  banger_helper_call (vm->vms->helper, &op->job.caller, "CreateTap", NULL, on_addressed, question_new (op, vm_go_on),
                      vm->record.id, install->bridge, install->bridge_address, vm->record.address);
}
