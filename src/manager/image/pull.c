/* First the blobs, then the files.
 * Runs in worker threads.
 * Never leaves a blob that is known to be damaged. */
#include "manager/image/pull.h"

#include "common/error.h"
#include "common/fd.h"
#include "manager/fetch/registry.h"

#define LOOK_USEC 200000 /* for a cancellation, while another one fetches the same */

/* Of one reference one at a time is fetched: who comes second finds its blobs here. */
static GMutex turns_lock;
static GCond turn_over;
static GHashTable *turns; /* set of references */

static gboolean
take_turn (const BangerImagePull *pull, const BangerImageBuildOptions *options, GCancellable *cancellable,
           GError **error)
{
  gboolean cancelled = FALSE;
  g_mutex_lock (&turns_lock);
  if (!turns)
    turns = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  if (g_hash_table_contains (turns, pull->reference) && options->stage)
    options->stage ("waiting for the same from another pull", options->stage_data);
  while (g_hash_table_contains (turns, pull->reference) && !cancelled) {
    (void)g_cond_wait_until (&turn_over, &turns_lock, g_get_monotonic_time () + LOOK_USEC);
    cancelled = g_cancellable_is_cancelled (cancellable);
  }
  if (!cancelled)
    g_hash_table_add (turns, g_strdup (pull->reference));
  g_mutex_unlock (&turns_lock);
  return !cancelled || banger_set_cancelled (error);
}

static void
end_turn (const BangerImagePull *pull)
{
  g_mutex_lock (&turns_lock);
  g_hash_table_remove (turns, pull->reference);
  g_cond_broadcast (&turn_over);
  g_mutex_unlock (&turns_lock);
}

static gboolean
fetch_blobs (BangerBlobStore *store, const BangerImagePull *pull, const BangerImageBuildOptions *options,
             gpointer progress_data, GCancellable *cancellable, GError **error)
{
  const BangerRegistryPull fetch = { pull->transport, pull->reference, pull->own_blobs,
                                     pull->pulled,    progress_data,   cancellable };
  if (pull->own_blobs)
    return banger_registry_pull (store, &fetch, error);
  if (!take_turn (pull, options, cancellable, error))
    return FALSE;
  gboolean fetched = banger_registry_pull (store, &fetch, error);
  end_turn (pull);
  return fetched;
}

gboolean
banger_image_pull (const BangerImagePull *pull, int image_dir_fd, const BangerImageBuildOptions *options,
                   BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                   BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerBlobStore) store = BANGER_BLOB_STORE_INIT;
  g_autoptr (GError) local = NULL;
  if (!banger_blob_store_open (&store, image_dir_fd, error)
      || !fetch_blobs (&store, pull, options, progress_data, cancellable, error))
    return FALSE;
  banger_autofd int own = banger_blob_store_own (&store);
  if (banger_image_import_layers (store.pull_fd, own >= 0 ? own : store.sha256_fd, image_dir_fd, options, progress,
                                  progress_data, cancellable, ret_info, &local))
    return TRUE;
  if (own < 0 && g_error_matches (local, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE))
    banger_blob_store_drop_damaged (&store, cancellable);
  g_propagate_error (error, g_steal_pointer (&local));
  return FALSE;
}
