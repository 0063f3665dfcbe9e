/* The state of QEMU's guest to a descriptor, and from one.
 * Never runs the guest: it was stopped before, and is stopped after. */
#pragma once

#include "engine/qmp.h"

typedef struct BangerMigration BangerMigration;

/** BangerMigrationDone: @error is %NULL on success. QEMU itself ends when what it reads is no state of such a VM. */
typedef void (*BangerMigrationDone) (const GError *error, gpointer user_data);

typedef struct {
  gboolean incoming;
  int fd;          /* is written or read from its position on; stays the caller's */
  gboolean mapped; /* shared memory is not in the stream */
} BangerMigrationPlan;

/** banger_migration_new: begins at once; @done may free it. */
BangerMigration *banger_migration_new (BangerQmp *qmp, const BangerMigrationPlan *plan, BangerMigrationDone done,
                                       gpointer user_data);
/** banger_migration_event: every MIGRATION event of QEMU; @status is its member of that name. */
void banger_migration_event (BangerMigration *migration, const char *status);
/** banger_migration_free: without calling back. */
void banger_migration_free (BangerMigration *migration);
