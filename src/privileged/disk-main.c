/* banger-disk: reads and writes files in one ext4 file system, for bangerd-root.
 * Executed by worker.c as the owner, without capabilities, with the file system as a descriptor.
 * Never opens a file: after the request is read, a filter of system calls takes away the means. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privileged/disk-ext4.h"

#define MAX_REQUEST (BANGER_DISK_MAX_BYTES + (1u << 20))

/* seccomp(2). Sanitizers need more than this, and their builds are for tests. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
/* What libext2fs and malloc need on descriptors that are open already. */
static const int allowed[] = {
  SYS_read,         SYS_write,     SYS_pread64,       SYS_pwrite64,  SYS_lseek,    SYS_close,      SYS_fstat,
  SYS_fsync,        SYS_fdatasync, SYS_fallocate,     SYS_ftruncate, SYS_ioctl,    SYS_fcntl,      SYS_brk,
  SYS_mmap,         SYS_munmap,    SYS_mremap,        SYS_madvise,   SYS_mprotect, SYS_futex,      SYS_getrandom,
  SYS_gettimeofday, SYS_time,      SYS_clock_gettime, SYS_uname,     SYS_getpid,   SYS_exit_group, SYS_rt_sigreturn,
  SYS_newfstatat,   SYS_getuid,    SYS_geteuid,       SYS_getgid,    SYS_getegid,
};

static int
forbid_the_rest (void)
{
  enum { N = sizeof allowed / sizeof allowed[0] };
  struct sock_filter code[N + 5];
  size_t n = 0;
  code[n++] = (struct sock_filter)BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, N + 1);
  code[n++] = (struct sock_filter)BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr));
  for (size_t i = 0; i < N; i++)
    code[n++] = (struct sock_filter)BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], (unsigned char)(N - i),
                                              0);
  code[n++] = (struct sock_filter)BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  code[n++] = (struct sock_filter)BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const struct sock_fprog program = { (unsigned short)n, code };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return -1;
  return prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#else
static int
forbid_the_rest (void)
{
  return 0;
}
#endif

static void *
read_request (size_t *ret_length)
{
  struct stat st;
  if (fstat (BANGER_DISK_REQUEST_FD, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)MAX_REQUEST)
    return NULL;
  char *bytes = malloc ((size_t)st.st_size);
  if (!bytes || pread (BANGER_DISK_REQUEST_FD, bytes, (size_t)st.st_size, 0) != st.st_size)
    return NULL;
  *ret_length = (size_t)st.st_size;
  return bytes;
}

static int
write_all (const void *bytes, size_t length)
{
  const char *from = bytes;
  while (length > 0) {
    ssize_t n = write (BANGER_DISK_ANSWER_FD, from, length);
    if (n < 0)
      return -1;
    from += n;
    length -= (size_t)n;
  }
  return 0;
}

int
main (int argc, char **argv)
{
  BangerDiskAnswer answer;
  void *data;
  size_t length = 0;
  if (argc != 1 || isatty (BANGER_DISK_REQUEST_FD)) {
    fputs ("banger-disk is started by bangerd-root\n", stderr);
    return 2;
  }
  (void)prctl (PR_SET_DUMPABLE, 0, 0, 0, 0);
  void *request = read_request (&length);
  if (!request || forbid_the_rest () < 0)
    return 1;
  banger_disk_serve (request, length, BANGER_DISK_IMAGE_FD, &answer, &data);
  _exit (write_all (&answer, sizeof answer) < 0 || write_all (data, answer.length) < 0);
}
