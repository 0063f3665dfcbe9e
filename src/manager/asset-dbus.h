/* What images and kernels have in common on the bus: properties, Delete, and the Manager's verbs on them by name.
 * Used by image-dbus.c, kernel-dbus.c and manager-dbus.c.
 * Never changes one itself: asset.c does. */
#pragma once

#include "manager/asset.h"
#include "manager/job-dbus.h"
#include "manager/property.h"

/* Handlers; the data of their rows is the BangerAssetClass. */
gboolean banger_asset_handle_get (BangerCall *call, gconstpointer data, GError **error);
gboolean banger_asset_handle_delete (BangerCall *call, gconstpointer data, GError **error);
gboolean banger_asset_handle_delete_by_path (BangerCall *call, gconstpointer data, GError **error);

/** banger_asset_property: a getter for what all assets have and for the rows of @own. @dispatch: a vtable's userdata.
 */
int banger_asset_property (const BangerAssetClass *class, const BangerProperty *own, BangerDispatch *dispatch,
                           const char *path, const char *property, sd_bus_message *reply, sd_bus_error *ret_error);

/* The properties that all assets have, for a vtable. */
#define BANGER_ASSET_PROPERTIES(getter)                                                                                \
  SD_BUS_PROPERTY ("Id", "s", getter, 0, SD_BUS_VTABLE_PROPERTY_CONST),                                                \
      SD_BUS_PROPERTY ("Name", "s", getter, 0, SD_BUS_VTABLE_PROPERTY_CONST),                                          \
      SD_BUS_PROPERTY ("State", "s", getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),                                  \
      SD_BUS_PROPERTY ("Source", "s", getter, 0, SD_BUS_VTABLE_PROPERTY_CONST),                                        \
      SD_BUS_PROPERTY ("Digest", "s", getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),                                 \
      SD_BUS_PROPERTY ("CreatedAt", "t", getter, 0, SD_BUS_VTABLE_PROPERTY_CONST),                                     \
      SD_BUS_METHOD_WITH_ARGS ("Delete", SD_BUS_ARGS ("a{sv}", options), SD_BUS_NO_RESULT, banger_dispatch_call,       \
                               SD_BUS_VTABLE_UNPRIVILEGED)

/** banger_asset_run: the job @kind that makes @asset; without one (NULL with an error) @asset is dropped. */
BangerRun *banger_asset_run (BangerCall *call, BangerAsset *asset, const char *kind, gboolean wait, GError **error);
/** banger_asset_made: GAsyncReadyCallback that ends the BangerRun @user_data. */
void banger_asset_made (GObject *source, GAsyncResult *result, gpointer user_data);
