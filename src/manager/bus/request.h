/* One call under way, from the gate to its end: a reply or an error with the op id, and one log record.
 * Never outlives its reply. */
#pragma once

#include "manager/bus/objects.h"

struct BangerRequest {
  BangerObjects *objects;
  sd_bus_message *message; /* at the first argument when the handler gets it */
  char *op_id;
  const char *method; /* "StopVM" */
  uid_t caller;
  gint64 started; /* monotonic µs */
  gboolean told;  /* a failure is in the log already */
  GList open;     /* of banger_objects_open() */
};

/** banger_request_call: the handler of every method in every vtable; finds the member's row. */
int banger_request_call (sd_bus_message *message, void *userdata, sd_bus_error *ret_error);

/**
 * banger_requests_end:
 * Answers every call that is kept, with @error: whoever keeps it will not. The main loop does not run any more after it.
 */
void banger_requests_end (BangerObjects *objects, const GError *error);

/* Each of these answers @request, logs it and frees it. */
void banger_request_reply (BangerRequest *request, const char *types, ...);
void banger_request_reply_path (BangerRequest *request, BangerObjectKind kind, const char *id);
void banger_request_reply_message (BangerRequest *request, sd_bus_message *reply);
void banger_request_fail (BangerRequest *request, const GError *error);

/** banger_request_read: sd_bus_message_read() with a GError. */
gboolean banger_request_read (BangerRequest *request, GError **error, const char *types, ...);
/** banger_request_no_options: the dictionary of a method that takes none yet. */
gboolean banger_request_no_options (BangerRequest *request, GError **error);
/** banger_request_object: that it was sent to. */
gpointer banger_request_object (BangerRequest *request, BangerObjectKind kind);
/** banger_request_interactive: the client's allow-interactive-authorization flag. */
gboolean banger_request_interactive (BangerRequest *request);
