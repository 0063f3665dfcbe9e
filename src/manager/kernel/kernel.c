/* Guest kernels: their class of asset.
 * Never knows D-Bus, nor how one is made. */
#include "manager/kernel/kernel.h"

#include "common/error.h"
#include "manager/kernel/sources.h"

static const char *const state_words[] = { "importing", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_ASSET_STATES + 1);

const BangerRecordField banger_kernel_fields[] = {
  BANGER_ASSET_FIELDS (state_words),
  { "kernel-version", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerKernel, version), NULL, FALSE, "Version", TRUE },
  { NULL },
};

static void
take (gpointer asset, BangerSource *source)
{
  BangerKernel *kernel = asset;
  const BangerKernelInfo *info = &((BangerKernelSource *)source)->info;
  banger_asset_set_string (&kernel->version, info->version);
  banger_asset_set_string (&kernel->asset.digest, info->digest);
}

const BangerAssetClass banger_kernel_class = {
  .object = BANGER_OBJECT_KERNEL,
  .kind = "kernel",
  .a_kind = "a kernel",
  .size = sizeof (BangerKernel),
  .fields = banger_kernel_fields,
  .states = state_words,
  .making = "being imported",
  .hint = "get one with `banger kernel import`",
  .exists = BANGER_ERROR_KERNEL_EXISTS,
  .missing = BANGER_ERROR_NO_SUCH_KERNEL,
  .sources = &banger_kernel_sources,
  .take = take,
};
