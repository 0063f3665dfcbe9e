/* VMs from record to running and back, with a helper and a guest that live in the test: states, undo, crashes.
 * Run by meson test.
 * Never touches the host's network or the caller's files. */
#include "fake-helper.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/error.h"
#include "common/names.h"
#include "manager/manager.h"
#include "manager/vm.h"

#define IMAGE "aaaaaaaaaaaa"
#define KERNEL "bbbbbbbbbbbb"

/* Stands before libc's: remembers what was synced, by inode. Disks are synced in worker threads. */
static GMutex synced_lock;
static GHashTable *synced;

int
fsync (int fd)
{
  struct stat st;
  g_mutex_lock (&synced_lock);
  if (synced && fstat (fd, &st) == 0)
    g_hash_table_add (synced, GSIZE_TO_POINTER (st.st_ino));
  g_mutex_unlock (&synced_lock);
  return (int)syscall (SYS_fsync, fd);
}

typedef struct {
  char *top, *vms_path;
  BangerInstall install;
  BangerHelper *helper;
  BangerVms *vms;
  BangerManager manager; /* jobs need one */
  GSocketService *sshd;
  GString *changes;
  gboolean done, ok;
  GError *error;
  guint jobs;
} World;

static gboolean
source_for (World *world, const char *folder, const char *id, BangerVmSource *ret)
{
  g_autofree char *path = g_build_filename (world->top, folder, NULL);
  *ret = (BangerVmSource){
    .id = g_strdup (id), .name = g_strdup ("default"), .rootfs_bytes = 8192, .seed_bytes = 4096
  };
  ret->dir_fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return TRUE;
}

static gboolean
find_image (const char *name, BangerVmSource *ret, gpointer user_data, GError **error)
{
  if (name && !g_str_equal (name, IMAGE) && !g_str_equal (name, "default"))
    return banger_set_error (error, BANGER_ERROR_NO_SUCH_IMAGE, "no image is called '%s'", name);
  return source_for (user_data, "image", IMAGE, ret);
}

static gboolean
find_kernel (const char *name, BangerVmSource *ret, gpointer user_data, GError **error)
{
  return source_for (user_data, "kernel", KERNEL, ret);
}

static void
on_added (const char *id, gpointer user_data)
{
  g_string_append (((World *)user_data)->changes, "added ");
}

static void
on_removed (const char *id, gpointer user_data)
{
  g_string_append (((World *)user_data)->changes, "removed ");
}

static void
on_changed (const char *id, const char *const *properties, gpointer user_data)
{
  World *world = user_data;
  if (g_strv_contains (properties, "State"))
    g_string_append_printf (
        world->changes, "%s ",
        banger_vm_state_to_string ((BangerVmState)banger_vm_record (banger_vms_find_id (world->vms, id))->state));
}

static void
on_set_aside (const char *new_name, const GError *why, gpointer user_data)
{
  g_string_append_printf (((World *)user_data)->changes, "aside:%s ", new_name);
}

static const BangerVmSources sources = { find_image, find_kernel };
static const BangerVmObserver observer = { on_added, on_removed, on_changed, on_set_aside };

static void
make_file (World *world, const char *name, const char *content)
{
  g_autofree char *path = g_build_filename (world->top, name, NULL);
  g_autofree char *folder = g_path_get_dirname (path);
  g_assert_cmpint (g_mkdir_with_parents (folder, 0700), ==, 0);
  g_assert_true (g_file_set_contents (path, content, -1, NULL));
  g_assert_cmpint (g_chmod (path, 0600), ==, 0);
}

static void
load (World *world)
{
  g_autoptr (GError) error = NULL;
  world->vms = banger_vms_new (&world->install, world->helper, &sources, &observer, world, &error);
  g_assert_no_error (error);
}

/* As after a crash: nothing is said to anybody. */
static void
crash (World *world)
{
  banger_vms_free (world->vms);
  world->vms = NULL;
  g_string_truncate (world->changes, 0);
  load (world);
}

static gboolean
on_ssh (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer user_data)
{
  g_output_stream_write_all (g_io_stream_get_output_stream (G_IO_STREAM (connection)), "SSH-2.0-test\r\n", 14, NULL,
                             NULL, NULL);
  return FALSE;
}

/* Guests of this network live on loopback; port 22 there needs root, or net.ipv4.ip_unprivileged_port_start. */
static gboolean
sshd_up (World *world)
{
  world->sshd = g_socket_service_new ();
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.213.77.2", 22);
  g_signal_connect (world->sshd, "incoming", G_CALLBACK (on_ssh), NULL);
  if (g_socket_listener_add_address (G_SOCKET_LISTENER (world->sshd), address, G_SOCKET_TYPE_STREAM, 0, NULL, NULL,
                                     NULL))
    return TRUE;
  g_test_skip ("cannot listen on port 22 of a loopback address");
  return FALSE;
}

static void
world_up (World *world, gconstpointer data)
{
  world->top = g_dir_make_tmp ("vm-XXXXXX", NULL);
  world->changes = g_string_new (NULL);
  g_autofree char *uid = g_strdup_printf ("%u", getuid ());
  world->vms_path = g_build_filename (world->top, "state", uid, "vms", NULL);
  g_autofree char *run = g_build_filename (world->top, "run", uid, NULL);
  g_autofree char *config = g_build_filename (world->top, "config", NULL);
  g_assert_cmpint (g_mkdir_with_parents (world->vms_path, 0700) | g_mkdir_with_parents (run, 0700), ==, 0);
  make_file (world, "image/rootfs.ext4", "root disk of the image");
  make_file (world, "image/seed.ext4", "seed");
  make_file (world, "kernel/initrd", "");
  make_file (world, "guest", "binary");
  g_autofree char *guest = g_build_filename (world->top, "guest", NULL);
  g_setenv (BANGER_ENV_GUEST, guest, TRUE);
  world->install = (BangerInstall){ .owner_uid = getuid (),
                                    .bridge = (char *)"br-fc",
                                    .max_vms = 4,
                                    .guest_seconds = 30,
                                    .bridge_address = (char *)"127.213.77.1/24" };
  world->install.state_dir = g_build_filename (world->top, "state", NULL);
  world->install.runtime_dir = g_build_filename (world->top, "run", NULL);
  world->manager.jobs = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, (GDestroyNotify)banger_job_unref);
  fake_helper_up (run);
  world->helper = banger_helper_new ();
  load (world);
}

static void
world_down (World *world, gconstpointer data)
{
  banger_vms_free (world->vms);
  fake_helper_down ();
  banger_helper_free (world->helper);
  if (world->sshd) {
    g_socket_service_stop (world->sshd);
    g_socket_listener_close (G_SOCKET_LISTENER (world->sshd));
  }
  g_clear_object (&world->sshd);
  g_hash_table_unref (world->manager.jobs);
  const char *argv[] = { "rm", "-rf", "--", world->top, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  g_clear_error (&world->error);
  g_string_free (world->changes, TRUE);
  g_free (world->install.state_dir);
  g_free (world->install.runtime_dir);
  g_free (world->vms_path);
  g_free (world->top);
}

static void
on_verb (GObject *source, GAsyncResult *result, gpointer user_data)
{
  World *world = user_data;
  g_clear_error (&world->error);
  world->ok = banger_vm_verb_finish (NULL, result, &world->error);
  world->done = TRUE;
}

static BangerJob *
begin (World *world, BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", world->jobs++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = TRUE };
  BangerJob *job = banger_job_new (&world->manager, &spec, NULL);
  world->done = FALSE;
  banger_vm_verb_async (vm, verb, options, job, on_verb, world);
  return job;
}

static gboolean
on_deadline (gpointer user_data)
{
  g_assert_not_reached ();
  return G_SOURCE_REMOVE;
}

static void
run_until (gboolean *flag)
{
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (!*flag)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

static void
run_until_story (const char *word)
{
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (fake_count (word) == 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

static void
run_until_state (BangerVm *vm, BangerVmState state)
{
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (banger_vm_record (vm)->state != (int)state)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

static void
verb (World *world, BangerVm *vm, BangerVmVerb which, const BangerVmVerbOptions *options)
{
  begin (world, vm, which, options);
  run_until (&world->done);
}

static BangerVm *
make_vm (World *world, const char *name)
{
  BangerVmSpec spec = { .nat = TRUE };
  g_autoptr (GError) error = NULL;
  BangerVm *vm = banger_vms_add (world->vms, name, &spec, &error);
  g_assert_no_error (error);
  verb (world, vm, BANGER_VM_VERB_CREATE, NULL);
  g_assert_no_error (world->error);
  return vm;
}

static void
assert_state (BangerVm *vm, BangerVmState state)
{
  g_assert_cmpstr (banger_vm_state_to_string ((BangerVmState)banger_vm_record (vm)->state), ==,
                   banger_vm_state_to_string (state));
}

static char *
folder_listing (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  GList *names = NULL;
  for (const char *name; dir && (name = g_dir_read_name (dir));)
    names = g_list_insert_sorted (names, g_strdup (name), (GCompareFunc)strcmp);
  g_autoptr (GString) text = g_string_new (NULL);
  for (GList *at = names; at; at = at->next)
    g_string_append_printf (text, "%s%s", at == names ? "" : " ", (char *)at->data);
  g_list_free_full (names, g_free);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static gboolean
run_folder_exists (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (fake.run_root, banger_vm_record (vm)->id, NULL);
  return g_file_test (path, G_FILE_TEST_EXISTS);
}

static const char nothing_made[] = "console.log record.json ssh_host_ed25519_key ssh_host_ed25519_key.pub";

static void
assert_nothing_left (World *world, BangerVm *vm)
{
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  g_assert_false (run_folder_exists (world, vm));
}

static void
test_states (World *world, gconstpointer data)
{
  for (int i = 0; i < BANGER_N_VM_STATES; i++)
    g_assert_cmpint (banger_vm_state_from_string (banger_vm_state_to_string ((BangerVmState)i)), ==, i);
  g_assert_cmpint (banger_vm_state_from_string ("nope"), ==, -1);
  g_assert_cmpint (banger_vm_state_from_string (NULL), ==, -1);
}

static void
test_add_refuses (World *world, gconstpointer data)
{
  make_vm (world, "web");
  static const struct {
    const char *name;
    BangerVmSpec spec;
    BangerError code;
  } rows[] = {
    { "web", { 0 }, BANGER_ERROR_VM_EXISTS },
    { "Web", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "a.b", { 0 }, BANGER_ERROR_INVALID_NAME },
    { "x", { .image = "nope" }, BANGER_ERROR_NO_SUCH_IMAGE },
    { "x", { .vcpus = 33 }, BANGER_ERROR_INVALID_SIZE },
    { "x", { .memory_mib = 127 }, BANGER_ERROR_INVALID_SIZE },
    { "x", { .disk_bytes = 4095 }, BANGER_ERROR_INVALID_SIZE },
  };
  g_autofree char *before = g_strdup (world->changes->str);
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (banger_vms_add (world->vms, rows[i].name, &rows[i].spec, &error));
    g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
  }
  g_assert_cmpstr (world->changes->str, ==, before); /* nothing was announced, nothing made */
  g_autoptr (GDir) dir = g_dir_open (world->vms_path, 0, NULL);
  g_assert_nonnull (g_dir_read_name (dir));
  g_assert_null (g_dir_read_name (dir));
}

static void
test_addresses_and_limit (World *world, gconstpointer data)
{
  static const char *const names[] = { "a", "b", "c", "d" };
  for (guint i = 0; i < 4; i++) {
    g_autofree char *expected = g_strdup_printf ("127.213.77.%u", i + 2);
    g_assert_cmpstr (banger_vm_record (make_vm (world, names[i]))->address, ==, expected);
  }
  BangerVmSpec spec = { 0 };
  g_autoptr (GError) error = NULL;
  g_assert_null (banger_vms_add (world->vms, "e", &spec, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
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
    g_autoptr (GError) error = NULL;
    g_assert_false (banger_vm_check (vm, rows[i].verb, &options, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
    g_assert_cmpstr (error->message, ==, rows[i].message);
  }
  BangerVmSpec spec = { .disk_bytes = G_GUINT64_CONSTANT (17) << 40 };
  g_autoptr (GError) error = NULL;
  g_assert_null (banger_vms_add (world->vms, "big", &spec, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_SIZE);
  g_assert_nonnull (strstr (error->message, "(17 TiB): it must be 16 MiB to 16 TiB"));
}

/* Each helper method and each request to the VMM fails once: what began is undone, last first; the VM can go on. */
static void
test_start_fails_anywhere (World *world, gconstpointer data)
{
  static const char *const points[] = { "EnsureBridge", "CreateTap",       "EnsureNat", "CreateSnapshot",
                                        "LaunchVmm",    "/machine-config", "/vsock",    "/actions" };
  BangerVm *vm = make_vm (world, "web");
  for (guint i = 0; i < G_N_ELEMENTS (points); i++) {
    fake.fail = points[i];
    verb (world, vm, BANGER_VM_VERB_START, NULL);
    fake.fail = NULL;
    g_assert_nonnull (world->error);
    g_assert_true (g_str_has_prefix (world->error->message, "cannot start web: "));
    g_assert_nonnull (strstr (world->error->message, points[i]));
    assert_state (vm, BANGER_VM_STOPPED);
    g_assert_true (g_str_has_prefix (banger_vm_record (vm)->reason, "start failed: "));
    assert_nothing_left (world, vm);
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
  g_assert_cmpuint (fake_count ("RemoveSnapshot"), ==, 1);
  g_assert_cmpuint (fake_count ("RemoveNat"), ==, 1);
  g_assert_cmpuint (fake_count ("DeleteTap"), ==, 1);
  fake.fail = "DeleteTap";
  fake.no_snapshots = FALSE;
  fake.deaf_guest = TRUE;
  g_string_truncate (fake.story, 0);
  BangerJob *job = begin (world, vm, BANGER_VM_VERB_START, NULL);
  run_until_story ("LaunchVmm");
  g_assert_true (banger_job_cancel (job, NULL));
  run_until (&world->done);
  g_assert_nonnull (strstr (world->error->message, "undo create-tap: DeleteTap fails"));
  g_assert_cmpuint (fake_count ("RemoveSnapshot"), ==, 1);
  assert_nothing_left (world, vm);
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

static void
on_start_ended (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  g_assert_false (banger_vm_verb_finish (NULL, result, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  *(gboolean *)user_data = TRUE;
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
    g_autofree char *op_id = g_strdup_printf ("op-%08x", world->jobs++);
    BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = TRUE };
    BangerJob *job = banger_job_new (&world->manager, &spec, NULL);
    banger_vm_verb_async (vm, BANGER_VM_VERB_START, NULL, job, on_start_ended, &start_ended);
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
  g_assert_cmpint (g_get_monotonic_time () - since, <, G_USEC_PER_SEC);
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

static BangerJob *
begin_aside (World *world, BangerVm *vm, BangerVmVerb which, GAsyncReadyCallback callback, gboolean *flag)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", world->jobs++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = TRUE };
  BangerJob *job = banger_job_new (&world->manager, &spec, NULL);
  banger_vm_verb_async (vm, which, NULL, job, callback, flag);
  return job;
}

static void
on_fine (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  banger_vm_verb_finish (NULL, result, &error);
  g_assert_no_error (error);
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
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (stat (banger_vm_console_log (vm), &st) == 0 && st.st_size > 1 << 20)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
  g_assert_cmpint (st.st_size, >, 1000);
  verb (world, vm, BANGER_VM_VERB_KILL, NULL);
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
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
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
  banger_vms_reconcile (world->vms);
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
  banger_vms_reconcile (world->vms);
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
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
reconcile (World *world)
{
  guint before = fake_count ("ListLeases");
  banger_vms_reconcile (world->vms);
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (fake_count ("ListLeases") == before)
    g_main_context_iteration (NULL, TRUE);
  /* Verbs wait for its end: a refused one is the end. */
  BangerVmVerbOptions options = { 0 };
  g_autoptr (GPtrArray) list = banger_vms_list (world->vms);
  if (list->len > 0)
    verb (world, list->pdata[0], BANGER_VM_VERB_DELETE, &options);
  while (g_main_context_iteration (NULL, FALSE))
    ;
  g_source_remove (deadline);
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
  banger_helper_kill_vmm (world->helper, NULL, copy, NULL, NULL, NULL);
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
  banger_vms_reconcile (world->vms);
  BangerVm *found = banger_vms_find (world->vms, "web", NULL);
  run_until_state (found, BANGER_VM_STOPPED);
  g_assert_cmpstr (banger_vm_record (found)->reason, ==, "bangerd ended while it was starting");
  g_autofree char *files = folder_listing (world, found);
  g_assert_cmpstr (files, ==, nothing_made);
  assert_nothing_left (world, found);
  g_assert_false (g_file_test (orphan, G_FILE_TEST_EXISTS));
  run_until (&world->done); /* the dead one's start sees its VMM gone */
  banger_vms_free (dead);
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
  BangerVms *dead = g_steal_pointer (&world->vms); /* it waits for its guest: as good as dead */
  load (world);
  banger_vms_reconcile (world->vms);
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
  banger_vms_reconcile (world->vms);
  begin (world, vm, BANGER_VM_VERB_START, NULL); /* waits for reconcile, then says why not */
  run_until (&world->done);
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  assert_state (vm, BANGER_VM_STOPPED);
  verb (world, vm, BANGER_VM_VERB_DELETE, NULL); /* what is left could not be looked at */
  g_assert_error (world->error, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE);
  fake_helper_set_available (world->helper, TRUE); /* carried on by itself */
  guint deadline = g_timeout_add_seconds (30, on_deadline, NULL);
  while (banger_vms_find (world->vms, "web", NULL))
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
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
  g_assert_nonnull (strstr (world->changes->str, "aside:ffffffffffff.unreadable"));
  g_assert_false (g_file_test (half, G_FILE_TEST_EXISTS));
  g_assert_nonnull (banger_vms_find (world->vms, "web", NULL));
}

/* The record of a VM that runs is of a newer banger: neither it nor what it holds is touched. */
static void
test_broken_record_of_a_running_vm (World *world, gconstpointer data)
{
  if (!sshd_up (world))
    return;
  BangerVm *vm = make_vm (world, "web");
  verb (world, vm, BANGER_VM_VERB_START, NULL);
  g_assert_no_error (world->error);
  g_autofree char *id = g_strdup (banger_vm_record (vm)->id);
  g_autofree char *name = g_strdup_printf ("state/%u/vms/%s/record.json", getuid (), id);
  make_file (world, name, "{ \"version\": 99, \"kind\": \"vm\" }");
  pid_t pid = (pid_t)banger_vm_record (vm)->pid;
  for (guint i = 0; i < 2; i++) { /* the second time its folder has another name */
    crash (world);
    g_string_truncate (fake.story, 0);
    reconcile (world);
    g_assert_null (banger_vms_find (world->vms, "web", NULL));
    g_assert_cmpuint (fake_count ("ReleaseVm"), ==, 0);
    g_assert_true (g_hash_table_contains (fake.leases, id));
    g_assert_cmpint (kill (pid, 0), ==, 0);
  }
}

static void
test_fault_stages (World *world, gconstpointer data)
{
  const char *const *stages = banger_vm_fault_stages ();
  g_assert_cmpuint (g_strv_length ((char **)stages), ==, 15);
  g_assert_true (g_strv_contains (stages, "create-tap"));
}

int
main (int argc, char **argv)
{
  g_autofree char *config = g_dir_make_tmp ("vm-config-XXXXXX", NULL);
  g_setenv ("XDG_CONFIG_HOME", config, TRUE);
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/vm/" name, World, NULL, world_up, func, world_down)
  ADD ("states", test_states);
  ADD ("add-refuses", test_add_refuses);
  ADD ("addresses-and-limit", test_addresses_and_limit);
  ADD ("start-stop", test_start_stop);
  ADD ("running-is-recorded-or-not-at-all", test_running_is_recorded_or_not_at_all);
  ADD ("stop-is-durable", test_stop_is_durable);
  ADD ("advice", test_advice);
  ADD ("start-fails-anywhere", test_start_fails_anywhere);
  ADD ("undo-goes-on", test_undo_goes_on);
  ADD ("cancel-start", test_cancel_start);
  ADD ("interrupt-start", test_interrupt_start);
  ADD ("vmm-dies-while-starting", test_vmm_dies_while_starting);
  ADD ("vmm-dies", test_vmm_dies);
  ADD ("stubborn-guest", test_stubborn_guest);
  ADD ("kill-ends-a-stop", test_kill_ends_a_stop);
  ADD ("delete-ends-a-creation", test_delete_ends_a_creation);
  ADD ("console-is-bounded", test_console_is_bounded);
  ADD ("kill-and-restart", test_kill_and_restart);
  ADD ("ephemeral", test_ephemeral);
  ADD ("ephemeral-failure", test_ephemeral_failure);
  ADD ("ephemeral-is-new", test_ephemeral_is_new);
  ADD ("ephemeral-is-found", test_ephemeral_is_found);
  ADD ("ephemeral-queue", test_ephemeral_queue);
  ADD ("found-running", test_found_running);
  ADD ("found-dead", test_found_dead);
  ADD ("half-started", test_half_started);
  ADD ("stop-is-carried-on", test_stop_is_carried_on);
  ADD ("helper-away", test_helper_away);
  ADD ("broken-record", test_broken_record);
  ADD ("broken-record-of-a-running-vm", test_broken_record_of_a_running_vm);
  ADD ("fault-stages", test_fault_stages);
  int result = g_test_run ();
  const char *rm[] = { "rm", "-rf", "--", config, NULL };
  g_spawn_sync (NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  return result;
}
