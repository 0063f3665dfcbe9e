/* A root helper inside of the test: it remembers what it was asked, "launches" a sleeping process as VMM and plays
 * the guest behind its sockets. Stands in for helper.c.
 * Never part of an installed program. */
#include "fake-helper.h"

#include <fcntl.h>
#include <gio/gunixconnection.h>
#include <gio/gunixsocketaddress.h>
#include <libsoup/soup.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/ids.h"
#include "common/names.h"
#include "common/pidfd.h"
#include "manager/core/later.h"

FakeHelper fake;

struct BangerHelper {
  gboolean available;
  struct {
    BangerHelperNotify func;
    gpointer user_data;
  } watchers[5]; /* the house, its VMs, its templates, disks that are gone of these and of snapshots */
  BangerHelperLate late;
  gpointer late_data;
};

/* What is behind the sockets of a VMM. */
typedef struct {
  char *vm;
  GSocket *api_socket, *vsock_socket; /* at which the VMM's process listens */
  SoupServer *api;
  GSocketService *vsock; /* NULL before the guest has booted */
  GSocketConnection *agent;
} Guest;

static GHashTable *guests;    /* vm -> Guest */
static GPtrArray *unanswered; /* GTask */

static pid_t
vmm_pid (const char *vm)
{
  return GPOINTER_TO_INT (g_hash_table_lookup (fake.leases, vm));
}

static void
vmm_kill (const char *vm)
{
  pid_t pid = vmm_pid (vm);
  if (pid <= 0 || fake.keep_vmm)
    return;
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  g_hash_table_insert (fake.leases, g_strdup (vm), GINT_TO_POINTER (0));
  g_hash_table_remove (guests, vm);
}

static void
guest_free (gpointer data)
{
  g_free (((Guest *)data)->vm);
}

/* As a VMM that dies; a line of its agent may be under way. */
static void
guest_down (gpointer data)
{
  Guest *guest = data;
  soup_server_disconnect (guest->api);
  g_clear_object (&guest->api);
  if (guest->vsock)
    g_socket_service_stop (guest->vsock);
  g_clear_object (&guest->vsock);
  g_clear_object (&guest->agent);
  g_clear_object (&guest->api_socket);
  g_clear_object (&guest->vsock_socket);
  g_rc_box_release_full (guest, guest_free);
}

static void
say (Guest *guest, const char *text)
{
  GOutputStream *out = g_io_stream_get_output_stream (G_IO_STREAM (guest->agent));
  g_output_stream_write_all (out, text, strlen (text), NULL, NULL, NULL);
}

static gboolean
on_shut_down (gpointer pid)
{
  kill (GPOINTER_TO_INT (pid), SIGTERM);
  return G_SOURCE_REMOVE;
}

/* The request is there with its line: it was sent at once. */
static void
agent_become (Guest *guest, GDataInputStream *in, const char *token, gsize length)
{
  static const char part[] = "boot_id 36\n";
  g_autofree char *body = g_malloc0 (length + 1);
  gsize got = 0;
  g_assert_true (g_input_stream_read_all (G_INPUT_STREAM (in), body, length, &got, NULL, NULL) && got == length);
  g_clear_pointer (&fake.told, g_bytes_unref);
  fake.told = g_bytes_new (body, length);
  const char *at = memmem (body, length, part, strlen (part));
  g_autofree char *id = at ? g_strndup (at + strlen (part), 36) : g_uuid_string_random ();
  g_auto (GStrv) around = g_strsplit (fake.identity, "%s", 2);
  g_autofree char *answer = g_strconcat (token, " ", around[0], around[1] ? id : "\n", around[1], "\n", NULL);
  g_string_append (fake.story, "guest:identity ");
  say (guest, answer);
}

static void
agent_obey (Guest *guest, const char *verb, const char *token)
{
  gboolean hello = g_str_equal (verb, "hello");
  pid_t pid = vmm_pid (guest->vm);
  g_autofree char *answer = g_strconcat (token, " ok", hello ? " banger-guest 9" : "",
                                         hello && fake.no_sshd ? " no-sshd" : "",
                                         hello && fake.identity ? " identity" : "", "\n", NULL);
  say (guest, answer);
  if (hello)
    say (guest, "ready boot-1\n");
  if (!g_str_equal (verb, "clock")) /* whenever */
    g_string_append_printf (fake.story, "guest:%s ", verb);
  if (fake.slow_shutdown && g_str_equal (verb, "shutdown"))
    g_timeout_add (200, on_shut_down, GINT_TO_POINTER (pid));
  else if (!fake.stubborn && (g_str_equal (verb, "shutdown") || g_str_equal (verb, "poweroff")))
    kill (pid, SIGTERM);
}

static void
on_agent_line (GObject *source, GAsyncResult *result, gpointer user_data)
{
  Guest *guest = user_data;
  g_autoptr (GDataInputStream) in = G_DATA_INPUT_STREAM (source);
  g_autofree char *line = g_data_input_stream_read_line_finish (in, result, NULL, NULL);
  if (!line || !guest->agent || fake.deaf_guest) {
    g_rc_box_release_full (guest, guest_free);
    return;
  }
  g_auto (GStrv) words = g_strsplit (line, " ", 3);
  g_set_object (&guest->agent, g_object_get_data (G_OBJECT (in), "connection"));
  if (g_str_equal (line, "CONNECT 1024"))
    say (guest, "OK 7\n");
  else if (fake.identity && g_str_has_prefix (line, "identity ") && g_strv_length (words) == 3)
    agent_become (guest, in, words[1], g_ascii_strtoull (words[2], NULL, 10));
  else if (words[0] && words[1])
    agent_obey (guest, words[0], words[1]);
  g_data_input_stream_read_line_async (g_object_ref (in), G_PRIORITY_DEFAULT, NULL, on_agent_line, guest);
}

static gboolean
on_agent (GSocketService *service, GSocketConnection *connection, GObject *source, gpointer user_data)
{
  Guest *guest = user_data;
  g_set_object (&guest->agent, connection);
  GDataInputStream *in = g_data_input_stream_new (g_io_stream_get_input_stream (G_IO_STREAM (connection)));
  g_object_set_data_full (G_OBJECT (in), "connection", g_object_ref (connection), g_object_unref);
  g_data_input_stream_read_line_async (in, G_PRIORITY_DEFAULT, NULL, on_agent_line, g_rc_box_acquire (guest));
  return TRUE;
}

/* Who listens stays the VMM's process; who accepts is another. */
static void
give_away (GSocket *socket)
{
  g_autoptr (GSocketClient) client = g_socket_client_new ();
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (fake.agent);
  g_autoptr (GSocketConnection) to = g_socket_client_connect (client, G_SOCKET_CONNECTABLE (address), NULL, NULL);
  g_assert_true (g_unix_connection_send_fd (G_UNIX_CONNECTION (to), g_socket_get_fd (socket), NULL, NULL));
}

static void
guest_boot (Guest *guest)
{
  if (fake.agent) {
    give_away (guest->vsock_socket);
    return;
  }
  guest->vsock = g_socket_service_new ();
  g_assert_true (g_socket_listener_add_socket (G_SOCKET_LISTENER (guest->vsock), guest->vsock_socket, NULL, NULL));
  g_signal_connect (guest->vsock, "incoming", G_CALLBACK (on_agent), guest);
}

/* Into the files that were there when it was launched, as through the jail. */
static void
save_guest (const Guest *guest)
{
  static const char *const names[] = { BANGER_FILE_VM_SAVE_STATE, BANGER_FILE_VM_SAVE_MEMORY };
  for (guint i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *path = g_build_filename (fake.vms_path, guest->vm, names[i], NULL);
    FILE *file = fopen (path, "r+e");
    g_assert_nonnull (file);
    fprintf (file, "%s of %s", names[i], guest->vm);
    fclose (file);
  }
}

static void
on_api (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer user_data)
{
  Guest *guest = user_data;
  SoupMessageBody *body = soup_server_message_get_request_body (message);
  g_string_append_printf (fake.story, "%s%s ", soup_server_message_get_method (message), path);
  if (g_str_equal (path, "/vm"))
    fake.paused = memmem (body->data, (size_t)body->length, "Paused", 6) != NULL;
  if (g_strcmp0 (fake.fail, path) == 0) {
    soup_server_message_set_status (message, 400, NULL);
    return;
  }
  soup_server_message_set_status (message, 204, NULL);
  if (g_str_equal (path, "/snapshot/create"))
    save_guest (guest);
  if (g_str_equal (path, "/snapshot/load")) {
    fake.paused = TRUE;
    guest_boot (guest);
  }
  if (g_str_equal (path, "/actions") && memmem (body->data, (size_t)body->length, "InstanceStart", 13))
    guest_boot (guest);
}

static GSocket *
bound (const char *vm, const char *name)
{
  g_autofree char *path = g_build_filename (fake.run_root, vm, name, NULL);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (path);
  GSocket *socket = g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
  g_assert_true (g_socket_bind (socket, address, FALSE, NULL));
  return socket;
}

/* A process that ends with the test and holds none of its descriptors. It is the one that listens, as is looked at; the
 * test accepts. */
static pid_t
guest_up (const char *vm)
{
  Guest *guest = g_rc_box_new0 (Guest);
  guest->vm = g_strdup (vm);
  guest->api_socket = bound (vm, BANGER_SOCKET_API);
  guest->vsock_socket = bound (vm, BANGER_SOCKET_VSOCK);
  int api = g_socket_get_fd (guest->api_socket), vsock = g_socket_get_fd (guest->vsock_socket);
  pid_t pid = vfork ();
  if (pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    if (listen (api, 16) == 0 && listen (vsock, 64) == 0 && close_range (0, ~0U, 0) == 0)
      execlp ("sleep", "sleep", "600", NULL);
    _exit (127);
  }
  guest->api = soup_server_new (NULL, NULL);
  soup_server_add_handler (guest->api, NULL, on_api, guest, NULL);
  soup_server_listen_socket (guest->api, guest->api_socket, 0, NULL);
  g_hash_table_insert (guests, g_strdup (vm), guest);
  return pid;
}

void
fake_helper_up (const char *run_root)
{
  memset (&fake, 0, sizeof fake);
  fake.run_root = g_strdup (run_root);
  fake.story = g_string_new (NULL);
  fake.leases = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  fake.no_snapshots = TRUE;
  guests = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, guest_down);
  unanswered = g_ptr_array_new ();
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
  g_hash_table_unref (guests);
  g_clear_pointer (&fake.told, g_bytes_unref);
  g_hash_table_unref (fake.leases);
  fake_helper_resume ();
  g_ptr_array_unref (unanswered);
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
banger_helper_new (guint64 pending)
{
  fake.helper = g_new0 (BangerHelper, 1);
  fake.helper->available = fake.available;
  return fake.helper;
}

void
banger_helper_free (BangerHelper *helper)
{
  g_free (helper);
  fake.helper = NULL;
}

gboolean
banger_helper_available (BangerHelper *helper)
{
  return helper->available;
}

guint
banger_helper_add_notify (BangerHelper *helper, BangerHelperNotify func, gpointer user_data)
{
  guint i = 0;
  while (helper->watchers[i].func)
    g_assert_cmpuint (++i, <, G_N_ELEMENTS (helper->watchers));
  helper->watchers[i].func = func;
  helper->watchers[i].user_data = user_data;
  return i + 1;
}

void
banger_helper_remove_notify (BangerHelper *helper, guint id)
{
  helper->watchers[id - 1].func = NULL;
}

void
fake_helper_set_available (BangerHelper *helper, gboolean available)
{
  helper->available = available;
  fake.away = !available;
  for (guint i = 0; i < G_N_ELEMENTS (helper->watchers); i++)
    if (helper->watchers[i].func)
      helper->watchers[i].func (available, helper->watchers[i].user_data);
}

void
banger_helper_set_late (BangerHelper *helper, BangerHelperLate late, gpointer user_data)
{
  helper->late = late;
  helper->late_data = user_data;
}

void
banger_helper_set_resolver (BangerHelper *helper, GFunc resolver, gpointer user_data)
{
}

void
fake_helper_answer_late (BangerHelper *helper)
{
  helper->late ("CreateTap", helper->late_data);
}

static void
give_up (gpointer task)
{
  g_ptr_array_remove (unanswered, task);
  banger_task_return_later (task, g_error_new (BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE, "no answer"));
}

/* As the real one, without its grace. */
static void
on_given_up (GCancellable *cancellable, gpointer task)
{
  if (g_ptr_array_find (unanswered, task, NULL))
    give_up (task);
}

void
fake_helper_resume (void)
{
  fake.hangs = NULL;
  while (unanswered->len > 0)
    give_up (unanswered->pdata[0]);
}

static void
look_at_orders (void)
{
  g_autofree char *text = NULL;
  if (!fake.orders)
    return;
  fake.fail = fake.hangs = NULL;
  if (!g_file_get_contents (fake.orders, &text, NULL, NULL))
    return;
  g_auto (GStrv) words = g_strsplit (text, " ", 2);
  *(g_str_equal (words[0], "fail") ? &fake.fail : &fake.hangs) = g_intern_string (words[1]);
}

static gboolean
hangs (const char *method)
{
  return fake.hangs && (g_str_equal (fake.hangs, method) || g_str_equal (fake.hangs, "all"));
}

/* Returns: the task, or NULL if the call was made to fail. */
static GTask *
called (const char *method, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, hangs (method) ? cancellable : NULL, callback, user_data);
  if (g_task_return_error_if_cancelled (task))
    return NULL;
  g_task_set_check_cancellable (task, FALSE);
  g_string_append_printf (fake.story, "%s ", method);
  if (hangs (method)) {
    g_ptr_array_add (unanswered, g_object_ref (task));
    if (cancellable)
      g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_given_up), task);
    return NULL;
  }
  if (fake.away)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE, "nobody there");
  else if (fake.lost && g_str_equal (method, "KillVmm"))
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT, "the lease cannot be read");
  else if (fake.rests && g_str_equal (method, "PrepareVm"))
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_WRONG_STATE, "VM holds tap already");
  else if (g_strcmp0 (fake.fail, method) == 0)
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_FAILED, "%s fails", method);
  else
    return g_steal_pointer (&task);
  return NULL;
}

/* Of the methods that do something: what is answered. */
typedef struct {
  const char *method;
  void (*answer) (GTask *task, const char *vm);
} Method;

static void
create_tap (GTask *task, const char *vm)
{
  g_task_return_pointer (task, banger_tap_name (vm), g_free);
}

static void
launch_vmm (GTask *task, const char *vm)
{
  pid_t pid = guest_up (vm);
  g_hash_table_insert (fake.leases, g_strdup (vm), GINT_TO_POINTER (pid));
  fake.launches++;
  g_task_return_int (task, pid);
}

static void
open_vmm (GTask *task, const char *vm)
{
  if (g_strcmp0 (fake.fail, "OpenVmm hangs") == 0)
    fake.hung = g_object_ref (task);
  else if (vmm_pid (vm) > 0)
    g_task_return_int (task, vmm_pid (vm));
  else
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_NO_SUCH_LEASE, "no such lease");
}

static void
get_engine (GTask *task, const char *vm)
{
  if (fake.engine)
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_HELPER_UNAVAILABLE, "nobody there");
}

static void
get_vmm (GTask *task, const char *vm)
{
  int status = 0;
  pid_t pid = vmm_pid (vm);
  int signal = pid > 0 && waitpid (pid, &status, WNOHANG) == pid && WIFSIGNALED (status) ? WTERMSIG (status) : 0;
  if (signal)
    g_hash_table_insert (fake.leases, g_strdup (vm), NULL);
  g_task_return_int (task, signal);
}

static gboolean
on_kill_turn (gpointer user_data)
{
  g_autoptr (GTask) task = user_data;
  vmm_kill (g_task_get_task_data (task));
  g_task_return_boolean (task, TRUE);
  return G_SOURCE_REMOVE;
}

static void
kill_vmm (GTask *task, const char *vm)
{
  g_task_set_task_data (task, g_strdup (vm), g_free);
  if (fake.busy_msec)
    g_timeout_add (fake.busy_msec, on_kill_turn, g_object_ref (task));
  else
    g_task_return_boolean (task, TRUE);
}

static void
lease_info_free (gpointer data)
{
  BangerLeaseInfo *info = data;
  g_free (info->vm);
  g_strfreev (info->resources);
  g_free (info);
}

static void
list_leases (GTask *task, const char *none)
{
  GPtrArray *list = g_ptr_array_new_with_free_func (lease_info_free);
  GHashTableIter iter;
  gpointer vm, pid;
  g_hash_table_iter_init (&iter, fake.leases);
  while (!fake.unlisted && g_hash_table_iter_next (&iter, &vm, &pid)) {
    BangerLeaseInfo *info = g_new0 (BangerLeaseInfo, 1);
    info->vm = g_strdup (vm);
    info->pid = (guint32)GPOINTER_TO_INT (pid);
    info->resources = g_strsplit (fake.old_taps ? "tap-without-address,jail" : "tap,jail", ",", -1);
    g_ptr_array_add (list, info);
  }
  g_task_return_pointer (task, list, (GDestroyNotify)g_ptr_array_unref);
}

static const Method methods[] = {
  { "CreateTap", create_tap }, { "GetEngine", get_engine },   { "GetVmm", get_vmm },   { "KillVmm", kill_vmm },
  { "LaunchVmm", launch_vmm }, { "ListLeases", list_leases }, { "OpenVmm", open_vmm },
};

/* What is done whatever is answered. */
static void
act (const char *method, const char *vm, GCancellable *cancellable)
{
  gboolean heard = !fake.away && !hangs (method);
  if (g_str_equal (method, "PrepareVm") && !g_hash_table_contains (fake.leases, vm))
    g_hash_table_insert (fake.leases, g_strdup (vm), NULL);
  if (g_str_equal (method, "KillVmm") && heard && !fake.lost && !fake.busy_msec)
    vmm_kill (vm);
  if (g_str_equal (method, "ReleaseVm") && heard && !g_cancellable_is_cancelled (cancellable)) {
    vmm_kill (vm);
    g_hash_table_remove (fake.leases, vm);
    fake.rests = FALSE;
  }
}

/* Of the arguments after the VM's id what tests look at. */
static void
remember (const char *method, va_list args)
{
  if (g_str_equal (method, "CreateTap"))
    for (guint i = 0; i < 3; i++)
      g_assert_nonnull (va_arg (args, const char *));
  if (g_str_equal (method, "PrepareVm")) {
    for (guint i = 0; i < 3; i++)
      g_assert_nonnull (va_arg (args, const char *));
    (void)va_arg (args, gboolean);
    fake.disk = va_arg (args, const char *) != NULL;
    g_assert_true ((va_arg (args, guint64) > 0) == fake.disk);
    fake.fresh = va_arg (args, gboolean);
  }
  if (g_str_equal (method, "LaunchVmm")) {
    for (guint i = 0; i < 2; i++)
      (void)va_arg (args, const char *);
    fake.memory_mib = va_arg (args, guint32);
  }
}

void
banger_helper_call (BangerHelper *helper, const BangerCaller *caller, const char *method, GCancellable *cancellable,
                    GAsyncReadyCallback callback, gpointer user_data, ...)
{
  va_list args;
  va_start (args, user_data);
  const char *vm = g_str_equal (method, "ListLeases") ? NULL : va_arg (args, const char *);
  remember (method, args);
  va_end (args);
  look_at_orders ();
  act (method, vm, cancellable);
  g_autoptr (GTask) task = called (method, cancellable, callback, user_data);
  for (guint i = 0; task && i < G_N_ELEMENTS (methods); i++)
    if (g_str_equal (methods[i].method, method)) {
      methods[i].answer (task, vm);
      return;
    }
  if (task)
    g_task_return_boolean (task, TRUE);
}

gboolean
banger_helper_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

gboolean
banger_helper_name_finish (GAsyncResult *result, const char *expected, GError **error)
{
  g_autofree char *name = g_task_propagate_pointer (G_TASK (result), error);
  g_assert_true (!name || g_str_equal (name, expected));
  return name != NULL;
}

gboolean
banger_helper_place_finish (GAsyncResult *result, const char *tap, const char *device, gboolean *ret_device,
                            GError **error)
{
  *ret_device = !fake.no_snapshots && fake.disk;
  return g_task_propagate_boolean (G_TASK (result), error);
}

int
banger_helper_vmm_finish (GAsyncResult *result, guint32 *ret_pid, GError **error)
{
  gssize pid = g_task_propagate_int (G_TASK (result), error);
  if (pid <= 0)
    return -1;
  *ret_pid = (guint32)pid;
  return banger_pidfd_open ((pid_t)pid);
}

int
banger_helper_disk_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error) ? open ("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
}

gboolean
banger_helper_status_finish (GAsyncResult *result, BangerVmmStatus *ret, GError **error)
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

gboolean
banger_helper_engine_finish (GAsyncResult *result, BangerEngineInfo *ret, GError **error)
{
  if (!g_task_propagate_boolean (G_TASK (result), error))
    return FALSE;
  g_auto (GStrv) words = g_strsplit (fake.engine, "|", 3);
  *ret = (BangerEngineInfo){ g_strdup (words[0]), g_strdup (words[1]), g_strdup (words[2]) };
  return TRUE;
}

void
banger_engine_info_clear (BangerEngineInfo *info)
{
  g_clear_pointer (&info->name, g_free);
  g_clear_pointer (&info->problem, g_free);
  g_clear_pointer (&info->kvm, g_free);
}

GPtrArray *
banger_helper_leases_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}
