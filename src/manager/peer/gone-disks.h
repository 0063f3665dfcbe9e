/* Disks of the helper's whose owner, a template or a snapshot, is no more.
 * Never waited for: what the helper cannot be asked for now it is asked for when it is back. */
#pragma once

#include "manager/peer/helper.h"

typedef struct BangerGoneDisks BangerGoneDisks;

/** banger_gone_disks_new: @helper: borrowed, outlives it. */
BangerGoneDisks *banger_gone_disks_new (BangerHelper *helper);
void banger_gone_disks_free (BangerGoneDisks *disks);
/** banger_gone_disks_add: of @id, or there is none. */
void banger_gone_disks_add (BangerGoneDisks *disks, const char *id);
