/* An image out again: its file system as a tar, as it is, or as an image of one layer.
 * Never parses it: banger-intake does. */
#pragma once

#include "manager/core/job.h"
#include "manager/image/image.h"

/** banger_image_export_check: @format: "tar", "ext4", "oci"; %NULL: tar. @fd: an empty regular file that is open for writing.
 * %BANGER_ERROR_INVALID_ARGS. */
gboolean banger_image_export_check (const char *format, int fd, GError **error);

/**
 * banger_image_export_job_new:
 * A job that writes the image in the folder @dir_fd to @fd and syncs it. What was written when it fails is there: whoever gave
 * the file throws it away. @dir_fd, @fd: (transfer full) on success. @format, @fd: checked.
 */
BangerJob *banger_image_export_job_new (const BangerImage *image, int dir_fd, int fd, const char *format,
                                        BangerJobs *jobs, const BangerJobSpec *spec, GError **error);
