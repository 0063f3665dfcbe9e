/* Golden images: their class of asset, and building and importing them as jobs.
 * Called by the bus side and by manager.c on behalf of vm.c.
 * Never knows D-Bus; the bytes are written by image-build.c. */
#include "manager/image.h"

#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/image-build.h"
#include "manager/manager.h"

static const char *const state_words[] = { "building", "ready", NULL };
G_STATIC_ASSERT (G_N_ELEMENTS (state_words) == BANGER_N_ASSET_STATES + 1);

static const BangerRecordField fields[] = {
  BANGER_ASSET_FIELDS (state_words),
  { "size-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, size_bytes) },
  { "used-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, used_bytes) },
  { "seed-bytes", BANGER_RECORD_UINT64, G_STRUCT_OFFSET (BangerImage, seed_bytes) },
  { NULL },
};

const BangerAssetClass banger_image_class = {
  .object = BANGER_OBJECT_IMAGE,
  .kind = "image",
  .a_kind = "an image",
  .size = sizeof (BangerImage),
  .fields = fields,
  .states = state_words,
  .making = "being built",
  .hint = "make one with `banger image build` or `banger image import`",
  .exists = BANGER_ERROR_IMAGE_EXISTS,
  .missing = BANGER_ERROR_NO_SUCH_IMAGE,
  .properties = BANGER_PROPERTIES ("State", "SizeBytes", "UsedBytes", "Digest"),
};

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
  if (!banger_asset_check_name (&banger_image_class, manager, name, error) || !check_source (options, error))
    return NULL;
  g_autofree char *source = describe_source (options);
  return banger_asset_add (&banger_image_class, manager, name, source, error);
}

typedef struct {
  BangerImageOptions options; /* our own copies */
  gboolean fd_lost;
  BangerImageInfo info;
} Work;

static void
work_free (gpointer data)
{
  Work *work = data;
  banger_clear_fd (&work->options.fd);
  banger_image_info_clear (&work->info);
  g_strfreev (work->options.packages);
  g_free (work->options.suite);
  g_free (work->options.mirror);
  g_free (work->options.path);
  g_free (work);
}

static gboolean
make (gpointer data, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  Work *work = data;
  BangerImageBuildOptions options = {
    .suite = work->options.suite,
    .mirror = work->options.mirror,
    .packages = (const char *const *)work->options.packages,
    .size_bytes = work->options.size_bytes,
    .stage = banger_job_progress_stage,
    .stage_data = progress,
  };
  if (work->fd_lost)
    return banger_set_error (error, BANGER_ERROR_FAILED, "image: the descriptor cannot be kept");
  if (is_build (&work->options))
    return banger_image_build (dir_fd, &options, banger_job_progress_report, progress, cancellable, &work->info, error);
  return banger_image_import (work->options.path, work->options.fd, dir_fd, &options, banger_job_progress_report,
                              progress, cancellable, &work->info, error);
}

static void
take (gpointer asset, gpointer data)
{
  BangerImage *image = asset;
  Work *work = data;
  image->size_bytes = work->info.size_bytes;
  image->used_bytes = work->info.used_bytes;
  image->seed_bytes = work->info.seed_bytes;
  banger_asset_set_string (&image->asset.digest, work->info.digest);
}

void
banger_image_create_async (BangerImage *image, const BangerImageOptions *options, BangerJob *job,
                           GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerAssetMaker maker = { make, take, work_free };
  Work *work = g_new0 (Work, 1);
  work->options.path = g_strdup (options->path);
  work->options.fd = options->fd < 0 ? -1 : fcntl (options->fd, F_DUPFD_CLOEXEC, 3);
  work->fd_lost = options->fd >= 0 && work->options.fd < 0;
  work->options.suite = g_strdup (options->suite);
  work->options.mirror = g_strdup (options->mirror);
  work->options.packages = g_strdupv (options->packages);
  work->options.size_bytes = options->size_bytes;
  banger_asset_make_async (&image->asset, &maker, work, job, callback, user_data);
}
