/* CheckWorkspace on the bus.
 * Never touches a VM. */
#pragma once

#include "manager/bus/request.h"

/** banger_workspace_handle_check: answers when the work tree has been looked through. */
gboolean banger_workspace_handle_check (BangerRequest *request, gconstpointer data, GError **error);
