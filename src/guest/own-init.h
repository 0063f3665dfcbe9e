/* Process 1 of an image that has no init.
 * Never starts anything: what runs is started by the agent for the host. */
#pragma once

#define GUEST_INIT_COMMAND "init"

/** guest_own_init_main: `guest init`: reaps what nobody waits for, and ends the machine in order when it is told to. */
int guest_own_init_main (char **arguments);
