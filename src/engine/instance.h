/* One microVM: its configuration, its state and the QEMU behind it.
 * Never answers an action before QEMU did. */
#pragma once

#include "engine/snapshot-file.h"
#include "engine/vm-config.h"

typedef enum {
  BANGER_INSTANCE_NOT_STARTED,
  BANGER_INSTANCE_RUNNING,
  BANGER_INSTANCE_PAUSED,
} BangerInstanceState;

typedef struct BangerInstance BangerInstance;

/** BangerInstanceDone: @error is %NULL on success. */
typedef void (*BangerInstanceDone) (const GError *error, gpointer user_data);
/** BangerInstanceEnded: the guest or QEMU ended; @status is what the VMM should exit with. */
typedef void (*BangerInstanceEnded) (int status, gpointer user_data);

BangerInstance *banger_instance_new (const char *id, const char *qemu_path, BangerInstanceEnded ended,
                                     gpointer user_data);
void banger_instance_free (BangerInstance *instance);

const char *banger_instance_id (const BangerInstance *instance);
BangerVmConfig *banger_instance_config (BangerInstance *instance);
BangerInstanceState banger_instance_state (const BangerInstance *instance);
/** banger_instance_state_name: as InstanceInfo spells it. */
const char *banger_instance_state_name (BangerInstanceState state);

/** banger_instance_put_vsock: listens on uds_path at once; a second call replaces the first. */
gboolean banger_instance_put_vsock (BangerInstance *instance, JsonNode *body, GError **error);

/** banger_instance_start: InstanceStart. One action at a time: the caller waits for @done before the next. */
void banger_instance_start (BangerInstance *instance, BangerInstanceDone done, gpointer user_data);
/** banger_instance_set_paused: PATCH /vm; a state that holds already is success. */
void banger_instance_set_paused (BangerInstance *instance, gboolean paused, BangerInstanceDone done,
                                 gpointer user_data);
/** banger_instance_ctrl_alt_del: presses the three keys on the guest's PS/2 keyboard. */
void banger_instance_ctrl_alt_del (BangerInstance *instance, BangerInstanceDone done, gpointer user_data);
/** banger_instance_save: PUT /snapshot/create. Each file is made, or cut and written anew; the memory file may be the one
 * of banger_instance_set_memory_file (), which then has it already. Both are on the disk before @done. */
void banger_instance_save (BangerInstance *instance, const char *state_path, const char *memory_path,
                           BangerInstanceDone done, gpointer user_data);
/** banger_instance_load: PUT /snapshot/load, once the instance is configured as the state was. @state_fd, @memory_fd:
 * taken. @file: what the state file says. A failure ends the VMM, as Firecracker's does. */
void banger_instance_load (BangerInstance *instance, const BangerSnapshotFile *file, int state_fd,
                           const char *memory_path, int memory_fd, gboolean resume, BangerInstanceDone done,
                           gpointer user_data);
/** banger_instance_refuse_load: the same failure, before there is anything to read. */
void banger_instance_refuse_load (BangerInstance *instance, const char *why, BangerInstanceDone done,
                                  gpointer user_data);
/** banger_instance_set_memory_file: the guest's memory shall be that file, from its start on. */
void banger_instance_set_memory_file (BangerInstance *instance, const char *path);
/** banger_instance_configured: something was configured, or a start tried: it takes no state any more. */
void banger_instance_set_configured (BangerInstance *instance);
gboolean banger_instance_is_configured (const BangerInstance *instance);

/** banger_instance_kill: ends QEMU now, without the ended callback. */
void banger_instance_kill (BangerInstance *instance);
