/* The disks of a VM that ended as what an image is made of, without what is that machine's alone: its names, keys and seeds.
 * Used by image.c.
 * Never writes to a disk. */
#pragma once

#include "common/progress.h"
#include "intake/ext4-reader.h"

typedef struct {
  BangerExt4Reader *root;
  BangerExt4Reader *work; /* /root; NULL: that is on the root disk */
  BangerExt4Writer *rootfs, *seed;
  BangerProgress progress;
  gpointer progress_data;
} BangerCommit;

/** banger_commit_read: Errors: as banger_ext4_reader_copy_tree(). Does not finish the writers. */
gboolean banger_commit_read (const BangerCommit *commit, GError **error);
