/* A scope unit per VMM, asked of systemd over D-Bus.
 * Never used where systemd does not run. */
#include "privileged/scope.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/bus-source.h"
#include "common/ids.h"
#include "common/log.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_INTERFACE "org.freedesktop.systemd1.Manager"
#define SYSTEMD_UNIT_EXISTS "org.freedesktop.systemd1.UnitExists"
#define SECONDS 10
#define MAX_WORDS 200 /* of systemd's, in an error */

typedef struct {
  sd_bus *bus;
  sd_bus_slot *job_removed, *unit_removed, *start, *subscribe;
  guint timeout;
  char *unit, *job, *systemd;      /* the last one by its name on the bus, once it has answered */
  gboolean stopped, waiting, late; /* an earlier scope was told to stop; its end is waited for; the time is over */
  pid_t pid;
  BangerLimits limits;
  BangerScopeDone done;
  gpointer user_data;
} Scope;

static void
finish (Scope *scope, const GError *error)
{
  sd_bus_slot_unref (scope->job_removed);
  sd_bus_slot_unref (scope->unit_removed);
  sd_bus_slot_unref (scope->start);
  sd_bus_slot_unref (scope->subscribe);
  g_clear_handle_id (&scope->timeout, g_source_remove);
  scope->done (error, scope->user_data);
  sd_bus_unref (scope->bus);
  g_free (scope->unit);
  g_free (scope->job);
  g_free (scope->systemd);
  g_free (scope);
}

/* @refused: systemd has not taken the process, and will not. */
static void
expire (Scope *scope, gboolean refused)
{
  g_autoptr (GError) error = NULL;
  if (refused)
    banger_set_error (&error, BANGER_ERROR_IN_USE, "%s of an earlier VMM is still there after %d s", scope->unit,
                      SECONDS);
  else
    banger_set_error (&error, BANGER_ERROR_TIMEOUT, "systemd did not start %s within %d s", scope->unit, SECONDS);
  finish (scope, error);
}

/* While an earlier scope goes, the question of the moment is let be answered: within sd-bus's own limit. */
static gboolean
on_timeout (gpointer data)
{
  Scope *scope = data;
  scope->timeout = 0;
  scope->late = scope->start && scope->stopped;
  if (!scope->late)
    expire (scope, scope->waiting);
  return G_SOURCE_REMOVE;
}

/* The answer that names the job is always earlier than the job's end; jobs of an earlier scope are others. */
static int
on_job_removed (sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
  Scope *scope = userdata;
  const char *job = NULL, *result = NULL;
  g_autoptr (GError) error = NULL;
  if (!banger_bus_is_from (m, scope->systemd) || sd_bus_message_read (m, "uoss", NULL, &job, NULL, &result) < 0
      || g_strcmp0 (job, scope->job) != 0)
    return 0;
  g_autofree char *shown = banger_log_escape (result, MAX_WORDS);
  if (!g_str_equal (result, "done"))
    banger_set_error (&error, BANGER_ERROR_ENGINE_FAILED, "systemd could not start %s: %s", scope->unit, shown);
  finish (scope, error);
  return 0;
}

static int
on_subscribed (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  return 0; /* "already subscribed" is as good */
}

/* systemd.scope(5), systemd.resource-control(5), org.freedesktop.systemd1(5). */
/* Each process of the VMM's, whatever socket it came by. */
static int
append_no_addresses (sd_bus_message *m)
{
  static const guint8 any[16];
  static const struct {
    gint32 family;
    size_t length;
  } rows[] = { { AF_INET, 4 }, { AF_INET6, 16 } };
  int r = sd_bus_message_open_container (m, 'r', "sv");
  if (r >= 0)
    r = sd_bus_message_append (m, "s", "IPAddressDeny");
  if (r >= 0)
    r = sd_bus_message_open_container (m, 'v', "a(iayu)");
  if (r >= 0)
    r = sd_bus_message_open_container (m, 'a', "(iayu)");
  for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS (rows); i++) {
    r = sd_bus_message_open_container (m, 'r', "iayu");
    if (r >= 0)
      r = sd_bus_message_append (m, "i", rows[i].family);
    if (r >= 0)
      r = sd_bus_message_append_array (m, 'y', any, rows[i].length);
    if (r >= 0)
      r = sd_bus_message_append (m, "u", 0);
    if (r >= 0)
      r = sd_bus_message_close_container (m);
  }
  for (int i = 0; r >= 0 && i < 3; i++) /* array, variant, struct */
    r = sd_bus_message_close_container (m);
  return r;
}

static int
append_unit (sd_bus_message *m, const Scope *scope)
{
  g_autofree char *text = g_strdup_printf ("banger microVM, %s", scope->unit);
  int r = sd_bus_message_append (m, "ss", scope->unit, "fail");
  if (r >= 0)
    r = sd_bus_message_open_container (m, 'a', "(sv)");
  if (r >= 0)
    r = sd_bus_message_append (m, "(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s", text, "Slice", "s", "banger.slice",
                               "PIDs", "au", 1, (guint32)scope->pid, "KillMode", "s", "control-group", "CollectMode",
                               "s", "inactive-or-failed", "TimeoutStopUSec", "t", (guint64)5000000);
  if (r >= 0)
    r = sd_bus_message_append (m, "(sv)(sv)(sv)", "MemoryMax", "t", scope->limits.memory_bytes, "TasksMax", "t",
                               scope->limits.tasks, "CPUWeight", "t", scope->limits.cpu_weight);
  if (r >= 0)
    r = append_no_addresses (m);
  if (r >= 0)
    r = sd_bus_message_close_container (m);
  return r < 0 ? r : sd_bus_message_append (m, "a(sa(sv))", 0);
}

/* No VMM of this VM runs (launch.c made sure), so nothing of value is in a scope of its name. */
static void
stop_old (Scope *scope)
{
  if (!scope->stopped)
    (void)sd_bus_call_method_async (scope->bus, NULL, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_INTERFACE, "StopUnit", NULL,
                                    NULL, "ss", scope->unit, "replace");
  scope->stopped = TRUE;
}

static int
on_started (sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
  Scope *scope = userdata;
  const sd_bus_error *failed = sd_bus_message_get_error (reply);
  const char *job = NULL;
  g_autoptr (GError) error = NULL;
  g_autofree char *shown = failed ? banger_log_escape (failed->message ? failed->message : failed->name, MAX_WORDS)
                                  : NULL;
  scope->start = sd_bus_slot_unref (scope->start);
  g_free (scope->systemd);
  scope->systemd = g_strdup (sd_bus_message_get_sender (reply));
  gboolean exists = failed && sd_bus_error_has_name (failed, SYSTEMD_UNIT_EXISTS);
  if (scope->late) {
    expire (scope, exists);
    return 0;
  }
  if (exists) {
    stop_old (scope);
    scope->waiting = TRUE;
    return 0;
  }
  if (failed)
    banger_set_error (&error, BANGER_ERROR_ENGINE_FAILED, "systemd refuses %s: %s", scope->unit, shown);
  else if (sd_bus_message_read (reply, "o", &job) < 0)
    banger_set_error (&error, BANGER_ERROR_ENGINE_FAILED, "systemd's answer about %s cannot be read", scope->unit);
  scope->job = g_strdup (job);
  if (error)
    finish (scope, error);
  return 0; /* JobRemoved tells the rest */
}

static void
start (Scope *scope)
{
  g_autoptr (sd_bus_message) m = NULL;
  g_autoptr (GError) error = NULL;
  int r = sd_bus_message_new_method_call (scope->bus, &m, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_INTERFACE,
                                          "StartTransientUnit");
  if (r >= 0)
    r = append_unit (m, scope);
  if (r >= 0)
    r = sd_bus_call_async (scope->bus, &scope->start, m, on_started, scope, 0);
  if (r >= 0)
    return;
  banger_set_error_errno (&error, BANGER_ERROR_ENGINE_FAILED, -r, "systemd cannot be asked for %s", scope->unit);
  finish (scope, error);
}

/* While a question is on its way this is the end of a unit that its answer is not about: the bus keeps the order. */
static int
on_unit_removed (sd_bus_message *m, void *userdata, sd_bus_error *ret_error)
{
  Scope *scope = userdata;
  const char *unit = NULL;
  if (!scope->waiting || !banger_bus_is_from (m, scope->systemd) || sd_bus_message_read (m, "so", &unit, NULL) < 0
      || !g_str_equal (unit, scope->unit))
    return 0;
  scope->waiting = FALSE;
  start (scope);
  return 0;
}

void
banger_scope_start (sd_bus *bus, const char *vm, pid_t pid, const BangerLimits *limits, BangerScopeDone done,
                    gpointer user_data)
{
  Scope *scope = g_new0 (Scope, 1);
  scope->bus = sd_bus_ref (bus);
  scope->unit = banger_scope_name (vm);
  scope->pid = pid;
  scope->limits = *limits;
  scope->done = done;
  scope->user_data = user_data;
  scope->timeout = g_timeout_add_seconds (SECONDS, on_timeout, scope);
  /* Should one of these fail, StartTransientUnit does, or the time runs out. */
  (void)sd_bus_match_signal_async (bus, &scope->job_removed, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_INTERFACE,
                                   "JobRemoved", on_job_removed, NULL, scope);
  (void)sd_bus_match_signal_async (bus, &scope->unit_removed, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_INTERFACE,
                                   "UnitRemoved", on_unit_removed, NULL, scope);
  (void)sd_bus_call_method_async (bus, &scope->subscribe, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_INTERFACE, "Subscribe",
                                  on_subscribed, NULL, "");
  start (scope);
}
