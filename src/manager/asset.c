/* What images and kernels have in common: a record in a directory of its own, and files there that a job makes.
 * Used by image.c, kernel.c, their sides on the bus, and manager.c.
 * Never knows D-Bus, nor what the files are. */
#include "manager/asset.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "manager/fault.h"
#include "manager/manager.h"

static int
kind_fd (const BangerAssetClass *class, const BangerManager *manager)
{
  return class->object == BANGER_OBJECT_IMAGE ? manager->images_fd : manager->kernels_fd;
}

static GHashTable *
table_of (const BangerAssetClass *class, const BangerManager *manager)
{
  return class->object == BANGER_OBJECT_IMAGE ? manager->images : manager->kernels;
}

void
banger_asset_set_string (char **where, const char *value)
{
  g_free (*where);
  *where = g_strdup (value != NULL ? value : "");
}

static BangerAsset *
asset_new (const BangerAssetClass *class, BangerManager *manager)
{
  BangerAsset *asset = g_malloc0 (class->size);
  asset->class = class;
  asset->manager = manager;
  for (const BangerRecordField *field = class->fields; field->key != NULL; field++)
    if (field->type == BANGER_RECORD_STRING)
      G_STRUCT_MEMBER (char *, asset, field->offset) = g_strdup ("");
  return asset;
}

static void
asset_free (BangerAsset *asset)
{
  banger_record_clear (asset->class->fields, asset);
  g_free (asset);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerAsset, asset_free)

GHashTable *
banger_asset_table_new (void)
{
  return g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)asset_free);
}

static gboolean
save (const BangerAsset *asset, int dir_fd, GError **error)
{
  return banger_record_save (dir_fd, asset->class->kind, asset->class->fields, asset, error);
}

static void
fault_point (const BangerAsset *asset, const char *where)
{
  g_autofree char *name = g_strconcat (asset->class->kind, "-", where, NULL);
  banger_fault_point (name);
}

/* What one directory holds: an asset, nothing (half-made, removed), or an error to report. */
static BangerAsset *
load_one (const BangerAssetClass *class, BangerManager *manager, const char *id, GError **error)
{
  g_autoptr (BangerAsset) asset = asset_new (class, manager);
  gboolean missing = FALSE;
  g_autoptr (GError) local = NULL;
  banger_autofd int dir_fd = banger_record_open_dir (kind_fd (class, manager), id, error);
  if (dir_fd < 0)
    return NULL;
  if (!banger_record_load (dir_fd, class->kind, class->fields, asset, &missing, &local) && !missing) {
    g_propagate_error (error, g_steal_pointer (&local));
    return NULL;
  }
  if (missing || asset->state != BANGER_ASSET_READY) {
    banger_log (LOG_NOTICE, NULL, "removing the half-made %s %s (%s)", class->kind, id, asset->name);
    banger_record_remove (kind_fd (class, manager), id, error);
    return NULL;
  }
  if (!g_str_equal (asset->id, id)) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: it is of another %s", class->kind);
    return NULL;
  }
  return g_steal_pointer (&asset);
}

gboolean
banger_asset_load_all (const BangerAssetClass *class, BangerManager *manager, GError **error)
{
  g_auto (GStrv) ids = banger_record_list (kind_fd (class, manager), error);
  if (ids == NULL)
    return FALSE;
  for (char **id = ids; *id != NULL; id++) {
    g_autoptr (GError) local = NULL;
    BangerAsset *asset = load_one (class, manager, *id, &local);
    if (asset != NULL)
      g_hash_table_insert (table_of (class, manager), asset->id, asset);
    else if (g_error_matches (local, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT))
      banger_manager_set_aside (manager, class->object, *id, local);
    else if (local != NULL)
      banger_log (LOG_WARNING, NULL, "%s %s: %s", class->kind, *id, local->message);
  }
  return TRUE;
}

gpointer
banger_asset_find (const BangerAssetClass *class, BangerManager *manager, const char *name, GError **error)
{
  GHashTableIter iter;
  gpointer value = NULL;
  g_hash_table_iter_init (&iter, table_of (class, manager));
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (g_str_equal (((BangerAsset *)value)->name, name))
      return value;
  value = g_hash_table_lookup (table_of (class, manager), name);
  if (value == NULL)
    banger_set_error (error, class->missing, "no %s \"%s\": %s", class->kind, name, class->hint);
  return value;
}

gpointer
banger_asset_find_ready (const BangerAssetClass *class, BangerManager *manager, const char *name, int *ret_dir_fd,
                         GError **error)
{
  BangerAsset *asset = banger_asset_find (class, manager, name, error);
  if (asset == NULL)
    return NULL;
  if (asset->state != BANGER_ASSET_READY) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is still %s", class->kind, asset->name,
                      class->making);
    return NULL;
  }
  *ret_dir_fd = banger_record_open_dir (kind_fd (class, manager), asset->id, error);
  return *ret_dir_fd < 0 ? NULL : asset;
}

gboolean
banger_asset_check_name (const BangerAssetClass *class, BangerManager *manager, const char *name, GError **error)
{
  g_autofree char *what = g_strconcat (class->kind, " name", NULL);
  if (!banger_name_check (name, what, error))
    return FALSE;
  if (banger_asset_find (class, manager, name, NULL) != NULL)
    return banger_set_error (error, class->exists, "there is %s \"%s\" already: delete it first or choose another name",
                             class->a_kind, name);
  return TRUE;
}

gpointer
banger_asset_add (const BangerAssetClass *class, BangerManager *manager, const char *name, const char *source,
                  GError **error)
{
  g_autoptr (BangerAsset) asset = asset_new (class, manager);
  g_free (asset->id);
  asset->id = banger_id_new ();
  banger_asset_set_string (&asset->name, name);
  banger_asset_set_string (&asset->source, source);
  asset->created_at = (guint64)g_get_real_time ();
  banger_autofd int dir_fd = banger_record_make_dir (kind_fd (class, manager), asset->id, error);
  if (dir_fd < 0)
    return NULL;
  if (!save (asset, dir_fd, error)) {
    banger_record_remove (kind_fd (class, manager), asset->id, NULL);
    return NULL;
  }
  fault_point (asset, "recorded");
  BangerAsset *kept = g_steal_pointer (&asset);
  g_hash_table_insert (table_of (class, manager), kept->id, kept);
  banger_manager_added (manager, class->object, kept->id);
  return kept;
}

static void
forget (BangerAsset *asset)
{
  const BangerAssetClass *class = asset->class;
  BangerManager *manager = asset->manager;
  g_autofree char *id = g_strdup (asset->id);
  if (g_hash_table_remove (table_of (class, manager), id))
    banger_manager_removed (manager, class->object, id);
}

/* Out of the table at once; what is left on disk after a failure goes at the next start. */
void
banger_asset_drop (BangerAsset *asset)
{
  const BangerAssetClass *class = asset->class;
  int fd = kind_fd (class, asset->manager);
  g_autofree char *id = g_strdup (asset->id);
  g_autoptr (GError) error = NULL;
  forget (asset);
  if (!banger_record_remove (fd, id, &error))
    banger_log (LOG_WARNING, NULL, "%s %s: cannot remove what was made: %s", class->kind, id, error->message);
}

typedef struct {
  BangerAsset *asset; /* in the table until it is made or dropped */
  const BangerAssetMaker *maker;
  gpointer work;
  int dir_fd;
  BangerJobProgress *progress;
} Making;

static void
making_free (gpointer data)
{
  Making *making = data;
  banger_job_progress_free (making->progress);
  banger_clear_fd (&making->dir_fd);
  making->maker->free (making->work);
  g_free (making);
}

static void
make_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  Making *making = data;
  g_autoptr (GError) error = NULL;
  if (making->maker->make (making->work, making->dir_fd, making->progress, cancellable, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, g_steal_pointer (&error));
}

static gboolean
make_ready (Making *making, GError **error)
{
  BangerAsset *asset = making->asset;
  asset->state = BANGER_ASSET_READY;
  making->maker->take (asset, making->work);
  fault_point (asset, "made");
  if (!save (asset, making->dir_fd, error))
    return FALSE;
  banger_manager_changed (asset->manager, asset->class->object, asset->id, asset->class->properties);
  return TRUE;
}

static void
made (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) outer = data;
  Making *making = g_task_get_task_data (G_TASK (result));
  g_autoptr (GError) error = NULL;
  if (g_task_propagate_boolean (G_TASK (result), &error) && make_ready (making, &error)) {
    g_task_return_boolean (outer, TRUE);
    return;
  }
  banger_asset_drop (making->asset);
  g_task_return_error (outer, g_steal_pointer (&error));
}

void
banger_asset_make_async (BangerAsset *asset, const BangerAssetMaker *maker, gpointer work, BangerJob *job,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) outer = g_task_new (NULL, NULL, callback, user_data);
  g_autoptr (GTask) inner = g_task_new (NULL, banger_job_cancellable (job), made, g_object_ref (outer));
  Making *making = g_new0 (Making, 1);
  making->asset = asset;
  making->maker = maker;
  making->work = work;
  making->progress = banger_job_progress_new (job);
  g_task_set_task_data (inner, making, making_free);
  g_task_set_check_cancellable (inner, FALSE);
  g_autoptr (GError) error = NULL;
  making->dir_fd = banger_record_open_dir (kind_fd (asset->class, asset->manager), asset->id, &error);
  if (making->dir_fd < 0)
    g_task_return_error (inner, g_steal_pointer (&error));
  else
    g_task_run_in_thread (inner, make_thread);
}

gboolean
banger_asset_make_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
banger_asset_delete (BangerAsset *asset, GError **error)
{
  const BangerAssetClass *class = asset->class;
  g_autofree char *users = banger_manager_users_of (asset->manager, asset->id);
  if (asset->state != BANGER_ASSET_READY)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is %s: cancel its job or wait for the end",
                             class->kind, asset->name, class->making);
  if (users != NULL)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "%s \"%s\" is used by %s: delete them first", class->kind,
                             asset->name, users);
  if (!banger_record_remove (kind_fd (class, asset->manager), asset->id, error))
    return FALSE;
  forget (asset);
  return TRUE;
}
