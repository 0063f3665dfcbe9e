/* Snapshots: VMs as they were once, until they are deleted or their VM is. A table of records.
 * Never has one in the table that is not whole and on the disk. */
#pragma once

#include <gio/gio.h>

#include "manager/core/object.h"
#include "manager/peer/helper.h"
#include "manager/vm/vm.h"

typedef struct BangerSnapshots BangerSnapshots;

/* What the table tells. */
typedef struct {
  BangerObserver objects;
  /* The record in the folder @name cannot be read: it is left as it is. */
  void (*unreadable) (BangerObjectKind kind, const char *name, const GError *why, gpointer user_data);
} BangerSnapshotsHouse;

/** banger_snapshots_new: @house: static; gets @user_data. @helper, @writer, @vms, @dir_fd (their folder): borrowed. What
 * is half-made there goes, and what is of a VM that is no more. */
BangerSnapshots *banger_snapshots_new (BangerHelper *helper, BangerWriter *writer, BangerVms *vms, int dir_fd,
                                       const BangerSnapshotsHouse *house, gpointer user_data, GError **error);
void banger_snapshots_free (BangerSnapshots *snapshots);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerSnapshots, banger_snapshots_free)

/** banger_snapshots_find: of @vm, by name or id. Returns: (transfer none): %NULL with %BANGER_ERROR_NO_SUCH_SNAPSHOT. */
BangerVmSnapshot *banger_snapshots_find (BangerSnapshots *snapshots, BangerVm *vm, const char *name, GError **error);
/** banger_snapshots_find_id: Returns: (transfer none) (nullable). */
BangerVmSnapshot *banger_snapshots_find_id (BangerSnapshots *snapshots, const char *id);
GPtrArray *banger_snapshots_ids (BangerSnapshots *snapshots); /* (transfer container): const char * */
/** banger_snapshots_drop_of: all of that VM, which is gone. */
void banger_snapshots_drop_of (BangerSnapshots *snapshots, const char *vm);

/**
 * banger_snapshots_job_new:
 * Returns: as banger_job_new(): the job that makes one of @vm: WrongState, InvalidName, SnapshotExists, LimitsExceeded.
 */
BangerJob *banger_snapshots_job_new (BangerSnapshots *snapshots, BangerVm *vm, const char *name, BangerJobs *jobs,
                                     const BangerJobSpec *spec, GError **error);

/**
 * banger_snapshots_fork_job_new:
 * Returns: as banger_job_new(): the job that makes copies of @vm, which run: see banger_vms_add_copies(). All of them do in
 * the end, or there is none. @templates_fd: their folder, borrowed. WrongState, NotSupported and what adding VMs fails with.
 */
BangerJob *banger_snapshots_fork_job_new (BangerSnapshots *snapshots, int templates_fd, BangerVm *vm, const char *name,
                                          guint count, BangerJobs *jobs, const BangerJobSpec *spec, GError **error);

/** banger_snapshots_check_stays: WrongState while it is being deleted: nothing is put back to it. */
gboolean banger_snapshots_check_stays (BangerSnapshots *snapshots, const BangerVmSnapshot *snapshot, GError **error);
/** banger_snapshots_delete_async: WrongState while its VM is being restored from it. */
void banger_snapshots_delete_async (BangerSnapshots *snapshots, BangerVmSnapshot *snapshot,
                                    GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_snapshots_delete_finish (GAsyncResult *result, GError **error);
