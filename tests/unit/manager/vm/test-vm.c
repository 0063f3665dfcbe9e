/* VMs from record to running, with a helper and a guest that live in the test: what a start does, and undoes.
 * Run by meson test. */
#include "vm-world.h"

static void
test_add_refuses (World *world, gconstpointer data)
{
  make_vm (world, "web");
  static const struct {
    const char *name;
    BangerVmSpec spec;
    BangerError code;
    const char *text;
  } rows[] = {
    { "web", { 0 }, BANGER_ERROR_VM_EXISTS },
    { "Web", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "a.b", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "x", { .image = "nope" }, BANGER_ERROR_NO_SUCH_IMAGE },
    { "x", { .vcpus = 33 }, BANGER_ERROR_INVALID_SIZE, "33 virtual CPUs: a VM has 1 to 32" },
    { "x", { .memory_mib = 127 }, BANGER_ERROR_INVALID_SIZE, "127 MiB of memory: a VM has 128 MiB to 2 GiB" },
    { "x", { .memory_mib = 2049 }, BANGER_ERROR_INVALID_SIZE, "to 2 GiB here (limits.total-memory-mib)" },
    { "x", { .disk_bytes = 4095 }, BANGER_ERROR_INVALID_SIZE, "of work disk: a VM has 16 MiB to 16 TiB" },
  };
  world->install.max_memory_mib = 4096;
  world->install.max_total_memory_mib = 2048;
  g_autofree char *before = g_strdup (world->changes->str);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (banger_vms_add (world->vms, rows[i].name, &rows[i].spec, &error));
    g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
    g_assert_nonnull (strstr (error->message, rows[i].text ? rows[i].text : ""));
  }
  g_assert_cmpstr (world->changes->str, ==, before); /* nothing was announced, nothing made */
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_nonnull (g_dir_read_name (dir));
  g_assert_null (g_dir_read_name (dir));
}

/* What is not asked for is the owner's default, as it is at that time. */
static void
test_defaults_of_the_owner (World *world, gconstpointer data)
{
  static const char text[] = "[vm_defaults]\nvcpu = 7\nmemory = \"256M\"\ndisk-size = \"32M\"\n";
  static const BangerVmSpec nothing = { 0 }, all = { .vcpus = 1, .memory_mib = 128, .disk_bytes = 64 << 20 };
  const BangerVmRecord *record = banger_vm_record (banger_vms_add (world->vms, "a", &nothing, NULL));
  g_assert_cmpuint (record->vcpus, ==, 2);
  banger_config_free (world->config);
  world->config = banger_config_parse (text, strlen (text), "config.toml");
  record = banger_vm_record (banger_vms_add (world->vms, "b", &nothing, NULL));
  g_assert_cmpuint (record->vcpus, ==, 7);
  g_assert_cmpuint (record->memory_mib, ==, 256);
  g_assert_cmpuint (record->disk_bytes, ==, 32 << 20);
  record = banger_vm_record (banger_vms_add (world->vms, "c", &all, NULL));
  g_assert_cmpuint (record->vcpus, ==, 1);
  g_assert_cmpuint (record->memory_mib, ==, 128);
  g_assert_cmpuint (record->disk_bytes, ==, 64 << 20);
}

static void
test_addresses_and_limit (World *world, gconstpointer data)
{
  static const char *const names[] = { "a", "b", "c", "d" };
  for (guint i = 0; i < 4; i++) {
    g_autofree char *expected = guest_address_of (i + 2);
    g_assert_cmpstr (banger_vm_record (make_vm (world, names[i]))->address, ==, expected);
  }
  BangerVmSpec spec = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_null (banger_vms_add (world->vms, "e", &spec, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
}

/* It is ready when its agent is, and told apart; a disk that ran may have an ssh server at the next start. */
static void
test_guest_without_ssh (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  g_assert_cmpstr (banger_vm_record (vm)->ssh_server, ==, "");
  fake.no_sshd = TRUE;
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpstr (banger_vm_record (vm)->ssh_server, ==, "missing");
  const BangerVmVerbOptions import = { .path = "/" };
  g_assert_nonnull (begin (world, vm, BANGER_VM_VERB_IMPORT_WORKSPACE, &import)); /* through its agent */
  run_until (&world->done);
  fake.no_sshd = FALSE;
  if (!sshd_up (world))
    return;
  verb (world, vm, BANGER_VM_VERB_RESTART, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpstr (banger_vm_record (vm)->ssh_server, ==, "found");
  const BangerVmVerbOptions relative = { .path = "rel\xe9" };
  g_assert_null (begin (world, vm, BANGER_VM_VERB_IMPORT_WORKSPACE, &relative));
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_INVALID_PATH);
  g_assert_cmpstr (world->error->message, ==, "path 'rel\\xe9': an absolute path is needed");
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
}

/* Of the image, and nothing that would be another line of the guest's configuration. */
static void
test_init (World *world, gconstpointer data)
{
  static const char *const refused[] = { "", "init", "/a\nroot=/dev/vdz" };
  for (guint i = 0; i < G_N_ELEMENTS (refused); i++) {
    g_autoptr (GError) error = NULL;
    BangerVmSpec spec = { .init = refused[i] };
    g_assert_null (banger_vms_add (world->vms, "web", &spec, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ARGS);
  }
  g_autoptr (GError) error = NULL;
  BangerVmSpec spec = { .init = "/opt/my init" };
  BangerVm *vm = banger_vms_add (world->vms, "web", &spec, &error);
  g_assert_no_error (error);
  g_assert_cmpstr (banger_vm_record (vm)->init, ==, "/opt/my init");
  banger_vm_drop (vm);
}

/* How often that was logged since @path was begun. */
static guint
count_in (const char *path, const char *text)
{
  g_autofree char *log = NULL;
  g_assert_true (g_file_get_contents (path, &log, NULL, NULL));
  guint n = 0;
  for (const char *at = log; (at = strstr (at, text)); at += strlen (text))
    n++;
  return n;
}

static gboolean
on_time (gpointer flag)
{
  *(gboolean *)flag = TRUE;
  return G_SOURCE_REMOVE;
}

/* So long that a console is looked at some times. */
static void
let_look (void)
{
  gboolean over = FALSE;
  g_timeout_add (500, on_time, &over);
  while (!over)
    g_main_context_iteration (NULL, TRUE);
}

/* A console log that cannot be cut is told of once, and again when that was mended meanwhile. */
static void
test_console_is_told_of_once (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_autofree char *console = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "console.log", NULL);
  g_autofree char *aside = g_strconcat (console, ".aside", NULL), *log = g_build_filename (world->top, "log", NULL);
  int err = dup (STDERR_FILENO), file = open (log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  g_assert_cmpint (dup2 (file, STDERR_FILENO), ==, STDERR_FILENO);
  for (guint times = 1; times <= 2; times++) {
    g_assert_cmpint (rename (console, aside), ==, 0);
    g_assert_cmpint (symlink (aside, console), ==, 0);
    let_look ();
    guint told = count_in (log, "the console log is not cut");
    g_assert_cmpint (rename (aside, console), ==, 0);
    let_look ();
    if (told != times)
      dup2 (err, STDERR_FILENO);
    g_assert_cmpuint (told, ==, times);
  }
  g_assert_cmpint (dup2 (err, STDERR_FILENO), ==, STDERR_FILENO);
  close (file);
  close (err);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
}

static void
test_start_stop (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  const BangerVmRecord *record = banger_vm_record (vm);
  assert_state (vm, BANGER_VM_RUNNING);
  g_assert_cmpuint (record->pid, >, 0);
  g_assert_cmpstr (record->boot_id, ==, "boot-1");
  g_assert_cmpstr (record->root, ==, "file");
  g_assert_cmpuint (fake.memory_mib, ==, record->memory_mib); /* what bounds the VMM is what the guest gets */
  g_assert_nonnull (strstr (fake.story->str, "PUT/machine-config PUT/boot-source PUT/drives/rootfs PUT/drives/work "
                                             "PUT/network-interfaces/eth0 PUT/vsock PUT/actions "));
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  assert_state (vm, BANGER_VM_STOPPED);
  g_assert_cmpuint (record->pid, ==, 0);
  g_assert_cmpuint (fake_count ("KillVmm"), ==, 0); /* the guest went by itself */
  assert_nothing_left (world, vm);
  g_assert_cmpstr (world->changes->str, ==, "added stopped starting running stopping stopped ");
  g_autofree char *files = folder_listing (world, vm);
  g_assert_nonnull (strstr (files, "rootfs.ext4"));
  g_assert_nonnull (strstr (files, "work.ext4"));
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_null (g_dir_read_name (dir));
}

static void
remove_vm_file (World *world, BangerVm *vm, const char *name)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, name, NULL);
  g_assert_cmpint (g_unlink (path), ==, 0);
}

/* What a VM wrote over its image is the helper's file: made at its first start, there at each later one, written out at
 * a stop, and gone before the record is. */
static void
test_snapshot_disk (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  fake.no_snapshots = FALSE;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_assert_true (fake.fresh);
  g_autofree char *files = folder_listing (world, vm);
  g_assert_null (strstr (files, "cow"));
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("SyncDisk"), ==, 1);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_assert_false (fake.fresh);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_cmpuint (fake_count ("DeleteDisk"), ==, 0);
  fake.fail = "DeleteDisk";
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_assert_true (banger_vms_find (world->vms, "web", NULL) == vm); /* else nobody would know whose the disk is */
  fake.fail = NULL;
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
  guint before = fake_count ("DeleteDisk"); /* a first start that was cut off may have made one */
  make_vm (world, "cut");
  crash (world);
  verb (world, banger_vms_find (world->vms, "cut", NULL), BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
  g_assert_cmpuint (fake_count ("DeleteDisk"), ==, before + 1);
  fake.away = TRUE;
  verb (world, make_vm (world, "new"), BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
}

/* A disk that a VM wrote to is not silently an empty one, and one that its owner wrote is not used. */
static void
test_missing_disk (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  fake.no_snapshots = FALSE;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  remove_vm_file (world, vm, "work.ext4");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  g_assert_nonnull (strstr (world->error->message, "work.ext4"));
  g_autofree char *files = folder_listing (world, vm);
  g_assert_null (strstr (files, "work.ext4"));
  assert_state (vm, BANGER_VM_STOPPED);
  g_autofree char *name = g_strdup_printf ("state/%u/vms/%s/work.ext4", getuid (), banger_vm_record (vm)->id);
  make_file (world, name, "put back");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_autofree char *old = g_strdup_printf ("state/%u/vms/%s/cow", getuid (), banger_vm_record (vm)->id);
  make_file (world, old, "of an older banger");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  g_assert_nonnull (strstr (world->error->message, "older banger"));
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL);
  g_assert_no_error (world->error);
}

/* A running VM whose record says "starting" would be taken back, disks and all, by the next bangerd. */
static void
test_running_is_recorded_or_not_at_all (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  g_autofree char *blocker = g_build_filename (world->vms_path, banger_vm_record (vm)->id, ".record.json.tmp", NULL);
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("LaunchVmm");
  g_assert_cmpint (g_mkdir (blocker, 0700), ==, 0); /* no record can be written */
  run_until (&world->done);
  g_assert_nonnull (world->error);
  g_assert_nonnull (strstr (world->error->message, "cannot be recorded"));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
  g_autofree char *files = folder_listing (world, vm);
  g_assert_cmpstr (files, ==, nothing_made);
  g_assert_cmpstr (banger_vm_record (vm)->root, ==, "");
  g_assert_cmpint (g_rmdir (blocker), ==, 0);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
}

/* The root disk is not flushed while the guest runs: what a stop in order left must survive a power loss. */
static void
test_stop_is_durable (World *world, gconstpointer data)
{
  static const char *const disks[] = { "rootfs.ext4", "work.ext4" };
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  synced = g_hash_table_new (NULL, NULL);
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  g_assert_no_error (world->error);
  for (guint i = 0; i < G_N_ELEMENTS (disks); i++) {
    g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, disks[i], NULL);
    struct stat st;
    g_assert_cmpint (stat (path, &st), ==, 0);
    g_assert_true (g_hash_table_contains (synced, GSIZE_TO_POINTER (st.st_ino)));
  }
  g_mutex_lock (&synced_lock);
  g_clear_pointer (&synced, g_hash_table_unref);
  g_mutex_unlock (&synced_lock);
}

/* A stop whose last writes did not arrive is not called done, and the VM is stopped all the same. */
static void
test_stop_tells_of_lost_writes (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "work.ext4", NULL);
  struct stat st;
  g_assert_cmpint (stat (path, &st), ==, 0);
  sync_fails = st.st_ino;
  verb (world, vm, BANGER_VM_VERB_STOP, NULL);
  sync_fails = 0;
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_assert_nonnull (strstr (world->error->message, "not all that it wrote is on the disk: cannot write work.ext4"));
  assert_state (vm, BANGER_VM_STOPPED);
  g_assert_nonnull (strstr (banger_vm_record (vm)->reason, "not all that it wrote"));
  assert_nothing_left (world, vm);
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
}

/* What is said of a VM that is stopped helps. */
static void
test_advice (World *world, gconstpointer data)
{
  static const struct {
    BangerVmVerb verb;
    const char *message;
  } rows[] = {
    { BANGER_VM_VERB_STOP, "web is stopped" },
    { BANGER_VM_VERB_KILL, "web is stopped" },
    { BANGER_VM_VERB_RESTART, "web is stopped: start it first" },
    { BANGER_VM_VERB_IMPORT_WORKSPACE, "web is stopped: start it first" },
  };
  BangerVm *vm = make_vm (world, "web");
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    static const BangerVmVerbOptions options = { .path = "/" };
    g_assert_null (begin (world, vm, rows[i].verb, &options));
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    g_assert_cmpstr (world->error->message, ==, rows[i].message);
  }
  BangerVmSpec spec = { .disk_bytes = G_GUINT64_CONSTANT (17) << 40 };
  g_autoptr (GError) error = NULL;
  g_assert_null (banger_vms_add (world->vms, "big", &spec, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_SIZE);
  g_assert_nonnull (strstr (error->message, "17 TiB of work disk: a VM has 16 MiB to 16 TiB"));
}

/* Each helper method and each request to the VMM fails once: what began is undone, last first; the VM can go on. */
static void
test_start_fails_anywhere (World *world, gconstpointer data)
{
  static const char *const points[] = { "PrepareVm", "LaunchVmm", "/machine-config", "/vsock", "/actions" };
  BangerVm *vm = make_vm (world, "web");
  for (guint i = 0; i < G_N_ELEMENTS (points); i++) {
    fake.fail = points[i];
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    fake.fail = NULL;
    g_assert_nonnull (world->error);
    g_assert_nonnull (strstr (world->error->message, points[i]));
    assert_state (vm, BANGER_VM_STOPPED);
    g_assert_true (g_str_has_prefix (banger_vm_record (vm)->reason, "start failed: "));
    assert_nothing_left (world, vm);
    run_until_settled (vm); /* what was being copied meanwhile goes when its worker has ended */
    g_autofree char *files = folder_listing (world, vm);
    g_assert_cmpstr (files, ==, nothing_made);
  }
}

static void
test_undo_goes_on (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake.fail = "LaunchVmm";
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 1);
  g_assert_cmpuint (fake_count ("DeleteDisk"), ==, 0); /* it is a file of the owner's */
  fake.fail = "DeleteDisk";
  fake.no_snapshots = FALSE;
  fake.deaf_guest = TRUE;
  g_string_truncate (fake.story, 0);
  BangerJob *job = begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("LaunchVmm");
  g_assert_true (banger_job_cancel (job, NULL));
  run_until (&world->done);
  g_assert_nonnull (strstr (world->error->message, "undo prepare: DeleteDisk fails"));
  g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 1);
  assert_nothing_left (world, vm);
}

/* A start asks the helper twice until the VMM runs; once more where it finds what nobody knew of any more. */
static void
test_calls_of_a_start (World *world, gconstpointer data)
{
  static const char *const methods[] = { "PrepareVm", "LaunchVmm", "ReleaseVm" };
  for (guint round = 0; round < 2; round++) {
    g_autofree char *name = g_strdup_printf ("web%u", round);
    BangerVm *vm = make_vm (world, name);
    fake.rests = round == 1;
    fake.deaf_guest = TRUE;
    g_string_truncate (fake.story, 0);
    BangerJob *job = begin (world, vm, BANGER_VM_VERB_START, NULL);
    run_until_story ("PUT/actions");
    for (guint i = 0; i < G_N_ELEMENTS (methods); i++)
      g_assert_cmpuint (fake_count (methods[i]), ==, round == 0 ? i < 2 : i == 0 ? 2 : 1);
    g_assert_true (g_str_has_prefix (fake.story->str, round ? "PrepareVm ReleaseVm PrepareVm LaunchVmm PUT/"
                                                            : "PrepareVm LaunchVmm PUT/"));
    g_assert_true (banger_job_cancel (job, NULL));
    run_until (&world->done);
    assert_nothing_left (world, vm);
  }
}

static void
test_cancel_start (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  BangerJob *job = begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  g_assert_true (banger_job_cancel (job, NULL));
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

/* Stop, kill and a forced delete end a start under way. */
static void
test_interrupt_start (World *world, gconstpointer data)
{
  static const BangerVmVerbOptions force = { .force = TRUE };
  static const BangerVmVerb verbs[] = { BANGER_VM_VERB_STOP, BANGER_VM_VERB_KILL, BANGER_VM_VERB_DELETE };
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  for (guint i = 0; i < G_N_ELEMENTS (verbs); i++) {
    gboolean start_ended = FALSE;
    g_string_truncate (fake.story, 0);
    begin_aside (world, vm, BANGER_VM_VERB_START, on_start_ended, &start_ended);
    run_until_story ("PUT/actions");
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    verb (world, vm, verbs[i], &force);
    g_assert_no_error (world->error);
    g_assert_true (start_ended);
    g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  }
  g_assert_null (banger_vms_find (world->vms, "web", NULL));
}

static void
test_vmm_dies_while_starting (World *world, gconstpointer data)
{
  BangerVm *vm = make_vm (world, "web");
  fake.deaf_guest = TRUE;
  begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("PUT/actions");
  g_assert_true (g_file_set_contents (banger_vm_console_log (vm), "booting\nKernel panic\x1b[1m\n", -1, NULL));
  kill ((pid_t)GPOINTER_TO_INT (g_hash_table_lookup (fake.leases, banger_vm_record (vm)->id)), SIGKILL);
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_ENGINE_FAILED);
  g_assert_nonnull (strstr (world->error->message, "Kernel panic\\x1b[1m"));
  assert_state (vm, BANGER_VM_STOPPED);
  assert_nothing_left (world, vm);
}

static void
add_tests (void)
{
  ADD ("add-refuses", test_add_refuses);
  ADD ("defaults-of-the-owner", test_defaults_of_the_owner);
  ADD ("addresses-and-limit", test_addresses_and_limit);
  ADD ("image-without-ssh", test_guest_without_ssh);
  ADD ("init", test_init);
  ADD ("console-is-told-of-once", test_console_is_told_of_once);
  ADD ("start-stop", test_start_stop);
  ADD ("snapshot-disk", test_snapshot_disk);
  ADD ("missing-disk", test_missing_disk);
  ADD ("running-is-recorded-or-not-at-all", test_running_is_recorded_or_not_at_all);
  ADD ("stop-is-durable", test_stop_is_durable);
  ADD ("stop-tells-of-lost-writes", test_stop_tells_of_lost_writes);
  ADD ("advice", test_advice);
  ADD ("start-fails-anywhere", test_start_fails_anywhere);
  ADD ("undo-goes-on", test_undo_goes_on);
  ADD ("calls-of-a-start", test_calls_of_a_start);
  ADD ("cancel-start", test_cancel_start);
  ADD ("interrupt-start", test_interrupt_start);
  ADD ("vmm-dies-while-starting", test_vmm_dies_while_starting);
}

int
main (int argc, char **argv)
{
  return vm_world_main (argc, argv, 213, add_tests);
}
