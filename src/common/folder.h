/* The names in a folder.
 * Used everywhere.
 * Never takes an error for the end: readdir(3) says both by NULL. */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/fd.h"

static inline void
banger_clear_folder (DIR **folder)
{
  int saved = errno;
  if (*folder)
    closedir (*folder);
  *folder = NULL;
  errno = saved;
}

#define banger_autofolder __attribute__ ((cleanup (banger_clear_folder)))

/** banger_folder_take: @fd: (transfer full): of a folder; -1 is passed on. Returns: NULL with errno. */
static inline DIR *
banger_folder_take (int fd)
{
  DIR *folder = fd < 0 ? NULL : fdopendir (fd);
  if (!folder)
    banger_clear_fd (&fd);
  return folder;
}

/** banger_folder_open: @path below @dir_fd, read from its beginning. Returns: NULL with errno. */
static inline DIR *
banger_folder_open (int dir_fd, const char *path)
{
  return banger_folder_take (openat (dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/**
 * banger_folder_next: what is next in @folder but . and ..
 * @folder: (nullable): errno stays what it was when it was opened
 *
 * Returns: NULL at the end, with errno 0, or on an error, which is in errno.
 */
static inline const struct dirent *
banger_folder_next (DIR *folder)
{
  const struct dirent *entry;
  if (!folder)
    return NULL;
  do {
    errno = 0;
    entry = readdir (folder);
  } while (entry && (strcmp (entry->d_name, ".") == 0 || strcmp (entry->d_name, "..") == 0));
  return entry;
}
