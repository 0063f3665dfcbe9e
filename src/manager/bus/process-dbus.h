/* Commands in guests on the bus: Exec and Capture of VMs, and the Process objects.
 * Never lets a command outlive its client. */
#pragma once

#include "manager/bus/request.h"
#include "manager/vm/processes.h"

extern const BangerProperty banger_process_properties[];
extern const BangerMember banger_process_members[];

/** banger_process_handle_exec, _capture: by name on the Manager, by path on the VM. */
gboolean banger_process_handle_exec (BangerRequest *request, gconstpointer by_name, GError **error);
gboolean banger_process_handle_capture (BangerRequest *request, gconstpointer by_name, GError **error);

/** banger_process_follow_clients: from now on, who leaves the bus has its commands ended. @ret_slot: (transfer full). */
int banger_process_follow_clients (BangerProcesses *processes, sd_bus *bus, sd_bus_slot **ret_slot);

/** banger_process_emit_exited: the Process's Exited. */
void banger_process_emit_exited (BangerObjects *objects, BangerProcess *process);
