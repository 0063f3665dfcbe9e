/* A guest on the disk, of which nothing runs, and a start that has it go on where it was.
 * Run by meson test. */
#include "vm-world.h"

static const char *const saved_names[] = { "suspended.state", "suspended.memory" };

static char *
vm_file (World *world, BangerVm *vm, const char *name)
{
  return g_build_filename (world->vms_path, banger_vm_record (vm)->id, name, NULL);
}

static guint
count_saved (World *world, BangerVm *vm)
{
  guint n = 0;
  for (guint i = 0; i < G_N_ELEMENTS (saved_names); i++) {
    g_autofree char *path = vm_file (world, vm, saved_names[i]);
    n += g_file_test (path, G_FILE_TEST_EXISTS);
  }
  return n;
}

static void
run_until_dropped (World *world, BangerVm *vm)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (count_saved (world, vm) > 0)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
}

static BangerVm *
suspended_vm (World *world)
{
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_SUSPENDED);
  return vm;
}

/* Its guest is on the disk, nothing of it runs, and a start has it go on, as often as one likes. */
static void
test_suspend (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = suspended_vm (world);
  for (guint times = 0; times < 2; times++) {
    assert_nothing_left (world, vm);
    g_assert_cmpuint (count_saved (world, vm), ==, 2);
    g_assert_cmpuint (banger_vm_record (vm)->pid, ==, 0);
    g_string_truncate (fake.story, 0);
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    assert_state (vm, BANGER_VM_RUNNING);
    g_assert_false (fake.paused);
    g_assert_nonnull (strstr (fake.story->str, "LaunchVmm PUT/snapshot/load PATCH/vm "));
    g_assert_null (strstr (fake.story->str, "PUT/machine-config"));
    g_assert_cmpuint (banger_vm_record (vm)->started_at, >, 0);
    run_until_dropped (world, vm); /* it was used once */
    verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
    verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
    g_assert_no_error (world->error);
  }
  g_assert_nonnull (strstr (world->changes->str, "paused suspended starting paused running paused suspended "));
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  g_string_truncate (fake.story, 0);
  verb (world, vm, BANGER_VM_VERB_START, NULL); /* as ever */
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("PUT/machine-config"), ==, 1);
}

static void
test_suspend_refused (World *world, BangerVm *vm)
{
  static const struct {
    BangerVmVerb verb;
    const char *text;
  } rows[] = {
    { BANGER_VM_VERB_SUSPEND, "web is suspended: start it first" },
    { BANGER_VM_VERB_PAUSE, "web is suspended: start it first" },
    { BANGER_VM_VERB_RESUME, "web is suspended" },
    { BANGER_VM_VERB_STOP, "web is suspended: nothing of it runs" },
    { BANGER_VM_VERB_KILL, "web is suspended: nothing of it runs" },
    { BANGER_VM_VERB_RESTART, "web is suspended: start it first" },
    { BANGER_VM_VERB_DELETE, "web is suspended: start it first, or delete with force" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    verb (world, vm, rows[i].verb, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    g_assert_nonnull (strstr (world->error->message, rows[i].text));
  }
}

/* What cannot be taken up stays, until its owner says that it may go. */
static void
test_suspended_is_not_lost (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const BangerVmVerbOptions discard = { .discard = TRUE }, force = { .force = TRUE };
  static const struct {
    const char *file, *content; /* NULL: it is removed */
    const char *record;         /* or this stands there */
    BangerError code;
    const char *text;
  } rows[] = {
    { "suspended.memory", "suspending.memory of nobody", NULL, BANGER_ERROR_STATE_CORRUPT, "is damaged" },
    { "suspended.memory", "", NULL, BANGER_ERROR_STATE_CORRUPT, "suspended.memory is empty" },
    { "suspended.memory", NULL, NULL, BANGER_ERROR_STATE_CORRUPT, "suspended.memory: No such file" },
    { "suspended.state", "x", NULL, BANGER_ERROR_STATE_CORRUPT, "is damaged" },
    { "suspended.state", NULL, NULL, BANGER_ERROR_STATE_CORRUPT, "suspended.state: No such file" },
    { NULL, NULL, "1 0.0.1 1 1 0 x", BANGER_ERROR_WRONG_STATE, "suspended by banger 0.0.1" },
    { NULL, NULL, "nonsense", BANGER_ERROR_WRONG_STATE, "suspended by banger ?" },
    { NULL, NULL, "1 " BANGER_VERSION " 1 1 0 Abacus 2", BANGER_ERROR_WRONG_STATE, "another processor, Abacus 2" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    BangerVm *vm = suspended_vm (world);
    if (i == 0)
      test_suspend_refused (world, vm);
    g_autofree char *path = rows[i].file ? vm_file (world, vm, rows[i].file) : NULL;
    if (rows[i].content)
      g_assert_true (g_file_set_contents (path, rows[i].content, -1, NULL));
    else if (path)
      g_assert_cmpint (g_unlink (path), ==, 0);
    if (rows[i].record)
      vm_set_string (&vm->record.suspended, rows[i].record);
    guint launches = fake.launches;
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_error (world->error, BANGER_ERROR, (int)rows[i].code);
    g_assert_nonnull (strstr (world->error->message, rows[i].text));
    g_assert_nonnull (strstr (world->error->message, "--discard"));
    g_assert_cmpuint (fake.launches, ==, launches);
    assert_state (vm, BANGER_VM_SUSPENDED);
    g_assert_cmpuint (count_saved (world, vm), ==, rows[i].file && !rows[i].content ? 1 : 2);
    if (i % 2 == 0) {
      verb (world, vm, BANGER_VM_VERB_START, &discard);
      g_assert_no_error (world->error);
      assert_state (vm, BANGER_VM_RUNNING);
      g_assert_cmpuint (count_saved (world, vm), ==, 0);
      g_assert_cmpstr (vm->record.suspended, ==, "");
    }
    verb (world, vm, BANGER_VM_VERB_DELETE, &force);
    g_assert_no_error (world->error);
    g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
    g_assert_null (g_dir_read_name (dir));
  }
}

/* A guest that could not be saved goes on; one that stood still before stands still. */
static void
test_suspend_fails (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVmSpec spec = { .ephemeral = TRUE };
  BangerVm *once = banger_vms_add (world->vms, "once", &spec, NULL);
  g_assert_null (begin (world, once, BANGER_VM_VERB_SUSPEND, NULL));
  banger_vm_drop (once);
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.fail = "/snapshot/create";
  for (guint paused = 0; paused < 2; paused++) {
    verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
    assert_state (vm, paused ? BANGER_VM_PAUSED : BANGER_VM_RUNNING);
    g_assert_cmpint (fake.paused, ==, (int)paused);
    g_assert_cmpuint (count_saved (world, vm), ==, 0);
    if (!paused)
      verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  }
  fake.fail = NULL;
  verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
  g_assert_no_error (world->error);
}

/* Before it goes on nothing is lost; when it went on what was saved is not used again, whatever becomes of it. */
static void
test_restore_fails (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const char *const before[] = { "PrepareVm", "LaunchVmm", "/snapshot/load" };
  BangerVm *vm = suspended_vm (world);
  for (guint i = 0; i < G_N_ELEMENTS (before); i++) {
    fake.fail = before[i];
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_nonnull (world->error);
    g_assert_nonnull (strstr (world->error->message, "--discard"));
    assert_state (vm, BANGER_VM_SUSPENDED);
    g_assert_nonnull (strstr (banger_vm_record (vm)->reason, "start failed: "));
    g_assert_cmpuint (count_saved (world, vm), ==, 2);
    assert_nothing_left (world, vm);
  }
  fake.fail = "/vm";
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  assert_state (vm, BANGER_VM_STOPPED);
  g_assert_nonnull (strstr (banger_vm_record (vm)->reason, "its memory is lost"));
  assert_nothing_left (world, vm);
  fake.fail = NULL;
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (count_saved (world, vm), ==, 0);
}

/* On the disk, and so said there, before its VMM ends. */
static void
test_suspend_is_recorded (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  synced = g_hash_table_new (NULL, NULL);
  g_string_truncate (fake.story, 0);
  fake.hangs = "ReleaseVm";
  begin (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
  run_until_state (vm, BANGER_VM_SUSPENDED);
  g_autofree char *recorded = recorded_state (world, vm);
  g_assert_cmpstr (recorded, ==, "suspended");
  g_assert_true (g_str_has_prefix (fake.story->str, "PATCH/vm PUT/snapshot/create "));
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 1);
  for (guint i = 0; i < G_N_ELEMENTS (saved_names); i++) {
    g_autofree char *path = vm_file (world, vm, saved_names[i]);
    struct stat st;
    g_assert_cmpint (stat (path, &st), ==, 0);
    g_mutex_lock (&synced_lock);
    g_assert_true (g_hash_table_contains (synced, GSIZE_TO_POINTER (st.st_ino)));
    g_mutex_unlock (&synced_lock);
  }
  fake.hangs = NULL;
  fake_helper_resume ();
  run_until (&world->done);
  g_mutex_lock (&synced_lock);
  g_clear_pointer (&synced, g_hash_table_unref);
  g_mutex_unlock (&synced_lock);
}

/* Each place at which bangerd may end: it is paused, suspended or running afterwards, and never two of these. */
static void
test_found_suspended (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  fake.away = TRUE; /* it is suspended, and its VMM is there */
  verb (world, vm, BANGER_VM_VERB_SUSPEND, NULL);
  g_assert_nonnull (world->error);
  assert_state (vm, BANGER_VM_SUSPENDED);
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 1);
  fake.away = FALSE;
  crash (world);
  reconcile (world);
  vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_SUSPENDED);
  assert_nothing_left (world, vm);
  g_assert_true (fake.paused); /* nobody had it go on */

  g_string_truncate (fake.story, 0);
  fake.hangs = "LaunchVmm"; /* it is being started, and has not gone on */
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("LaunchVmm");
  g_autofree char *starting = recorded_state (world, vm);
  g_assert_cmpstr (starting, ==, "starting");
  g_autofree char *path = vm_file (world, vm, "record.json"), *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  fake.hangs = NULL;
  fake_helper_resume ();
  run_until (&world->done);
  g_assert_nonnull (world->error);
  g_assert_true (g_file_set_contents (path, text, -1, NULL));
  g_assert_cmpint (g_chmod (path, 0600), ==, 0);
  crash (world);
  reconcile (world);
  vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_SUSPENDED);
  g_assert_cmpuint (count_saved (world, vm), ==, 2);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);

  run_until_dropped (world, vm); /* it was being suspended: what it had of that is no suspension */
  verb (world, vm, BANGER_VM_VERB_PAUSE, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (saved_names); i++) {
    g_autofree char *name = vm_file (world, vm, saved_names[i]);
    g_assert_true (g_file_set_contents (name, "half", -1, NULL));
  }
  crash (world);
  reconcile (world);
  vm = banger_vms_find (world->vms, "web", NULL);
  assert_state (vm, BANGER_VM_PAUSED);
  run_until_dropped (world, vm);
}

static void
add_tests (void)
{
  ADD ("suspend", test_suspend);
  ADD ("suspended-is-not-lost", test_suspended_is_not_lost);
  ADD ("suspend-fails", test_suspend_fails);
  ADD ("restore-fails", test_restore_fails);
  ADD ("suspend-is-recorded", test_suspend_is_recorded);
  ADD ("found-suspended", test_found_suspended);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 217, add_tests);
}
