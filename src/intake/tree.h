/* The files of a kernel package or of a tar of modules, one after the other.
 * Never writes, never follows a link. */
#pragma once

#include <gio/gio.h>

typedef struct BangerTreeFile BangerTreeFile;

/** banger_tree_file_read: Returns: (transfer full): the content, once; %NULL over @max bytes. */
GBytes *banger_tree_file_read (BangerTreeFile *file, gsize max, GError **error);

/**
 * BangerTreeFunc:
 * @path: "boot/vmlinuz-6.1", "lib/modules/..." (of modules: below their folder); regular files only.
 * @ret_stop: set to %TRUE to end the walk as a success.
 */
typedef gboolean (*BangerTreeFunc) (const char *path, BangerTreeFile *file, gpointer user_data, gboolean *ret_stop,
                                    GError **error);

typedef struct {
  BangerTreeFunc visit;
  void (*progress) (double fraction, gpointer user_data); /* of this walk; may be NULL */
  gpointer user_data;
} BangerTreeWalk;

/** banger_tree_walk_deb: the data member of the Debian package (deb(5)) @fd, read from its start. */
gboolean banger_tree_walk_deb (int fd, const BangerTreeWalk *walk, GError **error);

/** banger_tree_walk_tar: the tar @fd, which is not compressed, read from its start. */
gboolean banger_tree_walk_tar (int fd, const BangerTreeWalk *walk, GError **error);
