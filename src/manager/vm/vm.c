/* One VM: what it is asked for, its VMM's life, its agent, its console.
 * Never decides what happens when the VMM ends: it tells. */
#include "manager/vm/private.h"

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/pidfd.h"
#include "manager/core/work.h"
#include "manager/vm/console.h"

#ifndef CONSOLE_LOOK_MSEC /* the test has less time */
#define CONSOLE_LOOK_MSEC 5000
#endif

BangerVm *
vm_new (BangerVms *vms, const char *id)
{
  BangerVm *vm = g_new0 (BangerVm, 1);
  g_ref_count_init (&vm->refs);
  vm->vms = vms;
  vm->dir_fd = vm->pidfd = -1;
  vm->record.id = g_strdup (id);
  vm->alias = banger_ssh_host_key_alias (id);
  vm->dir_path = g_build_filename (vms->vms_path, id, NULL);
  vm->console_log = g_build_filename (vm->dir_path, BANGER_FILE_VM_CONSOLE, NULL);
  vm->run_path = g_build_filename (vms->runtime_path, id, NULL);
  vm->api_socket = g_build_filename (vm->run_path, BANGER_SOCKET_API, NULL);
  vm->vsock_socket = g_build_filename (vm->run_path, BANGER_SOCKET_VSOCK, NULL);
  return vm;
}

const BangerVmRecord *
banger_vm_record (BangerVm *vm)
{
  return &vm->announced;
}

const char *
banger_vm_identity_file (BangerVm *vm)
{
  return vm->vms->ssh->identity_file;
}

const char *
banger_vm_known_hosts_file (BangerVm *vm)
{
  return vm->vms->ssh->known_hosts_file;
}

const char *
banger_vm_host_key_alias (BangerVm *vm)
{
  return vm->alias;
}

const char *
banger_vm_console_log (BangerVm *vm)
{
  return vm->console_log;
}

static gboolean
bound_console (gpointer data, GCancellable *cancellable, GError **error)
{
  const BangerVm *vm = data;
  return banger_console_bound (vm->dir_fd, BANGER_FILE_VM_CONSOLE, BANGER_CONSOLE_MAX, BANGER_CONSOLE_KEEP, error);
}

static void
console_unref (gpointer data)
{
  banger_vm_unref (data);
}

static void
on_console_looked_at (GObject *source, GAsyncResult *result, gpointer data)
{
  BangerVm *vm = data;
  g_autoptr (GError) error = NULL;
  if (!banger_work_finish (result, &error))
    vm_log (vm, NULL, vm->console_told ? LOG_DEBUG : LOG_WARNING, "the console log is not cut: %s", error->message);
  vm->console_told = error != NULL;
  vm->console_busy = FALSE;
}

/* Whichever VMM writes it: a guest must not fill the owner's disk. */
static gboolean
on_look_at_console (gpointer data)
{
  static const BangerWork bounding = { "bound-console", bound_console, NULL, console_unref };
  BangerVm *vm = data;
  if (vm->console_busy)
    return G_SOURCE_CONTINUE;
  vm->console_busy = TRUE;
  banger_work_async (&bounding, banger_vm_ref (vm), NULL, on_console_looked_at, vm);
  return G_SOURCE_CONTINUE;
}

static gboolean
on_vmm_ended (gpointer data)
{
  BangerVm *vm = data;
  vm->death_watch = 0;
  g_clear_handle_id (&vm->console_watch, g_source_remove);
  banger_clear_fd (&vm->pidfd);
  vm->died = TRUE;
  if (vm->op && vm->op->step && vm->op->step->on_death)
    vm->op->step->on_death (vm->op);
  else if (!vm->op)
    vm->vms->vmm_ended (vm);
  return G_SOURCE_REMOVE;
}

gboolean
vm_watch (BangerVm *vm, int pidfd, GError **error)
{
  vm_unwatch (vm);
  vm->pidfd = pidfd;
  vm->died = vm->killed = FALSE;
  vm->death_watch = banger_pidfd_watch (pidfd, on_vmm_ended, vm, error);
  vm->console_watch = g_timeout_add (CONSOLE_LOOK_MSEC, on_look_at_console, vm);
  if (vm->death_watch)
    return TRUE;
  vm_unwatch (vm);
  return FALSE;
}

/* Also after a reboot inside the guest that did not end the VMM, and when the ssh server of one that was restored is there. */
static void
on_agent_ready (BangerAgent *agent, const char *boot_id, gpointer data)
{
  BangerVm *vm = data;
  gboolean ssh = g_str_equal (vm->record.ssh_server, BANGER_SSH_SERVER_STARTING);
  if ((vm->record.state != BANGER_VM_RUNNING && vm->record.state != BANGER_VM_PAUSED)
      || (g_str_equal (vm->record.boot_id, boot_id) && !ssh))
    return;
  vm_names_forgotten (vm);
  vm_set_string (&vm->record.boot_id, boot_id);
  if (ssh)
    vm_set_string (&vm->record.ssh_server, BANGER_SSH_SERVER_FOUND);
  vm_write_record (vm);
}

void
vm_keep_agent (BangerVm *vm)
{
  if (vm->agent)
    return;
  vm->agent = banger_agent_new (vm->vsock_socket, (pid_t)vm->record.pid, on_agent_ready, vm);
  vm->clock = banger_guest_clock_new (vm->agent, vm->record.id);
  vm_names_forgotten (vm);
}
