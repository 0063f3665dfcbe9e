/* The jail's root: directories, the VMM's file, device nodes, mount namespace.
 * Never follows a symbolic link below the chroot base. */
#include "jailer/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x4
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

#define DIRECTORY (O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC)

void
banger_jailer_die (int errnum, const char *format, ...)
{
  va_list list;
  fputs ("banger-jailer: ", stderr);
  va_start (list, format);
  vfprintf (stderr, format, list);
  va_end (list);
  if (errnum > 0)
    fprintf (stderr, ": %s", strerror (errnum));
  fputc ('\n', stderr);
  _exit (1);
}

static bool
host_has_device (const char *path, unsigned int major_number, unsigned int minor_number)
{
  struct stat st;
  return stat (path, &st) == 0 && S_ISCHR (st.st_mode) && st.st_rdev == makedev (major_number, minor_number);
}

void
banger_jailer_prepare (const BangerJailerArgs *args, BangerJail *ret_jail)
{
  struct stat st;
  if (!realpath (args->exec_file, ret_jail->exec_path))
    banger_jailer_die (errno, "Failed to canonicalize path %s", args->exec_file);
  if (stat (ret_jail->exec_path, &st) < 0 || !S_ISREG (st.st_mode))
    banger_jailer_die (0, "%s is not a file", ret_jail->exec_path);
  ret_jail->exec_name = strrchr (ret_jail->exec_path, '/') + 1;
  if (!realpath (args->chroot_base, ret_jail->base))
    banger_jailer_die (errno, "Failed to canonicalize path %s", args->chroot_base);
  if (stat (ret_jail->base, &st) < 0 || !S_ISDIR (st.st_mode))
    banger_jailer_die (0, "%s is not a directory", ret_jail->base);
  ret_jail->have_kvm = host_has_device ("/dev/kvm", 10, 232);
  ret_jail->have_urandom = host_has_device ("/dev/urandom", 1, 9);
}

static int
open_or_make (int parent, const char *name, mode_t mode)
{
  if (mkdirat (parent, name, mode) < 0 && errno != EEXIST)
    banger_jailer_die (errno, "Failed to create directory %s", name);
  int fd = openat (parent, name, DIRECTORY);
  if (fd < 0)
    banger_jailer_die (errno, "Failed to open directory %s (a link is refused)", name);
  return fd;
}

static int
open_root (const BangerJailerArgs *args, const BangerJail *jail)
{
  const char *names[] = { jail->exec_name, args->id, "root" };
  int fd = open (jail->base, DIRECTORY);
  if (fd < 0)
    banger_jailer_die (errno, "Failed to open directory %s", jail->base);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    int next = open_or_make (fd, names[i], 0711);
    close (fd);
    fd = next;
  }
  return fd;
}

static void
copy_bytes (int from, int to, const char *name)
{
  char buffer[65536];
  for (;;) {
    ssize_t n = read (from, buffer, sizeof buffer);
    if (n == 0)
      return;
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      banger_jailer_die (errno, "Failed to read %s", name);
    if (banger_write_all (to, buffer, (size_t)n) < 0)
      banger_jailer_die (errno, "Failed to copy %s into the jail", name);
  }
}

/* A copy, so that two VMMs share no memory. A caller may have bound the very file there: then that is it. */
static void
place_exec_file (int root, const BangerJail *jail)
{
  struct stat source, there;
  banger_autofd int from = open (jail->exec_path, O_RDONLY | O_CLOEXEC);
  if (from < 0 || fstat (from, &source) < 0)
    banger_jailer_die (errno, "Failed to open %s", jail->exec_path);
  if (fstatat (root, jail->exec_name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
    if (there.st_dev == source.st_dev && there.st_ino == source.st_ino)
      return;
    if (unlinkat (root, jail->exec_name, 0) < 0)
      banger_jailer_die (errno, "Failed to remove an older %s from the jail", jail->exec_name);
  }
  banger_autofd int to = openat (root, jail->exec_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0500);
  if (to < 0)
    banger_jailer_die (errno, "Failed to create %s in the jail", jail->exec_name);
  copy_bytes (from, to, jail->exec_path);
  if (fchmod (to, 0555) < 0)
    banger_jailer_die (errno, "Failed to change permissions on %s", jail->exec_name);
}

void
banger_jailer_enter (const BangerJailerArgs *args, const BangerJail *jail)
{
  if (unshare (CLONE_NEWNS) < 0)
    banger_jailer_die (errno, "Failed to unshare into new mount namespace");
  if (mount (NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
    banger_jailer_die (errno, "Failed to change the propagation type to private");

  banger_autofd int root = open_root (args, jail);
  place_exec_file (root, jail);
  /* pivot_root wants a mount; the recursive clone keeps what the caller staged below. */
  banger_autofd int tree = (int)syscall (SYS_open_tree, root, "",
                                         OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
  if (tree < 0 || syscall (SYS_move_mount, tree, "", root, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
    banger_jailer_die (errno, "Failed to bind mount the jail root directory");
  if (fchdir (tree) < 0 || syscall (SYS_pivot_root, ".", ".") < 0)
    banger_jailer_die (errno, "Failed to pivot root");
  /* The old root lies over the new one now. */
  if (umount2 (".", MNT_DETACH) < 0)
    banger_jailer_die (errno, "Failed to unmount the old jail root");
  if (chdir ("/") < 0)
    banger_jailer_die (errno, "Failed to chdir into chroot directory");
}

static void
make_device (int directory, const char *name, unsigned int minor_number, unsigned int major_number,
             const BangerJailerArgs *args)
{
  struct stat st;
  dev_t device = makedev (major_number, minor_number);
  if (mknodat (directory, name, S_IFCHR | 0600, device) == 0) {
    if (fchownat (directory, name, args->uid, args->gid, AT_SYMLINK_NOFOLLOW) < 0)
      banger_jailer_die (errno, "Failed to change owner for %s", name);
    return;
  }
  /* One that the caller staged stays as it is: it may be the host's own, bound. */
  if (errno != EEXIST)
    banger_jailer_die (errno, "Failed to create %s via mknod inside the jail", name);
  if (fstatat (directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR (st.st_mode) || st.st_rdev != device)
    banger_jailer_die (0, "%s exists in the jail and is not the device %u:%u", name, major_number, minor_number);
}

static void
give (int fd, const char *name, const BangerJailerArgs *args)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    banger_jailer_die (errno, "Cannot get metadata for %s", name);
  bool right = st.st_uid == args->uid && st.st_gid == args->gid;
  if (!right && fchown (fd, args->uid, args->gid) < 0)
    banger_jailer_die (errno, "Failed to change owner for %s", name);
  if ((st.st_mode & 07777) != 0700 && fchmod (fd, 0700) < 0)
    banger_jailer_die (errno, "Failed to change permissions on %s", name);
}

void
banger_jailer_furnish (const BangerJailerArgs *args, const BangerJail *jail)
{
  banger_autofd int root = open ("/", DIRECTORY);
  if (root < 0)
    banger_jailer_die (errno, "Failed to open directory /");
  banger_autofd int dev = open_or_make (root, "dev", 0700);
  banger_autofd int run = open_or_make (root, "run", 0700);
  if (jail->have_kvm)
    make_device (dev, "kvm", 232, 10, args);
  if (jail->have_urandom)
    make_device (dev, "urandom", 9, 1, args);
  /* Last and from the inside out: nothing above is the owner's while names in it are used. */
  give (dev, "/dev", args);
  give (run, "/run", args);
  give (root, "/", args);
}

void
banger_jailer_save_pid (const BangerJail *jail, pid_t pid)
{
  char path[4096 + 8];
  snprintf (path, sizeof path, "/%s.pid", jail->exec_name);
  if (unlink (path) < 0 && errno != ENOENT)
    banger_jailer_die (errno, "Failed to remove %s", path);
  banger_autofd int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0 || dprintf (fd, "%d", (int)pid) < 0)
    banger_jailer_die (errno, "Failed to write to %s", path);
}
