/* Makes a guest kernel from a Debian package, an ELF vmlinux or a bzImage: vmlinux, initrd and modules in one
 * directory. Called by kernel.c in a worker thread. Never trusts the package: sizes are bounded, names are checked,
 * nothing of it is executed. */
#pragma once

#include <gio/gio.h>

#include "manager/object.h"

#define BANGER_KERNEL_DEFAULT_SOURCE "apt:linux-image-cloud-amd64"

typedef struct {
  char *version; /* "6.1.0-56-cloud-amd64" */
  char *digest;  /* "sha256:..." of vmlinux */
  guint n_modules;
} BangerKernelInfo;

void banger_kernel_info_clear (BangerKernelInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerKernelInfo, banger_kernel_info_clear)

/**
 * banger_kernel_import:
 * Writes %BANGER_FILE_KERNEL_VMLINUX (ELF), %BANGER_FILE_KERNEL_INITRD and modules/ below the empty directory
 * @kernel_dir_fd.
 * @source: path of a .deb, an ELF vmlinux or a bzImage (Documentation/arch/x86/boot.rst), or "apt:PACKAGE", fetched
 * with apt-get(8) as the calling user; a meta package stands for the kernel package that it depends on.
 * @modules: (nullable): directory of modules (/lib/modules/VERSION) for ELF and bzImage; without it such a kernel must
 * have its virtio and ext4 drivers built in. Refused with a package, which brings its own.
 * Only modules that a guest needs to start are kept, in the order of their dependencies (their own .modinfo).
 * Errors: %BANGER_ERROR_INVALID_KERNEL, %BANGER_ERROR_INVALID_PATH, %BANGER_ERROR_INVALID_ARGS,
 * %BANGER_ERROR_NO_SUCH_KERNEL (no such package), %BANGER_ERROR_CANCELLED, %BANGER_ERROR_NO_SPACE,
 * %BANGER_ERROR_FAILED. On error the directory may hold a part.
 */
gboolean banger_kernel_import (const char *source, const char *modules, int kernel_dir_fd, BangerProgress progress,
                               gpointer progress_data, GCancellable *cancellable, BangerKernelInfo *ret_info,
                               GError **error);
