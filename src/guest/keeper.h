/* Keeps the agent alive until the machine ends: starts another one when it ended, and both when one of the two is gone.
 * Never serves anybody itself. */
#pragma once

#include <signal.h>

#include "guest/inits.h"

#define GUEST_AGENT_COMMAND "agent"

/* What the agent is told when its parent has died; blocked until it has a descriptor for it. */
#define GUEST_KEEPER_DIED SIGUSR1

typedef struct {
  int listener; /* -1: none */
  const GuestInitKind *init;
  int no_sshd; /* it is ready at once: nothing will listen */
  const char *boot_id;
} GuestAgentOptions;

/** guest_agent_spawn: forks the agent. Returns: 0, or -1 with errno. */
int guest_agent_spawn (const GuestAgentOptions *options);

/** guest_keep_serving: @serve in a child, again whenever it has ended. It comes back when it cannot work, or after
 * %GUEST_KEEPER_DIED. Returns: never. */
_Noreturn void guest_keep_serving (const GuestAgentOptions *options, void (*serve) (void));
