/* Snapshots on the bus: properties, and verbs by name (Manager, VM) and by object (Snapshot).
 * Never touches one itself: the table of snapshots and the VM's verbs do. */
#pragma once

#include "manager/bus/request.h"

extern const BangerProperty banger_snapshot_properties[];
extern const BangerMember banger_snapshot_members[];

/** banger_snapshot_handle_create: SnapshotVM([s vm,] s name, a{sv} options) -> o job. @by_name: not %NULL: with the VM's
 * name; so of those below. */
gboolean banger_snapshot_handle_create (BangerRequest *request, gconstpointer by_name, GError **error);
/** banger_snapshot_handle_fork: ForkVM([s vm,] s name, a{sv} options) -> o job. */
gboolean banger_snapshot_handle_fork (BangerRequest *request, gconstpointer by_name, GError **error);
/** banger_snapshot_handle_restore: RestoreSnapshot(s vm, s snapshot, a{sv} options) -> o job. */
gboolean banger_snapshot_handle_restore (BangerRequest *request, gconstpointer by_name, GError **error);
/** banger_snapshot_handle_delete: DeleteSnapshot(s vm, s snapshot, a{sv} options). */
gboolean banger_snapshot_handle_delete (BangerRequest *request, gconstpointer by_name, GError **error);
/** banger_snapshot_handle_get: GetSnapshot(s vm, s snapshot) -> o snapshot. */
gboolean banger_snapshot_handle_get (BangerRequest *request, gconstpointer data, GError **error);
