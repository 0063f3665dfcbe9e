/* The connection to the agent in a guest, through the VMM's vsock socket.
 * Never trusts what comes back: a guest is hostile until proven otherwise; lines are bounded and of known words. */
#include "manager/peer/agent.h"

#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "common/error.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "manager/core/later.h"
#include "manager/peer/credentials.h"

#define BACKOFF_FIRST_MSEC 50
#define BACKOFF_LAST_MSEC 2000
#define STEADY_USEC (10 * G_USEC_PER_SEC) /* a connection that held so long may be tried again at once */
#define BOOT_ID_MAX 64
#define HELLO_SECONDS 10
#define MAX_UNASKED 65536u /* bytes: what a former connection left, and a ready now and then */

typedef enum { PHASE_DOWN, PHASE_CONNECT_SENT, PHASE_HELLO_SENT, PHASE_UP } Phase;

struct BangerAgent {
  char *socket_path;
  pid_t pid; /* who must listen there */
  BangerAgentNotify ready;
  gpointer user_data;
  Phase phase;
  GCancellable *cancellable; /* of this connection */
  GSocketConnection *connection;
  GString *in;  /* not yet a whole line */
  GString *out; /* not yet written */
  gboolean writing;
  char buffer[1024];
  char *hello_token;
  gboolean can_exec, can_identity, can_names, can_receive; /* it said so on this connection */
  gboolean told_ready;                                     /* on this connection */
  gboolean is_ready;                                       /* the guest of @boot_id */
  gboolean no_sshd;                                        /* as the guest said last */
  gsize unasked;                                           /* bytes since the last answer to us */
  char *boot_id;
  guint last_token;
  GHashTable *calls; /* token -> AgentCall */
  GPtrArray *waits;  /* AgentWait */
  guint retry_id, hello_id, backoff_msec;
  gint64 up_at; /* monotonic */
};

typedef struct {
  BangerAgent *agent;
  char *token;
  GTask *task;
  guint timeout_id;
  gulong cancel_id;
} AgentCall;

typedef struct {
  BangerAgent *agent;
  BangerAgentLevel level;
  GTask *task;
  guint idle_id;
  gulong cancel_id;
} AgentWait;

/* What the two asynchronous operations on a connection hold: the connection may be given up while they are under way.
 */
typedef struct {
  BangerAgent *agent;
  GCancellable *cancellable;
} Flight;

static void agent_connect (BangerAgent *agent);
static void agent_read (BangerAgent *agent);
static void agent_write (BangerAgent *agent);

static Flight *
flight_new (BangerAgent *agent)
{
  Flight *flight = g_new0 (Flight, 1);
  flight->agent = agent;
  flight->cancellable = g_object_ref (agent->cancellable);
  return flight;
}

/* Returns: the agent, or NULL if this connection was given up meanwhile (the agent may be freed). */
static BangerAgent *
flight_land (Flight *flight)
{
  BangerAgent *agent = g_cancellable_is_cancelled (flight->cancellable) ? NULL : flight->agent;
  g_object_unref (flight->cancellable);
  g_free (flight);
  return agent;
}

static void
call_free (gpointer data)
{
  AgentCall *call = data;
  g_clear_handle_id (&call->timeout_id, g_source_remove);
  GCancellable *cancellable = g_task_get_cancellable (call->task);
  if (cancellable && call->cancel_id)
    g_signal_handler_disconnect (cancellable, call->cancel_id);
  g_object_unref (call->task);
  g_free (call->token);
  g_free (call);
}

static void
wait_free (gpointer data)
{
  AgentWait *wait = data;
  g_clear_handle_id (&wait->idle_id, g_source_remove);
  GCancellable *cancellable = g_task_get_cancellable (wait->task);
  if (cancellable && wait->cancel_id)
    g_signal_handler_disconnect (cancellable, wait->cancel_id);
  g_object_unref (wait->task);
  g_free (wait);
}

static void
agent_fail_calls (BangerAgent *agent, BangerError code, const char *why)
{
  g_autoptr (GHashTable) calls = agent->calls;
  agent->calls = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, call_free);
  GHashTableIter iter;
  AgentCall *call;
  g_hash_table_iter_init (&iter, calls);
  while (g_hash_table_iter_next (&iter, NULL, (gpointer *)&call))
    banger_task_return_later (g_object_ref (call->task), g_error_new (BANGER_ERROR, (int)code, "guest agent: %s", why));
}

static void
agent_close (BangerAgent *agent)
{
  g_clear_handle_id (&agent->hello_id, g_source_remove);
  g_cancellable_cancel (agent->cancellable);
  g_clear_object (&agent->cancellable);
  g_clear_object (&agent->connection);
  g_string_truncate (agent->in, 0);
  g_string_truncate (agent->out, 0);
  agent->writing = FALSE;
  agent->told_ready = FALSE;
  agent->unasked = 0;
  agent->can_exec = agent->can_identity = agent->can_names = agent->can_receive = FALSE;
  agent->phase = PHASE_DOWN;
}

static gboolean
on_retry (gpointer data)
{
  BangerAgent *agent = data;
  agent->retry_id = 0;
  agent_connect (agent);
  return G_SOURCE_REMOVE;
}

/* Gives this connection up and tries again later. */
static void
agent_lost (BangerAgent *agent, const char *why)
{
  if (agent->phase == PHASE_UP) {
    banger_log (LOG_DEBUG, NULL, "guest agent: connection lost: %s", why);
    if (g_get_monotonic_time () - agent->up_at >= STEADY_USEC)
      agent->backoff_msec = BACKOFF_FIRST_MSEC;
  }
  agent_close (agent);
  agent_fail_calls (agent, BANGER_ERROR_GUEST_FAILED, why);
  agent->retry_id = g_timeout_add (agent->backoff_msec, on_retry, agent);
  agent->backoff_msec = MIN (agent->backoff_msec * 2, BACKOFF_LAST_MSEC);
}

static gboolean
level_reached (BangerAgent *agent, BangerAgentLevel level)
{
  return level == BANGER_AGENT_READY ? agent->boot_id != NULL : agent->phase == PHASE_UP;
}

static void
agent_wake_waits (BangerAgent *agent)
{
  for (guint i = agent->waits->len; i > 0; i--) {
    AgentWait *wait = agent->waits->pdata[i - 1];
    if (!level_reached (agent, wait->level))
      continue;
    banger_task_return_later (g_object_ref (wait->task), NULL);
    g_ptr_array_remove_index (agent->waits, i - 1);
  }
}

static gboolean
boot_id_ok (const char *text)
{
  size_t length = strspn (text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");
  return length > 0 && length <= BOOT_ID_MAX && text[length] == '\0';
}

static void
agent_set_ready (BangerAgent *agent, const char *boot_id)
{
  /* Each change is written to the disk and told on the bus: a guest gets one for each connection, which come ever
   * later. */
  if (agent->told_ready || !boot_id_ok (boot_id))
    return;
  agent->told_ready = TRUE;
  gboolean news = !agent->is_ready || g_strcmp0 (agent->boot_id, boot_id) != 0;
  agent->is_ready = TRUE;
  g_free (agent->boot_id);
  agent->boot_id = g_strdup (boot_id);
  agent_wake_waits (agent);
  if (news && agent->ready)
    agent->ready (agent, agent->boot_id, agent->user_data);
}

static void
agent_answer (BangerAgent *agent, AgentCall *call, const char *rest)
{
  GError *error = NULL;
  if (!g_str_equal (rest, "ok") && !g_str_has_prefix (rest, "ok ")) {
    g_autofree char *text = banger_log_escape (g_str_has_prefix (rest, "error ") ? rest + 6 : rest, 256);
    error = g_error_new (BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: %s", text);
  } else if (rest[2] == ' ') {
    g_task_set_task_data (call->task, g_strdup (rest + 3), g_free);
  }
  banger_task_return_later (g_object_ref (call->task), error);
  g_hash_table_remove (agent->calls, call->token);
}

static void
agent_line_hello (BangerAgent *agent, const char *line)
{
  /* What a former host's connection left in the stream is dropped up to our token. */
  size_t n = strlen (agent->hello_token);
  if (strncmp (line, agent->hello_token, n) || strncmp (line + n, " ok", 3))
    return;
  g_auto (GStrv) words = g_strsplit (line + n, " ", -1);
  g_clear_handle_id (&agent->hello_id, g_source_remove);
  agent->no_sshd = g_strv_contains ((const char *const *)words, BANGER_GUEST_NO_SSHD);
  agent->can_exec = g_strv_contains ((const char *const *)words, BANGER_GUEST_CAN_EXEC);
  agent->can_identity = g_strv_contains ((const char *const *)words, BANGER_GUEST_CAN_IDENTITY);
  agent->can_names = g_strv_contains ((const char *const *)words, BANGER_GUEST_CAN_NAMES);
  agent->can_receive = g_strv_contains ((const char *const *)words, BANGER_GUEST_CAN_RECEIVE);
  agent->unasked = 0;
  agent->phase = PHASE_UP;
  agent->up_at = g_get_monotonic_time ();
  agent_wake_waits (agent);
}

static void
agent_line_up (BangerAgent *agent, char *line)
{
  if (g_str_has_prefix (line, "ready ")) {
    agent_set_ready (agent, line + 6);
    return;
  }
  char *space = strchr (line, ' ');
  if (!space)
    return;
  *space = '\0';
  AgentCall *call = g_hash_table_lookup (agent->calls, line);
  if (!call)
    return;
  agent->unasked = 0;
  agent_answer (agent, call, space + 1);
}

static void
agent_send (BangerAgent *agent, const char *text)
{
  g_string_append (agent->out, text);
  agent_write (agent);
}

static gboolean
on_hello_timeout (gpointer data)
{
  BangerAgent *agent = data;
  agent->hello_id = 0;
  agent_lost (agent, "no answer to hello");
  return G_SOURCE_REMOVE;
}

static gboolean
agent_line_connect (BangerAgent *agent, const char *line)
{
  if (!g_str_has_prefix (line, "OK "))
    return FALSE;
  g_free (agent->hello_token);
  agent->hello_token = g_strdup_printf ("h%x-%u", g_random_int (), ++agent->last_token);
  g_autofree char *hello = g_strdup_printf ("\nhello %s\n", agent->hello_token);
  agent->phase = PHASE_HELLO_SENT;
  agent->hello_id = g_timeout_add_seconds (HELLO_SECONDS, on_hello_timeout, agent);
  agent_send (agent, hello);
  return TRUE;
}

/* Returns: FALSE if the connection is of no use any more. */
static gboolean
agent_line (BangerAgent *agent, char *line)
{
  switch (agent->phase) {
    case PHASE_CONNECT_SENT:
      return agent_line_connect (agent, line);
    case PHASE_HELLO_SENT:
      agent_line_hello (agent, line);
      return TRUE;
    case PHASE_UP:
      agent_line_up (agent, line);
      return TRUE;
    case PHASE_DOWN:
    default:
      return FALSE;
  }
}

/* Returns: FALSE if the connection is of no use any more, or was given up by a callback. */
static gboolean
agent_eat (BangerAgent *agent)
{
  g_autoptr (GCancellable) connection = g_object_ref (agent->cancellable);
  char *end;
  while ((end = memchr (agent->in->str, '\n', agent->in->len))) {
    g_autofree char *line = g_strndup (agent->in->str, (gsize)(end - agent->in->str));
    g_string_erase (agent->in, 0, end - agent->in->str + 1);
    if (!agent_line (agent, line) || g_cancellable_is_cancelled (connection))
      return FALSE;
  }
  return agent->in->len <= BANGER_GUEST_MAX_LINE && agent->unasked <= MAX_UNASKED;
}

static void
on_read (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_input_stream_read_finish (G_INPUT_STREAM (source), result, &error);
  BangerAgent *agent = flight_land (data);
  if (!agent)
    return;
  if (n <= 0) {
    agent_lost (agent, error ? error->message : "the guest closed it");
    return;
  }
  g_autoptr (GCancellable) connection = g_object_ref (agent->cancellable);
  agent->unasked += (gsize)n;
  g_string_append_len (agent->in, agent->buffer, n);
  if (agent_eat (agent))
    agent_read (agent);
  else if (!g_cancellable_is_cancelled (connection))
    agent_lost (agent, "the answer is not of our protocol");
}

static void
agent_read (BangerAgent *agent)
{
  GInputStream *in = g_io_stream_get_input_stream (G_IO_STREAM (agent->connection));
  g_input_stream_read_async (in, agent->buffer, sizeof agent->buffer, G_PRIORITY_DEFAULT, agent->cancellable, on_read,
                             flight_new (agent));
}

static void
on_written (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  gssize n = g_output_stream_write_bytes_finish (G_OUTPUT_STREAM (source), result, &error);
  BangerAgent *agent = flight_land (data);
  if (!agent)
    return;
  agent->writing = FALSE;
  if (n < 0) {
    agent_lost (agent, error->message);
    return;
  }
  g_string_erase (agent->out, 0, n);
  agent_write (agent);
}

static void
agent_write (BangerAgent *agent)
{
  if (agent->writing || agent->out->len == 0)
    return;
  agent->writing = TRUE;
  GOutputStream *out = g_io_stream_get_output_stream (G_IO_STREAM (agent->connection));
  g_autoptr (GBytes) bytes = g_bytes_new (agent->out->str, agent->out->len);
  /* The copy lives as long as the operation: agent->out may grow meanwhile. */
  g_output_stream_write_bytes_async (out, bytes, G_PRIORITY_DEFAULT, agent->cancellable, on_written,
                                     flight_new (agent));
}

static void
on_connected (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocketConnection) connection = g_socket_client_connect_finish (G_SOCKET_CLIENT (source), result, &error);
  BangerAgent *agent = flight_land (data);
  if (!agent)
    return;
  if (!connection || !banger_peer_check (connection, agent->pid, &error)) {
    agent_lost (agent, error->message);
    return;
  }
  agent->connection = g_steal_pointer (&connection);
  agent->phase = PHASE_CONNECT_SENT;
  g_autofree char *connect = g_strdup_printf ("CONNECT %d\n", BANGER_GUEST_PORT);
  agent_send (agent, connect);
  agent_read (agent);
}

static void
agent_connect (BangerAgent *agent)
{
  agent->cancellable = g_cancellable_new ();
  g_autoptr (GSocketClient) client = g_socket_client_new ();
  g_socket_client_set_enable_proxy (client, FALSE);
  g_autoptr (GSocketAddress) address = g_unix_socket_address_new (agent->socket_path);
  g_socket_client_connect_async (client, G_SOCKET_CONNECTABLE (address), agent->cancellable, on_connected,
                                 flight_new (agent));
}

BangerAgent *
banger_agent_new (const char *socket_path, pid_t pid, BangerAgentNotify ready, gpointer user_data)
{
  BangerAgent *agent = g_new0 (BangerAgent, 1);
  agent->socket_path = g_strdup (socket_path);
  agent->pid = pid;
  agent->ready = ready;
  agent->user_data = user_data;
  agent->in = g_string_new (NULL);
  agent->out = g_string_new (NULL);
  agent->calls = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, call_free);
  agent->waits = g_ptr_array_new_with_free_func (wait_free);
  agent->backoff_msec = BACKOFF_FIRST_MSEC;
  agent_connect (agent);
  return agent;
}

void
banger_agent_free (BangerAgent *agent)
{
  if (!agent)
    return;
  g_clear_handle_id (&agent->retry_id, g_source_remove);
  if (agent->cancellable)
    agent_close (agent);
  agent_fail_calls (agent, BANGER_ERROR_CANCELLED, "not needed any more");
  for (guint i = 0; i < agent->waits->len; i++)
    banger_task_return_later (g_object_ref (((AgentWait *)agent->waits->pdata[i])->task),
                              g_error_new (BANGER_ERROR, BANGER_ERROR_CANCELLED, "guest agent: not needed any more"));
  g_ptr_array_unref (agent->waits);
  g_hash_table_unref (agent->calls);
  g_string_free (agent->in, TRUE);
  g_string_free (agent->out, TRUE);
  g_free (agent->hello_token);
  g_free (agent->boot_id);
  g_free (agent->socket_path);
  g_free (agent);
}

gboolean
banger_agent_connected (BangerAgent *agent)
{
  return agent->phase == PHASE_UP;
}

gboolean
banger_agent_can_exec (BangerAgent *agent)
{
  return agent->phase == PHASE_UP && agent->can_exec;
}

gboolean
banger_agent_can_receive (BangerAgent *agent)
{
  return agent->phase == PHASE_UP && agent->can_receive;
}

gboolean
banger_agent_can_identity (BangerAgent *agent)
{
  return agent->phase == PHASE_UP && agent->can_identity;
}

gboolean
banger_agent_can_names (BangerAgent *agent)
{
  return agent->phase == PHASE_UP && agent->can_names;
}

const char *
banger_agent_boot_id (BangerAgent *agent)
{
  return agent->boot_id;
}

void
banger_agent_renew (BangerAgent *agent)
{
  agent->is_ready = agent->told_ready = FALSE;
}

gboolean
banger_agent_is_ready (BangerAgent *agent)
{
  return agent->is_ready;
}

/* Of what the guest says on two connections either may come first. */
void
banger_agent_set_boot_id (BangerAgent *agent, const char *boot_id)
{
  if (g_strcmp0 (agent->boot_id, boot_id) != 0)
    banger_agent_renew (agent);
  g_free (agent->boot_id);
  agent->boot_id = g_strdup (boot_id);
}

gboolean
banger_agent_no_sshd (BangerAgent *agent)
{
  return agent->no_sshd;
}

/* Cancellation ends a wait from an idle: the handler itself must not free what it is called from. */
static gboolean
on_wait_idle (gpointer data)
{
  AgentWait *wait = data;
  wait->idle_id = 0;
  g_autoptr (GTask) task = g_object_ref (wait->task);
  g_ptr_array_remove (wait->agent->waits, wait);
  g_task_return_error_if_cancelled (task);
  return G_SOURCE_REMOVE;
}

static void
on_wait_cancelled (GCancellable *cancellable, AgentWait *wait)
{
  if (!wait->idle_id)
    wait->idle_id = g_idle_add (on_wait_idle, wait);
}

void
banger_agent_wait_async (BangerAgent *agent, BangerAgentLevel level, GCancellable *cancellable,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  AgentWait *wait = g_new0 (AgentWait, 1);
  wait->agent = agent;
  wait->level = level;
  wait->task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (wait->task, FALSE);
  g_ptr_array_add (agent->waits, wait);
  if (cancellable && g_cancellable_is_cancelled (cancellable))
    on_wait_cancelled (cancellable, wait);
  else if (cancellable)
    wait->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_wait_cancelled), wait);
  agent_wake_waits (agent);
}

gboolean
banger_agent_wait_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}

static gboolean
on_call_timeout (gpointer data)
{
  AgentCall *call = data;
  call->timeout_id = 0;
  g_autoptr (GTask) task = g_object_ref (call->task);
  g_hash_table_remove (call->agent->calls, call->token);
  if (!g_task_return_error_if_cancelled (task))
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_TIMEOUT, "guest agent: no answer in time");
  return G_SOURCE_REMOVE;
}

static void
on_call_cancelled (GCancellable *cancellable, AgentCall *call)
{
  g_clear_handle_id (&call->timeout_id, g_source_remove);
  call->timeout_id = g_idle_add (on_call_timeout, call);
}

void
banger_agent_call_async (BangerAgent *agent, const char *verb, guint seconds, GCancellable *cancellable,
                         GAsyncReadyCallback callback, gpointer user_data)
{
  banger_agent_call_with_async (agent, verb, NULL, seconds, cancellable, callback, user_data);
}

const char *
banger_agent_call_answer (GAsyncResult *result)
{
  return g_task_get_task_data (G_TASK (result));
}

void
banger_agent_call_with_async (BangerAgent *agent, const char *verb, const char *argument, guint seconds,
                              GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_autoptr (GTask) task = g_task_new (NULL, cancellable, callback, user_data);
  g_task_set_check_cancellable (task, FALSE);
  if (g_task_return_error_if_cancelled (task))
    return;
  if (agent->phase != PHASE_UP) {
    g_task_return_new_error (task, BANGER_ERROR, BANGER_ERROR_GUEST_FAILED, "guest agent: not connected");
    return;
  }
  AgentCall *call = g_new0 (AgentCall, 1);
  call->agent = agent;
  call->token = g_strdup_printf ("t%u", ++agent->last_token);
  call->task = g_steal_pointer (&task);
  call->timeout_id = g_timeout_add_seconds (seconds, on_call_timeout, call);
  if (cancellable)
    call->cancel_id = g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_call_cancelled), call);
  g_hash_table_insert (agent->calls, call->token, call);
  g_autofree char *line = g_strdup_printf ("%s %s%s%s\n", verb, call->token, argument ? " " : "",
                                           argument ? argument : "");
  agent_send (agent, line);
}

gboolean
banger_agent_call_finish (GAsyncResult *result, GError **error)
{
  return g_task_propagate_boolean (G_TASK (result), error);
}
