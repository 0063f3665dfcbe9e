/* One microVM: its configuration, its state and the QEMU behind it.
 * Used by the API routes and main().
 * Never answers an action before QEMU did. */
#include "engine/instance.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "engine/console.h"
#include "engine/engine-log.h"
#include "engine/host.h"
#include "engine/metrics.h"
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
  BangerInstanceState state;
  BangerQemu *qemu;
  BangerConsole *console; /* NULL: QEMU has our standard output itself */
  BangerQmp *qmp;
  BangerVsock *vsock;
  int vhost_fd;
  guint32 guest_cid;
  int agent_fd;      /* the VMM's end of the serial port, until the vsock has it */
  gint64 started_at; /* monotonic microseconds */

  /* The action under way: */
  BangerInstanceDone done;
  gpointer done_data;
  BangerInstanceState target;

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
  instance->vhost_fd = -1;
  instance->agent_fd = -1;
  instance->ended = ended;
  instance->ended_data = user_data;
  return instance;
}

static void
drop_qemu (BangerInstance *instance)
{
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
  banger_clear_fd (&instance->vhost_fd);
  banger_vm_config_free (instance->config);
  g_free (instance->id);
  g_free (instance->qemu_path);
  g_free (instance);
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
  if (instance->vsock == NULL) {
    banger_body_clear (banger_vsock_fields, &config);
    return FALSE;
  }
  banger_clear_fd (&instance->vhost_fd);
  instance->vhost_fd = banger_host_reserve_cid ((guint32)config.guest_cid, &instance->guest_cid);
  banger_body_clear (banger_vsock_fields, &instance->config->vsock);
  instance->config->vsock = config;
  return TRUE;
}

static void
finish (BangerInstance *instance, const GError *error)
{
  BangerInstanceDone done = instance->done;
  instance->done = NULL;
  if (error == NULL)
    instance->state = instance->target;
  if (done != NULL)
    done (error, instance->done_data);
}

static void
fail_start (BangerInstance *instance, const char *why)
{
  g_autoptr (GError) error = g_error_new (BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "Start microvm error: %s", why);
  finish (instance, error);
}

static gboolean
begin (BangerInstance *instance, BangerInstanceState target, BangerInstanceDone done, gpointer user_data)
{
  g_assert (instance->done == NULL);
  instance->done = done;
  instance->done_data = user_data;
  instance->target = target;
  return instance->state != target;
}

static void
handle_started (JsonNode *result, const GError *error, gpointer user_data)
{
  BangerInstance *instance = user_data;
  /* On an error QEMU is about to exit: its last words are the better message. */
  if (error != NULL || instance->done == NULL)
    return;
  vmm_info ("QEMU runs the guest after %" G_GINT64_FORMAT " ms",
            (g_get_monotonic_time () - instance->started_at) / 1000);
  if (instance->vsock != NULL && instance->vhost_fd >= 0)
    banger_vsock_use_vhost (instance->vsock, instance->guest_cid);
  else if (instance->vsock != NULL)
    banger_vsock_use_serial (instance->vsock, banger_steal_fd (&instance->agent_fd));
  finish (instance, NULL);
}

static void
handle_event (const char *name, JsonObject *data, gpointer user_data)
{
  BangerInstance *instance = user_data;
  if (g_str_equal (name, "SHUTDOWN")) {
    const char *reason = data != NULL ? json_object_get_string_member_with_default (data, "reason", "?") : "?";
    vmm_info ("the guest ended: %s", reason);
  } else if (g_str_equal (name, "VSERPORT_CHANGE") && data != NULL && instance->vsock != NULL) {
    if (g_str_equal (json_object_get_string_member_with_default (data, "id", ""), BANGER_QEMU_AGENT_ID))
      banger_vsock_serial_opened (instance->vsock, json_object_get_boolean_member_with_default (data, "open", FALSE));
  }
}

static void
handle_exited (int wait_status, const char *last_words, gpointer user_data)
{
  BangerInstance *instance = user_data;
  g_autofree char *how = WIFEXITED (wait_status) ? g_strdup_printf ("exited with status %d", WEXITSTATUS (wait_status))
                                                 : g_strdup_printf ("was ended by signal %d", WTERMSIG (wait_status));
  gboolean running = instance->state != BANGER_INSTANCE_NOT_STARTED;
  drop_qemu (instance);
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
  gboolean serial = instance->vsock != NULL && instance->vhost_fd < 0;
  if (!socket_pair (&qmp_ours, &qmp_theirs, error)
      || (serial && !socket_pair (&instance->agent_fd, &agent_theirs, error)))
    return FALSE;

  gboolean kvm = banger_host_has_kvm ();
  BangerQemuPlan plan = {
    .id = instance->id,
    .qemu_path = instance->qemu_path,
    .kvm = kvm,
    .tsc_khz = kvm ? 0 : banger_host_tsc_khz (),
    .qmp_fd = qmp_theirs,
    .agent_fd = agent_theirs,
    .vhost_fd = instance->vhost_fd,
    .guest_cid = instance->guest_cid,
  };
  g_auto (GStrv) argv = banger_qemu_args (instance->config, &plan, error);
  if (argv == NULL)
    return FALSE;
  vmm_info ("starting QEMU with %s%s", kvm ? "KVM" : "TCG", instance->vhost_fd >= 0 ? " and vhost-vsock" : "");

  const BangerVmConfig *config = instance->config;
  g_autofree int *fds = g_new (int, config->networks->len + 4);
  guint n = 0;
  fds[n++] = qmp_theirs;
  if (agent_theirs >= 0)
    fds[n++] = agent_theirs;
  if (instance->vhost_fd >= 0)
    fds[n++] = instance->vhost_fd;
  for (guint i = 0; i < config->networks->len; i++)
    fds[n++] = ((BangerNetwork *)config->networks->pdata[i])->tap_fd;
  fds[n] = -1;
  int console_fd;
  g_autoptr (GError) console_error = NULL;
  instance->console = banger_console_new (&console_fd, &console_error);
  if (console_error != NULL) {
    g_propagate_error (error, g_steal_pointer (&console_error));
    return FALSE;
  }
  instance->qemu = banger_qemu_spawn (argv, fds, console_fd, handle_exited, instance, error);
  if (instance->console != NULL)
    close (console_fd);
  if (instance->qemu == NULL)
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
  if (instance->config->boot_source.kernel_image_path == NULL) {
    fail_start (instance, "Cannot start microvm without kernel configuration.");
    return;
  }
  if (!launch (instance, &error)) {
    drop_qemu (instance);
    fail_start (instance, error->message);
  }
}

static void
handle_done (JsonNode *result, const GError *error, gpointer user_data)
{
  finish (user_data, error);
}

/* The next action in turn may begin when QEMU has ended, before this process has. */
static void
execute (BangerInstance *instance, const char *command, const char *arguments)
{
  if (instance->qmp != NULL) {
    banger_qmp_execute (instance->qmp, command, arguments, handle_done, instance);
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
  if (instance->qemu != NULL)
    banger_qemu_kill_and_wait (instance->qemu);
}
