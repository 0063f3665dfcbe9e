/* The end on the bus: each call that was sent to us has an answer before we are gone.
 * Never waits long for a bus that does not answer. */
#pragma once

#include "common/bus-source.h"

/**
 * banger_leave_bus:
 * Gives our name back and refuses what was sent to it until then; the next call has the bus start the next bangerd.
 * Nothing of ours is registered on @bus any more, and its source does not run.
 */
void banger_leave_bus (sd_bus *bus);
