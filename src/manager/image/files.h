/* rootfs.ext4 and seed.ext4 of an image while they are made.
 * Never leaves one of the two behind without the other. */
#pragma once

#include "manager/disk/intake.h"
#include "manager/image/build.h"

typedef struct {
  int dir_fd; /* unowned */
  int rootfs_fd, seed_fd;
  gboolean kept;
} BangerImageFiles;

#define BANGER_IMAGE_FILES_INIT                                                                                        \
  {                                                                                                                    \
    -1, -1, -1, FALSE                                                                                                  \
  }

/** banger_image_files_create: both files, new and empty, mode 0600. */
gboolean banger_image_files_create (BangerImageFiles *files, int dir_fd, GError **error);

/** banger_image_files_link: likewise, but the first is another name of @fd's file, on the same file system. */
gboolean banger_image_files_link (BangerImageFiles *files, int dir_fd, int fd, GError **error);

/**
 * banger_image_files_intake:
 * Has banger-intake write both from a tar, or check the first, which is copied already, and write the seed. Its numbers
 * are held against the files.
 * @intake: verb, source and whom to tell; what is the same for all is filled in here.
 */
gboolean banger_image_files_intake (BangerImageFiles *files, const BangerIntake *intake, BangerImageInfo *info,
                                    GError **error);

/** banger_image_files_finish: notes their digests and syncs; from then on the files stay. */
gboolean banger_image_files_finish (BangerImageFiles *files, BangerImageInfo *info, GCancellable *cancellable,
                                    GError **error);

/** banger_image_files_clear: closes; removes both files unless they were finished. */
void banger_image_files_clear (BangerImageFiles *files);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerImageFiles, banger_image_files_clear)
