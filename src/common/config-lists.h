/* What config.toml has several of: [[file_sync]], [[catalog]], [[publish]], [[setup]].
 * Never looks at a file that is named: that waits for a disk. */
#pragma once

#include "common/config.h"
#include "common/toml.h"

/* Why a path is not one of the home folder. Returns: (transfer full): below @home, without "." and doubled slashes; NULL
 * with error. @text: "~/x", "x" or @home/x. */
char *banger_config_below_home (const char *text, const char *home, GError **error);

/** banger_config_lists_read: every entry that is good, into @config, and a problem for each that is not. */
void banger_config_lists_read (BangerConfig *config, BangerToml *toml);
/** banger_config_lists_known: the names of all keys that the entries of @toml may have. */
void banger_config_lists_known (BangerToml *toml, GStrvBuilder *known);
void banger_config_lists_new (BangerConfig *config);
void banger_config_lists_free (BangerConfig *config);
