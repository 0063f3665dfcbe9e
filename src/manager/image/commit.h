/* The disks of a VM that is stopped as an image: what an import would make of them, but for what is that machine's alone.
 * Runs in worker threads.
 * Never parses a disk: banger-intake does. Never writes to one. */
#pragma once

#include "manager/image/build.h"

typedef struct {
  int root_fd; /* its own, or its image's */
  int cow_fd;  /* what a snapshot wrote over that; -1: there is none */
  int work_fd; /* -1: /root is on the root disk */
} BangerImageDisks;

/**
 * banger_image_commit:
 * Writes the two files of an image into @image_dir_fd. Nothing writes to @disks meanwhile: the caller sees to that.
 * Errors: as banger_image_import(), %BANGER_ERROR_WRONG_STATE if the VM did not end in order.
 */
gboolean banger_image_commit (const BangerImageDisks *disks, int image_dir_fd, const BangerImageBuildOptions *options,
                              BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                              BangerImageInfo *ret_info, GError **error);
