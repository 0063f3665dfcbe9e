/* Whether the files of an image are what they were when it was made.
 * Never changes them, nor the image. */
#pragma once

#include "manager/image/image.h"

/**
 * banger_image_verify_async:
 * In a thread. @dir_fd: (transfer full): the image's directory.
 */
void banger_image_verify_async (const BangerImage *image, int dir_fd, GAsyncReadyCallback callback, gpointer user_data);
/** banger_image_verify_finish: %BANGER_ERROR_STATE_CORRUPT naming the file; %BANGER_ERROR_NOT_SUPPORTED for an image of an
 * earlier version, of which nothing is written down. */
gboolean banger_image_verify_finish (GAsyncResult *result, GError **error);
