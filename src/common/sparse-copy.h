/* A file's content into another one: shared blocks where the file system can, else what holds data, holes left out.
 * Runs in worker threads.
 * Never takes an error for the end. */
#pragma once

#include <gio/gio.h>

#include "common/progress.h"

typedef struct {
  int from, to;
  guint64 size;     /* of @from, which must not become shorter meanwhile; @to gets it */
  const char *name; /* for messages */
  BangerProgress progress;
  gpointer progress_data;
  GCancellable *cancellable;
} BangerSparseCopy;

/**
 * banger_sparse_copy:
 * By ioctl_ficlone(2), else copy_file_range(2), else read and write. @to is empty before. Not synced.
 * Errors: %G_IO_ERROR_CANCELLED, %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_FAILED.
 */
gboolean banger_sparse_copy (const BangerSparseCopy *copy, GError **error);
