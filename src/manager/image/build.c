/* Building a golden image: is the host able to, mmdebstrap at one end of a pipe, banger-intake with its ext4 writer at
 * the other. Runs in worker threads. Never writes anywhere but into the image's directory and
 * mmdebstrap's own temporary one. */
#include "manager/image/build.h"

#include <string.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/image/files.h"
#include "manager/image/mmdebstrap.h"

/* Share of the time: mmdebstrap until its tar, then the writer, then the end. */
#define MMDEBSTRAP_SHARE 0.90
#define TAR_SHARE 0.07
#define TYPICAL_TAR_BYTES (G_GUINT64_CONSTANT (200) << 20)

/* Two threads report: the one that reads mmdebstrap's lines, and this one. */
typedef struct {
  BangerProgress progress;
  gpointer data;
  GMutex lock;
  double last;
} Reporter;

static void
report (Reporter *reporter, double fraction)
{
  g_mutex_lock (&reporter->lock);
  if (fraction > reporter->last && reporter->progress) {
    reporter->last = fraction;
    reporter->progress (fraction, reporter->data);
  }
  g_mutex_unlock (&reporter->lock);
}

static void
report_mmdebstrap (double fraction, gpointer data)
{
  report (data, fraction * MMDEBSTRAP_SHARE);
}

static void
report_tar (double fraction, gpointer data)
{
  report (data, MMDEBSTRAP_SHARE + fraction * TAR_SHARE);
}

/* Can this user build? */

static gboolean
check_program (const char *name, const char *package, GError **error)
{
  g_autofree char *path = g_find_program_in_path (name);
  if (path)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "%s is not installed: apt install %s", name, package);
}

static gboolean
check_subids (const char *file, const char *option, GError **error)
{
  const char *name = g_get_user_name (); /* GLib asks once, here, in a thread: a name service may not answer */
  g_autofree char *text = NULL;
  if (g_file_get_contents (file, &text, NULL, NULL) && banger_subids_enough (text, name, getuid ()))
    return TRUE;
  return banger_set_error (
      error, BANGER_ERROR_NOT_SUPPORTED,
      "%s gives the user %s no range of 65536 ids; as root: usermod %s 100000-165535 %s (a range that "
      "nobody else has)",
      file, name, option, name);
}

static gboolean
check_namespaces (GError **error)
{
  static const struct {
    const char *file;
    const char *bad;
  } switches[] = { { "/proc/sys/kernel/unprivileged_userns_clone", "0" },
                   { "/proc/sys/user/max_user_namespaces", "0" },
                   { "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1" } };
  for (guint i = 0; i < G_N_ELEMENTS (switches); i++) {
    g_autofree char *text = NULL;
    if (g_file_get_contents (switches[i].file, &text, NULL, NULL) && strcmp (g_strstrip (text), switches[i].bad) == 0)
      return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                               "%s is %s: this host does not let users make user namespaces", switches[i].file, text);
  }
  return TRUE;
}

gboolean
banger_image_check_user (GError **error)
{
  return check_program ("newuidmap", "uidmap", error) && check_subids ("/etc/subuid", "--add-subuids", error)
         && check_subids ("/etc/subgid", "--add-subgids", error) && check_namespaces (error);
}

gboolean
banger_image_check_host (GError **error)
{
  return check_program ("mmdebstrap", "mmdebstrap", error) && banger_image_check_user (error);
}

/* The pipe broke because mmdebstrap failed: then its own words say more. */
static gboolean
failed_by_mmdebstrap (const GError *error)
{
  return g_error_matches (error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE);
}

static gboolean
end_run (BangerMmdebstrap *run, GError *failure, GError **error)
{
  if (!failure)
    return banger_mmdebstrap_end (run, FALSE, error);
  g_autoptr (GError) own = NULL;
  if (!failed_by_mmdebstrap (failure))
    banger_mmdebstrap_end (run, TRUE, NULL);
  else if (!banger_mmdebstrap_end (run, FALSE, &own)) {
    g_error_free (failure);
    g_propagate_error (error, g_steal_pointer (&own));
    return FALSE;
  }
  g_propagate_error (error, failure);
  return FALSE;
}

gboolean
banger_image_build (int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                    gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerImageInfo) info = { 0 };
  g_auto (BangerImageFiles) files = BANGER_IMAGE_FILES_INIT;
  Reporter reporter = { .progress = progress, .data = progress_data, .last = -1 };
  if (!banger_image_check_host (error) || !banger_image_files_create (&files, image_dir_fd, error))
    return FALSE;

  int tar_fd;
  BangerMmdebstrap *run = banger_mmdebstrap_start (options, report_mmdebstrap, &reporter, &tar_fd, error);
  if (!run)
    return FALSE;
  const BangerIntake intake = { .verb = BANGER_INTAKE_TAR,
                                .number = options->size_bytes,
                                .what = "what mmdebstrap made",
                                .source_fd = tar_fd,
                                .stream = TRUE,
                                .extra_fd = -1,
                                .expected_bytes = TYPICAL_TAR_BYTES,
                                .progress = report_tar,
                                .progress_data = &reporter,
                                .cancellable = cancellable };
  GError *failure = NULL;
  (void)banger_image_files_intake (&files, &intake, &info, &failure);
  if (!end_run (run, failure, error))
    return FALSE;
  if (!banger_image_files_finish (&files, &info, cancellable, error))
    return FALSE;
  report (&reporter, 1.0);
  *ret_info = info;
  info = (BangerImageInfo){ 0 };
  return TRUE;
}
