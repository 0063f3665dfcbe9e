/* Folders of scratch.h: a lock on each says that its maker lives.
 * Called where git is to work on copies.
 * Never removes what is another user's, or what somebody may be about to lock. */
#include "common/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/safe-path.h"

#define FRESH_SECONDS 60 /* between the making and the lock */

static gboolean
is_left (int tmp, const char *name)
{
  struct stat st;
  banger_autofd int fd = openat (tmp, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd >= 0 && fstat (fd, &st) == 0 && st.st_uid == geteuid () && st.st_mtime < time (NULL) - FRESH_SECONDS
         && flock (fd, LOCK_EX | LOCK_NB) == 0;
}

static void
sweep (const char *prefix)
{
  banger_autofolder DIR *dir = banger_folder_take (open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const struct dirent *entry; dir && (entry = banger_folder_next (dir));)
    if (g_str_has_prefix (entry->d_name, prefix) && is_left (dirfd (dir), entry->d_name))
      (void)banger_safe_remove_tree (dirfd (dir), entry->d_name, NULL);
}

int
banger_scratch_make (const char *prefix, char **ret_path, GError **error)
{
  sweep (prefix);
  g_autofree char *name = g_strconcat (prefix, "XXXXXX", NULL);
  char *path = *ret_path = g_build_filename (g_get_tmp_dir (), name, NULL);
  int fd = g_mkdtemp (path) ? open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
  if (fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) == 0)
    return fd;
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a temporary folder");
  banger_scratch_remove (&fd, path);
  return -1;
}

void
banger_scratch_remove (int *fd, const char *path)
{
  if (*fd < 0)
    return;
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (tmp >= 0)
    (void)banger_safe_remove_tree (tmp, strrchr (path, '/') + 1, NULL);
  banger_clear_fd (fd);
}
