/* Disks of a VM as files of the owner: root disk copied from an image, work disk from the image's seed.
 * Runs in worker threads.
 * Never leaves half a disk under its final name, but one that was reserved for a start that is under way. */
#pragma once

#include <gio/gio.h>

#include "common/progress.h"

/**
 * banger_disk_copy:
 * Copies @from_name of @from_dir_fd to @to_name of @to_dir_fd (mode 0600): shares the blocks where the file system can
 * (ioctl_ficlone(2)), else copies what holds data (SEEK_DATA, copy_file_range(2)), leaving holes. Written under a
 * temporary name, synced if @durable (else a loss of power may leave it empty: for a VM that goes with it), renamed. @bytes: final size, at least that of the source; 0 = the same.
 * An existing @to_name is left as it is and is success.
 * Thread-safe; @progress (nullable) is called in this thread.
 */
gboolean banger_disk_copy (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, guint64 bytes,
                           gboolean durable, BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                           GError **error);

/**
 * banger_disk_reserve, banger_disk_fill:
 * The same in two halves, for one who needs the file before its content: an empty @to_name of the size of @from_name, which must
 * not be there, and later what is in it. Who reserved it removes it if it does not come to be filled.
 */
gboolean banger_disk_reserve (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name,
                              GError **error);
gboolean banger_disk_fill (int from_dir_fd, const char *from_name, int to_dir_fd, const char *to_name, gboolean durable,
                           GCancellable *cancellable, GError **error);

/** banger_disk_remove: @name and what a crash may have left of its making; missing is success. */
gboolean banger_disk_remove (int dir_fd, const char *name, GError **error);
