/* Counters of the VMM, one JSON line per flush, as PUT /metrics directs them.
 * Never blocks on a slow reader. */
#include "engine/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/bytes.h"

static int metrics_fd = -1;
/* "put_api_requests" -> { "drives_count" -> guint }. */
static GHashTable *groups;

gboolean
banger_vmm_metrics_configure (const BangerMetricsConfig *metrics, GError **error)
{
  if (metrics_fd >= 0) {
    g_set_error_literal (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST,
                         "Metrics error: Cannot initialize the metrics system due to bad user input: "
                         "Reinitialization of metrics not allowed.");
    return FALSE;
  }
  metrics_fd = open (metrics->metrics_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
  if (metrics_fd < 0) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST,
                 "Metrics error: Cannot initialize the metrics system due to bad user input: %s: %s",
                 metrics->metrics_path, g_strerror (errno));
    return FALSE;
  }
  return TRUE;
}

static void
add (const char *group, const char *resource, const char *what)
{
  if (!groups)
    groups = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
  GHashTable *counters = g_hash_table_lookup (groups, group);
  if (!counters) {
    counters = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_insert (groups, g_strdup (group), counters);
  }
  g_autofree char *key = g_strdup_printf ("%s_%s", resource, what);
  g_strdelimit (key, "-/", '_');
  guint now = GPOINTER_TO_UINT (g_hash_table_lookup (counters, key));
  g_hash_table_insert (counters, g_steal_pointer (&key), GUINT_TO_POINTER (now + 1));
}

void
banger_vmm_metrics_count (const char *method, const char *resource, gboolean failed)
{
  g_autofree char *lower = g_ascii_strdown (method, -1);
  g_autofree char *group = g_strdup_printf ("%s_api_requests", lower);
  add (group, resource, "count");
  if (failed)
    add (group, resource, "fails");
}

static void
add_groups (JsonBuilder *builder)
{
  GHashTableIter outer, inner;
  gpointer group, counters, key, value;
  if (!groups)
    return;
  g_hash_table_iter_init (&outer, groups);
  while (g_hash_table_iter_next (&outer, &group, &counters)) {
    json_builder_set_member_name (builder, group);
    json_builder_begin_object (builder);
    g_hash_table_iter_init (&inner, counters);
    while (g_hash_table_iter_next (&inner, &key, &value)) {
      json_builder_set_member_name (builder, key);
      json_builder_add_int_value (builder, GPOINTER_TO_UINT (value));
    }
    json_builder_end_object (builder);
  }
}

gboolean
banger_vmm_metrics_flush (GError **error)
{
  if (metrics_fd < 0) {
    g_set_error_literal (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_REQUEST,
                         "Internal VMM error: Cannot write metrics: no metrics file is configured (PUT /metrics)");
    return FALSE;
  }
  g_autoptr (JsonBuilder) builder = json_builder_new ();
  json_builder_begin_object (builder);
  json_builder_set_member_name (builder, "utc_timestamp_ms");
  json_builder_add_int_value (builder, g_get_real_time () / 1000);
  add_groups (builder);
  json_builder_end_object (builder);
  g_autoptr (JsonNode) root = json_builder_get_root (builder);
  g_autofree char *text = json_to_string (root, FALSE);
  g_autofree char *line = g_strconcat (text, "\n", NULL);
  if (banger_write_all (metrics_fd, line, strlen (line)) < 0) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST, "Internal VMM error: Cannot write metrics: %s",
                 g_strerror (errno));
    return FALSE;
  }
  return TRUE;
}
