/* Fetches a kernel package with apt, as an ordinary user.
 * Runs in worker threads.
 * Never installs anything, never changes apt's own state. */
#pragma once

#include <gio/gio.h>

/** banger_kernel_check_package: whether @package may be the name of one; %BANGER_ERROR_INVALID_ARGS. */
gboolean banger_kernel_check_package (const char *package, GError **error);

/**
 * banger_kernel_fetch:
 * Downloads @package, a name that was checked, or the linux-image package that a meta package depends on, into the directory @dir. apt checks
 * the signatures. Where the system's package lists are missing or name a package that is gone, lists of our own are
 * fetched into @dir first. Returns: (transfer full): the path of the .deb below @dir; %NULL with
 * %BANGER_ERROR_NO_SUCH_KERNEL, %BANGER_ERROR_CANCELLED or %BANGER_ERROR_FAILED and apt's own words.
 */
char *banger_kernel_fetch (const char *package, const char *dir, GCancellable *cancellable, GError **error);
