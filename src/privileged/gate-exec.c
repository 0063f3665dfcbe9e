/* The gate on programs that root executes (requirement B10).
 * Never returns a descriptor to something that anyone but root can change. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "privileged/gate.h"

gboolean
banger_gate_exec_stat (const struct stat *st, const char *path, GError **error)
{
  const char *why = NULL;
  if (!S_ISREG (st->st_mode))
    why = "it is not a regular file";
  else if (st->st_uid != 0)
    why = "it does not belong to root";
  else if (st->st_mode & 022)
    why = "group or others can write it";
  else if (!(st->st_mode & 0111))
    why = "it is not executable";
  return !why || banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "program '%s' is refused: %s", path, why);
}

static gboolean
folder_safe (int fd, const char *name, const char *path, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_UNSAFE_FILE, errno, "program '%s'", path);
  if (st.st_uid != 0 || (st.st_mode & 022))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                             "program '%s' is refused: others than root can write its folder '%s'", path, name);
  return TRUE;
}

static int
step (int parent, const char *name, gboolean last, const char *path, GError **error)
{
  int fd = openat (parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_UNSAFE_FILE, errno, "program '%s': '%s'", path, name);
    return -1;
  }
  gboolean ok = TRUE;
  if (S_ISLNK (st.st_mode))
    ok = banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                           "program '%s' is refused: '%s' is a symbolic link; configure the real path", path, name);
  else if (last)
    ok = banger_gate_exec_stat (&st, path, error);
  else
    ok = folder_safe (fd, name, path, error);
  if (ok)
    return fd;
  close (fd);
  return -1;
}

int
banger_gate_exec (const char *path, GError **error)
{
  if (!path || path[0] != '/' || path[1] == '\0') {
    banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "program '%s' needs an absolute path", path ? path : "");
    return -1;
  }
  g_auto (GStrv) parts = g_strsplit (path + 1, "/", -1);
  banger_autofd int fd = open ("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || !folder_safe (fd, "/", path, error))
    return -1;
  for (char **part = parts; *part; part++) {
    if (**part == '\0' || g_str_equal (*part, ".") || g_str_equal (*part, "..")) {
      banger_set_error (error, BANGER_ERROR_UNSAFE_FILE, "program '%s': empty, '.' and '..' are not allowed", path);
      return -1;
    }
    int next = step (fd, *part, !part[1], path, error);
    if (next < 0)
      return -1;
    close (fd);
    fd = next;
  }
  return banger_steal_fd (&fd);
}
