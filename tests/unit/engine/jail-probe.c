/* Stands in for a VMM in the jailer's tests: says what it can see and do.
 * Started by banger-jailer from test_jailer.py, statically linked, without /proc.
 * Never does anything but print. */
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void
list (const char *path)
{
  DIR *directory = opendir (path);
  struct dirent *entry;
  printf ("ls %s=", path);
  while (directory != NULL && (entry = readdir (directory)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      printf ("%s ", entry->d_name);
  printf ("\n");
  if (directory != NULL)
    closedir (directory);
}

static void
show (const char *path)
{
  struct stat st;
  if (lstat (path, &st) == 0)
    printf ("stat %s=%o %u:%u dev %u:%u\n", path, st.st_mode, st.st_uid, st.st_gid, major (st.st_rdev),
            minor (st.st_rdev));
}

int
main (int argc, char **argv, char **envp)
{
  uid_t r, e, s;
  gid_t rg, eg, sg;
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[2] = { 0 };
  struct rlimit files, size;
  unsigned long long bounding = 0;

  for (int i = 0; i < argc; i++)
    printf ("argv%d=%s\n", i, argv[i]);
  struct statvfs fs;
  for (int i = 1; i + 1 < argc; i++)
    if (strcmp (argv[i], "--exec-file") == 0 && statvfs (argv[i + 1], &fs) == 0)
      printf ("exec-flags=%lu\n", fs.f_flag);
  getresuid (&r, &e, &s);
  getresgid (&rg, &eg, &sg);
  printf ("uid=%u %u %u\ngid=%u %u %u\ngroups=%d\n", r, e, s, rg, eg, sg, getgroups (0, NULL));
  syscall (SYS_capget, &header, data);
  printf ("caps=%x %x %x %x %x %x\n", data[0].effective, data[1].effective, data[0].permitted, data[1].permitted,
          data[0].inheritable, data[1].inheritable);
  for (int cap = 0; cap < 64; cap++)
    if (prctl (PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
      bounding |= 1ULL << cap;
  printf ("bounding=%llx\nnnp=%d\npid=%d\nppid=%d\nsid=%d\n", bounding, prctl (PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
          (int)getpid (), (int)getppid (), (int)getsid (0));
  printf ("fds=");
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl (fd, F_GETFD) >= 0)
      printf ("%d ", fd);
  int variables = 0;
  while (envp[variables])
    variables++;
  printf ("\nenv=%d\n", variables);
  getrlimit (RLIMIT_NOFILE, &files);
  getrlimit (RLIMIT_FSIZE, &size);
  printf ("nofile=%llu %llu\nfsize=%llu\n", (unsigned long long)files.rlim_cur, (unsigned long long)files.rlim_max,
          (unsigned long long)size.rlim_cur);
  list ("/");
  list ("/dev");
  list ("/run");
  show ("/");
  show ("/dev");
  show ("/dev/net/tun");
  show ("/dev/kvm");
  show ("/dev/urandom");
  show ("/run");
  show (argv[0]);
  printf ("escape=%d\n", access ("/../etc/passwd", F_OK) == 0);
  return 0;
}
