/* What images and kernels have in common on the bus: properties, Delete, and the Manager's verbs on them by name.
 * Never changes one itself: asset.c does. */
#include "manager/bus/asset-dbus.h"

static BangerAsset *
find_by_name (BangerRequest *request, const BangerAssetClass *class, const char **ret_name, GError **error)
{
  if (!banger_request_read (request, error, "s", ret_name))
    return NULL;
  return banger_asset_find (banger_manager_assets (banger_objects_manager (request->objects), class), *ret_name, error);
}

static void
on_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  g_autoptr (GError) error = NULL;
  if (banger_asset_delete_finish (result, &error))
    banger_request_reply (request, "");
  else
    banger_request_fail (request, error);
}

static gboolean
handle_delete (BangerRequest *request, BangerAsset *asset, GError **error)
{
  if (!banger_request_no_options (request, error))
    return FALSE;
  banger_asset_delete_async (asset, on_deleted, request);
  return TRUE;
}

static void
on_tagged (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  if (banger_asset_tag_finish (result, &error))
    banger_request_reply (data, "");
  else
    banger_request_fail (data, error);
}

/* One of several names: only that goes. */
static gboolean
handle_untag (BangerRequest *request, BangerAsset *asset, const char *tag, GError **error)
{
  if (!banger_request_no_options (request, error))
    return FALSE;
  banger_asset_tag_async (asset, tag, FALSE, on_tagged, request);
  return TRUE;
}

gboolean
banger_asset_handle_delete (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  BangerAsset *asset = find_by_name (request, data, &name, error);
  if (asset && banger_asset_has_tag (asset, name))
    return handle_untag (request, asset, name, error);
  return asset && handle_delete (request, asset, error);
}

static gboolean
tag (BangerRequest *request, BangerAsset *asset, GError **error)
{
  const char *name = NULL;
  if (!asset || !banger_request_read (request, error, "s", &name) || !banger_request_no_options (request, error))
    return FALSE;
  banger_asset_tag_async (asset, name, TRUE, on_tagged, request);
  return TRUE;
}

gboolean
banger_asset_handle_tag (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  return tag (request, find_by_name (request, data, &name, error), error);
}

gboolean
banger_asset_handle_tag_by_path (BangerRequest *request, gconstpointer data, GError **error)
{
  const BangerAssetClass *class = data;
  return tag (request, banger_request_object (request, class->object), error);
}

gboolean
banger_asset_handle_delete_by_path (BangerRequest *request, gconstpointer data, GError **error)
{
  const BangerAssetClass *class = data;
  const char *path = sd_bus_message_get_path (request->message);
  return handle_delete (request, banger_objects_find (request->objects, class->object, path), error);
}

gboolean
banger_asset_handle_get (BangerRequest *request, gconstpointer data, GError **error)
{
  const char *name = NULL;
  BangerAsset *asset = find_by_name (request, data, &name, error);
  if (!asset)
    return FALSE;
  banger_request_reply_path (request, asset->class->object, asset->id);
  return TRUE;
}

typedef struct {
  BangerRequest *request;
  BangerAssetCreation what;
  BangerSource *source; /* NULL: the asset's */
} Creation;

static void
creation_free (Creation *creation)
{
  g_clear_pointer (&creation->source, banger_source_free);
  g_free (creation);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Creation, creation_free)

static gboolean
make (Creation *creation, GError **error)
{
  const BangerAssetCreation *what = &creation->what;
  BangerManager *manager = banger_objects_manager (creation->request->objects);
  BangerAssets *assets = banger_manager_assets (manager, what->class);
  gboolean join = banger_asset_is_being_made (assets, what->name, creation->source);
  if (!join && !banger_asset_check_name (assets, what->name, error)) /* once more: it may have been taken meanwhile */
    return FALSE;
  const BangerJobSpec spec = banger_request_job_spec (creation->request, what->kind, TRUE);
  BangerJob *job = join ? banger_asset_job_join (assets, what->name, manager->jobs, &spec, error)
                        : banger_asset_job_new (assets, what->name, g_steal_pointer (&creation->source), manager->jobs,
                                                &spec, error);
  if (job)
    banger_request_begin (creation->request, job, what->wait);
  return job != NULL;
}

static void
on_checked (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (Creation) creation = data;
  g_autoptr (GError) error = NULL;
  if (!banger_source_check_finish (result, &error) || !make (creation, &error))
    banger_request_fail (creation->request, error);
}

gboolean
banger_asset_create (BangerRequest *request, const BangerAssetCreation *creation, BangerSource *source, GError **error)
{
  g_autoptr (Creation) own = g_new0 (Creation, 1);
  own->request = request;
  own->what = *creation;
  own->source = source;
  BangerAssets *assets = banger_manager_assets (banger_objects_manager (request->objects), creation->class);
  if (!banger_asset_is_being_made (assets, creation->name, NULL) /* what a source is its check may find out */
      && !banger_asset_check_name (assets, creation->name, error))
    return FALSE;
  banger_source_check_async (source, on_checked, g_steal_pointer (&own));
  return TRUE;
}
