/* The jail's cgroup (version 2): <mount>/<parent>/<id> with the given files.
 * Never changes a cgroup outside the parent, but for enabling controllers on the way to it. */
#include "jailer/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "jailer/root.h"

#define DIRECTORY (O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC)

/* Another mount may lie over a line of /proc/mounts, and a container's shows a part of the hierarchy only. */
static int
open_if_cgroup2 (const char *path)
{
  struct statfs fs;
  int fd = open (path, DIRECTORY);
  if (fd < 0 || (fstatfs (fd, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC))
    return fd;
  close (fd);
  return -1;
}

/* Of several the first that has @parent already, whose limits whoever made it has set; else the first. */
static int
open_mount (const char *parent)
{
  FILE *mounts = setmntent ("/proc/mounts", "re");
  if (!mounts)
    banger_jailer_die (errno, "Failed to open file /proc/mounts");
  const struct mntent *entry;
  int found = -1;
  bool has_parent = false;
  while (!has_parent && (entry = getmntent (mounts))) {
    int fd = strcmp (entry->mnt_type, "cgroup2") == 0 ? open_if_cgroup2 (entry->mnt_dir) : -1;
    has_parent = fd >= 0 && faccessat (fd, parent, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (fd < 0 || (found >= 0 && !has_parent)) {
      if (fd >= 0)
        close (fd);
      continue;
    }
    if (found >= 0)
      close (found);
    found = fd;
  }
  endmntent (mounts);
  if (found < 0)
    banger_jailer_die (0, "Hierarchy not found: No hierarchy found for this cgroup version.");
  return found;
}

static bool
write_file (int directory, const char *name, const char *text)
{
  banger_autofd int fd = openat (directory, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
  return fd >= 0 && write (fd, text, strlen (text)) == (ssize_t)strlen (text);
}

static void
move_here (int directory, const char *path)
{
  char pid[32];
  snprintf (pid, sizeof pid, "%d\n", (int)getpid ());
  if (!write_file (directory, "cgroup.procs", pid))
    banger_jailer_die (errno, "Failed to move process to cgroup (%s)", path);
}

static void
enable_controllers (int directory, const BangerJailerArgs *args, const char *path)
{
  for (size_t i = 0; i < args->n_cgroup; i++) {
    const BangerJailerCgroupFile *file = &args->cgroup[i];
    char text[300];
    int length = (int)strcspn (file->file, ".");
    snprintf (text, sizeof text, "+%.*s", length, file->file);
    /* Files of the core ("cgroup.max.depth") have no controller. */
    if (strcmp (text, "+cgroup") != 0 && !write_file (directory, "cgroup.subtree_control", text))
      banger_jailer_die (errno, "Controller %s is unavailable below %s", text + 1, path);
  }
}

static int
enter (int parent, const char *name, bool make)
{
  if (make && mkdirat (parent, name, 0755) < 0 && errno != EEXIST)
    banger_jailer_die (errno, "Failed to create cgroup %s", name);
  int fd = openat (parent, name, DIRECTORY);
  if (fd < 0 && make)
    banger_jailer_die (errno, "Failed to open cgroup %s", name);
  return fd;
}

/* Walks <parent> below the mount. Returns: -1 if it does not exist and is not to be made. */
static int
open_parent (const BangerJailerArgs *args, const char *parent, bool make)
{
  char path[4096];
  if (strlen (parent) >= sizeof path)
    banger_jailer_die (ENAMETOOLONG, "Parent cgroup");
  strcpy (path, parent);
  int fd = open_mount (parent);
  char *save = NULL;
  for (const char *name = strtok_r (path, "/", &save); name && fd >= 0; name = strtok_r (NULL, "/", &save)) {
    if (make)
      enable_controllers (fd, args, "the cgroup mount or an ancestor");
    int next = enter (fd, name, make);
    close (fd);
    fd = next;
  }
  return fd;
}

static void
write_values (int directory, const BangerJailerArgs *args)
{
  for (size_t i = 0; i < args->n_cgroup; i++) {
    const BangerJailerCgroupFile *file = &args->cgroup[i];
    char name[256];
    snprintf (name, sizeof name, "%.*s", (int)file->file_length, file->file);
    if (!write_file (directory, name, file->value))
      banger_jailer_die (errno, "Failed to write %s to cgroup file %s", file->value, name);
  }
}

void
banger_jailer_join_cgroup (const BangerJailerArgs *args, const char *default_parent)
{
  const char *parent = args->parent_cgroup ? args->parent_cgroup : default_parent;
  if (args->cgroup_version == 1 && args->n_cgroup > 0)
    banger_jailer_die (0, "Only cgroup version 2 is supported: give --cgroup-version 2");
  if (args->cgroup_version == 1)
    return;
  banger_autofd int directory = open_parent (args, parent, args->n_cgroup > 0);
  if (directory < 0)
    return;
  if (args->n_cgroup == 0) {
    move_here (directory, parent);
    return;
  }
  enable_controllers (directory, args, parent);
  banger_autofd int group = enter (directory, args->id, true);
  write_values (group, args);
  move_here (group, args->id);
}
