/* Jobs on the bus: what a call began, and for whose end it may wait.
 * Never decides what a verb does. */
#pragma once

#include "manager/bus/request.h"

extern const BangerProperty banger_job_properties[];
extern const BangerMember banger_job_members[];

/** banger_request_job_spec: of a job for whoever sent @request. @kind: "start-vm", static. */
BangerJobSpec banger_request_job_spec (BangerRequest *request, const char *kind, gboolean cancelable);
/** banger_request_begin: begins @job, and answers @request with its path: before, or, if asked to @wait, when it ends. */
void banger_request_begin (BangerRequest *request, BangerJob *job, gboolean wait);

/** banger_job_emit_new, banger_job_emit_removed: the Manager's JobNew and JobRemoved. */
void banger_job_emit_new (BangerObjects *objects, BangerJob *job);
void banger_job_emit_removed (BangerObjects *objects, BangerJob *job);
