/* VMs that are given another name, other sizes, another way out.
 * Run by meson test. */
#include "vm-world.h"

#define GIB (G_GUINT64_CONSTANT (1) << 30)

static guint64
disk_size (World *world, BangerVm *vm)
{
  GStatBuf st;
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  g_assert_cmpint (g_stat (path, &st), ==, 0);
  return (guint64)st.st_size;
}

static void
cut_disk (World *world, BangerVm *vm, guint64 bytes)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  g_assert_cmpint (truncate (path, (off_t)bytes), ==, 0);
}

static ino_t
disk_inode (World *world, BangerVm *vm)
{
  GStatBuf st;
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  g_assert_cmpint (g_stat (path, &st), ==, 0);
  return st.st_ino;
}

static void
set (World *world, BangerVm *vm, BangerVmVerbOptions options)
{
  verb (world, vm, BANGER_VM_VERB_SET, &options);
}

static void
assert_refused (World *world, BangerVm *vm, BangerVmVerbOptions options, BangerError code, const char *text)
{
  set (world, vm, options);
  g_assert_error (world->error, BANGER_ERROR, (int)code);
  if (!strstr (world->error->message, text))
    g_error ("'%s' has no '%s'", world->error->message, text);
}

/* What was given is recorded, and what was not stays. */
static void
test_stopped (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  const BangerVmRecord *record = banger_vm_record (vm);
  set (world, vm, (BangerVmVerbOptions){ .vcpus = 5 });
  g_assert_no_error (world->error);
  g_assert_cmpuint (record->vcpus, ==, 5);
  g_assert_cmpuint (record->memory_mib, ==, 1024);
  set (world, vm,
       (BangerVmVerbOptions){ .name = "shop", .memory_mib = 640, .disk_bytes = 9 * GIB + 1, .nat = BANGER_VM_NAT_OFF });
  g_assert_no_error (world->error);
  crash (world);
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
  vm = banger_vms_find (world->vms, "shop", NULL);
  record = banger_vm_record (vm);
  g_assert_cmpuint (record->vcpus, ==, 5);
  g_assert_cmpuint (record->memory_mib, ==, 640);
  g_assert_cmpuint (record->disk_bytes, ==, 9 * GIB + 4096);
  g_assert_false (record->nat);
  assert_state (vm, BANGER_VM_STOPPED);
  set (world, vm, (BangerVmVerbOptions){ .nat = BANGER_VM_NAT_ON, .name = "shop" });
  g_assert_no_error (world->error);
  g_assert_true (record->nat);
  make_vm (world, "web"); /* nobody has that any more */
}

static void
test_refused (World *world, gconstpointer data)
{
  world->install.max_memory_mib = 2048;
  BangerVm *vm = make_vm (world, "web");
  make_vm (world, "other");
  assert_refused (world, vm, (BangerVmVerbOptions){ 0 }, BANGER_ERROR_INVALID_ARGS, "nothing is to change");
  assert_refused (world, vm, (BangerVmVerbOptions){ .name = "other" }, BANGER_ERROR_VM_EXISTS, "'other' exists");
  assert_refused (world, vm, (BangerVmVerbOptions){ .name = "a b" }, BANGER_ERROR_INVALID_NAME, "a b");
  assert_refused (world, vm, (BangerVmVerbOptions){ .vcpus = 33 }, BANGER_ERROR_INVALID_SIZE, "1 to 32");
  assert_refused (world, vm, (BangerVmVerbOptions){ .memory_mib = 4096 }, BANGER_ERROR_INVALID_SIZE,
                  "limits.memory-mib");
  assert_refused (world, vm, (BangerVmVerbOptions){ .disk_bytes = GIB }, BANGER_ERROR_INVALID_SIZE,
                  "web has 8 GiB, and a disk only grows");
  assert_refused (world, vm, (BangerVmVerbOptions){ .disk_bytes = G_MAXUINT64 }, BANGER_ERROR_INVALID_SIZE,
                  "of work disk");
  g_assert_cmpstr (banger_vm_record (vm)->name, ==, "web");
}

/* Its disk has the new size at once; one that runs or is suspended is not changed but for its name. */
static void
test_running (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const BangerVmVerbOptions memory = { .memory_mib = 512 }, disk = { .disk_bytes = 20 * GIB },
                                   nat = { .nat = BANGER_VM_NAT_OFF };
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  guint32 pid = banger_vm_record (vm)->pid;
  assert_refused (world, vm, memory, BANGER_ERROR_WRONG_STATE, "web is running: its memory can be changed when it is");
  assert_refused (world, vm, disk, BANGER_ERROR_WRONG_STATE, "web is running: its work disk");
  assert_refused (world, vm, nat, BANGER_ERROR_WRONG_STATE, "web is running: its way out");
  set (world, vm, (BangerVmVerbOptions){ .name = "shop" });
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpuint (banger_vm_record (vm)->pid, ==, pid);
  g_assert_cmpstr (banger_vm_record (vm)->name, ==, "shop");
  verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
  g_assert_no_error (world->error);
  assert_refused (world, vm, memory, BANGER_ERROR_WRONG_STATE, "shop is suspended: its memory");
  assert_refused (world, vm, disk, BANGER_ERROR_WRONG_STATE, "to go on with what it has");
  set (world, vm, nat);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_SUSPENDED);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  set (world, vm, disk);
  g_assert_no_error (world->error);
  g_assert_cmpuint (disk_size (world, vm), ==, 20 * GIB);
  set (world, vm, memory);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_RUNNING);
}

/* The disk says no, and what is said of it is still so. */
static void
test_put_back (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  sync_fails = disk_inode (world, vm);
  set (world, vm, (BangerVmVerbOptions){ .name = "shop", .disk_bytes = 20 * GIB, .vcpus = 7 });
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_FAILED);
  sync_fails = 0;
  for (guint again = 0; again < 2; again++) {
    const BangerVmRecord *record = banger_vm_record (vm);
    g_assert_cmpstr (record->name, ==, "web");
    g_assert_cmpuint (record->disk_bytes, ==, 8 * GIB);
    g_assert_cmpuint (record->vcpus, ==, 2);
    g_assert_cmpuint (disk_size (world, vm), ==, 8 * GIB);
    crash (world);
    vm = banger_vms_find (world->vms, "web", NULL);
  }
}

/* It is given up when the record has said yes and the disk not: the name that it gets back is nobody else's, and the disk
 * is as its record says. */
static void
test_given_up (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web"), *other = make_vm (world, "other");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  hang_at (world, "grow-disk");
  static const BangerVmVerbOptions options = { .name = "shop", .disk_bytes = 20 * GIB };
  BangerJob *job = begin (world, vm, BANGER_VM_VERB_SET, &options);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_vm_record (vm)->disk_bytes != 20 * GIB || banger_fault_hung () == 0)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
  assert_refused (world, other, (BangerVmVerbOptions){ .name = "web" }, BANGER_ERROR_VM_EXISTS, "'web' exists");
  world->done = FALSE;
  g_cancellable_cancel (job->cancellable);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  hang_at (world, "");
  g_assert_cmpstr (banger_vm_record (vm)->name, ==, "web");
  deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (vm->behind > 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_cmpuint (disk_size (world, vm), ==, 8 * GIB);
  set (world, other, (BangerVmVerbOptions){ .name = "shop" }); /* and the other is free again */
  g_assert_no_error (world->error);
}

/* The daemon ends between the record and the disk: the next start makes up for it. While it is renamed it has both names. */
static void
test_crash (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  hang_at (world, "grow-disk");
  static const BangerVmVerbOptions options = { .name = "shop", .disk_bytes = 20 * GIB };
  begin (world, vm, BANGER_VM_VERB_SET, &options);
  g_assert_nonnull (banger_vms_find (world->vms, "shop", NULL));
  g_assert_nonnull (banger_vms_find (world->vms, "web", NULL));
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_vm_record (vm)->disk_bytes != 20 * GIB || banger_fault_hung () == 0)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
  crash (world);
  hang_at (world, "");
  run_until (&world->done); /* of the one that has ended here, as its process has not */
  vm = banger_vms_find (world->vms, "shop", NULL);
  cut_disk (world, vm, 8 * GIB); /* as if it had not come as far as that */
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (disk_size (world, vm), ==, 20 * GIB);
}

static void
add (void)
{
  ADD ("set/stopped", test_stopped);
  ADD ("set/refused", test_refused);
  ADD ("set/running", test_running);
  ADD ("set/put-back", test_put_back);
  ADD ("set/given-up", test_given_up);
  ADD ("set/crash", test_crash);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 220, add);
}
