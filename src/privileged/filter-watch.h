/* Notices that somebody changed banger's tables in nftables, and has them put back.
 * Never acts on changes of the helper's own. */
#pragma once

#include "privileged/root.h"

/** banger_filter_watch_start: from now on until banger_filter_watch_stop(). @root: borrowed until then. */
gboolean banger_filter_watch_start (const BangerRoot *root, GError **error);
/** banger_filter_watch_stop: waits for what is being put back. */
void banger_filter_watch_stop (void);
