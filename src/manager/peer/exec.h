/* One command in a guest, run by its agent: a connection for each of its streams, one for its control (docs/guest.md).
 * Never carries a byte of the streams: their descriptors are for whoever asked.
 * Never trusts what the guest says: lines are bounded and of known words. */
#pragma once

#include <gio/gio.h>

typedef struct BangerExec BangerExec;

enum { BANGER_EXEC_STDIN, BANGER_EXEC_STDOUT, BANGER_EXEC_STDERR, BANGER_EXEC_STREAMS };

typedef struct {
  const char *const *arguments;   /* at least one, not empty */
  const char *const *environment; /* NAME=VALUE; NULL: none */
  const char *cwd, *user;         /* NULL: the guest's default */
  gboolean terminal;              /* instead of pipes: stdin and stdout are its, there is no stderr */
  guint rows, columns;            /* of it, at most 65535 */
  gboolean no_stdin;              /* the command gets an empty one */
  guint seconds;                  /* that it may take once it has begun, where its output is captured; 0: no bound */
  gboolean no_stdout;             /* what it writes there goes nowhere */
} BangerExecSpec;

/** banger_exec_spec_copy: Returns: (transfer full). */
BangerExecSpec *banger_exec_spec_copy (const BangerExecSpec *spec);
void banger_exec_spec_free (BangerExecSpec *spec);

/** banger_exec_check: whether @spec is one that a guest can be asked for: %BANGER_ERROR_INVALID_ARGS. */
gboolean banger_exec_check (const BangerExecSpec *spec, GError **error);

/**
 * banger_exec_start_async:
 * @socket_path: of the VMM's vsock. @pid: the VMM, which must be who listens there. At most 30 s.
 * %BANGER_ERROR_GUEST_FAILED, %BANGER_ERROR_GUEST_TIMEOUT.
 */
void banger_exec_start_async (const char *socket_path, pid_t pid, const BangerExecSpec *spec, GCancellable *cancellable,
                              GAsyncReadyCallback callback, gpointer user_data);
/** banger_exec_start_finish: @ret_fds: (transfer full): three; -1 where the command has none. */
BangerExec *banger_exec_start_finish (GAsyncResult *result, int *ret_fds, GError **error);

/** BangerExecEnded: once. @signal: 0 if it ended with @status; @error: what was said, or not said, instead. */
typedef void (*BangerExecEnded) (BangerExec *exec, int status, int signal, const GError *error, gpointer user_data);
/** banger_exec_watch: @ended: from the main loop, never from here. */
void banger_exec_watch (BangerExec *exec, BangerExecEnded ended, gpointer user_data);

/** banger_exec_signal: @number: 1 to 64. Returns: %FALSE if it has ended or takes no orders. */
gboolean banger_exec_signal (BangerExec *exec, guint number, GError **error);
gboolean banger_exec_resize (BangerExec *exec, guint rows, guint columns, GError **error);

/** banger_exec_free: ends the command if it has not ended. */
void banger_exec_free (BangerExec *exec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerExec, banger_exec_free)
