/* What the files of snapshots share. */
#pragma once

#include "manager/peer/gone-disks.h"
#include "manager/snapshot/snapshots.h"

struct BangerSnapshots {
  BangerHelper *helper;
  BangerWriter *writer;
  BangerVms *vms;
  int dir_fd;
  const BangerSnapshotsHouse *house;
  gpointer user_data;
  GHashTable *table; /* id -> BangerVmSnapshot */
  GPtrArray *making; /* BangerVmSnapshot: of jobs that are under way */
  BangerGoneDisks *disks;
  gpointer *link; /* counted: to us, NULL once we are gone */
};

/** snapshot_folder_async: makes that of @snapshot in @kind_fd, on the disk; cancelled, it goes again. */
void snapshot_folder_async (int kind_fd, const BangerVmSnapshot *snapshot, GCancellable *cancellable,
                            GAsyncReadyCallback callback, gpointer user_data);
/** snapshot_folder_finish: @snapshot has it open then. */
gboolean snapshot_folder_finish (BangerVmSnapshot *snapshot, GAsyncResult *result, GError **error);
/** snapshot_check_new: whether @vm may have one more, of that name. */
gboolean snapshot_check_new (BangerSnapshots *snapshots, BangerVm *vm, const char *name, GError **error);
/** snapshot_add: takes @snapshot, whose record is on the disk. Returns: %FALSE, and it goes again, if its VM is gone
 * meanwhile. */
gboolean snapshot_add (BangerSnapshots *snapshots, BangerVmSnapshot *snapshot);
/** snapshot_remove_files: folder and disk; nobody waits for it. */
void snapshot_remove_files (BangerSnapshots *snapshots, const BangerVmSnapshot *snapshot);
