/* One thread that brings to the disk, one after the other, what must be there in order: the records.
 * Never makes the main loop wait for a disk, and never leaves out what was given to it. */
#pragma once

#include <gio/gio.h>

typedef struct BangerWriter BangerWriter;

/** BangerWrite: what is done in the writer's thread, with data that the main thread leaves alone meanwhile. */
typedef gboolean (*BangerWrite) (gpointer data, GError **error);

BangerWriter *banger_writer_new (void);

/** banger_writer_free: returns when all that was put is done, or the disk has not answered for some seconds: then its
 * thread is left alone. Callbacks that did not come by then come from the main loop, if it runs on. */
void banger_writer_free (BangerWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BangerWriter, banger_writer_free)

/**
 * banger_writer_put:
 * Does @write after all that was put before.
 * @object: (nullable): what is written whole. If something waits that was put for the same object, @write is done in its
 * place, at its turn, and both end with its result: nobody needs the older state any more.
 * @data: (transfer full): freed with @free_data, in any thread.
 */
void banger_writer_put (BangerWriter *writer, gconstpointer object, BangerWrite write, gpointer data,
                        GDestroyNotify free_data, GAsyncReadyCallback callback, gpointer user_data);

gboolean banger_writer_finish (GAsyncResult *result, GError **error);
