/* The guest's console on its way from QEMU to the VMM's standard output, which never grows without end.
 * Never stands between QEMU and a standard output that is no regular file. */
#pragma once

#include <glib.h>

typedef struct BangerConsole BangerConsole;

#define BANGER_CONSOLE_MAX (4 << 20)    /* bytes of standard output at which it is cut */
#define BANGER_CONSOLE_KEEP (256 << 10) /* bytes of the console that stay then */

/**
 * banger_console_new:
 * @ret_fd: what QEMU gets as its standard output; close it after the fork. It is STDOUT_FILENO itself, and not to be
 * closed, where there is nothing to bound.
 * Returns: (nullable): %NULL where there is nothing to bound, or with @error.
 */
BangerConsole *banger_console_new (int *ret_fd, GError **error);
/** banger_console_free: writes what is left in the pipe first. */
void banger_console_free (BangerConsole *console);
