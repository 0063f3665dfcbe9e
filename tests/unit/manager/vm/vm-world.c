/* A house for VMs of the real code, with a helper and a guest that live in the test.
 * Never touches the host's network or the caller's files. */
#include "vm-world.h"

#define UNDO_SECONDS 1
#include "manager/core/steps.c"

static guint own_net, own_run; /* 127.NET.RUN.0/24: of this program, and of this one of several that run at once */

/* Stands before libc's: remembers what was synced, by inode. Disks are synced in worker threads. */
GMutex synced_lock;
GHashTable *synced;
ino_t sync_fails; /* of a disk whose writes do not arrive */
ino_t sync_hangs; /* of one that does not answer; syncs that wait for it: */
guint syncs_waiting;

int
fsync (int fd)
{
  struct stat st;
  g_mutex_lock (&synced_lock);
  if (synced && fstat (fd, &st) == 0)
    g_hash_table_add (synced, GSIZE_TO_POINTER (st.st_ino));
  gboolean fails = sync_fails && fstat (fd, &st) == 0 && st.st_ino == sync_fails;
  gboolean hangs = sync_hangs && fstat (fd, &st) == 0 && st.st_ino == sync_hangs;
  syncs_waiting += hangs;
  for (; hangs && sync_hangs; g_mutex_lock (&synced_lock)) {
    g_mutex_unlock (&synced_lock);
    g_usleep (1000);
  }
  syncs_waiting -= hangs;
  g_mutex_unlock (&synced_lock);
  errno = EIO;
  return fails ? -1 : (int)syscall (SYS_fsync, fd);
}

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
on_added (BangerObjectKind kind, const char *id, gpointer user_data)
{
  g_string_append (((World *)user_data)->changes, "added ");
}

static void
on_removed (BangerObjectKind kind, const char *id, gpointer user_data)
{
  g_string_append (((World *)user_data)->changes, "removed ");
}

static void
on_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer user_data)
{
  World *world = user_data;
  if (g_strv_contains (properties, "State"))
    g_string_append_printf (
        world->changes, "%s ",
        banger_vm_state_to_string ((BangerVmState)banger_vm_record (banger_vms_find_id (world->vms, id))->state));
}

static void
on_unreadable (const char *name, const GError *why, gpointer user_data)
{
  g_string_append_printf (((World *)user_data)->changes, "unreadable:%s ", name);
}

static void
on_job_in_table (BangerObjectKind kind, const char *id, gpointer user_data)
{
}

static void
on_job_changed (BangerObjectKind kind, const char *id, const char *const *properties, gpointer user_data)
{
}

static void
on_job (BangerJob *job, gpointer user_data)
{
}

static const BangerJobObserver jobs_observer = { { on_job_in_table, on_job_in_table, on_job_changed }, on_job, on_job };

static const BangerConfig *
owner_config (gpointer user_data)
{
  return ((World *)user_data)->config;
}

static const BangerVmSources sources = { find_image, find_kernel, owner_config };
static const BangerVmObserver observer = { { on_added, on_removed, on_changed }, on_unreadable };

void
make_file (World *world, const char *name, const char *content)
{
  g_autofree char *path = g_build_filename (world->top, name, NULL);
  g_autofree char *folder = g_path_get_dirname (path);
  g_assert_cmpint (g_mkdir_with_parents (folder, 0700), ==, 0);
  g_assert_true (g_file_set_contents (path, content, -1, NULL));
  g_assert_cmpint (g_chmod (path, 0600), ==, 0);
}

void
load (World *world)
{
  g_autoptr (GError) error = NULL;
  world->vms = banger_vms_new (&world->install, world->helper, world->writer, &sources, &observer, world, &error);
  g_assert_no_error (error);
}

/* As after a crash: nothing is said to anybody. */
void
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
char *
guest_address_of (guint number)
{
  return g_strdup_printf ("127.%u.%u.%u", own_net, own_run, number);
}

gboolean
sshd_up (World *world)
{
  world->sshd = g_socket_service_new ();
  g_autofree char *text = guest_address_of (2);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string (text, 22);
  g_signal_connect (world->sshd, "incoming", G_CALLBACK (on_ssh), NULL);
  if (g_socket_listener_add_address (G_SOCKET_LISTENER (world->sshd), address, G_SOCKET_TYPE_STREAM, 0, NULL, NULL,
                                     NULL))
    return TRUE;
  g_test_skip ("cannot listen on port 22 of a loopback address");
  return FALSE;
}

void
world_up (World *world, gconstpointer data)
{
  world->top = g_dir_make_tmp ("vm-XXXXXX", NULL);
  world->changes = g_string_new (NULL);
  g_autofree char *uid = g_strdup_printf ("%u", getuid ());
  world->config = banger_config_parse ("", 0, "config.toml");
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
  world->hang = g_build_filename (world->top, "hang", NULL);
  g_setenv (BANGER_ENV_FAULT_HANG, world->hang, TRUE);
  static char bridge_address[32];
  g_snprintf (bridge_address, sizeof bridge_address, "127.%u.%u.1/24", own_net, own_run);
  world->install = (BangerInstall){ .owner_uid = getuid (),
                                    .bridge = (char *)"br-fc",
                                    .max_vms = 4,
                                    .guest_seconds = 30,
                                    .bridge_address = bridge_address };
  world->install.state_dir = g_build_filename (world->top, "state", NULL);
  world->install.runtime_dir = g_build_filename (world->top, "run", NULL);
  world->jobs_table = banger_jobs_new (&jobs_observer, NULL);
  fake_helper_up (run);
  fake.vms_path = world->vms_path;
  world->helper = banger_helper_new (64);
  world->writer = banger_writer_new ();
  load (world);
}

void
world_down (World *world, gconstpointer data)
{
  fake_helper_resume ();
  while (g_main_context_iteration (NULL, FALSE) || world->vms->reconciling)
    ; /* no answer comes to a table that is gone */
  banger_vms_free (world->vms);
  banger_writer_free (world->writer);
  fake_helper_down ();
  banger_helper_free (world->helper);
  if (world->sshd) {
    g_socket_service_stop (world->sshd);
    g_socket_listener_close (G_SOCKET_LISTENER (world->sshd));
  }
  g_clear_object (&world->sshd);
  banger_jobs_free (world->jobs_table);
  const char *argv[] = { "rm", "-rf", "--", world->top, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  g_clear_error (&world->error);
  g_string_free (world->changes, TRUE);
  g_free (world->install.state_dir);
  g_free (world->install.runtime_dir);
  banger_config_free (world->config);
  g_free (world->vms_path);
  g_free (world->hang);
  g_free (world->top);
}

static void
on_verb (BangerJob *job, const GError *error, gpointer user_data)
{
  World *world = user_data;
  g_clear_error (&world->error);
  world->error = error ? g_error_copy (error) : NULL;
  world->ok = !error;
  world->done = TRUE;
}

BangerJob *
begin (World *world, BangerVm *vm, BangerVmVerb verb, const BangerVmVerbOptions *options)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", world->jobs++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = TRUE };
  g_autoptr (GError) error = NULL;
  BangerJob *job = banger_vm_job_new (vm, verb, options, world->jobs_table, &spec, &error);
  world->done = FALSE;
  if (!job) {
    on_verb (NULL, error, world);
    return NULL;
  }
  banger_job_keep (job, on_verb, world);
  banger_job_begin (job);
  return job;
}

gboolean
on_deadline (gpointer user_data)
{
  g_assert_not_reached ();
  return G_SOURCE_REMOVE;
}

void
run_until (gboolean *flag)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (!*flag)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

void
run_until_story (const char *word)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (fake_count (word) == 0)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

void
run_until_state (BangerVm *vm, BangerVmState state)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (banger_vm_record (vm)->state != (int)state)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

void
verb (World *world, BangerVm *vm, BangerVmVerb which, const BangerVmVerbOptions *options)
{
  begin (world, vm, which, options);
  run_until (&world->done);
}

BangerVm *
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

void
assert_state (BangerVm *vm, BangerVmState state)
{
  g_assert_cmpstr (banger_vm_state_to_string ((BangerVmState)banger_vm_record (vm)->state), ==,
                   banger_vm_state_to_string (state));
}

char *
folder_listing (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  GList *names = NULL;
  for (const char *name; dir && (name = g_dir_read_name (dir));)
    if (!g_str_equal (name, "console.log") && !g_str_equal (name, ".record.json.tmp")) /* which come and go */
      names = g_list_insert_sorted (names, g_strdup (name), (GCompareFunc)strcmp);
  g_autoptr (GString) text = g_string_new (NULL);
  for (GList *at = names; at; at = at->next)
    g_string_append_printf (text, "%s%s", at == names ? "" : " ", (char *)at->data);
  g_list_free_full (names, g_free);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

gboolean
run_folder_exists (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (fake.run_root, banger_vm_record (vm)->id, NULL);
  return g_file_test (path, G_FILE_TEST_EXISTS);
}

const char nothing_made[] = "record.json ssh_host_ed25519_key ssh_host_ed25519_key.pub";

void
assert_nothing_left (World *world, BangerVm *vm)
{
  g_assert_cmpuint (g_hash_table_size (fake.leases), ==, 0);
  g_assert_false (run_folder_exists (world, vm));
}

void
run_until_settled (const BangerVm *vm)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (vm->behind > 0)
    g_main_context_iteration (NULL, FALSE);
  g_source_remove (deadline);
}

void
on_start_ended (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  *(gboolean *)user_data = TRUE;
}

BangerJob *
begin_aside (World *world, BangerVm *vm, BangerVmVerb which, BangerJobEnd end, gboolean *flag)
{
  g_autofree char *op_id = g_strdup_printf ("op-%08x", world->jobs++);
  BangerJobSpec spec = { .kind = "test", .op_id = op_id, .cancelable = TRUE };
  BangerJob *job = banger_vm_job_new (vm, which, NULL, world->jobs_table, &spec, NULL);
  banger_job_keep (job, end, flag);
  banger_job_begin (job);
  return job;
}

void
on_fine (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_no_error (error);
  *(gboolean *)user_data = TRUE;
}

void
reconcile (World *world)
{
  guint before = fake_count ("ListLeases");
  banger_vms_reconcile (world->vms, NULL, NULL);
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
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

void
run_until_count (const char *word, guint n)
{
  guint deadline = g_timeout_add_seconds (120, on_deadline, NULL);
  while (fake_count (word) < n)
    g_main_context_iteration (NULL, TRUE);
  g_source_remove (deadline);
}

void
hang_at (World *world, const char *stages)
{
  g_autofree char *new_hang = g_strconcat (world->hang, ".new", NULL);
  g_assert_true (g_file_set_contents (new_hang, stages, -1, NULL));
  g_assert_cmpint (g_rename (new_hang, world->hang), ==, 0);
}

void
on_given_up (BangerJob *job, const GError *error, gpointer user_data)
{
  g_assert_nonnull (error);
  *(gboolean *)user_data = TRUE;
}

char *
recorded_state (World *world, BangerVm *vm)
{
  g_autofree char *path = g_build_filename (world->vms_path, banger_vm_record (vm)->id, "record.json", NULL);
  g_autofree char *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  const char *at = strstr (text, "\"state\"");
  g_assert_nonnull (at);
  g_auto (GStrv) words = g_strsplit (at, "\"", 5);
  return g_strdup (words[3]);
}

int
vm_world_main (int argc, char **argv, guint net, void (*add) (void))
{
  g_autofree char *config = g_dir_make_tmp ("vm-config-XXXXXX", NULL);
  g_setenv ("XDG_CONFIG_HOME", config, TRUE);
  g_test_init (&argc, &argv, NULL);
  own_net = net;
  own_run = (guint)getpid () % 255;
  add ();
  int result = g_test_run ();
  const char *rm[] = { "rm", "-rf", "--", config, NULL };
  g_spawn_sync (NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
  return result;
}
