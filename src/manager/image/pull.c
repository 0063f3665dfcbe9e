/* Blobs, and the files of them: those of the lowest layers while others still come.
 * Runs in worker threads.
 * Never leaves a blob that is known to be damaged. */
#include "manager/image/pull.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "manager/fetch/registry.h"

#define LOOK_USEC 200000     /* for a cancellation, while another one fetches the same */
#define PATIENCE_USEC 500000 /* for the download, before its layers are asked for */

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

/* A pull, in a thread of its own where its layers are written while others come. */
typedef struct {
  BangerBlobStore store;
  const BangerImagePull *pull;
  const BangerImageBuildOptions *options;
  gpointer progress_data;
  GCancellable *fetching, *asking, *writing; /* that what is meant ends: the download, the question, the writing */
  GMutex lock;
  GCond changed;
  gboolean begun, ended; /* by skopeo; all of it */
  gboolean good;
  GError *error; /* of the download */
} Fetch;

static void
fetch_init (Fetch *fetch, const BangerImagePull *pull, const BangerImageBuildOptions *options, gpointer progress_data)
{
  *fetch = (Fetch){ .store = BANGER_BLOB_STORE_INIT, .pull = pull, .options = options, .progress_data = progress_data };
  fetch->fetching = g_cancellable_new ();
  fetch->asking = g_cancellable_new ();
  fetch->writing = g_cancellable_new ();
  g_mutex_init (&fetch->lock);
  g_cond_init (&fetch->changed);
}

static void
fetch_clear (Fetch *fetch)
{
  banger_blob_store_clear (&fetch->store);
  g_clear_error (&fetch->error);
  g_object_unref (fetch->fetching);
  g_object_unref (fetch->asking);
  g_object_unref (fetch->writing);
  g_mutex_clear (&fetch->lock);
  g_cond_clear (&fetch->changed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Fetch, fetch_clear)

static void
say_begun (Fetch *fetch)
{
  g_mutex_lock (&fetch->lock);
  fetch->begun = TRUE;
  g_cond_broadcast (&fetch->changed);
  g_mutex_unlock (&fetch->lock);
}

static gboolean
fetch_blobs (Fetch *fetch, GError **error)
{
  const BangerImagePull *pull = fetch->pull;
  const BangerRegistryPull skopeo = { pull->transport, pull->reference,      pull->own_blobs,
                                      pull->pulled,    fetch->progress_data, fetch->fetching };
  if (pull->own_blobs)
    return banger_registry_pull (&fetch->store, &skopeo, error);
  if (!take_turn (pull, fetch->options, fetch->fetching, error))
    return FALSE;
  say_begun (fetch);
  gboolean fetched = banger_registry_pull (&fetch->store, &skopeo, error);
  end_turn (pull);
  return fetched;
}

static gpointer
fetch_thread (gpointer data)
{
  Fetch *fetch = data;
  g_autoptr (GError) error = NULL;
  gboolean good = fetch_blobs (fetch, &error);
  if (good && fetch->options->stage)
    fetch->options->stage (BANGER_IMAGE_STAGE_WRITING, fetch->options->stage_data);
  g_mutex_lock (&fetch->lock);
  fetch->good = good;
  fetch->error = g_steal_pointer (&error);
  fetch->ended = TRUE;
  g_cond_broadcast (&fetch->changed);
  g_mutex_unlock (&fetch->lock);
  g_cancellable_cancel (fetch->asking);
  if (!good)
    g_cancellable_cancel (fetch->writing);
  return NULL;
}

static gboolean
has_ended (gpointer data)
{
  Fetch *fetch = data;
  g_mutex_lock (&fetch->lock);
  gboolean ended = fetch->ended;
  g_mutex_unlock (&fetch->lock);
  return ended;
}

/* Returns: whether it goes on: one that takes no time is not worth a question to the registry. */
static gboolean
takes_time (Fetch *fetch)
{
  g_mutex_lock (&fetch->lock);
  while (!fetch->begun && !fetch->ended)
    g_cond_wait (&fetch->changed, &fetch->lock);
  gint64 deadline = g_get_monotonic_time () + PATIENCE_USEC;
  while (!fetch->ended && g_cond_wait_until (&fetch->changed, &fetch->lock, deadline))
    ;
  gboolean ended = fetch->ended;
  g_mutex_unlock (&fetch->lock);
  return !ended;
}

/* Returns: a file with the digests of the layers that come, which whoever reads it cannot fill; -1: nobody says. */
static int
ask_layers (const Fetch *fetch)
{
  g_autofree char *source = g_strconcat (fetch->pull->transport, ":", fetch->pull->reference, NULL);
  g_autofree char *layers = banger_registry_layers (source, fetch->asking);
  banger_autofd int fd = layers ? memfd_create (BANGER_INTAKE_EXPECTED, MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
  gboolean kept = fd >= 0 && banger_write_all (fd, layers, strlen (layers)) == 0
                  && fcntl (fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0;
  return kept ? banger_steal_fd (&fd) : -1;
}

/* Where files are written into, and who hears of it. */
typedef struct {
  int dir_fd;
  BangerProgress progress;
  BangerImageInfo *info;
} Writing;

static gboolean
write_files (Fetch *fetch, const Writing *to, const BangerImageComing *coming, GError **error)
{
  BangerImageBuildOptions options = *fetch->options;
  options.coming = coming;
  banger_autofd int own = banger_blob_store_own (&fetch->store);
  return banger_image_import_layers (fetch->store.pull_fd, own >= 0 ? own : fetch->store.sha256_fd, to->dir_fd,
                                     &options, to->progress, fetch->progress_data, fetch->writing, to->info, error);
}

/* What the download says of its failure counts more than that nobody could write what did not come. */
static gboolean
fetch_and_write (Fetch *fetch, const Writing *to, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (GThread) thread = g_thread_new ("banger-pull", fetch_thread, fetch);
  banger_autofd int expected = !fetch->pull->own_blobs && takes_time (fetch) ? ask_layers (fetch) : -1;
  const BangerImageComing coming = { expected, has_ended, fetch };
  gboolean written = expected >= 0 && write_files (fetch, to, &coming, &failure);
  gboolean in_time = has_ended (fetch);
  if (failure && !in_time)
    g_cancellable_cancel (fetch->fetching);
  g_thread_join (g_steal_pointer (&thread));
  if (!fetch->good && (in_time || !failure))
    g_propagate_error (error, g_steal_pointer (&fetch->error));
  else if (failure)
    g_propagate_error (error, g_steal_pointer (&failure));
  else
    return written || write_files (fetch, to, NULL, error);
  return FALSE;
}

static void
cancel_all (GCancellable *cancellable, gpointer data)
{
  const Fetch *fetch = data;
  g_cancellable_cancel (fetch->fetching);
  g_cancellable_cancel (fetch->writing);
}

gboolean
banger_image_pull (const BangerImagePull *pull, int image_dir_fd, const BangerImageBuildOptions *options,
                   BangerProgress progress, gpointer progress_data, GCancellable *cancellable,
                   BangerImageInfo *ret_info, GError **error)
{
  g_auto (Fetch) fetch;
  const Writing to = { image_dir_fd, progress, ret_info };
  g_autoptr (GError) local = NULL;
  fetch_init (&fetch, pull, options, progress_data);
  if (!banger_blob_store_open (&fetch.store, image_dir_fd, error))
    return FALSE;
  gulong handler = cancellable ? g_cancellable_connect (cancellable, G_CALLBACK (cancel_all), &fetch, NULL) : 0;
  gboolean good = fetch_and_write (&fetch, &to, &local);
  g_cancellable_disconnect (cancellable, handler);
  if (good)
    return TRUE;
  if (!pull->own_blobs && g_error_matches (local, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE))
    banger_blob_store_drop_damaged (&fetch.store, cancellable);
  g_propagate_error (error, g_steal_pointer (&local));
  return FALSE;
}
