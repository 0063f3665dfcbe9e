/* A folder of our own for a while, that nobody misses.
 * Never stays for long where its maker was killed: the next one that is made takes it away. */
#pragma once

#include <glib.h>

/**
 * banger_scratch_make:
 * @prefix: of its name in the folder for temporary files; of all that are ours by that name those go that nobody holds.
 * @ret_path: (transfer full): set also on error, of what was to be.
 * Returns: a descriptor of it, by which it is held; -1 on error.
 */
int banger_scratch_make (const char *prefix, char **ret_path, GError **error);
/** banger_scratch_remove: with all that is in it. Closes @fd, of banger_scratch_make(); -1: there is none. */
void banger_scratch_remove (int *fd, const char *path);
