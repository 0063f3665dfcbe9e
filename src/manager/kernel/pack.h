/* A folder of modules as one file, for a program that may open none.
 * Never looks into what it packs, never follows a link. */
#pragma once

#include <gio/gio.h>

/**
 * banger_kernel_pack_modules:
 * Returns: a tar, without a name in @dir_fd, of the modules below the directory @modules_fd (transfer none) and their modules.builtin; -1 with
 * %BANGER_ERROR_INVALID_PATH, %BANGER_ERROR_INVALID_KERNEL (too many or too deep), %BANGER_ERROR_NO_SPACE.
 */
int banger_kernel_pack_modules (int modules_fd, int dir_fd, GCancellable *cancellable, GError **error);
