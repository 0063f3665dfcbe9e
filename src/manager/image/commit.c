/* Handing a VM's disks to banger-intake, one by one as it asks for them.
 * Runs in worker threads.
 * Never parses a disk, never writes to one. */
#include "manager/image/commit.h"

#include <fcntl.h>
#include <string.h>

#include "manager/image/files.h"

static int
open_disk (const char *name, gpointer data)
{
  const BangerImageDisks *disks = data;
  const struct {
    const char *name;
    int fd;
  } rows[] = { { BANGER_INTAKE_DISK_ROOT, disks->root_fd },
               { BANGER_INTAKE_DISK_COW, disks->cow_fd },
               { BANGER_INTAKE_DISK_WORK, disks->work_fd } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    if (strcmp (name, rows[i].name) == 0)
      return rows[i].fd < 0 ? -1 : fcntl (rows[i].fd, F_DUPFD_CLOEXEC, 3);
  return -1;
}

gboolean
banger_image_commit (const BangerImageDisks *disks, int image_dir_fd, const BangerImageBuildOptions *options,
                     BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                     BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerImageInfo) info = { 0 };
  g_auto (BangerImageFiles) files = BANGER_IMAGE_FILES_INIT;
  g_autofree char *there = g_strconcat (disks->cow_fd >= 0 ? BANGER_INTAKE_DISK_COW "," : "",
                                        disks->work_fd >= 0 ? BANGER_INTAKE_DISK_WORK : "", NULL);
  const BangerIntake intake = { .verb = BANGER_INTAKE_COMMIT,
                                .reference = there,
                                .what = "the VM's disks",
                                .source_fd = -1,
                                .extra_fd = -1,
                                .open = open_disk,
                                .open_data = (gpointer)disks,
                                .progress = progress,
                                .progress_data = progress_data,
                                .cancellable = cancellable };
  if (options->stage)
    options->stage ("reading the disks", options->stage_data);
  if (!banger_image_files_create (&files, image_dir_fd, error)
      || !banger_image_files_intake (&files, &intake, &info, error)
      || !banger_image_files_finish (&files, &info, cancellable, error))
    return FALSE;
  if (!info.digest) /* there is no file that it was made from */
    info.digest = g_strdup (info.rootfs_digest);
  *ret_info = info;
  info = (BangerImageInfo){ 0 };
  return TRUE;
}
