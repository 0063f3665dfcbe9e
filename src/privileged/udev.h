/* What udev makes of banger's disks: nothing, by the rule that is shipped (udev/).
 * Runs in worker threads.
 * Never lets a disk be made that a running udev would look into. */
#pragma once

#include "common/error.h"

/** banger_udev_runs: whether this host has a udev that acts on new devices. */
gboolean banger_udev_runs (void);

/**
 * banger_udev_check_rule:
 * Whether the udev that runs goes by banger's rule: it is shown a loop without a file, of a number that the rule names,
 * and what it says of it is read. What was seen holds until udev's rules or its socket change. %TRUE without udev.
 * Errors: %BANGER_ERROR_UNSAFE_HOST, %BANGER_ERROR_TIMEOUT.
 */
gboolean banger_udev_check_rule (GError **error);
