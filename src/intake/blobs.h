/* Where the parts of an image of layers lie: in an archive that was spooled, or with the manager, who opens them.
 * Used by oci.c and image.c.
 * Never says anything of what is in them. */
#pragma once

#include <glib.h>

typedef struct {
  int fd; /* may be read anywhere */
  guint64 offset, length;
  gboolean own; /* banger_blob_clear() closes it */
} BangerBlob;

#define BANGER_BLOB_INIT                                                                                               \
  {                                                                                                                    \
    .fd = -1                                                                                                           \
  }

void banger_blob_clear (BangerBlob *blob);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (BangerBlob, banger_blob_clear)

typedef struct {
  /* Opens "index.json", "blobs/sha256/..." and so on. %BANGER_ERROR_INVALID_IMAGE if there is none. */
  gboolean (*open) (gpointer data, const char *name, BangerBlob *ret_blob, GError **error);
  gpointer data;
} BangerBlobs;

/** banger_blob_read: Returns: (transfer full): all of it; %NULL with %BANGER_ERROR_INVALID_IMAGE for more than @max bytes.
 * @name: for messages. */
GBytes *banger_blob_read (const BangerBlob *blob, const char *name, gsize max, GError **error);
