/* A guest's time of day follows the host's: asked through its agent, and moved where it is off.
 * Never asks more often than the drift that was seen calls for. */
#pragma once

#include "manager/peer/agent.h"

typedef struct BangerGuestClock BangerGuestClock;

/** banger_guest_clock_new: begins at once, or when @agent is connected. @agent: borrowed, outlives it; @vm: for the
 * log. */
BangerGuestClock *banger_guest_clock_new (BangerAgent *agent, const char *vm);
void banger_guest_clock_free (BangerGuestClock *clock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerGuestClock, banger_guest_clock_free)

/** banger_guest_clock_check: the host's clock has jumped: ask now. */
void banger_guest_clock_check (BangerGuestClock *clock);

/** banger_host_clock_watch: @jumped in the main loop, whenever this host's clock was set or it has slept. Returns: a
 * GSource's id, 0 where the kernel cannot tell. */
guint banger_host_clock_watch (void (*jumped) (gpointer), gpointer user_data);
