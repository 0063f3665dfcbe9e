/* One run of mmdebstrap(1) as an ordinary user: arguments, process group, progress from its output, cleaning up.
 * Runs in worker threads.
 * Never goes through a shell with a caller's string. */
#pragma once

#include "manager/image/build.h"

typedef struct BangerMmdebstrap BangerMmdebstrap;

/**
 * banger_mmdebstrap_start:
 * @progress: from a thread of its own, 0..1 of the time until the tar begins, never falling.
 * @ret_tar_fd: (transfer none): read end of the pipe that the tar comes through; closed by banger_mmdebstrap_end().
 */
BangerMmdebstrap *banger_mmdebstrap_start (const BangerImageBuildOptions *options, BangerProgress progress,
                                           gpointer progress_data, int *ret_tar_fd, GError **error);

/**
 * banger_mmdebstrap_end:
 * Waits for the process, or with @abandon ends its whole group (TERM, then KILL); removes its temporary directory;
 * frees @run. Without @abandon a bad exit is %BANGER_ERROR_FAILED with the last lines that it wrote.
 */
gboolean banger_mmdebstrap_end (BangerMmdebstrap *run, gboolean abandon, GError **error);

/**
 * banger_mmdebstrap_sweep:
 * Removes the temporary directories of this user that a crash or a power loss left; one that is in use is locked.
 * Returns: (transfer full) (nullable): the thread that removes what was found when this was called; %NULL: nothing was.
 */
GThread *banger_mmdebstrap_sweep (void);

/** banger_mmdebstrap_stderr_tail: Returns: (transfer full): its last lines so far. */
char *banger_mmdebstrap_stderr_tail (BangerMmdebstrap *run);

/** banger_mmdebstrap_arguments: Returns: (transfer full): the command; %NULL with %BANGER_ERROR_INVALID_ARGS. */
char **banger_mmdebstrap_arguments (const BangerImageBuildOptions *options, GError **error);

/** banger_subids_enough: whether @text (subuid(5)) gives @name or @uid at least 65536 ids in one range. */
gboolean banger_subids_enough (const char *text, const char *name, guint uid);
