/* Whether ssh answers, and telling the agent.
 * Never connects: sshd would fork for it. */
#pragma once

#define GUEST_AGENT_SOCKET "/run/banger/agent.sock"
#define GUEST_SSH_PORT 22
#define GUEST_TELLS_READY "ready"
#define GUEST_TELLS_WAIT "wait" /* not any more: "ready" comes again */

/** guest_tcp_listening: whether @table, the text of /proc/net/tcp or tcp6 (proc(5)), has a listener on @port:
 * any (0), or the socket @inode. */
int guest_tcp_listening (const char *table, unsigned port, unsigned long inode);

/** guest_ssh_listening: the same for this system and port 22. */
int guest_ssh_listening (unsigned long inode);

/** guest_ready_tell: one of these words to the agent. Returns: 0, or -1 with errno. */
int guest_ready_tell (const char *word);

/** guest_ready_main: `guest ready`. Returns: an exit status. */
int guest_ready_main (void);
