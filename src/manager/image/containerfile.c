/* buildah as a child process, its layout in a folder of the blobs' store, and that as an image.
 * Runs in worker threads.
 * Never hands it a word that it could take for an option, never leaves a process of it behind. */
#include "manager/image/containerfile.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "manager/core/job.h"
#include "manager/core/program.h"
#include "manager/fetch/blobs.h"

#define MAX_OUTPUT (256u << 10)
#define MAX_SECONDS (6 * 3600)
#define PATIENCE_SECONDS 20 /* that it has to take its container away */
#define RESERVE_BYTES ((guint64)256 << 20)
#define TAIL_LINES 8u
#define TAIL_BYTES 1500u
#define BUILD_SHARE 0.8 /* of the progress */

static gboolean
check_kind (const char *path, const char *what, mode_t kind, GError **error)
{
  struct stat st;
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  if (!g_path_is_absolute (path))
    return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s \"%s\" is not absolute", what, shown);
  if (stat (path, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, errno, "cannot open %s %s", what, shown);
  return (st.st_mode & S_IFMT) == kind
         || banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s %s is no %s", what, shown,
                              kind == S_IFDIR ? "folder" : "file");
}

gboolean
banger_containerfile_check (const char *file, const char *context, GError **error)
{
  g_autofree char *program = g_find_program_in_path ("buildah");
  if (!program)
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                             "buildah is not installed, which builds Containerfiles: apt install buildah");
  return check_kind (file, "Containerfile", S_IFREG, error) && check_kind (context, "context", S_IFDIR, error)
         && banger_image_check_user (error);
}

/* "STEP 3/5: RUN make" */
static void
on_printed (const char *text, gpointer data)
{
  const BangerContainerfile *containerfile = data;
  unsigned step, steps;
  const char *found = g_strrstr (text, "STEP ");
  if (!found || sscanf (found, "STEP %u/%u:", &step, &steps) != 2 || step == 0 || steps < step || steps > 100000)
    return;
  g_autofree char *stage = g_strdup_printf ("building: step %u of %u", step, steps);
  banger_job_progress_stage (stage, containerfile->progress);
  banger_job_progress_report (BUILD_SHARE * (double)(step - 1) / (double)steps, containerfile->progress);
}

static gboolean
look (gpointer data, GError **error)
{
  struct statvfs disk;
  const BangerBlobStore *store = data;
  return fstatvfs (store->dir_fd, &disk) < 0 || (guint64)disk.f_bavail * disk.f_frsize >= RESERVE_BYTES
         || banger_set_error (error, BANGER_ERROR_NO_SPACE, "less than %" G_GUINT64_FORMAT " MiB are free on the disk",
                              RESERVE_BYTES >> 20);
}

/* Returns: (transfer full): its last lines, one behind the other. */
static char *
last_lines (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  guint n = g_strv_length (lines);
  while (n > 0 && *g_strstrip (lines[n - 1]) == '\0')
    g_clear_pointer (&lines[--n], g_free);
  g_autofree char *joined = g_strjoinv ("; ", lines + (n > TAIL_LINES ? n - TAIL_LINES : 0));
  gsize length = strlen (joined);
  return banger_log_escape (joined + (length > TAIL_BYTES ? length - TAIL_BYTES : 0), TAIL_BYTES);
}

static gboolean
run_buildah (const BangerContainerfile *containerfile, const BangerBlobStore *store, GCancellable *cancellable,
             GError **error)
{
  g_autofree char *target = g_strconcat ("oci:", store->path, "/", store->pull, ":image", NULL);
  const char *const argv[] = { "buildah",  "bud",  "--isolation", "chroot",
                               "--format", "oci",  "--file",      containerfile->file,
                               "--tag",    target, "--",          containerfile->context,
                               NULL };
  const BangerProgram program = { .argv = argv,
                                  .folder = containerfile->context,
                                  .max_output = MAX_OUTPUT,
                                  .tail = TRUE,
                                  .printed = on_printed,
                                  .printed_data = (gpointer)containerfile,
                                  .patience_seconds = PATIENCE_SECONDS,
                                  .keeper = TRUE,
                                  .seconds = MAX_SECONDS,
                                  .cancellable = cancellable,
                                  .look = look,
                                  .look_data = (gpointer)store };
  g_autofree char *errors = NULL;
  g_autoptr (GError) local = NULL;
  g_autofree char *out = banger_program_run (&program, &errors, &local);
  if (out)
    return TRUE;
  if (!errors || *errors == '\0' || !g_error_matches (local, BANGER_ERROR, BANGER_ERROR_FAILED)) {
    g_propagate_error (error, g_steal_pointer (&local));
    return FALSE;
  }
  g_autofree char *words = last_lines (errors);
  return banger_set_error (error, BANGER_ERROR_FAILED, "buildah: %s", words);
}

static void
report_import (double fraction, gpointer progress)
{
  banger_job_progress_report (fraction < 0 ? -1 : BUILD_SHARE + (1 - BUILD_SHARE) * fraction, progress);
}

gboolean
banger_containerfile_build (const BangerContainerfile *containerfile, int image_dir_fd,
                            const BangerImageBuildOptions *options, GCancellable *cancellable,
                            BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerBlobStore) store = BANGER_BLOB_STORE_INIT;
  banger_job_progress_stage ("building", containerfile->progress);
  if (!banger_blob_store_open (&store, image_dir_fd, error) || !run_buildah (containerfile, &store, cancellable, error))
    return FALSE;
  banger_autofd int own = banger_blob_store_own (&store);
  if (own < 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "buildah has left no image");
  return banger_image_import_layers (store.pull_fd, own, image_dir_fd, options, report_import, containerfile->progress,
                                     cancellable, ret_info, error);
}
