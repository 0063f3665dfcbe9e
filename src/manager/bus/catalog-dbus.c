/* ListAvailableImages, ListAvailableKernels: each name once, as the catalogs are asked for it, and which of it is here.
 * Never reads a catalog on the main loop. */
#include "manager/bus/catalog-dbus.h"

#include <string.h>

#include "common/error.h"
#include "manager/core/work.h"
#include "manager/fetch/catalogs.h"

#define ENTRY "(sssstsss)"

struct BangerCatalogListed {
  const BangerAssetClass *assets;
  BangerCatalogClass class;
};

const BangerCatalogListed banger_catalog_listed_images = { &banger_image_class, BANGER_CATALOG_IMAGES };
const BangerCatalogListed banger_catalog_listed_kernels = { &banger_kernel_class, BANGER_CATALOG_KERNELS };

typedef struct {
  const BangerCatalogListed *what;
  GPtrArray *own, *read;
} Listing;

static void
listing_free (gpointer data)
{
  Listing *self = data;
  g_ptr_array_unref (self->own);
  g_clear_pointer (&self->read, g_ptr_array_unref);
  g_free (self);
}

static gboolean
read_catalogs (gpointer data, GCancellable *cancellable, GError **error)
{
  Listing *self = data;
  self->read = banger_catalogs_read (self->own);
  return TRUE;
}

/* Returns: (transfer full): what the ready ones were made from -> the name of one. */
static GHashTable *
find_here (BangerAssets *assets)
{
  GHashTable *here = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GPtrArray) ids = banger_assets_ids (assets);
  for (guint i = 0; i < ids->len; i++) {
    BangerAsset *asset = banger_assets_find_id (assets, ids->pdata[i]);
    if (asset->state == BANGER_ASSET_READY && !asset->going)
      g_hash_table_insert (here, asset->source, asset->name);
  }
  return here;
}

static int
append_entry (sd_bus_message *reply, const BangerCatalogRead *read, const BangerCatalogEntry *entry, GHashTable *here)
{
  g_autofree char *source = g_strconcat (entry->word, ":", entry->what, NULL);
  const char *name = g_hash_table_lookup (here, source);
  return sd_bus_message_append (reply, ENTRY, entry->name, entry->kind, source, entry->summary, entry->size_bytes,
                                read->origin, read->trust, name ? name : "");
}

/* The first catalog that has a name says what it is. */
static int
append_entries (sd_bus_message *reply, const Listing *self, BangerAssets *assets)
{
  g_autoptr (GHashTable) here = find_here (assets), seen = g_hash_table_new (g_str_hash, g_str_equal);
  int r = sd_bus_message_open_container (reply, 'a', ENTRY);
  for (guint i = 0; r >= 0 && i < self->read->len; i++) {
    const BangerCatalogRead *read = self->read->pdata[i];
    const GPtrArray *entries = read->catalog ? read->catalog->entries[self->what->class] : NULL;
    for (guint j = 0; r >= 0 && entries && j < entries->len; j++) {
      const BangerCatalogEntry *entry = entries->pdata[j];
      if (g_hash_table_add (seen, entry->name))
        r = append_entry (reply, read, entry, here);
    }
  }
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static int
append_problems (sd_bus_message *reply, const Listing *self)
{
  int r = sd_bus_message_open_container (reply, 'a', "s");
  for (guint i = 0; r >= 0 && i < self->read->len; i++) {
    const BangerCatalogRead *read = self->read->pdata[i];
    g_autofree char *text = read->error ? g_utf8_make_valid (read->error->message, -1) : NULL;
    r = text ? sd_bus_message_append (reply, "s", text) : 0;
  }
  return r < 0 ? r : sd_bus_message_close_container (reply);
}

static void
on_read (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerRequest *request = data;
  const Listing *self = banger_work_data (result);
  g_autoptr (GError) error = NULL;
  g_autoptr (sd_bus_message) reply = NULL;
  if (!banger_work_finish (result, &error)) {
    banger_request_fail (request, error);
    return;
  }
  int r = sd_bus_message_new_method_return (request->message, &reply);
  BangerManager *manager = banger_objects_manager (request->objects);
  if (r >= 0)
    r = append_entries (reply, self, banger_manager_assets (manager, self->what->assets));
  if (r >= 0)
    r = append_problems (reply, self);
  if (r >= 0) {
    banger_request_reply_message (request, reply);
    return;
  }
  banger_set_error_errno (&error, BANGER_ERROR_FAILED, -r, "cannot write the answer");
  banger_request_fail (request, error);
}

gboolean
banger_catalog_handle_list (BangerRequest *request, gconstpointer data, GError **error)
{
  static const BangerWork reading = { "read-catalogs", read_catalogs, NULL, listing_free };
  if (!banger_request_no_options (request, error))
    return FALSE;
  Listing *self = g_new0 (Listing, 1);
  self->what = data;
  self->own = g_ptr_array_ref (banger_objects_manager (request->objects)->config->catalogs);
  banger_work_async (&reading, self, NULL, on_read, request);
  return TRUE;
}
