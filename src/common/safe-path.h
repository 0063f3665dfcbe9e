/* Opening files below a trusted directory descriptor without following a link.
 * Never returns a descriptor to something outside the root. */
#pragma once

#include <glib.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef enum {
  BANGER_SAFE_NONE = 0,
  BANGER_SAFE_XDEV = 1 << 0, /* a mount point in the path is allowed */
} BangerSafeFlags;

/**
 * banger_safe_openat:
 * Opens the relative @path below @root_fd: openat2(2) with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and, unless told,
 * NO_XDEV; where openat2 answers ENOSYS, a walk by components with O_NOFOLLOW|O_PATH. Absolute paths, "..", "." and
 * empty components are refused before either.
 * @flags: as for open(2); O_CLOEXEC and O_NOFOLLOW are added.
 * Returns: a descriptor, or -1 with %BANGER_ERROR_INVALID_PATH / %BANGER_ERROR_UNSAFE_FILE / errno text.
 */
int banger_safe_openat (int root_fd, const char *path, int flags, mode_t mode, BangerSafeFlags how, GError **error);

/** banger_safe_check_name: one component of a path, neither "." nor "..". */
gboolean banger_safe_check_name (const char *name, GError **error);
/** banger_safe_same_mount: the mount id tells a bind mount of the same device apart, statx(2). */
gboolean banger_safe_same_mount (int a, int b);

/**
 * banger_safe_check_regular:
 * fstat(2) on @fd: a regular file of @owner with one link, not over @max_bytes (0 = any). @ret_stat may be %NULL.
 */
gboolean banger_safe_check_regular (int fd, uid_t owner, guint64 max_bytes, const char *what, struct stat *ret_stat,
                                    GError **error);

/**
 * banger_safe_remove_tree:
 * Removes @name below @dir_fd and all in it by descriptors, however deep; follows no link, enters no other mount (an
 * error, nothing below that mount is touched). A missing @name is success. As root it takes each folder from its owner
 * before it looks inside, so that nobody fills what is being emptied; who still makes new ones faster is given up on.
 */
gboolean banger_safe_remove_tree (int dir_fd, const char *name, GError **error);
