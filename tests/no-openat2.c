/* Runs a program on a kernel that seems to have no openat2: seccomp answers ENOSYS, also to its children.
 * Called by meson test in front of test programs.
 * Never runs the program if the filter does not act. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* seccomp(2): root may filter without giving up new privileges. */
static int
block (void)
{
  struct sock_filter filter[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
  if (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
    return 0;
  return prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) : -1;
}

int
main (int argc, char **argv)
{
  if (argc < 2) {
    fprintf (stderr, "usage: no-openat2 PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  if (block () < 0 || syscall (SYS_openat2, AT_FDCWD, "/", NULL, (size_t)0) != -1 || errno != ENOSYS) {
    perror ("no-openat2: the filter does not act");
    return 99;
  }
  execvp (argv[1], argv + 1);
  perror (argv[1]);
  return 127;
}
