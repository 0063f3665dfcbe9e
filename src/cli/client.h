/* The connection to org.banger.Manager on the session bus: calls, jobs, waiting.
 * Never polls: a job is followed by its signals, which are subscribed before the call that makes it. */
#pragma once

#include <glib.h>
#include <poll.h>

#include "common/bus-source.h"

typedef struct BangerClient BangerClient;

typedef enum {
  BANGER_CLIENT_PLAIN = 0,
  BANGER_CLIENT_JOBS = 1 << 0, /* follows jobs; SIGINT and its like are read, see signals.h */
} BangerClientFlags;

/** banger_client_new: connects. Errors say what to do when there is no session bus. */
BangerClient *banger_client_new (BangerClientFlags flags, GError **error);
void banger_client_free (BangerClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerClient, banger_client_free)
sd_bus *banger_client_bus (BangerClient *client);

/** banger_client_set_brief: from now on no call starts the manager, and each waits @timeout µs at most. */
void banger_client_set_brief (BangerClient *client, guint64 timeout);

/** banger_client_message: a call of the manager; @interface %NULL: org.banger.Manager on its own path. */
sd_bus_message *banger_client_message (BangerClient *client, const char *path, const char *interface,
                                       const char *member);

/**
 * banger_client_call:
 * Sends @call and waits for its answer, at most @timeout µs (0: 25 s).
 * Returns: (transfer full): the answer. An error is the manager's own, with its op id; no manager: what to do about it.
 */
sd_bus_message *banger_client_call (BangerClient *client, sd_bus_message *call, guint64 timeout, GError **error);

typedef struct {
  const char *label; /* "web": before each stage */
  const char *what;  /* "cannot start web": before an error */
  const char *done;  /* "web is ready", or NULL for no last line */
  gboolean quiet;
  gboolean keep_going; /* a signal does not cancel the job, it only ends the wait */
  const char *enough;  /* the stage from which on the rest of it is the manager's alone; NULL: its end is waited for */
} BangerJobText;

/**
 * banger_client_run_job:
 * Sends @call, whose answer is a job's path, shows its progress and waits for its end. The first SIGINT, SIGTERM or
 * SIGHUP cancels the job, another one leaves it to itself; both are %BANGER_ERROR_CANCELLED.
 * @ret_object: (nullable): path of the object that the job made or worked on, "/" if none is known; written on success
 * and, so that a caller can tidy up, on failure.
 */
gboolean banger_client_run_job (BangerClient *client, sd_bus_message *call, const BangerJobText *text,
                                char **ret_object, GError **error);

typedef enum {
  BANGER_WOKE_BUS = 1 << 0,    /* messages were dispatched */
  BANGER_WOKE_SIGNAL = 1 << 1, /* banger_signals_take() has one */
  BANGER_WOKE_FD = 1 << 2,
  BANGER_WOKE_CLOSED = 1 << 3, /* the bus is gone; it is not looked at again */
} BangerWoke;

/**
 * banger_client_wait:
 * Dispatches the bus and waits until something happens. @fd: (-1: none) also waited for until it is readable.
 * @timeout: µs, -1: for ever. Returns: why it came back; 0: the time is up.
 */
BangerWoke banger_client_wait (BangerClient *client, int fd, gint64 timeout);
/** banger_client_poll: likewise, of @n descriptors (8 at most) as poll(2) takes them; their revents are of use only
 * after %BANGER_WOKE_FD. */
BangerWoke banger_client_poll (BangerClient *client, struct pollfd *fds, guint n, gint64 timeout);
