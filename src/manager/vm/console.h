/* The size of a console log: what a guest writes is bounded.
 * Never touches what is not a regular file. */
#pragma once

#include <glib.h>

#define BANGER_CONSOLE_MAX (8 << 20)    /* bytes at which a log is cut */
#define BANGER_CONSOLE_KEEP (256 << 10) /* bytes of its end that are kept */

/**
 * banger_console_bound:
 * Cuts the file @name in @dir_fd to its last @keep bytes, behind a line that says so, if it has more than @max. Its
 * writer goes on at the new end: it has the file open with O_APPEND. What it writes meanwhile may get lost. A file that
 * is not there is short enough.
 */
gboolean banger_console_bound (int dir_fd, const char *name, gint64 max, gsize keep, GError **error);
