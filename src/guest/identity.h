/* A machine whose memory is a copy of another's becomes one of its own: the rows of docs/guest.md.
 * Forked by the agent.
 * Never says that it is done before all of it is true. */
#pragma once

#include "guest/session.h"

#define GUEST_BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

/** guest_identity_main: @session: without streams. Takes its descriptor, closes every other one. Does not return. */
void guest_identity_main (const GuestSession *session) __attribute__ ((noreturn));
