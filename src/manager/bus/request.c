/* One call under way, from the gate to its end: a reply or an error with the op id, and one log record.
 * Never outlives its reply. */
#include "manager/bus/request.h"

#include <stdarg.h>

#include "common/error.h"
#include "common/log.h"
#include "common/names.h"
#include "common/options.h"

static void
request_free (BangerRequest *request)
{
  g_queue_unlink (banger_objects_open (request->objects), &request->open);
  sd_bus_message_unref (request->message);
  g_free (request->op_id);
  g_free (request);
}

static void
log_request (BangerRequest *request, const GError *error)
{
  g_autofree char *duration = g_strdup_printf ("%" G_GINT64_FORMAT, g_get_monotonic_time () - request->started);
  g_autofree char *uid = g_strdup_printf ("%u", request->caller);
  const char *name = !error                          ? NULL
                     : error->domain == BANGER_ERROR ? banger_error_dbus_name ((BangerError)error->code)
                                                     : banger_error_dbus_name (BANGER_ERROR_FAILED);
  g_autofree char *shown = !error ? NULL : banger_log_escape (error->message, 500);
  const char *const *fields = BANGER_FIELDS (BANGER_FIELD_OP_ID, request->op_id, BANGER_FIELD_METHOD, request->method,
                                             BANGER_FIELD_CALLER_UID, uid, BANGER_FIELD_DURATION_USEC, duration,
                                             BANGER_FIELD_OBJECT, sd_bus_message_get_path (request->message),
                                             BANGER_FIELD_ERROR, name);
  if (!error)
    banger_log (LOG_DEBUG, fields, "%s completed", request->method);
  else
    banger_log (request->told ? LOG_DEBUG : LOG_NOTICE, fields, "%s failed: %s", request->method, shown);
}

/* The client may be gone by now, which is its own affair. */
static void
finish (BangerRequest *request, int r)
{
  if (r < 0)
    banger_log (LOG_WARNING, BANGER_FIELDS (BANGER_FIELD_OP_ID, request->op_id, BANGER_FIELD_METHOD, request->method),
                "cannot answer %s: %s", request->method, g_strerror (-r));
  request_free (request);
}

void
banger_request_reply (BangerRequest *request, const char *types, ...)
{
  va_list args;
  va_start (args, types);
  int r = sd_bus_reply_method_returnv (request->message, types, args);
  va_end (args);
  log_request (request, NULL);
  finish (request, r);
}

void
banger_request_reply_path (BangerRequest *request, BangerObjectKind kind, const char *id)
{
  g_autofree char *path = banger_objects_path (request->objects, kind, id);
  banger_request_reply (request, "o", path);
}

void
banger_request_reply_message (BangerRequest *request, sd_bus_message *reply)
{
  log_request (request, NULL);
  finish (request, sd_bus_send (NULL, reply, NULL));
}

void
banger_request_fail (BangerRequest *request, const GError *error)
{
  g_auto (sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
  banger_error_to_bus (error, request->op_id, &bus_error);
  log_request (request, error);
  finish (request, sd_bus_reply_method_error (request->message, &bus_error));
}

void
banger_requests_end (BangerObjects *objects, const GError *error)
{
  for (BangerRequest *request; (request = g_queue_peek_head (banger_objects_open (objects)));)
    banger_request_fail (request, error);
}

gboolean
banger_request_read (BangerRequest *request, GError **error, const char *types, ...)
{
  va_list args;
  va_start (args, types);
  int r = sd_bus_message_readv (request->message, types, args);
  va_end (args);
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_ARGS, -r, "%s: the arguments cannot be read",
                                   request->method);
  return TRUE;
}

gboolean
banger_request_no_options (BangerRequest *request, GError **error)
{
  static const BangerOption none[] = { { NULL } };
  return banger_options_read (request->message, none, NULL, error);
}

gpointer
banger_request_object (BangerRequest *request, BangerObjectKind kind)
{
  return banger_objects_find (request->objects, kind, sd_bus_message_get_path (request->message));
}

gboolean
banger_request_interactive (BangerRequest *request)
{
  return sd_bus_message_get_allow_interactive_authorization (request->message) > 0;
}

int
banger_request_call (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  BangerObjects *objects = userdata;
  const BangerNow *now = banger_objects_now (objects);
  const BangerInterface *own = banger_objects_interface_named (objects, sd_bus_message_get_interface (message));
  const BangerMember *row = !own ? NULL : banger_interface_method (own, sd_bus_message_get_member (message));
  if (!row)
    return sd_bus_error_setf (ret_error, SD_BUS_ERROR_UNKNOWN_METHOD, "no such method (%s)", now->op_id);

  BangerRequest *request = g_new0 (BangerRequest, 1);
  g_autoptr (GError) error = NULL;
  request->objects = objects;
  request->message = sd_bus_message_ref (message);
  request->op_id = g_strdup (now->op_id);
  request->method = row->member;
  request->caller = now->caller;
  request->started = g_get_monotonic_time ();
  request->open.data = request;
  g_queue_push_tail_link (banger_objects_open (objects), &request->open);
  if (!row->handler (request, row->data, &error))
    banger_request_fail (request, error);
  return 1;
}
