/* Disks, helpers and consoles that do not answer: whoever ends a VM does not wait for them.
 * Run by meson test. */
#include "vm-world.h"

static void
run_until_hung (guint n)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_fault_hung () != n)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
}

/* Workers of a start that hang, and how many there are. */
static const struct {
  const char *stages;
  guint n;
} hanging[] = {
  { "copy-disk", 2 },
  { "make-initrd", 1 },
  { "open-console", 1 },
  { "copy-disk\nmake-initrd\nopen-console", 4 },
};

/* What hangs at a disk is left alone: it takes back itself what it made, and the next start waits for that. */
static void
test_kill_ends_a_hanging_start (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  for (guint i = 0; i < G_N_ELEMENTS (hanging); i++) {
    gboolean ended = FALSE;
    hang_at (world, hanging[i].stages);
    begin_aside (world, vm, BANGER_VM_VERB_START, on_start_ended, &ended);
    run_until_hung (hanging[i].n);
    gint64 since = g_get_monotonic_time ();
    verb (world, vm, BANGER_VM_VERB_KILL, NULL);
    g_assert_no_error (world->error);
    g_assert_true (ended);
    g_assert_cmpint (g_get_monotonic_time () - since, <, 20 * G_USEC_PER_SEC);
    assert_state (vm, BANGER_VM_STOPPED);
    assert_nothing_left (world, vm);
    g_assert_cmpuint (vm->behind, >=, hanging[i].n);
    fake.fail = "PrepareVm";
    begin (world, vm, BANGER_VM_VERB_START, NULL);
    g_string_truncate (fake.story, 0);
    for (guint n = 0; n < 5; n++)
      g_main_context_iteration (NULL, TRUE);
    g_assert_cmpstr (fake.story->str, ==, ""); /* it waits */
    hang_at (world, "");
    run_until (&world->done);
    g_assert_nonnull (strstr (world->error->message, "PrepareVm fails"));
    fake.fail = NULL;
    run_until_settled (vm);
    g_autofree char *files = folder_listing (world, vm);
    g_assert_cmpstr (files, ==, nothing_made);
  }
}

/* Nor does the VM wait for them to be deleted, and nothing of them comes back. */
static void
test_delete_ends_a_hanging_start (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions force = { .force = TRUE };
  for (guint i = 0; i < G_N_ELEMENTS (hanging); i++) {
    g_autoptr (BangerVm) vm = banger_vm_ref (make_vm (world, "web"));
    gboolean ended = FALSE;
    hang_at (world, hanging[i].stages);
    begin_aside (world, vm, BANGER_VM_VERB_START, on_start_ended, &ended);
    run_until_hung (hanging[i].n);
    verb (world, vm, BANGER_VM_VERB_DELETE, &force);
    g_assert_no_error (world->error);
    g_assert_true (ended);
    g_assert_null (banger_vms_find (world->vms, "web", NULL));
    g_assert_cmpuint (vm->behind, >=, hanging[i].n);
    hang_at (world, "");
    run_until_settled (vm);
    g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
    g_assert_null (g_dir_read_name (dir));
    assert_nothing_left (world, vm);
  }
}

/* A deletion whose disk does not answer ends, and the VM goes when it does. */
static void
test_hanging_deletion (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  world->vms->end_seconds = 1;
  hang_at (world, "remove-folder");
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  g_assert_true (banger_vms_find (world->vms, "web", NULL) == vm);
  assert_state (vm, BANGER_VM_DELETING);
  hang_at (world, "");
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_vms_find (world->vms, "web", NULL))
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
  g_assert_nonnull (strstr (world->changes->str, "removed"));
}

static void
on_console (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_clear_error (&world->error);
  g_autofree char *path = NULL;
  banger_autofd int fd = banger_vm_open_log_finish (result, &path, &world->error);
  world->ok = fd >= 0;
  world->done = TRUE;
}

static void
open_console (World *world, BangerVm *vm)
{
  world->done = FALSE;
  banger_vm_open_log_async (vm, FALSE, on_console, world);
  run_until (&world->done);
}

/* Nobody waits for the log of a disk that hangs but who asks for it, and he not for ever. */
static void
test_hanging_console (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  open_console (world, vm);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_assert_true (g_file_set_contents (banger_vm_console_log (vm), "booting\n", -1, NULL));
  open_console (world, vm);
  g_assert_true (world->ok);
  world->vms->end_seconds = 1;
  hang_at (world, "show-console");
  open_console (world, vm);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_TIMEOUT);
  hang_at (world, "");
  run_until_hung (0);
}

/* A helper that does not answer: each verb that ends something ends, in one bounded time, not one for each step; and
 * what was not released is released later. */
static void
test_helper_that_hangs (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions force = { .force = TRUE };
  static const char *const begun[] = { "PrepareVm", "LaunchVmm" };
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_KILL, BANGER_VM_VERB_DELETE };
  fake.deaf_guest = TRUE;
  world->vms->end_seconds = 1;
  for (guint i = 0; i < G_N_ELEMENTS (begun) * G_N_ELEMENTS (verbs); i++) {
    BangerVm *vm = make_vm (world, "web");
    gboolean ended = FALSE;
    g_string_truncate (fake.story, 0);
    fake.hangs = begun[i / 2];
    begin_aside (world, vm, BANGER_VM_VERB_START, on_given_up, &ended);
    run_until_story (begun[i / 2]);
    fake.hangs = "all";
    gint64 since = g_get_monotonic_time ();
    verb (world, vm, verbs[i % 2], &force);
    g_assert_true (ended);
    g_assert_cmpint (g_get_monotonic_time () - since, <, 20 * G_USEC_PER_SEC);
    fake_helper_resume ();
    if (verbs[i % 2] == BANGER_VM_VERB_DELETE) {
      g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
      assert_state (vm, BANGER_VM_DELETING);
      verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
    } else {
      assert_state (vm, BANGER_VM_STOPPED);
      guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
      while (vm->unreleased)
        g_main_context_iteration (NULL, TRUE);
      g_source_remove (deadline);
      assert_nothing_left (world, vm);
      verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
    }
    g_assert_no_error (world->error);
  }
}

/* What the helper was asked for it may do later: that is then why the VM ended. */
static void
test_late_kill (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  world->vms->end_seconds = 1;
  fake.hangs = "KillVmm";
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  assert_state (vm, BANGER_VM_RUNNING);
  fake_helper_resume ();
  banger_helper_call (world->helper, NULL, "KillVmm", NULL, NULL, NULL, banger_vm_record (vm)->id);
  run_until_state (vm, BANGER_VM_STOPPED);
  g_assert_cmpstr (banger_vm_record (vm)->reason, ==, VM_KILLED_LATE);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  banger_helper_call (world->helper, NULL, "KillVmm", NULL, NULL, NULL, banger_vm_record (vm)->id);
  run_until_state (vm, BANGER_VM_STOPPED);
  g_assert_cmpstr (banger_vm_record (vm)->reason, !=, VM_KILLED_LATE);
}

/* A call that was never sent, as no time was left for it, is not told of as one that somebody cancelled. */
static void
test_no_time_for_the_helper (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  vm->unreleased = TRUE;
  fake.hangs = "all";
  begin (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_cancellable_cancel (vm->op->bound);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  fake_helper_resume ();
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
}

/* The answer to a call that nobody waited for: what it made is released. */
static void
test_late_answer (World *world, gconstpointer data)
{
  reconcile (world);
  BangerVm *vm = make_vm (world, "web");
  guint before = fake_count ("ReleaseVm");
  g_hash_table_insert (fake.leases, g_strdup (banger_vm_record (vm)->id), NULL);
  fake_helper_answer_late (world->helper);
  run_until_count ("ReleaseVm", before + 1);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  assert_nothing_left (world, vm);
}

/* A client that gives up before anything is there leaves nothing behind. */
static void
test_delete_ends_a_creation (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions force = { .force = TRUE };
  BangerVmSpec spec = { 0 };
  gboolean created = FALSE;
  BangerVm *vm = banger_vms_add (world->vms, "web", &spec, NULL);
  begin_aside (world, vm, BANGER_VM_VERB_CREATE, on_start_ended, &created);
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  verb (world, vm, BANGER_VM_VERB_DELETE, &force);
  g_assert_no_error (world->error);
  g_assert_true (created);
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_null (g_dir_read_name (dir));
}

/* No file can grow: nothing can be written, and everything can be ended and taken away. */
static void
fill_disk (gboolean full)
{
  struct rlimit size;
  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (getrlimit (RLIMIT_FSIZE, &size), ==, 0);
  size.rlim_cur = full ? 0 : size.rlim_max;
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &size), ==, 0);
}

static void
test_full_disk (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  static const BangerVmVerb ends[] = { BANGER_VM_VERB_STOP, BANGER_VM_VERB_KILL };
  for (guint i = 0; i < G_N_ELEMENTS (ends); i++) {
    BangerVm *vm = make_vm (world, "web");
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_no_error (world->error);
    fill_disk (TRUE);
    verb (world, vm, ends[i], NULL); /* it may say that the record could not be written */
    assert_state (vm, BANGER_VM_STOPPED);
    g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_nonnull (world->error);
    assert_state (vm, BANGER_VM_STOPPED);
    verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
    fill_disk (FALSE);
    g_assert_no_error (world->error);
    g_assert_null (banger_vms_find (world->vms, "web", NULL));
    g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
    g_assert_null (g_dir_read_name (dir));
  }
}

/* Whoever writes it: the log of a VM that runs is looked at now and then. */
static void
test_console_is_bounded (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_autofree char *line = g_strnfill (9 << 20, 'x');
  struct stat st;
  g_assert_true (g_file_set_contents (banger_vm_console_log (vm), line, -1, NULL));
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  /* Cut in a thread: in between it is empty. */
  while (stat (banger_vm_console_log (vm), &st) == 0 && (st.st_size > 1 << 20 || st.st_size < 1000))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
}

static void
add_tests (void)
{
  ADD ("kill-ends-a-hanging-start", test_kill_ends_a_hanging_start);
  ADD ("delete-ends-a-hanging-start", test_delete_ends_a_hanging_start);
  ADD ("hanging-deletion", test_hanging_deletion);
  ADD ("hanging-console", test_hanging_console);
  ADD ("helper-that-hangs", test_helper_that_hangs);
  ADD ("no-time-for-the-helper", test_no_time_for_the_helper);
  ADD ("late-kill", test_late_kill);
  ADD ("late-answer", test_late_answer);
  ADD ("delete-ends-a-creation", test_delete_ends_a_creation);
  ADD ("full-disk", test_full_disk);
  ADD ("console-is-bounded", test_console_is_bounded);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 215, add_tests);
}
