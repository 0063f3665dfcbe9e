/* Shared bodies of handlers, and how an error is told.
 * Never hides a failure behind a later success. */
#include "cli/verbs.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/signals.h"
#include "common/error.h"
#include "common/log.h"

int
banger_report_error (const GError *error, const BangerCommand *command)
{
  g_printerr ("banger: %s\n", error->message);
  if (error->domain == BANGER_USAGE_ERROR) {
    if (command)
      g_printerr (_ ("Try `banger %s --help`.\n"), command->words);
    else
      g_printerr (_ ("Try `banger --help`.\n"));
    return 2;
  }
  if (error->domain != BANGER_ERROR)
    return banger_error_exit_status (BANGER_ERROR_FAILED);
  if (error->code == BANGER_ERROR_CANCELLED && banger_signals_first () != 0)
    return 128 + banger_signals_first ();
  return banger_error_exit_status ((BangerError)error->code);
}

/* @text has one %s: not a format string, as it comes from a table. */
static char *
fill_in (const char *text, const char *name)
{
  g_auto (GStrv) parts = g_strsplit (_ (text), "%s", 2);
  return g_strjoinv (name, parts);
}

static gboolean
run_one (BangerClient *client, const BangerInvocation *invocation, const BangerVerb *verb, const char *name,
         GError **error)
{
  g_autofree char *what = fill_in (verb->what, name);
  g_autofree char *done = fill_in (verb->done, name);
  const BangerJobText text = { name, what, done, banger_invocation_flag (invocation, "quiet"), FALSE };
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, verb->method);
  sd_bus_message_append (call, "s", name);
  const char *value = verb->text ? banger_invocation_string (invocation, verb->text) : NULL;
  sd_bus_message_open_container (call, 'a', "{sv}");
  if (verb->flag && banger_invocation_flag (invocation, verb->flag))
    sd_bus_message_append (call, "{sv}", verb->flag, "b", TRUE);
  if (value)
    sd_bus_message_append (call, "{sv}", verb->text, "s", value);
  sd_bus_message_close_container (call);
  if (!verb->immediate) {
    gboolean fine = banger_client_run_job (client, call, &text, NULL, error);
    if (fine && verb->then)
      verb->then (client, name);
    return fine;
  }

  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, verb->usec, error);
  if (!reply)
    g_prefix_error (error, "%s: ", what);
  else if (!text.quiet)
    g_printerr ("%s\n", done);
  return reply != NULL;
}

int
banger_run_each (const BangerInvocation *invocation, const BangerVerb *verb, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (verb->immediate ? BANGER_CLIENT_PLAIN : BANGER_CLIENT_JOBS,
                                                       error);
  if (!client)
    return -1;
  if (!banger_invocation_argument (invocation, 1))
    return run_one (client, invocation, verb, banger_invocation_argument (invocation, 0), error) ? 0 : -1;

  int status = 0;
  const char *name;
  for (guint i = 0; (name = banger_invocation_argument (invocation, i)) && banger_signals_first () == 0; i++) {
    g_autoptr (GError) failure = NULL;
    if (run_one (client, invocation, verb, name, &failure))
      continue;
    int failed = banger_report_error (failure, invocation->command);
    status = status == 0 ? failed : status;
  }
  return status;
}

int
banger_list (const BangerInvocation *invocation, const BangerKind *kind, gboolean (*keep) (JsonObject *),
             GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  gboolean json = banger_invocation_flag (invocation, "json");
  g_autoptr (GPtrArray) objects = !client ? NULL
                                  : json  ? banger_objects_list (client, kind, error)
                                          : banger_objects_list_short (client, kind, error);
  if (!objects)
    return -1;
  for (guint i = 0; json && kind == &banger_kind_vm && i < objects->len; i++)
    banger_objects_name_links (objects, g_ptr_array_index (objects, i));
  for (guint i = objects->len; keep && i > 0; i--)
    if (!keep (g_ptr_array_index (objects, i - 1)))
      g_ptr_array_remove_index (objects, i - 1);

  if (!json) {
    g_autofree char *text = banger_objects_format_list (kind, objects);
    g_print ("%s", text);
    return 0;
  }
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < objects->len; i++)
    json_array_add_element (array, banger_objects_to_json (kind, g_ptr_array_index (objects, i)));
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  banger_json_print (node);
  return 0;
}

int
banger_show (const BangerInvocation *invocation, const BangerKind *kind, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return -1;
  g_autoptr (JsonObject) properties = banger_objects_get (client, kind, banger_invocation_argument (invocation, 0),
                                                          NULL, error);
  if (!properties)
    return -1;
  g_autoptr (GPtrArray) vms = banger_object_has_links (properties) ? banger_objects_list (client, kind, NULL) : NULL;
  if (vms)
    banger_objects_name_links (vms, properties);
  if (banger_invocation_flag (invocation, "json")) {
    banger_json_print (banger_objects_to_json (kind, properties));
    return 0;
  }
  g_autofree char *text = banger_objects_format_show (kind, properties);
  g_print ("%s", text);
  return 0;
}

const char *
banger_new_name (const BangerInvocation *invocation)
{
  const char *name = banger_invocation_argument (invocation, 0);
  return name ? name : "default";
}

char *
banger_absolute_path (const char *path, GError **error)
{
  if (path[0] == '/' || path[0] == '\0')
    return g_strdup (path);
  g_autofree char *here = getcwd (NULL, 0);
  if (here)
    return g_strconcat (here, "/", path, NULL);
  g_autofree char *shown = banger_log_escape (path, PATH_MAX);
  banger_usage_error (error, _ ("cannot use '%s': the directory that you are in: %s; go to another one"), shown,
                      g_strerror (errno));
  return NULL;
}

void
banger_append_strv_option (sd_bus_message *message, const char *key, const char *const *words)
{
  if (!*words)
    return;
  sd_bus_message_open_container (message, 'e', "sv");
  sd_bus_message_append (message, "s", key);
  sd_bus_message_open_container (message, 'v', "as");
  sd_bus_message_append_strv (message, (char **)words);
  sd_bus_message_close_container (message);
  sd_bus_message_close_container (message);
}

void
banger_append_path (sd_bus_message *message, const char *path)
{
  sd_bus_message_append (message, "s", g_utf8_validate (path, -1, NULL) ? path : "");
}

void
banger_append_path_option (sd_bus_message *message, const char *key, const char *path)
{
  sd_bus_message_open_container (message, 'e', "sv");
  sd_bus_message_append (message, "s", key);
  sd_bus_message_open_container (message, 'v', "ay");
  sd_bus_message_append_array (message, 'y', path, strlen (path));
  sd_bus_message_close_container (message);
  sd_bus_message_close_container (message);
}

void
banger_append_path_bytes (sd_bus_message *message, const char *key, const char *path)
{
  if (!g_utf8_validate (path, -1, NULL))
    banger_append_path_option (message, key, path);
}
