/* Loop devices over descriptors that passed a gate.
 * Called by snapshot.c, in worker threads.
 * Never detaches a loop: each goes by itself with its last user. */
#include "privileged/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "privileged/gate.h"

#define TRIES 50

/* Opens the loop that the kernel says is free; another program may be faster. */
static int
open_free (int control, gboolean read_only, GError **error)
{
  int number = ioctl (control, LOOP_CTL_GET_FREE);
  if (number < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "no free loop device");
    return -1;
  }
  g_autofree char *path = g_strdup_printf ("/dev/loop%d", number);
  if (!banger_gate_loop_path (path, error))
    return -1;
  int fd = open (path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;
  if (fd < 0 || fstat (fd, &st) < 0 || !S_ISBLK (st.st_mode)) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, fd < 0 ? errno : ENOTBLK, "cannot open '%s'", path);
    banger_clear_fd (&fd);
  }
  return fd;
}

int
banger_loop_attach (int file_fd, gboolean read_only, dev_t *ret_device, GError **error)
{
  struct loop_config config = { .fd = (guint32)file_fd };
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
  banger_autofd int control = open ("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) {
    banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, errno, "cannot open /dev/loop-control");
    return -1;
  }
  for (int i = 0; i < TRIES; i++) {
    banger_autofd int fd = open_free (control, read_only, error);
    struct stat st;
    if (fd < 0)
      return -1;
    if (ioctl (fd, LOOP_CONFIGURE, &config) == 0 && fstat (fd, &st) == 0) {
      *ret_device = st.st_rdev;
      return banger_steal_fd (&fd);
    }
    if (errno != EBUSY) {
      banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot attach a loop device");
      return -1;
    }
    g_usleep (10000);
  }
  banger_set_error (error, BANGER_ERROR_TIMEOUT, "no loop device stayed free in %d tries", TRIES);
  return -1;
}
