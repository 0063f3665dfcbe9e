/* Opening files below a trusted directory descriptor without following a link.
 * Never returns a descriptor to something outside the root. */
#include "common/safe-path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

static gboolean
refuse (GError **error, BangerError code, const char *path, const char *why)
{
  g_autofree char *shown = banger_log_escape (path, 200);
  return banger_set_error (error, code, "path '%s' is refused: %s", shown, why);
}

static gboolean
check_relative (const char *path, GError **error)
{
  if (*path == '\0' || *path == '/')
    return refuse (error, BANGER_ERROR_INVALID_PATH, path, "a relative path is needed");
  if (strlen (path) >= 4096)
    return refuse (error, BANGER_ERROR_INVALID_PATH, path, "it is too long");
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (char **p = parts; *p; p++)
    if (**p == '\0' || g_str_equal (*p, ".") || g_str_equal (*p, ".."))
      return refuse (error, BANGER_ERROR_INVALID_PATH, path, "empty, '.' and '..' components are not allowed");
  return TRUE;
}

static int
open_report (const char *path, GError **error)
{
  int saved = errno;
  if (saved == ELOOP)
    refuse (error, BANGER_ERROR_UNSAFE_FILE, path, "there is a symbolic link in it");
  else if (saved == EXDEV)
    refuse (error, BANGER_ERROR_UNSAFE_FILE, path, "it leaves its folder or crosses a mount point");
  else {
    g_autofree char *shown = banger_log_escape (path, 200);
    banger_set_error_errno (error, BANGER_ERROR_FAILED, saved, "cannot open '%s'", shown);
  }
  errno = saved;
  return -1;
}

/* The mount id tells a bind mount of the same device apart, statx(2). */
gboolean
banger_safe_same_mount (int a, int b)
{
  struct statx sa, sb;
  if (statx (a, "", AT_EMPTY_PATH, STATX_MNT_ID, &sa) < 0 || statx (b, "", AT_EMPTY_PATH, STATX_MNT_ID, &sb) < 0)
    return FALSE;
  if (!(sa.stx_mask & STATX_MNT_ID) || !(sb.stx_mask & STATX_MNT_ID))
    return sa.stx_dev_major == sb.stx_dev_major && sa.stx_dev_minor == sb.stx_dev_minor;
  return sa.stx_mnt_id == sb.stx_mnt_id;
}

/* O_DIRECTORY hides a link behind ENOTDIR; only for the message. */
static void
name_link (int dir, const char *path)
{
  struct stat st;
  int saved = errno;
  gboolean link = saved == ENOTDIR && fstatat (dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK (st.st_mode);
  errno = link ? ELOOP : saved;
}

/* For kernels and filters without openat2: one component at a time, none of them a link. */
static int
walk (int root_fd, const char *path, int flags, mode_t mode, BangerSafeFlags how)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  banger_autofd int dir = fcntl (root_fd, F_DUPFD_CLOEXEC, 3);
  for (char **p = parts; dir >= 0 && *p; p++) {
    gboolean last = !p[1];
    int wanted = last ? flags | O_NOFOLLOW | O_CLOEXEC : O_PATH | O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY;
    int next = openat (dir, *p, wanted, mode);
    if (next < 0)
      name_link (dir, *p);
    if (next >= 0 && !(how & BANGER_SAFE_XDEV) && !banger_safe_same_mount (root_fd, next)) {
      close (next);
      next = -1;
      errno = EXDEV;
    }
    int saved = errno;
    close (dir);
    dir = next;
    errno = saved;
  }
  return banger_steal_fd (&dir);
}

int
banger_safe_openat (int root_fd, const char *path, int flags, mode_t mode, BangerSafeFlags how, GError **error)
{
  if (!check_relative (path, error))
    return -1;
  struct open_how open_how = {
    .flags = (guint64)(flags | O_CLOEXEC | O_NOFOLLOW),
    .mode = (flags & (O_CREAT | O_TMPFILE)) ? mode : 0,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
               | ((how & BANGER_SAFE_XDEV) ? 0 : RESOLVE_NO_XDEV),
  };
  int fd;
  int tries = 32;
  do
    fd = (int)syscall (SYS_openat2, root_fd, path, &open_how, sizeof open_how);
  while (fd < 0 && (errno == EAGAIN || errno == EINTR) && --tries > 0);
  if (fd < 0 && errno == ENOSYS)
    fd = walk (root_fd, path, flags, mode, how);
  else if (fd < 0)
    name_link (root_fd, path);
  /* O_PATH|O_NOFOLLOW opens a link at the leaf itself, RESOLVE_NO_SYMLINKS notwithstanding: open(2). */
  struct stat st;
  if (fd >= 0 && (flags & O_PATH) && (fstat (fd, &st) < 0 || S_ISLNK (st.st_mode))) {
    close (fd);
    fd = -1;
    errno = ELOOP;
  }
  return fd >= 0 ? fd : open_report (path, error);
}

gboolean
banger_safe_check_regular (int fd, uid_t owner, guint64 max_bytes, const char *what, struct stat *ret_stat,
                           GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_UNSAFE_FILE, errno, "%s", what);
  if (!S_ISREG (st.st_mode))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s is not a regular file", what);
  if (st.st_uid != owner)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s belongs to uid %u, not to uid %u", what, st.st_uid,
                             owner);
  if (st.st_nlink != 1)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "%s has %ju links, it must have one", what,
                             (uintmax_t)st.st_nlink);
  if (max_bytes && (guint64)st.st_size > max_bytes)
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                             "%s has %ju bytes, at most %" G_GUINT64_FORMAT " are allowed", what, (uintmax_t)st.st_size,
                             max_bytes);
  if (ret_stat)
    *ret_stat = st;
  return TRUE;
}

gboolean
banger_safe_check_name (const char *name, GError **error)
{
  if (!check_relative (name, error))
    return FALSE;
  return !strchr (name, '/') || refuse (error, BANGER_ERROR_INVALID_PATH, name, "a single name is needed");
}
