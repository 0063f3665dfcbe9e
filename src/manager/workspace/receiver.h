/* Who unpacks a work tree: the agent, or a shell in the guest, by whatever way it is reached.
 * Called by send.c; the way through the agent is vm/import.c's.
 * Never touches what is sent. */
#pragma once

#include <gio/gio.h>

typedef struct BangerReceiver BangerReceiver;

/** BangerReceiverEnded: once, never from within a call. @status: of the shell. @error: (transfer full) (nullable): why
 * that is not known. */
typedef void (*BangerReceiverEnded) (int status, GError *error, gpointer user_data);

/* A way. The implementer's object begins with it. */
struct BangerReceiver {
  const char *head; /* shell word of a program there that passes on so many bytes */
  const char *own;  /* the program whose `receive` takes the tree in; NULL: none, a shell does */
  void (*start_async) (BangerReceiver *receiver, const char *const *words, GCancellable *cancellable,
                       GAsyncReadyCallback callback, gpointer user_data);
  gboolean (*start_finish) (BangerReceiver *receiver, GAsyncResult *result, int *ret_stdin, int *ret_stderr,
                            GError **error);
  void (*watch) (BangerReceiver *receiver, BangerReceiverEnded ended, gpointer user_data);
  void (*end) (BangerReceiver *receiver);
  void (*free) (BangerReceiver *receiver);
};

/** banger_receiver_start_async: @words: `sh -c SCRIPT`; with an own program, whatever it is. */
static inline void
banger_receiver_start_async (BangerReceiver *receiver, const char *const *words, GCancellable *cancellable,
                             GAsyncReadyCallback callback, gpointer user_data)
{
  receiver->start_async (receiver, words, cancellable, callback, user_data);
}

/** banger_receiver_start_finish: @ret_stdin: (transfer full): of what was started, a socket that blocks; shut down for
 * writing is its end. @ret_stderr: (transfer full). */
static inline gboolean
banger_receiver_start_finish (BangerReceiver *receiver, GAsyncResult *result, int *ret_stdin, int *ret_stderr,
                              GError **error)
{
  return receiver->start_finish (receiver, result, ret_stdin, ret_stderr, error);
}

/** banger_receiver_watch: of one that was started, once. */
static inline void
banger_receiver_watch (BangerReceiver *receiver, BangerReceiverEnded ended, gpointer data)
{
  receiver->watch (receiver, ended, data);
}

/** banger_receiver_end: ends it at once, also who waits in a write to its stdin. */
static inline void
banger_receiver_end (BangerReceiver *receiver)
{
  receiver->end (receiver);
}

static inline void
banger_receiver_free (BangerReceiver *receiver)
{
  receiver->free (receiver);
}

/** banger_receiver_new_program: @argv: `ssh` and its words: one more, the script, is for the shell at the other end. */
BangerReceiver *banger_receiver_new_program (const char *const *argv);
