/* VMs on the bus: properties, and verbs by name (Manager) and by object (VM), one function each.
 * Used by manager-dbus.c.
 * Never changes a VM itself: vm.c does. */
#pragma once

#include "manager/dispatch.h"

extern const sd_bus_vtable banger_vm_vtable[];
extern const BangerMember banger_vm_members[];

/** banger_vm_handle_create: CreateVM(s name, a{sv} options) -> o job. */
gboolean banger_vm_handle_create (BangerCall *call, gconstpointer data, GError **error);
/** banger_vm_handle_get: GetVM(s name) -> o vm. */
gboolean banger_vm_handle_get (BangerCall *call, gconstpointer data, GError **error);
/** banger_vm_handle_by_name: StartVM and its like; @data: the verb's row. */
gboolean banger_vm_handle_by_name (BangerCall *call, gconstpointer data, GError **error);

/* A verb's row. */
typedef struct BangerVmVerbRow BangerVmVerbRow;
extern const BangerVmVerbRow banger_vm_row_start, banger_vm_row_stop, banger_vm_row_kill, banger_vm_row_restart,
    banger_vm_row_delete, banger_vm_row_import_workspace;
