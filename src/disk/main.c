/* banger-disk: reads and writes files in one ext4 file system, for bangerd-root.
 * Executed by worker.c as the owner, without capabilities, with the file system as a descriptor.
 * Never opens a file: after the request is read, a filter of system calls takes away the means. */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cage-rows.h"
#include "common/std-fds.h"
#include "disk/ext4.h"

#define MAX_REQUEST (BANGER_DISK_MAX_BYTES + (1u << 20))

/* Once the request is read: no file is opened, nothing is executed any more. */
static int
forbid_the_rest (void)
{
#ifdef __SANITIZE_ADDRESS__ /* needs more than this, and its builds are for tests */
  return 0;
#else
  static const BangerCageRow rows[] = { ALLOW_VALUE ("ioctl", 1, BLKGETSIZE64), ALLOW_VALUE ("ioctl", 1, BLKROGET),
                                        ALLOW_VALUE ("ioctl", 1, BLKSSZGET), ALLOW_VALUE ("ioctl", 1, BLKDISCARDZEROES),
                                        END_OF_ROWS };
  static const BangerCageTable table = { EPERM, { banger_cage_basic, rows } };
  BangerCage *cage = banger_cage_new (&table);
  int r = cage ? banger_cage_enter (cage) : -1;
  banger_cage_free (cage);
  return r;
#endif
}

static void *
read_request (size_t *ret_length)
{
  struct stat st;
  if (fstat (BANGER_DISK_REQUEST_FD, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)MAX_REQUEST)
    return NULL;
  char *bytes = malloc ((size_t)st.st_size);
  if (!bytes || banger_read_exactly (BANGER_DISK_REQUEST_FD, bytes, (size_t)st.st_size, 0) < 0)
    return NULL;
  *ret_length = (size_t)st.st_size;
  return bytes;
}

int
main (int argc, char **argv)
{
  BangerDiskAnswer answer;
  void *data;
  size_t length = 0;
  banger_std_fds_fill ();
  if (argc != 1 || isatty (BANGER_DISK_REQUEST_FD)) {
    fputs ("banger-disk is started by bangerd-root\n", stderr);
    return 2;
  }
  (void)prctl (PR_SET_DUMPABLE, 0, 0, 0, 0);
  void *request = read_request (&length);
  if (!request || forbid_the_rest () < 0)
    return 1;
  banger_disk_serve (request, length, BANGER_DISK_IMAGE_FD, &answer, &data);
  _exit (banger_write_all (BANGER_DISK_ANSWER_FD, &answer, sizeof answer) < 0
         || banger_write_all (BANGER_DISK_ANSWER_FD, data, answer.length) < 0);
}
