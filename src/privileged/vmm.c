/* Running VMMs.
 * Runs in worker threads and on the main loop.
 * Never signals a process that the process gate has not let through. */
#include "privileged/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "common/folder.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/names.h"
#include "common/pidfd.h"
#include "common/validate.h"
#include "privileged/gate.h"

typedef struct {
  pid_t pid;
  int pidfd;
  gboolean child; /* of this process: its status can be had */
  BangerVmmState state;
} Vmm;

/* vm id -> Vmm; worker threads and the main loop share it. */
G_LOCK_DEFINE_STATIC (vmms);
static GHashTable *vmms;

static void
vmm_free (gpointer data)
{
  Vmm *vmm = data;
  banger_clear_fd (&vmm->pidfd);
  g_free (vmm);
}

static GHashTable *
table (void)
{
  if (!vmms)
    vmms = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, vmm_free);
  return vmms;
}

/* waitid(2) with P_PIDFD: reaps exactly this child, once. */
static void
refresh (Vmm *vmm)
{
  siginfo_t info = { 0 };
  if (!vmm->state.running || banger_pidfd_alive (vmm->pidfd))
    return;
  vmm->state.running = FALSE;
  if (!vmm->child || waitid (P_PIDFD, (id_t)vmm->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
    return;
  if (info.si_code == CLD_EXITED)
    vmm->state.exit_code = info.si_status;
  else
    vmm->state.exit_signal = info.si_status;
}

/* The zombie goes at once, not at the next question. */
static gboolean
on_ended (gpointer data)
{
  g_autofree char *vm = data;
  BangerVmmState state;
  banger_vmm_get (vm, &state);
  g_autofree char *pid = g_strdup_printf ("%u", state.pid);
  banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, vm, BANGER_FIELD_PID, pid), "the VMM of %s has ended", vm);
  return G_SOURCE_REMOVE;
}

static void
remember (const char *vm, pid_t pid, int pidfd, gboolean child)
{
  Vmm *vmm = g_new0 (Vmm, 1);
  vmm->pid = pid;
  vmm->pidfd = fcntl (pidfd, F_DUPFD_CLOEXEC, 3);
  vmm->child = child;
  vmm->state = (BangerVmmState){ TRUE, (guint32)pid, -1, 0 };
  G_LOCK (vmms);
  g_hash_table_replace (table (), g_strdup (vm), vmm);
  G_UNLOCK (vmms);
  g_autoptr (GError) error = NULL;
  char *watched = g_strdup (vm);
  if (!banger_pidfd_watch (pidfd, on_ended, watched, &error)) { /* whoever asks next finds out that it has ended */
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, vm), "the VMM of %s is not watched: %s", vm, error->message);
    g_free (watched);
  }
}

void
banger_vmm_add (const char *vm, pid_t pid, int pidfd)
{
  remember (vm, pid, pidfd, TRUE);
}

void
banger_vmm_forget (const char *vm)
{
  G_LOCK (vmms);
  g_hash_table_remove (table (), vm);
  G_UNLOCK (vmms);
}

void
banger_vmm_get (const char *vm, BangerVmmState *ret_state)
{
  *ret_state = (BangerVmmState){ FALSE, 0, -1, 0 };
  G_LOCK (vmms);
  Vmm *vmm = g_hash_table_lookup (table (), vm);
  if (vmm) {
    refresh (vmm);
    *ret_state = vmm->state;
  }
  G_UNLOCK (vmms);
}

gboolean
banger_vmm_is_running (const BangerLease *lease)
{
  BangerVmmState state;
  banger_vmm_get (lease->vm, &state);
  return state.running;
}

/* @folder: lives as long as the claim. */
static BangerProcessClaim
claim_of (const BangerLease *lease, const char *folder)
{
  return (BangerProcessClaim){ (pid_t)lease->pid, lease->start, lease->uid, lease->cgroup, lease->vm, folder };
}

static int
pin (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  g_autofree char *folder = g_strdup_printf ("%s/%u/%s", root->install->runtime_dir, lease->uid, lease->vm);
  const BangerProcessClaim claim = claim_of (lease, folder);
  return banger_gate_process (&claim, error);
}

/* It has ended, or its number is another's by now. What else can be wrong is not known of it, but of us. */
static gboolean
is_no_vmm (const GError *why)
{
  return g_error_matches (why, BANGER_ERROR, BANGER_ERROR_WRONG_STATE)
         || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_ACCESS_DENIED);
}

static void
recover_one (const BangerRoot *root, const char *vm)
{
  g_autoptr (GError) why = NULL, unsaved = NULL;
  g_autoptr (BangerLease) lease = banger_lease_load (root, vm, NULL, NULL);
  if (!lease || !lease->pid)
    return;
  banger_autofd int pidfd = pin (root, lease, &why);
  if (pidfd >= 0) {
    remember (lease->vm, (pid_t)lease->pid, pidfd, FALSE);
    banger_log (LOG_INFO, BANGER_FIELDS (BANGER_FIELD_VM, lease->vm), "the VMM of %s still runs", lease->vm);
    return;
  }
  banger_log (LOG_NOTICE, BANGER_FIELDS (BANGER_FIELD_VM, lease->vm), "VM %s: %s", lease->vm, why->message);
  if (!is_no_vmm (why)) /* it may run: the lease goes on saying so */
    return;
  lease->pid = 0;
  lease->start = 0;
  /* The owner can fill this file system; a helper that starts all the same can be asked to release something. */
  if (!banger_lease_save (root, lease, &unsaved))
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, lease->vm), "VM %s: %s", lease->vm, unsaved->message);
}

gboolean
banger_vmm_recover (const BangerRoot *root, GError **error)
{
  g_autoptr (GPtrArray) broken = NULL;
  g_autoptr (GPtrArray) leases = banger_lease_list (root, &broken, error);
  if (!leases)
    return FALSE;
  for (guint i = 0; i < broken->len; i++)
    banger_log (LOG_ERR, BANGER_FIELDS (BANGER_FIELD_VM, (char *)broken->pdata[i]),
                "the lease of %s cannot be read; what it held stays until ReleaseVm", (char *)broken->pdata[i]);
  for (guint i = 0; i < leases->len; i++)
    recover_one (root, ((BangerLease *)leases->pdata[i])->vm);
  return TRUE;
}

int
banger_vmm_open (const BangerRoot *root, const BangerLease *lease, GError **error)
{
  if (lease->pid == 0) {
    banger_set_error (error, BANGER_ERROR_WRONG_STATE, "no VMM of %s runs", lease->vm);
    return -1;
  }
  return pin (root, lease, error);
}

/* pid_namespaces(7): a signal that its first process has no handler for is dropped. Each that can be asked for would
 * end another process. */
static gboolean
is_dropped (guint32 pid, int sig)
{
  static const char *const masks[] = { "\nSigCgt:\t", "\nSigIgn:\t" };
  g_autofree char *path = g_strdup_printf ("/proc/%u/status", pid), *text = NULL;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return FALSE;
  for (size_t i = 0; i < G_N_ELEMENTS (masks); i++) {
    const char *mask = strstr (text, masks[i]);
    if (!mask || (g_ascii_strtoull (mask + strlen (masks[i]), NULL, 16) >> (sig - 1)) & 1)
      return FALSE;
  }
  return TRUE;
}

gboolean
banger_vmm_signal (const BangerRoot *root, const BangerLease *lease, int sig, GError **error)
{
  banger_autofd int pidfd = banger_vmm_open (root, lease, error);
  if (pidfd < 0)
    return FALSE;
  return banger_pidfd_send_signal (pidfd, is_dropped (lease->pid, sig) ? SIGKILL : sig) == 0
         || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot signal the VMM of %s", lease->vm);
}

static gboolean
kill_pinned (int pidfd, const char *vm, int timeout_ms, GError **error)
{
  BangerVmmState state;
  struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
  if (banger_pidfd_send_signal (pidfd, SIGKILL) < 0 && errno != ESRCH)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot kill the VMM of %s", vm);
  if (poll (&pfd, 1, timeout_ms) <= 0)
    return banger_set_error (error, BANGER_ERROR_TIMEOUT, "the VMM of %s did not end within %d ms of SIGKILL", vm,
                             timeout_ms);
  banger_vmm_get (vm, &state);
  return TRUE;
}

gboolean
banger_vmm_kill (const BangerRoot *root, const BangerLease *lease, int timeout_ms, GError **error)
{
  banger_autofd int pidfd = banger_vmm_open (root, lease, error);
  return pidfd >= 0 && kill_pinned (pidfd, lease->vm, timeout_ms, error);
}

gboolean
banger_vmm_end (const BangerRoot *root, const BangerLease *lease, int timeout_ms, GError **error)
{
  g_autoptr (GError) why = NULL;
  banger_autofd int pidfd = banger_vmm_open (root, lease, &why);
  if (pidfd >= 0)
    return kill_pinned (pidfd, lease->vm, timeout_ms, error);
  if (is_no_vmm (why)) /* the lease's claim does not hold: there is nothing to kill */
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

/* A member of the group can only have been born by the VMM, in its PID namespace, which ends with its first process. */
gboolean
banger_vmm_end_group (const char *vm, uid_t uid, int timeout_ms, GError **error)
{
  const gid_t gid = banger_vm_gid (vm);
  banger_autofolder DIR *dir = banger_folder_open (AT_FDCWD, "/proc");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    g_autoptr (GError) why = NULL;
    guint64 pid;
    if (!banger_uint_parse (entry->d_name, 2, G_MAXINT32, &pid, NULL))
      continue;
    banger_autofd int pidfd = banger_gate_process_of_group ((pid_t)pid, uid, gid, &why);
    if (pidfd < 0 && g_error_matches (why, BANGER_ERROR, BANGER_ERROR_WRONG_STATE))
      continue;
    if (pidfd < 0) {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
    if (!kill_pinned (pidfd, vm, timeout_ms, error))
      return FALSE;
  }
  return errno == 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the processes");
}
