/* One microVM: its configuration, its state and the QEMU behind it.
 * Never answers an action before QEMU did. */
#include "engine/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/console.h"
#include "engine/engine-log.h"
#include "engine/host.h"
#include "engine/metrics.h"
#include "engine/migration.h"
#include "engine/qemu-args.h"
#include "engine/qemu.h"
#include "engine/qmp.h"
#include "engine/vsock.h"

#define CTRL_ALT_DEL                                                                                                   \
  "{\"keys\":[{\"type\":\"qcode\",\"data\":\"ctrl\"},{\"type\":\"qcode\",\"data\":\"alt\"},"                           \
  "{\"type\":\"qcode\",\"data\":\"delete\"}]}"

struct BangerInstance {
  char *id, *qemu_path;
  BangerVmConfig *config;
  gboolean configured;
  char *memory_path;    /* of the file that is the guest's memory, or NULL */
  gboolean memory_lent; /* that file keeps what it had: what the guest writes is its own */
  BangerInstanceState state;
  BangerQemu *qemu;
  BangerConsole *console; /* NULL: QEMU has our standard output itself */
  BangerQmp *qmp;
  BangerVsock *vsock;
  int agent_fd;      /* the VMM's end of the serial port, until the vsock has it */
  gint64 started_at; /* monotonic microseconds */

  /* The action under way: */
  BangerInstanceDone done;
  gpointer done_data;
  BangerInstanceState target;
  BangerMigration *migration;
  BangerSnapshotFile saved;
  int state_fd, memory_fd;  /* of it */
  gboolean loading, resume; /* a state is read; its guest is to go on then */

  BangerInstanceEnded ended;
  gpointer ended_data;
};

BangerInstance *
banger_instance_new (const char *id, const char *qemu_path, BangerInstanceEnded ended, gpointer user_data)
{
  BangerInstance *instance = g_new0 (BangerInstance, 1);
  instance->id = g_strdup (id);
  instance->qemu_path = g_strdup (qemu_path);
  instance->config = banger_vm_config_new ();
  instance->agent_fd = instance->state_fd = instance->memory_fd = -1;
  instance->ended = ended;
  instance->ended_data = user_data;
  return instance;
}

static void
end_migration (BangerInstance *instance)
{
  g_clear_pointer (&instance->migration, banger_migration_free);
  banger_snapshot_file_clear (&instance->saved);
  banger_clear_fd (&instance->state_fd);
  banger_clear_fd (&instance->memory_fd);
}

static void
drop_qemu (BangerInstance *instance)
{
  end_migration (instance);
  g_clear_pointer (&instance->qemu, banger_qemu_free);
  g_clear_pointer (&instance->console, banger_console_free);
  g_clear_pointer (&instance->qmp, banger_qmp_free);
  banger_clear_fd (&instance->agent_fd);
}

void
banger_instance_free (BangerInstance *instance)
{
  instance->done = NULL;
  drop_qemu (instance);
  g_clear_pointer (&instance->vsock, banger_vsock_free);
  banger_vm_config_free (instance->config);
  g_free (instance->memory_path);
  g_free (instance->id);
  g_free (instance->qemu_path);
  g_free (instance);
}

void
banger_instance_set_memory_file (BangerInstance *instance, const char *path)
{
  instance->memory_path = g_strdup (path);
}

void
banger_instance_set_configured (BangerInstance *instance)
{
  instance->configured = TRUE;
}

gboolean
banger_instance_is_configured (const BangerInstance *instance)
{
  return instance->configured;
}

const char *
banger_instance_id (const BangerInstance *instance)
{
  return instance->id;
}

BangerVmConfig *
banger_instance_config (BangerInstance *instance)
{
  return instance->config;
}

BangerInstanceState
banger_instance_state (const BangerInstance *instance)
{
  return instance->state;
}

const char *
banger_instance_state_name (BangerInstanceState state)
{
  static const char *const names[] = { "Not started", "Running", "Paused" };
  return names[state];
}

gboolean
banger_instance_put_vsock (BangerInstance *instance, JsonNode *body, GError **error)
{
  BangerVsockConfig config;
  if (!banger_body_read (body, banger_vsock_fields, &config, error))
    return FALSE;
  if (config.guest_cid < 3) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST,
                 "Vsock config error: guest_cid %" G_GINT64_FORMAT " is below 3", config.guest_cid);
    banger_body_clear (banger_vsock_fields, &config);
    return FALSE;
  }
  g_clear_pointer (&instance->vsock, banger_vsock_free);
  instance->vsock = banger_vsock_new (config.uds_path, error);
  if (!instance->vsock) {
    banger_body_clear (banger_vsock_fields, &config);
    return FALSE;
  }
  banger_body_clear (banger_vsock_fields, &instance->config->vsock);
  instance->config->vsock = config;
  return TRUE;
}

static void
finish (BangerInstance *instance, const GError *error)
{
  BangerInstanceDone done = instance->done;
  instance->done = NULL;
  if (!error)
    instance->state = instance->target;
  if (done)
    done (error, instance->done_data);
}

/* QEMU is gone, or never was. What a state was to be read into is of no use any more: nor is this process. */
static void
fail_start (BangerInstance *instance, const char *why)
{
  gboolean loading = instance->loading;
  instance->loading = FALSE;
  g_autoptr (GError) error = g_error_new (
      BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "%s: %s",
      loading ? "Load snapshot error: Failed to restore from snapshot" : "Start microvm error", why);
  drop_qemu (instance);
  finish (instance, error);
  if (loading)
    instance->ended (1, instance->ended_data);
}

static gboolean
begin (BangerInstance *instance, BangerInstanceState target, BangerInstanceDone done, gpointer user_data)
{
  g_assert (!instance->done);
  instance->done = done;
  instance->done_data = user_data;
  instance->target = target;
  return instance->state != target;
}

static void
started (BangerInstance *instance)
{
  vmm_info ("QEMU %s after %" G_GINT64_FORMAT " ms", instance->loading ? "has the state" : "runs the guest",
            (g_get_monotonic_time () - instance->started_at) / 1000);
  instance->loading = FALSE;
  if (instance->vsock)
    banger_vsock_use_serial (instance->vsock, banger_steal_fd (&instance->agent_fd));
  finish (instance, NULL);
}

static void
handle_resumed (JsonNode *result, const GError *error, gpointer data)
{
  BangerInstance *instance = data;
  if (error && instance->loading && instance->qmp)
    fail_start (instance, error->message);
  else if (!error)
    started (instance);
}

static void
handle_loaded (const GError *error, gpointer data)
{
  BangerInstance *instance = data;
  if (error) {
    g_autofree char *why = g_strdup (error->message);
    fail_start (instance, why);
    return;
  }
  end_migration (instance);
  if (instance->resume)
    banger_qmp_execute (instance->qmp, "cont", NULL, -1, handle_resumed, instance);
  else
    started (instance);
}

static void
handle_started (JsonNode *result, const GError *error, gpointer data)
{
  BangerInstance *instance = data;
  /* On an error QEMU is about to exit: its last words are the better message. */
  if (error || !instance->done)
    return;
  if (instance->loading) {
    gboolean mapped = instance->saved.mapped == 1;
    BangerMigrationPlan plan = { .incoming = TRUE,
                                 .fd = mapped ? instance->state_fd : instance->memory_fd,
                                 .mapped = mapped };
    instance->migration = banger_migration_new (instance->qmp, &plan, handle_loaded, instance);
    return;
  }
  started (instance);
}

static void
handle_event (const char *name, JsonObject *details, gpointer data)
{
  BangerInstance *instance = data;
  if (g_str_equal (name, "SHUTDOWN")) {
    const char *reason = details ? json_object_get_string_member_with_default (details, "reason", "?") : "?";
    vmm_info ("the guest ended: %s", reason);
  } else if (g_str_equal (name, "VSERPORT_CHANGE") && details && instance->vsock) {
    if (g_str_equal (json_object_get_string_member_with_default (details, "id", ""), BANGER_QEMU_AGENT_ID))
      banger_vsock_serial_opened (instance->vsock,
                                  json_object_get_boolean_member_with_default (details, "open", FALSE));
  } else if (g_str_equal (name, "MIGRATION") && details && instance->migration) {
    banger_migration_event (instance->migration, json_object_get_string_member_with_default (details, "status", ""));
  }
}

static void
handle_exited (int wait_status, const char *last_words, gpointer data)
{
  BangerInstance *instance = data;
  g_autofree char *how = WIFEXITED (wait_status) ? g_strdup_printf ("exited with status %d", WEXITSTATUS (wait_status))
                                                 : g_strdup_printf ("was ended by signal %d", WTERMSIG (wait_status));
  gboolean running = instance->state != BANGER_INSTANCE_NOT_STARTED;
  drop_qemu (instance);
  if (running && instance->done) {
    g_autoptr (GError) error = g_error_new_literal (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "QEMU is gone");
    finish (instance, error);
  }
  if (!running) {
    g_autofree char *why = g_strdup_printf ("QEMU %s%s%s", how, *last_words != '\0' ? ": " : "", last_words);
    vmm_error ("the VM did not start: %s", why);
    fail_start (instance, why);
    return;
  }
  gboolean clean = WIFEXITED (wait_status) && WEXITSTATUS (wait_status) == 0;
  if (clean)
    vmm_info ("QEMU %s", how);
  else
    vmm_error ("QEMU %s", how);
  instance->ended (clean ? 0 : 1, instance->ended_data);
}

static gboolean
socket_pair (int *ret_ours, int *ret_theirs, GError **error)
{
  int pair[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "socketpair: %s", g_strerror (errno));
    return FALSE;
  }
  *ret_ours = pair[0];
  *ret_theirs = pair[1];
  return TRUE;
}

static gboolean
launch (BangerInstance *instance, GError **error)
{
  banger_autofd int qmp_ours = -1;
  banger_autofd int qmp_theirs = -1;
  banger_autofd int agent_theirs = -1;
  if (!socket_pair (&qmp_ours, &qmp_theirs, error)
      || (instance->vsock && !socket_pair (&instance->agent_fd, &agent_theirs, error)))
    return FALSE;

  gboolean kvm = banger_host_has_kvm ();
  BangerQemuPlan plan = {
    .id = instance->id,
    .qemu_path = instance->qemu_path,
    .kvm = kvm,
    .tsc_khz = kvm ? 0 : banger_host_tsc_khz (),
    .qmp_fd = qmp_theirs,
    .agent_fd = agent_theirs,
    .incoming = instance->loading,
    .memory_path = instance->memory_path,
    .memory_private = instance->memory_lent,
  };
  g_auto (GStrv) argv = banger_qemu_args (instance->config, &plan, error);
  if (!argv)
    return FALSE;
  if (instance->loading && kvm != (instance->saved.kvm == 1)) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "the guest ran %s KVM, and this host has %s",
                 kvm ? "without" : "with", kvm ? "it" : "none");
    return FALSE;
  }
  vmm_info ("starting QEMU with %s", kvm ? "KVM" : "TCG");

  const BangerVmConfig *config = instance->config;
  g_autofree int *fds = g_new (int, config->networks->len + 3);
  guint n = 0;
  fds[n++] = qmp_theirs;
  if (agent_theirs >= 0)
    fds[n++] = agent_theirs;
  for (guint i = 0; i < config->networks->len; i++)
    fds[n++] = ((BangerNetwork *)config->networks->pdata[i])->tap_fd;
  fds[n] = -1;
  int console_fd;
  g_autoptr (GError) console_error = NULL;
  instance->console = banger_console_new (&console_fd, &console_error);
  if (console_error) {
    g_propagate_error (error, g_steal_pointer (&console_error));
    return FALSE;
  }
  instance->qemu = banger_qemu_spawn (argv, fds, console_fd, instance->memory_lent ? instance->memory_fd : -1,
                                      handle_exited, instance, error);
  if (instance->console)
    close (console_fd);
  if (!instance->qemu)
    return FALSE;
  instance->qmp = banger_qmp_new (banger_steal_fd (&qmp_ours), handle_started, handle_event, instance);
  return TRUE;
}

void
banger_instance_start (BangerInstance *instance, BangerInstanceDone done, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  begin (instance, BANGER_INSTANCE_RUNNING, done, user_data);
  instance->started_at = g_get_monotonic_time ();
  if (!instance->config->boot_source.kernel_image_path) {
    fail_start (instance, "Cannot start microvm without kernel configuration.");
    return;
  }
  instance->configured = TRUE;
  if (!launch (instance, &error))
    fail_start (instance, error->message);
}

void
banger_instance_load (BangerInstance *instance, const BangerSnapshotFile *file, int state_fd, const char *memory_path,
                      int memory_fd, gboolean resume, BangerInstanceDone done, gpointer user_data)
{
  g_autoptr (GError) error = NULL;
  begin (instance, resume ? BANGER_INSTANCE_RUNNING : BANGER_INSTANCE_PAUSED, done, user_data);
  instance->started_at = g_get_monotonic_time ();
  instance->configured = instance->loading = TRUE;
  instance->resume = resume;
  instance->saved.kvm = file->kvm;
  instance->saved.mapped = file->mapped;
  instance->state_fd = state_fd;
  instance->memory_fd = memory_fd;
  instance->memory_lent = file->mapped == 1;
  g_free (instance->memory_path);
  instance->memory_path = file->mapped == 1 ? g_strdup (memory_path) : NULL;
  if (!launch (instance, &error))
    fail_start (instance, error->message);
}

void
banger_instance_refuse_load (BangerInstance *instance, const char *why, BangerInstanceDone done, gpointer user_data)
{
  begin (instance, BANGER_INSTANCE_PAUSED, done, user_data);
  instance->loading = TRUE;
  fail_start (instance, why);
}

static void
handle_done (JsonNode *result, const GError *error, gpointer data)
{
  finish (data, error);
}

static void
fail_save (BangerInstance *instance, const char *why, int errnum)
{
  g_autoptr (GError) error = g_error_new (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "Create snapshot error: %s%s%s", why,
                                          errnum ? ": " : "", errnum ? g_strerror (errnum) : "");
  end_migration (instance);
  finish (instance, error);
}

/* The header last: a state that was never finished has none. Who keeps the files has them written to the disk: its guest may
 * stand still for less long. */
static void
handle_saved (const GError *error, gpointer data)
{
  BangerInstance *instance = data;
  BangerSnapshotFile *saved = &instance->saved;
  g_autoptr (GError) own = NULL;
  g_autofree char *why = error ? g_strdup (error->message) : NULL;
  if (error) {
    fail_save (instance, why, 0);
    return;
  }
  off_t end = lseek (saved->mapped ? instance->state_fd : instance->memory_fd, 0, SEEK_END);
  saved->stream_bytes = end - (saved->mapped ? BANGER_SNAPSHOT_HEADER : 0);
  if (!banger_snapshot_file_write (instance->state_fd, saved, &own)) {
    fail_save (instance, own->message, 0);
    return;
  }
  end_migration (instance);
  vmm_info ("saved after %" G_GINT64_FORMAT " ms", (g_get_monotonic_time () - instance->started_at) / 1000);
  finish (instance, NULL);
}

void
banger_instance_save (BangerInstance *instance, const char *state_path, const char *memory_path,
                      BangerInstanceDone done, gpointer user_data)
{
  BangerSnapshotFile *saved = &instance->saved;
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  begin (instance, instance->state, done, user_data);
  instance->started_at = g_get_monotonic_time ();
  gboolean mapped = g_strcmp0 (instance->memory_path, memory_path) == 0 && !instance->memory_lent;
  instance->state_fd = open (state_path, flags | O_TRUNC, 0600);
  instance->memory_fd = instance->state_fd < 0 ? -1 : open (memory_path, flags | (mapped ? 0 : O_TRUNC), 0600);
  if (instance->memory_fd < 0) {
    fail_save (instance, instance->state_fd < 0 ? state_path : memory_path, errno);
    return;
  }
  if (!instance->qmp) {
    fail_save (instance, "QEMU is gone", 0);
    return;
  }
  saved->vmm = g_strdup (BANGER_VMM_NAME_AND_VERSION);
  saved->kvm = banger_host_has_kvm ();
  saved->mapped = mapped;
  saved->config = banger_vm_config_to_json (instance->config);
  lseek (instance->state_fd, BANGER_SNAPSHOT_HEADER, SEEK_SET);
  BangerMigrationPlan plan = { .fd = mapped ? instance->state_fd : instance->memory_fd, .mapped = mapped };
  instance->migration = banger_migration_new (instance->qmp, &plan, handle_saved, instance);
}

/* The next action in turn may begin when QEMU has ended, before this process has. */
static void
execute (BangerInstance *instance, const char *command, const char *arguments)
{
  if (instance->qmp) {
    banger_qmp_execute (instance->qmp, command, arguments, -1, handle_done, instance);
    return;
  }
  g_autoptr (GError) error = g_error_new_literal (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "QEMU is gone");
  finish (instance, error);
}

void
banger_instance_set_paused (BangerInstance *instance, gboolean paused, BangerInstanceDone done, gpointer user_data)
{
  if (!begin (instance, paused ? BANGER_INSTANCE_PAUSED : BANGER_INSTANCE_RUNNING, done, user_data))
    finish (instance, NULL);
  else
    execute (instance, paused ? "stop" : "cont", NULL);
}

void
banger_instance_ctrl_alt_del (BangerInstance *instance, BangerInstanceDone done, gpointer user_data)
{
  begin (instance, instance->state, done, user_data);
  execute (instance, "send-key", CTRL_ALT_DEL);
}

void
banger_instance_kill (BangerInstance *instance)
{
  if (instance->qemu)
    banger_qemu_kill_and_wait (instance->qemu);
}
