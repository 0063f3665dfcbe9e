/* Makes a guest kernel from a Debian package, an ELF vmlinux or a bzImage: vmlinux, initrd and modules in one
 * directory. Runs in worker threads. Never trusts the package: sizes are bounded, names are checked,
 * nothing of it is executed. */
#pragma once

#include <gio/gio.h>

#include "common/progress.h"

typedef struct {
  char *version; /* "6.1.0-56-cloud-amd64" */
  char *digest;  /* "sha256:..." of vmlinux */
  guint n_modules;
  char **warnings; /* sentences for people; NULL: none */
} BangerKernelInfo;

void banger_kernel_info_clear (BangerKernelInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerKernelInfo, banger_kernel_info_clear)

typedef struct {
  const char *name; /* the file's path, for messages; or the package */
  int fd;           /* the file, open */
  int modules_fd;   /* directory of modules (/lib/modules/VERSION) for ELF and bzImage, -1: none */
  int dir_fd;       /* empty: what is written goes there */
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} BangerKernelImport;

/**
 * banger_kernel_check_file:
 * Whether the open file @fd may be imported, as far as its first bytes say: %BANGER_ERROR_INVALID_PATH, or
 * %BANGER_ERROR_INVALID_ARGS if it is a package and there are @modules, as it brings its own.
 */
gboolean banger_kernel_check_file (const char *path, int fd, gboolean modules, GError **error);

/**
 * banger_kernel_import_file:
 * Writes %BANGER_FILE_KERNEL_VMLINUX (ELF) and %BANGER_FILE_KERNEL_INITRD from a .deb, an ELF vmlinux or a bzImage
 * (Documentation/arch/x86/boot.rst) that was checked. Without modules an ELF or bzImage must have its virtio and ext4
 * drivers built in. Only modules that a guest needs to start are kept, in the order of their dependencies (their own
 * .modinfo).
 * Errors: %BANGER_ERROR_INVALID_KERNEL, %BANGER_ERROR_INVALID_PATH, %BANGER_ERROR_CANCELLED, %BANGER_ERROR_NO_SPACE,
 * %BANGER_ERROR_FAILED. On error the directory may hold a part.
 */
gboolean banger_kernel_import_file (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error);

/**
 * banger_kernel_import_package:
 * The same from a package that apt-get(8) fetches as the calling user; a meta package stands for the kernel package that
 * it depends on. Also %BANGER_ERROR_NO_SUCH_KERNEL: no such package.
 */
gboolean banger_kernel_import_package (const BangerKernelImport *import, BangerKernelInfo *ret_info, GError **error);
