/* Golden images: records, and building and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by image-build.c. */
#include "manager/image.h"

#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/validate.h"
#include "manager/fault.h"
#include "manager/image-build.h"
#include "manager/manager.h"
#include "manager/record.h"

#define KIND "image"

static const char *const state_words[] = { "building", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_IMAGE_STATES + 1);

static const BangerRecordField fields[] = {
  { "id", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, id), NULL, TRUE },
  { "name", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, name), NULL, TRUE },
  { "state", BANGER_RECORD_WORD, G_STRUCT_OFFSET (BangerImage, state), state_words, TRUE },
  { "size-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, size_bytes) },
  { "used-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, used_bytes) },
  { "seed-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, seed_bytes) },
  { "source", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, source) },
  { "digest", BANGER_RECORD_STRING, G_STRUCT_OFFSET (BangerImage, digest) },
  { "created-at", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, created_at) },
  { NULL },
};

const char *
banger_image_state_to_string (BangerImageState state)
{
  g_return_val_if_fail (state < BANGER_N_IMAGE_STATES, state_words[BANGER_IMAGE_BUILDING]);
  return state_words[state];
}

int
banger_image_state_from_string (const char *word)
{
  for (int i = 0; i < BANGER_N_IMAGE_STATES; i++)
    if (g_strcmp0 (word, state_words[i]) == 0)
      return i;
  return -1;
}

static BangerImage *
image_new (BangerManager *manager)
{
  BangerImage *image = g_new0 (BangerImage, 1);
  image->manager = manager;
  image->id = g_strdup ("");
  image->name = g_strdup ("");
  image->source = g_strdup ("");
  image->digest = g_strdup ("");
  return image;
}

void
banger_image_free (BangerImage *image)
{
  if (image == NULL)
    return;
  banger_record_clear (fields, image);
  g_free (image);
}

/* What one directory holds: an image, nothing (half-made, removed), or an error to report. */
static BangerImage *
load_one (BangerManager *manager, const char *id, GError **error)
{
  g_autoptr (BangerImage) image = image_new (manager);
  gboolean missing = FALSE;
  g_autoptr (GError) local = NULL;
  banger_autofd int dir_fd = banger_record_open_dir (manager->images_fd, id, error);
  if (dir_fd < 0)
    return NULL;
  if (!banger_record_load (dir_fd, KIND, fields, image, &missing, &local) && !missing) {
    g_propagate_error (error, g_steal_pointer (&local));
    return NULL;
  }
  if (missing || image->state != BANGER_IMAGE_READY) {
    banger_log (LOG_NOTICE, NULL, "removing the half-made image %s (%s)", id, image->name);
    banger_record_remove (manager->images_fd, id, error);
    return NULL;
  }
  if (!g_str_equal (image->id, id)) {
    banger_set_error (error, BANGER_ERROR_STATE_CORRUPT, "record: it is of another image");
    return NULL;
  }
  return g_steal_pointer (&image);
}

gboolean
banger_image_load_all (BangerManager *manager, GError **error)
{
  g_auto (GStrv) ids = banger_record_list (manager->images_fd, error);
  if (ids == NULL)
    return FALSE;
  for (char **id = ids; *id != NULL; id++) {
    g_autoptr (GError) local = NULL;
    BangerImage *image = load_one (manager, *id, &local);
    if (image != NULL)
      g_hash_table_insert (manager->images, image->id, image);
    else if (g_error_matches (local, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT))
      banger_manager_set_aside (manager, BANGER_OBJECT_IMAGE, *id, local);
    else if (local != NULL)
      banger_log (LOG_WARNING, NULL, "image %s: %s", *id, local->message);
  }
  return TRUE;
}

static gboolean
save (BangerImage *image, int dir_fd, GError **error)
{
  return banger_record_save (dir_fd, KIND, fields, image, error);
}

static gboolean
check_name_free (BangerManager *manager, const char *name, GError **error)
{
  if (!banger_name_check (name, "image name", error))
    return FALSE;
  if (banger_manager_find_image (manager, name, NULL) != NULL)
    return banger_set_error (error, BANGER_ERROR_IMAGE_EXISTS,
                             "there is an image \"%s\" already: delete it first or choose another name", name);
  return TRUE;
}

static gboolean
is_build (const BangerImageOptions *options)
{
  return options->path == NULL && options->fd < 0;
}

static gboolean
check_source (const BangerImageOptions *options, GError **error)
{
  if (is_build (options))
    return banger_image_check_host (error);
  if (options->path != NULL && options->fd >= 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "image: give a path or a descriptor, not both");
  if (options->path != NULL && !g_path_is_absolute (options->path))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "image path \"%s\" is not absolute", options->path);
  return TRUE;
}

/* Where it comes from, for people. */
static char *
describe_source (const BangerImageOptions *options)
{
  if (is_build (options))
    return g_strdup_printf ("debian:%s", options->suite != NULL ? options->suite : BANGER_IMAGE_DEFAULT_SUITE);
  return g_strdup (options->path != NULL ? options->path : "stream");
}

BangerImage *
banger_image_add (BangerManager *manager, const char *name, const BangerImageOptions *options, GError **error)
{
  if (!check_name_free (manager, name, error) || !check_source (options, error))
    return NULL;
  g_autoptr (BangerImage) image = image_new (manager);
  g_free (image->id);
  image->id = banger_id_new ();
  g_free (image->name);
  image->name = g_strdup (name);
  g_free (image->source);
  image->source = describe_source (options);
  image->created_at = (guint64)g_get_real_time ();
  banger_autofd int dir_fd = banger_record_make_dir (manager->images_fd, image->id, error);
  if (dir_fd < 0)
    return NULL;
  if (!save (image, dir_fd, error)) {
    banger_record_remove (manager->images_fd, image->id, NULL);
    return NULL;
  }
  banger_fault_point ("image-recorded");
  BangerImage *kept = g_steal_pointer (&image);
  g_hash_table_insert (manager->images, kept->id, kept);
  banger_manager_added (manager, BANGER_OBJECT_IMAGE, kept->id);
  return kept;
}

static void
forget (BangerManager *manager, const char *id)
{
  g_autofree char *keep = g_strdup (id);
  if (g_hash_table_remove (manager->images, keep))
    banger_manager_removed (manager, BANGER_OBJECT_IMAGE, keep);
}

/* Out of the table at once; what is left on disk after a failure goes at the next start. */
static void
undo (BangerManager *manager, const char *id)
{
  g_autofree char *keep = g_strdup (id);
  g_autoptr (GError) error = NULL;
  forget (manager, keep);
  if (!banger_record_remove (manager->images_fd, keep, &error))
    banger_log (LOG_WARNING, NULL, "image %s: cannot remove what was made: %s", keep, error->message);
}

void
banger_image_drop (BangerImage *image)
{
  undo (image->manager, image->id);
}

typedef struct {
  BangerManager *manager;
  char *id;
  BangerImageOptions options; /* our own copies */
  int dir_fd;
  BangerJobProgress *progress;
  BangerImageInfo info;
} Work;

static void
work_free (gpointer data)
{
  Work *work = data;
  banger_job_progress_free (work->progress);
  banger_clear_fd (&work->dir_fd);
  banger_clear_fd (&work->options.fd);
  banger_image_info_clear (&work->info);
  g_strfreev (work->options.packages);
  g_free (work->options.suite);
  g_free (work->options.mirror);
  g_free (work->options.path);
  g_free (work->id);
  g_free (work);
}

static gboolean
make (Work *work, GCancellable *cancellable, GError **error)
{
  BangerImageBuildOptions options = {
    .suite = work->options.suite,
    .mirror = work->options.mirror,
    .packages = (const char *const *)work->options.packages,
    .size_bytes = work->options.size_bytes,
    .stage = banger_job_progress_stage,
    .stage_data = work->progress,
  };
  if (is_build (&work->options))
    return banger_image_build (work->dir_fd, &options, banger_job_progress_report, work->progress, cancellable,
                               &work->info, error);
  return banger_image_import (work->options.path, work->options.fd, work->dir_fd, &options, banger_job_progress_report,
                              work->progress, cancellable, &work->info, error);
}

static void
work_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  g_autoptr (GError) error = NULL;
  if (make (data, cancellable, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, g_steal_pointer (&error));
}

static gboolean
make_ready (BangerImage *image, Work *work, GError **error)
{
  image->state = BANGER_IMAGE_READY;
  image->size_bytes = work->info.size_bytes;
  image->used_bytes = work->info.used_bytes;
  image->seed_bytes = work->info.seed_bytes;
  g_free (image->digest);
  image->digest = g_strdup (work->info.digest != NULL ? work->info.digest : "");
  banger_fault_point ("image-made");
  if (!save (image, work->dir_fd, error))
    return FALSE;
  banger_manager_changed (image->manager, BANGER_OBJECT_IMAGE, image->id,
                          BANGER_PROPERTIES ("State", "SizeBytes", "UsedBytes", "Digest"));
  return TRUE;
}

static void
work_done (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) outer = data;
  Work *work = g_task_get_task_data (G_TASK (result));
  g_autoptr (GError) error = NULL;
  BangerImage *image = g_hash_table_lookup (work->manager->images, work->id);
  if (g_task_propagate_boolean (G_TASK (result), &error) && make_ready (image, work, &error)) {
    g_task_return_boolean (outer, TRUE);
    return;
  }
  undo (work->manager, work->id);
  g_task_return_error (outer, g_steal_pointer (&error));
}

static Work *
work_new (BangerImage *image, const BangerImageOptions *options, BangerJob *job)
{
  Work *work = g_new0 (Work, 1);
  work->manager = image->manager;
  work->id = g_strdup (image->id);
  work->options.path = g_strdup (options->path);
  work->options.fd = options->fd < 0 ? -1 : fcntl (options->fd, F_DUPFD_CLOEXEC, 3);
  work->options.suite = g_strdup (options->suite);
  work->options.mirror = g_strdup (options->mirror);
  work->options.packages = g_strdupv (options->packages);
  work->options.size_bytes = options->size_bytes;
  work->progress = banger_job_progress_new (job);
  return work;
}

void
banger_image_create_async (BangerImage *image, const BangerImageOptions *options, BangerJob *job,
                           GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) outer = g_task_new (NULL, NULL, callback, user_data);
  g_autoptr (GTask) inner = g_task_new (NULL, banger_job_cancellable (job), work_done, g_object_ref (outer));
  Work *work = work_new (image, options, job);
  g_task_set_task_data (inner, work, work_free);
  g_task_set_check_cancellable (inner, FALSE);
  g_autoptr (GError) error = NULL;
  work->dir_fd = banger_record_open_dir (image->manager->images_fd, image->id, &error);
  if (work->dir_fd >= 0 && options->fd >= 0 && work->options.fd < 0)
    banger_set_error (&error, BANGER_ERROR_FAILED, "image: the descriptor cannot be kept");
  if (error != NULL)
    g_task_return_error (inner, g_steal_pointer (&error));
  else
    g_task_run_in_thread (inner, work_thread);
}

gboolean
banger_image_create_finish (BangerManager *manager, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
banger_image_delete (BangerImage *image, GError **error)
{
  BangerManager *manager = image->manager;
  g_autofree char *users = banger_manager_users_of (manager, image->id);
  if (image->state != BANGER_IMAGE_READY)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "image \"%s\" is being built: cancel its job or wait for the end", image->name);
  if (users != NULL)
    return banger_set_error (error, BANGER_ERROR_IN_USE, "image \"%s\" is used by %s: delete them first", image->name,
                             users);
  g_autofree char *id = g_strdup (image->id);
  if (!banger_record_remove (manager->images_fd, id, error))
    return FALSE;
  forget (manager, id);
  return TRUE;
}
