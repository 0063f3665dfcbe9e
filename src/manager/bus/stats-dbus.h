/* GetStats and ListStats of VMs: what one uses, or many.
 * Never asks a guest that stands still. */
#pragma once

#include "manager/bus/request.h"

/** banger_stats_handle_get: by name on the Manager, by path on the VM. */
gboolean banger_stats_handle_get (BangerRequest *request, gconstpointer by_name, GError **error);
/** banger_stats_handle_list: of those that are named, or of all that have a VMM, at the same time. */
gboolean banger_stats_handle_list (BangerRequest *request, gconstpointer data, GError **error);
