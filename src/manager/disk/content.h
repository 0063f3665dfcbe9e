/* The digest of a sparse file's content, whatever of it are holes.
 * Runs in worker threads.
 * Never reads what is a hole. */
#pragma once

#include <gio/gio.h>

/** banger_content_digest: Returns: (transfer full): "sha256:..." of the size of @fd and of its 64 KiB pieces that are not
 * all zeros, with where they are; %NULL with %BANGER_ERROR_CANCELLED or %BANGER_ERROR_FAILED. */
char *banger_content_digest (int fd, GCancellable *cancellable, GError **error);
