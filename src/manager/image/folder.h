/* A folder as a tar on a pipe, so that whoever reads tars reads it.
 * Never follows a link, never leaves anything out without a word. */
#pragma once

#include <gio/gio.h>

typedef struct BangerFolderTar BangerFolderTar;

/**
 * banger_folder_tar_new:
 * Begins to pack the folder @dir_fd, in a thread of its own. What belongs to the caller is root's in the tar; what is others'
 * keeps its numbers. @ret_fd: (transfer full): where it can be read; closed early it ends the thread.
 */
BangerFolderTar *banger_folder_tar_new (int dir_fd, int *ret_fd, GError **error);

/** banger_folder_tar_finish: once @ret_fd is closed, waits for the thread and frees @tar. Returns: %FALSE with
 * %BANGER_ERROR_INVALID_PATH and the first thing that could not be read. */
gboolean banger_folder_tar_finish (BangerFolderTar *tar, GError **error);
