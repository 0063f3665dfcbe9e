/* banger-jailer: Firecracker's jailer's command line; ends as the VMM, jailed and without any privilege.
 * Never starts a VMM that kept a capability or an open descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/std-fds.h"
#include "jailer/args.h"
#include "jailer/cgroup.h"
#include "jailer/root.h"

#define die banger_jailer_die

static const char usage[]
    = "Usage: banger-jailer --id ID --exec-file PATH --uid UID --gid GID [OPTION...] [-- VMM ARGUMENT...]\n"
      "  --chroot-base-dir DIR       where jails are made (/srv/jailer)\n"
      "  --cgroup FILE=VALUE         a file of the jail's cgroup, may be repeated\n"
      "  --cgroup-version 1|2        2 is needed for --cgroup\n"
      "  --parent-cgroup PATH        below the cgroup mount (the VMM's file name)\n"
      "  --resource-limit NAME=VALUE fsize or no-file, may be repeated\n"
      "  --netns PATH                network namespace to join\n"
      "  --keep-fd NUMBER            the VMM inherits this descriptor, too\n"
      "  --daemonize                 own session, standard streams to /dev/null\n"
      "  --new-pid-ns                the VMM is PID 1 of its own namespace\n"
      "  --version, --help\n";

static uint64_t
clock_us (clockid_t clock)
{
  struct timespec now;
  clock_gettime (clock, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void
join_netns (const char *path)
{
  banger_autofd int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    die (errno, "Failed to open file %s", path);
  if (setns (fd, CLONE_NEWNET) < 0)
    die (errno, "Failed to join network namespace %s", path);
}

static void
set_limit (__rlimit_resource_t resource, rlim_t value, bool explicit, const char *name)
{
  struct rlimit now;
  if (getrlimit (resource, &now) < 0)
    die (errno, "Failed to read the limit of %s", name);
  /* The default never asks for more than there is; an explicit limit is kept or refused. */
  if (!explicit && now.rlim_max != RLIM_INFINITY && now.rlim_max < value)
    value = now.rlim_max;
  struct rlimit limit = { .rlim_cur = value, .rlim_max = value };
  if (setrlimit (resource, &limit) < 0)
    die (errno, "Failed to set limit for resource: %s", name);
}

static void
daemonize (void)
{
  banger_autofd int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0)
    die (errno, "Failed to open /dev/null");
  /* Twice: the second child is no session leader and never gets a terminal. */
  for (int i = 0; i < 2; i++) {
    pid_t pid = fork ();
    if (pid < 0)
      die (errno, "Failed to daemonize");
    if (pid > 0)
      _exit (0);
    if (i == 0 && setsid () < 0)
      die (errno, "Failed to daemonize: setsid");
  }
  for (int fd = 0; fd < 3; fd++)
    if (dup2 (null, fd) < 0)
      die (errno, "Failed to duplicate fd");
}

/* The caller's bounding set may lack CAP_SETPCAP; then no-new-privs alone makes the rest of it useless. */
static void
drop_bounding_set (void)
{
  for (int cap = 0; cap <= 63; cap++)
    if (prctl (PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl (PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
      die (errno, "Failed to drop capability %d from the bounding set", cap);
}

static void
check_privileges (const BangerJailerArgs *args)
{
  uid_t ruid, euid, suid;
  gid_t rgid, egid, sgid;
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct data[2];
  if (getresuid (&ruid, &euid, &suid) < 0 || getresgid (&rgid, &egid, &sgid) < 0
      || syscall (SYS_capget, &header, data) < 0)
    die (errno, "Failed to read the credentials");
  bool ids = ruid == args->uid && euid == args->uid && suid == args->uid && rgid == args->gid && egid == args->gid
             && sgid == args->gid && getgroups (0, NULL) == 0;
  bool caps = (data[0].effective | data[1].effective | data[0].permitted | data[1].permitted | data[0].inheritable
               | data[1].inheritable)
              == 0;
  if (!ids || !caps || prctl (PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || setresuid (0, 0, 0) == 0)
    die (0, "Privileges remained after dropping them, the VMM was not started");
}

static void
drop_privileges (const BangerJailerArgs *args)
{
  struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
  struct __user_cap_data_struct none[2] = { 0 };
  drop_bounding_set ();
  if (prctl (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
    die (errno, "Failed to clear the ambient capabilities");
  if (setgroups (0, NULL) < 0 || setresgid (args->gid, args->gid, args->gid) < 0)
    die (errno, "Failed to become gid %u", (unsigned int)args->gid);
  if (setresuid (args->uid, args->uid, args->uid) < 0)
    die (errno, "Failed to become uid %u", (unsigned int)args->uid);
  if (syscall (SYS_capset, &header, none) < 0)
    die (errno, "Failed to drop the capabilities");
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    die (errno, "Failed to set no_new_privs");
  check_privileges (args);
}

static void __attribute__ ((noreturn))
exec_vmm (const BangerJailerArgs *args, const BangerJail *jail, uint64_t start_us, uint64_t spent_us)
{
  char path[4096 + 2], id[80], start[32], start_cpu[32], parent_cpu[32];
  size_t n = 0, extra = 0;
  while (args->vmm_args[extra])
    extra++;
  char **argv = calloc (extra + 10, sizeof *argv);
  if (!argv)
    die (errno, "Failed to exec into the VMM");
  snprintf (path, sizeof path, "/%s", jail->exec_name);
  snprintf (id, sizeof id, "%s", args->id);
  snprintf (start, sizeof start, "%llu", (unsigned long long)start_us);
  snprintf (start_cpu, sizeof start_cpu, "%llu", (unsigned long long)clock_us (CLOCK_PROCESS_CPUTIME_ID));
  snprintf (parent_cpu, sizeof parent_cpu, "%llu", (unsigned long long)spent_us);
  char *fixed[] = { path,      (char[]){ "--id" },
                    id,        (char[]){ "--start-time-us" },
                    start,     (char[]){ "--start-time-cpu-us" },
                    start_cpu, (char[]){ "--parent-cpu-time-us" },
                    parent_cpu };
  for (; n < sizeof fixed / sizeof fixed[0]; n++)
    argv[n] = fixed[n];
  for (size_t i = 0; i < extra; i++)
    argv[n++] = args->vmm_args[i];
  drop_privileges (args);
  char *environment[] = { NULL };
  execve (path, argv, environment);
  die (errno, "Failed to exec into %s", path);
}

static void
exec_in_new_pid_ns (const BangerJailerArgs *args, const BangerJail *jail, uint64_t start_us, uint64_t spent_us)
{
  bool leader = getsid (0) == getpid ();
  pid_t pid = (pid_t)syscall (SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);
  if (pid < 0)
    die (errno, "Failed cloning into a new child process");
  if (pid > 0) {
    banger_jailer_save_pid (jail, pid);
    _exit (0);
  }
  /* Else the jailer's end would hang up the VMM. */
  if (leader && setsid () < 0)
    die (errno, "Failed to start a session");
  exec_vmm (args, jail, start_us, spent_us);
}

/* All but the standard streams and @keep. */
static void
close_inherited (unsigned int keep)
{
  unsigned int first = keep > 0 ? keep + 1 : 3;
  if ((keep > 3 && syscall (SYS_close_range, 3, keep - 1, 2 /* CLOSE_RANGE_UNSHARE */) < 0)
      || syscall (SYS_close_range, first, ~0U, 2 /* CLOSE_RANGE_UNSHARE */) < 0)
    die (errno, "Failed to close inherited descriptors");
}

int
main (int argc, char **argv)
{
  static BangerJailerArgs args;
  static BangerJail jail;
  char message[BANGER_JAILER_MAX_MESSAGE];
  uint64_t start_us = clock_us (CLOCK_MONOTONIC), start_cpu_us = clock_us (CLOCK_PROCESS_CPUTIME_ID);

  banger_std_fds_fill ();
  clearenv ();
  bool parsed = banger_jailer_parse (argc, argv, &args, message);
  close_inherited (parsed ? (unsigned int)args.keep_fd : 0);
  if (!parsed)
    die (0, "%s", message);
  if (args.help || args.version) {
    fputs (args.help ? usage : "banger-jailer v" BANGER_VERSION "\n", stdout);
    return 0;
  }
  banger_jailer_prepare (&args, &jail);
  if (args.netns)
    join_netns (args.netns);
  banger_jailer_join_cgroup (&args, jail.exec_name);
  umask (022);
  if (args.daemonize)
    daemonize ();
  banger_jailer_enter (&args, &jail);
  banger_jailer_furnish (&args, &jail);
  /* After the copy of the VMM, which may be larger than what the VMM may write. */
  if (args.has_fsize)
    set_limit (RLIMIT_FSIZE, args.fsize, true, "size of file");
  set_limit (RLIMIT_NOFILE, args.no_file, args.has_no_file, "number of file descriptors");
  uint64_t spent_us = clock_us (CLOCK_PROCESS_CPUTIME_ID) - start_cpu_us;
  if (args.new_pid_ns)
    exec_in_new_pid_ns (&args, &jail, start_us, spent_us);
  banger_jailer_save_pid (&jail, getpid ());
  exec_vmm (&args, &jail, start_us, spent_us);
}
