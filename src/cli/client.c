/* sd-bus without a main loop: one thing at a time is waited for.
 * Never lets a signal go by between a call and its job's end. */
#include "cli/client.h"

#include <glib/gi18n.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/signals.h"
#include "common/error.h"
#include "common/install.h"
#include "common/names.h"

/* What is known of a job, from signals and one look at its properties. */
typedef struct {
  char *stage;
  double progress;
  char *object;
  char *result; /* NULL while it runs */
  char *error;
  char *message;
  char **warnings;
} Job;

struct BangerClient {
  sd_bus *bus;
  GHashTable *jobs; /* path -> Job; NULL without BANGER_CLIENT_JOBS */
  gboolean closed;
  guint64 brief; /* µs; 0: not */
  gboolean manager_lost;
};

static void
job_free (gpointer data)
{
  Job *job = data;
  g_free (job->stage);
  g_free (job->object);
  g_free (job->result);
  g_free (job->error);
  g_free (job->message);
  g_strfreev (job->warnings);
  g_free (job);
}

static Job *
get_job (BangerClient *client, const char *path)
{
  Job *job = g_hash_table_lookup (client->jobs, path);
  if (!job) {
    job = g_new0 (Job, 1);
    job->progress = -1;
    g_hash_table_insert (client->jobs, g_strdup (path), job);
  }
  return job;
}

static void
replace (char **place, const char *text)
{
  g_free (*place);
  *place = g_strdup (text);
}

static int
read_warnings (sd_bus_message *message, Job *job)
{
  char **texts = NULL;
  int r = sd_bus_message_enter_container (message, 'v', "as");
  if (r >= 0)
    r = sd_bus_message_read_strv (message, &texts);
  if (r >= 0)
    r = sd_bus_message_exit_container (message);
  g_strfreev (job->warnings);
  job->warnings = g_new0 (char *, texts ? g_strv_length (texts) + 1 : 1);
  for (gsize i = 0; texts && texts[i]; i++) {
    job->warnings[i] = g_strdup (texts[i]);
    free (texts[i]);
  }
  free (texts);
  return r;
}

static int
read_job_property (sd_bus_message *message, const char *name, Job *job)
{
  const char *text;
  if (strcmp (name, "Progress") == 0)
    return sd_bus_message_read (message, "v", "d", &job->progress);
  if (strcmp (name, "Warnings") == 0)
    return read_warnings (message, job);
  gboolean object = strcmp (name, "Object") == 0;
  if (!object && strcmp (name, "Stage") != 0)
    return sd_bus_message_skip (message, "v");
  int r = sd_bus_message_read (message, "v", object ? "o" : "s", &text);
  if (r >= 0)
    replace (object ? &job->object : &job->stage, text);
  return r;
}

/* The cursor stands before a{sv}. */
static int
read_job_properties (sd_bus_message *message, Job *job)
{
  int r = sd_bus_message_enter_container (message, 'a', "{sv}");
  while (r >= 0 && (r = sd_bus_message_enter_container (message, 'e', "sv")) > 0) {
    const char *name;
    r = sd_bus_message_read (message, "s", &name);
    if (r >= 0)
      r = read_job_property (message, name, job);
    if (r >= 0)
      r = sd_bus_message_exit_container (message);
  }
  return r;
}

static int
on_job_changed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerClient *client = userdata;
  const char *interface;
  if (sd_bus_message_read (message, "s", &interface) >= 0 && strcmp (interface, BANGER_JOB_INTERFACE) == 0)
    read_job_properties (message, get_job (client, sd_bus_message_get_path (message)));
  return 0;
}

static int
on_job_removed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  const char *path, *result, *name, *text;
  if (sd_bus_message_read (message, "osss", &path, &result, &name, &text) < 0)
    return 0;
  Job *job = get_job (userdata, path);
  replace (&job->result, result);
  replace (&job->error, name);
  replace (&job->message, text);
  return 0;
}

static int
on_owner_changed (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerClient *client = userdata;
  const char *name, *before, *after;
  if (sd_bus_message_read (message, "sss", &name, &before, &after) >= 0 && before[0] != '\0')
    client->manager_lost = TRUE;
  return 0;
}

static gboolean
subscribe (BangerClient *client, GError **error)
{
  static const struct {
    const char *match;
    sd_bus_message_handler_t handler;
  } rows[] = {
    { "type='signal',sender='" BANGER_MANAGER_BUS_NAME "',path='" BANGER_MANAGER_PATH
      "',interface='" BANGER_MANAGER_INTERFACE "',member='JobRemoved'",
      on_job_removed },
    { "type='signal',sender='" BANGER_MANAGER_BUS_NAME "',path_namespace='" BANGER_JOB_PATH_PREFIX
      "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
      on_job_changed },
    { "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0="
      "'" BANGER_MANAGER_BUS_NAME "'",
      on_owner_changed },
  };
  client->jobs = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, job_free);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++) {
    int r = sd_bus_add_match (client->bus, NULL, rows[i].match, rows[i].handler, client);
    if (r < 0)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot subscribe to the manager's signals"));
  }
  return TRUE;
}

/* The bus would wait two minutes for a manager that refuses to run: for this user, or by this metadata. */
static gboolean
check_served (sd_bus *bus, GError **error)
{
  if (sd_bus_get_name_creds (bus, BANGER_MANAGER_BUS_NAME, 0, NULL) >= 0)
    return TRUE;
  g_autoptr (GError) why = NULL;
  g_autoptr (BangerInstall) install = banger_install_load (NULL, &why);
  if (!install) /* a mistake in that file is none in this command line */
    return banger_set_error (error, BANGER_ERROR_FAILED, _ ("banger is not set up: %s; `banger doctor` has more"),
                             why->message);
  if (install->owner_uid == geteuid ())
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_NOT_AUTHORIZED,
                           _ ("this installation serves %s only: run banger as that user"), install->owner_user);
}

BangerClient *
banger_client_new (BangerClientFlags flags, GError **error)
{
  g_autoptr (BangerClient) client = g_new0 (BangerClient, 1);
  int r = sd_bus_open_user_with_description (&client->bus, "banger");
  if (r >= 0) /* opening does not say hello: nothing is known before the first answer */
    r = sd_bus_get_unique_name (client->bus, &(const char *){ NULL });
  if (r < 0) {
    const char *address = g_getenv ("DBUS_SESSION_BUS_ADDRESS");
    banger_set_error (error, BANGER_ERROR_FAILED,
                      _ ("cannot reach the session bus (%s%s): %s; log in as the owner (su - and ssh give a bus only "
                         "after `loginctl enable-linger OWNER`), or set DBUS_SESSION_BUS_ADDRESS"),
                      address ? "DBUS_SESSION_BUS_ADDRESS=" : _ ("DBUS_SESSION_BUS_ADDRESS is not set"),
                      address ? address : "", g_strerror (-r));
    return NULL;
  }
  if (!check_served (client->bus, error))
    return NULL;
  if (flags & BANGER_CLIENT_JOBS) {
    banger_signals_block ();
    if (!subscribe (client, error))
      return NULL;
  }
  return g_steal_pointer (&client);
}

void
banger_client_free (BangerClient *client)
{
  if (!client)
    return;
  sd_bus_flush_close_unref (client->bus);
  g_clear_pointer (&client->jobs, g_hash_table_unref);
  g_free (client);
}

sd_bus *
banger_client_bus (BangerClient *client)
{
  return client->bus;
}

void
banger_client_set_brief (BangerClient *client, guint64 timeout)
{
  client->brief = timeout;
}

sd_bus_message *
banger_client_message (BangerClient *client, const char *path, const char *interface, const char *member)
{
  sd_bus_message *message = NULL;
  int r = sd_bus_message_new_method_call (client->bus, &message, BANGER_MANAGER_BUS_NAME,
                                          path ? path : BANGER_MANAGER_PATH,
                                          interface ? interface : BANGER_MANAGER_INTERFACE, member);
  if (r < 0)
    g_error ("cannot make a message: %s", g_strerror (-r)); /* wrong names: a fault of ours */
  sd_bus_message_set_allow_interactive_authorization (message, isatty (STDIN_FILENO));
  sd_bus_message_set_auto_start (message, client->brief == 0);
  return message;
}

static void
fill_pollfd (BangerClient *client, struct pollfd *slot, gint64 *timeout)
{
  guint64 until = G_MAXUINT64;
  int events = client->closed ? -1 : sd_bus_get_events (client->bus);
  slot->fd = events < 0 ? -1 : sd_bus_get_fd (client->bus);
  slot->events = (short)MAX (events, 0);
  if (slot->fd < 0 || sd_bus_get_timeout (client->bus, &until) < 0 || until == G_MAXUINT64)
    return;
  gint64 left = MAX ((gint64)until - g_get_monotonic_time (), 0);
  if (*timeout < 0 || left < *timeout)
    *timeout = left;
}

BangerWoke
banger_client_poll (BangerClient *client, struct pollfd *fds, guint n, gint64 timeout)
{
  int r = client->closed ? 0 : sd_bus_process (client->bus, NULL);
  if (r > 0)
    return BANGER_WOKE_BUS;
  if (r < 0) {
    client->closed = TRUE;
    return BANGER_WOKE_CLOSED;
  }
  enum { BUS, SIGNALS, FIRST, MORE = 8 };
  struct pollfd all[FIRST + MORE] = {
    [BUS] = { .fd = -1 }, [SIGNALS] = { .fd = banger_signals_fd (), .events = POLLIN }
  };
  g_assert (n <= MORE);
  memcpy (all + FIRST, fds, n * sizeof *fds);
  fill_pollfd (client, &all[BUS], &timeout);
  struct timespec time = { timeout / G_USEC_PER_SEC, timeout % G_USEC_PER_SEC * 1000 };
  if (ppoll (all, FIRST + n, timeout < 0 ? NULL : &time, NULL) <= 0)
    return 0;
  memcpy (fds, all + FIRST, n * sizeof *fds);
  gboolean woke = FALSE;
  for (guint i = 0; i < n; i++)
    woke = woke || fds[i].revents != 0;
  return (all[BUS].revents != 0 ? BANGER_WOKE_BUS : 0) | (all[SIGNALS].revents != 0 ? BANGER_WOKE_SIGNAL : 0)
         | (woke ? BANGER_WOKE_FD : 0);
}

BangerWoke
banger_client_wait (BangerClient *client, int fd, gint64 timeout)
{
  return banger_client_poll (client, &(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout);
}

static gboolean
means_no_manager (const char *name)
{
  return strcmp (name, SD_BUS_ERROR_SERVICE_UNKNOWN) == 0 || strcmp (name, SD_BUS_ERROR_NAME_HAS_NO_OWNER) == 0
         || g_str_has_prefix (name, "org.freedesktop.DBus.Error.Spawn.")
         || g_str_has_prefix (name, "org.freedesktop.systemd1.");
}

static void
set_remote_error (GError **error, const char *name, const char *text)
{
  if (means_no_manager (name))
    banger_set_error (error, BANGER_ERROR_FAILED,
                      _ ("the manager (bangerd) does not run and could not be started: %s; try `systemctl --user start "
                         "bangerd`, and `banger doctor` for what is wrong"),
                      text);
  else if (strcmp (name, SD_BUS_ERROR_NO_REPLY) == 0 || strcmp (name, SD_BUS_ERROR_TIMEOUT) == 0)
    banger_set_error (error, BANGER_ERROR_TIMEOUT,
                      _ ("the manager (bangerd) does not answer: %s; its log: `journalctl --user -u bangerd`"), text);
  else
    banger_set_error (error, banger_error_from_dbus_name (name), "%s", text[0] != '\0' ? text : name);
}

/* Whether every string at the cursor and in what follows is one for the bus, which throws out whoever sends another. */
static gboolean
check_strings (sd_bus_message *message, GError **error)
{
  for (;;) {
    char type;
    const char *contents, *text;
    int r = sd_bus_message_peek_type (message, &type, &contents);
    if (r <= 0)
      return r == 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot ask the manager"));
    if (type == 's') {
      /* Reading one that is none fails, so it cannot be shown: the parser has told those that people give. */
      if (sd_bus_message_read_basic (message, type, &text) >= 0 && g_utf8_validate (text, -1, NULL))
        continue;
      return banger_set_error (error, BANGER_ERROR_INVALID_ARGS,
                               _ ("what the manager is to be told is not UTF-8 text"));
    }
    if (!strchr ("aerv", type) || (type == 'a' && strcmp (contents, "y") == 0)) {
      const char whole[] = { type, type == 'a' ? 'y' : '\0', '\0' };
      sd_bus_message_skip (message, whole);
      continue;
    }
    if (sd_bus_message_enter_container (message, type, contents) < 0 || !check_strings (message, error)
        || sd_bus_message_exit_container (message) < 0)
      return FALSE;
  }
}

/* Returns: (transfer full): what is to be sent: @call has to be sealed to be read, and then has its number. */
static sd_bus_message *
checked_copy (BangerClient *client, sd_bus_message *call, GError **error)
{
  g_autoptr (sd_bus_message) copy = banger_client_message (
      client, sd_bus_message_get_path (call), sd_bus_message_get_interface (call), sd_bus_message_get_member (call));
  if (sd_bus_message_seal (call, 1, 0) < 0 || !check_strings (call, error))
    return NULL;
  if (sd_bus_message_rewind (call, TRUE) < 0 || sd_bus_message_copy (copy, call, TRUE) < 0) {
    banger_set_error (error, BANGER_ERROR_FAILED, _ ("cannot ask the manager"));
    return NULL;
  }
  return g_steal_pointer (&copy);
}

static int
on_reply (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  *(sd_bus_message **)userdata = sd_bus_message_ref (message);
  return 0;
}

/* @signals: how many of them are borne before the wait is given up. */
static sd_bus_message *
call_and_wait (BangerClient *client, sd_bus_message *call, guint64 timeout, guint signals, GError **error)
{
  g_autoptr (sd_bus_message) reply = NULL;
  g_autoptr (sd_bus_slot) slot = NULL;
  g_autoptr (sd_bus_message) checked = checked_copy (client, call, error);
  if (!checked)
    return NULL;
  timeout = timeout == 0 ? client->brief : timeout;
  int r = client->closed ? -ENOTCONN : sd_bus_call_async (client->bus, &slot, checked, on_reply, &reply, timeout);
  if (r < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot ask the manager"));
    return NULL;
  }
  while (!reply) {
    BangerWoke woke = banger_client_wait (client, -1, -1);
    if ((woke & BANGER_WOKE_CLOSED) && !reply) {
      banger_set_error (error, BANGER_ERROR_FAILED, _ ("the session bus went away"));
      return NULL;
    }
    if ((woke & BANGER_WOKE_SIGNAL) && banger_signals_count () > signals) {
      banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted"));
      return NULL;
    }
  }
  if (sd_bus_message_is_method_error (reply, NULL)) {
    const sd_bus_error *remote = sd_bus_message_get_error (reply);
    set_remote_error (error, remote->name, remote->message ? remote->message : "");
    return NULL;
  }
  return g_steal_pointer (&reply);
}

sd_bus_message *
banger_client_call (BangerClient *client, sd_bus_message *call, guint64 timeout, GError **error)
{
  return call_and_wait (client, call, timeout, 1, error);
}

/* What its signals do not tell: the object, and what was before the first one. */
static void
look_at_job (BangerClient *client, const char *path, Job *job)
{
  g_autoptr (sd_bus_message) call = banger_client_message (client, path, "org.freedesktop.DBus.Properties", "GetAll");
  sd_bus_message_append (call, "s", BANGER_JOB_INTERFACE);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, NULL);
  if (reply)
    read_job_properties (reply, job);
}

static void
cancel_job (BangerClient *client, const char *path)
{
  g_autoptr (sd_bus_message) call = banger_client_message (client, path, BANGER_JOB_INTERFACE, "Cancel");
  sd_bus_message_append (call, "a{sv}", 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, 0, NULL); /* refused: it ends by itself */
}

/* What is odd but no failure; of a job that is done, as an error says more. */
static void
print_warnings (const Job *job)
{
  for (char **text = job->warnings; text && *text; text++)
    g_printerr (_ ("warning: %s\n"), *text);
}

/* Returns: FALSE with an error when there is nothing left to wait for. */
static gboolean
wait_for_end (BangerClient *client, const char *path, Job *job, const BangerJobText *text, GError **error)
{
  g_autoptr (BangerProgressView) view = banger_progress_view_new (banger_progress_style (text->quiet), text->label);
  gboolean cancelled = FALSE;
  while (!job->result && !(text->enough && g_strcmp0 (job->stage, text->enough) == 0)) {
    guint signals = banger_signals_count ();
    /* Also when there were two by now: nobody else would cancel it. */
    if (signals > 0 && !cancelled && !text->keep_going)
      cancel_job (client, path);
    cancelled = signals > 0;
    if (signals > (text->keep_going ? 0 : 1))
      return banger_set_error (error, BANGER_ERROR_CANCELLED, _ ("interrupted; the manager goes on with it"));
    if (client->closed)
      return banger_set_error (error, BANGER_ERROR_FAILED, _ ("the session bus went away; the manager may go on"));
    if (client->manager_lost && !job->result)
      return banger_set_error (error, BANGER_ERROR_FAILED,
                               _ ("the manager (bangerd) ended meanwhile; its log: `journalctl --user -u bangerd`"));
    if (!job->result && job->stage)
      banger_progress_view_set (view, job->stage, job->progress);
    if (!job->result)
      banger_client_wait (client, -1, banger_progress_view_tick (view));
  }
  gboolean done = g_strcmp0 (job->result, "done") == 0;
  banger_progress_view_done (view, done ? text->done : NULL);
  if (done)
    print_warnings (job);
  return TRUE;
}

static gboolean
job_outcome (const char *path, const Job *job, GError **error)
{
  if (!job->result || strcmp (job->result, "done") == 0)
    return TRUE;
  const char *text = job->message[0] != '\0' ? job->message : job->result;
  g_autofree char *stripped = banger_error_strip_op_id (text);
  g_autofree char *message = strcmp (stripped, text) != 0
                                 ? g_strdup (text)
                                 : g_strdup_printf ("%s (op-%s)", text, strrchr (path, '/') + 1);
  if (strcmp (job->result, "cancelled") == 0)
    return banger_set_error (error, BANGER_ERROR_CANCELLED, "%s", message);
  set_remote_error (error, job->error, message);
  return FALSE;
}

gboolean
banger_client_run_job (BangerClient *client, sd_bus_message *call, const BangerJobText *text, char **ret_object,
                       GError **error)
{
  const char *path = NULL;
  client->manager_lost = FALSE;
  /* Whatever signals come: without the answer nobody could cancel the job or tidy up behind it. */
  g_autoptr (sd_bus_message) reply = call_and_wait (client, call, 0, G_MAXUINT, error);
  gboolean fine = reply != NULL;
  if (fine && sd_bus_message_read (reply, "o", &path) < 0)
    fine = banger_set_error (error, BANGER_ERROR_FAILED, _ ("the manager's answer is not a job"));

  Job *job = fine ? get_job (client, path) : NULL;
  if (fine && !job->object)
    look_at_job (client, path, job);
  fine = fine && wait_for_end (client, path, job, text, error) && job_outcome (path, job, error);
  if (ret_object)
    *ret_object = g_strdup (job != NULL && job->object != NULL ? job->object : "/");
  if (!fine)
    g_prefix_error (error, "%s: ", text->what);
  return fine;
}
