/* Making, finishing and abandoning the two files of an image.
 * Called by image-build.c and image-import.c in a worker thread.
 * Never names a file but by the directory's descriptor. */
#include "manager/image-files.h"

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"

#include <fcntl.h>
#include <sys/stat.h>

#define ROOTFS_SLACK (G_GUINT64_CONSTANT (1) << 30)
#define SEED_SLACK (G_GUINT64_CONSTANT (64) << 20)

const char *const banger_init_programs[] = { "/sbin/init", "/usr/sbin/init",       "/etc/init",
                                             "/bin/init",  "/lib/systemd/systemd", "/usr/lib/systemd/systemd",
                                             NULL };

gboolean
banger_image_no_init (GError **error)
{
  return banger_set_error (
      error, BANGER_ERROR_INVALID_IMAGE,
      "no init program (/sbin/init, /lib/systemd/systemd) inside: this is no root file system that "
      "can boot");
}

void
banger_image_info_clear (BangerImageInfo *info)
{
  g_clear_pointer (&info->digest, g_free);
}

static int
create (int dir_fd, const char *name, GError **error)
{
  int fd = openat (dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot create %s", name);
  return fd;
}

gboolean
banger_image_files_create (BangerImageFiles *files, int dir_fd, GError **error)
{
  files->dir_fd = dir_fd;
  files->rootfs_fd = create (dir_fd, BANGER_FILE_IMAGE_ROOTFS, error);
  if (files->rootfs_fd < 0)
    return FALSE;
  files->seed_fd = create (dir_fd, BANGER_FILE_IMAGE_SEED, error);
  return files->seed_fd >= 0;
}

gboolean
banger_image_files_open_seed (BangerImageFiles *files, GError **error)
{
  BangerExt4Options options = {
    .minimum_bytes = BANGER_SEED_BYTES, .slack_bytes = SEED_SLACK, .label = BANGER_SEED_LABEL, .time = -1
  };
  files->seed = banger_ext4_writer_new (files->seed_fd, &options, error);
  BangerExt4Entry root = { .path = "", .mode = S_IFDIR | 0700, .mtime = g_get_real_time () / G_USEC_PER_SEC };
  return files->seed != NULL && banger_ext4_writer_add (files->seed, &root, error);
}

static gboolean
has_init (BangerExt4Writer *writer)
{
  for (guint i = 0; banger_init_programs[i] != NULL; i++)
    if (banger_ext4_writer_has_program (writer, banger_init_programs[i]))
      return TRUE;
  return FALSE;
}

char *
banger_image_files_read_tar (BangerImageFiles *files, int tar_fd, guint64 size_bytes, const BangerExt4TarOptions *tar,
                             GError **error)
{
  BangerExt4Options options = { .size_bytes = size_bytes, .label = BANGER_ROOT_LABEL, .time = -1 };
  if (size_bytes == 0) {
    options.minimum_bytes = BANGER_IMAGE_DEFAULT_BYTES;
    options.slack_bytes = ROOTFS_SLACK;
  }
  files->rootfs = banger_ext4_writer_new (files->rootfs_fd, &options, error);
  if (files->rootfs == NULL || !banger_image_files_open_seed (files, error))
    return NULL;
  BangerExt4Target targets[] = { { files->rootfs, NULL }, { files->seed, "root" } };
  BangerExt4TarOptions own = *tar;
  own.targets = targets;
  own.n_targets = G_N_ELEMENTS (targets);
  g_autofree char *digest = NULL;
  if (!banger_ext4_read_tar (tar_fd, &own, &digest, error))
    return NULL;
  if (!has_init (files->rootfs)) {
    banger_image_no_init (error);
    return NULL;
  }
  return g_steal_pointer (&digest);
}

static gboolean
sync_all (BangerImageFiles *files, GError **error)
{
  int fds[] = { files->rootfs_fd, files->seed_fd, files->dir_fd };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fsync (fds[i]) < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot write the image to the disk");
  return TRUE;
}

gboolean
banger_image_files_finish (BangerImageFiles *files, GCancellable *cancellable, BangerImageInfo *info, GError **error)
{
  BangerExt4Info rootfs, seed;
  if (files->rootfs != NULL) {
    if (!banger_ext4_writer_finish (files->rootfs, cancellable, &rootfs, error))
      return FALSE;
    info->size_bytes = rootfs.size_bytes;
    info->used_bytes = rootfs.used_bytes;
  }
  if (!banger_ext4_writer_finish (files->seed, cancellable, &seed, error) || !sync_all (files, error))
    return FALSE;
  info->seed_bytes = seed.size_bytes;
  files->kept = TRUE;
  return TRUE;
}

void
banger_image_files_clear (BangerImageFiles *files)
{
  g_clear_pointer (&files->rootfs, banger_ext4_writer_free);
  g_clear_pointer (&files->seed, banger_ext4_writer_free);
  /* Only what this object created: a file that was there made it fail. */
  if (!files->kept && files->rootfs_fd >= 0)
    unlinkat (files->dir_fd, BANGER_FILE_IMAGE_ROOTFS, 0);
  if (!files->kept && files->seed_fd >= 0)
    unlinkat (files->dir_fd, BANGER_FILE_IMAGE_SEED, 0);
  banger_clear_fd (&files->rootfs_fd);
  banger_clear_fd (&files->seed_fd);
}
