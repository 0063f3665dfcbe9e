/* Stands in for a VMM, or for e2fsck: tries what none of them may, and says how it went, "name=errno".
 * Started by the helper from test_jail.py and test_powers.py, statically linked.
 * Never hurts anybody: signals are number 0. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void
say (const char *name, long r)
{
  int errnum = r < 0 ? errno : 0;
  printf ("%s=%d\n", name, errnum);
  fflush (stdout);
}

/* In a child, so that what works is not in the way of what follows. */
static void
say_of_child (const char *name, long (*probe) (void))
{
  fflush (stdout);
  pid_t pid = fork ();
  if (pid == 0)
    _exit (probe () < 0 ? errno : 0);
  int status = 0;
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    say (name, -1);
  else
    printf ("%s=%d\n", name, WIFEXITED (status) ? WEXITSTATUS (status) : 1000);
}

static void
sockets (void)
{
  int pair[2];
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  say ("socket-inet", socket (AF_INET, SOCK_STREAM, 0));
  say ("socket-inet6", socket (AF_INET6, SOCK_DGRAM, 0));
  say ("socket-netlink", socket (AF_NETLINK, SOCK_RAW, 0));
  say ("socket-vsock", socket (AF_VSOCK, SOCK_STREAM, 0));
  say ("socket-packet", socket (AF_PACKET, SOCK_RAW, 0));
  say ("socket-datagram", socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  say ("socket-raw", socket (AF_UNIX, SOCK_RAW, 0));
  say ("socket-upper-half", syscall (SYS_socket, (long)AF_UNIX, 0x100000000L | SOCK_DGRAM, 0L));
  say ("socketpair-datagram", socketpair (AF_UNIX, SOCK_DGRAM, 0, pair));
  int stream = socket (AF_UNIX, SOCK_STREAM, 0);
  say ("socket-unix", stream);
  memcpy (address.sun_path + 1, "banger-cage-probe", sizeof "banger-cage-probe" - 1);
  say ("connect-abstract", connect (stream, (struct sockaddr *)&address,
                                    offsetof (struct sockaddr_un, sun_path) + sizeof "banger-cage-probe"));
}

static long
trace_me (void)
{
  return ptrace (PTRACE_TRACEME, 0, NULL, NULL);
}

static void
processes (long victim)
{
  char byte = 1, copy = 0;
  struct iovec here = { &copy, 1 }, there = { &byte, 1 };
  say ("kill-all", kill (-1, 0));
  say ("kill-self", kill (getpid (), 0));
  if (victim > 0) {
    say ("kill-victim", kill ((pid_t)victim, 0));
    say ("tkill-victim", syscall (SYS_tkill, victim, 0));
    say ("tgkill-victim", syscall (SYS_tgkill, victim, victim, 0));
    say ("sigqueue-victim", sigqueue ((pid_t)victim, 0, (union sigval){ 0 }));
    say ("setown-victim", fcntl (0, F_SETOWN, (int)victim));
    say ("prlimit-victim", syscall (SYS_prlimit64, victim, 7, NULL, NULL));
    say ("setaffinity-victim", syscall (SYS_sched_getaffinity, victim, sizeof (cpu_set_t), &(cpu_set_t){ { 0 } }));
    say ("attach-victim", ptrace (PTRACE_SEIZE, (pid_t)victim, NULL, NULL));
  }
  say_of_child ("ptrace", trace_me);
  say ("process_vm_readv", process_vm_readv (getpid (), &here, 1, &there, 1, 0));
  say ("process_vm_writev", process_vm_writev (getpid (), &here, 1, &there, 1, 0));
  say ("pidfd_open", syscall (SYS_pidfd_open, getpid (), 0));
  say ("kcmp", syscall (SYS_kcmp, getpid (), getpid (), 0, 0, 0));
}

static long
new_user (void)
{
  return unshare (CLONE_NEWUSER);
}

static long
new_user_and_net (void)
{
  return unshare (CLONE_NEWUSER | CLONE_NEWNET);
}

static void
kernel (void)
{
  char parameters[256] = { 0 };
  union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };
  struct perf_event_attr event = { .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .exclude_kernel = 1 };
  say ("io_uring_setup", syscall (SYS_io_uring_setup, 1, parameters));
  say_of_child ("unshare-user", new_user);
  say_of_child ("unshare-user-net", new_user_and_net);
  say ("clone-user", syscall (SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0));
  say ("clone3", syscall (SYS_clone3, NULL, 0));
  say ("setns", setns (0, 0));
  say ("keyctl", syscall (SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
  say ("add_key", syscall (SYS_add_key, "user", "banger", "x", 1L, KEY_SPEC_PROCESS_KEYRING));
  say ("bpf", syscall (SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
  say ("perf_event_open", syscall (SYS_perf_event_open, &event, 0, -1, -1, 0));
  say ("userfaultfd", syscall (SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
  say ("inotify", inotify_init1 (0));
  say ("newer", syscall (451, -1L, 0L, 0L, 0L)); /* cachestat */
}

/* Those that its descriptor of a tap would let through. */
static void
tap (int fd)
{
  struct ifreq request = { .ifr_hwaddr = { .sa_family = 1, .sa_data = { 2, 0, 0, 0, 0, 1 } } };
  say ("tap-mac", ioctl (fd, SIOCSIFHWADDR, &request));
  say ("tap-persist", ioctl (fd, TUNSETPERSIST, 0L));
  say ("tap-owner", ioctl (fd, TUNSETOWNER, (unsigned long)getuid ()));
  say ("tap-group", ioctl (fd, TUNSETGROUP, (unsigned long)getgid ()));
  struct ifreq again = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR }, seen = { 0 };
  say ("tap-again", ioctl (fd, TUNSETIFF, &again));
  long headers = ioctl (fd, TUNGETIFF, &seen) < 0 ? 0 : -(long)!((unsigned short)seen.ifr_flags & IFF_VNET_HDR);
  errno = EPERM;
  say ("tap-headers", headers);
  request.ifr_hwaddr.sa_family = 0;
  say ("tap-upper-half", syscall (SYS_ioctl, (long)fd, 0x100000000L | TUNSETPERSIST, 0L));
}

static void
files (void)
{
  static const char *const paths[] = { "/dev/net/tun", "/dev/vhost-vsock", "/proc/self/status",           "/etc/passwd",
                                       "/home",        "/var/lib/banger",  "/run/dbus/system_bus_socket", "/bin/sh",
                                       "/usr/bin/env" };
  for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
    char name[128];
    snprintf (name, sizeof name, "open %s", paths[i]);
    say (name, open (paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  }
  say ("make", open ("/made", O_WRONLY | O_CREAT, 0600));
}

/* A file of its group that the host's programs could execute, and a lease that makes others wait for a file that VMs
 * share. The mode of what is made is not looked at again: that the call went through says it. */
static void
marks (void)
{
  struct {
    unsigned long long flags, mode, resolve;
  } how = { O_WRONLY | O_CREAT, S_ISGID | 0755, 0 };
  const char *made = "/run/victim";
  say ("chown-console", fchown (1, (uid_t)-1, getgid ()));
  say ("setgid-fchmod", fchmod (1, S_ISGID | 0755));
  say ("setuid-fchmod", fchmod (1, S_ISUID | 0755));
  say ("setgid-chmod", chmod (made, S_ISGID | 0755));
  say ("setgid-fchmodat", fchmodat (AT_FDCWD, made, S_ISGID | 0755, 0));
  say ("setgid-open", syscall (SYS_open, "/run/a", O_WRONLY | O_CREAT, S_ISGID | 0755));
  say ("setuid-openat", openat (AT_FDCWD, "/run/b", O_WRONLY | O_CREAT, S_ISUID | 0755));
  say ("setgid-tmpfile", open ("/run", O_WRONLY | O_TMPFILE, S_ISGID | 0755));
  say ("setgid-creat", syscall (SYS_creat, "/run/c", S_ISGID | 0755));
  say ("setgid-mknod", syscall (SYS_mknod, "/run/d", S_IFREG | S_ISGID | 0755, 0));
  say ("setgid-mknodat", mknodat (AT_FDCWD, "/run/e", S_IFREG | S_ISGID | 0755, 0));
  say ("setgid-mkdir", syscall (SYS_mkdir, "/run/f", S_ISGID | 0755));
  say ("openat2", syscall (SYS_openat2, AT_FDCWD, "/run/g", &how, sizeof how));
  say ("chmod", fchmod (1, 0600));
  int kernel = open ("/vmlinux", O_RDONLY | O_CLOEXEC);
  say ("open-kernel", kernel);
  say ("lease", fcntl (kernel, F_SETLEASE, F_WRLCK));
  say ("notify", fcntl (open ("/run", O_RDONLY | O_CLOEXEC), F_NOTIFY, DN_CREATE));
}

static long
run_shell (void)
{
  char *argv[] = { (char *)"sh", (char *)"-c", (char *)"exit 0", NULL };
  return execv ("/bin/sh", argv);
}

/* e2fsck has no output that anybody reads; it has its disk. */
static void
speak_to_disk (const char *node)
{
  close (1);
  if (open (node, O_WRONLY) != 1)
    _exit (8);
}

int
main (int argc, char **argv)
{
  if (argc > 1 && strcmp (argv[0], "e2fsck") == 0)
    speak_to_disk (argv[argc - 1]);
  long victim = 0;
  FILE *file = fopen ("/run/victim", "r");
  if (file && fscanf (file, "%ld", &victim) != 1)
    victim = 0;
  printf ("uid=%u\ngid=%u\npid=%d\n", getuid (), getgid (), (int)getpid ());
  sockets ();
  processes (victim);
  kernel ();
  files ();
  if (argc > 1 && strcmp (argv[0], "e2fsck") != 0)
    marks ();
  for (int i = 1; i < argc; i++)
    if (strncmp (argv[i], "--tap=", 6) == 0)
      tap (atoi (strrchr (argv[i], ':') + 1));
  char *shell[] = { (char *)"sh", NULL }, *environment[] = { NULL };
  say ("execveat", syscall (SYS_execveat, 1, "/bin/sh", shell, environment, AT_EMPTY_PATH));
  say_of_child ("fork", run_shell);
  say ("execve", run_shell ());
  return 0;
}
