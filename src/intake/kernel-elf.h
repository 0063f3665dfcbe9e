/* What ELF files of a kernel tell: is it one, which version, what a module needs.
 * Never follows an offset outside the given bytes. */
#pragma once

#include <glib.h>

/** banger_elf_check_kernel: a 64-bit little-endian x86-64 executable whose segments lie in the file.
 * %BANGER_ERROR_INVALID_KERNEL. */
gboolean banger_elf_check_kernel (const guint8 *data, gsize length, GError **error);

/** banger_elf_kernel_version: Returns: (transfer full): what follows "Linux version " in @data, or %NULL. */
char *banger_elf_kernel_version (const guint8 *data, gsize length);

typedef struct {
  char **depends; /* module names */
  char *version;  /* first word of vermagic */
} BangerModuleInfo;

/** banger_elf_read_module: reads section .modinfo. %BANGER_ERROR_INVALID_KERNEL. */
gboolean banger_elf_read_module (const guint8 *data, gsize length, BangerModuleInfo *ret_info, GError **error);
void banger_module_info_clear (BangerModuleInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerModuleInfo, banger_module_info_clear)
