/* Importing what exists: a tar, an archive or a folder of layers, or an ext4 file by a sparse copy.
 * Runs in worker threads.
 * Never parses either: banger-intake does. Never changes the source. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"
#include "common/sparse-copy.h"
#include "manager/image/build.h"
#include "manager/image/files.h"
#include "manager/image/folder.h"

#define BLOBS "blobs/sha256"
#define ARCHIVE "archive" /* of layers, while it is read; it has no name then */

/* Copying takes most of the time, reading it again the rest. */
typedef struct {
  int from, to; /* of layers: where index.json is */
  int blobs_fd; /* of layers */
  off_t size;
  gboolean leased; /* against writers */
  const BangerImageBuildOptions *options;
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} Copy;

static void
on_copied (double fraction, gpointer data)
{
  const Copy *copy = data;
  if (copy->progress)
    copy->progress (0.9 * fraction, copy->progress_data);
}

static gboolean
import_ext4 (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  const BangerSparseCopy sparse = { copy->from, copy->to,       (guint64)copy->size, "the ext4 file",
                                    on_copied,  (gpointer)copy, copy->cancellable };
  const BangerIntake intake = { .verb = BANGER_INTAKE_EXT4,
                                .what = "the ext4 file",
                                .source_fd = -1,
                                .extra_fd = -1,
                                .cancellable = copy->cancellable };
  if (!banger_sparse_copy (&sparse, error))
    return FALSE;
  info->digest = banger_digest_file (files->rootfs_fd, copy->cancellable, error);
  return info->digest && banger_image_files_intake (files, &intake, info, error);
}

/* A mistake, as what is registered goes from where it was: nobody is kept from losing what is their own. */
static gboolean
check_outside (int fd, int image_dir_fd, GError **error)
{
  g_autofree char *file_link = g_strdup_printf ("/proc/self/fd/%d", fd),
                  *dir_link = g_strdup_printf ("/proc/self/fd/%d", image_dir_fd);
  g_autofree char *file = g_file_read_link (file_link, NULL), *dir = g_file_read_link (dir_link, NULL);
  g_autofree char *images = dir ? g_path_get_dirname (dir) : NULL;
  g_autofree char *store = images ? g_path_get_dirname (images) : NULL;
  return !file || !store || !g_str_has_prefix (file, store) || file[strlen (store)] != '/'
         || banger_set_error (error, BANGER_ERROR_INVALID_PATH,
                              "the file is banger's: a disk of a VM (see banger image commit), or of an image");
}

/* Its blocks are here already. What somebody writes into would change below the VMs: a lease tells, fcntl(2). */
static gboolean
check_link (Copy *copy, int image_dir_fd, GError **error)
{
  if (!banger_safe_check_regular (copy->from, geteuid (), 0, "the file", NULL, error)
      || !check_outside (copy->from, image_dir_fd, error))
    return FALSE;
  (void)fcntl (copy->from, F_SETSIG, SIGURG); /* of whoever opens it in between: one that is ignored */
  copy->leased = fcntl (copy->from, F_SETLEASE, F_RDLCK) == 0;
  return copy->leased || errno != EAGAIN
         || banger_set_error (error, BANGER_ERROR_IN_USE,
                              "somebody has the file open for writing (is it mounted?): end that first");
}

/* Nobody has asked to write to it while it was read. */
static gboolean
end_lease (const Copy *copy, GError **error)
{
  if (!copy->leased)
    return TRUE;
  gboolean kept = fcntl (copy->from, F_GETLEASE) == F_RDLCK;
  (void)fcntl (copy->from, F_SETLEASE, F_UNLCK);
  return kept
         || banger_set_error (error, BANGER_ERROR_IN_USE,
                              "somebody opened the file for writing meanwhile: end that first");
}

static gboolean
import_linked (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  const BangerIntake intake = { .verb = BANGER_INTAKE_EXT4,
                                .what = "the ext4 file",
                                .source_fd = -1,
                                .extra_fd = -1,
                                .cancellable = copy->cancellable };
  info->digest = banger_digest_file (files->rootfs_fd, copy->cancellable, error);
  if (!info->digest || !banger_image_files_intake (files, &intake, info, error))
    return FALSE;
  return fchmod (files->rootfs_fd, 0600) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot set the mode of the file");
}

/* Returns: a file without a name. */
static int
create_archive (const BangerImageFiles *files, GError **error)
{
  int fd = openat (files->dir_fd, ARCHIVE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 || unlinkat (files->dir_fd, ARCHIVE, 0) < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot create a file for an archive of layers");
  return fd;
}

static gboolean
import_tar (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  banger_autofd int archive = create_archive (files, error);
  const BangerIntake intake = { .verb = BANGER_INTAKE_TAR,
                                .number = copy->options->size_bytes,
                                .reference = copy->options->reference,
                                .what = "the tar",
                                .source_fd = copy->from,
                                .stream = TRUE,
                                .extra_fd = archive,
                                .progress = copy->progress,
                                .progress_data = copy->progress_data,
                                .cancellable = copy->cancellable };
  return archive >= 0 && banger_image_files_intake (files, &intake, info, error);
}

/* Only what a layout has, and regular files of it: a link could lead to anything of the owner's. The index is what is
 * written last. */
static int
open_blob (const char *name, gpointer data)
{
  struct stat st;
  const Copy *copy = data;
  const BangerImageComing *coming = copy->options->coming;
  gboolean all = !coming || coming->has_ended (coming->data);
  if (coming && g_str_equal (name, BANGER_INTAKE_EXPECTED))
    return fcntl (coming->expected_fd, F_DUPFD_CLOEXEC, 3);
  const char *hex = g_str_has_prefix (name, BLOBS "/") ? name + strlen (BLOBS "/") : NULL;
  if (hex ? strlen (hex) != 64 || strspn (hex, "0123456789abcdef") != 64 : !g_str_equal (name, BANGER_LAYOUT_INDEX))
    return -1;
  if (!hex && !all)
    return BANGER_INTAKE_LATER;
  banger_autofd int fd = banger_safe_openat (hex ? copy->blobs_fd : copy->from, hex ? hex : name,
                                             O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, BANGER_SAFE_NONE, NULL);
  if (fd < 0 && !all)
    return BANGER_INTAKE_LATER;
  return fd >= 0 && fstat (fd, &st) == 0 && S_ISREG (st.st_mode) ? banger_steal_fd (&fd) : -1;
}

/* What could not be read says more than that the tar ends early. */
static gboolean
import_folder (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  g_autoptr (GError) of_tar = NULL;
  banger_autofd int from = -1;
  Copy piped = *copy;
  BangerFolderTar *tar = banger_folder_tar_new (copy->from, &from, error);
  if (!tar)
    return FALSE;
  piped.from = from;
  gboolean good = import_tar (files, &piped, info, &of_tar);
  banger_clear_fd (&from);
  if (!banger_folder_tar_finish (tar, error))
    return FALSE;
  if (!good)
    g_propagate_error (error, g_steal_pointer (&of_tar));
  return good;
}

static gboolean
import_layers (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error)
{
  const BangerIntake intake = { .verb = BANGER_INTAKE_OCI,
                                .number = copy->options->size_bytes,
                                .reference = copy->options->reference,
                                .what = "the image",
                                .source_fd = -1,
                                .extra_fd = -1,
                                .open = open_blob,
                                .open_data = (gpointer)copy,
                                .progress = copy->progress,
                                .progress_data = copy->progress_data,
                                .cancellable = copy->cancellable };
  return banger_image_files_intake (files, &intake, info, error);
}

/* Two bytes decide who reads the rest: an ext2, ext3 or ext4 file system, and no tar that holds one. */
static gboolean
looks_like_ext4 (int fd)
{
  static const guint8 magic[] = { 0x53, 0xef };
  guint8 start[2048];
  return banger_read_exactly (fd, start, sizeof start, 0) == 0 && memcmp (start + 257, "ustar", 5) != 0
         && memcmp (start + 1024 + 56, magic, sizeof magic) == 0;
}

typedef struct {
  const char *stage;
  gboolean (*import) (BangerImageFiles *files, const Copy *copy, BangerImageInfo *info, GError **error);
} Kind;

static gboolean
run (const Kind *kind, int image_dir_fd, Copy *copy, BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerImageInfo) info = { 0 };
  g_auto (BangerImageFiles) files = BANGER_IMAGE_FILES_INIT;
  if (!(copy->options->link ? banger_image_files_link (&files, image_dir_fd, copy->from, error)
                            : banger_image_files_create (&files, image_dir_fd, error)))
    return FALSE;
  copy->to = files.rootfs_fd;
  if (copy->options->stage)
    copy->options->stage (kind->stage, copy->options->stage_data);
  if (!kind->import (&files, copy, &info, error)
      || !banger_image_files_finish (&files, &info, copy->cancellable, error))
    return FALSE;
  files.kept = end_lease (copy, error);
  if (!files.kept)
    return FALSE;
  *ret_info = info;
  info = (BangerImageInfo){ 0 };
  return TRUE;
}

gboolean
banger_image_import_layers (int index_dir_fd, int blobs_fd, int image_dir_fd, const BangerImageBuildOptions *options,
                            BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                            BangerImageInfo *ret_info, GError **error)
{
  static const Kind kind = { BANGER_IMAGE_STAGE_WRITING, import_layers };
  Copy copy = { .from = index_dir_fd,
                .blobs_fd = blobs_fd,
                .options = options,
                .progress = progress,
                .progress_data = progress_data,
                .cancellable = cancellable };
  return run (&kind, image_dir_fd, &copy, ret_info, error);
}

static gboolean
looks_like_layers (int dir_fd)
{
  return faccessat (dir_fd, BANGER_LAYOUT_INDEX, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

gboolean
banger_image_import (int fd, int image_dir_fd, const BangerImageBuildOptions *options, BangerProgress progress,
                     gpointer progress_data, GCancellable *cancellable, BangerImageInfo *ret_info, GError **error)
{
  static const Kind ext4 = { "copying the file system", import_ext4 }, tar = { BANGER_IMAGE_STAGE_WRITING, import_tar },
                    folder = { BANGER_IMAGE_STAGE_WRITING, import_folder },
                    linked = { "reading the file system", import_linked };
  struct stat st;
  gboolean is_folder = fstat (fd, &st) == 0 && S_ISDIR (st.st_mode);
  if (is_folder && (options->reference || looks_like_layers (fd))) {
    banger_autofd int blobs = banger_safe_openat (fd, BLOBS, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE, NULL);
    if (blobs < 0)
      return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                               "the folder is no OCI image layout: it has no " BLOBS);
    return banger_image_import_layers (fd, blobs, image_dir_fd, options, progress, progress_data, cancellable, ret_info,
                                       error);
  }
  const Kind *kind = is_folder ? &folder : S_ISREG (st.st_mode) && looks_like_ext4 (fd) ? &ext4 : &tar;
  if (kind == &ext4 && options->size_bytes != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_SIZE, "an ext4 file keeps its size: leave the size out");
  if (kind == &ext4 && options->reference)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE, "an ext4 file is no archive of images");
  Copy copy = { .from = fd,
                .blobs_fd = -1,
                .size = st.st_size,
                .options = options,
                .progress = progress,
                .progress_data = progress_data,
                .cancellable = cancellable };
  if (!options->link)
    return run (kind, image_dir_fd, &copy, ret_info, error);
  if (kind != &ext4)
    return banger_set_error (error, BANGER_ERROR_INVALID_IMAGE,
                             "it is no ext4 file: banger image import makes an image of it");
  return check_link (&copy, image_dir_fd, error) && run (&linked, image_dir_fd, &copy, ret_info, error);
}
