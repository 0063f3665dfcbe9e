/* PrepareVm: what a VM needs before its VMM, in one call.
 * Runs in worker threads.
 * Never leaves a part of it when another one fails. */
#pragma once

#include "privileged/call.h"

/**
 * banger_prepare:
 * For a VM that holds nothing: its lease, bridge, tap and filter, the way outside if it is to have one, and the
 * snapshot of its root disk if it has one; each by what the single method calls, in that order. What was made before an
 * error is given back, and the lease with it. %BANGER_ERROR_WRONG_STATE if the VM holds something already.
 * @call->text: the tap's name; @call->device: the disk's path, "" for none and for a new one without device-mapper.
 */
gboolean banger_prepare (BangerCall *call, GError **error);
