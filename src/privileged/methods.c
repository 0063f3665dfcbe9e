/* The table of methods: name, polkit action, arguments, result, handler; and the handlers.
 * Read by dispatch.c; tests compare it with introspection/ and docs/privileges.md.
 * Never does more in a handler than call one power under one lease. */
#include <string.h>

#include "common/names.h"
#include "privileged/bridge.h"
#include "privileged/call.h"
#include "privileged/cow.h"
#include "privileged/disk.h"
#include "privileged/gate.h"
#include "privileged/jail.h"
#include "privileged/launch.h"
#include "privileged/lease.h"
#include "privileged/nat.h"
#include "privileged/prepare.h"
#include "privileged/release.h"
#include "privileged/resolver.h"
#include "privileged/set-reach.h"
#include "privileged/snapshot.h"
#include "privileged/socket.h"
#include "privileged/tap.h"
#include "privileged/vmm.h"

static gboolean
handle_remove_bridge (BangerCall *call, GError **error)
{
  return banger_bridge_remove (call->strings[BANGER_ARG_BRIDGE], error);
}

static BangerLease *
own_lease (BangerCall *call, GError **error)
{
  return banger_lease_get (call->root, banger_call_vm (call), call->owner, error);
}

/* For what needs no lease, but must not go on against one: without one nothing uses the VM's files; with one that cannot be
 * read something may. */
static gboolean
own_lease_or_none (BangerCall *call, BangerLease **ret_lease, GError **error)
{
  g_autoptr (GError) why = NULL;
  *ret_lease = own_lease (call, &why);
  if (*ret_lease || g_error_matches (why, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

/* A lease that was made for this call and then held nothing would only use up the quota. */
static void
drop_if_empty (BangerCall *call, const BangerLease *lease, gboolean made)
{
  g_autofree char *held = banger_lease_resources (lease);
  if (made && *held == '\0')
    (void)banger_lease_remove (call->root, lease->vm, NULL);
}

static gboolean
handle_create_tap (BangerCall *call, GError **error)
{
  gboolean made;
  g_autoptr (BangerLease) lease = banger_lease_ensure (call->root, banger_call_vm (call), call->owner, &made, error);
  if (!lease)
    return FALSE;
  const BangerTapPlace place = { call->strings[BANGER_ARG_BRIDGE], call->strings[BANGER_ARG_ADDRESS],
                                 call->strings[BANGER_ARG_GUEST_ADDRESS] };
  call->text = banger_tap_create (call->root, lease, &place, error);
  if (!call->text)
    drop_if_empty (call, lease, made);
  return call->text != NULL;
}

static gboolean
handle_ensure_nat (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_nat_ensure (call->root, lease, call->strings[BANGER_ARG_GUEST_ADDRESS], error);
}

static gboolean
handle_remove_nat (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_nat_remove (call->root, lease, error);
}

static gboolean
handle_set_reach (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_reach_set (call->root, lease, call->keep, call->ports, error);
}

static gboolean
handle_create_snapshot (BangerCall *call, GError **error)
{
  gboolean made;
  g_autoptr (BangerLease) lease = banger_lease_ensure (call->root, banger_call_vm (call), call->owner, &made, error);
  if (!lease)
    return FALSE;
  const BangerDisk disk = { call->fresh, call->cow_bytes, call->from };
  call->text = banger_snapshot_create (call->root, lease, call->strings[BANGER_ARG_IMAGE], &disk, error);
  if (!call->text)
    drop_if_empty (call, lease, made);
  return call->text != NULL;
}

/* A disk that a VMM uses has two writers; this VM's other calls wait meanwhile, so it cannot start either. */
static gboolean
check_stopped (const BangerLease *lease, GError **error)
{
  return !banger_vmm_is_running (lease)
         || banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s runs and uses its disks; stop it first",
                              lease->vm);
}

/* Nobody has the device open between the launch and the boot, and the VMM's node would outlast it. */
static gboolean
handle_remove_snapshot (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  if (!lease || !check_stopped (lease, error) || !banger_snapshot_remove (lease, error))
    return FALSE;
  g_clear_pointer (&lease->dm, g_free);
  g_clear_pointer (&lease->image, g_free);
  return banger_lease_save (call->root, lease, error);
}

static gboolean
handle_delete_disk (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = NULL;
  if (!own_lease_or_none (call, &lease, error))
    return FALSE;
  if (lease && lease->dm)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "VM %s has a snapshot on its disk; release it before the disk is deleted", lease->vm);
  return banger_snapshot_delete (call->root, banger_call_vm (call), error);
}

/* The folder comes before what the helper holds for it, and goes after it. */
static gboolean
handle_copy_disk (BangerCall *call, GError **error)
{
  const char *copy = call->strings[BANGER_ARG_COPY];
  g_autoptr (BangerLease) lease = NULL;
  if (!own_lease_or_none (call, &lease, error))
    return FALSE;
  if (g_str_equal (copy, banger_call_vm (call)))
    return banger_set_error (error, BANGER_ERROR_INVALID_ARGS, "%s is not a copy of itself", copy);
  return banger_cow_check_owner (call->root, copy, error)
         && banger_snapshot_copy (call->root, banger_call_vm (call), lease, copy, call->replace, error);
}

static gboolean
handle_sync_disk (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = NULL;
  return own_lease_or_none (call, &lease, error) && banger_cow_sync (call->root, banger_call_vm (call), error);
}

/* To read, of a VM of which nothing runs: what is in it the owner's guest wrote. */
static gboolean
handle_open_disk (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = NULL;
  if (!own_lease_or_none (call, &lease, error))
    return FALSE;
  if (lease && lease->dm)
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE,
                             "VM %s has a snapshot on its disk; release it before the disk is read", lease->vm);
  call->disk = banger_cow_open_to_read (call->root, banger_call_vm (call), error);
  return call->disk >= 0;
}

/* How much that is the lease knows: nobody says it. */
static gboolean
handle_check_suspend (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  if (!lease)
    return FALSE;
  if (!banger_vmm_is_running (lease))
    return banger_set_error (error, BANGER_ERROR_WRONG_STATE, "VM %s does not run", lease->vm);
  return banger_cow_check_guest (call->root, lease->vm, (guint64)lease->memory_mib << 20, error);
}

static gboolean
handle_check_snapshot (BangerCall *call, GError **error)
{
  dev_t device;
  g_autoptr (BangerLease) lease = own_lease (call, error);
  if (!lease || !check_stopped (lease, error) || !banger_snapshot_device (lease, &device, error))
    return FALSE;
  call->text = g_strdup (banger_disk_check (call->root, device, error));
  return call->text != NULL;
}

/* Files need no lease: they are the owner's by where they are and whom they belong to. */
static int
open_disk (BangerCall *call, GError **error)
{
  const char *disk = call->strings[BANGER_ARG_DISK];
  gboolean snapshot = g_str_equal (disk, "snapshot");
  g_autoptr (BangerLease) lease = snapshot ? own_lease (call, error) : NULL;
  if (snapshot ? !lease : !own_lease_or_none (call, &lease, error))
    return -1;
  if (lease && !check_stopped (lease, error))
    return -1;
  if (snapshot)
    return banger_snapshot_open (lease, error);
  return banger_gate_file (call->root->owner_fd, call->owner,
                           g_str_equal (disk, "work") ? BANGER_MANAGED_WORK : BANGER_MANAGED_ROOTFS,
                           banger_call_vm (call), NULL, error);
}

static gboolean
read_from (BangerCall *call, int fd, GError **error)
{
  call->data = fd < 0 ? NULL : banger_disk_read (call->root, fd, call->strings[BANGER_ARG_PATH], error);
  return call->data != NULL;
}

static gboolean
handle_read_file (BangerCall *call, GError **error)
{
  banger_autofd int fd = open_disk (call, error);
  return read_from (call, fd, error);
}

static gboolean
handle_read_image_file (BangerCall *call, GError **error)
{
  banger_autofd int fd = banger_gate_file (call->root->owner_fd, call->owner, BANGER_MANAGED_IMAGE,
                                           call->strings[BANGER_ARG_IMAGE], NULL, error);
  return read_from (call, fd, error);
}

static gboolean
handle_write_files (BangerCall *call, GError **error)
{
  banger_autofd int fd = open_disk (call, error);
  return fd >= 0 && banger_disk_write (call->root, fd, call->files, error);
}

static gboolean
handle_grant_socket (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_socket_grant (call->root, lease, call->strings[BANGER_ARG_SOCKET], error);
}

static gboolean
handle_remove_chroot (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  if (!lease || !check_stopped (lease, error) || !banger_jail_remove (call->root, lease->vm, error))
    return FALSE;
  lease->jail = FALSE;
  return banger_lease_save (call->root, lease, error);
}

static gboolean
handle_open_vmm (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  call->pidfd = lease ? banger_vmm_open (call->root, lease, error) : -1;
  if (call->pidfd >= 0)
    call->pid = lease->pid;
  return call->pidfd >= 0;
}

static gboolean
handle_get_vmm (BangerCall *call, GError **error)
{
  BangerVmmState state;
  g_autoptr (BangerLease) lease = own_lease (call, error);
  if (!lease)
    return FALSE;
  banger_vmm_get (lease->vm, &state);
  call->running = state.running;
  call->pid = state.running ? state.pid : 0;
  call->exit_code = state.exit_code;
  call->exit_signal = state.exit_signal;
  return TRUE;
}

static gboolean
handle_get_engine (BangerCall *call, GError **error)
{
  banger_engine_report (call->root->install, &call->engine);
  return TRUE;
}

static gboolean
handle_signal_vmm (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_vmm_signal (call->root, lease, call->signal, error);
}

static gboolean
handle_kill_vmm (BangerCall *call, GError **error)
{
  g_autoptr (BangerLease) lease = own_lease (call, error);
  return lease && banger_vmm_kill (call->root, lease, BANGER_VMM_KILL_MS, error);
}

static gboolean
handle_release_vm (BangerCall *call, GError **error)
{
  return banger_release_vm (call->root, banger_call_vm (call), call->owner, error);
}

static gboolean
handle_list_leases (BangerCall *call, GError **error)
{
  g_autoptr (GPtrArray) all = banger_lease_list (call->root, NULL, error);
  if (!all)
    return FALSE;
  call->leases = g_ptr_array_new_with_free_func ((GDestroyNotify)banger_lease_free);
  for (guint i = 0; i < all->len; i++) {
    BangerLease *lease = banger_lease_get (call->root, ((BangerLease *)all->pdata[i])->vm, call->owner, NULL);
    if (!lease)
      continue;
    if (!banger_vmm_is_running (lease))
      lease->pid = 0;
    g_ptr_array_add (call->leases, lease);
  }
  return TRUE;
}

#define NET BANGER_ACTION_NETWORK
#define STORAGE BANGER_ACTION_STORAGE
#define VMM BANGER_ACTION_VMM
#define ARGS(...)                                                                                                      \
  {                                                                                                                    \
    __VA_ARGS__                                                                                                        \
  }

const BangerMethod banger_methods[] = {
  { .name = "RemoveBridge", .action = NET, .args = ARGS (BANGER_ARG_BRIDGE), .handler = handle_remove_bridge },
  { .name = "CreateTap",
    .action = NET,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_BRIDGE, BANGER_ARG_ADDRESS, BANGER_ARG_GUEST_ADDRESS),
    .result = BANGER_RESULT_TAP,
    .handler = handle_create_tap,
    .grants = TRUE },
  { .name = "EnsureNat",
    .action = NET,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_GUEST_ADDRESS),
    .handler = handle_ensure_nat,
    .grants = TRUE },
  { .name = "RemoveNat", .action = NET, .args = ARGS (BANGER_ARG_VM), .handler = handle_remove_nat },
  { .name = "SetReach",
    .action = NET,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_LINKS, BANGER_ARG_PORTS),
    .handler = handle_set_reach,
    .grants = TRUE },
  { .name = "SyncResolver",
    .action = NET,
    .args = ARGS (BANGER_ARG_BRIDGE, BANGER_ARG_RESOLVER),
    .handler = banger_resolver_prepare,
    .interlude = banger_resolver_sync,
    .finish = banger_resolver_finish,
    .grants = TRUE },
  { .name = "ClearResolver",
    .action = NET,
    .args = ARGS (BANGER_ARG_BRIDGE),
    .handler = banger_resolver_prepare,
    .interlude = banger_resolver_clear,
    .finish = banger_resolver_finish },
  { .name = "CreateSnapshot",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_IMAGE, BANGER_ARG_COW_BYTES),
    .options = banger_options_snapshot,
    .result = BANGER_RESULT_DEVICE,
    .handler = handle_create_snapshot,
    .grants = TRUE },
  { .name = "RemoveSnapshot", .action = STORAGE, .args = ARGS (BANGER_ARG_VM), .handler = handle_remove_snapshot },
  { .name = "SyncDisk", .action = STORAGE, .args = ARGS (BANGER_ARG_VM), .handler = handle_sync_disk },
  { .name = "CopyDisk",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_COPY),
    .options = banger_options_copy,
    .handler = handle_copy_disk },
  { .name = "OpenDisk",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM),
    .result = BANGER_RESULT_DISK,
    .handler = handle_open_disk,
    .grants = TRUE },
  { .name = "DeleteDisk", .action = STORAGE, .args = ARGS (BANGER_ARG_VM), .handler = handle_delete_disk },
  { .name = "CheckSuspend", .action = STORAGE, .args = ARGS (BANGER_ARG_VM), .handler = handle_check_suspend },
  { .name = "PrepareVm",
    .action = NET,
    .also = STORAGE,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_BRIDGE, BANGER_ARG_ADDRESS, BANGER_ARG_GUEST_ADDRESS),
    .options = banger_options_prepare,
    .result = BANGER_RESULT_PLACE,
    .handler = banger_prepare,
    .grants = TRUE },
  { .name = "CheckSnapshot",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM),
    .result = BANGER_RESULT_CHECK,
    .handler = handle_check_snapshot },
  { .name = "ReadFile",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_DISK, BANGER_ARG_PATH),
    .result = BANGER_RESULT_DATA,
    .handler = handle_read_file,
    .routine = TRUE },
  { .name = "ReadImageFile",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_IMAGE, BANGER_ARG_PATH),
    .result = BANGER_RESULT_DATA,
    .handler = handle_read_image_file,
    .routine = TRUE },
  { .name = "WriteFiles",
    .action = STORAGE,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_DISK, BANGER_ARG_FILES),
    .handler = handle_write_files },
  { .name = "LaunchVmm",
    .action = VMM,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_KERNEL, BANGER_ARG_ROOT_DISK),
    .options = banger_options_launch,
    .result = BANGER_RESULT_PIDFD,
    .handler = banger_launch_prepare,
    .interlude = banger_launch_scope,
    .finish = banger_launch_finish,
    .grants = TRUE },
  { .name = "OpenVmm",
    .action = VMM,
    .args = ARGS (BANGER_ARG_VM),
    .result = BANGER_RESULT_PIDFD,
    .handler = handle_open_vmm,
    .routine = TRUE },
  { .name = "GetVmm",
    .action = VMM,
    .args = ARGS (BANGER_ARG_VM),
    .result = BANGER_RESULT_STATUS,
    .handler = handle_get_vmm,
    .routine = TRUE },
  { .name = "GetEngine", .action = VMM, .result = BANGER_RESULT_ENGINE, .handler = handle_get_engine, .routine = TRUE },
  { .name = "SignalVmm", .action = VMM, .args = ARGS (BANGER_ARG_VM, BANGER_ARG_SIGNAL), .handler = handle_signal_vmm },
  { .name = "KillVmm", .action = VMM, .args = ARGS (BANGER_ARG_VM), .handler = handle_kill_vmm },
  { .name = "GrantSocket",
    .action = VMM,
    .args = ARGS (BANGER_ARG_VM, BANGER_ARG_SOCKET),
    .handler = handle_grant_socket,
    .grants = TRUE },
  { .name = "RemoveChroot", .action = VMM, .args = ARGS (BANGER_ARG_VM), .handler = handle_remove_chroot },
  { .name = "ReleaseVm", .action = VMM, .args = ARGS (BANGER_ARG_VM), .handler = handle_release_vm },
  { .name = "ReapVms",
    .action = VMM,
    .args = ARGS (BANGER_ARG_KEEP),
    .result = BANGER_RESULT_VMS,
    .handler = banger_reap_list,
    .interlude = banger_reap_claim,
    .finish = banger_reap_finish },
  { .name = "ListLeases",
    .action = VMM,
    .result = BANGER_RESULT_LEASES,
    .handler = handle_list_leases,
    .routine = TRUE },
  { .name = NULL },
};

const BangerMethod *
banger_method_find (const char *name)
{
  for (const BangerMethod *method = banger_methods; name && method->name; method++)
    if (g_str_equal (method->name, name))
      return method;
  return NULL;
}

char *
banger_method_signature (const BangerMethod *method)
{
  GString *signature = g_string_new (NULL);
  for (int i = 0; i < BANGER_MAX_ARGS && method->args[i] != BANGER_ARG_NONE; i++)
    g_string_append (signature, banger_arg_type (method->args[i]));
  return g_string_free (g_string_append (signature, "a{sv}"), FALSE);
}
