/* Filters of system calls.
 * Never knows a program. */
#include "common/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cage-rows.h"
#include "common/fd.h"

/* The first number that libseccomp 2.5.4 has no name for; Linux 5.17 has those below. */
#define FIRST_UNKNOWN 451
#define PRELUDE 3

const BangerCageRow banger_cage_basic[] = {
  ALLOW ("read"),
  ALLOW ("readv"),
  ALLOW ("pread64"),
  ALLOW ("write"),
  ALLOW ("writev"),
  ALLOW ("pwrite64"),
  ALLOW ("lseek"),
  ALLOW ("close"),
  ALLOW ("fstat"),
  ALLOW_VALUE ("newfstatat", 3, AT_EMPTY_PATH),
  ALLOW ("fsync"),
  ALLOW ("fdatasync"),
  ALLOW ("sync_file_range"),
  ALLOW ("fallocate"),
  ALLOW ("ftruncate"),
  ALLOW_VALUE ("fcntl", 1, F_GETFD),
  ALLOW_VALUE ("fcntl", 1, F_SETFD),
  ALLOW_VALUE ("fcntl", 1, F_GETFL),
  ALLOW_VALUE ("fcntl", 1, F_DUPFD),
  ALLOW_VALUE ("fcntl", 1, F_DUPFD_CLOEXEC),
  ALLOW ("dup"),
  ALLOW ("poll"),
  ALLOW ("brk"),
  ALLOW ("mmap"),
  ALLOW ("munmap"),
  ALLOW ("mremap"),
  ALLOW ("mprotect"),
  ALLOW ("madvise"),
  ALLOW ("futex"),
  ALLOW ("getrandom"),
  ALLOW ("gettimeofday"),
  ALLOW ("time"),
  ALLOW ("clock_gettime"),
  ALLOW ("clock_getres"),
  ALLOW ("clock_nanosleep"),
  ALLOW ("nanosleep"),
  ALLOW ("uname"),
  ALLOW ("sysinfo"),
  ALLOW_VALUE ("sched_getaffinity", 0, 0),
  ALLOW ("sched_yield"),
  ALLOW ("getrusage"),
  ALLOW ("getpid"),
  ALLOW ("gettid"),
  ALLOW ("getuid"),
  ALLOW ("geteuid"),
  ALLOW ("getgid"),
  ALLOW ("getegid"),
  ALLOW ("rt_sigaction"),
  ALLOW ("rt_sigprocmask"),
  ALLOW ("rt_sigreturn"),
  ALLOW ("sigaltstack"),
  ALLOW ("restart_syscall"),
  ALLOW ("exit"),
  ALLOW ("exit_group"),
  END_OF_ROWS,
};

/* glibc goes on with clone where there is no clone3, whose flags a filter cannot read. */
const BangerCageRow banger_cage_threads[] = {
  ALLOW_IF ("clone", 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD),
  MISSING ("clone3"),
  ALLOW ("set_robust_list"),
  ALLOW ("rseq"),
  END_OF_ROWS,
};

const BangerCageRow banger_cage_exec[] = {
  ALLOW_VALUE ("execveat", 4, AT_EMPTY_PATH),
  ALLOW ("open"),
  ALLOW ("openat"),
  ALLOW ("stat"),
  ALLOW ("lstat"),
  ALLOW ("newfstatat"),
  ALLOW ("statx"),
  ALLOW ("access"),
  ALLOW ("faccessat"),
  ALLOW ("faccessat2"),
  ALLOW ("readlink"),
  ALLOW ("readlinkat"),
  ALLOW ("getcwd"),
  ALLOW ("getdents64"),
  ALLOW ("arch_prctl"),
  ALLOW ("set_tid_address"),
  ALLOW ("set_robust_list"),
  ALLOW ("rseq"),
  ALLOW ("getrlimit"),
  { "prlimit64", 0, 2, { { 0, SCMP_CMP_EQ, 0, 0 }, { 2, SCMP_CMP_EQ, 0, 0 } } }, /* reads its own */
  END_OF_ROWS,
};

struct BangerCage {
  struct sock_fprog program;
  struct sock_filter code[];
};

/* A row with the action of the table itself changes nothing, and libseccomp refuses it. */
static int
add_row (scmp_filter_ctx filter, const BangerCageTable *table, const BangerCageRow *row)
{
  int number = seccomp_syscall_resolve_name (row->call);
  if (number == __NR_SCMP_ERROR) {
    errno = ENOSYS;
    return -1;
  }
  if (number < 0 || row->error == table->otherwise) /* below 0: not on this architecture */
    return 0;
  uint32_t action = row->error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO ((uint32_t)row->error);
  int r = seccomp_rule_add_array (filter, action, number, row->n_when, row->when);
  errno = -r;
  return r < 0 ? -1 : 0;
}

static int
fill (scmp_filter_ctx filter, const BangerCageTable *table)
{
  if (seccomp_attr_set (filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0 /* a tree instead of a chain */
      || seccomp_attr_set (filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO (EPERM)) < 0)
    return -1;
  for (size_t i = 0; i < sizeof table->rows / sizeof table->rows[0] && table->rows[i]; i++)
    for (const BangerCageRow *row = table->rows[i]; row->call; row++)
      if (add_row (filter, table, row) < 0)
        return -1;
  return 0;
}

/* Jumps are relative, so what libseccomp made can stand behind these. Numbers of x32 are above the bound, too. */
static BangerCage *
take_code (int fd)
{
  struct stat st;
  if (fstat (fd, &st) < 0)
    return NULL;
  size_t length = (size_t)st.st_size / sizeof (struct sock_filter) + PRELUDE;
  BangerCage *cage = malloc (sizeof *cage + length * sizeof (struct sock_filter));
  if (!cage)
    return NULL;
  cage->code[0] = (struct sock_filter)BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr));
  cage->code[1] = (struct sock_filter)BPF_JUMP (BPF_JMP | BPF_JGE | BPF_K, FIRST_UNKNOWN, 0, 1);
  cage->code[2] = (struct sock_filter)BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
  if (banger_read_exactly (fd, cage->code + PRELUDE, (size_t)st.st_size, 0) < 0) {
    free (cage);
    return NULL;
  }
  cage->program = (struct sock_fprog){ (unsigned short)length, cage->code };
  return cage;
}

BangerCage *
banger_cage_new (const BangerCageTable *table)
{
  scmp_filter_ctx filter = seccomp_init (table->otherwise == 0 ? SCMP_ACT_ALLOW
                                                               : SCMP_ACT_ERRNO ((uint32_t)table->otherwise));
  if (!filter) {
    errno = ENOMEM;
    return NULL;
  }
  BangerCage *cage = NULL;
  banger_autofd int fd = memfd_create ("banger-cage", MFD_CLOEXEC);
  if (fd >= 0 && fill (filter, table) == 0) {
    int r = seccomp_export_bpf (filter, fd);
    errno = -r;
    if (r == 0)
      cage = take_code (fd);
  }
  int saved = errno;
  seccomp_release (filter);
  errno = saved;
  return cage;
}

void
banger_cage_free (BangerCage *cage)
{
  free (cage);
}

int
banger_cage_enter (const BangerCage *cage)
{
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return -1;
  return prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &cage->program);
}
