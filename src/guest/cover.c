/* A copy of a folder on a tmpfs, which is then moved over it: an immutable or read-only one has no place for the keys
 * and the name of a VM.
 * Never follows a link, never copies more than its bounds. */
#include "guest/cover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/guest-protocol.h"
#include "guest/file.h"
#include "guest/report.h"

#define PROBE ".banger-new"
#define STAGE BANGER_GUEST_RUN_DIR "/cover"
#define MAX_DEPTH 32

static int
takes_files (const char *folder)
{
  banger_autofd int dir = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0)
    return 1; /* nothing to copy */
  banger_autofd int fd = openat (dir, PROBE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd >= 0)
    unlinkat (dir, PROBE, 0);
  return fd >= 0 || (errno != EROFS && errno != EPERM && errno != EACCES);
}

static int copy_folder (int from, int to, int depth);

static int
copy_file (int from, int to, const char *name)
{
  banger_autofd int in = openat (from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  banger_autofd int out = openat (to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (in < 0 || out < 0)
    return -1;
  return banger_send_file (out, in, INT64_MAX) < 0 ? -1 : 0;
}

static int
copy_link (int from, int to, const char *name)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat (from, name, target, sizeof target - 1);
  if (n < 0)
    return -1;
  target[n] = '\0';
  return symlinkat (target, to, name);
}

static int
copy_below (int from, int to, const char *name, int depth)
{
  if (depth > MAX_DEPTH || mkdirat (to, name, 0700) < 0)
    return -1;
  int in = openat (from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofd int out = openat (to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return in < 0 || out < 0 ? -1 : copy_folder (in, out, depth);
}

/* What is neither file nor folder nor link is left out. */
static int
copy_entry (int from, int to, const char *name, int depth)
{
  struct stat st;
  if (fstatat (from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return -1;
  if (S_ISLNK (st.st_mode))
    return copy_link (from, to, name);
  int r = S_ISREG (st.st_mode)   ? copy_file (from, to, name)
          : S_ISDIR (st.st_mode) ? copy_below (from, to, name, depth)
                                 : 1;
  if (r != 0)
    return r > 0 ? 0 : -1;
  return fchownat (to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0
             ? -1
             : fchmodat (to, name, st.st_mode & 07777, 0);
}

/* Takes @from. One entry that fails is named, the others come along. */
static int
copy_folder (int from, int to, int depth)
{
  banger_autofolder DIR *dir = banger_folder_take (from);
  for (const struct dirent *entry; (entry = banger_folder_next (dir));)
    if (copy_entry (dirfd (dir), to, entry->d_name, depth + 1) < 0)
      guest_note ("%s is not in the copy: %s", entry->d_name, strerror (errno));
  return errno == 0 ? 0 : -1;
}

static int
cover (const char *folder)
{
  struct stat st;
  int from = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (from < 0 || fstat (from, &st) < 0 || guest_make_dirs (STAGE) < 0
      || mount ("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=25%") < 0)
    return -1;
  banger_autofd int to = open (STAGE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int r = to < 0 || copy_folder (from, to, 0) < 0 || fchmod (to, st.st_mode & 07777) < 0
                  || fchown (to, st.st_uid, st.st_gid) < 0
              ? -1
              : mount (STAGE, folder, NULL, MS_MOVE, NULL);
  int saved = errno;
  if (r < 0)
    umount2 (STAGE, MNT_DETACH);
  rmdir (STAGE);
  errno = saved;
  return r;
}

void
guest_cover_if_unwritable (const char *folder)
{
  if (takes_files (folder))
    return;
  if (cover (folder) < 0)
    guest_warn ("%s cannot be written, and no copy can lie over it: %s", folder, strerror (errno));
  else
    guest_warn ("%s cannot be written: a copy in memory lies over it, and what changes there is gone with the run",
                folder);
}
