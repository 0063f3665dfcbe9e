/* What images are made from: the rows.
 * Never knows D-Bus; the bytes are written by build.c and import.c. */
#include "manager/image/sources.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/log.h"
#include "common/size.h"
#include "common/vm-bounds.h"
#include "manager/fetch/catalogs.h"
#include "manager/fetch/registry.h"
#include "manager/image/containerfile.h"
#include "manager/image/pull.h"

/* Before there is a job. 0: as large as needed. */
static gboolean
check_size (BangerSource *source, GError **error)
{
  guint64 bytes = ((const BangerImageSource *)source)->size_bytes;
  if (bytes == 0 || (bytes >= BANGER_IMAGE_MIN_BYTES && bytes <= BANGER_IMAGE_MAX_BYTES))
    return TRUE;
  g_autofree char *shown = banger_size_format (bytes), *least = banger_size_format (BANGER_IMAGE_MIN_BYTES),
                  *most = banger_size_format (BANGER_IMAGE_MAX_BYTES);
  return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "%s for a root file system: an image has %s to %s", shown,
                           least, most);
}

static gboolean
check_debian (BangerSource *source, GError **error)
{
  if (!source->name)
    source->name = g_strdup (BANGER_IMAGE_DEFAULT_SUITE);
  return check_size (source, error) && banger_image_check_host (error);
}

/* A folder is one with an image layout in it, or a root file system. */
static gboolean
check_path (BangerSource *source, GError **error)
{
  if (!check_size (source, error))
    return FALSE;
  if (!g_path_is_absolute (source->name) || !g_file_test (source->name, G_FILE_TEST_IS_DIR))
    return banger_source_open (source, error);
  source->fd = open (source->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *shown = banger_log_escape (source->name, PATH_MAX);
  return source->fd >= 0 || banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s", shown);
}

static gboolean
check_layers (BangerSource *source, GError **error)
{
  struct stat st;
  if (!check_path (source, error))
    return FALSE;
  g_autofree char *shown = banger_log_escape (source->name, PATH_MAX);
  return fstat (source->fd, &st) < 0 || !S_ISDIR (st.st_mode)
         || faccessat (source->fd, BANGER_LAYOUT_INDEX, R_OK, 0) == 0
         || banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                              "%s is a folder without an OCI image layout (it has no " BANGER_LAYOUT_INDEX ")", shown);
}

/* A path may have a colon of its own. */
static gboolean
check_reference (BangerSource *source, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  g_autofree char *whole = g_strdup (source->name);
  char *colon = strrchr (source->name, ':');
  if (colon && !g_file_test (source->name, G_FILE_TEST_EXISTS)) {
    /* "box:latest": a tag has no colon, and neither has a name but one with a port */
    *colon = '\0';
    while (!g_file_test (source->name, G_FILE_TEST_EXISTS) && (colon = strrchr (source->name, ':')) != NULL)
      *colon = '\0';
    image->reference = g_strdup (whole + strlen (source->name) + 1);
  }
  return check_layers (source, error);
}

static BangerImageBuildOptions
options_of (const BangerImageSource *image, BangerJobProgress *progress)
{
  return (BangerImageBuildOptions){
    .suite = image->source.name,
    .mirror = image->mirror,
    .packages = (const char *const *)image->packages,
    .link = image->link,
    .reference = image->reference,
    .size_bytes = image->size_bytes,
    .stage = banger_job_progress_stage,
    .stage_data = progress,
  };
}

static gboolean
warn (const BangerImageSource *image, BangerJobProgress *progress)
{
  if (image->notice)
    banger_job_progress_warn (image->notice, progress);
  for (char **text = image->info.warnings; text && *text; text++)
    banger_job_progress_warn (*text, progress);
  return TRUE;
}

static gboolean
make_debian (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  const BangerImageBuildOptions options = options_of (image, progress);
  return banger_image_build (dir_fd, &options, banger_job_progress_report, progress, cancellable, &image->info, error)
         && warn (image, progress);
}

static gboolean
make_opened (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  const BangerImageBuildOptions options = options_of (image, progress);
  return banger_image_import (source->fd, dir_fd, &options, banger_job_progress_report, progress, cancellable,
                              &image->info, error)
         && warn (image, progress);
}

/* Containerfiles */

static gboolean
check_containerfile (BangerSource *source, GError **error)
{
  return check_size (source, error)
         && banger_containerfile_check (source->name, ((const BangerImageSource *)source)->context, error);
}

static gboolean
make_built (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  const BangerImageBuildOptions options = options_of (image, progress);
  const BangerContainerfile containerfile = { source->name, image->context, progress };
  return banger_containerfile_build (&containerfile, dir_fd, &options, cancellable, &image->info, error)
         && warn (image, progress);
}

static gboolean
make_committed (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable,
                GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  const BangerImageBuildOptions options = options_of (image, progress);
  if (!banger_image_commit (&image->disks, dir_fd, &options, banger_job_progress_report, progress, cancellable,
                            &image->info, error))
    return FALSE;
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++) {
    g_strfreev (image->info.settings[i]);
    image->info.settings[i] = g_steal_pointer (&image->settings[i]);
  }
  return warn (image, progress);
}

static void
clear (BangerSource *source)
{
  BangerImageSource *image = (BangerImageSource *)source;
  if (image->let_go)
    image->let_go (image->held);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_strfreev (image->settings[i]);
  banger_image_info_clear (&image->info);
  g_strfreev (image->packages);
  g_free (image->mirror);
  g_free (image->reference);
  g_free (image->notice);
  g_clear_pointer (&image->catalogs, g_ptr_array_unref);
  g_free (image->context);
}

static char *
say_reference (const BangerSource *source)
{
  const BangerImageSource *image = (const BangerImageSource *)source;
  return g_strconcat (source->row->word, ":", source->name, image->reference ? ":" : NULL, image->reference, NULL);
}

/* Registries */

static gboolean
check_registry (BangerSource *source, GError **error)
{
  return check_size (source, error) && banger_registry_check (source->name, error);
}

static gboolean
check_storage (BangerSource *source, GError **error)
{
  return check_size (source, error) && banger_storage_check (source->name, error);
}

static void
say_pulled (guint64 bytes, guint64 rate, gpointer progress)
{
  g_autofree char *stage = g_strdup_printf ("downloading: %.1f MiB, %.1f MiB/s", (double)bytes / (1 << 20),
                                            (double)rate / (1 << 20));
  banger_job_progress_stage (stage, progress);
}

static gboolean
make_by_skopeo (BangerSource *source, int dir_fd, gboolean own_blobs, BangerJobProgress *progress,
                GCancellable *cancellable, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  const BangerImageBuildOptions options = options_of (image, progress);
  const BangerImagePull pull = { source->row->word, source->name, own_blobs, say_pulled };
  return banger_image_pull (&pull, dir_fd, &options, banger_job_progress_report, progress, cancellable, &image->info,
                            error)
         && warn (image, progress);
}

static gboolean
make_pulled (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  return make_by_skopeo (source, dir_fd, FALSE, progress, cancellable, error);
}

static gboolean
make_stored (BangerSource *source, int dir_fd, BangerJobProgress *progress, GCancellable *cancellable, GError **error)
{
  return make_by_skopeo (source, dir_fd, TRUE, progress, cancellable, error);
}

/* Becomes what it stands for, which is checked in its turn. */
static gboolean
check_catalog (BangerSource *source, GError **error)
{
  BangerImageSource *image = (BangerImageSource *)source;
  g_autoptr (GError) local = NULL;
  g_autoptr (BangerCatalogFound) found = NULL;
  if (banger_catalog_may_name (source->name))
    found = banger_catalogs_find (image->catalogs, BANGER_CATALOG_IMAGES, source->name, &local);
  if (local && !g_error_matches (local, BANGER_ERROR, BANGER_ERROR_NO_SUCH_IMAGE)) {
    g_propagate_error (error, g_steal_pointer (&local));
    return FALSE;
  }
  g_autofree char *reference = g_strconcat ("//", source->name, NULL);
  banger_source_choose (source, found ? found->word : BANGER_IMAGE_SOURCE_DOCKER, found ? found->what : reference);
  image->notice = found ? g_steal_pointer (&found->warning) : NULL;
  return source->row->check (source, error);
}

static gboolean
is_same_pull (const BangerSource *a, const BangerSource *b)
{
  return g_str_equal (a->name, b->name)
         && ((const BangerImageSource *)a)->size_bytes == ((const BangerImageSource *)b)->size_bytes;
}

static const BangerSourceRow rows[] = {
  { BANGER_IMAGE_SOURCE_CATALOG, TRUE, check_catalog, banger_source_say_both, NULL }, /* nothing is made as that */
  { BANGER_IMAGE_SOURCE_DEBIAN, FALSE, check_debian, banger_source_say_both, make_debian },
  { BANGER_IMAGE_SOURCE_DOCKER, TRUE, check_registry, banger_source_say_both, make_pulled, is_same_pull },
  { BANGER_IMAGE_SOURCE_STORAGE, TRUE, check_storage, banger_source_say_both, make_stored },
  { BANGER_IMAGE_SOURCE_OCI, TRUE, check_reference, say_reference, make_opened },
  { BANGER_IMAGE_SOURCE_OCI_ARCHIVE, TRUE, check_reference, say_reference, make_opened },
  { BANGER_IMAGE_SOURCE_DOCKER_ARCHIVE, TRUE, check_reference, say_reference, make_opened },
  { BANGER_IMAGE_SOURCE_CONTAINERFILE, FALSE, check_containerfile, banger_source_say_both, make_built },
  { BANGER_IMAGE_SOURCE_VM, FALSE, check_size, banger_source_say_both, make_committed },
  { BANGER_SOURCE_FILE, FALSE, check_path, banger_source_say_name, make_opened },
  { BANGER_SOURCE_STREAM, FALSE, check_size, banger_source_say_word, make_opened },
  { NULL },
};

const BangerSources banger_image_sources = { rows, sizeof (BangerImageSource), clear };
