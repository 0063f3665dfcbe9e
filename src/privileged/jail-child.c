/* What the launching child does between fork and exec: its own mount namespace, the chroot, the jailer.
 * Never allocates, logs or takes a lock: the parent has threads, so only system calls are safe here. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "privileged/jail.h"

#define TMPFS_OPTIONS "size=64m,nr_inodes=4096,mode=0711"

typedef enum {
  STEP_DESCRIPTORS,
  STEP_GO,
  STEP_SESSION,
  STEP_NAMESPACE,
  STEP_TMPFS,
  STEP_FOLDERS,
  STEP_VMM,
  STEP_BINDS,
  STEP_NODES,
  STEP_LIMITS,
  STEP_STREAMS,
  STEP_PRIVILEGES,
  STEP_EXEC,
  N_STEPS,
} Step;

static const char *const step_names[N_STEPS] = {
  [STEP_DESCRIPTORS] = "closing what is not its own",
  [STEP_GO] = "waiting for its cgroup",
  [STEP_SESSION] = "starting a session",
  [STEP_NAMESPACE] = "making namespaces",
  [STEP_TMPFS] = "mounting the chroot's tmpfs",
  [STEP_FOLDERS] = "making the chroot's folders",
  [STEP_VMM] = "binding the VMM",
  [STEP_BINDS] = "binding a file into the chroot, or making a link there",
  [STEP_NODES] = "making device nodes",
  [STEP_LIMITS] = "setting resource limits",
  [STEP_STREAMS] = "setting up its streams",
  [STEP_PRIVILEGES] = "forbidding new privileges and system calls",
  [STEP_EXEC] = "executing the jailer",
};

const char *
banger_jail_step_name (int step)
{
  return step >= 0 && step < N_STEPS ? step_names[step] : "an unknown step";
}

static void fail (const BangerJailPlan *plan, Step step) G_GNUC_NORETURN;

static void
fail (const BangerJailPlan *plan, Step step)
{
  BangerJailReport report = { step, errno };
  (void)!write (plan->report_fd, &report, sizeof report);
  _exit (127);
}

/* Copies of what other threads had open at the fork: held while this one waits, they would keep another launch's pipe
 * from its end, another VM's tap and a disk busy. */
static void
close_others (const BangerJailPlan *plan)
{
  unsigned first = 3;
  for (guint i = 0; i <= plan->own->len; i++) {
    int next = i < plan->own->len ? g_array_index (plan->own, int, i) : G_MAXINT;
    if (next > (int)first && syscall (SYS_close_range, first, (unsigned)next - 1, 0) < 0)
      fail (plan, STEP_DESCRIPTORS);
    first = MAX (first, (unsigned)next + 1);
  }
}

static void
wait_for_go (const BangerJailPlan *plan)
{
  char byte;
  ssize_t n;
  do
    n = read (plan->go_fd, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1)
    _exit (127); /* the helper is gone or gave up: nobody to tell */
}

static void
reset_signals (void)
{
  sigset_t none;
  struct sigaction standard = { .sa_handler = SIG_DFL };
  for (int sig = 1; sig < NSIG; sig++)
    (void)sigaction (sig, &standard, NULL);
  sigemptyset (&none);
  (void)sigprocmask (SIG_SETMASK, &none, NULL);
}

static int
attach (int tree, int folder, const char *name)
{
  return (int)syscall (SYS_move_mount, tree, "", folder, name, MOVE_MOUNT_F_EMPTY_PATH);
}

static int
make_file (int folder, const char *name)
{
  return mknodat (folder, name, S_IFREG | 0600, 0);
}

/* The namespace is private and the tmpfs fresh: no name below it is anyone else's. */
static int
stage_root (const BangerJailPlan *plan)
{
  if (unshare (CLONE_NEWNS | CLONE_NEWIPC) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
    fail (plan, STEP_NAMESPACE);
  if (mount ("banger-jail", plan->top, "tmpfs", MS_NOSUID, TMPFS_OPTIONS) < 0)
    fail (plan, STEP_TMPFS);
  int top = open (plan->top, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (top < 0 || mkdirat (top, "root", 0711) < 0)
    fail (plan, STEP_FOLDERS);
  if (make_file (top, BANGER_JAIL_EXEC_NAME) < 0 || attach (plan->vmm_tree, top, BANGER_JAIL_EXEC_NAME) < 0)
    fail (plan, STEP_VMM);
  int root = openat (top, "root", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (root < 0 || mkdirat (root, "dev", 0755) < 0 || mkdirat (root, "etc", 0755) < 0)
    fail (plan, STEP_FOLDERS);
  return root;
}

int
banger_jail_put_binds (const BangerJailPlan *plan, int root)
{
  for (guint i = 0; i < plan->binds->len; i++) {
    const BangerJailBind *bind = &g_array_index (plan->binds, BangerJailBind, i);
    int made = bind->folder ? mkdirat (root, bind->target, 0755) : make_file (root, bind->target);
    if (made < 0 || attach (bind->tree_fd, root, bind->target) < 0)
      return -1;
  }
  for (guint i = 0; i + 1 < plan->links->len; i += 2)
    if (symlinkat (plan->links->pdata[i + 1], root, plan->links->pdata[i]) < 0)
      return -1;
  return 0;
}

int
banger_jail_put_nodes (const BangerJailPlan *plan, int root)
{
  for (guint i = 0; i < plan->nodes->len; i++) {
    const BangerJailNode *node = &g_array_index (plan->nodes, BangerJailNode, i);
    if (mknodat (root, node->name, node->mode, node->device) < 0
        || fchmodat (root, node->name, node->mode & 07777, 0) < 0
        || fchownat (root, node->name, node->uid, node->gid, AT_SYMLINK_NOFOLLOW) < 0)
      return -1;
  }
  return 0;
}

/* The jailer sets the other limits. A write beyond the file limit fails and does not end the VMM. */
static void
set_limits (const BangerJailPlan *plan)
{
  const struct rlimit no_core = { 0, 0 };
  const struct sigaction ignore = { .sa_handler = SIG_IGN };
  if (setrlimit (RLIMIT_CORE, &no_core) < 0 || sigaction (SIGXFSZ, &ignore, NULL) < 0)
    fail (plan, STEP_LIMITS);
}

/* Not fork(2), which has no flags: what it would do beside, for the sake of malloc and stdio, this child has no use
 * for. */
pid_t
banger_jail_fork (void)
{
  return (pid_t)syscall (SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0);
}

void
banger_jail_child (const BangerJailPlan *plan)
{
  static char *environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LANG=C.UTF-8", NULL };
  close_others (plan);
  wait_for_go (plan);
  reset_signals ();
  umask (022);
  if (setsid () < 0)
    fail (plan, STEP_SESSION);
  int root = stage_root (plan);
  if (banger_jail_put_binds (plan, root) < 0)
    fail (plan, STEP_BINDS);
  if (banger_jail_put_nodes (plan, root) < 0)
    fail (plan, STEP_NODES);
  set_limits (plan);
  if (chdir ("/") < 0 || dup2 (plan->null_fd, 0) < 0 || dup2 (plan->console_fd, 1) < 0 || dup2 (plan->console_fd, 2) < 0
      || syscall (SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0
      || (plan->tap_fd >= 0 && fcntl (plan->tap_fd, F_SETFD, 0) < 0))
    fail (plan, STEP_STREAMS);
  if (banger_cage_enter (plan->cage) < 0)
    fail (plan, STEP_PRIVILEGES);
  (void)syscall (SYS_execveat, plan->jailer_fd, "", plan->argv, environment, AT_EMPTY_PATH);
  fail (plan, STEP_EXEC);
}
