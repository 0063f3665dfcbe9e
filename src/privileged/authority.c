/* polkit: the second check of every method (requirement A4). The default answer is no.
 * Never blocks, never caches, never names a subject by its pid. */
#include "privileged/authority.h"

#include <polkit/polkit.h>

#include "common/bus-source.h"
#include "common/log.h"

#define ANSWER_TYPE "((bba{ss}))"
#define MAX_DETAIL 64
#define MAX_ANSWER (64 * 1024)             /* bytes; polkit's own are some hundred */
#define PROMPT_USEC (120 * G_USEC_PER_SEC) /* a person types a password */

/* Named by the call as long as that waits; freed when polkit's library has let go of it. */
struct BangerQuestion {
  BangerAuthority *authority;
  BangerCall *call; /* NULL: nobody waits for the answer */
  BangerAuthorityAnswer answer;
  GCancellable *withdrawn; /* CancelCheckAuthorization follows */
  guint timer;
  guint asked, answered; /* of the method's actions */
};

struct BangerAuthority {
  GDBusConnection *connection;
  PolkitAuthority *polkit; /* NULL until there is a connection */
  GQueue waiting;          /* of questions that came before that */
  GCancellable *ending;
  gboolean opening;
  BangerAuthorityLost lost;
  gpointer lost_data;
};

static void
question_free (BangerQuestion *question)
{
  g_object_unref (question->withdrawn);
  g_free (question);
}

/* Nobody waits for the answer from here on. Returns: whose question it was. */
static BangerCall *
let_go (BangerQuestion *question)
{
  BangerCall *call = g_steal_pointer (&question->call);
  g_clear_handle_id (&question->timer, g_source_remove);
  call->question = NULL;
  return call;
}

static void
abandon (BangerQuestion *question)
{
  if (question->asked) {
    g_cancellable_cancel (question->withdrawn);
    return;
  }
  g_queue_remove (&question->authority->waiting, question);
  question_free (question);
}

static void
refuse (BangerQuestion *question, const char *why)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *shown = banger_log_escape (why, 200);
  banger_set_error (&error, BANGER_ERROR_NOT_AUTHORIZED, "polkit does not answer, so this is not allowed: %s", shown);
  BangerAuthorityAnswer answer = question->answer;
  BangerCall *call = let_go (question);
  answer (call, error);
}

static gboolean
read_answer (PolkitAuthorizationResult *result, GError **error)
{
  if (polkit_authorization_result_get_is_authorized (result))
    return TRUE;
  if (polkit_authorization_result_get_is_challenge (result))
    return banger_set_error (error, BANGER_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                             "polkit wants someone to authenticate for this");
  return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED, "polkit does not allow this; see docs/privileges.md");
}

static gboolean
on_time_is_up (gpointer data)
{
  BangerQuestion *question = data;
  question->timer = 0;
  refuse (question, "no answer in time");
  abandon (question);
  return G_SOURCE_REMOVE;
}

static const char *
action_of (const BangerMethod *method, guint i)
{
  return i == 0 ? method->action : i == 1 ? method->also : NULL;
}

static PolkitDetails *
details_of (const BangerCall *call)
{
  g_autofree char *owner = g_strdup_printf ("%u", call->owner);
  const struct {
    const char *key, *value;
  } details[] = {
    { "verb", call->method->name },
    { "vm", banger_call_vm (call) },
    { "bridge", call->strings[BANGER_ARG_BRIDGE] },
    { "owner", owner },
  };
  PolkitDetails *all = polkit_details_new ();
  for (size_t i = 0; i < G_N_ELEMENTS (details); i++) {
    g_autofree char *shown = banger_log_escape (details[i].value ? details[i].value : "-", MAX_DETAIL);
    polkit_details_insert (all, details[i].key, shown);
  }
  return all;
}

static gboolean
is_interactive (const BangerCall *call)
{
  return sd_bus_message_get_allow_interactive_authorization (call->message) > 0;
}

static void on_answer (GObject *source, GAsyncResult *asked, gpointer data);

static void
ask_next (BangerQuestion *question)
{
  const BangerCall *call = question->call;
  g_autoptr (PolkitSubject) subject = polkit_system_bus_name_new (call->sender);
  g_autoptr (PolkitDetails) details = details_of (call);
  polkit_authority_check_authorization (question->authority->polkit, subject,
                                        action_of (call->method, question->asked++), details,
                                        is_interactive (call) ? POLKIT_CHECK_AUTHORIZATION_FLAGS_ALLOW_USER_INTERACTION
                                                              : POLKIT_CHECK_AUTHORIZATION_FLAGS_NONE,
                                        question->withdrawn, on_answer, question);
}

/* About all actions at the same time, but of a person one thing after the other. */
static void
ask (BangerQuestion *question)
{
  do
    ask_next (question);
  while (!is_interactive (question->call) && action_of (question->call->method, question->asked));
}

/* The first no is the answer. Yes is it when there was one to each. */
static void
take_answer (BangerQuestion *question, PolkitAuthorizationResult *result, GError *failed)
{
  g_autoptr (GError) why = NULL;
  if (!result) {
    g_dbus_error_strip_remote_error (failed);
    refuse (question, failed->message);
  } else if (read_answer (result, &why) && action_of (question->call->method, question->answered)) {
    if (question->asked == question->answered)
      ask_next (question);
  } else {
    BangerCall *call = let_go (question);
    g_cancellable_cancel (question->withdrawn); /* what is still being asked */
    question->answer (call, why);
  }
}

static void
on_answer (GObject *source, GAsyncResult *asked, gpointer data)
{
  BangerQuestion *question = data;
  g_autoptr (GError) failed = NULL;
  g_autoptr (PolkitAuthorizationResult) result = polkit_authority_check_authorization_finish (POLKIT_AUTHORITY (source),
                                                                                              asked, &failed);
  question->answered++;
  if (question->call)
    take_answer (question, result, failed);
  if (!question->call && question->asked == question->answered)
    question_free (question);
}

/* The connection */

static void
cannot_open (BangerAuthority *self, const GError *error)
{
  BangerQuestion *question;
  self->opening = FALSE;
  while ((question = g_queue_pop_head (&self->waiting))) {
    refuse (question, error->message);
    question_free (question);
  }
}

static void
on_polkit (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  PolkitAuthority *polkit = polkit_authority_get_finish (result, &error);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return; /* the helper ends, and @data is gone */
  BangerAuthority *self = data;
  BangerQuestion *question;
  if (!polkit) {
    cannot_open (self, error);
    return;
  }
  self->opening = FALSE;
  self->polkit = polkit;
  while ((question = g_queue_pop_head (&self->waiting)))
    ask (question);
}

/* polkit's library waits for an answer to each withdrawal, and the bus counts what one connection waits for: a polkit
 * that hangs and callers who leave would use it up. */
static GDBusMessage *
want_no_answer (GDBusMessage *withdrawal)
{
  GDBusMessage *copy = g_dbus_message_copy (withdrawal, NULL);
  if (!copy)
    return withdrawal;
  g_dbus_message_set_flags (copy, g_dbus_message_get_flags (withdrawal) | G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
  g_object_unref (withdrawal);
  return copy;
}

static GDBusMessage *
as_error (GDBusMessage *answer)
{
  GDBusMessage *error = g_dbus_message_new ();
  g_dbus_message_set_message_type (error, G_DBUS_MESSAGE_TYPE_ERROR);
  g_dbus_message_set_serial (error, g_dbus_message_get_serial (answer));
  g_dbus_message_set_reply_serial (error, g_dbus_message_get_reply_serial (answer));
  g_dbus_message_set_sender (error, g_dbus_message_get_sender (answer));
  g_dbus_message_set_error_name (error, "org.freedesktop.DBus.Error.InvalidSignature");
  g_dbus_message_set_body (error, g_variant_new ("(s)", "the answer cannot be read"));
  g_object_unref (answer);
  return error;
}

/* Of what others than the bus return only answers to a check count: polkit's library reads whatever comes as one, and
 * from another type it reads what was on the stack. It makes a table of all details, too, and copies an error's words. */
static gboolean
is_unreadable (GDBusMessage *message)
{
  GVariant *body = g_dbus_message_get_body (message);
  GDBusMessageType type = g_dbus_message_get_message_type (message);
  if (g_strcmp0 (g_dbus_message_get_sender (message), BANGER_BUS_DRIVER) == 0)
    return FALSE;
  if (type == G_DBUS_MESSAGE_TYPE_ERROR)
    return body && g_variant_get_size (body) > MAX_ANSWER;
  return type == G_DBUS_MESSAGE_TYPE_METHOD_RETURN
         && !(body && g_variant_is_of_type (body, G_VARIANT_TYPE (ANSWER_TYPE))
              && g_variant_get_size (body) <= MAX_ANSWER);
}

/* What passes between polkit's library and the bus. In GDBus's thread. */
static GDBusMessage *
on_message (GDBusConnection *connection, GDBusMessage *message, gboolean incoming, gpointer data)
{
  if (incoming)
    return is_unreadable (message) ? as_error (message) : message;
  return g_strcmp0 (g_dbus_message_get_member (message), "CancelCheckAuthorization") == 0 ? want_no_answer (message)
                                                                                          : message;
}

static void
on_closed (GDBusConnection *connection, gboolean remote, GError *error, gpointer data)
{
  BangerAuthority *self = data;
  self->lost (self->lost_data);
}

static void
on_connection (GObject *source, GAsyncResult *result, gpointer data)
{
  g_autoptr (GError) error = NULL;
  GDBusConnection *connection = g_bus_get_finish (result, &error);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return;
  BangerAuthority *self = data;
  if (!connection) {
    cannot_open (self, error);
    return;
  }
  if (!self->connection) {
    g_dbus_connection_set_exit_on_close (connection, FALSE);
    g_signal_connect (connection, "closed", G_CALLBACK (on_closed), self);
    g_dbus_connection_add_filter (connection, on_message, NULL, NULL);
  } else
    g_object_unref (self->connection);
  self->connection = connection;
  polkit_authority_get_async (self->ending, on_polkit, self);
}

static void
open_connection (BangerAuthority *self)
{
  if (self->opening)
    return;
  self->opening = TRUE;
  g_bus_get (G_BUS_TYPE_SYSTEM, self->ending, on_connection, self);
}

BangerAuthority *
banger_authority_new (BangerAuthorityLost lost, gpointer data)
{
  BangerAuthority *self = g_new0 (BangerAuthority, 1);
  self->ending = g_cancellable_new ();
  self->lost = lost;
  self->lost_data = data;
  open_connection (self);
  return self;
}

void
banger_authority_free (BangerAuthority *self)
{
  if (!self)
    return;
  g_cancellable_cancel (self->ending);
  if (self->connection)
    g_signal_handlers_disconnect_by_data (self->connection, self);
  g_clear_object (&self->polkit);
  g_clear_object (&self->connection);
  g_object_unref (self->ending);
  g_free (self);
}

/* Questions */

/* The caller is gone, or the call ends. */
static void
withdraw (BangerQuestion *question)
{
  (void)let_go (question);
  abandon (question);
}

void
banger_authority_check (BangerAuthority *self, BangerCall *call, BangerAuthorityAnswer answer)
{
  guint64 usec = PROMPT_USEC;
  BangerQuestion *question = g_new0 (BangerQuestion, 1);
  if (!is_interactive (call))
    (void)sd_bus_get_method_call_timeout (banger_call_bus (call), &usec); /* 25 s */
  question->authority = self;
  question->call = call;
  question->answer = answer;
  question->withdrawn = g_cancellable_new ();
  question->timer = g_timeout_add ((guint)(usec / 1000), on_time_is_up, question);
  call->question = question;
  call->withdraw = withdraw;
  if (self->polkit) {
    ask (question);
    return;
  }
  g_queue_push_tail (&self->waiting, question);
  open_connection (self);
}
