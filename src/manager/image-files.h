/* rootfs.ext4 and seed.ext4 of an image while they are made.
 * Used by image-build.c and image-import.c.
 * Never leaves one of the two behind without the other. */
#pragma once

#include "manager/ext4-tar.h"
#include "manager/image-build.h"

/* The seed grows online to the size of the VM's work disk; its journal does not, so it is not made tiny. */
#define BANGER_SEED_BYTES (G_GUINT64_CONSTANT (128) << 20)
#define BANGER_SEED_LABEL "banger-work"
#define BANGER_ROOT_LABEL "banger-root"

typedef struct {
  int dir_fd; /* unowned */
  int rootfs_fd, seed_fd;
  BangerExt4Writer *rootfs, *seed;
  gboolean kept;
} BangerImageFiles;

#define BANGER_IMAGE_FILES_INIT                                                                                        \
  {                                                                                                                    \
    -1, -1, -1, NULL, NULL, FALSE                                                                                      \
  }

/** banger_image_files_create: both files, new and empty, mode 0600. */
gboolean banger_image_files_create (BangerImageFiles *files, int dir_fd, GError **error);

/** banger_image_files_open_seed: the writer of the seed, with an empty /root. */
gboolean banger_image_files_open_seed (BangerImageFiles *files, GError **error);

/** banger_image_files_read_tar: both writers, fed from @tar_fd; checks that there is an init. Returns the digest. */
char *banger_image_files_read_tar (BangerImageFiles *files, int tar_fd, guint64 size_bytes,
                                   const BangerExt4TarOptions *tar, GError **error);

/** banger_image_files_finish: finishes the writers that are open, syncs; from then on the files stay. */
gboolean banger_image_files_finish (BangerImageFiles *files, GCancellable *cancellable, BangerImageInfo *info,
                                    GError **error);

/** banger_image_files_clear: closes; removes both files unless they were finished. */
void banger_image_files_clear (BangerImageFiles *files);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerImageFiles, banger_image_files_clear)

/* Programs of which a bootable root file system has one; NULL-terminated. */
extern const char *const banger_init_programs[];
gboolean banger_image_no_init (GError **error);
