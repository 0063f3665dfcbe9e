/* GetStats of VMs: what one uses.
 * Never asks a guest that stands still. */
#pragma once

#include "manager/bus/request.h"

/** banger_stats_handle_get: by name on the Manager, by path on the VM. */
gboolean banger_stats_handle_get (BangerRequest *request, gconstpointer by_name, GError **error);
