/* The store of blobs among several that pull at once. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/fetch/blobs.h"

#define PULLS 200

/* A folder whose listing breaks off, in place of libc's. */
static gboolean listing_breaks;

struct dirent *
readdir (DIR *dir)
{
  struct dirent *(*real) (DIR *) = (struct dirent * (*)(DIR *)) dlsym (RTLD_NEXT, "readdir64");
  if (!listing_breaks)
    return real (dir);
  errno = EIO;
  return NULL;
}

/* Each has a folder of its own, that no other's look for left-overs takes away. */
static gpointer
pull (gpointer data)
{
  for (guint i = 0; i < PULLS; i++) {
    g_autoptr (GError) error = NULL;
    g_auto (BangerBlobStore) store = BANGER_BLOB_STORE_INIT;
    struct stat st;
    gboolean ok = banger_blob_store_open (&store, GPOINTER_TO_INT (data), &error);
    g_assert_no_error (error);
    g_assert_true (ok);
    g_assert_cmpint (fstatat (store.dir_fd, store.pull, &st, AT_SYMLINK_NOFOLLOW), ==, 0);
  }
  return NULL;
}

static void
test_at_once (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *top = g_dir_make_tmp ("blobs-XXXXXX", &error), *image = g_strconcat (top, "/images/one", NULL),
                  *blobs = g_strconcat (top, "/blobs", NULL);
  g_assert_cmpint (g_mkdir_with_parents (image, 0700), ==, 0);
  banger_autofd int fd = open (image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  GThread *threads[4];
  for (gsize i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("pull", pull, GINT_TO_POINTER (fd));
  for (gsize i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  g_autoptr (GDir) left = g_dir_open (blobs, 0, &error);
  g_assert_cmpstr (g_dir_read_name (left), ==, BANGER_BLOBS_SHA256);
  g_assert_null (g_dir_read_name (left));
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (top);
  g_assert_true (banger_safe_remove_tree (tmp, name, &error));
}

/* "0 blobs, 0 bytes" would be untrue. */
static void
test_prune_of_a_bad_disk (void)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *top = g_dir_make_tmp ("blobs-XXXXXX", &error), *images = g_strconcat (top, "/images", NULL),
                  *blobs = g_strconcat (top, "/blobs/" BANGER_BLOBS_SHA256, NULL),
                  *blob = g_strconcat (blobs, "/00", NULL);
  guint64 bytes = 0, n = 0;
  g_assert_cmpint (g_mkdir_with_parents (images, 0700) | g_mkdir_with_parents (blobs, 0700), ==, 0);
  g_assert_true (g_file_set_contents (blob, "blob", 4, &error));
  banger_autofd int fd = open (images, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int dry_run = 0; dry_run < 2; dry_run++) {
    listing_breaks = TRUE;
    gboolean ok = banger_blobs_prune (fd, dry_run, &bytes, &n, &error);
    listing_breaks = FALSE;
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
    g_assert_false (ok);
    g_clear_error (&error);
  }
  g_assert_true (banger_blobs_prune (fd, FALSE, &bytes, &n, &error));
  g_assert_cmpuint (bytes, ==, 4);
  g_assert_cmpuint (n, ==, 1);
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (top);
  g_assert_true (banger_safe_remove_tree (tmp, name, &error));
}

int
main (int argc, char *argv[])
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/blobs/at-once", test_at_once);
  g_test_add_func ("/blobs/prune-of-a-bad-disk", test_prune_of_a_bad_disk);
  return g_test_run ();
}
