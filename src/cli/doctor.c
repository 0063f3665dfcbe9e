/* doctor: what this host lacks, as the manager sees it and, where it cannot be asked, as we do.
 * Called through the command table.
 * Never mends anything. */
#include <glib/gi18n.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/table.h"
#include "common/error.h"
#include "common/install.h"

#define ANSWER_USEC (60 * G_USEC_PER_SEC) /* the manager looks at a lot, and starts the helper */

/* check, status (ok, warning, error), what was seen, what to do */
typedef struct {
  char *cells[4];
} Row;

static void
row_free (gpointer data)
{
  Row *row = data;
  for (gsize i = 0; i < G_N_ELEMENTS (row->cells); i++)
    g_free (row->cells[i]);
  g_free (row);
}

static void
add_row (GPtrArray *rows, const char *check, const char *status, const char *seen, const char *remedy)
{
  Row *row = g_new0 (Row, 1);
  const char *const cells[] = { check, status, seen, remedy };
  for (gsize i = 0; i < G_N_ELEMENTS (cells); i++)
    row->cells[i] = g_strdup (cells[i]);
  g_ptr_array_add (rows, row);
}

static gboolean
ask_manager (GPtrArray *rows, GError **error)
{
  g_autoptr (BangerClient) client = banger_client_new (BANGER_CLIENT_PLAIN, error);
  if (!client)
    return FALSE;
  g_autoptr (sd_bus_message) call = banger_client_message (client, NULL, NULL, "Diagnose");
  sd_bus_message_append (call, "a{sv}", 0);
  g_autoptr (sd_bus_message) reply = banger_client_call (client, call, ANSWER_USEC, error);
  if (!reply)
    return FALSE;
  const char *check, *status, *seen, *remedy;
  int r = sd_bus_message_enter_container (reply, 'a', "(ssss)");
  while (r >= 0 && (r = sd_bus_message_read (reply, "(ssss)", &check, &status, &seen, &remedy)) > 0)
    add_row (rows, check, status, seen, remedy);
  return r >= 0 || banger_set_error (error, BANGER_ERROR_FAILED, _ ("the manager's answer cannot be read"));
}

/* What can be seen without the manager. */
static void
look_around (GPtrArray *rows)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (BangerInstall) install = banger_install_load (NULL, &error);
  if (!install) {
    gboolean missing = g_error_matches (error, BANGER_ERROR, BANGER_ERROR_FAILED);
    add_row (rows, "install", "error", error->message,
             missing ? _ ("install banger: `sudo scripts/quickstart` in its source")
                     : _ ("mend that file, see bangerd-root(8), then: sudo banger system restart"));
    return;
  }
  g_autofree char *owner = g_strdup_printf (_ ("owner %s"), install->owner_user);
  if (install->owner_uid == getuid ())
    add_row (rows, "install", "ok", owner, "");
  else
    add_row (rows, "install", "error", owner, _ ("this installation serves its owner only: run banger as that user"));
}

static void
look_for_ssh (GPtrArray *rows)
{
  g_autofree char *ssh = g_find_program_in_path ("ssh");
  if (ssh)
    add_row (rows, "ssh", "ok", ssh, "");
  else
    add_row (rows, "ssh", "error", _ ("ssh is not on PATH"), _ ("install openssh-client"));
}

static void
print_json (GPtrArray *rows)
{
  static const char *const keys[] = { "check", "status", "seen", "remedy" };
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < rows->len; i++) {
    const Row *row = g_ptr_array_index (rows, i);
    JsonObject *object = json_object_new ();
    for (gsize k = 0; k < G_N_ELEMENTS (keys); k++)
      json_object_set_string_member (object, keys[k], row->cells[k]);
    json_array_add_object_element (array, object);
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  banger_json_print (node);
}

static void
print_table (GPtrArray *rows)
{
  g_autoptr (BangerTable) table = banger_table_new (3);
  for (guint i = 0; i < rows->len; i++)
    banger_table_add (table, (const char *const *)((const Row *)g_ptr_array_index (rows, i))->cells);
  g_autofree char *text = banger_table_format (table);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; i < rows->len; i++) {
    const Row *row = g_ptr_array_index (rows, i);
    g_print ("%s\n", lines[i]);
    if (strcmp (row->cells[1], "ok") != 0 && row->cells[3][0] != '\0')
      g_print ("    -> %s\n", row->cells[3]);
  }
}

int
banger_doctor (const BangerInvocation *invocation, GError **error)
{
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func (row_free);
  g_autoptr (GError) unreachable = NULL;
  if (!ask_manager (rows, &unreachable)) {
    add_row (rows, "manager", "error", unreachable->message, "");
    look_around (rows);
    look_for_ssh (rows);
  }
  if (banger_invocation_flag (invocation, "json"))
    print_json (rows);
  else
    print_table (rows);

  for (guint i = 0; i < rows->len; i++)
    if (strcmp (((const Row *)g_ptr_array_index (rows, i))->cells[1], "error") == 0)
      return 1;
  return 0;
}
