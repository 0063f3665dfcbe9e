/* ListPorts of VMs: who listens in a guest, as its agent says.
 * Never asks a guest that does not run. */
#pragma once

#include "manager/bus/request.h"

/** banger_ports_handle_list: by name on the Manager, by path on the VM. */
gboolean banger_ports_handle_list (BangerRequest *request, gconstpointer by_name, GError **error);
