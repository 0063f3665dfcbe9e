/* Work that waits for a disk, in a thread that its verb does not wait for once it is cancelled: a disk may hang for ever.
 * Never leaves behind what it made when nobody wanted it any more: the thread itself takes it back. */
#pragma once

#include <gio/gio.h>

typedef struct {
  const char *name; /* "work-disk": fault point */
  /* In the thread. Looks at @cancellable now and then. */
  gboolean (*run) (gpointer data, GCancellable *cancellable, GError **error);
  /* In the thread, after run(), if nobody waited for its end. %NULL: nothing to take back. */
  void (*take_back) (gpointer data);
  /* In the main loop, once the thread has ended and the result was taken. */
  GDestroyNotify free;
} BangerWork;

/**
 * banger_work_async:
 * @work: static. @data: (transfer full): the thread's own; nothing of it may belong to who waits.
 * @cancellable: (nullable): ends the waiting at once, with %G_IO_ERROR_CANCELLED, whatever the thread does.
 */
void banger_work_async (const BangerWork *work, gpointer data, GCancellable *cancellable, GAsyncReadyCallback callback,
                        gpointer user_data);
gboolean banger_work_finish (GAsyncResult *result, GError **error);
/** banger_work_data: Returns: (transfer none): @data of the work whose end or cancellation @result is. */
gpointer banger_work_data (GAsyncResult *result);
/** banger_work_is_left: whether the thread goes on alone: then it takes back what it made. */
gboolean banger_work_is_left (GAsyncResult *result);
