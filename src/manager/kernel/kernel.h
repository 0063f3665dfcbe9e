/* Guest kernels: their class of asset.
 * Never knows D-Bus; what they are made from is in sources.h. */
#pragma once

#include "manager/core/asset.h"

typedef struct {
  BangerAsset asset; /* digest: of what is booted */
  char *version;
} BangerKernel;

extern const BangerRecordField banger_kernel_fields[];
extern const BangerAssetClass banger_kernel_class;
