/* Work in a thread that a cancelled job does not wait for.
 * Never writes to the image. */
#include "manager/image/export.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "common/sparse-copy.h"
#include "manager/core/work.h"
#include "manager/disk/intake.h"
#include "manager/image/layout.h"

typedef struct Export Export;
struct Export {
  BangerLayout layout; /* its name, and what it says of itself */
  int dir_fd, fd;
  gboolean (*write) (const Export *export, int from, BangerProgress progress, gpointer progress_data,
                     GCancellable *cancellable, GError **error);
  BangerJobProgress *progress;
};

typedef struct {
  BangerJob job;
  Export *export; /* the thread's once it has begun */
} ExportJob;

static void
export_free (gpointer data)
{
  Export *export = data;
  banger_clear_fd (&export->dir_fd);
  banger_clear_fd (&export->fd);
  banger_job_progress_free (export->progress);
  banger_layout_clear (&export->layout);
  g_free (export);
}

/* From where the file stands on. @ret_result: of what was written. */
static gboolean
write_archive (const Export *export, int from, BangerProgress progress, gpointer progress_data,
               GCancellable *cancellable, BangerIntakeResult *ret_result, GError **error)
{
  struct stat before, after;
  g_auto (BangerIntakeAnswer) answer = { 0 };
  const BangerIntake intake = { .verb = BANGER_INTAKE_EXPORT,
                                .what = "the image",
                                .bad = BANGER_ERROR_INVALID_IMAGE,
                                .source_fd = -1,
                                .target_fds = { from, export->fd },
                                .extra_fd = -1,
                                .progress = progress,
                                .progress_data = progress_data,
                                .cancellable = cancellable };
  if (fstat (export->fd, &before) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the file");
  if (!banger_intake_run (&intake, &answer, error))
    return FALSE;
  *ret_result = answer.result;
  return (fstat (export->fd, &after) == 0
          && answer.result.size_bytes == (guint64)after.st_size - (guint64)before.st_size)
         || banger_set_error (error, BANGER_ERROR_FAILED,
                              "the archive is not as long as the program that made it says");
}

static gboolean
write_tar (const Export *export, int from, BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
           GError **error)
{
  BangerIntakeResult result;
  return write_archive (export, from, progress, progress_data, cancellable, &result, error);
}

static gboolean
write_oci (const Export *export, int from, BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
           GError **error)
{
  BangerIntakeResult result;
  if (!banger_layout_begin (export->fd, error)
      || !write_archive (export, from, progress, progress_data, cancellable, &result, error))
    return FALSE;
  if (!g_str_has_prefix (result.digest, "sha256:"))
    return banger_set_error (error, BANGER_ERROR_FAILED, "the program that made the archive says no digest of it");
  return banger_layout_finish (export->fd, &export->layout, result.size_bytes, result.digest, error);
}

static gboolean
write_ext4 (const Export *export, int from, BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
            GError **error)
{
  struct stat st;
  if (fstat (from, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot look at the image");
  const BangerSparseCopy copy = { from,     export->fd,    (guint64)st.st_size, "the file",
                                  progress, progress_data, cancellable };
  return banger_sparse_copy (&copy, error);
}

static const struct {
  const char *word, *stage;
  gboolean (*write) (const Export *export, int from, BangerProgress progress, gpointer progress_data,
                     GCancellable *cancellable, GError **error);
} formats[] = { { "tar", "writing the archive", write_tar },
                { "ext4", "copying the file system", write_ext4 },
                { "oci", "writing the archive", write_oci } };

static guint
find_format (const char *format)
{
  guint i = 0;
  while (i < G_N_ELEMENTS (formats) && strcmp (formats[i].word, format) != 0)
    i++;
  return i;
}

gboolean
banger_image_export_check (const char *format, int fd, GError **error)
{
  struct stat st;
  int flags = fd < 0 ? -1 : fcntl (fd, F_GETFL);
  if (find_format (format ? format : formats[0].word) == G_N_ELEMENTS (formats))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "format: choose tar, ext4 or oci");
  if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) == O_RDONLY || fstat (fd, &st) < 0 || !S_ISREG (st.st_mode)
      || st.st_size != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                             "fd: give an empty regular file that is open for writing");
  return TRUE;
}

static gboolean
run (gpointer data, GCancellable *cancellable, GError **error)
{
  const Export *export = data;
  banger_autofd int from = openat (export->dir_fd, BANGER_FILE_IMAGE_ROOTFS,
                                   O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  g_autoptr (GError) local = NULL;
  if (from < 0)
    return banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno, "image %s: %s", export->layout.name,
                                   BANGER_FILE_IMAGE_ROOTFS);
  if (export->write (export, from, banger_job_progress_report, export->progress, cancellable, &local)) {
    if (fsync (export->fd) == 0)
      return TRUE;
    banger_set_error_errno (&local, errno == ENOSPC ? BANGER_ERROR_NO_SPACE : BANGER_ERROR_FAILED, errno,
                            "cannot write the file to the disk");
  }
  g_propagate_error (error, g_steal_pointer (&local));
  return FALSE;
}

static void
on_exported (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (BangerJob) job = data;
  g_autoptr (GError) error = NULL;
  banger_work_finish (result, &error);
  banger_job_finish (job, error);
}

static void
begin (BangerJob *job)
{
  static const BangerWork exporting = { .name = "export-image", .run = run, .free = export_free };
  Export *export = ((ExportJob *)job)->export;
  banger_work_async (&exporting, export, job->cancellable, on_exported, banger_job_ref (job));
}

BangerJob *
banger_image_export_job_new (const BangerImage *image, int dir_fd, int fd, const char *format, BangerJobs *jobs,
                             const BangerJobSpec *spec, GError **error)
{
  guint which = find_format (format ? format : formats[0].word);
  BangerJobSpec own = *spec;
  own.size = sizeof (ExportJob);
  own.begin = begin;
  own.object_kind = BANGER_OBJECT_IMAGE;
  own.object_id = image->asset.id;
  BangerJob *job = banger_job_new (jobs, &own, error);
  if (!job)
    return NULL;
  Export *export = g_new0 (Export, 1);
  export->layout.name = g_strdup (image->asset.name);
  banger_image_settings (image, export->layout.settings);
  export->dir_fd = dir_fd;
  export->fd = fd;
  export->write = formats[which].write;
  export->progress = banger_job_progress_new (job);
  ((ExportJob *)job)->export = export;
  banger_job_set_stage (job, formats[which].stage);
  return job;
}
