/* Brings a VM up: the table of steps and what each does and undoes.
 * Called by vm.c; run by steps.c.
 * Never makes a thing that its undo, the helper's lease or the record does not know. */
#include "manager/vm-private.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/await.h"
#include "manager/initrd.h"
#include "manager/rootdisk.h"
#include "manager/steps.h"
#include "manager/vmm-client.h"

/* i8042: as Firecracker advises: its keyboard has one key combination, and to ask it for more takes half a second of
 * time-outs. The watchdogs: a guest that waits for a processor of a busy host is not at fault, and its long complaints,
 * an exit for each character, would keep the host busy. */
#define BOOT_ARGS                                                                                                      \
  "console=ttyS0 quiet panic=-1 reboot=k nopti mitigations=off random.trust_cpu=on "                                   \
  "i8042.noaux i8042.nomux i8042.dumbkbd nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
#define GUEST_BINARY BANGER_LIBEXECDIR "/banger-guest"
#define SSH_PORT 22
#define COW_SLACK (G_GUINT64_CONSTANT (16) << 20)

static const char *
guest_binary (void)
{
  const char *other = g_getenv (BANGER_ENV_GUEST);
  return other ? other : GUEST_BINARY;
}

/* What the steps share. */
typedef struct {
  VmOp *op;
  BangerVm *vm;
  BangerVmSource image, kernel;
  gboolean first; /* the VM never ran: its disks are made now */
  char *tap;
  char *root; /* "snapshot" or "file" */
  BangerStepsRun *run;
  BangerJobProgress *progress; /* of the copy of the root disk */
  gboolean launched;
} Start;

static void
start_free (Start *start)
{
  banger_vm_source_clear (&start->image);
  banger_vm_source_clear (&start->kernel);
  g_clear_pointer (&start->progress, banger_job_progress_free);
  g_free (start->tap);
  g_free (start->root);
  g_free (start);
}

/* A step that is done when its function returns. */
static void
complete (GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data, GError *error)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  if (error)
    g_task_return_error (task, error);
  else
    g_task_return_boolean (task, TRUE);
}

static void
in_thread (Start *start, GTaskThreadFunc func, GCancellable *cancellable, GAsyncReadyCallback callback,
           gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (task, start, NULL);
  g_task_run_in_thread (task, func);
}

static void
return_from_thread (GTask *task, gboolean ok, GError *error)
{
  if (ok)
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, error);
}

static gboolean
helper_finish (gpointer data, GAsyncResult *result, GError **error)
{
  return banger_helper_finish (((Start *)data)->vm->vms->helper, result, error);
}

/* Undoing what is not there is success. */
static gboolean
helper_undo_finish (gpointer data, GAsyncResult *result, GError **error)
{
  g_autoptr (GError) own = NULL;
  if (helper_finish (data, result, &own) || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE)
      || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_WRONG_STATE))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&own));
  return FALSE;
}

/* prepare: the run folder, an empty console log, no rest of a former run. */

static gboolean
make_run_folder (BangerVm *vm, GError **error)
{
  int runtime = vm_runtime_fd (vm->vms, error);
  if (runtime < 0 || !banger_safe_remove_tree (runtime, vm->record.id, error))
    return FALSE;
  if (mkdirat (runtime, vm->record.id, 0700) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", vm->run_path);
  return TRUE;
}

static gboolean
truncate_console (BangerVm *vm, GError **error)
{
  banger_autofd int fd = openat (vm->dir_fd, BANGER_FILE_VM_CONSOLE,
                                 O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make %s", vm->console_log);
  return TRUE;
}

static gboolean
prepare_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  if (!banger_helper_finish (start->vm->vms->helper, result, error))
    return FALSE;
  start->vm->unreleased = FALSE;
  return make_run_folder (start->vm, error) && truncate_console (start->vm, error);
}

/* The release of what may be left comes first: idempotent, and it tells at once whether the helper is there. */
static void
prepare_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_helper_release_vm (start->vm->vms->helper, &start->op->caller, start->vm->record.id, cancellable, callback,
                            user_data);
}

static void
prepare_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  prepare_run (data, NULL, callback, user_data);
}

static gboolean
prepare_undo_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  BangerVms *vms = start->vm->vms;
  start->vm->unreleased = !banger_helper_finish (vms->helper, result, error);
  if (start->vm->unreleased)
    return FALSE;
  return vms->runtime_fd < 0 || banger_safe_remove_tree (vms->runtime_fd, start->vm->record.id, error);
}

/* Network. */

static void
bridge_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  const BangerInstall *install = start->vm->vms->install;
  banger_helper_ensure_bridge (start->vm->vms->helper, &start->op->caller, install->bridge, install->bridge_address,
                               cancellable, callback, user_data);
}

static void
tap_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  const BangerInstall *install = start->vm->vms->install;
  banger_helper_create_tap (start->vm->vms->helper, &start->op->caller, start->vm->record.id, install->bridge,
                            install->bridge_address, cancellable, callback, user_data);
}

static gboolean
tap_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  start->tap = banger_helper_string_finish (start->vm->vms->helper, result, error);
  return start->tap != NULL;
}

static void
tap_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_helper_delete_tap (start->vm->vms->helper, &start->op->caller, start->vm->record.id, NULL, callback,
                            user_data);
}

static void
nat_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_helper_ensure_nat (start->vm->vms->helper, &start->op->caller, start->vm->record.id, start->vm->record.address,
                            cancellable, callback, user_data);
}

static void
nat_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_helper_remove_nat (start->vm->vms->helper, &start->op->caller, start->vm->record.id, NULL, callback,
                            user_data);
}

/* Without NAT the table has the same steps: they do nothing. */
static void
nothing_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  complete (cancellable, callback, user_data, NULL);
}

static gboolean
nothing_finish (gpointer data, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

static void
nat_or_nothing_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  (start->vm->record.nat ? nat_run : nothing_run) (data, cancellable, callback, user_data);
}

static gboolean
nat_or_nothing_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  return (start->vm->record.nat ? helper_finish : nothing_finish) (data, result, error);
}

static void
nat_or_nothing_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  (start->vm->record.nat ? nat_undo : nothing_run) (data, NULL, callback, user_data);
}

static gboolean
nat_or_nothing_undo_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  return (start->vm->record.nat ? helper_undo_finish : nothing_finish) (data, result, error);
}

/* Root disk: a snapshot where the kernel has device-mapper, else a copy; what a VM began with it keeps. */

static void
copy_root_worker (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Start *start = task_data;
  GError *error = NULL;
  gboolean ok = banger_disk_copy (start->image.dir_fd, BANGER_FILE_IMAGE_ROOTFS, start->vm->dir_fd,
                                  BANGER_FILE_VM_ROOTFS, 0, banger_job_progress_report, start->progress, cancellable,
                                  &error);
  return_from_thread (task, ok, error);
}

static void
use_file (Start *start, GTask *task)
{
  vm_set_string (&start->root, "file");
  banger_job_set_stage (start->op->job, "copying root disk");
  start->progress = banger_job_progress_new (start->op->job);
  g_task_run_in_thread (task, copy_root_worker);
}

static void
on_snapshot (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  Start *start = g_task_get_task_data (task);
  GError *error = NULL;
  g_autofree char *device = banger_helper_string_finish (start->vm->vms->helper, result, &error);
  if (device) {
    vm_set_string (&start->root, "snapshot");
    g_task_return_boolean (task, TRUE);
  } else if (start->first && g_error_matches (error, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED)) {
    vm_log (start->vm, start->op, LOG_DEBUG, "no snapshot, copying: %s", error->message);
    g_clear_error (&error);
    banger_disk_remove (start->vm->dir_fd, BANGER_FILE_VM_COW, NULL);
    use_file (start, task);
  } else {
    g_task_return_error (task, error);
  }
}

static void
root_disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  BangerVm *vm = start->vm;
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (task, start, NULL);
  if (g_str_equal (vm->record.root, "file")) {
    vm_set_string (&start->root, "file");
    struct stat st;
    if (fstatat (vm->dir_fd, BANGER_FILE_VM_ROOTFS, &st, AT_SYMLINK_NOFOLLOW) == 0)
      g_task_return_boolean (task, TRUE);
    else
      g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT, "%s/%s: %s", vm->dir_path,
                               BANGER_FILE_VM_ROOTFS, g_strerror (errno));
    return;
  }
  /* Room for every block of the image and the snapshot's own tables; a sparse file takes what is used. */
  guint64 bytes = start->image.rootfs_bytes + start->image.rootfs_bytes / 64 + COW_SLACK;
  GError *error = NULL;
  if (!banger_disk_make_sparse (vm->dir_fd, BANGER_FILE_VM_COW, bytes, &error)) {
    g_task_return_error (task, error);
    return;
  }
  banger_helper_create_snapshot (vm->vms->helper, &start->op->caller, vm->record.id, vm->record.image_id, bytes,
                                 cancellable, on_snapshot, g_object_ref (task));
}

static void
root_disk_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_helper_remove_snapshot (start->vm->vms->helper, &start->op->caller, start->vm->record.id, NULL, callback,
                                 user_data);
}

static gboolean
root_disk_undo_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  g_autoptr (GError) own = NULL;
  gboolean ok = helper_undo_finish (data, result, &own)
                || g_error_matches (own, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED);
  if (!ok)
    g_propagate_error (error, g_steal_pointer (&own));
  if (!start->first)
    return ok;
  return banger_disk_remove (start->vm->dir_fd, BANGER_FILE_VM_COW, ok ? error : NULL)
         && banger_disk_remove (start->vm->dir_fd, BANGER_FILE_VM_ROOTFS, ok ? error : NULL) && ok;
}

/* Work disk: the image's seed, made as large as asked; the guest grows the file system. */

static void
work_disk_worker (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  Start *start = task_data;
  GError *error = NULL;
  gboolean ok = banger_disk_copy (start->image.dir_fd, BANGER_FILE_IMAGE_SEED, start->vm->dir_fd, BANGER_FILE_VM_WORK,
                                  start->vm->record.disk_bytes, NULL, NULL, cancellable, &error);
  return_from_thread (task, ok, error);
}

/* An image without a seed has no work disk: /root is on the root disk. */
static void
work_disk_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  if (start->image.seed_bytes == 0)
    complete (cancellable, callback, user_data, NULL);
  else
    in_thread (start, work_disk_worker, cancellable, callback, user_data);
}

static void
work_disk_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  GError *error = NULL;
  if (start->first)
    banger_disk_remove (start->vm->dir_fd, BANGER_FILE_VM_WORK, &error);
  complete (NULL, callback, user_data, error);
}

/* Keys and initramfs. */

static char *
read_vm_file (BangerVm *vm, const char *name, GError **error)
{
  g_autofree char *path = g_build_filename (vm->dir_path, name, NULL);
  char *text = NULL;
  g_file_get_contents (path, &text, NULL, error);
  return text;
}

static void
keys_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_ssh_prepare_async (start->vm->vms->ssh, start->vm->dir_path, cancellable, callback, user_data);
}

/* The host key is known before the first connection. */
static gboolean
keys_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  BangerVm *vm = start->vm;
  if (!banger_ssh_prepare_finish (result, error))
    return FALSE;
  g_autofree char *public = read_vm_file (vm, BANGER_FILE_VM_HOST_KEY ".pub", error);
  return public && banger_ssh_known_hosts_set (vm->vms->ssh, vm->alias, public, error);
}

static gboolean
write_initrd (Start *start, GError **error)
{
  BangerVm *vm = start->vm;
  BangerVms *vms = vm->vms;
  static const char *const resolv[] = { "/run/systemd/resolve/resolv.conf", "/etc/resolv.conf", NULL };
  g_autofree char *private_key = read_vm_file (vm, BANGER_FILE_VM_HOST_KEY, error);
  g_autofree char *public_key = private_key ? read_vm_file (vm, BANGER_FILE_VM_HOST_KEY ".pub", error) : NULL;
  g_autofree char *client_file = g_strconcat (vms->ssh->identity_file, ".pub", NULL);
  g_autofree char *client_key = NULL;
  if (!public_key || !g_file_get_contents (client_file, &client_key, NULL, error))
    return FALSE;
  g_autofree char *address = g_strdup_printf ("%s/%u", vm->record.address, vms->subnet.prefix);
  g_autofree char *gateway = banger_address_format (vms->subnet.gateway);
  g_auto (GStrv) dns = banger_resolvers (resolv);
  BangerGuestConfig config = {
    .vm_id = vm->record.id,
    .hostname = vm->record.name,
    .address = address,
    .gateway = gateway,
    .dns = (const char *const *)dns,
    .mac = vm->record.mac,
    .root = "/dev/vda",
    .work = start->image.seed_bytes ? "/dev/vdb" : NULL,
    .authorized_keys = client_key,
    .host_key = private_key,
    .host_key_public = public_key,
  };
  return banger_initrd_write_vm (start->kernel.dir_fd, vm->dir_fd, guest_binary (), &config, error);
}

static void
initrd_worker (GTask *task, gpointer source, gpointer task_data, GCancellable *cancellable)
{
  GError *error = NULL;
  gboolean ok = write_initrd (task_data, &error);
  return_from_thread (task, ok, error);
}

static void
initrd_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  in_thread (data, initrd_worker, cancellable, callback, user_data);
}

static void
initrd_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  GError *error = NULL;
  banger_disk_remove (start->vm->dir_fd, BANGER_FILE_VM_INITRD, &error);
  complete (NULL, callback, user_data, error);
}

/* The VMM. */

static void
launch_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  start->launched = TRUE;
  banger_helper_launch_vmm (start->vm->vms->helper, &start->op->caller, start->vm->record.id,
                            start->vm->record.kernel_id, start->root, start->vm->record.memory_mib, cancellable,
                            callback, user_data);
}

static gboolean
launch_finish (gpointer data, GAsyncResult *result, GError **error)
{
  Start *start = data;
  guint32 pid = 0;
  int pidfd = banger_helper_vmm_finish (start->vm->vms->helper, result, &pid, error);
  if (pidfd < 0)
    return FALSE;
  start->vm->record.pid = pid;
  vm_watch (start->vm, pidfd);
  return TRUE;
}

static void
launch_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  vm_unwatch (start->vm);
  banger_helper_kill_vmm (start->vm->vms->helper, &start->op->caller, start->vm->record.id, NULL, callback, user_data);
}

static void
api_socket_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_await_file_async (start->vm->run_path, BANGER_SOCKET_API, cancellable, callback, user_data);
}

static gboolean
vmm_finish (gpointer data, GAsyncResult *result, GError **error)
{
  return banger_vmm_finish (result, error);
}

static void
configure_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  const BangerVmRecord *record = &start->vm->record;
  BangerVmmConfig config = {
    .vcpus = record->vcpus,
    .memory_mib = record->memory_mib,
    .boot_args = BOOT_ARGS,
    .work_disk = start->image.seed_bytes > 0,
    .durable = !record->ephemeral, /* whose disks go with its run */
    .tap = start->tap,
    .mac = record->mac,
    .vsock_cid = banger_address_parse (record->address),
  };
  banger_vmm_configure_async (start->vm->api_socket, &config, cancellable, callback, user_data);
}

static void
boot_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_vmm_action_async (start->vm->api_socket, "InstanceStart", cancellable, callback, user_data);
}

/* The guest. */

static void
agent_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  vm_keep_agent (start->vm);
  banger_agent_wait_async (start->vm->agent, BANGER_AGENT_CONNECTED, cancellable, callback, user_data);
}

static void
agent_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  vm_drop_agent (start->vm);
  complete (NULL, callback, user_data, NULL);
}

static gboolean
agent_finish (gpointer data, GAsyncResult *result, GError **error)
{
  return banger_agent_wait_finish (result, error);
}

static void
ready_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_agent_wait_async (start->vm->agent, BANGER_AGENT_READY, cancellable, callback, user_data);
}

static void
ssh_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  Start *start = data;
  banger_await_ssh_async (start->vm->record.address, SSH_PORT, cancellable, callback, user_data);
}

enum {
  PREPARE,
  BRIDGE,
  TAP,
  NAT,
  ROOT_DISK,
  WORK_DISK,
  KEYS,
  INITRD,
  LAUNCH,
  API_SOCKET,
  CONFIGURE,
  BOOT,
  AGENT,
  READY,
  SSH,
  N_STEPS
};
#define AFTER(step) BANGER_STEP (step)

static const BangerStep start_steps[] = {
  [PREPARE] = { "prepare", "preparing", 0, 40, "root helper", 0, prepare_run, prepare_finish, prepare_undo,
                prepare_undo_finish },
  [BRIDGE] = { "ensure-bridge", "making network", AFTER (PREPARE), 180, NULL, 0, bridge_run, helper_finish, NULL,
               NULL },
  [TAP] = { "create-tap", NULL, AFTER (BRIDGE), 180, NULL, 0, tap_run, tap_finish, tap_undo, helper_undo_finish },
  [NAT] = { "ensure-nat", NULL, AFTER (TAP), 180, NULL, 0, nat_or_nothing_run, nat_or_nothing_finish,
            nat_or_nothing_undo, nat_or_nothing_undo_finish },
  [ROOT_DISK] = { "root-disk", "making disks", AFTER (PREPARE), 1800, "root disk", 0, root_disk_run, NULL,
                  root_disk_undo, root_disk_undo_finish },
  [WORK_DISK] = { "work-disk", NULL, AFTER (PREPARE), 600, "work disk", 0, work_disk_run, NULL, work_disk_undo, NULL },
  [KEYS] = { "keys", NULL, AFTER (PREPARE), 30, "ssh-keygen", 0, keys_run, keys_finish, NULL, NULL },
  [INITRD] = { "initrd", NULL, AFTER (KEYS), 120, "initramfs", 0, initrd_run, NULL, initrd_undo, NULL },
  [LAUNCH] = { "launch", "launching the VMM", AFTER (ROOT_DISK) | AFTER (WORK_DISK) | AFTER (INITRD), 200, NULL, 0,
               launch_run, launch_finish, launch_undo, helper_undo_finish },
  [API_SOCKET] = { "api-socket", NULL, AFTER (LAUNCH), 30, "API socket of the VMM", BANGER_ERROR_ENGINE_FAILED,
                   api_socket_run, NULL, NULL, NULL },
  [CONFIGURE] = { "configure", "configuring the VMM", AFTER (API_SOCKET) | AFTER (NAT), 60, "the VMM's API",
                  BANGER_ERROR_ENGINE_FAILED, configure_run, vmm_finish, NULL, NULL },
  [BOOT] = { "boot", "booting the guest", AFTER (CONFIGURE), 0, "InstanceStart", BANGER_ERROR_ENGINE_FAILED, boot_run,
             vmm_finish, NULL, NULL },
  [AGENT] = { "agent", NULL, AFTER (BOOT), 0, "guest agent", BANGER_ERROR_GUEST_TIMEOUT, agent_run, agent_finish,
              agent_undo, NULL },
  [READY] = { "ready", "waiting for the guest", AFTER (AGENT), 0, "guest ready", BANGER_ERROR_GUEST_TIMEOUT, ready_run,
              agent_finish, NULL, NULL },
  [SSH] = { "ssh", NULL, AFTER (READY), 0, "ssh server of the guest", BANGER_ERROR_GUEST_TIMEOUT, ssh_run, NULL, NULL,
            NULL },
};
G_STATIC_ASSERT (G_N_ELEMENTS (start_steps) == N_STEPS);

const char *const *
banger_vm_fault_stages (void)
{
  static const char *names[N_STEPS + 1];
  for (guint i = 0; i < N_STEPS; i++)
    names[i] = start_steps[i].name;
  return names;
}

static void
report (const BangerStep *step, gboolean done, gboolean undo, gint64 usec, gpointer data)
{
  Start *start = data;
  if (!done && !undo && step->stage)
    banger_job_set_stage (start->op->job, step->stage);
  if (!done)
    return;
  g_autofree char *duration = g_strdup_printf ("%" G_GINT64_FORMAT, usec);
  banger_log (LOG_DEBUG,
              BANGER_FIELDS (BANGER_FIELD_VM, start->vm->record.id, BANGER_FIELD_OP_ID, start->op->caller.op_id,
                             BANGER_FIELD_STAGE, step->name, BANGER_FIELD_DURATION_USEC, duration),
              "%s: %s%s", start->vm->record.name, undo ? "undone: " : "", step->name);
}

/* A guest or an engine that failed has said why on the console, most often. */
static void
quote_console (Start *start, GError *error)
{
  gboolean of_guest = error->domain == BANGER_ERROR
                      && (error->code == BANGER_ERROR_ENGINE_FAILED || error->code == BANGER_ERROR_GUEST_TIMEOUT);
  g_autofree char *tail = start->launched && of_guest ? vm_console_tail (start->vm) : NULL;
  if (!tail)
    return;
  g_autofree char *message = g_strconcat (error->message, "; console:", tail, NULL);
  g_free (error->message);
  error->message = g_steal_pointer (&message);
}

static void
start_failed (Start *start, GError *error)
{
  VmOp *op = start->op;
  BangerVm *vm = start->vm;
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_clear_error (&error);
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "cancelled");
  }
  vm_unwatch (vm);
  vm_drop_agent (vm);
  quote_console (start, error);
  gboolean asked = g_error_matches (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_autofree char *reason = asked ? g_strdup ("start was cancelled")
                                  : g_strdup_printf ("start failed: %s", error->message);
  vm_set_state (vm, op, BANGER_VM_STOPPED, reason, NULL);
  VmNext next = op->next;
  start_free (start);
  next (op, error);
}

/* On the disk it is still starting: the next bangerd would take it, with the disks of a first start, for half-made. */
static void
unrecorded_killed (VmOp *op, GError *error)
{
  g_autoptr (GError) of_kill = error;
  GError *failure = g_steal_pointer (&op->failure);
  vm_set_state (op->vm, op, (BangerVmState)op->vm->record.state, failure->message, NULL);
  op->after_kill (op, failure);
}

static void
on_up (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Start *start = user_data;
  VmOp *op = start->op;
  BangerVm *vm = start->vm;
  GError *error = NULL;
  op->part = NULL;
  op->on_death = NULL;
  if (!banger_steps_run_finish (result, &error)) {
    start_failed (start, error);
    return;
  }
  vm_set_string (&vm->record.root, start->root);
  vm_set_string (&vm->record.boot_id, banger_agent_boot_id (vm->agent));
  vm->record.started_at = (guint64)g_get_real_time ();
  banger_job_set_cancelable (op->job, FALSE);
  if (!vm_set_state (vm, op, BANGER_VM_RUNNING, "", &op->failure)) {
    g_prefix_error (&op->failure, "it runs, but that cannot be recorded: ");
    start_free (start);
    op->after_kill = op->next;
    vm_kill_run (op, unrecorded_killed);
    return;
  }
  g_autofree char *took = g_strdup_printf ("%.1f", (double)(g_get_monotonic_time () - op->begun_at) / G_USEC_PER_SEC);
  vm_log (vm, op, LOG_INFO, "ready in %s s at %s", took, vm->record.address);
  start_free (start);
  op->next (op, NULL);
}

static void
start_on_death (VmOp *op)
{
  Start *start = op->part;
  banger_steps_fail (
      start->run, g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM ended before the guest was ready"));
}

static gboolean
find_sources (Start *start, GError **error)
{
  BangerVms *vms = start->vm->vms;
  const BangerVmRecord *record = &start->vm->record;
  return vms->sources->find_image (record->image_id, &start->image, vms->user_data, error)
         && vms->sources->find_kernel (record->kernel_id, &start->kernel, vms->user_data, error);
}

void
vm_start_run (VmOp *op, VmNext next)
{
  BangerVm *vm = op->vm;
  Start *start = g_new0 (Start, 1);
  start->op = op;
  start->vm = vm;
  start->image.dir_fd = start->kernel.dir_fd = -1;
  start->first = *vm->record.root == '\0';
  GError *error = NULL;
  op->next = next;
  op->begun_at = g_get_monotonic_time ();
  if (!find_sources (start, &error) || !vm_set_state (vm, op, BANGER_VM_STARTING, "", &error)) {
    if (vm->record.state == BANGER_VM_STARTING)
      vm_set_state (vm, op, BANGER_VM_STOPPED, error->message, NULL);
    start_free (start);
    next (op, error);
    return;
  }
  banger_job_set_cancelable (op->job, TRUE);
  BangerSteps steps = { start_steps, N_STEPS, (guint)vm->vms->install->guest_seconds, report, start };
  op->part = start;
  op->on_death = start_on_death;
  start->run = banger_steps_run_async (&steps, op->cancellable, on_up, start);
}

gboolean
vm_start_clean_files (BangerVm *vm, GError **error)
{
  static const struct {
    const char *name;
    gboolean disk;
  } files[] = {
    { BANGER_FILE_VM_INITRD, FALSE },
    { BANGER_FILE_VM_COW, TRUE },
    { BANGER_FILE_VM_ROOTFS, TRUE },
    { BANGER_FILE_VM_WORK, TRUE },
  };
  gboolean first = *vm->record.root == '\0', ok = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (files); i++)
    if (first || !files[i].disk)
      ok = banger_disk_remove (vm->dir_fd, files[i].name, ok ? error : NULL) && ok;
  return ok;
}
