/* The bodies of PUT /snapshot/create and /snapshot/load, and what a state file has configured.
 * Never lets a state file name a log or a socket of its own. */
#pragma once

#include "engine/instance.h"

typedef struct {
  char *snapshot_path, *mem_file_path, *snapshot_type;
} BangerSnapshotCreate;

typedef struct {
  char *snapshot_path, *mem_file_path;
  JsonNode *mem_backend, *network_overrides, *vsock_override;
  char *memory_path; /* of either */
  int resume_vm, track_dirty_pages, enable_diff_snapshots, clock_realtime;
} BangerSnapshotLoad;

void banger_snapshot_create_clear (BangerSnapshotCreate *create);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerSnapshotCreate, banger_snapshot_create_clear)
void banger_snapshot_load_clear (BangerSnapshotLoad *load);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerSnapshotLoad, banger_snapshot_load_clear)

gboolean banger_snapshot_create_read (JsonNode *body, BangerSnapshotCreate *ret_create, GError **error);
gboolean banger_snapshot_load_read (JsonNode *body, BangerSnapshotLoad *ret_load, GError **error);

/** BangerConfigure: what --config-file does with its object. */
typedef gboolean (*BangerConfigure) (BangerInstance *instance, JsonNode *config, GError **error);

/** banger_snapshot_load: opens both files, configures what the state file says, and has the instance read the state. */
void banger_snapshot_load (BangerInstance *instance, const BangerSnapshotLoad *load, BangerConfigure configure,
                           BangerInstanceDone done, gpointer user_data);
