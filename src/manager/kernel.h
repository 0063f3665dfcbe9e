/* Guest kernels: their class of asset, and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by kernel-import.c. */
#pragma once

#include "manager/asset.h"

typedef struct {
  BangerAsset asset; /* digest: of what is booted */
  char *version;
} BangerKernel;

extern const BangerAssetClass banger_kernel_class;

/**
 * banger_kernel_add:
 * First half of ImportKernel: checks name and source, makes the record in state importing.
 * @source: an absolute path of a .deb, ELF vmlinux or bzImage, or "apt:PACKAGE".
 * Returns: (transfer none): follow with banger_kernel_create_async() at once, or banger_asset_drop().
 */
BangerKernel *banger_kernel_add (BangerManager *manager, const char *name, const char *source, GError **error);

/**
 * banger_kernel_create_async:
 * Second half, in a worker. @modules: (nullable): directory of modules that go with an ELF or bzImage.
 * On failure or cancellation the kernel is gone. End it with banger_asset_make_finish().
 */
void banger_kernel_create_async (BangerKernel *kernel, const char *modules, BangerJob *job,
                                 GAsyncReadyCallback callback, gpointer user_data);
