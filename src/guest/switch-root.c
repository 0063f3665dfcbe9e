/* The steps of switch_root(8).
 * Never removes a file of another filesystem than the initramfs's. */
#include "guest/switch-root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/folder.h"
#include "guest/report.h"

static void
remove_below (int dir_fd, dev_t device)
{
  banger_autofolder DIR *dir = banger_folder_take (dir_fd);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    struct stat st;
    if (fstatat (dirfd (dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != device)
      continue;
    if (S_ISDIR (st.st_mode)) {
      int below = openat (dirfd (dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (below >= 0)
        remove_below (below, device);
    }
    unlinkat (dirfd (dir), entry->d_name, S_ISDIR (st.st_mode) ? AT_REMOVEDIR : 0);
  }
}

static void
free_initramfs (void)
{
  struct stat st;
  int fd = open ("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 && fstat (fd, &st) == 0)
    remove_below (fd, st.st_dev);
}

static int
move_mount_point (const char *name, const char *target)
{
  char path[PATH_MAX];
  struct stat st;
  snprintf (path, sizeof path, "%s%s", target, name);
  if (mkdir (path, 0755) < 0 && errno != EEXIST)
    return -1;
  if (lstat (path, &st) < 0 || !S_ISDIR (st.st_mode)) {
    errno = ENOTDIR;
    return -1;
  }
  return mount (name, path, NULL, MS_MOVE, NULL);
}

int
guest_switch_root (const char *target)
{
  static const char *const kept[] = { "/dev", "/proc", "/sys", "/run" };
  for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
    if (move_mount_point (kept[i], target) < 0) {
      guest_warn ("cannot move %s into the image: %s", kept[i], strerror (errno));
      return -1;
    }
  free_initramfs ();
  if (chdir (target) < 0 || mount (".", "/", NULL, MS_MOVE, NULL) < 0 || chroot (".") < 0 || chdir ("/") < 0) {
    guest_warn ("cannot make the image the root: %s", strerror (errno));
    return -1;
  }
  return 0;
}
