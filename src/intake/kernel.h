/* A stranger's kernel: a Debian package, an ELF vmlinux or a bzImage.
 * Never opens anything. */
#pragma once

#include "intake/image.h"

/**
 * banger_intake_kernel:
 * Reads the source, a regular file; writes vmlinux and the archive of modules, both targets empty before.
 * @modules_fd: a tar of modules for a kernel that is no package; -1: none.
 * Errors: %BANGER_ERROR_INVALID_KERNEL, %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_FAILED.
 */
gboolean banger_intake_kernel (const BangerIntakeEnds *ends, int modules_fd, BangerIntakeResult *result,
                               GError **error);
