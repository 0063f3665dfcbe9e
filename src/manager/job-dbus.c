/* Jobs on the bus, and the run: one verb under way on behalf of one call.
 * Used by manager-dbus.c and every file with verbs that take time.
 * Never decides what a verb does. */
#include "manager/job-dbus.h"

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "common/options.h"

struct BangerRun {
  BangerJob *job;
  BangerCall *call; /* NULL once answered */
};

BangerRun *
banger_run_new (BangerCall *call, const BangerRunSpec *spec, GError **error)
{
  BangerJobSpec job_spec = {
    .kind = spec->kind,
    .op_id = call->op_id,
    .cancelable = spec->cancelable,
    .interactive = banger_call_interactive (call),
    .object_kind = spec->object_kind,
    .object_id = spec->object_id,
  };
  BangerJob *job = banger_job_new (banger_dispatch_manager (call->dispatch), &job_spec, error);
  if (job == NULL)
    return NULL;
  BangerRun *run = g_new0 (BangerRun, 1);
  run->job = banger_job_ref (job);
  if (spec->wait)
    run->call = call;
  else
    banger_call_reply_path (call, BANGER_OBJECT_JOB, banger_job_id (job));
  return run;
}

BangerJob *
banger_run_job (BangerRun *run)
{
  return run->job;
}

void
banger_run_end (BangerRun *run, const GError *error)
{
  banger_job_finish (run->job, error);
  if (run->call != NULL)
    run->call->told = TRUE;
  if (run->call != NULL && error != NULL)
    banger_call_fail (run->call, error);
  else if (run->call != NULL)
    banger_call_reply_path (run->call, BANGER_OBJECT_JOB, banger_job_id (run->job));
  banger_job_unref (run->job);
  g_free (run);
}

/* Name and text of a job's error as a reply would have them. */
static void
describe_error (BangerJob *job, sd_bus_error *ret)
{
  const GError *error = banger_job_error (job);
  if (error != NULL)
    banger_error_to_bus (error, banger_job_op_id (job), ret);
}

static void
report (int r, const char *what)
{
  if (r < 0)
    banger_log (LOG_WARNING, NULL, "cannot send %s: %s", what, g_strerror (-r));
}

void
banger_job_emit_new (BangerDispatch *dispatch, BangerJob *job)
{
  g_autofree char *path = banger_dispatch_path (dispatch, BANGER_OBJECT_JOB, banger_job_id (job));
  report (sd_bus_emit_signal (banger_dispatch_bus (dispatch), BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "JobNew",
                              "o", path),
          "JobNew");
}

void
banger_job_emit_removed (BangerDispatch *dispatch, BangerJob *job)
{
  g_autofree char *path = banger_dispatch_path (dispatch, BANGER_OBJECT_JOB, banger_job_id (job));
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  describe_error (job, &error);
  report (sd_bus_emit_signal (banger_dispatch_bus (dispatch), BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE,
                              "JobRemoved", "osss", path, banger_job_state_to_string (banger_job_state (job)),
                              error.name != NULL ? error.name : "", error.message != NULL ? error.message : ""),
          "JobRemoved");
}

static gboolean
handle_cancel (BangerCall *call, gconstpointer data, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  BangerJob *job = banger_dispatch_object (call->dispatch, BANGER_OBJECT_JOB, sd_bus_message_get_path (call->message));
  if (!banger_options_read (call->message, none, NULL, error) || !banger_job_cancel (job, error))
    return FALSE;
  banger_call_reply (call, "");
  return TRUE;
}

static int
append_string (sd_bus_message *reply, const char *text)
{
  return sd_bus_message_append (reply, "s", text);
}

static int
append_object (sd_bus_message *reply, BangerDispatch *dispatch, BangerJob *job)
{
  BangerObjectKind kind = BANGER_OBJECT_JOB;
  const char *id = banger_job_object (job, &kind);
  g_autofree char *path = id == NULL ? g_strdup ("/") : banger_dispatch_path (dispatch, kind, id);
  return sd_bus_message_append (reply, "o", path);
}

static int
append_error (sd_bus_message *reply, BangerJob *job, gboolean message)
{
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  describe_error (job, &error);
  const char *text = message ? error.message : error.name;
  return append_string (reply, text != NULL ? text : "");
}

static int
get_property (sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
              void *userdata, sd_bus_error *ret_error)
{
  BangerDispatch *dispatch = userdata;
  BangerJob *job = banger_dispatch_object (dispatch, BANGER_OBJECT_JOB, path);
  if (job == NULL)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_OBJECT, "no job %s", path);
  switch (property[0]) {
    case 'I':
      return append_string (reply, banger_job_id (job));
    case 'K':
      return append_string (reply, banger_job_kind (job));
    case 'P':
      return sd_bus_message_append (reply, "d", banger_job_progress (job));
    case 'C':
      return sd_bus_message_append (reply, "b", banger_job_cancelable (job));
  }
  if (g_str_equal (property, "State"))
    return append_string (reply, banger_job_state_to_string (banger_job_state (job)));
  if (g_str_equal (property, "Stage"))
    return append_string (reply, banger_job_stage (job));
  if (g_str_equal (property, "StartedAt"))
    return sd_bus_message_append (reply, "t", (guint64)banger_job_started_at (job));
  if (g_str_equal (property, "OpId"))
    return append_string (reply, banger_job_op_id (job));
  if (g_str_equal (property, "Object"))
    return append_object (reply, dispatch, job);
  return append_error (reply, job, g_str_equal (property, "ErrorMessage"));
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const sd_bus_vtable banger_job_vtable[] = {
  SD_BUS_VTABLE_START (0),
  SD_BUS_PROPERTY ("Id", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Kind", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("State", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Stage", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Progress", "d", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("StartedAt", "t", get_property, 0, CONST),
  SD_BUS_PROPERTY ("OpId", "s", get_property, 0, CONST),
  SD_BUS_PROPERTY ("Object", "o", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Error", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("ErrorMessage", "s", get_property, 0, CHANGES),
  SD_BUS_PROPERTY ("Cancelable", "b", get_property, 0, CHANGES),
  SD_BUS_METHOD_WITH_ARGS ("Cancel", SD_BUS_ARGS ("a{sv}", options), SD_BUS_NO_RESULT, banger_dispatch_call,
                           SD_BUS_VTABLE_UNPRIVILEGED),
  SD_BUS_VTABLE_END,
};

const BangerMember banger_job_members[] = { { "Cancel", handle_cancel, NULL }, { NULL } };
