/* A file or folder of the owner's home, opened so that nothing outside of it can be meant.
 * Never follows a link out of the home folder, whoever swaps one in meanwhile. */
#pragma once

#include <glib.h>

/**
 * banger_home_open:
 * @home: absolute. @below: as banger_config_below_home() says it. Links that stay below @home are followed.
 * @ret_real: (optional): where it is below @home, without links. Waits for a disk.
 * Returns: a descriptor of a file or folder, readable; -1 with %BANGER_ERROR_INVALID_PATH, or, if it is just not there,
 * without an error.
 */
int banger_home_open (const char *home, const char *below, char **ret_real, GError **error);

/** banger_home_read_text: of a file likewise. Returns: (transfer full): from 1 to @max bytes without a NUL; NULL with
 * %BANGER_ERROR_INVALID_PATH, also if it is not there. */
char *banger_home_read_text (const char *home, const char *below, gsize max, GError **error);

/** banger_home_link_stays: whether the symbolic link at @real, below @home, with that @target stays below @home. By its
 * text alone. */
gboolean banger_home_link_stays (const char *home, const char *real, const char *target);
