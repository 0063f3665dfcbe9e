/* First process of the guest in test_grow.py: mounts each disk as a VM's root disk is, which grows it, and fills it.
 * Runs in an initramfs that also holds a kernel's /modules.
 * Never looks at a file system itself: test_grow.py has e2fsck do so afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "guest/devices.h"
#include "guest/disks.h"
#include "guest/modules.h"

#define TARGET "/target"
#define READ_ALL 3
#define FILL_BYTES (12 << 20)

/* Room that the file system did not have before, and files in it. */
static int
fill (void)
{
  static char block[1 << 20];
  memset (block, 'g', sizeof block);
  int fd = open (TARGET "/filled", O_WRONLY | O_CREAT | O_EXCL, 0600);
  for (int done = 0; fd >= 0 && done < FILL_BYTES; done += (int)sizeof block)
    if (write (fd, block, sizeof block) != sizeof block)
      return -1;
  return fd < 0 || fsync (fd) < 0 || close (fd) < 0 ? -1 : 0;
}

/* The serial that the test gave the disk: disks appear in no order. */
static void
serial_of (const char *name, char serial[32])
{
  char path[64];
  snprintf (path, sizeof path, "/sys/block/%s/serial", name);
  int fd = open (path, O_RDONLY);
  ssize_t n = fd >= 0 ? read (fd, serial, 31) : -1;
  serial[n > 0 ? n : 0] = '\0';
  close (fd);
}

static void
try_disk (const char *name, int uevents)
{
  char serial[32];
  GuestSettings settings = { 0 };
  struct statvfs room = { 0 };
  snprintf (settings.root, sizeof settings.root, "/dev/%s", name);
  if (guest_disks_mount (&settings, TARGET, uevents) < 0)
    return;
  int filled = fill ();
  statvfs (TARGET, &room);
  int gone = umount (TARGET);
  serial_of (name, serial);
  printf ("FACT %s=%llu %d %d\n", serial, (unsigned long long)room.f_blocks * room.f_frsize >> 20, filled, gone);
}

static void
loaded (const char *file, void *data)
{
  (void)file;
  (void)data;
}

static void
show_kernel_log (void)
{
  static char log[1 << 20];
  int n = klogctl (READ_ALL, log, sizeof log - 1);
  log[n > 0 ? n : 0] = '\0';
  for (char *rest = NULL, *line = strtok_r (log, "\n", &rest); line != NULL; line = strtok_r (NULL, "\n", &rest))
    printf ("LOG %s\n", line);
}

int
main (void)
{
  static const char *const folders[] = { "/proc", "/sys", "/dev", TARGET };
  for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
    mkdir (folders[i], 0755);
  mount ("proc", "/proc", "proc", 0, NULL);
  mount ("sys", "/sys", "sysfs", 0, NULL);
  mount ("dev", "/dev", "devtmpfs", 0, NULL);
  int uevents = guest_uevents_open ();
  guest_modules_load ("/modules", loaded, NULL);
  char name[] = "vda";
  for (; name[2] < 'a' + DISKS; name[2]++)
    try_disk (name, uevents);
  show_kernel_log ();
  printf ("FACT end=1\n");
  fflush (NULL);
  sync ();
  return reboot (RB_AUTOBOOT);
}
