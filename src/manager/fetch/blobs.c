/* A folder of blobs, its lock and its sweeping.
 * Runs in worker threads.
 * Never removes anything while somebody pulls, but what a pull that ended left behind. */
#include "manager/fetch/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/folder.h"
#include "common/ids.h"
#include "common/safe-path.h"

#define STORE "blobs"
#define PULL "pull-"
#define READ_BYTES (256u << 10)

static int
make_folder (int at_fd, const char *name, GError **error)
{
  if (mkdirat (at_fd, name, 0700) < 0 && errno != EEXIST) {
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make the folder %s", name);
    return -1;
  }
  int fd = openat (at_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the folder %s", name);
  return fd;
}

/* Each name below @dir_fd that does not begin with a dot. */
typedef void (*Look) (int dir_fd, const char *name, const struct stat *st, gpointer data);

static gboolean
each (int dir_fd, Look look, gpointer user_data, GError **error)
{
  banger_autofolder DIR *dir = banger_folder_open (dir_fd, ".");
  for (const struct dirent *entry; (entry = banger_folder_next (dir));) {
    struct stat st;
    if (entry->d_name[0] != '.' && fstatat (dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      look (dir_fd, entry->d_name, &st, user_data);
  }
  return errno == 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot list the cache of images");
}

/* A pull that is under way holds the lock of its folder. */
static void
sweep (int dir_fd, const char *name, const struct stat *st, gpointer data)
{
  if (!g_str_has_prefix (name, PULL) || !S_ISDIR (st->st_mode))
    return;
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) == 0)
    (void)banger_safe_remove_tree (dir_fd, name, NULL);
}

static gboolean
lock (int fd, int how, GError **error)
{
  if (flock (fd, how | LOCK_NB) == 0)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_IN_USE,
                           how == LOCK_EX ? "an image is being pulled: wait for it, or cancel it"
                                          : "the cache of images is being pruned: try again");
}

gboolean
banger_blob_store_open (BangerBlobStore *store, int image_dir_fd, GError **error)
{
  g_autofree char *id = banger_id_new ();
  store->dir_fd = make_folder (image_dir_fd, "../../" STORE, error);
  if (store->dir_fd < 0 || !lock (store->dir_fd, LOCK_SH, error))
    return FALSE;
  g_autofree char *link = g_strdup_printf ("/proc/self/fd/%d", store->dir_fd);
  store->path = g_file_read_link (link, error);
  store->sha256_fd = store->path ? make_folder (store->dir_fd, BANGER_BLOBS_SHA256, error) : -1;
  if (store->sha256_fd < 0)
    return FALSE;
  /* One begins at a time: a folder that is made and not locked yet looks like a left-over. */
  if (flock (store->sha256_fd, LOCK_EX) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot lock the cache of images");
  (void)each (store->dir_fd, sweep, NULL, NULL); /* what is left of them goes at the next */
  store->pull = g_strconcat (PULL, id, NULL);
  store->pull_fd = make_folder (store->dir_fd, store->pull, error);
  gboolean ok = store->pull_fd >= 0 && lock (store->pull_fd, LOCK_EX, error);
  (void)flock (store->sha256_fd, LOCK_UN);
  return ok;
}

void
banger_blob_store_clear (BangerBlobStore *store)
{
  if (store->pull)
    (void)banger_safe_remove_tree (store->dir_fd, store->pull, NULL);
  banger_clear_fd (&store->pull_fd);
  banger_clear_fd (&store->sha256_fd);
  banger_clear_fd (&store->dir_fd);
  g_clear_pointer (&store->pull, g_free);
  g_clear_pointer (&store->path, g_free);
}

typedef struct {
  gint64 since;
  guint64 bytes, blobs;
  gboolean keep;
  GCancellable *cancellable;
} Count;

static void
count (int dir_fd, const char *name, const struct stat *st, gpointer data)
{
  Count *sum = data;
  if (!S_ISREG (st->st_mode) || st->st_mtim.tv_sec < sum->since)
    return;
  sum->bytes += (guint64)st->st_size;
  sum->blobs++;
}

int
banger_blob_store_own (const BangerBlobStore *store)
{
  return banger_safe_openat (store->pull_fd, "blobs/" BANGER_BLOBS_SHA256, O_RDONLY | O_DIRECTORY, 0, BANGER_SAFE_NONE,
                             NULL);
}

guint64
banger_blob_store_pulled (const BangerBlobStore *store, gint64 since)
{
  Count sum = { .since = since };
  (void)each (store->pull_fd, count, &sum, NULL); /* for a progress */
  (void)each (store->sha256_fd, count, &sum, NULL);
  banger_autofd int own = banger_blob_store_own (store);
  if (own >= 0)
    (void)each (own, count, &sum, NULL);
  return sum.bytes;
}

static gboolean
has_its_digest (int fd, const char *name, GCancellable *cancellable)
{
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  g_autofree guint8 *buffer = g_malloc (READ_BYTES);
  ssize_t n;
  while ((n = read (fd, buffer, READ_BYTES)) > 0 && !g_cancellable_is_cancelled (cancellable))
    banger_digest_update (digest, buffer, (gsize)n);
  g_autofree char *found = banger_digest_finish (digest);
  return n != 0 || g_str_equal (strchr (found, ':') + 1, name); /* what cannot be read is not judged */
}

static void
drop_damaged (int dir_fd, const char *name, const struct stat *st, gpointer cancellable)
{
  banger_autofd int fd = openat (dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0 && S_ISREG (st->st_mode) && !has_its_digest (fd, name, cancellable))
    (void)unlinkat (dir_fd, name, 0);
}

void
banger_blob_store_drop_damaged (const BangerBlobStore *store, GCancellable *cancellable)
{
  (void)each (store->sha256_fd, drop_damaged, cancellable, NULL); /* what cannot be read is not judged */
}

static void
remove_counted (int dir_fd, const char *name, const struct stat *st, gpointer data)
{
  Count *sum = data;
  if (sum->keep || unlinkat (dir_fd, name, 0) == 0)
    count (dir_fd, name, st, sum);
}

gboolean
banger_blobs_prune (int images_fd, gboolean dry_run, guint64 *ret_bytes, guint64 *ret_blobs, GError **error)
{
  Count sum = { .since = G_MININT64, .keep = dry_run };
  banger_autofd int store = openat (images_fd, "../" STORE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  banger_autofd int sha256 = store >= 0
                                 ? openat (store, BANGER_BLOBS_SHA256, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                                 : -1;
  if (store < 0 && errno != ENOENT)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot open the cache of images");
  if (store >= 0 && !dry_run && !lock (store, LOCK_EX, error))
    return FALSE;
  if (store >= 0 && !dry_run && !each (store, sweep, NULL, error))
    return FALSE;
  if (sha256 >= 0 && !each (sha256, remove_counted, &sum, error))
    return FALSE;
  *ret_bytes = sum.bytes;
  *ret_blobs = sum.blobs;
  return TRUE;
}
