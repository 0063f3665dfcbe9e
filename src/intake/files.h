/* A tar of files as entries, for `banger vm cp`.
 * Called by main.c and by a fuzzer.
 * Never writes a file: what comes of an entry is up to who listens. */
#pragma once

#include <glib.h>

/** banger_intake_files: from @source_fd to the archive's end, as frames of entries.h to @answer_fd. Returns: FALSE if nobody
 * listens; what is wrong with the tar is said there. */
gboolean banger_intake_files (int source_fd, int answer_fd);
