/* Jobs on the bus: what a call began, and for whose end it may wait.
 * Never decides what a verb does. */
#include "manager/bus/job-dbus.h"

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "manager/bus/property.h"

static void
answer (BangerJob *job, const GError *error, gpointer data)
{
  BangerRequest *request = data;
  request->told = TRUE;
  if (error)
    banger_request_fail (request, error);
  else
    banger_request_reply_path (request, BANGER_OBJECT_JOB, job->id);
}

BangerJobSpec
banger_request_job_spec (BangerRequest *request, const char *kind, gboolean cancelable)
{
  return (BangerJobSpec){
    .kind = kind,
    .op_id = request->op_id,
    .cancelable = cancelable,
    .interactive = banger_request_interactive (request),
  };
}

void
banger_request_begin (BangerRequest *request, BangerJob *job, gboolean wait)
{
  if (wait)
    banger_job_keep (job, answer, request);
  else
    banger_request_reply_path (request, BANGER_OBJECT_JOB, job->id);
  banger_job_begin (job);
}

/* Name and text of a job's error as a reply would have them. */
static void
describe_error (const BangerJob *job, sd_bus_error *ret)
{
  if (job->error)
    banger_error_to_bus (job->error, job->op_id, ret);
}

static void
report (int r, const char *what)
{
  if (r < 0)
    banger_log (LOG_WARNING, NULL, "cannot send %s: %s", what, g_strerror (-r));
}

void
banger_job_emit_new (BangerObjects *objects, BangerJob *job)
{
  g_autofree char *path = banger_objects_path (objects, BANGER_OBJECT_JOB, job->id);
  report (sd_bus_emit_signal (banger_objects_bus (objects), BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "JobNew",
                              "o", path),
          "JobNew");
}

void
banger_job_emit_removed (BangerObjects *objects, BangerJob *job)
{
  g_autofree char *path = banger_objects_path (objects, BANGER_OBJECT_JOB, job->id);
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  describe_error (job, &error);
  report (sd_bus_emit_signal (banger_objects_bus (objects), BANGER_MANAGER_PATH, BANGER_MANAGER_INTERFACE, "JobRemoved",
                              "osss", path, banger_job_state_to_string (job->state), error.name ? error.name : "",
                              error.message ? error.message : ""),
          "JobRemoved");
}

static gboolean
handle_cancel (BangerRequest *request, gconstpointer data, GError **error)
{
  BangerJob *job = banger_request_object (request, BANGER_OBJECT_JOB);
  if (!banger_request_no_options (request, error) || !banger_job_cancel (job, error))
    return FALSE;
  banger_request_reply (request, "");
  return TRUE;
}

static int
append_object (sd_bus_message *reply, BangerObjects *objects, gpointer data)
{
  const BangerJob *job = data;
  g_autofree char *path = job->object_id ? banger_objects_path (objects, job->object_kind, job->object_id) : NULL;
  return sd_bus_message_append (reply, "o", path ? path : "/");
}

static int
append_error (sd_bus_message *reply, BangerObjects *objects, gpointer job)
{
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  describe_error (job, &error);
  return banger_property_append_text (reply, error.name);
}

static int
append_error_message (sd_bus_message *reply, BangerObjects *objects, gpointer job)
{
  g_auto (sd_bus_error) error = SD_BUS_ERROR_NULL;
  describe_error (job, &error);
  return banger_property_append_text (reply, error.message);
}

#define APPEND(function, append) BANGER_APPEND (function, const BangerJob, job, append)
#define APPEND_TEXT(function, text) BANGER_APPEND_TEXT (function, const BangerJob, job, text)
APPEND_TEXT (append_id, job->id)
APPEND_TEXT (append_kind, job->kind)
APPEND_TEXT (append_state, banger_job_state_to_string (job->state))
APPEND_TEXT (append_stage, job->stage)
APPEND (append_progress, sd_bus_message_append (reply, "d", job->progress))
APPEND (append_started_at, sd_bus_message_append (reply, "t", (guint64)job->started_at))
APPEND_TEXT (append_op_id, job->op_id)
APPEND (append_warnings, sd_bus_message_append_strv (reply, (char **)job->warnings->pdata))
APPEND (append_cancelable, sd_bus_message_append (reply, "b", banger_job_cancelable (job)))

const BangerProperty banger_job_properties[] = {
  { "Id", "s", FALSE, append_id },
  { "Kind", "s", FALSE, append_kind },
  { "State", "s", TRUE, append_state },
  { "Stage", "s", TRUE, append_stage },
  { "Progress", "d", TRUE, append_progress },
  { "StartedAt", "t", FALSE, append_started_at },
  { "OpId", "s", FALSE, append_op_id },
  { "Object", "o", TRUE, append_object },
  { "Error", "s", TRUE, append_error },
  { "ErrorMessage", "s", TRUE, append_error_message },
  { "Warnings", "as", TRUE, append_warnings },
  { "Cancelable", "b", TRUE, append_cancelable },
  { NULL },
};

const BangerMember banger_job_members[] = { { "Cancel", "a{sv}", "", "options\0", handle_cancel, NULL }, { NULL } };
