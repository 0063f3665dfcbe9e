/* ListPorts: a command of the agent's, whose lines become rows.
 * Never hands on what the guest wrote: only what was understood of it. */
#include "manager/bus/ports-dbus.h"

#include "common/error.h"
#include "common/guest-protocol.h"
#include "common/options.h"
#include "manager/vm/ports.h"
#include "manager/vm/processes.h"
#include "manager/vm/vm.h"

#define ANSWER_SECONDS 10   /* less than a client waits by itself */
#define UNKNOWN_COMMAND 125 /* of an agent that is older */

static GPtrArray *
read_ports (GAsyncResult *result, GError **error)
{
  const BangerCaptured *captured = banger_capture_finish (result, error);
  if (captured && captured->status == 0)
    return banger_ports_parse ((const char *)captured->out->data, captured->out->len, error);
  if (captured && captured->status == UNKNOWN_COMMAND)
    banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                      "its guest was started by an older banger, which does not say who listens: restart it");
  else if (captured)
    banger_set_error (error, BANGER_ERROR_GUEST_FAILED, "its guest does not say who listens: status %d",
                      captured->status);
  return NULL;
}

static void
on_listed (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (GPtrArray) ports = read_ports (result, &error);
  int r = !ports ? -1 : sd_bus_message_new_method_return (request->message, &reply);
  if (r >= 0)
    r = sd_bus_message_open_container (reply, 'a', "(ssqus)");
  for (guint i = 0; r >= 0 && i < ports->len; i++) {
    const BangerPort *port = ports->pdata[i];
    r = sd_bus_message_append (reply, "(ssqus)", port->protocol, port->address, port->port, port->pid, port->process);
  }
  if (r >= 0)
    r = sd_bus_message_close_container (reply);
  if (r < 0 && !error)
    banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  if (error)
    banger_request_fail (request, error);
  else
    banger_request_reply_message (request, reply);
}

gboolean
banger_ports_handle_list (BangerRequest *request, gconstpointer by_name, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  static const char *const arguments[] = { BANGER_GUEST_BINARY, "ports", NULL };
  static const BangerExecSpec spec = { .arguments = arguments, .seconds = ANSWER_SECONDS };
  BangerManager *manager = banger_objects_manager (request->objects);
  const char *name = NULL;
  BangerVm *vm = NULL;
  if (!by_name)
    vm = banger_objects_find (request->objects, BANGER_OBJECT_VM, sd_bus_message_get_path (request->message));
  else if (banger_request_read (request, error, "s", &name))
    vm = banger_vms_find (manager->vms, name, error);
  if (!vm || !banger_options_read (request->message, none, NULL, error))
    return FALSE;
  banger_capture_async (manager->processes, vm, sd_bus_message_get_sender (request->message), &spec, on_listed,
                        request);
  return TRUE;
}
