/* Whether a guest could start with a kernel: before one waits for a disk that its kernel will never see.
 * Never says that a kernel cannot work unless that is proven. */
#pragma once

#include <glib.h>

/** BangerHasModule: whether the module @name comes along, or is known to be built in. */
typedef gboolean (*BangerHasModule) (gpointer data, const char *name);

/** banger_kernel_config: Returns: (transfer full) (nullable): the configuration that a kernel built with CONFIG_IKCONFIG
 * holds, as text. */
char *banger_kernel_config (const guint8 *elf, gsize length);

/** banger_kernel_config_value: of @option in @config: 'y', 'm', 'n' for what is not set, else 0. */
char banger_kernel_config_value (const char *config, const char *option);

/**
 * banger_kernel_features_check:
 * By @config (nullable), the names of drivers in the kernel @elf, and @has. A kernel without one of them in it has not
 * got that driver built in; with it that is likely, and no more.
 * @warnings: gets (transfer full) sentences about what works with one engine only.
 * Returns: %FALSE with %BANGER_ERROR_INVALID_KERNEL that names all that is missing.
 */
gboolean banger_kernel_features_check (const guint8 *elf, gsize length, const char *config, BangerHasModule has,
                                       gpointer data, GPtrArray *warnings, GError **error);
