/* An image from a Containerfile: buildah(1) builds it as the owner, banger-intake makes the files of its layers.
 * Runs in worker threads.
 * Never parses what came. What a Containerfile runs, runs on this host, as buildah lets it. */
#pragma once

#include "manager/core/job.h"
#include "manager/image/build.h"

typedef struct {
  const char *file, *context;  /* absolute */
  BangerJobProgress *progress; /* stages and steps */
} BangerContainerfile;

/** banger_containerfile_check: whether buildah is there, and both names are what they should be: %BANGER_ERROR_NOT_SUPPORTED,
 * %BANGER_ERROR_INVALID_PATH. */
gboolean banger_containerfile_check (const char *file, const char *context, GError **error);

/**
 * banger_containerfile_build:
 * What buildah says when it fails is %BANGER_ERROR_FAILED with its last lines; else the errors of banger_image_import_layers().
 */
gboolean banger_containerfile_build (const BangerContainerfile *containerfile, int image_dir_fd,
                                     const BangerImageBuildOptions *options, GCancellable *cancellable,
                                     BangerImageInfo *ret_info, GError **error);
