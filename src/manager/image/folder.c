/* tree-pack.h in a thread, with a pipe behind it.
 * Used by import.c.
 * Never goes on when something could not be read: an image is all of a folder. */
#include "manager/image/folder.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/tree-pack.h"

#define MAX_SHOWN 400u

struct BangerFolderTar {
  GThread *thread;
  int dir_fd, to;
  char *problem; /* the first thing that could not be read, and why */
};

static int
take_bytes (const void *bytes, size_t length, void *data)
{
  const BangerFolderTar *tar = data;
  return tar->problem ? -1 : banger_write_all (tar->to, bytes, length);
}

static void
complain (const char *path, const char *why, int number, void *data)
{
  BangerFolderTar *tar = data;
  g_autofree char *shown = banger_log_escape (path, MAX_SHOWN);
  if (!tar->problem)
    tar->problem = g_strdup_printf ("cannot read %s: %s", shown, why ? why : g_strerror (number));
}

static gpointer
pack (gpointer data)
{
  BangerFolderTar *tar = data;
  const BangerTreePacker packer = { .write = take_bytes,
                                    .complain = complain,
                                    .data = tar,
                                    .keep_owners = 1,
                                    .as_root = getuid (),
                                    .xattrs = 1,
                                    .sorted = 1 };
  g_autofree char *path = g_strdup_printf ("/proc/self/fd/%d/", tar->dir_fd);
  if (banger_tree_pack (path, ".", &packer) < 0 && !tar->problem && errno != EPIPE)
    tar->problem = g_strdup_printf ("cannot read the folder: %s", g_strerror (errno));
  banger_clear_fd (&tar->to);
  return NULL;
}

static void
folder_tar_free (BangerFolderTar *tar)
{
  banger_clear_fd (&tar->dir_fd);
  banger_clear_fd (&tar->to);
  g_free (tar->problem);
  g_free (tar);
}

BangerFolderTar *
banger_folder_tar_new (int dir_fd, int *ret_fd, GError **error)
{
  int ends[2] = { -1, -1 };
  BangerFolderTar *tar = g_new0 (BangerFolderTar, 1);
  tar->to = -1;
  tar->dir_fd = fcntl (dir_fd, F_DUPFD_CLOEXEC, 3);
  if (tar->dir_fd < 0 || pipe2 (ends, O_CLOEXEC) < 0) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the folder");
    folder_tar_free (tar);
    return NULL;
  }
  tar->to = ends[1];
  tar->thread = g_thread_try_new ("folder", pack, tar, error);
  if (!tar->thread) {
    close (ends[0]);
    folder_tar_free (tar);
    return NULL;
  }
  *ret_fd = ends[0];
  return tar;
}

gboolean
banger_folder_tar_finish (BangerFolderTar *tar, GError **error)
{
  g_thread_join (tar->thread);
  gboolean good = !tar->problem || banger_set_error (error, BANGER_ERROR_INVALID_PATH, "%s", tar->problem);
  folder_tar_free (tar);
  return good;
}
