/* A command in a guest that a thread feeds and hears, while the main loop watches over both.
 * Called by what a start does in a guest that runs. */
#pragma once

#include "manager/vm/private.h"

typedef struct {
  /* In a thread: writes to @in (a socket: SIGPIPE is to be avoided), reads from @out until it ends. Raises @moves,
   * atomically, whenever something has moved. */
  void (*talk) (int in, int out, gint *moves, gpointer data);
  gboolean hear_errors; /* @out is what it says on its standard error; else its output */
  guint quiet_seconds;  /* in which something has to move; 0: no bound */
  guint seconds;        /* that it may take; 0: no bound */
} VmTalk;

/**
 * vm_talk_async:
 * @talk: static. @words: of the command. @data: counted: @unref drops the reference that this takes over, which the thread
 * may hold longer than anybody waits. Ends at once with @cancellable.
 */
void vm_talk_async (BangerVm *vm, const VmTalk *talk, const char *const *words, gpointer data, GDestroyNotify unref,
                    GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data);
/** vm_talk_finish: Returns: the command's status; -1 with error: then the thread may go on, with its data. */
int vm_talk_finish (GAsyncResult *result, GError **error);
