/* Both files' digests, next to what the record says.
 * Never changes them, nor the image. */
#include "manager/image/verify.h"

#include <errno.h>
#include <fcntl.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/names.h"
#include "manager/core/work.h"
#include "manager/disk/content.h"

typedef struct {
  int dir_fd;
  char *name, *rootfs, *seed; /* the image's, the digests */
} Verify;

static void
verify_free (gpointer data)
{
  Verify *self = data;
  banger_clear_fd (&self->dir_fd);
  g_free (self->name);
  g_free (self->rootfs);
  g_free (self->seed);
  g_free (self);
}

static gboolean
check (const Verify *self, const char *file, const char *digest, GError **error)
{
  banger_autofd int fd = openat (self->dir_fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return banger_set_error_errno (error, BANGER_ERROR_STATE_CORRUPT, errno, "image %s: %s", self->name, file);
  g_autofree char *found = banger_content_digest (fd, NULL, error);
  if (!found)
    return FALSE;
  return g_str_equal (found, digest)
         || banger_set_error (error, BANGER_ERROR_STATE_CORRUPT,
                              "image %s: %s is not what it was when the image was made: delete it and make it again",
                              self->name, file);
}

static gboolean
verify (gpointer data, GCancellable *cancellable, GError **error)
{
  const Verify *self = data;
  if (*self->rootfs == '\0' || *self->seed == '\0')
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED,
                             "image %s was made by an earlier version: what its files were is not written down",
                             self->name);
  return check (self, BANGER_FILE_IMAGE_ROOTFS, self->rootfs, error)
         && check (self, BANGER_FILE_IMAGE_SEED, self->seed, error);
}

void
banger_image_verify_async (const BangerImage *image, int dir_fd, GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork verifying = { "verify-image", verify, NULL, verify_free };
  Verify *self = g_new0 (Verify, 1);
  *self = (Verify){ dir_fd, g_strdup (image->asset.name), g_strdup (image->rootfs_digest),
                    g_strdup (image->seed_digest) };
  banger_work_async (&verifying, self, NULL, callback, user_data);
}

gboolean
banger_image_verify_finish (GAsyncResult *result, GError **error)
{
  return banger_work_finish (result, error);
}
