/* What images and kernels have in common: a record in a directory of its own, and files there that a job makes.
 * Never knows D-Bus, nor what the files are. */
#include "manager/core/asset.h"

#include <fcntl.h>
#include <limits.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "manager/core/fault.h"
#include "manager/core/later.h"

#define MAX_TAGS 64u
#define LEAVE_SECONDS 5 /* that a cancelled job waits for its thread */

struct BangerAssets {
  const BangerAssetClass *class;
  GHashTable *table; /* id -> BangerAsset */
  int dir_fd;        /* borrowed */
  BangerWriter *writer;
  const BangerAssetsHouse *house;
  gpointer user_data;
};

void
banger_asset_set_string (char **where, const char *value)
{
  g_free (*where);
  *where = g_strdup (value != NULL ? value : "");
}

static BangerAsset *
asset_new (BangerAssets *assets)
{
  const BangerAssetClass *class = assets->class;
  BangerAsset *asset = g_malloc0 (class->size);
  asset->class = class;
  asset->assets = assets;
  asset->dir_fd = -1;
  for (const BangerRecordField *field = class->fields; field->key; field++)
    if (field->type == BANGER_RECORD_STRING)
      G_STRUCT_MEMBER (char *, asset, field->offset) = g_strdup ("");
  return asset;
}

static void
asset_free (BangerAsset *asset)
{
  banger_record_clear (asset->class->fields, asset);
  banger_clear_fd (&asset->dir_fd);
  g_free (asset);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerAsset, asset_free)

BangerAssets *
banger_assets_new (const BangerAssetClass *class, const BangerAssetsHouse *house, gpointer data)
{
  BangerAssets *assets = g_new0 (BangerAssets, 1);
  assets->class = class;
  assets->table = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)asset_free);
  assets->dir_fd = -1;
  assets->house = house;
  assets->user_data = data;
  return assets;
}

void
banger_assets_free (BangerAssets *assets)
{
  g_hash_table_unref (assets->table);
  g_free (assets);
}

gpointer
banger_assets_find_id (BangerAssets *assets, const char *id)
{
  return g_hash_table_lookup (assets->table, id);
}

GPtrArray *
banger_assets_ids (BangerAssets *assets)
{
  return banger_table_ids (assets->table);
}

static void
fault_point (const BangerAsset *asset, const char *where)
{
  g_autofree char *name = g_strconcat (asset->class->kind, "-", where, NULL);
  banger_fault_point (name);
}

/* What one directory holds: an asset, nothing (half-made, removed), or an error to report. */
static BangerAsset *
load_one (BangerAssets *assets, const char *id, GError **error)
{
  const BangerAssetClass *class = assets->class;
  g_autoptr (BangerAsset) asset = asset_new (assets);
  gboolean missing = FALSE;
  g_autoptr (GError) local = NULL;
  banger_autofd int dir_fd = banger_record_open_dir (assets->dir_fd, id, error);
  if (dir_fd < 0)
    return NULL;
  if (!banger_record_load (dir_fd, class->kind, class->fields, asset, &missing, &local) && !missing) {
    g_propagate_error (error, g_steal_pointer (&local));
    return NULL;
  }
  if (missing || asset->state != BANGER_ASSET_READY) {
    banger_log (LOG_NOTICE, NULL, "removing the half-made %s %s (%s)", class->kind, id, asset->name);
    banger_record_remove_async (assets->dir_fd, id, NULL, NULL); /* large: nobody waits for it */
    return NULL;
  }
  if (!g_str_equal (asset->id, id)) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: it is of another %s", class->kind);
    return NULL;
  }
  asset->dir_fd = banger_steal_fd (&dir_fd);
  return g_steal_pointer (&asset);
}

static void
set_aside (BangerAssets *assets, const char *id, const GError *why)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *name = banger_record_set_aside (assets->dir_fd, id, &error);
  if (!name)
    banger_log (LOG_ERR, NULL, "%s", error->message);
  assets->house->set_aside (assets->class->object, name ? name : id, why, assets->user_data);
}

gboolean
banger_assets_load (BangerAssets *assets, int dir_fd, BangerWriter *writer, GError **error)
{
  const BangerAssetClass *class = assets->class;
  assets->dir_fd = dir_fd;
  assets->writer = writer;
  g_auto (GStrv) ids = banger_record_list (assets->dir_fd, error);
  if (!ids)
    return FALSE;
  for (char **id = ids; *id; id++) {
    g_autoptr (GError) local = NULL;
    BangerAsset *asset = load_one (assets, *id, &local);
    if (asset)
      g_hash_table_insert (assets->table, asset->id, asset);
    else if (g_error_matches (local, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT))
      set_aside (assets, *id, local);
    else if (local)
      banger_log (LOG_WARNING, NULL, "%s %s: %s", class->kind, *id, local->message);
  }
  return TRUE;
}

gboolean
banger_asset_has_tag (const BangerAsset *asset, const char *name)
{
  return asset->tags && g_strv_contains ((const char *const *)asset->tags, name);
}

gpointer
banger_asset_find (BangerAssets *assets, const char *name, GError **error)
{
  const BangerAssetClass *class = assets->class;
  GHashTableIter iter;
  gpointer value = g_hash_table_lookup (assets->table, name);
  if (value) /* before names: an older record's may look like an id */
    return value;
  g_hash_table_iter_init (&iter, assets->table);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (g_str_equal (((BangerAsset *)value)->name, name) || banger_asset_has_tag (value, name))
      return value;
  g_autofree char *shown = banger_log_escape (name, 64);
  banger_set_error (error, class->missing, "no %s \"%s\": %s", class->kind, shown, class->hint);
  return NULL;
}

gpointer
banger_asset_find_ready (BangerAssets *assets, const char *name, int *ret_dir_fd, GError **error)
{
  const BangerAssetClass *class = assets->class;
  BangerAsset *asset = banger_asset_find (assets, name, error);
  if (!asset)
    return NULL;
  if (asset->state != BANGER_ASSET_READY) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is still %s", class->kind, asset->name,
                      class->making);
    return NULL;
  }
  if (asset->going) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is being deleted", class->kind, asset->name);
    return NULL;
  }
  *ret_dir_fd = fcntl (asset->dir_fd, F_DUPFD_CLOEXEC, 3);
  if (*ret_dir_fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot use %s \"%s\"", class->kind, asset->name);
  return *ret_dir_fd < 0 ? NULL : asset;
}

gboolean
banger_asset_check_name (BangerAssets *assets, const char *name, GError **error)
{
  const BangerAssetClass *class = assets->class;
  g_autofree char *what = g_strconcat (class->kind, " name", NULL);
  if (!banger_new_name_check (name, what, error))
    return FALSE;
  if (banger_asset_find (assets, name, NULL))
    return banger_set_error (error, class->exists, "there is %s \"%s\" already: delete it first or choose another name",
                             class->a_kind, name);
  return TRUE;
}

static BangerAsset *
add (BangerAssets *assets, const char *name, const BangerSource *source)
{
  g_autoptr (BangerAsset) asset = asset_new (assets);
  g_free (asset->id);
  asset->id = banger_id_new ();
  banger_asset_set_string (&asset->name, name);
  g_autofree char *text = source->row->describe (source);
  g_autofree char *shown = g_utf8_validate (text, -1, NULL) ? g_strdup (text) : banger_log_escape (text, PATH_MAX);
  banger_asset_set_string (&asset->source, shown);
  asset->created_at = (guint64)g_get_real_time ();
  BangerAsset *kept = g_steal_pointer (&asset);
  g_hash_table_insert (assets->table, kept->id, kept);
  assets->house->objects.added (assets->class->object, kept->id, assets->user_data);
  return kept;
}

static void
forget (BangerAsset *asset)
{
  BangerAssets *assets = asset->assets;
  g_autofree char *id = g_strdup (asset->id);
  if (g_hash_table_remove (assets->table, id))
    assets->house->objects.removed (assets->class->object, id, assets->user_data);
}

/* One that is being made: the job that it is. */
typedef struct {
  BangerJob job;
  BangerAsset *asset; /* in the table until it is made; NULL: not any more */
  BangerAssets *assets;
  BangerSource *source;
  int dir_fd;
  BangerJobProgress *progress;
  guint leave_id;
  gboolean left; /* nobody waits for it */
  GError *error; /* while what was made is taken away */
} Making;

/* @error: (transfer none) (nullable). Once: who left was told. */
static void
making_finish (Making *making, const GError *error)
{
  g_signal_handlers_disconnect_by_data (making->job.cancellable, making);
  g_clear_handle_id (&making->leave_id, g_source_remove);
  if (!making->left)
    banger_job_finish (&making->job, error);
}

static void
making_free (Making *making)
{
  banger_clear_fd (&making->dir_fd);
  g_clear_pointer (&making->source, banger_source_free);
  g_clear_pointer (&making->progress, banger_job_progress_free);
  g_clear_error (&making->error);
  banger_job_unref (&making->job);
}

static void
on_unmade (GObject *source, GAsyncResult *result, gpointer data)
{
  Making *making = data;
  g_autoptr (GError) error = NULL;
  if (!banger_record_drop_finish (result, &error))
    banger_log (LOG_WARNING, NULL, "cannot remove what was made: %s", error->message);
  making_finish (making, making->error);
  making_free (making);
}

/* Out of the table at once; what is left on disk after a failure goes as soon as it can. @error: (nullable): it was left,
 * and who waited was told. */
static void
unmake (Making *making, GError *error)
{
  making->error = error;
  if (making->asset)
    forget (g_steal_pointer (&making->asset));
  banger_record_remove_async (making->assets->dir_fd, making->job.object_id, on_unmade, making);
}

static void
on_ready (GObject *source, GAsyncResult *result, gpointer data)
{
  Making *making = data;
  BangerAsset *asset = making->asset;
  GError *error = NULL;
  if (!banger_writer_finish (result, &error) || !asset) {
    unmake (making, error);
    return;
  }
  fault_point (asset, "kept");
  asset->dir_fd = banger_steal_fd (&making->dir_fd);
  asset->state = BANGER_ASSET_READY;
  asset->making = NULL;
  g_autoptr (GPtrArray) changed = banger_record_changes (asset->class->fields, NULL, NULL);
  g_ptr_array_add (changed, NULL);
  const BangerAssets *assets = asset->assets;
  assets->house->objects.changed (asset->class->object, asset->id, (const char *const *)changed->pdata,
                                  assets->user_data);
  making_finish (making, NULL);
  making_free (making);
}

/* A disk may hang: whoever cancelled does not wait for it for long. What is made goes when the disk has answered. */
static gboolean
on_leave (gpointer data)
{
  Making *making = data;
  g_autoptr (GError) error = making->error ? g_steal_pointer (&making->error) : banger_error_cancelled ();
  making->leave_id = 0;
  if (making->asset)
    forget (g_steal_pointer (&making->asset));
  making_finish (making, error);
  making->left = TRUE;
  return G_SOURCE_REMOVE;
}

static void
on_making_cancelled (GCancellable *cancellable, Making *making)
{
  making->leave_id = g_timeout_add_seconds (LEAVE_SECONDS, on_leave, making);
}

/* It is used when its record says that it is whole, not before: the next start would remove it. */
static void
on_made (GObject *source, GAsyncResult *result, gpointer data)
{
  Making *making = data;
  BangerAsset *asset = making->asset;
  GError *error = NULL;
  if (!g_task_propagate_boolean (G_TASK (result), &error) || !asset) {
    unmake (making, error);
    return;
  }
  asset->class->take (asset, making->source);
  fault_point (asset, "made");
  g_autofree BangerAsset *ready = g_memdup2 (asset, asset->class->size);
  ready->state = BANGER_ASSET_READY;
  banger_record_put (asset->assets->writer, NULL, making->dir_fd, asset->class->kind, asset->class->fields, ready,
                     on_ready, making);
}

static gpointer
make_thread (gpointer data)
{
  g_autoptr (GTask) task = data;
  Making *making = g_task_get_task_data (task);
  g_autoptr (GError) error = NULL;
  making->dir_fd = banger_record_open_dir (making->assets->dir_fd, making->job.object_id, &error);
  if (making->dir_fd >= 0)
    making->source->row->make (making->source, making->dir_fd, making->progress, making->job.cancellable, &error);
  banger_fault_hang ("make-asset");
  banger_task_return (task, g_steal_pointer (&error));
  return NULL;
}

static void
on_added (GObject *source, GAsyncResult *result, gpointer data)
{
  Making *making = data;
  const BangerAsset *asset = making->asset;
  GError *error = NULL;
  if (!banger_writer_finish (result, &error) || !asset) {
    unmake (making, error);
    return;
  }
  fault_point (asset, "recorded");
  /* A thread of its own: it takes minutes, and the pool's are for those whom somebody waits for. */
  GTask *made = g_task_new (NULL, NULL, on_made, making);
  g_task_set_task_data (made, making, NULL);
  GThread *thread = g_thread_try_new (asset->class->kind, make_thread, made, &error);
  if (!thread) {
    g_task_return_error (made, error);
    g_object_unref (made);
    return;
  }
  g_thread_unref (thread);
}

static void
begin (BangerJob *job)
{
  Making *making = (Making *)job->shared;
  const BangerAsset *asset = making->asset;
  g_signal_connect (making->job.cancellable, "cancelled", G_CALLBACK (on_making_cancelled), making);
  banger_record_add (asset->assets->writer, asset->assets->dir_fd, asset->id, asset->class->kind, asset->class->fields,
                     asset, on_added, making);
}

/* Whoever wants just what is being made waits for it, too. */
static void
begin_waiting (BangerJob *job)
{
}

static BangerJob *
follow (BangerAsset *asset, BangerJob *shared, BangerJobs *jobs, const BangerJobSpec *spec, GError **error)
{
  BangerJobSpec own = *spec;
  own.begin = shared->followers ? begin_waiting : begin;
  own.object_kind = asset->class->object;
  own.object_id = asset->id;
  return banger_job_follow (shared, jobs, &own, error);
}

BangerJob *
banger_asset_job_new (BangerAssets *assets, const char *name, BangerSource *source, BangerJobs *jobs,
                      const BangerJobSpec *spec, GError **error)
{
  BangerAsset *asset = add (assets, name, source);
  Making *making = (Making *)banger_job_new_part (sizeof (Making), NULL);
  making->job.object_id = g_strdup (asset->id);
  making->dir_fd = -1;
  BangerJob *job = follow (asset, &making->job, jobs, spec, error);
  if (!job) {
    forget (asset);
    banger_source_free (source);
    banger_job_unref (&making->job);
    return NULL;
  }
  making->asset = asset;
  making->assets = assets;
  making->source = source;
  making->progress = banger_job_progress_new (&making->job);
  asset->making = &making->job;
  return job;
}

/* What was checked may have been opened: only a source that is a name alone is the same when its words are. */
static gboolean
is_same (const BangerSource *a, const BangerSource *b)
{
  return a->row == b->row && a->row->same && a->row->same (a, b);
}

gboolean
banger_asset_is_being_made (BangerAssets *assets, const char *name, const BangerSource *source)
{
  const BangerAsset *asset = banger_asset_find (assets, name, NULL);
  const Making *making = asset ? (const Making *)asset->making : NULL;
  return making && g_str_equal (asset->name, name) && !g_cancellable_is_cancelled (making->job.cancellable)
         && (!source || is_same (making->source, source));
}

BangerJob *
banger_asset_job_join (BangerAssets *assets, const char *name, BangerJobs *jobs, const BangerJobSpec *spec,
                       GError **error)
{
  BangerAsset *asset = banger_asset_find (assets, name, error);
  return asset ? follow (asset, asset->making, jobs, spec, error) : NULL;
}

static gboolean
check_delete (const BangerAsset *asset, GError **error)
{
  const BangerAssetClass *class = asset->class;
  g_autofree char *users = asset->assets->house->users_of (asset->id, asset->assets->user_data);
  if (asset->state != BANGER_ASSET_READY)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is %s: cancel its job or wait for the end",
                             class->kind, asset->name, class->making);
  if (asset->going)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is being deleted", class->kind, asset->name);
  if (asset->tagging)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is being given another name: try again",
                             class->kind, asset->name);
  if (asset->tags && *asset->tags) {
    g_autofree char *tags = g_strjoinv (", ", asset->tags);
    return banger_set_error (error, BANGER_ERROR_IN_USE, "%s \"%s\" is also called %s: delete these names first",
                             class->kind, asset->name, tags);
  }
  if (users)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "%s \"%s\" is used by %s: delete them first", class->kind,
                             asset->name, users);
  return TRUE;
}

static void
on_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  BangerAsset *asset = g_task_get_task_data (task);
  GError *error = NULL;
  gboolean there = TRUE;
  gboolean ok = banger_record_remove_finish (result, &there, &error);
  asset->going = FALSE;
  if (!ok && !there)
    banger_record_remove_async (asset->assets->dir_fd, asset->id, NULL, NULL);
  if (!there) /* without its record it is none, whatever is left of it */
    forget (asset);
  banger_task_return (task, error);
}

void
banger_asset_delete_async (BangerAsset *asset, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  GError *error = NULL;
  g_task_set_task_data (task, asset, NULL);
  if (!check_delete (asset, &error)) {
    g_task_return_error (task, error);
    return;
  }
  asset->going = TRUE;
  banger_record_remove_async (asset->assets->dir_fd, asset->id, on_deleted, g_object_ref (task));
}

gboolean
banger_asset_delete_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

/* Other names */

typedef struct {
  BangerAsset *asset; /* not deleted meanwhile */
  char *tag;
  gboolean add, rename; /* rename: it becomes its own name, and is one of the others until that is on the disk */
} Tagging;

static void
tagging_free (gpointer data)
{
  Tagging *tagging = data;
  g_free (tagging->tag);
  g_free (tagging);
}

/* Returns: (transfer full): the asset's other names with @tag, or without it. */
static char **
tags_with (const BangerAsset *asset, const char *tag, gboolean add)
{
  g_autoptr (GStrvBuilder) tags = g_strv_builder_new ();
  for (char **each = asset->tags; each && *each; each++)
    if (!g_str_equal (*each, tag))
      g_strv_builder_add (tags, *each);
  if (add)
    g_strv_builder_add (tags, tag);
  return g_strv_builder_end (tags);
}

static void
set_tags (BangerAsset *asset, char **tags)
{
  g_strfreev (asset->tags);
  asset->tags = tags;
}

static void
on_tagged (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  const Tagging *tagging = g_task_get_task_data (task);
  BangerAsset *asset = tagging->asset;
  const BangerAssets *assets = asset->assets;
  GError *error = NULL;
  gboolean written = banger_writer_finish (result, &error);
  asset->tagging = FALSE;
  if (written != tagging->add || tagging->rename) /* a name is taken before it is on the disk, and free after that */
    set_tags (asset, tags_with (asset, tagging->tag, FALSE));
  if (written && tagging->rename)
    banger_asset_set_string (&asset->name, tagging->tag);
  if (!written) {
    g_task_return_error (task, error);
    return;
  }
  assets->house->objects.changed (assets->class->object, asset->id,
                                  tagging->rename ? BANGER_PROPERTIES ("Name") : BANGER_PROPERTIES ("Tags"),
                                  assets->user_data);
  g_task_return_boolean (task, TRUE);
}

gboolean
banger_asset_check_tag (const BangerAsset *asset, gboolean add, GError **error)
{
  const BangerAssetClass *class = asset->class;
  if (asset->state != BANGER_ASSET_READY || asset->going || asset->tagging)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "%s \"%s\" is %s", class->kind, asset->name,
                             asset->going     ? "being deleted"
                             : asset->tagging ? "being given another name: try again"
                                              : class->making);
  return !add || !asset->tags || g_strv_length (asset->tags) < MAX_TAGS
         || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s \"%s\" has %u other names, which is the limit",
                              class->kind, asset->name, MAX_TAGS);
}

static void
name_async (BangerAsset *asset, const char *tag, gboolean add, gboolean rename, GAsyncReadyCallback callback,
            gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  GError *error = NULL;
  if (!banger_asset_check_tag (asset, add && !rename, &error)
      || (add && !banger_asset_check_name (asset->assets, tag, &error)))
  {
    g_task_return_error (task, error);
    return;
  }
  Tagging *tagging = g_new0 (Tagging, 1);
  *tagging = (Tagging){ asset, g_strdup (tag), add, rename };
  g_task_set_task_data (task, tagging, tagging_free);
  asset->tagging = TRUE;
  g_autofree BangerAsset *written = g_memdup2 (asset, asset->class->size);
  g_auto (GStrv) tags = tags_with (asset, tag, add && !rename);
  written->tags = tags;
  if (rename)
    written->name = tagging->tag;
  if (add)
    set_tags (asset, tags_with (asset, tag, TRUE));
  banger_record_put (asset->assets->writer, NULL, asset->dir_fd, asset->class->kind, asset->class->fields, written,
                     on_tagged, g_steal_pointer (&task));
}

void
banger_asset_tag_async (BangerAsset *asset, const char *tag, gboolean add, GAsyncReadyCallback callback,
                        gpointer user_data)
{
  name_async (asset, tag, add, FALSE, callback, user_data);
}

void
banger_asset_rename_async (BangerAsset *asset, const char *name, GAsyncReadyCallback callback, gpointer user_data)
{
  name_async (asset, name, TRUE, TRUE, callback, user_data);
}

gboolean
banger_asset_tag_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

guint
banger_assets_going (BangerAssets *assets)
{
  GHashTableIter iter;
  gpointer asset;
  guint n = 0;
  g_hash_table_iter_init (&iter, assets->table);
  while (g_hash_table_iter_next (&iter, NULL, &asset))
    n += ((BangerAsset *)asset)->going ? 1 : 0;
  return n;
}
