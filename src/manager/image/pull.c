/* First the blobs, then the files.
 * Runs in worker threads.
 * Never leaves a blob that is known to be damaged. */
#include "manager/image/pull.h"

#include "common/error.h"
#include "common/fd.h"
#include "manager/fetch/registry.h"

gboolean
banger_image_pull (const BangerImagePull *pull, int image_dir_fd, const BangerImageBuildOptions *options,
                   BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                   BangerImageInfo *ret_info, GError **error)
{
  g_auto (BangerBlobStore) store = BANGER_BLOB_STORE_INIT;
  const BangerRegistryPull fetch = { pull->transport, pull->reference, pull->own_blobs,
                                     pull->pulled,    progress_data,   cancellable };
  g_autoptr (GError) local = NULL;
  if (!banger_blob_store_open (&store, image_dir_fd, error) || !banger_registry_pull (&store, &fetch, error))
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
