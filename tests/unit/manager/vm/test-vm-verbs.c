/* Verbs of VMs beside starting and stopping: restart, pause, and those that go when they stop.
 * Run by meson test. */
#include "vm-world.h"

/* A creation that starts goes on as a start: what ends one ends it, and the VM stays. */
static void
test_create_and_start (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions options = { .start = TRUE };
  if (!sshd_up (world))
    return;
  BangerVmSpec spec = { .nat = TRUE };
  BangerVm *vm = banger_vms_add (world->vms, "web", &spec, NULL);
  verb (world, vm, BANGER_VM_VERB_CREATE, &options);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpstr (world->changes->str, ==, "added stopped starting running ");
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);

  gboolean killed = FALSE;
  vm = banger_vms_add (world->vms, "other", &spec, NULL);
  fake.deaf_guest = TRUE;
  begin (world, vm, BANGER_VM_VERB_CREATE, &options);
  run_until_count ("PUT/actions", 2);
  begin_aside (world, vm, BANGER_VM_VERB_KILL, on_fine, &killed);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  run_until (&killed);
  assert_state (vm, BANGER_VM_STOPPED);
}

static void
test_kill_and_restart (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_RESTART, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake.launches, ==, 2);
  assert_state (vm, BANGER_VM_RUNNING);
  g_string_truncate (fake.story, 0);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_no_error (world->error);
  g_assert_null (strstr (fake.story->str, "guest:"));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* Who looked before it was started, and stopped again, has seen another one. */
static void
test_delete_what_was_seen (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  BangerVmVerbOptions seen = { .only_starts = TRUE, .starts = banger_vm_record (vm)->starts };
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  verb (world, vm, BANGER_VM_VERB_DELETE, &seen);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  assert_state (vm, BANGER_VM_STOPPED);
  seen.starts = banger_vm_record (vm)->starts;
  g_assert_cmpuint (seen.starts, ==, 1);
  verb (world, vm, BANGER_VM_VERB_DELETE, &seen);
  g_assert_no_error (world->error);
}

/* Its VMM is signalled, and no more; KILL is a kill as ever. */
static void
test_signal (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const BangerVmVerbOptions term = { .signal = "TERM" }, killing = { .signal = "sigkill" };
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_KILL, &term);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_assert_nonnull (strstr (world->error->message, "web is stopped: start it first"));
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_KILL, &term);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("SignalVmm"), ==, 1);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 0);
  assert_state (vm, BANGER_VM_RUNNING);
  fake.fail = "SignalVmm";
  verb (world, vm, BANGER_VM_VERB_KILL, &term);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_FAILED);
  assert_state (vm, BANGER_VM_RUNNING);
  fake.fail = NULL;
  verb (world, vm, BANGER_VM_VERB_KILL, &killing);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("SignalVmm"), ==, 2);
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* What may be done with a VM that stands still, and that its record says so. */
static void
test_pause (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const struct {
    BangerVmVerb verb;
    const char *text;
  } refused[] = {
    { BANGER_VM_VERB_PAUSE, "web is paused: resume it first" },
    { BANGER_VM_VERB_START, "web is paused: resume it instead" },
    { BANGER_VM_VERB_IMPORT_WORKSPACE, "web is paused: resume it first" },
    { BANGER_VM_VERB_DELETE, "web is paused: stop it first" },
  };
  static const BangerVmVerbOptions options = { .path = "/nowhere" };
  BangerVm *vm = make_vm (world, "web");
  for (BangerVmVerb which = BANGER_VM_VERB_PAUSE; which <= BANGER_VM_VERB_RESUME; which++) {
    verb (world, vm, which, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    g_assert_nonnull (strstr (world->error->message, "web is stopped: start it first"));
  }
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_RESUME, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  guint32 pid = banger_vm_record (vm)->pid;
  guint64 started_at = banger_vm_record (vm)->started_at;
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_PAUSED);
  g_assert_true (fake.paused);
  g_assert_cmpuint (banger_vm_record (vm)->pid, ==, pid);
  g_assert_cmpuint (banger_vm_record (vm)->started_at, ==, started_at);
  g_autofree char *recorded = recorded_state (world, vm);
  g_assert_cmpstr (recorded, ==, "paused");
  for (guint i = 0; i < G_N_ELEMENTS (refused); i++) {
    verb (world, vm, refused[i].verb, &options);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    g_assert_nonnull (strstr (world->error->message, refused[i].text));
  }
  guint hellos = fake_count ("guest:hello");
  verb (world, vm, BANGER_VM_VERB_RESUME, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_false (fake.paused);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (fake_count ("guest:hello") == hellos) /* a new connection, over which the clock is asked for first */
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_cmpstr (world->changes->str, ==, "added stopped starting running paused running stopping stopped ");
}

/* A guest that is to shut down is resumed first; one that is killed is not. */
static void
test_end_of_a_paused_one (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const BangerVmVerbOptions force = { .force = TRUE };
  static const struct {
    BangerVmVerb verb;
    gboolean resumed;
  } rows[] = { { BANGER_VM_VERB_STOP, TRUE },
               { BANGER_VM_VERB_RESTART, TRUE },
               { BANGER_VM_VERB_KILL, FALSE },
               { BANGER_VM_VERB_DELETE, FALSE } };
  BangerVm *vm = make_vm (world, "web");
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    if (banger_vm_record (vm)->state == BANGER_VM_STOPPED)
      verb (world, vm, BANGER_VM_VERB_START, NULL);
    verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
    g_assert_no_error (world->error);
    g_string_truncate (fake.story, 0);
    verb (world, vm, rows[i].verb, &force);
    g_assert_no_error (world->error);
    g_assert_cmpint (g_str_has_prefix (fake.story->str, "PATCH/vm "), ==, rows[i].resumed);
    g_assert_cmpuint (fake_count ("guest:shutdown"), ==, rows[i].resumed ? 1 : 0);
    g_assert_cmpuint (fake_count ("KillVmm"), ==, rows[i].resumed ? 0 : 1);
  }
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
}

/* The VMM says no, and the VMM ends: what is told is so. */
static void
test_pause_fails (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.fail = "/vm";
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpstr (banger_vm_record (vm)->reason, !=, "");
  fake.fail = NULL;
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  g_assert_no_error (world->error);
  fake.fail = "/vm";
  verb (world, vm, BANGER_VM_VERB_RESUME, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  assert_state (vm, BANGER_VM_PAUSED);
  kill ((pid_t)banger_vm_record (vm)->pid, SIGKILL);
  run_until_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* It was recorded first, so whatever a crash left of the word, it is paused. */
static void
test_found_paused (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  fake.paused = FALSE;
  crash (world);
  reconcile (world);
  vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_PAUSED);
  g_assert_true (fake.paused);
  g_assert_true (banger_vm_known (vm));
  verb (world, vm, BANGER_VM_VERB_RESUME, NULL);
  g_assert_no_error (world->error);
  g_assert_false (fake.paused);
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  g_autofree char *id = g_strdup (banger_vm_record (vm)->id);
  banger_vms_free (g_steal_pointer (&world->vms));
  banger_helper_call (world->helper, NULL, "KillVmm", NULL, NULL, NULL, id);
  g_string_truncate (world->changes, 0);
  load (world);
  reconcile (world); /* and deletes what is stopped */
  g_assert_nonnull (strstr (world->changes->str, "stopped"));
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
}

static void
test_ephemeral (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVmSpec spec = { .ephemeral = TRUE };
  BangerVm *vm = banger_vms_add (world->vms, "once", &spec, NULL);
  verb (world, vm, BANGER_VM_VERB_CREATE, NULL);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_string_truncate (world->changes, 0);
  kill ((pid_t)banger_vm_record (vm)->pid, SIGKILL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (!strstr (world->changes->str, "removed"))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_null (banger_vms_find (world->vms, "once", NULL));
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_null (g_dir_read_name (dir));
}

/* Who waits for the end of the run finds the VM gone, also when it failed. */
static void
test_ephemeral_failure (World *world, gconstpointer data)
{
  BangerVmSpec spec = { .ephemeral = TRUE };
  BangerVm *vm = banger_vms_add (world->vms, "once", &spec, NULL);
  verb (world, vm, BANGER_VM_VERB_CREATE, NULL);
  fake.fail = "LaunchVmm";
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_nonnull (strstr (world->error->message, "LaunchVmm fails"));
  g_assert_null (banger_vms_find (world->vms, "once", NULL));
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_null (g_dir_read_name (dir));
}

static BangerVm *
make_ephemeral (World *world)
{
  BangerVmSpec spec = { .ephemeral = TRUE };
  BangerVm *vm = banger_vms_add (world->vms, "once", &spec, NULL);
  verb (world, vm, BANGER_VM_VERB_CREATE, NULL);
  g_assert_no_error (world->error);
  return vm;
}

/* The helper comes back between a VM's creation and its first start: it is not one of an earlier run. */
static void
test_ephemeral_is_new (World *world, gconstpointer data)
{
  BangerVm *vm = make_ephemeral (world);
  banger_vms_reconcile (world->vms, NULL, NULL);
  fake.fail = "LaunchVmm";
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_nonnull (strstr (world->error->message, "LaunchVmm fails"));
}

/* What an earlier run of the daemon left goes. */
static void
test_ephemeral_is_found (World *world, gconstpointer data)
{
  make_ephemeral (world);
  crash (world);
  g_assert_nonnull (banger_vms_find (world->vms, "once", NULL));
  banger_vms_reconcile (world->vms, NULL, NULL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (!strstr (world->changes->str, "removed"))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_null (banger_vms_find (world->vms, "once", NULL));
}

/* A verb that waited for the release of an ephemeral VM: who wanted it stopped has that, who wanted it running has not.
 */
static void
test_ephemeral_queue (World *world, gconstpointer data)
{
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_RESTART, BANGER_VM_VERB_KILL, BANGER_VM_VERB_DELETE };
  static const BangerVmVerbOptions force = { .force = TRUE };
  if (!sshd_up (world))
    return;
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++) {
    BangerVm *vm = make_ephemeral (world);
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    g_string_truncate (fake.story, 0);
    kill ((pid_t)banger_vm_record (vm)->pid, SIGKILL);
    run_until_story ("ReleaseVm");
    assert_state (vm, BANGER_VM_RUNNING);
    verb (world, vm, verbs[i], &force);
    if (verbs[i] == BANGER_VM_VERB_RESTART)
      g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM);
    else
      g_assert_no_error (world->error);
    g_assert_null (banger_vms_find (world->vms, "once", NULL));
  }
}

static void
add_tests (void)
{
  ADD ("signal", test_signal);
  ADD ("create-and-start", test_create_and_start);
  ADD ("kill-and-restart", test_kill_and_restart);
  ADD ("delete-what-was-seen", test_delete_what_was_seen);
  ADD ("pause", test_pause);
  ADD ("end-of-a-paused-one", test_end_of_a_paused_one);
  ADD ("pause-fails", test_pause_fails);
  ADD ("found-paused", test_found_paused);
  ADD ("ephemeral", test_ephemeral);
  ADD ("ephemeral-failure", test_ephemeral_failure);
  ADD ("ephemeral-is-new", test_ephemeral_is_new);
  ADD ("ephemeral-is-found", test_ephemeral_is_found);
  ADD ("ephemeral-queue", test_ephemeral_queue);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 216, add_tests);
}
