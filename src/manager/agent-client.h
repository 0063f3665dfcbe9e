/* The connection to the agent in a guest, through the VMM's vsock socket.
 * Called by vm-start.c, vm-stop.c and vm-reconcile.c.
 * Never trusts what comes back: a guest is hostile until proven otherwise; lines are bounded and of known words. */
#pragma once

#include <gio/gio.h>

typedef struct BangerAgent BangerAgent;

/** BangerAgentNotify: the guest said that it is ready; @boot_id is made of [0-9a-zA-Z-] only. May come again after a
 * reboot. */
typedef void (*BangerAgentNotify) (BangerAgent *agent, const char *boot_id, gpointer user_data);

/**
 * banger_agent_new:
 * Connects to @socket_path in the background ("CONNECT 1024", then "hello") and again, with backoff (50 ms to 2 s),
 * until freed. @ready: in the main loop, may be %NULL.
 */
BangerAgent *banger_agent_new (const char *socket_path, BangerAgentNotify ready, gpointer user_data);
/** banger_agent_free: what is under way ends with %BANGER_ERROR_CANCELLED. */
void banger_agent_free (BangerAgent *agent);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerAgent, banger_agent_free)

gboolean banger_agent_connected (BangerAgent *agent); /* hello was answered on this connection */
/** banger_agent_boot_id: Returns: (transfer none) (nullable): %NULL until ready. */
const char *banger_agent_boot_id (BangerAgent *agent);

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
gboolean banger_agent_call_finish (GAsyncResult *result, GError **error);
