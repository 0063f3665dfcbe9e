/* What the kernel itself takes for the steps of a VM's start: the floor below which banger cannot get.
 * Called by bench/host, as root; prints "STEP MICROSECONDS" lines.
 * Never installed; takes away what it makes. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BRIDGE "banger-floor"
#define TRIES 50

static const char *image, *folder;

static long long
now_usec (void)
{
  struct timespec t;
  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int
open_or_die (const char *path, int flags)
{
  int fd = open (path, flags | O_CLOEXEC, 0600);
  if (fd < 0)
    err (1, "%s", path);
  return fd;
}

/* A record of the size of a lease, whole or not at all: write, fsync, rename, fsync of the folder. */
static long long
time_lease (int number)
{
  char text[400], from[] = "/run/banger-floor-XXXXXX", to[64];
  memset (text, 'x', sizeof text);
  snprintf (to, sizeof to, "/run/banger-floor-%d.json", number);
  long long start = now_usec ();
  int run = open_or_die ("/run", O_RDONLY | O_DIRECTORY), fd = mkstemp (from);
  if (fd < 0 || write (fd, text, sizeof text) < 0 || fsync (fd) < 0 || rename (from, to) < 0 || fsync (run) < 0)
    err (1, "lease");
  long long took = now_usec () - start;
  unlink (to);
  close (fd);
  close (run);
  return took;
}

static void
bridge (unsigned long request)
{
  int fd = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct ifreq change = { 0 };
  strcpy (change.ifr_name, BRIDGE);
  if (request == SIOCBRDELBR)
    (void)ioctl (fd, SIOCSIFFLAGS, &change);
  if (ioctl (fd, request, BRIDGE) < 0)
    err (1, "bridge");
  change.ifr_flags = IFF_UP;
  if (request == SIOCBRADDBR && ioctl (fd, SIOCSIFFLAGS, &change) < 0)
    err (1, "bridge");
  close (fd);
}

static long long
time_tap (int number)
{
  struct ifreq tap = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL) }, port = { 0 };
  snprintf (tap.ifr_name, sizeof tap.ifr_name, "bfloor%d", number);
  strcpy (port.ifr_name, BRIDGE);
  long long start = now_usec ();
  int fd = open_or_die ("/dev/net/tun", O_RDWR), control = socket (AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (ioctl (fd, TUNSETIFF, &tap) < 0 || ioctl (fd, TUNSETPERSIST, 1UL) < 0)
    err (1, "tap");
  port.ifr_ifindex = (int)if_nametoindex (tap.ifr_name);
  tap.ifr_flags = IFF_UP;
  if (ioctl (control, SIOCBRADDIF, &port) < 0 || ioctl (control, SIOCSIFFLAGS, &tap) < 0)
    err (1, "tap");
  long long took = now_usec () - start;
  (void)ioctl (fd, TUNSETPERSIST, 0UL);
  close (fd);
  close (control);
  return took;
}

static int
attach_loop (int file, unsigned flags, dev_t *ret_device)
{
  struct loop_config config = { .fd = (unsigned)file };
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | flags;
  int control = open_or_die ("/dev/loop-control", O_RDWR);
  for (int i = 0; i < TRIES; i++) {
    char path[32];
    struct stat st;
    snprintf (path, sizeof path, "/dev/loop%d", ioctl (control, LOOP_CTL_GET_FREE));
    int fd = open_or_die (path, flags & LO_FLAGS_READ_ONLY ? O_RDONLY : O_RDWR);
    if (ioctl (fd, LOOP_CONFIGURE, &config) == 0 && fstat (fd, &st) == 0) {
      close (control);
      *ret_device = st.st_rdev;
      return fd;
    }
    close (fd);
    usleep (1000);
  }
  errx (1, "no loop device stays free");
}

static int
device_mapper (int type, const char *name, const char *parameters, unsigned long long sectors)
{
  struct dm_task *task = dm_task_create (type);
  int ok = task && dm_task_set_name (task, name)
           && (!parameters || dm_task_add_target (task, 0, sectors, "snapshot", parameters));
  if (ok && type == DM_DEVICE_REMOVE)
    dm_task_retry_remove (task);
  ok = ok && dm_task_run (task);
  dm_task_update_nodes ();
  dm_task_destroy (task);
  return ok;
}

/* Nobody waits for udev here. */
static long long
time_snapshot (int number)
{
  char name[32], cow_path[4096], parameters[64];
  dev_t origin, cow;
  unsigned long long bytes = 0;
  snprintf (name, sizeof name, "banger-floor-%d", number);
  snprintf (cow_path, sizeof cow_path, "%s/cow-%d", folder, number);
  long long start = now_usec ();
  int image_fd = open_or_die (image, O_RDONLY), cow_fd = open_or_die (cow_path, O_RDWR | O_CREAT | O_TRUNC);
  if (ftruncate (cow_fd, 1LL << 30) < 0)
    err (1, "%s", cow_path);
  int origin_loop = attach_loop (image_fd, LO_FLAGS_READ_ONLY, &origin), cow_loop = attach_loop (cow_fd, 0, &cow);
  if (ioctl (origin_loop, BLKGETSIZE64, &bytes) < 0)
    err (1, "loop");
  snprintf (parameters, sizeof parameters, "%u:%u %u:%u P 8", major (origin), minor (origin), major (cow), minor (cow));
  if (!device_mapper (DM_DEVICE_CREATE, name, parameters, bytes / 512))
    errx (1, "cannot map the snapshot");
  long long took = now_usec () - start;
  if (!device_mapper (DM_DEVICE_REMOVE, name, NULL, 0))
    errx (1, "cannot unmap the snapshot %s", name);
  close (origin_loop);
  close (cow_loop);
  close (image_fd);
  close (cow_fd);
  unlink (cow_path);
  return took;
}

static void
bind_here (const char *from, const char *name, int directory)
{
  if ((directory ? mkdir (name, 0755) : mknod (name, S_IFREG | 0600, 0)) < 0
      || mount (from, name, NULL, MS_BIND, NULL) < 0
      || mount (NULL, name, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL) < 0)
    err (1, "bind %s", from);
}

/* As many folders, binds and nodes as a jail for QEMU has. */
static void
stage_jail (const char *top)
{
  static const char *const files[] = { "vmm", "vmlinux", "initrd", "work" };
  static const char *const nodes[] = { "null", "kvm", "tun", "rootfs" };
  if (unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
      || mount ("banger-floor", top, "tmpfs", MS_NOSUID, "size=64m,mode=0711") < 0 || chdir (top) < 0)
    err (1, "namespace");
  for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
    bind_here (image, files[i], 0);
  bind_here ("/usr", "usr", 1);
  bind_here ("/run", "run", 1);
  for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
    if (mknod (nodes[i], S_IFCHR | 0600, makedev (1, 3)) < 0 || chown (nodes[i], 1, 1) < 0)
      err (1, "%s", nodes[i]);
}

/* A cgroup, and in it a process with the mounts of a jail. */
static long long
time_jail (int number)
{
  char top[4096], cgroup[64], procs[96], byte = 0;
  int done[2];
  snprintf (top, sizeof top, "%s/jail-%d", folder, number);
  snprintf (cgroup, sizeof cgroup, "/sys/fs/cgroup/banger-floor-%d", number);
  snprintf (procs, sizeof procs, "%s/cgroup.procs", cgroup);
  if (pipe (done) < 0)
    err (1, "pipe");
  long long start = now_usec ();
  if (mkdir (top, 0700) < 0 || mkdir (cgroup, 0755) < 0)
    err (1, "%s", top);
  pid_t child = fork ();
  if (child == 0) {
    int fd = open_or_die (procs, O_WRONLY);
    if (write (fd, "0", 1) < 0)
      err (1, "%s", procs);
    stage_jail (top);
    _exit (write (done[1], &byte, 1) == 1 ? 0 : 1);
  }
  close (done[1]);
  if (child < 0 || read (done[0], &byte, 1) != 1)
    errx (1, "the jail was not made");
  long long took = now_usec () - start;
  (void)waitpid (child, NULL, 0);
  close (done[0]);
  rmdir (cgroup);
  rmdir (top);
  return took;
}

static const struct {
  const char *name;
  long long (*run) (int number);
} steps[] = { { "lease", time_lease }, { "tap", time_tap }, { "snapshot", time_snapshot }, { "jail", time_jail } };

/* @at_once processes wait for the same moment and do the step once each. */
static void
run_at_once (unsigned step, int at_once)
{
  int gate[2], status = 0, failed = 0;
  char byte;
  if (pipe (gate) < 0)
    err (1, "pipe");
  for (int i = 0; i < at_once; i++)
    if (fork () == 0) {
      close (gate[1]);
      (void)!read (gate[0], &byte, 1);
      printf ("%s %lld\n", steps[step].name, steps[step].run (i));
      fflush (stdout);
      _exit (0);
    }
  close (gate[0]);
  close (gate[1]);
  while (wait (&status) > 0)
    failed |= status;
  if (failed)
    exit (1);
}

int
main (int argc, char **argv)
{
  int runs = argc == 5 ? atoi (argv[3]) : 0, at_once = argc == 5 ? atoi (argv[4]) : 0;
  if (runs < 1 || at_once < 1) {
    fprintf (stderr, "usage: host-floor IMAGE FOLDER RUNS AT-ONCE\n");
    return 2;
  }
  image = argv[1];
  folder = argv[2];
  dm_udev_set_sync_support (0);
  bridge (SIOCBRADDBR);
  for (int run = 0; run < runs; run += at_once)
    for (unsigned step = 0; step < sizeof steps / sizeof *steps; step++)
      run_at_once (step, at_once);
  bridge (SIOCBRDELBR);
  return 0;
}
