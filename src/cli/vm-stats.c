/* vm stats: what VMs use.
 * Called through the command table.
 * Never asks one VM after the other: a guest that is silent takes no other's time. */
#include <glib/gi18n.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/objects.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "common/error.h"
#include "common/size.h"

#define FIRST_USEC (G_USEC_PER_SEC / 2) /* a share of a processor needs two looks */
#define WATCH_USEC (2 * G_USEC_PER_SEC)
#define ANSWER_USEC (10 * G_USEC_PER_SEC)

/* One VM at one time. */
typedef struct {
  char *name;
  JsonObject *raw; /* NULL: there was no answer */
  gint64 cpu, at;  /* of the look before; -1: there was none */
} Row;

typedef struct {
  BangerClient *client;
  GPtrArray *names; /* that were asked for, each VM once; none: all that run */
  GPtrArray *rows;  /* of Row */
} Stats;

static void
row_free (gpointer data)
{
  Row *row = data;
  g_free (row->name);
  g_clear_pointer (&row->raw, json_object_unref);
  g_free (row);
}

static gint64
number (const Row *row, const char *key)
{
  return row->raw ? json_object_get_int_member_with_default (row->raw, key, -1) : -1;
}

static Row *
find_row (GPtrArray *rows, const char *name)
{
  for (guint i = 0; rows && i < rows->len; i++)
    if (strcmp (((Row *)rows->pdata[i])->name, name) == 0)
      return rows->pdata[i];
  return NULL;
}

static int
read_answer (Stats *stats, sd_bus_message *answer)
{
  int r = sd_bus_message_enter_container (answer, 'a', "{sa{sv}}");
  while (r >= 0 && (r = sd_bus_message_enter_container (answer, 'e', "sa{sv}")) > 0) {
    const char *name;
    r = sd_bus_message_read (answer, "s", &name);
    Row *row = r >= 0 ? find_row (stats->rows, name) : NULL;
    JsonObject *raw = r >= 0 ? banger_properties_read (answer) : NULL;
    if (!raw)
      return r < 0 ? r : -EBADMSG;
    if (row && !row->raw)
      row->raw = raw;
    else
      json_object_unref (raw);
    r = sd_bus_message_exit_container (answer);
  }
  return r;
}

/* All in one call. */
static gboolean
ask (Stats *stats, gboolean guest, GError **error)
{
  if (stats->rows->len == 0)
    return TRUE;
  g_autoptr (sd_bus_message) call = banger_client_message (stats->client, NULL, NULL, "ListStats");
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  for (guint i = 0; i < stats->rows->len; i++) {
    Row *row = stats->rows->pdata[i];
    row->cpu = number (row, "cpu-us");
    row->at = number (row, "cpu-at-us");
    g_clear_pointer (&row->raw, json_object_unref);
    g_ptr_array_add (names, row->name);
  }
  g_ptr_array_add (names, NULL);
  sd_bus_message_open_container (call, 'a', "{sv}");
  sd_bus_message_append (call, "{sv}", "guest", "b", guest);
  banger_append_strv_option (call, "vms", (const char *const *)names->pdata);
  sd_bus_message_close_container (call);
  g_autoptr (sd_bus_message) answer = banger_client_call (stats->client, call, ANSWER_USEC, error);
  int r = answer ? read_answer (stats, answer) : 0;
  return answer && (r >= 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot ask the manager")));
}

/* Returns: of one processor, in percent; -1: not known. */
static double
cpu_percent (const Row *row)
{
  gint64 cpu = number (row, "cpu-us"), at = number (row, "cpu-at-us");
  return row->cpu >= 0 && cpu >= row->cpu && at > row->at ? (double)(cpu - row->cpu) * 100 / (double)(at - row->at)
                                                          : -1;
}

static double
load (const Row *row)
{
  return row->raw ? json_object_get_double_member_with_default (row->raw, "guest-load", -1) : -1;
}

/* As text */

static char *
format_bytes (const Row *row, const char *key)
{
  gint64 value = number (row, key);
  return value >= 0 ? banger_size_format ((guint64)value) : NULL;
}

static char *
format_share (double value, const char *format)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  return value >= 0 ? g_strdup_printf (format, value) : NULL;
#pragma GCC diagnostic pop
}

static char *
format_guest (const Row *row)
{
  gint64 total = number (row, "guest-total-bytes"), available = number (row, "guest-available-bytes");
  if (total < 0 || available < 0)
    return NULL;
  g_autofree char *used = banger_size_format ((guint64)(total - available)), *all = banger_size_format ((guint64)total);
  return g_strdup_printf ("%s / %s", used, all);
}

static char *
format_uptime (const Row *row)
{
  gint64 seconds = number (row, "uptime-us") / G_USEC_PER_SEC;
  if (number (row, "uptime-us") < 0)
    return NULL;
  return seconds < 3600 ? g_strdup_printf ("%d:%02d", (int)(seconds / 60), (int)(seconds % 60))
                        : g_strdup_printf ("%" G_GINT64_FORMAT ":%02d:%02d", seconds / 3600, (int)(seconds / 60 % 60),
                                           (int)(seconds % 60));
}

static char *
format_table (Stats *stats)
{
  const char *const header[] = { _ ("VM"),           _ ("STATE"), _ ("CPU"),   _ ("VMM MEMORY"),
                                 _ ("GUEST MEMORY"), _ ("LOAD"),  _ ("ROOT"),  _ ("WORK"),
                                 _ ("RECEIVED"),     _ ("SENT"),  _ ("UPTIME") };
  g_autoptr (BangerTable) table = banger_table_new (G_N_ELEMENTS (header));
  banger_table_add (table, header);
  for (guint i = 0; i < stats->rows->len; i++) {
    const Row *row = stats->rows->pdata[i];
    g_autofree char *cpu = format_share (cpu_percent (row), "%.1f%%"), *memory = format_bytes (row, "memory-bytes"),
                    *guest = format_guest (row), *first = format_share (load (row), "%.2f"),
                    *root = format_bytes (row, "root-bytes"), *work = format_bytes (row, "work-bytes"),
                    *received = format_bytes (row, "received-bytes"), *sent = format_bytes (row, "sent-bytes"),
                    *uptime = format_uptime (row);
    const char *const cells[] = { row->name, row->raw ? banger_property_string (row->raw, "state") : NULL,
                                  cpu,       memory,
                                  guest,     first,
                                  root,      work,
                                  received,  sent,
                                  uptime };
    banger_table_add (table, cells);
  }
  return banger_table_format (table);
}

/* As JSON */

static void
add_number (JsonObject *object, const char *key, const Row *row, const char *raw)
{
  gint64 value = number (row, raw);
  if (value >= 0)
    json_object_set_int_member (object, key, value);
  else
    json_object_set_null_member (object, key);
}

static void
add_share (JsonObject *object, const char *key, double value)
{
  if (value >= 0)
    json_object_set_double_member (object, key, value);
  else
    json_object_set_null_member (object, key);
}

static JsonNode *
make_json (Stats *stats)
{
  static const char *const keys[] = { "uptime_us",
                                      "uptime-us",
                                      "cpu_us",
                                      "cpu-us",
                                      "vmm_memory_bytes",
                                      "memory-bytes",
                                      "root_bytes",
                                      "root-bytes",
                                      "work_bytes",
                                      "work-bytes",
                                      "received_bytes",
                                      "received-bytes",
                                      "sent_bytes",
                                      "sent-bytes",
                                      "guest_total_bytes",
                                      "guest-total-bytes",
                                      "guest_available_bytes",
                                      "guest-available-bytes" };
  JsonArray *array = json_array_new ();
  for (guint i = 0; i < stats->rows->len; i++) {
    const Row *row = stats->rows->pdata[i];
    JsonObject *object = json_object_new ();
    json_object_set_string_member (object, "vm", row->name);
    json_object_set_string_member (object, "state", row->raw ? banger_property_string (row->raw, "state") : "unknown");
    add_share (object, "cpu_percent", cpu_percent (row));
    for (guint k = 0; k < G_N_ELEMENTS (keys); k += 2)
      add_number (object, keys[k], row, keys[k + 1]);
    add_share (object, "guest_load", load (row));
    json_array_add_object_element (array, object);
  }
  JsonNode *node = json_node_new (JSON_NODE_ARRAY);
  json_node_take_array (node, array);
  return node;
}

/* Which */

static Row *
take_row (GPtrArray *rows, const char *name)
{
  guint at;
  Row *known = find_row (rows, name);
  if (known && g_ptr_array_find (rows, known, &at))
    return g_ptr_array_steal_index (rows, at);
  Row *row = g_new0 (Row, 1);
  row->name = g_strdup (name);
  row->cpu = row->at = -1;
  return row;
}

/* Those that are named, or those that run now; what was known of one of them stays. */
static gboolean
find_rows (Stats *stats, GError **error)
{
  g_autoptr (GPtrArray) before = g_steal_pointer (&stats->rows);
  stats->rows = g_ptr_array_new_with_free_func (row_free);
  for (guint i = 0; i < stats->names->len; i++)
    g_ptr_array_add (stats->rows, take_row (before, stats->names->pdata[i]));
  if (stats->rows->len > 0)
    return TRUE;
  g_autoptr (GPtrArray) vms = banger_objects_list (stats->client, &banger_kind_vm, error);
  for (guint i = 0; vms && i < vms->len; i++) {
    const char *state = banger_property_string (vms->pdata[i], "State");
    if (strcmp (state, "running") == 0 || strcmp (state, "paused") == 0)
      g_ptr_array_add (stats->rows, take_row (before, banger_property_string (vms->pdata[i], "Name")));
  }
  return vms != NULL;
}

/* A name that is none is said before anything is shown; a VM that has a name and an id is one. */
static gboolean
read_names (Stats *stats, const BangerInvocation *invocation, GError **error)
{
  g_autoptr (GHashTable) ids = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  const char *name;
  stats->names = g_ptr_array_new ();
  for (guint i = 0; (name = banger_invocation_argument (invocation, i)); i++) {
    g_autoptr (JsonObject) vm = banger_objects_get (stats->client, &banger_kind_vm, name, NULL, error);
    if (!vm)
      return FALSE;
    if (g_hash_table_add (ids, g_strdup (banger_property_string (vm, "Id"))))
      g_ptr_array_add (stats->names, (char *)name);
  }
  return TRUE;
}

/* The bus is read meanwhile. */
static void
rest (Stats *stats, gint64 usec)
{
  gint64 end = g_get_monotonic_time () + usec;
  for (gint64 left = usec; left > 0; left = end - g_get_monotonic_time ())
    if (banger_client_wait (stats->client, -1, left) & BANGER_WOKE_CLOSED)
      return;
}

static void
stats_clear (Stats *stats)
{
  g_clear_pointer (&stats->rows, g_ptr_array_unref);
  g_clear_pointer (&stats->names, g_ptr_array_unref);
  banger_client_free (stats->client);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Stats, stats_clear)

static void
show (Stats *stats, gboolean json, gboolean watch)
{
  if (json && !watch) {
    banger_json_print (make_json (stats));
    return;
  }
  if (json) {
    JsonNode *node = make_json (stats);
    g_autofree char *line = json_to_string (node, FALSE);
    json_node_unref (node);
    g_print ("%s\n", line);
  } else {
    g_autofree char *text = format_table (stats);
    if (watch && isatty (STDOUT_FILENO)) {
      fputs ("\033[H\033[J", stdout);
      (void)fflush (stdout);
    }
    g_print ("%s", text);
  }
  (void)fflush (stdout);
}

int
banger_vm_stats (const BangerInvocation *invocation, GError **error)
{
  gboolean json = banger_invocation_flag (invocation, "json"), watch = banger_invocation_flag (invocation, "watch");
  g_auto (Stats) stats = { banger_client_new (BANGER_CLIENT_PLAIN, error), NULL };
  if (!stats.client || !read_names (&stats, invocation, error) || !find_rows (&stats, error)
      || !ask (&stats, FALSE, error))
    return -1;
  for (gint64 pause = FIRST_USEC;; pause = WATCH_USEC) {
    if (stats.rows->len > 0 || watch)
      rest (&stats, pause);
    if (!find_rows (&stats, error) || !ask (&stats, TRUE, error))
      return -1;
    show (&stats, json, watch);
    if (!watch)
      return 0;
  }
}
