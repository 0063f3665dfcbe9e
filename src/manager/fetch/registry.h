/* Pulls images from registries with skopeo(1), as the owner: registries.conf, auth file, certs.d and policy.json are his.
 * Runs in worker threads.
 * Never parses what came. */
#pragma once

#include "manager/fetch/blobs.h"

/** banger_registry_check: whether skopeo is there and @reference ("//debian:bookworm") can be one. */
gboolean banger_registry_check (const char *reference, GError **error);

/** banger_registry_is_reference: whether @reference can be one. */
gboolean banger_registry_is_reference (const char *reference);

/** banger_storage_check: likewise of @name ("localhost/box:1"), of the owner's containers-storage. */
gboolean banger_storage_check (const char *name, GError **error);

typedef struct {
  const char *transport, *reference; /* "docker" or "containers-storage", and what was checked for it */
  gboolean own_blobs;                /* they go into the folder of the pull, as they are on this host already */
  void (*pulled) (guint64 bytes, guint64 rate, gpointer data); /* again and again; bytes a second, of the last ones */
  gpointer data;
  GCancellable *cancellable;
} BangerRegistryPull;

/**
 * banger_registry_layers:
 * Asks the registry once more, while a pull of it goes on. Returns: (transfer full) (nullable): the digests of the layers as skopeo prints them, a
 * line each, the lowest first; nobody has looked at them. %NULL: it cannot be said.
 */
char *banger_registry_layers (const char *source, GCancellable *cancellable);

/**
 * banger_registry_pull:
 * Blobs go into the store, where those that are there already are not fetched again, or into the pull's
 * folder, where index.json goes, too.
 * %BANGER_ERROR_REGISTRY_DENIED (401, 403), %BANGER_ERROR_NO_SUCH_IMAGE (404), %BANGER_ERROR_REGISTRY_BUSY (429),
 * %BANGER_ERROR_REGISTRY_UNREACHABLE (no way to it, or it was cut), %BANGER_ERROR_NO_SPACE, %BANGER_ERROR_CANCELLED; else
 * %BANGER_ERROR_FAILED; each with skopeo's own words.
 */
gboolean banger_registry_pull (const BangerBlobStore *store, const BangerRegistryPull *pull, GError **error);
