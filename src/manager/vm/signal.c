/* A signal for a VMM: what comes of it is seen as whatever else it does.
 * Never knows which signals there are: the root helper lets some through. */
#include "manager/vm/private.h"

static void
on_signalled (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  banger_helper_finish (result, &error);
  vm_go_on (data, error);
}

static void
send_signal (VmOp *op)
{
  banger_helper_call (op->vm->vms->helper, &op->job.caller, "SignalVmm", op->job.cancellable, on_signalled, op,
                      op->vm->record.id, op->options.signal);
}

const VmStep vm_part_signal[] = {
  { "signal", send_signal },
  { NULL },
};

gboolean
vm_signal_kills (const char *signal)
{
  return g_ascii_strcasecmp (signal, "KILL") == 0 || g_ascii_strcasecmp (signal, "SIGKILL") == 0;
}
