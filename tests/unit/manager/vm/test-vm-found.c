/* What a manager that starts finds: running, half-started, half-stopped, dead, unreadable; with and without the helper.
 * Run by meson test. */
#include "vm-world.h"

static void
on_unavailable (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  *(gboolean *)user_data = TRUE;
}

/* Requirement H1: the same VMM, reached again. */
static void
test_found_running (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  guint32 pid;
  {
    BangerVm *vm = make_vm (world, "web");
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    pid = banger_vm_record (vm)->pid;
  }
  crash (world);
  reconcile (world);
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpuint (banger_vm_record (vm)->pid, ==, pid);
  g_assert_true (run_folder_exists (world, vm));
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 0); /* the agent was found again */
  assert_nothing_left (world, vm);
}

/* The helper learns the address of a guest that an older version started; where that fails the VM goes on all the same.
 */
static void
test_found_old (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  for (guint round = 0; round < 3; round++) {
    guint before = fake_count ("CreateTap");
    crash (world);
    fake.old_taps = round < 2;
    fake.fail = round == 1 ? "CreateTap" : NULL;
    reconcile (world);
    fake.fail = NULL;
    assert_state (banger_vms_find (world->vms, "web", NULL), BANGER_VM_RUNNING);
    g_assert_cmpuint (fake_count ("CreateTap"), ==, before + (round < 2));
  }
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  assert_nothing_left (world, vm);
}

/* One refusal, and all is as it was a second later. */
static void
test_found_later (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  crash (world);
  fake.fail = "OpenVmm";
  banger_vms_reconcile (world->vms, NULL, NULL);
  run_until_story ("OpenVmm");
  fake.fail = NULL;
  run_until_count ("OpenVmm", 2); /* by itself */
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_RUNNING);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  kill ((pid_t)banger_vm_record (vm)->pid, SIGKILL); /* it is watched */
  run_until_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* A VM whose lease cannot be read may run: its sockets stay. */
static void
test_found_without_a_list (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  crash (world);
  fake.fail = "OpenVmm";
  fake.unlisted = TRUE;
  banger_vms_reconcile (world->vms, NULL, NULL);
  run_until_story ("OpenVmm");
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  g_assert_true (run_folder_exists (world, vm));
  fake.fail = NULL;
  fake.unlisted = FALSE;
  run_until_count ("OpenVmm", 2);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 0); /* its guest was reached */
  assert_nothing_left (world, vm);
}

/* The guest of a VM that was not found again is asked all the same, and nothing that may run is released. */
static void
test_stop_adopts (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  crash (world);
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  g_string_truncate (fake.story, 0);
  fake.fail = "OpenVmm";
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_nonnull (strstr (world->error->message, "whether it runs cannot be found out: OpenVmm fails"));
  verb (world, vm, BANGER_VM_VERB_RESTART, NULL);
  g_assert_nonnull (strstr (world->error->message, "whether it runs cannot be found out: OpenVmm fails"));
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 0);
  fake.fail = NULL;
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (vm->pidfd < 0 || vm->op)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_cmpstr (banger_vm_record (vm)->reason, ==, ""); /* it was found out by itself */
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("guest:shutdown"), ==, 1);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 0);
  assert_nothing_left (world, vm);
}

static void
on_interrupted (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  *(gboolean *)user_data = TRUE;
}

/* Neither waits a kill for the answer to that question. */
static void
test_kill_ends_an_adoption (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  crash (world);
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  fake.fail = "OpenVmm hangs";
  gboolean stopped = FALSE;
  begin_aside (world, vm, BANGER_VM_VERB_STOP, on_interrupted, &stopped);
  run_until_story ("OpenVmm");
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_no_error (world->error);
  run_until (&stopped);
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
  g_task_return_int (fake.hung, 1); /* the answer comes all the same */
  g_clear_object (&fake.hung);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  assert_state (vm, BANGER_VM_STOPPED);
}

static void
test_release_again (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  reconcile (world);
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.fail = "ReleaseVm";
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_nonnull (strstr (world->error->message, "it is stopped, but not all was released: ReleaseVm fails"));
  fake.fail = NULL;
  guint before = fake_count ("ReleaseVm");
  g_hash_table_insert (fake.leases, g_strdup (banger_vm_record (vm)->id), NULL);
  run_until_count ("ReleaseVm", before + 1);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  assert_nothing_left (world, vm);
}

/* Likewise what no VM owns, though nobody is there who could ask for it. */
static void
test_release_orphan_again (World *world, gconstpointer data)
{
  g_hash_table_insert (fake.leases, g_strdup ("dddddddddddd"), NULL);
  fake.fail = "ListLeases";
  reconcile (world);
  fake.fail = "ReleaseVm";
  run_until_story ("ReleaseVm");
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_hash_table_insert (fake.leases, g_strdup ("dddddddddddd"), NULL); /* the fake one takes it all the same */
  fake.fail = NULL;
  run_until_count ("ReleaseVm", 2);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  guint asked = fake_count ("ListLeases");
  g_assert_cmpuint (asked, ==, 3); /* and then no more */
}

/* A helper that has much to do is no VMM that does not end. */
static void
test_kill_waits_for_its_turn (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.busy_msec = 5500;
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 1);
  assert_state (vm, BANGER_VM_STOPPED);
}

/* What waits for the helper's word about the records can be given up meanwhile. */
static void
test_cancel_of_a_held_verb (World *world, gconstpointer data)
{
  make_vm (world, "web");
  crash (world);
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  banger_vms_reconcile (world->vms, NULL, NULL);
  g_string_truncate (world->changes, 0);
  BangerJob *job = begin (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_true (banger_job_cancel (job, NULL));
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_null (strstr (world->changes->str, "starting"));
  while (g_main_context_iteration (NULL, FALSE))
    ;
  assert_state (vm, BANGER_VM_STOPPED);
}

/* A VM that is made now waits for nobody's word, not even to be deleted: it never held anything. One that was found waits
 * for what is said of it, and can be given up. */
static void
test_new_vm_is_not_held (World *world, gconstpointer data)
{
  gboolean ended = FALSE;
  make_vm (world, "old");
  crash (world);
  fake.hangs = "all";
  banger_vms_reconcile (world->vms, NULL, NULL);
  BangerJob *job = begin_aside (world, banger_vms_find (world->vms, "old", NULL), BANGER_VM_VERB_START, on_start_ended,
                                &ended);
  BangerVm *vm = make_vm (world, "new");
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
  g_assert_null (banger_vms_find (world->vms, "new", NULL));
  g_assert_false (ended);
  g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 0);
  g_assert_true (banger_job_cancel (job, NULL));
  run_until (&ended);
}

/* Nor does one VM wait for what is said of another. */
static void
test_known_vm_is_not_held (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  verb (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  make_vm (world, "idle");
  crash (world);
  fake.hangs = "OpenVmm";
  banger_vms_reconcile (world->vms, NULL, NULL);
  gboolean stopped = FALSE;
  BangerVm *web = banger_vms_find (world->vms, "web", NULL);
  begin_aside (world, web, BANGER_VM_VERB_STOP, on_fine, &stopped);
  begin (world, banger_vms_find (world->vms, "idle", NULL), BANGER_VM_VERB_DELETE, NULL);
  run_until (&world->done);
  g_assert_no_error (world->error);
  g_assert_false (stopped);
  fake_helper_resume (); /* not known now, but known later */
  run_until (&stopped);
  assert_state (web, BANGER_VM_STOPPED);
}

static void
test_found_dead (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  {
    BangerVm *vm = make_vm (world, "web");
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    banger_vms_free (g_steal_pointer (&world->vms));
  }
  GHashTableIter iter;
  gpointer id;
  g_hash_table_iter_init (&iter, fake.leases);
  g_assert_true (g_hash_table_iter_next (&iter, &id, NULL));
  g_autofree char *copy = g_strdup (id);
  banger_helper_call (world->helper, NULL, "KillVmm", NULL, NULL, NULL, copy);
  load (world);
  reconcile (world);
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  g_assert_nonnull (strstr (world->changes->str, "stopped"));
}

/* The daemon died in the middle of a start: nothing of it is left, and what no record knows goes too. */
static void
test_half_started (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  g_autofree char *record = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "record.json", NULL);
  g_autofree char *text = NULL;
  g_assert_true (g_file_get_contents (record, &text, NULL, NULL));
  g_assert_nonnull (strstr (text, "starting"));
  g_autofree char *orphan = g_build_filename (fake.run_root, "cccccccccccc", NULL);
  g_assert_cmpint (g_mkdir (orphan, 0700), ==, 0);
  g_hash_table_insert (fake.leases, g_strdup ("dddddddddddd"), NULL);

  BangerVms *dead = g_steal_pointer (&world->vms); /* its start hangs for ever: as good as dead */
  g_string_truncate (world->changes, 0);
  load (world);
  banger_vms_reconcile (world->vms, NULL, NULL);
  BangerVm *found = banger_vms_find (world->vms, "web", NULL);
  run_until_state (found, BANGER_VM_STOPPED);
  g_assert_cmpstr (banger_vm_record (found)->reason, ==, "bangerd ended while it was starting");
  run_until (&world->done); /* the dead one's start sees its VMM gone */
  g_autofree char *files = folder_listing (world, found);
  g_assert_cmpstr (files, ==, nothing_made);
  assert_nothing_left (world, found);
  g_assert_false (g_file_test (orphan, G_FILE_TEST_EXISTS));
  banger_vms_free (dead);
}

static gboolean
on_looked (gpointer flag)
{
  *(gboolean *)flag = TRUE;
  return G_SOURCE_REMOVE;
}

/* What is left of others is released meanwhile if the disk of one hangs, and the verbs on that one wait. */
static void
test_look_beside_a_hanging_disk (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  BangerVms *dead = g_steal_pointer (&world->vms);
  hang_at (world, "remove-files");
  g_hash_table_insert (fake.leases, g_strdup ("dddddddddddd"), NULL);
  load (world);
  gboolean looked = FALSE, stopped = FALSE;
  banger_vms_reconcile (world->vms, on_looked, &looked);
  vm = banger_vms_find (world->vms, "web", NULL);
  begin_aside (world, vm, BANGER_VM_VERB_DELETE, on_fine, &stopped);
  guint hung_by = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_fault_hung () == 0 || world->vms->reconciling)
    g_main_context_iteration (NULL, TRUE); /* the dead one undoes its start likewise */
  g_source_remove (hung_by);
  g_hash_table_insert (fake.leases, g_strdup ("dddddddddddd"), NULL); /* as if it could not be released */
  fake_helper_answer_late (world->helper);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (g_hash_table_size (fake.leases) > 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_false (looked || stopped);
  hang_at (world, "");
  run_until (&stopped);
  run_until (&looked);
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
  run_until (&world->done);
  banger_vms_free (dead);
}

/* With the helper away it can be neither undone nor ended. It is found again as what it is: taken for one that ran, its
 * disks would be made anew at its second start. */
static void
test_half_started_is_no_vm_that_ran (World *world, gconstpointer data)
{
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_STOP, BANGER_VM_VERB_KILL };
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  BangerVms *dead = g_steal_pointer (&world->vms); /* its start hangs for ever: as good as dead */
  load (world);
  fake_helper_set_available (world->helper, FALSE);
  banger_vms_reconcile (world->vms, NULL, NULL);
  vm = banger_vms_find (world->vms, "web", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++) {
    gboolean ended = FALSE;
    begin_aside (world, vm, verbs[i], on_unavailable, &ended);
    run_until (&ended);
    assert_state (vm, BANGER_VM_STARTING);
  }
  g_assert_false (world->done);
  fake_helper_set_available (world->helper, TRUE);
  run_until_state (vm, BANGER_VM_STOPPED);
  g_assert_cmpstr (banger_vm_record (vm)->reason, ==, "bangerd ended while it was starting");
  run_until (&world->done);
  g_autofree char *files = folder_listing (world, vm);
  g_assert_cmpstr (files, ==, nothing_made);
  assert_nothing_left (world, vm);
  banger_vms_free (dead);
}

static void
on_end (BangerJob *job, const GError *error, gpointer user_data)
{
  *(gboolean *)user_data = TRUE;
}

/* Likewise if a stop of it was begun that the next bangerd carries on in vain: the record said "stopping" by then. */
static void
test_half_started_and_half_stopped (World *world, gconstpointer data)
{
  BangerVms *dead[2];
  gboolean stopped = FALSE;
  fake.deaf_guest = TRUE;
  begin (world, make_vm (world, "web"), BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  dead[0] = g_steal_pointer (&world->vms);
  load (world);
  begin_aside (world, banger_vms_find (world->vms, "web", NULL), BANGER_VM_VERB_STOP, on_end, &stopped);
  run_until_state (banger_vms_find (world->vms, "web", NULL), BANGER_VM_STOPPING);
  dead[1] = g_steal_pointer (&world->vms);
  load (world);
  fake.fail = "KillVmm";
  fake.keep_vmm = TRUE;
  banger_vms_reconcile (world->vms, NULL, NULL);
  BangerVm *vm = banger_vms_find (world->vms, "web", NULL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (vm->pidfd < 0) /* a kill does not wait for the answer */
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  assert_state (vm, BANGER_VM_STOPPING);
  gboolean killed = FALSE;
  begin_aside (world, vm, BANGER_VM_VERB_KILL, on_given_up, &killed);
  run_until (&killed);
  assert_state (vm, BANGER_VM_STARTING);
  fake.fail = NULL;
  fake.keep_vmm = FALSE;
  run_until_state (vm, BANGER_VM_STOPPED); /* by itself */
  g_autofree char *files = folder_listing (world, vm);
  g_assert_cmpstr (files, ==, nothing_made);
  run_until (&world->done);
  run_until (&stopped);
  for (guint i = 0; i < G_N_ELEMENTS (dead); i++)
    banger_vms_free (dead[i]);
}

/* A stop that is carried on takes as long as its guest: other VMs do not wait for it. */
static void
test_stop_is_carried_on (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  make_vm (world, "other");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  gboolean stopped = FALSE;
  fake.stubborn = TRUE;
  begin_aside (world, vm, BANGER_VM_VERB_STOP, on_fine, &stopped);
  run_until_story ("guest:shutdown");
  run_until_state (vm, BANGER_VM_STOPPING);
  BangerVms *dead = g_steal_pointer (&world->vms); /* it waits for its guest: as good as dead */
  load (world);
  banger_vms_reconcile (world->vms, NULL, NULL);
  verb (world, banger_vms_find (world->vms, "other", NULL), BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
  vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_STOPPING);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
  run_until (&stopped);
  banger_vms_free (dead);
}

static void
test_helper_away (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake_helper_set_available (world->helper, FALSE);
  banger_vms_reconcile (world->vms, NULL, NULL);
  begin (world, vm, BANGER_VM_VERB_START, NULL); /* waits for reconcile, then says why not */
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  assert_state (vm, BANGER_VM_STOPPED);
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL); /* what is left could not be looked at */
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  fake_helper_set_available (world->helper, TRUE); /* carried on by itself */
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_vms_find (world->vms, "web", NULL))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

/* Two VMs of before, one of which ran, after a reboot of the host: the helper knows of nothing. */
static void
reboot (World *world)
{
  BangerVm *web = make_vm (world, "web");
  make_vm (world, "idle");
  verb (world, web, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_autofree char *id = g_strdup (banger_vm_record (web)->id);
  banger_vms_free (g_steal_pointer (&world->vms));
  banger_helper_call (world->helper, NULL, "ReleaseVm", NULL, NULL, NULL, id);
  while (g_main_context_iteration (NULL, FALSE))
    continue;
  g_string_truncate (world->changes, 0);
  load (world);
}

/* What is shown before the leases were seen is yesterday's: it is waited for, and said to be so. */
static void
test_true_from_the_first_answer (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  reboot (world);
  BangerVm *web = banger_vms_find (world->vms, "web", NULL), *idle = banger_vms_find (world->vms, "idle", NULL);
  gboolean looked = FALSE;
  g_assert_false (banger_vm_known (web) || banger_vm_known (idle));
  assert_state (web, BANGER_VM_RUNNING);
  banger_vms_reconcile (world->vms, on_looked, &looked);
  run_until (&looked);
  g_assert_true (banger_vm_known (web) && banger_vm_known (idle));
  assert_state (web, BANGER_VM_STOPPED);
  assert_state (idle, BANGER_VM_STOPPED);
}

static void
test_unknown_until_the_helper_is_back (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  reboot (world);
  BangerVm *web = banger_vms_find (world->vms, "web", NULL), *idle = banger_vms_find (world->vms, "idle", NULL);
  gboolean looked = FALSE;
  fake_helper_set_available (world->helper, FALSE);
  banger_vms_reconcile (world->vms, on_looked, &looked);
  run_until (&looked);
  g_assert_false (banger_vm_known (web) || banger_vm_known (idle));
  g_assert_cmpstr (world->changes->str, ==, "");
  verb (world, web, BANGER_VM_VERB_START, NULL); /* nobody says that it runs */
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  g_assert_nonnull (strstr (world->error->message, "whether web runs is not known"));
  fake_helper_set_available (world->helper, TRUE);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (!banger_vm_known (web) || !banger_vm_known (idle))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  assert_state (web, BANGER_VM_STOPPED);
  g_assert_cmpstr (world->changes->str, ==, "stopped stopped "); /* one of them is no change but for being known */
  BangerVm *fresh = make_vm (world, "fresh");
  g_assert_true (banger_vm_known (fresh));
}

static void
test_broken_record (World *world, gconstpointer data)
{
  make_vm (world, "web");
  g_autofree char *half = g_build_filename (world->vms_path, "eeeeeeeeeeee", NULL);
  g_assert_cmpint (g_mkdir (half, 0700), ==, 0);
  g_autofree char *name = g_strdup_printf ("state/%u/vms/ffffffffffff/record.json", getuid ());
  make_file (world, name, "{ \"kind\": ");
  crash (world);
  g_assert_nonnull (strstr (world->changes->str, "unreadable:ffffffffffff"));
  while (g_file_test (half, G_FILE_TEST_EXISTS)) /* in a worker: nobody waits for it */
    g_usleep (1000);
  g_assert_nonnull (banger_vms_find (world->vms, "web", NULL));
}

/* As reconcile(), without a verb on the VM. */
static void
reconcile_unreadable (World *world)
{
  guint before = fake_count ("ListLeases");
  banger_vms_reconcile (world->vms, NULL, NULL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (fake_count ("ListLeases") == before)
    g_main_context_iteration (NULL, TRUE);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_source_remove (deadline);
}

/* The record of a VM that runs is of a newer banger, or no record at all: neither it nor what it holds is touched,
 * nothing of what it has is given away, and it can be killed and deleted. */
static void
test_broken_record_of_a_running_vm (World *world, gconstpointer data)
{
  static const struct {
    const char *text;
    gboolean has_name;
  } rows[] = {
    { "{ \"version\": 99, \"kind\": \"vm\" }", FALSE },
    { "{ \"version\": 99, \"kind\": \"vm\", \"name\": \"web\", \"state\": \"running\", \"address\": 7, "
      "\"image-id\": \"" IMAGE "\" }",
      TRUE },
    { "{ \"kind\": ", FALSE },
  };
  if (!sshd_up (world))
    return;
  for (guint row = 0; row < G_N_ELEMENTS (rows); row++) {
    BangerVm *vm = make_vm (world, "web");
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    g_autofree char *id = g_strdup (banger_vm_record (vm)->id), *address = g_strdup (banger_vm_record (vm)->address);
    g_autofree char *name = g_strdup_printf ("state/%u/vms/%s/record.json", getuid (), id);
    g_autofree char *path = g_build_filename (world->top, name, NULL);
    make_file (world, name, rows[row].text);
    pid_t pid = (pid_t)banger_vm_record (vm)->pid;
    for (guint i = 0; i < 3; i++) { /* the third time its folder was set aside, as an older banger does */
      g_autofree char *folder = g_path_get_dirname (path), *aside = g_strconcat (folder, ".unreadable", NULL);
      if (i == 2)
        g_assert_cmpint (g_rename (folder, aside), ==, 0);
      crash (world);
      g_string_truncate (fake.story, 0);
      reconcile_unreadable (world);
      vm = banger_vms_find (world->vms, rows[row].has_name ? "web" : id, NULL);
      g_assert_nonnull (vm);
      assert_state (vm, BANGER_VM_UNREADABLE);
      g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 0);
      g_assert_true (g_hash_table_contains (fake.leases, id));
      g_assert_cmpint (kill (pid, 0), ==, 0);
      g_autofree char *now = NULL;
      g_assert_true (g_file_get_contents (path, &now, NULL, NULL));
      g_assert_cmpstr (now, ==, rows[row].text);
    }
    BangerVm *other = make_vm (world, "other");
    g_assert_cmpstr (banger_vm_record (other)->address, !=, address);
    verb (world, other, BANGER_VM_VERB_DELETE, NULL);
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    verb (world, vm, BANGER_VM_VERB_KILL, NULL);
    g_assert_no_error (world->error);
    assert_state (vm, BANGER_VM_UNREADABLE);
    g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
    verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
    g_assert_no_error (world->error);
    g_assert_false (g_file_test (path, G_FILE_TEST_EXISTS));
    g_assert_null (banger_vms_find_id (world->vms, id));
  }
}

static void
test_fault_stages (World *world, gconstpointer data)
{
  const char *const *stages = banger_vm_fault_stages ();
  g_assert_cmpuint (g_strv_length ((char **)stages), ==, 22);
  g_assert_true (g_strv_contains (stages, "place"));
}

static void
add_tests (void)
{
  ADD ("found-running", test_found_running);
  ADD ("found-old", test_found_old);
  ADD ("found-later", test_found_later);
  ADD ("found-without-a-list", test_found_without_a_list);
  ADD ("stop-adopts", test_stop_adopts);
  ADD ("kill-ends-an-adoption", test_kill_ends_an_adoption);
  ADD ("release-again", test_release_again);
  ADD ("release-orphan-again", test_release_orphan_again);
  ADD ("kill-waits-for-its-turn", test_kill_waits_for_its_turn);
  ADD ("cancel-of-a-held-verb", test_cancel_of_a_held_verb);
  ADD ("new-vm-is-not-held", test_new_vm_is_not_held);
  ADD ("known-vm-is-not-held", test_known_vm_is_not_held);
  ADD ("found-dead", test_found_dead);
  ADD ("look-beside-a-hanging-disk", test_look_beside_a_hanging_disk);
  ADD ("half-started", test_half_started);
  ADD ("half-started-is-no-vm-that-ran", test_half_started_is_no_vm_that_ran);
  ADD ("half-started-and-half-stopped", test_half_started_and_half_stopped);
  ADD ("stop-is-carried-on", test_stop_is_carried_on);
  ADD ("helper-away", test_helper_away);
  ADD ("true-from-the-first-answer", test_true_from_the_first_answer);
  ADD ("unknown-until-the-helper-is-back", test_unknown_until_the_helper_is_back);
  ADD ("broken-record", test_broken_record);
  ADD ("broken-record-of-a-running-vm", test_broken_record_of_a_running_vm);
  ADD ("fault-stages", test_fault_stages);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 218, add_tests);
}
