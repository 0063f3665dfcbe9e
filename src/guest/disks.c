/* Mounting of ext4 and growing it while mounted (EXT4_IOC_RESIZE_FS, see resize2fs(8)).
 * Never writes to a device but through its filesystem. */
#include "guest/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fd.h"
#include "guest/devices.h"
#include "guest/report.h"

#define WAIT_FOR_DISK_MS 10000
#define EXT4_SUPERBLOCK_OFFSET 1024
#define EXT4_SUPERBLOCK_BYTES 1024
#define EXT4_MAGIC 0xef53
/* A tail smaller than this is not worth a resize. */
#define WORTH_GROWING_BYTES (8ull << 20)
/* As in the kernel's fs/ext4/ext4.h; not part of its exported headers in Linux 6.1. */
#define EXT4_IOC_RESIZE_FS _IOW ('f', 16, uint64_t)

static uint32_t
little32 (const unsigned char *at)
{
  return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

int
guest_ext4_blocks (const unsigned char *data, unsigned long long *ret_blocks, unsigned *ret_block_size)
{
  enum {
    BLOCKS_LOW = 0x04,
    LOG_BLOCK_SIZE = 0x18,
    MAGIC = 0x38,
    INCOMPAT = 0x60,
    BLOCKS_HIGH = 0x150,
    INCOMPAT_64BIT = 0x80,
  };
  uint32_t log_size = little32 (data + LOG_BLOCK_SIZE);
  if ((data[MAGIC] | data[MAGIC + 1] << 8) != EXT4_MAGIC || log_size > 6)
    return -1;
  *ret_block_size = 1024u << log_size;
  *ret_blocks = little32 (data + BLOCKS_LOW);
  if (little32 (data + INCOMPAT) & INCOMPAT_64BIT)
    *ret_blocks |= (unsigned long long)little32 (data + BLOCKS_HIGH) << 32;
  return 0;
}

int
guest_ext4_names (const unsigned char *data, char label[GUEST_EXT4_LABEL], char uuid[GUEST_EXT4_UUID])
{
  enum { UUID = 0x68, LABEL = 0x78 };
  static const int parts[] = { 4, 2, 2, 2, 6 };
  unsigned long long blocks;
  unsigned block_size;
  if (guest_ext4_blocks (data, &blocks, &block_size) < 0)
    return -1;
  memcpy (label, data + LABEL, GUEST_EXT4_LABEL - 1);
  label[GUEST_EXT4_LABEL - 1] = '\0';
  char *out = uuid;
  const unsigned char *in = data + UUID;
  for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
    if (part > 0)
      *out++ = '-';
    for (int i = 0; i < parts[part]; i++, out += 2)
      snprintf (out, 3, "%02x", *in++);
  }
  return 0;
}

int
guest_ext4_read_names (const char *device, char label[GUEST_EXT4_LABEL], char uuid[GUEST_EXT4_UUID])
{
  unsigned char superblock[EXT4_SUPERBLOCK_BYTES];
  banger_autofd int fd = open (device, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || banger_read_exactly (fd, superblock, sizeof superblock, EXT4_SUPERBLOCK_OFFSET) < 0)
    return -1;
  return guest_ext4_names (superblock, label, uuid);
}

static int
device_is_there (void *data)
{
  struct stat st;
  return stat (data, &st) == 0 && S_ISBLK (st.st_mode);
}

/* What the filesystem on @device lacks: the blocks it would have if it filled the device, or 0. */
static uint64_t
blocks_to_grow_to (const char *device)
{
  unsigned char superblock[EXT4_SUPERBLOCK_BYTES];
  unsigned long long blocks, bytes;
  unsigned block_size;
  banger_autofd int fd = open (device, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ioctl (fd, BLKGETSIZE64, &bytes) < 0
      || banger_read_exactly (fd, superblock, sizeof superblock, EXT4_SUPERBLOCK_OFFSET) < 0
      || guest_ext4_blocks (superblock, &blocks, &block_size) < 0)
    return 0;
  return bytes >= blocks * block_size + WORTH_GROWING_BYTES ? bytes / block_size : 0;
}

static void
grow (const char *device, const char *path)
{
  uint64_t blocks = blocks_to_grow_to (device);
  if (blocks == 0)
    return;
  banger_autofd int fd = open (path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || ioctl (fd, EXT4_IOC_RESIZE_FS, &blocks) < 0)
    guest_warn ("cannot grow the filesystem of %s: %s", device, strerror (errno));
  else
    guest_note ("grew %s to %llu blocks", device, (unsigned long long)blocks);
}

/* @target: where it is mounted; @path: the name under which the mounted filesystem is then found. */
static int
mount_disk (const char *device, const char *target, const char *path, int uevents_fd)
{
  if (guest_wait_for (uevents_fd, device_is_there, (void *)device, WAIT_FOR_DISK_MS) < 0) {
    guest_warn ("disk %s did not appear in %d ms", device, WAIT_FOR_DISK_MS);
    return -1;
  }
  if (mount (device, target, "ext4", MS_NOATIME, NULL) == 0) {
    grow (device, path);
    return 0;
  }
  /* A file system that is marked so, see tune2fs(8) -O read-only. */
  if (errno == EROFS && mount (device, target, "ext4", MS_NOATIME | MS_RDONLY, NULL) == 0) {
    guest_warn ("the file system of %s can only be read", device);
    return 0;
  }
  guest_warn ("cannot mount %s as ext4: %s", device, strerror (errno));
  return -1;
}

/* The image says what /root is: a link there must not lead the mount elsewhere. */
static int
mount_work (const char *device, const char *target, int uevents_fd)
{
  char path[300], by_descriptor[64];
  snprintf (path, sizeof path, "%s/root", target);
  if (mkdir (path, 0700) < 0 && errno != EEXIST) {
    guest_warn ("cannot make /root in the image: %s", strerror (errno));
    return -1;
  }
  banger_autofd int fd = open (path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    guest_warn ("/root of the image is not a directory: %s", strerror (errno));
    return -1;
  }
  snprintf (by_descriptor, sizeof by_descriptor, "/proc/self/fd/%d", fd);
  return mount_disk (device, by_descriptor, path, uevents_fd);
}

int
guest_disks_mount (const GuestSettings *settings, const char *target, int uevents_fd)
{
  if (mount_disk (settings->root, target, target, uevents_fd) < 0)
    return -1;
  return settings->work[0] == '\0' ? 0 : mount_work (settings->work, target, uevents_fd);
}
