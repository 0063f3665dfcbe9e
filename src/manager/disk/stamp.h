/* Stamps: what is seen of files, programs and the processor, so that another one in their place is noticed.
 * Runs in worker threads, but for the processor. Never reads a large file: its size and its time have to do. */
#pragma once

#include <glib.h>

/** banger_stamp_files: of regular files of ours in @dir_fd; @names: ends with %NULL; what is not there counts as such. @sync: they are brought to the disk
 * before. Of small ones the bytes count, too. Returns: (transfer full): one line; %NULL with %BANGER_ERROR_STATE_CORRUPT. */
char *banger_stamp_files (int dir_fd, const char *const *names, gboolean sync, GError **error);
/** banger_stamp_programs: @paths: ends with %NULL; likewise. Returns: (transfer full). */
char *banger_stamp_programs (const char *const *paths);
/** banger_stamp_processor: Returns: (transfer full): its model, "?" if the kernel does not say. */
char *banger_stamp_processor (void);
