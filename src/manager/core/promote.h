/* One name that goes from one asset to another.
 * Never leaves two with it: for a moment nobody has it. */
#pragma once

#include "manager/core/asset.h"

/**
 * banger_asset_promote_async:
 * Gives @asset the name @name, which whoever has it loses: another name of theirs goes, one of their own becomes "NAME-old",
 * or "NAME-old-2" and so on. The errors of banger_asset_tag_async() and, if it is deleted meanwhile, the class's own.
 */
void banger_asset_promote_async (BangerAsset *asset, const char *name, GAsyncReadyCallback callback,
                                 gpointer user_data);
/** banger_asset_promote_finish: @ret_old: (transfer full) (nullable): what the one that had it as its own name is called now. */
gboolean banger_asset_promote_finish (GAsyncResult *result, char **ret_old, GError **error);
