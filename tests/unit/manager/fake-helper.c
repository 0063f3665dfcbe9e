/* A root helper inside of the test: it remembers what it was asked, "launches" a sleeping process as VMM and plays
 * the guest behind its sockets. Stands in for helper-client.c.
 * Never used by a program. */
#include "fake-helper.h"

#include <gio/gunixsocketaddress.h>
#include <libsoup/soup.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/names.h"
#include "common/pidfd.h"

FakeHelper fake;

struct BangerHelper {
  gboolean available;
  BangerHelperNotify func;
  gpointer user_data;
};

/* One guest at a time is enough. */
static SoupServer *api;
static GSocketService *vsock;
static GSocketConnection *agent;
static char *guest_vm;

static pid_t
vmm_pid (const char *vm)
{
  return GPOINTER_TO_INT (g_hash_table_lookup (fake.leases, vm));
}

static void
vmm_kill (const char *vm)
{
  pid_t pid = vmm_pid (vm);
  if (pid <= 0)
    return;
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  g_hash_table_insert (fake.leases, g_strdup (vm), GINT_TO_POINTER (0));
  fake_guest_forget ();
}

void
fake_guest_forget (void)
{
  if (api)
    soup_server_disconnect (api);
  g_clear_object (&api);
  if (vsock)
    g_socket_service_stop (vsock);
  g_clear_object (&vsock);
  g_clear_object (&agent);
  g_clear_pointer (&guest_vm, g_free);
}

static void on_agent_line (GObject *source, GAsyncResult *result, gpointer user_data);

static void
say (const char *text)
{
  GOutputStream *out = g_io_stream_get_output_stream (G_IO_STREAM (agent));
  g_output_stream_write_all (out, text, strlen (text), NULL, NULL, NULL);
}

static void
agent_obey (const char *verb, const char *token)
{
  g_autofree char *answer = g_strdup_printf ("%s ok\n", token);
  say (answer);
  if (g_str_equal (verb, "hello"))
    say ("ready boot-1\n");
  g_string_append_printf (fake.story, "guest:%s ", verb);
  if (!fake.stubborn && (g_str_equal (verb, "shutdown") || g_str_equal (verb, "poweroff")))
    kill (vmm_pid (guest_vm), SIGTERM);
}

static void
on_agent_line (GObject *source, GAsyncResult *result, gpointer user_data)
{
  g_autoptr (GDataInputStream) in = G_DATA_INPUT_STREAM (source);
  g_autofree char *line = g_data_input_stream_read_line_finish (in, result, NULL, NULL);
  if (!line || !agent || fake.deaf_guest)
    return;
  g_auto (GStrv) words = g_strsplit (line, " ", 2);
  if (g_str_equal (line, "CONNECT 1024"))
    say ("OK 7\n");
  else if (words[0] && words[1])
    agent_obey (words[0], words[1]);
  g_data_input_stream_read_line_async (g_object_ref (in), G_PRIORITY_DEFAULT, NULL, on_agent_line, NULL);
}

static gboolean
on_agent (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer user_data)
{
  g_set_object (&agent, connection);
  GDataInputStream *in = g_data_input_stream_new (g_io_stream_get_input_stream (G_IO_STREAM (connection)));
  g_data_input_stream_read_line_async (in, G_PRIORITY_DEFAULT, NULL, on_agent_line, NULL);
  return TRUE;
}

static void
vsock_up (void)
{
  g_autofree char *path = g_build_filename (fake.run_root, guest_vm, BANGER_SOCKET_VSOCK, NULL);
  unlink (path);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (path);
  vsock = g_socket_service_new ();
  g_assert_true (
      g_socket_listener_add_address (G_SOCKET_LISTENER (vsock), address, G_SOCKET_TYPE_STREAM, 0, NULL, NULL, NULL));
  g_signal_connect (vsock, "incoming", G_CALLBACK (on_agent), NULL);
}

static void
on_api (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer user_data)
{
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_string_append_printf (fake.story, "PUT%s ", path);
  if (g_strcmp0 (fake.fail, path) == 0) {
    soup_server_message_set_status (message, 400, NULL);
    return;
  }
  soup_server_message_set_status (message, 204, NULL);
  if (g_str_equal (path, "/actions") && memmem (body->data, (size_t)body->length, "InstanceStart", 13))
    vsock_up ();
}

static void
guest_up (const char *vm)
{
  fake_guest_forget (); /* of one that died by itself */
  guest_vm = g_strdup (vm);
  g_autofree char *path = g_build_filename (fake.run_root, vm, BANGER_SOCKET_API, NULL);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (path);
  g_autoptr (GSocket) socket = g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
  g_assert_true (g_socket_bind (socket, address, FALSE, NULL) && g_socket_listen (socket, NULL));
  api = soup_server_new (NULL, NULL);
  soup_server_add_handler (api, NULL, on_api, NULL, NULL);
  soup_server_listen_socket (api, socket, 0, NULL);
}

void
fake_helper_up (const char *run_root)
{
  memset (&fake, 0, sizeof fake);
  fake.run_root = g_strdup (run_root);
  fake.story = g_string_new (NULL);
  fake.leases = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  fake.no_snapshots = TRUE;
}

void
fake_helper_down (void)
{
  GHashTableIter iter;
  gpointer pid;
  g_hash_table_iter_init (&iter, fake.leases);
  while (g_hash_table_iter_next (&iter, NULL, &pid))
    if (GPOINTER_TO_INT (pid) > 0) {
      kill (GPOINTER_TO_INT (pid), SIGKILL);
      waitpid (GPOINTER_TO_INT (pid), NULL, 0);
    }
  fake_guest_forget ();
  g_hash_table_unref (fake.leases);
  fake_guest_forget ();
  g_string_free (fake.story, TRUE);
  g_free (fake.run_root);
}

guint
fake_count (const char *method)
{
  g_auto (GStrv) words = g_strsplit (fake.story->str, " ", -1);
  guint n = 0;
  for (char **word = words; *word; word++)
    n += g_str_equal (*word, method);
  return n;
}

BangerHelper *
banger_helper_new (void)
{
  return g_new0 (BangerHelper, 1);
}

void
banger_helper_free (BangerHelper *helper)
{
  g_free (helper);
}

gboolean
banger_helper_available (BangerHelper *helper)
{
  return helper->available;
}

guint
banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data)
{
  helper->func = func;
  helper->user_data = user_data;
  return 1;
}

void
banger_helper_remove_notify (BangerHelper *helper, guint id)
{
  helper->func = NULL;
}

void
fake_helper_set_available (BangerHelper *helper, gboolean available)
{
  helper->available = available;
  fake.away = !available;
  if (helper->func)
    helper->func (available, helper->user_data);
}

/* Returns: the task, or NULL if the call was made to fail. */
static GTask *
called (const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, NULL, callback, user_data);
  g_string_append_printf (fake.story, "%s ", method);
  if (fake.away)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE, "nobody there");
  else if (g_strcmp0 (fake.fail, method) == 0)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_FAILED, "%s fails", method);
  else
    return g_steal_pointer (&task);
  return NULL;
}

static void
plain (const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = called (method, cancellable, callback, user_data);
  if (task)
    g_task_return_boolean (task, TRUE);
}

static void
lease (const char *vm)
{
  if (!g_hash_table_contains (fake.leases, vm))
    g_hash_table_insert (fake.leases, g_strdup (vm), NULL);
}

#define ARGS GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data

void
banger_helper_ensure_bridge (BangerHelper *helper, const BangerHelperCaller *caller, const char *bridge,
                             const char *address, ARGS)
{
  plain ("EnsureBridge", cancellable, callback, user_data);
}

void
banger_helper_create_tap (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *bridge,
                          const char *address, ARGS)
{
  lease (vm);
  g_autoptr (GTask) task = called ("CreateTap", cancellable, callback, user_data);
  if (task)
    g_task_return_pointer (task, g_strdup ("tap-fc-test"), g_free);
}

void
banger_helper_delete_tap (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  plain ("DeleteTap", cancellable, callback, user_data);
}

void
banger_helper_ensure_nat (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *address,
                          ARGS)
{
  plain ("EnsureNat", cancellable, callback, user_data);
}

void
banger_helper_remove_nat (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  plain ("RemoveNat", cancellable, callback, user_data);
}

void
banger_helper_create_snapshot (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm,
                               const char *image, guint64 cow_bytes, ARGS)
{
  g_autoptr (GTask) task = called ("CreateSnapshot", cancellable, callback, user_data);
  if (task && fake.no_snapshots)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_NOT_SUPPORTED, "no device-mapper");
  else if (task)
    g_task_return_pointer (task, g_strdup ("/dev/mapper/fc-rootfs-test"), g_free);
}

void
banger_helper_remove_snapshot (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  plain ("RemoveSnapshot", cancellable, callback, user_data);
}

void
banger_helper_launch_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *kernel,
                          const char *root, guint32 memory_mib, ARGS)
{
  g_autoptr (GTask) task = called ("LaunchVmm", cancellable, callback, user_data);
  if (!task)
    return;
  pid_t pid = fork ();
  if (pid == 0) { /* ends with the test, and holds none of its descriptors */
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    close_range (0, ~0U, 0);
    execlp ("sleep", "sleep", "600", NULL);
    _exit (127);
  }
  g_hash_table_insert (fake.leases, g_strdup (vm), GINT_TO_POINTER (pid));
  fake.launches++;
  fake.memory_mib = memory_mib;
  guest_up (vm);
  g_task_return_int (task, pid);
}

void
banger_helper_open_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  g_autoptr (GTask) task = called ("OpenVmm", cancellable, callback, user_data);
  if (task && vmm_pid (vm) > 0)
    g_task_return_int (task, vmm_pid (vm));
  else if (task)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE, "no such lease");
}

void
banger_helper_get_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  g_autoptr (GTask) task = called ("GetVmm", cancellable, callback, user_data);
  if (!task)
    return;
  int status = 0;
  pid_t pid = vmm_pid (vm);
  int signal = pid > 0 && waitpid (pid, &status, WNOHANG) == pid && WIFSIGNALED (status) ? WTERMSIG (status) : 0;
  if (signal)
    g_hash_table_insert (fake.leases, g_strdup (vm), NULL);
  g_task_return_int (task, signal);
}

void
banger_helper_signal_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, const char *signal,
                          ARGS)
{
  plain ("SignalVmm", cancellable, callback, user_data);
}

void
banger_helper_kill_vmm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  if (!fake.away)
    vmm_kill (vm);
  plain ("KillVmm", cancellable, callback, user_data);
}

void
banger_helper_release_vm (BangerHelper *helper, const BangerHelperCaller *caller, const char *vm, ARGS)
{
  if (!fake.away) {
    vmm_kill (vm);
    g_hash_table_remove (fake.leases, vm);
  }
  plain ("ReleaseVm", cancellable, callback, user_data);
}

static void
lease_info_free (gpointer data)
{
  BangerLeaseInfo *info = data;
  g_free (info->vm);
  g_free (info);
}

void
banger_helper_list_leases (BangerHelper *helper, const BangerHelperCaller *caller, ARGS)
{
  g_autoptr (GTask) task = called ("ListLeases", cancellable, callback, user_data);
  if (!task)
    return;
  GPtrArray *list = g_ptr_array_new_with_free_func (lease_info_free);
  GHashTableIter iter;
  gpointer vm, pid;
  g_hash_table_iter_init (&iter, fake.leases);
  while (g_hash_table_iter_next (&iter, &vm, &pid)) {
    BangerLeaseInfo *info = g_new0 (BangerLeaseInfo, 1);
    info->vm = g_strdup (vm);
    info->pid = (guint32)GPOINTER_TO_INT (pid);
    g_ptr_array_add (list, info);
  }
  g_task_return_pointer (task, list, (GDestroyNotify)g_ptr_array_unref);
}

gboolean
banger_helper_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

char *
banger_helper_string_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

int
banger_helper_vmm_finish (BangerHelper *helper, GAsyncResult *result, guint32 *ret_pid, GError **error)
{
  gssize pid = g_task_propagate_int (G_TASK (result), error);
  if (pid <= 0)
    return -1;
  *ret_pid = (guint32)pid;
  return banger_pidfd_open ((pid_t)pid);
}

gboolean
banger_helper_status_finish (BangerHelper *helper, GAsyncResult *result, BangerVmmStatus *ret, GError **error)
{
  GError *own = NULL;
  gssize signal = g_task_propagate_int (G_TASK (result), &own);
  if (own) {
    g_propagate_error (error, own);
    return FALSE;
  }
  *ret = (BangerVmmStatus){ .exit_code = -1, .exit_signal = (int)signal };
  return TRUE;
}

GPtrArray *
banger_helper_leases_finish (BangerHelper *helper, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}
