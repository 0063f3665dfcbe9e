/* Loop devices over descriptors that passed a gate.
 * Runs in worker threads.
 * Never detaches a loop: each goes by itself with its last user. */
#include "privileged/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "common/folder.h"
#include "common/validate.h"
#include "privileged/gate.h"

#define PROBE (BANGER_LOOP_LAST + 1)
#define LOOP "loop"

static int
open_control (GError **error)
{
  int fd = open ("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, errno, "cannot open /dev/loop-control");
  return fd;
}

/* Opens the loop of that number, made if it is not there. */
static int
open_number (int control, guint number, gboolean read_only, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/dev/" LOOP "%u", number);
  int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW;
  if (!banger_gate_loop_path (path, error))
    return -1;
  int fd = open (path, flags);
  if (fd < 0 && (errno == ENOENT || errno == ENXIO) && (ioctl (control, LOOP_CTL_ADD, number) >= 0 || errno == EEXIST))
    fd = open (path, flags);
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
  banger_autofd int control = open_control (error);
  if (control < 0)
    return -1;
  for (guint number = BANGER_LOOP_FIRST; number <= BANGER_LOOP_LAST; number++) {
    banger_autofd int fd = open_number (control, number, read_only, error);
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
  }
  banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "all loop devices of banger's are in use");
  return -1;
}

/* The kernel refuses one that is attached or open. */
void
banger_loop_sweep (void)
{
  banger_autofd int control = open_control (NULL);
  banger_autofolder DIR *dir = control < 0 ? NULL : banger_folder_open (AT_FDCWD, "/sys/block");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    guint64 number;
    if (g_str_has_prefix (entry->d_name, LOOP)
        && banger_uint_parse (entry->d_name + strlen (LOOP), BANGER_LOOP_FIRST, BANGER_LOOP_LAST, &number, NULL))
      (void)ioctl (control, LOOP_CTL_REMOVE, number);
  }
}

gboolean
banger_loop_add_probe (GError **error)
{
  banger_autofd int control = open_control (error);
  if (control < 0)
    return FALSE;
  (void)ioctl (control, LOOP_CTL_REMOVE, PROBE); /* of a helper that was ended */
  return ioctl (control, LOOP_CTL_ADD, PROBE) >= 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a loop device");
}

void
banger_loop_remove_probe (void)
{
  banger_autofd int control = open_control (NULL);
  if (control >= 0)
    (void)ioctl (control, LOOP_CTL_REMOVE, PROBE);
}
