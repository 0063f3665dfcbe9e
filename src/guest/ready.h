/* Whether ssh answers, and telling the agent.
 * Used by the agent (images without systemd) and by `guest ready` (the unit banger-ready.service).
 * Never connects: sshd would fork for it. */
#pragma once

#define GUEST_AGENT_SOCKET "/run/banger/agent.sock"
#define GUEST_SSH_PORT 22

/** guest_tcp_listening: whether @table, the text of /proc/net/tcp or tcp6 (proc(5)), has a listener on @port. */
int guest_tcp_listening (const char *table, unsigned port);

/** guest_ssh_listening: the same for this system and port 22. */
int guest_ssh_listening (void);

/** guest_ready_main: `guest ready`. Returns: an exit status. */
int guest_ready_main (void);
