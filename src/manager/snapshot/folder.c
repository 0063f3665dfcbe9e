/* The folder that a VM is kept in, for as long as a snapshot or its copies need it.
 * Never leaves one that nobody waited for. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "manager/core/record.h"
#include "manager/core/work.h"
#include "manager/snapshot/private.h"

typedef struct {
  int kind_fd, dir_fd;
  char *id;
} Folder;

static void
folder_free (gpointer data)
{
  Folder *folder = data;
  banger_clear_fd (&folder->kind_fd);
  banger_clear_fd (&folder->dir_fd);
  g_free (folder->id);
  g_free (folder);
}

static gboolean
make_folder (gpointer data, GCancellable *cancellable, GError **error)
{
  Folder *folder = data;
  if (mkdirat (folder->kind_fd, folder->id, 0700) < 0 || fsync (folder->kind_fd) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno,
                                   "cannot make a folder for what is kept of the VM");
  folder->dir_fd = banger_record_open_dir (folder->kind_fd, folder->id, error);
  return folder->dir_fd >= 0;
}

static void
remove_folder (gpointer data)
{
  const Folder *folder = data;
  banger_record_remove (folder->kind_fd, folder->id, NULL);
}

void
snapshot_folder_async (int kind_fd, const BangerVmSnapshot *snapshot, GCancellable *cancellable,
                       GAsyncReadyCallback callback, gpointer user_data)
{
  static const BangerWork making = { "snapshot-mkdir", make_folder, remove_folder, folder_free };
  Folder *folder = g_new0 (Folder, 1);
  folder->kind_fd = fcntl (kind_fd, F_DUPFD_CLOEXEC, 3);
  folder->dir_fd = -1;
  folder->id = g_strdup (snapshot->id);
  banger_work_async (&making, folder, cancellable, callback, user_data);
}

gboolean
snapshot_folder_finish (BangerVmSnapshot *snapshot, GAsyncResult *result, GError **error)
{
  Folder *folder = banger_work_data (result);
  if (!banger_work_finish (result, error))
    return FALSE;
  snapshot->dir_fd = banger_steal_fd (&folder->dir_fd);
  return TRUE;
}
