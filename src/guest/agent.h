/* The agent: what the host can ask of a running guest (common/guest-protocol.h).
 * Forked by the start-up code, kept until the machine ends.
 * Never runs a command for the host: that is what ssh is for. */
#pragma once

#define GUEST_AGENT_COMMAND "agent"

/** guest_agent_listen: the listening vsock socket. Returns: a descriptor, or -1 with errno. */
int guest_agent_listen (void);

/** guest_agent_spawn: forks the agent; it takes @listener (-1: none). Returns: 0, or -1 with errno. */
int guest_agent_spawn (int listener, int is_systemd, const char *boot_token);

/** guest_agent_main: `guest agent LISTENER systemd|other TOKEN`. Returns: only when it cannot work. */
int guest_agent_main (char **arguments);
