/* Launching a VMM.
 * Rows of the method table (methods.c) call these in order.
 * Never lets the VMM run before its lease names its process and its cgroup holds it. */
#include "privileged/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "common/pidfd.h"
#include "common/safe-path.h"
#include "privileged/cages.h"
#include "privileged/cgroup.h"
#include "privileged/engine.h"
#include "privileged/gate.h"
#include "privileged/jail.h"
#include "privileged/lease.h"
#include "privileged/scope.h"
#include "privileged/snapshot.h"
#include "privileged/tap.h"
#include "privileged/vmm.h"

#define STAGE_MS 15000
#define MIB (G_GUINT64_CONSTANT (1) << 20)
/* QEMU has a thread per vCPU and up to 64 for its disks. */
#define MAX_TASKS 256
#define CPU_WEIGHT 100
#define MAX_FILES 2048
#define MIN_FILE_BYTES (1024 * MIB)
#define SAVE_SLACK (64 * MIB)
#define DATA_ATTRIBUTES (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* Between the two halves. */
typedef struct {
  BangerLease *lease;
  pid_t pid;
  int pidfd;
  int go_fd;     /* write end; closing it unused makes the child give up */
  int report_fd; /* read end */
  BangerLimits limits;
  GError *refused; /* why there is no scope */
} Launch;

/* A child that was not let go ends by itself; it is reaped here. */
static void
launch_free (gpointer data)
{
  Launch *launch = data;
  banger_clear_fd (&launch->go_fd);
  banger_clear_fd (&launch->report_fd);
  banger_clear_fd (&launch->pidfd);
  g_clear_error (&launch->refused);
  banger_lease_free (launch->lease);
  g_free (launch);
}

/* Without the option: as much as any VM may have. */
static guint64
memory_of (const BangerCall *call)
{
  const BangerInstall *install = call->root->install;
  return call->memory_mib > 0 ? call->memory_mib : MIN (install->max_memory_mib, install->max_total_memory_mib);
}

static gboolean
bind_file (BangerCall *call, BangerJailPlan *plan, BangerManagedFile kind, const char *id, const char *target,
           gboolean optional, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  banger_autofd int fd = banger_gate_file (call->root->owner_fd, call->owner, kind, id, &missing, &why);
  if (fd < 0 && missing && optional)
    return TRUE;
  if (fd < 0) {
    g_propagate_error (error, g_steal_pointer (&why));
    return FALSE;
  }
  gboolean writable = kind == BANGER_MANAGED_ROOTFS || kind == BANGER_MANAGED_WORK || kind == BANGER_MANAGED_SAVE_STATE
                      || kind == BANGER_MANAGED_SAVE_MEMORY;
  struct stat st;
  if (writable && fstat (fd, &st) == 0)
    plan->file_bytes = MAX (plan->file_bytes, (guint64)st.st_size);
  return banger_jail_bind (plan, fd, target + 1, FALSE, DATA_ATTRIBUTES | (writable ? 0 : MOUNT_ATTR_RDONLY), error);
}

/* What the VMM may save its guest to, and read one from; where the owner has such files. */
static gboolean
bind_suspension (BangerCall *call, BangerJailPlan *plan, GError **error)
{
  static const struct {
    BangerManagedFile kind, of_template;
    const char *target;
  } rows[] = {
    { BANGER_MANAGED_SAVE_STATE, BANGER_MANAGED_SAVE_STATE, BANGER_JAIL_SAVE_STATE },
    { BANGER_MANAGED_SAVE_MEMORY, BANGER_MANAGED_SAVE_MEMORY, BANGER_JAIL_SAVE_MEMORY },
    { BANGER_MANAGED_SAVED_STATE, BANGER_MANAGED_TEMPLATE_STATE, BANGER_JAIL_SAVED_STATE },
    { BANGER_MANAGED_SAVED_MEMORY, BANGER_MANAGED_TEMPLATE_MEMORY, BANGER_JAIL_SAVED_MEMORY },
  };
  guint before = plan->binds->len;
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    gboolean from = call->template_id && rows[i].of_template != rows[i].kind;
    if (!bind_file (call, plan, from ? rows[i].of_template : rows[i].kind,
                    from ? call->template_id : banger_call_vm (call), rows[i].target, !from, error))
      return FALSE;
  }
  if (plan->binds->len > before) /* all pages, and what is said of each */
    plan->file_bytes = MAX (plan->file_bytes, memory_of (call) * MIB / 64 * 65 + SAVE_SLACK);
  return TRUE;
}

static gboolean
bind_root_disk (BangerCall *call, BangerJailPlan *plan, const BangerLease *lease, GError **error)
{
  dev_t device;
  if (g_str_equal (call->strings[BANGER_ARG_ROOT_DISK], "file"))
    return bind_file (call, plan, BANGER_MANAGED_ROOTFS, lease->vm, BANGER_JAIL_ROOTFS, FALSE, error);
  if (!banger_snapshot_device (lease, &device, error))
    return FALSE;
  banger_jail_node (plan, &BANGER_JAIL_ROOTFS[1], S_IFBLK | 0600, device, call->owner, banger_vm_gid (lease->vm));
  return TRUE;
}

/* The owner's folder of sockets, made by the manager. */
static gboolean
bind_run (BangerCall *call, BangerJailPlan *plan, GError **error)
{
  g_autoptr (GError) why = NULL;
  banger_autofd int fd = banger_safe_openat (call->root->sockets_fd, banger_call_vm (call), O_RDONLY | O_DIRECTORY, 0,
                                             BANGER_SAFE_NONE, &why);
  struct stat st;
  if (fd < 0)
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_VM, "the sockets' folder of VM %s: %s", banger_call_vm (call),
                             why->message);
  if (fstat (fd, &st) < 0 || st.st_uid != call->owner || (st.st_mode & 077))
    return banger_set_error (error, BANGER_ERROR_UNSAFE_FILE,
                             "the sockets' folder of VM %s must be its owner's alone (mode 0700)",
                             banger_call_vm (call));
  return banger_jail_bind (plan, fd, "run", TRUE, DATA_ATTRIBUTES, error);
}

/* kvm, net/tun and urandom are the jailer's to make, Firecracker's fails where they exist. */
static void
add_nodes (BangerCall *call, BangerJailPlan *plan)
{
  banger_jail_node (plan, "dev/null", S_IFCHR | 0600, makedev (1, 3), call->owner,
                    banger_vm_gid (banger_call_vm (call)));
}

static int
open_console (BangerCall *call, GError **error)
{
  gboolean missing = FALSE;
  g_autoptr (GError) why = NULL;
  const BangerRoot *root = call->root;
  int fd = banger_gate_file (root->owner_fd, call->owner, BANGER_MANAGED_CONSOLE, banger_call_vm (call), &missing,
                             &why);
  if (fd >= 0 || !missing) {
    if (why)
      g_propagate_error (error, g_steal_pointer (&why));
    return fd;
  }
  g_autofree char *path = g_strdup_printf ("vms/%s/" BANGER_FILE_VM_CONSOLE, banger_call_vm (call));
  return banger_root_create_file (root, path, O_WRONLY | O_APPEND, 0, error);
}

/* The VMM cannot grow a disk beyond what its owner made, nor fill the host with its console. Both jailers know these
 * options; the two for a tap as a descriptor are the pair's. */
static char **
jailer_arguments (BangerCall *call, const BangerJailPlan *plan, const BangerLease *lease)
{
  const BangerInstall *install = call->root->install;
  GPtrArray *argv = g_ptr_array_new ();
  const char *words[] = { "jailer", "--id", banger_call_vm (call), "--exec-file", NULL };
  for (const char **word = words; *word; word++)
    g_ptr_array_add (argv, g_strdup (*word));
  g_ptr_array_add (argv, g_strdup_printf ("%s/" BANGER_JAIL_EXEC_NAME, plan->top));
  g_ptr_array_add (argv, g_strdup ("--uid"));
  g_ptr_array_add (argv, g_strdup_printf ("%u", install->owner_uid));
  g_ptr_array_add (argv, g_strdup ("--gid"));
  g_ptr_array_add (argv, g_strdup_printf ("%u", banger_vm_gid (banger_call_vm (call))));
  g_ptr_array_add (argv, g_strdup ("--chroot-base-dir"));
  g_ptr_array_add (argv, g_strdup_printf ("%s/" BANGER_JAIL_DIR, install->state_dir));
  g_ptr_array_add (argv, g_strdup ("--resource-limit"));
  g_ptr_array_add (argv, g_strdup_printf ("no-file=%d", MAX_FILES));
  g_ptr_array_add (argv, g_strdup ("--resource-limit"));
  g_ptr_array_add (argv, g_strdup_printf ("fsize=%" G_GUINT64_FORMAT, plan->file_bytes));
  if (plan->tap_fd >= 0)
    g_ptr_array_add (argv, g_strdup_printf ("--keep-fd=%d", plan->tap_fd));
  const char *vmm[] = { "--", "--api-sock", BANGER_JAIL_API_SOCKET, NULL };
  for (const char **word = vmm; *word; word++)
    g_ptr_array_add (argv, g_strdup (*word));
  if (plan->tap_fd >= 0)
    g_ptr_array_add (argv, g_strdup_printf ("--tap=%s:%d", lease->tap, plan->tap_fd));
  if (call->mapped && plan->of_pair)
    g_ptr_array_add (argv, g_strdup ("--memory-file=" BANGER_JAIL_SAVE_MEMORY));
  g_ptr_array_add (argv, NULL);
  return (char **)g_ptr_array_free (argv, FALSE);
}

static BangerLimits
limits_of (const BangerCall *call, const BangerEngine *engine)
{
  return (BangerLimits){ (memory_of (call) + engine->overhead_mib) * MIB, MAX_TASKS, CPU_WEIGHT };
}

static gboolean
plan_engine (BangerCall *call, BangerJailPlan *plan, const BangerLease *lease, BangerLimits *ret_limits, GError **error)
{
  g_auto (BangerEngine) engine = BANGER_ENGINE_NONE;
  if (!banger_engine_choose (call->root->install, &engine, error))
    return FALSE;
  *ret_limits = limits_of (call, &engine);
  plan->of_pair = engine.takes_tap;
  plan->jailer_fd = banger_steal_fd (&engine.jailer_fd);
  plan->vmm_tree = banger_jail_clone (engine.vmm_fd, FALSE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                                      "the VMM", error);
  plan->cage = banger_cage_of_vmm (error);
  if (plan->vmm_tree < 0 || !plan->cage)
    return FALSE;
  if (engine.takes_tap && lease->tap) {
    plan->tap_fd = banger_tap_open (lease, error);
    if (plan->tap_fd < 0)
      return FALSE;
  }
  return !engine.dynamic || banger_jail_bind_libraries (plan, TRUE, error);
}

/* Every file is gated before the lease is written: a refusal changes nothing. */
static BangerJailPlan *
make_plan (BangerCall *call, const BangerLease *lease, BangerLimits *ret_limits, GError **error)
{
  g_autoptr (BangerJailPlan) plan = banger_jail_plan_new ();
  plan->file_bytes = MIN_FILE_BYTES;
  const char *vm = banger_call_vm (call), *kernel = call->strings[BANGER_ARG_KERNEL];
  plan->top = g_strdup_printf ("%s/" BANGER_JAIL_DIR "/" BANGER_JAIL_EXEC_NAME "/%s", call->root->install->state_dir,
                               vm);
  if (!bind_file (call, plan, BANGER_MANAGED_KERNEL, kernel, BANGER_JAIL_KERNEL, FALSE, error)
      || !bind_file (call, plan, BANGER_MANAGED_INITRD, vm, BANGER_JAIL_INITRD, FALSE, error)
      || !bind_root_disk (call, plan, lease, error)
      || !bind_file (call, plan, BANGER_MANAGED_WORK, vm, BANGER_JAIL_WORK, TRUE, error)
      || !bind_suspension (call, plan, error) || !bind_run (call, plan, error)
      || !plan_engine (call, plan, lease, ret_limits, error))
    return NULL;
  add_nodes (call, plan);
  plan->null_fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
  plan->console_fd = open_console (call, error);
  plan->argv = jailer_arguments (call, plan, lease);
  if (plan->null_fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open /dev/null");
  return plan->null_fd >= 0 && plan->console_fd >= 0 ? g_steal_pointer (&plan) : NULL;
}

static gboolean
start_time (pid_t pid, guint64 *ret_start, GError **error)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", (int)pid), *text = NULL;
  char state;
  return (g_file_get_contents (path, &text, NULL, NULL) && banger_gate_proc_stat (text, &state, ret_start))
         || banger_set_error (error, BANGER_ERROR_FAILED, "the new process %d cannot be read", (int)pid);
}

static gboolean
fork_child (BangerJailPlan *plan, Launch *launch, GError **error)
{
  int go[2], report[2];
  if (pipe2 (go, O_CLOEXEC) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a pipe");
  plan->go_fd = go[0];
  launch->go_fd = go[1];
  if (pipe2 (report, O_CLOEXEC) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a pipe");
  launch->report_fd = report[0];
  plan->report_fd = report[1];
  banger_jail_seal (plan);
  pid_t pid = banger_jail_fork ();
  if (pid == 0)
    banger_jail_child (plan);
  if (pid < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot fork");
  launch->pid = pid;
  launch->pidfd = banger_pidfd_open (pid);
  if (launch->pidfd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open a pidfd");
  return TRUE;
}

/* Where the helper's own cgroup has no controllers to give, VMs are not bounded; that is said once. */
static void
limit_cgroup (const BangerRoot *root, int folder, const BangerLimits *limits)
{
  static gsize said;
  banger_autofd int own = banger_cgroup_open (root->cgroup_fd, root->cgroup_root, root->cgroup_own, FALSE, NULL);
  g_autofree char *missing = banger_cgroup_limit (own, folder, limits);
  if (*missing == '\0' || !g_once_init_enter (&said))
    return;
  banger_log (LOG_NOTICE, NULL, "VMs have no limits of %s: the helper's own cgroup '%s' cannot give them", missing,
              root->cgroup_own);
  g_once_init_leave (&said, 1);
}

/* Without systemd the helper puts the child into a sub-cgroup of its own. */
static gboolean
enter_cgroup (const BangerRoot *root, const BangerLease *lease, const BangerLimits *limits, GError **error)
{
  banger_autofd int folder = banger_cgroup_open (root->cgroup_fd, root->cgroup_root, lease->cgroup, TRUE, error);
  if (folder >= 0)
    limit_cgroup (root, folder, limits);
  banger_autofd int procs = folder < 0 ? -1 : openat (folder, "cgroup.procs", O_WRONLY | O_CLOEXEC);
  if (folder < 0)
    return FALSE;
  if (procs < 0 || dprintf (procs, "%u", lease->pid) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot put the VMM into cgroup '%s'",
                                   lease->cgroup);
  return TRUE;
}

/* What an earlier VMM of this VM left, if it was not released. */
static gboolean
clear_old (const BangerRoot *root, BangerLease *lease, GError **error)
{
  BangerVmmState state;
  banger_vmm_get (lease->vm, &state);
  if (state.running)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s runs already", lease->vm);
  if (lease->cgroup && !banger_cgroup_remove (root->cgroup_fd, root->cgroup_root, lease->cgroup, 2000, error))
    return FALSE;
  g_clear_pointer (&lease->cgroup, g_free);
  lease->pid = 0;
  lease->start = 0;
  return !lease->jail || banger_jail_remove (root, lease->vm, error);
}

/* The number of a child that systemd may still take up stays in use, as a zombie: else its scope could get, and a later
 * release could kill, whoever has the number next. */
static gboolean
undo (const BangerRoot *root, BangerLease *lease, Launch *launch, const GError *why)
{
  siginfo_t info;
  gboolean clean = TRUE, awaited = g_error_matches (why, BANGER_ERROR, BANGER_ERROR_TIMEOUT) && root->systemd;
  banger_clear_fd (&launch->go_fd);
  if (launch->pidfd >= 0) {
    (void)banger_pidfd_send_signal (launch->pidfd, SIGKILL);
    (void)waitid (P_PIDFD, (id_t)launch->pidfd, &info, WEXITED | (awaited ? WNOWAIT : 0));
  }
  if (lease->cgroup)
    clean = banger_cgroup_remove (root->cgroup_fd, root->cgroup_root, lease->cgroup, 2000, NULL);
  clean = banger_jail_remove (root, lease->vm, NULL) && clean;
  lease->pid = 0;
  lease->start = 0;
  if (clean) {
    g_clear_pointer (&lease->cgroup, g_free);
    lease->jail = FALSE;
  }
  g_autofree char *held = banger_lease_resources (lease);
  return *held ? banger_lease_save (root, lease, NULL) : banger_lease_remove (root, lease->vm, NULL);
}

/* A launch that is under way, or a VMM that runs. */
static gboolean
holds_memory (const BangerLease *lease)
{
  return lease->jail && (lease->pid == 0 || banger_vmm_is_running (lease));
}

/* Counts what all VMs have, and writes down that this one has its part, before another is counted. */
static gboolean
reserve_memory (const BangerCall *call, BangerLease *lease, GError **error)
{
  G_LOCK_DEFINE_STATIC (memory);
  guint64 held = 0, most = call->root->install->max_total_memory_mib;
  lease->memory_mib = (guint32)memory_of (call);
  G_LOCK (memory);
  gboolean ok = banger_lease_memory (call->root, lease->vm, holds_memory, &held, error)
                && (held + lease->memory_mib <= most
                    || banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                                         "other VMs have %" G_GUINT64_FORMAT
                                         " MiB of memory; with %u MiB more it were over "
                                         "%" G_GUINT64_FORMAT " (limits.total-memory-mib)",
                                         held, lease->memory_mib, most))
                && banger_lease_save (call->root, lease, error);
  G_UNLOCK (memory);
  return ok;
}

static gboolean
prepare (BangerCall *call, Launch *launch, GError **error)
{
  const BangerRoot *root = call->root;
  BangerLease *lease = launch->lease;
  g_autoptr (BangerJailPlan) plan = make_plan (call, lease, &launch->limits, error);
  if (!plan)
    return FALSE;
  lease->jail = TRUE;
  lease->cgroup = banger_cgroup_of_vm (root->systemd, root->cgroup_own, lease->vm);
  if (!reserve_memory (call, lease, error) || !banger_jail_make (root->jail_fd, lease->vm, error)
      || !fork_child (plan, launch, error) || !start_time (launch->pid, &lease->start, error))
    return FALSE;
  lease->pid = (guint32)launch->pid;
  return banger_lease_save (root, lease, error)
         && (root->systemd || enter_cgroup (root, lease, &launch->limits, error));
}

gboolean
banger_launch_prepare (BangerCall *call, GError **error)
{
  Launch *launch = g_new0 (Launch, 1);
  launch->pidfd = launch->go_fd = launch->report_fd = -1;
  call->stage = launch;
  call->stage_free = launch_free;
  launch->lease = banger_lease_ensure (call->root, banger_call_vm (call), call->owner, NULL, error);
  if (!launch->lease || !clear_old (call->root, launch->lease, error))
    return FALSE;
  if (prepare (call, launch, error))
    return TRUE;
  undo (call->root, launch->lease, launch, NULL);
  return FALSE;
}

/* To undo a launch takes seconds: that is for the worker. */
static void
on_scope (const GError *error, gpointer data)
{
  BangerCall *call = data;
  Launch *launch = call->stage;
  launch->refused = error ? g_error_copy (error) : NULL;
  banger_call_resume (call, NULL);
}

void
banger_launch_scope (BangerCall *call)
{
  Launch *launch = call->stage;
  if (call->root->systemd)
    banger_scope_start (banger_call_bus (call), launch->lease->vm, launch->pid, &launch->limits, on_scope, call);
  else
    banger_call_resume (call, NULL);
}

/* End of file without a report: the jailer runs. */
static gboolean
read_report (Launch *launch, GError **error)
{
  BangerJailReport report;
  struct pollfd pfd = { .fd = launch->report_fd, .events = POLLIN };
  if (TEMP_FAILURE_RETRY (poll (&pfd, 1, STAGE_MS)) <= 0)
    return banger_set_error (error, BANGER_ERROR_TIMEOUT, "the jail was not ready within %d s", STAGE_MS / 1000);
  ssize_t n = TEMP_FAILURE_RETRY (read (launch->report_fd, &report, sizeof report));
  if (n == 0)
    return TRUE;
  if (n != (ssize_t)sizeof report)
    return banger_set_error (error, BANGER_ERROR_ENGINE_FAILED, "the launching process died");
  return banger_set_error_errno (error, BANGER_ERROR_ENGINE_FAILED, report.errnum, "cannot start the VMM: %s",
                                 banger_jail_step_name (report.step));
}

static gboolean
let_go (Launch *launch, GError **error)
{
  const BangerLease *lease = launch->lease;
  const BangerProcessClaim claim = { launch->pid, lease->start, lease->uid, lease->cgroup, NULL, NULL };
  banger_autofd int pinned = banger_gate_process (&claim, error); /* it is where its lease says */
  if (pinned < 0)
    return FALSE;
  if (write (launch->go_fd, "g", 1) != 1)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot start the VMM");
  return read_report (launch, error);
}

gboolean
banger_launch_finish (BangerCall *call, GError **error)
{
  Launch *launch = call->stage;
  if (launch->refused || !let_go (launch, error)) {
    undo (call->root, launch->lease, launch, launch->refused);
    if (launch->refused)
      g_propagate_error (error, g_steal_pointer (&launch->refused));
    return FALSE;
  }
  banger_vmm_add (launch->lease->vm, launch->pid, launch->pidfd);
  call->pid = (guint32)launch->pid;
  call->pidfd = banger_steal_fd (&launch->pidfd);
  return TRUE;
}
