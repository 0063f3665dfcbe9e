/* Brings a VM up: the table of steps and what each does and undoes.
 * Never makes a thing that its undo, the helper's lease or the record does not know. */
#include "manager/vm/start-private.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/ids.h"
#include "common/safe-path.h"
#include "manager/core/later.h"
#include "manager/peer/await.h"
#include "manager/peer/vmm.h"
#include "manager/vm/identity.h"

/* i8042: as Firecracker advises: its keyboard has one key combination, and to ask it for more takes half a second of
 * time-outs. The watchdogs: a guest that waits for a processor of a busy host is not at fault, and its long complaints,
 * an exit for each character, would keep the host busy. */
#define BOOT_ARGS                                                                                                      \
  "console=ttyS0 quiet panic=-1 reboot=k nopti mitigations=off random.trust_cpu=on "                                   \
  "i8042.noaux i8042.nomux i8042.dumbkbd nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
#define SSH_PORT 22
#define RESTORED_SECONDS 15 /* that a guest which only has to go on may take */
#define COW_SLACK (G_GUINT64_CONSTANT (16) << 20)

enum {
  SETTLE,
  PREPARE,
  TEMPLATE,
  TEMPLATE_DISK,
  TEMPLATE_FILL,
  CONSOLE,
  SAVES,
  PLACE,
  ROOT_DISK,
  WORK_DISK,
  KEYS,
  INITRD,
  LAUNCH,
  REACH,
  API_SOCKET,
  CONFIGURE,
  BOOT,
  AGENT,
  READY,
  IDENTITY,
  SSH,
  RUNNING,
  N_STEPS
};

static void
start_free (VmStart *start)
{
  banger_vm_source_clear (&start->image);
  banger_vm_source_clear (&start->kernel);
  banger_vm_template_clear (&start->template);
  g_free (start->tap);
  g_free (start->root);
  g_free (start->forked);
  g_free (start);
}

static void
ask (gpointer data, const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_ask (((VmStart *)data)->op, method, cancellable, callback, user_data);
}

/* settle: a kill does not wait for a disk that hangs, the next start does. */

static gboolean
settle_skip (gpointer data)
{
  return ((VmStart *)data)->vm->behind == 0;
}

static void
settle_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_files_settle_async (((VmStart *)data)->vm, cancellable, callback, user_data);
}

/* prepare: the run folder, no rest of a former run. */

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

static void
on_rests_released (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  BangerVm *vm = ((VmStart *)g_task_get_task_data (task))->vm;
  GError *error = NULL;
  vm->unreleased = !banger_helper_finish (result, &error);
  if (!error)
    make_run_folder (vm, &error);
  banger_task_return (task, error);
}

static GTask *
task_new (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  GTask *task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_task_data (task, data, NULL);
  g_task_set_check_cancellable (task, FALSE);
  return task;
}

static void
release_rests (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  ask (data, "ReleaseVm", cancellable, on_rests_released, task_new (data, cancellable, callback, user_data));
}

/* The helper is only asked for what is known to be left; it refuses to prepare a VM of which there is more. */
static void
prepare_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  BangerVm *vm = ((VmStart *)data)->vm;
  if (vm->unreleased || !make_run_folder (vm, NULL))
    release_rests (data, cancellable, callback, user_data);
  else
    banger_task_return_later (task_new (data, cancellable, callback, user_data), NULL);
}

/* One call gives back whatever the helper made; a new disk can go after that. */

static void
on_disk_deleted (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  vm_undo_finish (result, &error);
  banger_task_return (task, error);
}

static void
on_given_back (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  VmStart *start = g_task_get_task_data (task);
  const BangerVms *vms = start->vm->vms;
  gboolean new_disk = start->first && start->placed && g_strcmp0 (start->root, "file") != 0;
  GError *error = NULL;
  start->vm->unreleased = !banger_helper_finish (result, &error);
  if (start->vm->unreleased)
    vm_retry_later (start->vm->vms);
  else if (vms->runtime_fd >= 0)
    banger_safe_remove_tree (vms->runtime_fd, start->vm->record.id, &error);
  if (error)
    g_task_return_error (task, error);
  else if (new_disk)
    ask (start, "DeleteDisk", g_task_get_cancellable (task), on_disk_deleted, g_object_ref (task));
  else
    g_task_return_boolean (task, TRUE);
}

static void
prepare_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  ask (data, "ReleaseVm", cancellable, on_given_back, task_new (data, cancellable, callback, user_data));
}

static void
saves_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_files_renew_saved_async (((VmStart *)data)->vm, cancellable, callback, user_data);
}

static void
saves_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  static const char *const names[] = { BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_VM_SAVE_MEMORY, NULL };
  vm_files_remove_async (((VmStart *)data)->vm, names, cancellable, callback, user_data);
}

/* A guest that goes on goes on in its log, with the keys and the initramfs that it has. */
static gboolean
restore_skip (gpointer data)
{
  return ((const VmStart *)data)->restore;
}

static void
console_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  vm_files_console_async (((VmStart *)data)->vm, cancellable, callback, user_data);
}

/* The place: network, and the root disk where it is a snapshot. */

static void place_ask (GTask *task);

static void
on_cleared (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  GError *error = NULL;
  if (g_task_propagate_boolean (G_TASK (result), &error))
    place_ask (task);
  else
    g_task_return_error (task, error);
}

/* Of what nobody knew any more, the helper knows. */
static gboolean
is_of_rests (const GError *error)
{
  return g_error_matches (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE)
         || g_error_matches (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
}

static void
on_placed (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GTask) task = data;
  VmStart *start = g_task_get_task_data (task);
  const char *id = start->vm->record.id;
  g_autofree char *name = banger_dm_name (id), *device = g_build_filename ("/dev/mapper", name, NULL);
  gboolean mapped = FALSE;
  GError *error = NULL;
  g_free (start->tap);
  start->tap = banger_tap_name (id);
  if (banger_helper_place_finish (result, start->tap, device, &mapped, &error)) {
    vm_set_string (&start->root, mapped ? "snapshot" : "file");
    if (start->template.id && start->template.snapshot != mapped)
      g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT,
                               "root disks are another kind here since");
    else
      g_task_return_boolean (task, TRUE);
  } else if (is_of_rests (error) && !start->cleared) {
    start->cleared = TRUE;
    g_clear_error (&error);
    release_rests (start, g_task_get_cancellable (task), on_cleared, g_object_ref (task));
  } else {
    g_task_return_error (task, error);
  }
}

static void
place_ask (GTask *task)
{
  VmStart *start = g_task_get_task_data (task);
  const BangerVmRecord *record = &start->vm->record;
  const BangerInstall *install = start->vm->vms->install;
  const char *from = start->template.snapshot ? start->template.id : NULL;
  gboolean file = start->template.id ? !from : g_str_equal (record->root, "file");
  const char *image = file ? NULL : record->image_id;
  /* Room for every block of the image and the snapshot's own tables; a sparse file takes what is used. */
  guint64 bytes = start->image.rootfs_bytes + start->image.rootfs_bytes / 64 + COW_SLACK;
  start->placed = TRUE;
  banger_helper_call (start->vm->vms->helper, &start->op->job.caller, "PrepareVm", g_task_get_cancellable (task),
                      on_placed, g_object_ref (task), record->id, install->bridge, install->bridge_address,
                      record->address, record->nat, image, image ? bytes / 512 * 512 : 0,
                      image && start->first && !from, from);
}

static void
place_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = task_new (data, cancellable, callback, user_data);
  place_ask (task);
}

/* Keys. */

static void
keys_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_files_keys_async (start->vm, TRUE, cancellable, callback, user_data);
}

/* The VMM. */

static void
launch_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  start->launched = TRUE;
  banger_helper_call (start->vm->vms->helper, &start->op->job.caller, "LaunchVmm", cancellable, callback, user_data,
                      start->vm->record.id, start->vm->record.kernel_id, start->root, start->vm->record.memory_mib,
                      start->template.id, start->op->options.mapped);
}

static gboolean
launch_take (gpointer data, GAsyncResult *result, GError **error)
{
  VmStart *start = data;
  guint32 pid = 0;
  int pidfd = banger_helper_vmm_finish (result, &pid, error);
  if (pidfd < 0)
    return FALSE;
  start->vm->record.pid = pid;
  return vm_watch (start->vm, pidfd, error);
}

static void
launch_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_drop_agent (start->vm);
  vm_unwatch (start->vm);
  ask (data, "KillVmm", cancellable, callback, user_data);
}

/* What is not let through is not reached: that is no reason to have no VM. */

static void
reach_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_reach_async (start->vm, &start->op->job.caller, cancellable, callback, user_data);
}

static gboolean
reach_take (gpointer data, GAsyncResult *result, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (!vm_reach_finish (result, &why)) {
    g_autofree char *text = g_strdup_printf ("not all that it may reach is let through: %s", why->message);
    banger_job_warn (&((VmStart *)data)->op->job, text);
  }
  return TRUE;
}

static void
api_socket_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  banger_await_file_async (start->vm->run_path, BANGER_SOCKET_API, cancellable, callback, user_data);
}

/* It is a process of our own user by now: what it starts from here on, the guest's processors, has it, too. */
static void
be_idle (BangerVm *vm)
{
  const struct sched_param none = { 0 };
  if (setpriority (PRIO_PROCESS, vm->record.pid, 19) < 0
      || sched_setscheduler ((pid_t)vm->record.pid, SCHED_IDLE, &none) < 0)
    vm_log (vm, vm->op, LOG_INFO, "its VMM has the priority of any other: %s", g_strerror (errno));
}

static void
configure_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  const BangerVmRecord *record = &start->vm->record;
  if (start->op->options.idle)
    be_idle (start->vm);
  if (start->restore || start->template.id) {
    const char *tap = start->template.id ? start->tap : NULL; /* that it was saved with is another one's */
    banger_vmm_load_async (start->vm->api_socket, (pid_t)record->pid, tap, cancellable, callback, user_data);
    return;
  }
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
  banger_vmm_configure_async (start->vm->api_socket, (pid_t)start->vm->record.pid, &config, cancellable, callback,
                              user_data);
}

static void
boot_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  if (start->restore)
    vm_restore_go_on_async (start->op, cancellable, callback, user_data);
  else if (start->template.id)
    banger_vmm_pause_async (start->vm->api_socket, (pid_t)start->vm->record.pid, FALSE, cancellable, callback,
                            user_data);
  else
    banger_vmm_action_async (start->vm->api_socket, (pid_t)start->vm->record.pid, "InstanceStart", cancellable,
                             callback, user_data);
}

/* The guest. */

static void
agent_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  vm_keep_agent (start->vm);
  if (start->restore)
    vm_restore_agent_async (start->vm, cancellable, callback, user_data);
  else
    banger_agent_wait_async (start->vm->agent, BANGER_AGENT_CONNECTED, cancellable, callback, user_data);
}

static void
ready_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  banger_agent_wait_async (start->vm->agent, BANGER_AGENT_READY, cancellable, callback, user_data);
}

static void
ssh_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  banger_await_ssh_async (start->vm->record.address, SSH_PORT, cancellable, callback, user_data);
}

/* Its guest would be waited for in vain; or it listened when the template was made, and does again when who needs it has
 * waited for that. */
static gboolean
ssh_skip (gpointer data)
{
  return restore_skip (data) || !vm_template_skip (data) || banger_agent_no_sshd (((const VmStart *)data)->vm->agent);
}

/* That it runs: recorded or undone. On the disk it would still be starting: the next bangerd would take it, with the disks
 * of a first start, for half-made. */

static void
running_recorded (VmOp *op, GError *error)
{
  VmStart *start = op->data;
  g_autoptr (GTask) task = g_steal_pointer (&start->recording);
  if (!error) {
    g_task_return_boolean (task, TRUE);
    return;
  }
  g_prefix_error (&error, "it runs, but that cannot be recorded: ");
  g_task_return_error (task, error);
}

static void
running_run (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  BangerVm *vm = start->vm;
  vm_set_string (&vm->record.root, start->root);
  const char *boot_id = banger_agent_boot_id (vm->agent);
  vm_set_string (&vm->record.boot_id, boot_id ? boot_id : "");
  if (!start->restore) /* it is as it was */
    vm_set_string (&vm->record.ssh_server, banger_agent_no_sshd (vm->agent)    ? BANGER_SSH_SERVER_MISSING
                                           : banger_agent_is_ready (vm->agent) ? BANGER_SSH_SERVER_FOUND
                                                                               : BANGER_SSH_SERVER_STARTING);
  vm->record.started_at = (guint64)g_get_real_time ();
  g_free (start->forked);
  start->forked = g_strdup (vm->record.forked);
  vm_set_string (&vm->record.forked, "");
  banger_job_set_cancelable (&start->op->job, FALSE);
  start->recording = g_task_new (NULL, NULL, callback, user_data);
  g_signal_connect_swapped (cancellable, "cancelled", G_CALLBACK (vm_wait_less), start->op);
  vm_set_state_then (start->op, BANGER_VM_RUNNING, vm_provide_begin (start->op), running_recorded);
}

/* Written in its turn, before what is undone next is gone: nobody needs to wait for that. */
static void
running_undo (gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  VmStart *start = data;
  if (start->first)
    vm_set_string (&start->vm->record.root, "");
  if (start->forked)
    vm_set_string (&start->vm->record.forked, start->forked);
  vm_set_state (start->op, BANGER_VM_STARTING, "");
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  g_task_return_boolean (task, TRUE);
}

#define AFTER(step) BANGER_STEP (step)

static const BangerStep start_steps[] = {
  [SETTLE] = { "settle", "waiting for an earlier start", 0, 60, "the disk, on which an earlier start still works",
               .run = settle_run, .skip = settle_skip },
  [PREPARE] = { "prepare", "preparing", AFTER (SETTLE), BANGER_STEP_BOUNDS_ITSELF, "root helper", .run = prepare_run,
                .undo = prepare_undo },
  [TEMPLATE] = { "template", NULL, AFTER (PREPARE), 60, "template", .run = vm_template_check_run,
                 .skip = vm_template_skip },
  [TEMPLATE_DISK] = { "template-disk", NULL, AFTER (TEMPLATE), 60, "template's root disk",
                      .run = vm_start_template_disk_run, .take = vm_start_template_disk_take,
                      .undo = vm_start_root_disk_undo, .undo_finish = vm_files_finish,
                      .skip = vm_start_template_disk_skip },
  [TEMPLATE_FILL] = { "template-fill", NULL, AFTER (TEMPLATE_DISK), 1800, "template's root disk",
                      .run = vm_start_template_fill_run, .take = vm_start_template_disk_take,
                      .skip = vm_start_template_disk_skip },
  [CONSOLE] = { "console", NULL, AFTER (PREPARE), 60, "console log", 0, console_run, vm_files_finish,
                .skip = restore_skip },
  [SAVES] = { "saves", NULL, AFTER (PREPARE), 60, "files to suspend it to", 0, saves_run, vm_files_saved_finish,
              saves_undo, vm_files_finish },
  [PLACE] = { "place", "making network", AFTER (PREPARE), BANGER_STEP_BOUNDS_ITSELF, .run = place_run },
  [ROOT_DISK] = { "root-disk", "making disks", AFTER (PLACE), 1800, "root disk", .run = vm_start_root_disk_run,
                  .undo = vm_start_root_disk_undo, .undo_finish = vm_files_finish },
  [WORK_DISK] = { "work-disk", NULL, AFTER (PREPARE), 600, "work disk", .run = vm_start_work_disk_run,
                  .take = vm_start_work_disk_take, .undo = vm_start_work_disk_undo, .undo_finish = vm_files_finish,
                  .skip = vm_start_work_disk_skip },
  [KEYS] = { "keys", NULL, AFTER (PREPARE), 120, "ssh-keygen", 0, keys_run, vm_files_finish, .skip = restore_skip },
  [INITRD] = { "initrd", NULL, AFTER (KEYS), 120, "initramfs", .run = vm_start_initrd_run, .take = vm_start_initrd_take,
               .undo = vm_start_initrd_undo, .undo_finish = vm_files_finish, .skip = restore_skip },
  [LAUNCH] = { "launch", "launching the VMM",
               AFTER (TEMPLATE_DISK) | AFTER (CONSOLE) | AFTER (SAVES) | AFTER (ROOT_DISK) | AFTER (WORK_DISK)
                   | AFTER (INITRD),
               BANGER_STEP_BOUNDS_ITSELF, .run = launch_run, .take = launch_take, .undo = launch_undo,
               .undo_finish = vm_undo_finish },
  [REACH] = { "reach", NULL, AFTER (LAUNCH), BANGER_STEP_BOUNDS_ITSELF, .run = reach_run, .take = reach_take },
  [API_SOCKET] = { "api-socket", NULL, AFTER (LAUNCH), 30, "API socket of the VMM", BANGER_ERROR_ENGINE_FAILED,
                   api_socket_run },
  [CONFIGURE] = { "configure", "configuring the VMM", AFTER (API_SOCKET), 660, "the VMM's API",
                  BANGER_ERROR_ENGINE_FAILED, configure_run, banger_vmm_finish },
  [BOOT] = { "boot", "booting the guest", AFTER (CONFIGURE) | AFTER (TEMPLATE_FILL), 0, "InstanceStart",
             BANGER_ERROR_ENGINE_FAILED, boot_run, banger_vmm_finish },
  [AGENT] = { "agent", NULL, AFTER (BOOT), 0, "guest agent", BANGER_ERROR_GUEST_TIMEOUT, agent_run,
              banger_agent_wait_finish },
  [READY] = { "ready", "waiting for the guest", AFTER (AGENT), 0, "guest ready", BANGER_ERROR_GUEST_TIMEOUT, ready_run,
              banger_agent_wait_finish, .skip = restore_skip },
  [IDENTITY] = { "identity", NULL, AFTER (READY), BANGER_STEP_BOUNDS_ITSELF, "guest's identity",
                 .run = vm_template_identity_run, .finish = vm_identity_finish, .skip = vm_template_skip },
  [SSH] = { "ssh", NULL, AFTER (IDENTITY), 0, "ssh server of the guest", BANGER_ERROR_GUEST_TIMEOUT, ssh_run,
            .skip = ssh_skip },
  [RUNNING] = { "running", NULL, AFTER (SSH) | AFTER (REACH), BANGER_STEP_BOUNDS_ITSELF, .run = running_run,
                .undo = running_undo },
};
G_STATIC_ASSERT (G_N_ELEMENTS (start_steps) == N_STEPS);

const char *
banger_vm_boot_args (void)
{
  return BOOT_ARGS;
}

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
  VmStart *start = data;
  if (!done && !undo && step->stage)
    banger_job_set_stage (&start->op->job, start->template.id ? "restoring" : step->stage);
  if (!done)
    return;
  g_autofree char *duration = g_strdup_printf ("%" G_GINT64_FORMAT, usec);
  banger_log (LOG_DEBUG,
              BANGER_FIELDS (BANGER_FIELD_VM, start->vm->record.id, BANGER_FIELD_OP_ID, start->op->job.op_id,
                             BANGER_FIELD_STAGE, step->name, BANGER_FIELD_DURATION_USEC, duration),
              "%s: %s%s", start->vm->record.name, undo ? "undone: " : "", step->name);
}

/* The part: what a start is besides its steps. */

static void
start_over (VmOp *op)
{
  VmStart *start = g_steal_pointer (&op->data);
  start_free (start);
}

/* Nothing is announced if what it is made from is not there. */
static void
find_sources (VmOp *op)
{
  BangerVms *vms = op->vm->vms;
  const BangerVmRecord *record = &op->vm->record;
  VmStart *start = op->data = g_new0 (VmStart, 1);
  start->op = op;
  start->vm = op->vm;
  start->image.dir_fd = start->kernel.dir_fd = -1;
  start->first = *record->root == '\0';
  start->restore = !vm_is_not_restored (op);
  op->went_on = start->restore || vm_template_is_own (start);
  start->template.dir_fd = -1;
  GError *error = NULL;
  op->begun_at = g_get_monotonic_time ();
  op->vm->tried = TRUE;
  vm_setup_look (op->vm);
  if (!vms->sources->find_image (record->image_id, &start->image, vms->user_data, &error)
      || !vms->sources->find_kernel (record->kernel_id, &start->kernel, vms->user_data, &error))
    start_over (op);
  vm_go_on (op, error);
}

/* Before anything is made: whoever cannot have the ports is told at once. */
static void
open_forwards (VmOp *op)
{
  GError *error = NULL;
  if (!vm_forwards_open (op->vm, &op->job, &error))
    start_over (op);
  vm_go_on (op, error);
}

/* Nothing is made before the record says that something may be. */
static void
set_starting (VmOp *op)
{
  vm_template_find (op->data);
  if (!((VmStart *)op->data)->restore)
    vm_set_string (&op->vm->record.suspended, "");
  if (op->options.snapshot)
    vm_put_back_inside (&op->vm->record, op->options.snapshot);
  op->vm->record.starts++;
  vm_set_state_then (op, BANGER_VM_STARTING, "", vm_go_on);
}

static void bring_up (VmOp *op);

static void
on_up (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  GError *error = NULL;
  if (banger_steps_run_finish (result, &error)) {
    gint64 took = g_get_monotonic_time () - op->begun_at;
    vm_log (op->vm, op, LOG_INFO, "ready in %.1f s at %s", (double)took / G_USEC_PER_SEC, op->vm->record.address);
    if (((VmStart *)op->data)->restore)
      vm_forget_saved (op->vm);
    vm_template_used (op->data);
    start_over (op);
  } else if (vm_template_give_up (op->data, error)) {
    g_error_free (error);
    bring_up (op);
    return;
  }
  vm_go_on (op, error);
}

static void
bring_up (VmOp *op)
{
  VmStart *start = op->data;
  guint patience = (guint)op->vm->vms->install->guest_seconds;
  if (start->template.id && !vm_template_is_own (start)) /* which is not booted instead */
    patience = MIN (patience, RESTORED_SECONDS);
  BangerSteps steps = { start_steps, N_STEPS, patience, report, start };
  banger_job_set_cancelable (&op->job, TRUE);
  start->run = banger_steps_run_async (&steps, op->job.cancellable, on_up, op);
}

static void
up_on_death (VmOp *op)
{
  const VmStart *start = op->data;
  banger_steps_fail (
      start->run, g_error_new (BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED, "the VMM ended before the guest was ready"));
}

static gboolean
has_not_begun (VmOp *op)
{
  return !op->data;
}

/* A guest or an engine that failed has said why on the console, most often. */
static gboolean
console_says_no_more (VmOp *op)
{
  const VmStart *start = op->data;
  return !start || !start->launched
         || !(g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED)
              || g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT));
}

static void
on_tail (GObject *source, GAsyncResult *result, gpointer data)
{
  VmOp *op = data;
  g_autofree char *tail = vm_files_tail_finish (result);
  if (tail) {
    char *message = g_strconcat (op->error->message, "; console:", tail, NULL);
    g_free (op->error->message);
    op->error->message = message;
  }
  vm_go_on (op, NULL);
}

static void
quote_console (VmOp *op)
{
  vm_files_tail_async (op->vm, on_tail, op);
}

static void
set_failed (VmOp *op)
{
  gboolean asked = g_error_matches (op->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  gboolean restore = ((VmStart *)op->data)->restore, kept = restore && *op->vm->record.suspended;
  if (kept && !asked)
    vm_restore_advise (op->error);
  const char *lost = restore && !kept ? ", its memory is lost" : "";
  if (restore && !kept)
    vm_forget_saved (op->vm);
  g_autofree char *reason = asked ? g_strdup ("start was cancelled")
                                  : g_strdup_printf ("start failed%s: %s", lost, op->error->message);
  start_over (op);
  vm_set_state_then (op, kept ? BANGER_VM_SUSPENDED : BANGER_VM_STOPPED, reason, vm_go_on);
}

const VmStep vm_part_up[] = {
  { "check", vm_restore_check, .skip = vm_is_not_restored },
  { "sources", find_sources },
  { "forwards", open_forwards },
  { "starting", set_starting },
  { "up", bring_up, .on_death = up_on_death },
  { "console", quote_console, .when = VM_IF_BAD, .skip = console_says_no_more },
  { "failed", set_failed, .when = VM_IF_BAD, .skip = has_not_begun },
  { NULL },
};
