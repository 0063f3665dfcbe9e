/* The agent: what the host can ask of a running guest (common/guest-protocol.h).
 * Never runs a command itself: a session (session.h) does. */
#pragma once

/** guest_agent_listen: the listening vsock socket. Returns: a descriptor, or -1 with errno. */
int guest_agent_listen (void);

/** guest_agent_main: `guest agent LISTENER INIT-KIND TOKEN [no-sshd]`. Returns: only when its arguments are not these. */
int guest_agent_main (char **arguments);
