/* The connection to the agent in a guest, through the VMM's vsock socket.
 * Never trusts what comes back: a guest is hostile until proven otherwise; lines are bounded and of known words. */
#pragma once

#include <gio/gio.h>

typedef struct BangerAgent BangerAgent;

/** BangerAgentNotify: the guest said that it is ready; @boot_id is made of [0-9a-zA-Z-] only. May come again after a
 * reboot, and once it is another. */
typedef void (*BangerAgentNotify) (BangerAgent *agent, const char *boot_id, gpointer user_data);

/**
 * banger_agent_new:
 * Connects to @socket_path in the background ("CONNECT 1024", then "hello") and again, with backoff (50 ms to 2 s),
 * until freed. @pid: the VMM, which must be who listens there. @ready: in the main loop, may be %NULL.
 */
BangerAgent *banger_agent_new (const char *socket_path, pid_t pid, BangerAgentNotify ready, gpointer user_data);
/** banger_agent_free: what is under way ends with %BANGER_ERROR_CANCELLED. */
void banger_agent_free (BangerAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerAgent, banger_agent_free)

gboolean banger_agent_connected (BangerAgent *agent); /* hello was answered on this connection */
/** banger_agent_can_exec: whether it is connected and runs commands (exec.h); one of an older banger does not. */
gboolean banger_agent_can_exec (BangerAgent *agent);
/** banger_agent_can_identity: likewise, whether it makes its guest another (guest-identity.h). */
gboolean banger_agent_can_identity (BangerAgent *agent);
/** banger_agent_can_names: likewise, whether it takes names of others (`names`). */
gboolean banger_agent_can_names (BangerAgent *agent);
/** banger_agent_can_receive: likewise, whether it takes in a work tree by itself. */
gboolean banger_agent_can_receive (BangerAgent *agent);
/** banger_agent_boot_id: Returns: (transfer none) (nullable): %NULL until ready. */
const char *banger_agent_boot_id (BangerAgent *agent);
/** banger_agent_renew: its guest is to become another, which is not ready before it says so. */
void banger_agent_renew (BangerAgent *agent);
/** banger_agent_set_boot_id: it has this one now, as it was asked to. */
void banger_agent_set_boot_id (BangerAgent *agent, const char *boot_id);
/** banger_agent_is_ready: the guest of that boot id said so: its ssh server listens, if it has one. */
gboolean banger_agent_is_ready (BangerAgent *agent);
/** banger_agent_no_sshd: the guest has no ssh server that it starts: it is ready when its agent is. */
gboolean banger_agent_no_sshd (BangerAgent *agent);

typedef enum { BANGER_AGENT_CONNECTED, BANGER_AGENT_READY } BangerAgentLevel;
/** banger_agent_wait_async: until @level is reached (at once if it is); the caller bounds it by @cancellable. */
void banger_agent_wait_async (BangerAgent *agent, BangerAgentLevel level, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data);
gboolean banger_agent_wait_finish (GAsyncResult *result, GError **error);

/**
 * banger_agent_call_async:
 * One verb of guest-protocol.h without arguments ("ping", "shutdown", "poweroff", "sync"), at most @seconds.
 * %BANGER_ERROR_GUEST_FAILED: no connection, lost, or the guest answered an error; %BANGER_ERROR_GUEST_TIMEOUT.
 */
void banger_agent_call_async (BangerAgent *agent, const char *verb, guint seconds, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data);
/** banger_agent_call_with_async: the same with an @argument after the token. */
void banger_agent_call_with_async (BangerAgent *agent, const char *verb, const char *argument, guint seconds,
                                   GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** banger_agent_call_answer: Returns: (transfer none) (nullable): what the guest said after "ok", as it said it. */
const char *banger_agent_call_answer (GAsyncResult *result);
gboolean banger_agent_call_finish (GAsyncResult *result, GError **error);
