/* What images and kernels have in common on the bus: properties, Delete, and the Manager's verbs on them by name.
 * Used by image-dbus.c, kernel-dbus.c and manager-dbus.c.
 * Never changes one itself: asset.c does. */
#include "manager/asset-dbus.h"

#include <errno.h>

#include "common/options.h"

static BangerAsset *
find_by_name (BangerCall *call, const BangerAssetClass *class, GError **error)
{
  const char *name = NULL;
  if (!banger_call_read (call, error, "s", &name))
    return NULL;
  return banger_asset_find (class, banger_dispatch_manager (call->dispatch), name, error);
}

static gboolean
handle_delete (BangerCall *call, BangerAsset *asset, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  if (!banger_options_read (call->message, none, NULL, error) || !banger_asset_delete (asset, error))
    return FALSE;
  banger_call_reply (call, "");
  return TRUE;
}

gboolean
banger_asset_handle_delete (BangerCall *call, gconstpointer data, GError **error)
{
  BangerAsset *asset = find_by_name (call, data, error);
  return asset != NULL && handle_delete (call, asset, error);
}

gboolean
banger_asset_handle_delete_by_path (BangerCall *call, gconstpointer data, GError **error)
{
  const BangerAssetClass *class = data;
  const char *path = sd_bus_message_get_path (call->message);
  return handle_delete (call, banger_dispatch_object (call->dispatch, class->object, path), error);
}

gboolean
banger_asset_handle_get (BangerCall *call, gconstpointer data, GError **error)
{
  BangerAsset *asset = find_by_name (call, data, error);
  if (asset == NULL)
    return FALSE;
  banger_call_reply_path (call, asset->class->object, asset->id);
  return TRUE;
}

static const BangerProperty properties[] = {
  { "Id", 's', G_STRUCT_OFFSET (BangerAsset, id), NULL },
  { "Name", 's', G_STRUCT_OFFSET (BangerAsset, name), NULL },
  { "Source", 's', G_STRUCT_OFFSET (BangerAsset, source), NULL },
  { "Digest", 's', G_STRUCT_OFFSET (BangerAsset, digest), NULL },
  { "CreatedAt", 't', G_STRUCT_OFFSET (BangerAsset, created_at), NULL },
  { NULL },
};

int
banger_asset_property (const BangerAssetClass *class, const BangerProperty *own, BangerDispatch *dispatch,
                       const char *path, const char *property, sd_bus_message *reply, sd_bus_error *ret_error)
{
  BangerAsset *asset = banger_dispatch_object (dispatch, class->object, path);
  if (asset == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no %s %s", class->kind, path);
  if (g_str_equal (property, "State"))
    return sd_bus_message_append (reply, "s", class->states[asset->state]);
  int r = banger_property_append (reply, properties, property, asset);
  return r == -ENOENT ? banger_property_append (reply, own, property, asset) : r;
}

BangerRun *
banger_asset_run (BangerCall *call, BangerAsset *asset, const char *kind, gboolean wait, GError **error)
{
  BangerRunSpec spec = {
    .kind = kind,
    .cancelable = TRUE,
    .wait = wait,
    .object_kind = asset->class->object,
    .object_id = asset->id,
  };
  BangerRun *run = banger_run_new (call, &spec, error);
  if (run == NULL)
    banger_asset_drop (asset);
  return run;
}

void
banger_asset_made (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  banger_asset_make_finish (result, &error);
  banger_run_end (user_data, error);
}
