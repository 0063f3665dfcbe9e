/* How VMs end: by their guest, their VMM, a stop or a kill; and what is on the disk before anybody is told.
 * Run by meson test. */
#include "vm-world.h"

/* Requirement F5 and the issue: stopped with a reason within a second, all released. */
static void
test_vmm_dies (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  gint64 since = g_get_monotonic_time ();
  kill ((pid_t)banger_vm_record (vm)->pid, SIGKILL);
  run_until_state (vm, BANGER_VM_STOPPED);
  g_assert_cmpint (g_get_monotonic_time () - since, <, 20 * G_USEC_PER_SEC);
  g_assert_cmpstr (banger_vm_record (vm)->reason, ==, "the VMM was ended by signal 9");
  assert_nothing_left (world, vm);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
}

/* A guest that promises and does not: each way is tried, each bounded, the last one ends it. */
static void
test_stubborn_guest (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.stubborn = TRUE;
  BangerVmVerbOptions options = { .timeout_usec = 1 };
  verb (world, vm, BANGER_VM_VERB_STOP, &options);
  g_assert_no_error (world->error);
  g_assert_nonnull (strstr (fake.story->str, "guest:shutdown guest:poweroff PUT/actions KillVmm ReleaseVm "));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* Nobody can name its VMM any more, but the release ends it. */
static void
test_lost_lease (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  if (!sshd_up (world))
    return;
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.lost = TRUE;
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_no_error (world->error);
  g_assert_nonnull (strstr (fake.story->str, "KillVmm ReleaseVm "));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* What a caller asks for is summed with nothing before it is bounded: near 2^64 it was no time at all. */
static void
test_endless_patience (World *world, gconstpointer data)
{
  static const guint64 usec[] = { G_MAXUINT64, G_MAXUINT64 - G_USEC_PER_SEC + 2, G_MAXUINT64 / 2 };
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  fake.slow_shutdown = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (usec); i++) {
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    BangerVmVerbOptions options = { .timeout_usec = usec[i] };
    verb (world, vm, BANGER_VM_VERB_STOP, &options);
    g_assert_no_error (world->error);
  }
  g_assert_nonnull (strstr (fake.story->str, "guest:shutdown "));
  g_assert_null (strstr (fake.story->str, "guest:poweroff"));
}

static void
on_unsynced (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_nonnull (strstr (error->message, "not all that it wrote is on the disk"));
  *(gboolean *)user_data = TRUE;
}

/* Who kills does not want to wait for what a stop still tries. */
static void
test_kill_ends_a_stop (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions force = { .force = TRUE };
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_KILL, BANGER_VM_VERB_DELETE };
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  fake.stubborn = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++) {
    gboolean stopped = FALSE;
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    g_string_truncate (fake.story, 0);
    begin_aside (world, vm, BANGER_VM_VERB_STOP, on_fine, &stopped);
    run_until_story ("guest:shutdown");
    verb (world, vm, verbs[i], &force);
    g_assert_no_error (world->error);
    g_assert_true (stopped);
    g_assert_cmpuint (fake_count ("guest:poweroff"), ==, 0);
    g_assert_cmpuint (fake_count ("KillVmm"), ==, 1);
    g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  }
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
}

static guint
waiting_syncs (void)
{
  g_mutex_lock (&synced_lock);
  guint n = syncs_waiting;
  g_mutex_unlock (&synced_lock);
  return n;
}

static void
set_hanging (ino_t inode)
{
  g_mutex_lock (&synced_lock);
  sync_hangs = inode;
  g_mutex_unlock (&synced_lock);
}

/* Nor does a kill, or a deletion, wait for a disk that does not answer. */
static void
test_kill_ends_a_sync (World *world, gconstpointer data)
{
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_KILL, BANGER_VM_VERB_DELETE };
  static const BangerVmVerbOptions force = { .force = TRUE };
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  g_autofree char *work = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++) {
    struct stat st;
    gboolean stopped = FALSE;
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    g_assert_cmpint (stat (work, &st), ==, 0);
    set_hanging (st.st_ino);
    begin_aside (world, vm, BANGER_VM_VERB_STOP, on_unsynced, &stopped);
    guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
    while (waiting_syncs () == 0)
      g_main_context_iteration (NULL, FALSE);
    verb (world, vm, verbs[i], &force);
    g_assert_no_error (world->error);
    g_assert_true (stopped);
    g_assert_cmpuint (waiting_syncs (), ==, 1);
    set_hanging (0);
    while (waiting_syncs () > 0)
      g_main_context_iteration (NULL, FALSE);
    g_source_remove (deadline);
    g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  }
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
}

/* A stop in order ends by itself, and tells what it does not know. */
static void
test_stop_ends_beside_a_hanging_disk (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  struct stat st;
  BangerVm *vm = make_vm (world, "web");
  g_autofree char *work = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_cmpint (stat (work, &st), ==, 0);
  set_hanging (st.st_ino);
  world->vms->sync_seconds = 1;
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  g_assert_nonnull (strstr (world->error->message, "it is stopped, but not all that it wrote is on the disk: its disk "
                                                   "has not answered for 1 s"));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
  set_hanging (0);
  while (waiting_syncs () > 0)
    g_main_context_iteration (NULL, FALSE);
}

static ino_t
folder_inode (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, NULL);
  struct stat st;
  g_assert_cmpint (stat (path, &st), ==, 0);
  return st.st_ino;
}

/* Runs the loop until the record of @vm waits for its disk. */
static void
hold_record (World *world, BangerVm *vm, BangerVmVerb which)
{
  set_hanging (folder_inode (world, vm));
  begin (world, vm, which, NULL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (waiting_syncs () == 0)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
  while (g_main_context_iteration (NULL, FALSE))
    ;
}

/* Nothing is made, and nothing is told, before the record says it, and other calls do not wait for that. */
static void
test_start_is_recorded_first (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  g_string_truncate (fake.story, 0);
  g_string_truncate (world->changes, 0);
  hold_record (world, vm, BANGER_VM_VERB_START);
  g_assert_cmpstr (fake.story->str, ==, "");
  g_assert_cmpstr (world->changes->str, ==, "");
  assert_state (vm, BANGER_VM_STOPPED);
  set_hanging (0);
  run_until (&world->done);
  g_assert_no_error (world->error);
  g_assert_true (g_str_has_prefix (world->changes->str, "starting running "));
}

/* A disk that does not answer keeps no VM alive; that it is stopped is told when that is on the disk. */
static void
test_kill_does_not_wait_for_records (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  hold_record (world, vm, BANGER_VM_VERB_KILL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (g_hash_table_size (fake.leases) > 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_false (world->done);
  assert_state (vm, BANGER_VM_RUNNING);
  set_hanging (0);
  run_until (&world->done);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* Nor does whoever kills: that it is stopped is so, and that the disk does not say it yet is told. */
static void
test_kill_is_told_of_its_record (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  hold_record (world, vm, BANGER_VM_VERB_KILL);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  g_assert_nonnull (strstr (world->error->message, "it is stopped, but the disk has not taken its record yet, 5 s"));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
  set_hanging (0);
}

/* A start that waits for its record is ended all the same, and the disk that comes back finds the last word said. */
static void
test_kill_ends_a_record (World *world, gconstpointer data)
{
  gboolean killed = FALSE;
  BangerVm *vm = make_vm (world, "web");
  hold_record (world, vm, BANGER_VM_VERB_START);
  begin_aside (world, vm, BANGER_VM_VERB_KILL, on_fine, &killed);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  g_assert_cmpuint (waiting_syncs (), ==, 1);
  g_assert_false (killed);
  set_hanging (0);
  run_until (&killed);
  assert_state (vm, BANGER_VM_STOPPED);
  crash (world);
  assert_state (banger_vms_find (world->vms, "web", NULL), BANGER_VM_STOPPED);
}

static void
add_tests (void)
{
  ADD ("vmm-dies", test_vmm_dies);
  ADD ("stubborn-guest", test_stubborn_guest);
  ADD ("lost-lease", test_lost_lease);
  ADD ("endless-patience", test_endless_patience);
  ADD ("kill-ends-a-stop", test_kill_ends_a_stop);
  ADD ("stop-ends-beside-a-hanging-disk", test_stop_ends_beside_a_hanging_disk);
  ADD ("kill-ends-a-sync", test_kill_ends_a_sync);
  ADD ("start-is-recorded-first", test_start_is_recorded_first);
  ADD ("kill-does-not-wait-for-records", test_kill_does_not_wait_for_records);
  ADD ("kill-is-told-of-its-record", test_kill_is_told_of_its_record);
  ADD ("kill-ends-a-record", test_kill_ends_a_record);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 214, add_tests);
}
