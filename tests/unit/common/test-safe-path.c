/* Safe opening and removal, with openat2 and again with openat2 answering ENOSYS.
 * Run by meson test.
 * Never leaves its temporary folder. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/error.h"
#include "common/safe-path.h"

#define SWAPS 10000

typedef struct {
  char *path;
  int fd;
} Tree;

static void
tree_set_up (Tree *tree, gconstpointer data)
{
  tree->path = g_dir_make_tmp ("banger-safe-XXXXXX", NULL);
  tree->fd = open (tree->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (mkdirat (tree->fd, "root", 0700), ==, 0);
  g_assert_cmpint (mkdirat (tree->fd, "root/d", 0700), ==, 0);
  g_assert_cmpint (mkdirat (tree->fd, "outside", 0700), ==, 0);
  const char *files[] = { "root/d/f", "outside/f" };
  for (size_t i = 0; i < G_N_ELEMENTS (files); i++)
    close (openat (tree->fd, files[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  g_assert_cmpint (symlinkat ("f", tree->fd, "root/d/leaf"), ==, 0);
  g_assert_cmpint (symlinkat ("../outside", tree->fd, "root/middle"), ==, 0);
  g_assert_cmpint (symlinkat ("d", tree->fd, "root/inside"), ==, 0);
  g_assert_cmpint (linkat (tree->fd, "outside/f", tree->fd, "root/d/hard", 0), ==, 0);
  g_assert_cmpint (mkfifoat (tree->fd, "root/d/fifo", 0600), ==, 0);
}

static void
tree_tear_down (Tree *tree, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *name = g_path_get_basename (tree->path), *parent = g_path_get_dirname (tree->path);
  int dir = open (parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  g_assert_true (banger_safe_remove_tree (dir, name, &error));
  g_assert_no_error (error);
  close (dir);
  close (tree->fd);
  g_free (tree->path);
}

static int
open_root (Tree *tree)
{
  return openat (tree->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void
test_open (Tree *tree, gconstpointer data)
{
  int root = open_root (tree);
  g_autoptr (GError) error = NULL;
  int fd = banger_safe_openat (root, "d/f", O_RDONLY, 0, 0, &error);
  g_assert_no_error (error);
  g_assert_true (banger_safe_check_regular (fd, geteuid (), 0, "f", NULL, &error));
  close (fd);
  fd = banger_safe_openat (root, "d/new", O_WRONLY | O_CREAT | O_EXCL, 0600, 0, &error);
  g_assert_no_error (error);
  close (fd);
  const char *bad[] = { "",        "/",        "/etc/passwd", "..",       "../outside/f", "d/../d/f", "d//f",
                        "./d/f",   "d/.",      "d/leaf",      "middle/f", "middle",       "d/f/x",    "nothing/here",
                        "nothing", "inside/f", "inside" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++)
    for (int path_only = 0; path_only < 2; path_only++) {
      g_autoptr (GError) refused = NULL;
      fd = banger_safe_openat (root, bad[i], path_only ? O_PATH : O_RDONLY, 0, 0, &refused);
      if (fd >= 0)
        g_error ("'%s' was opened", bad[i]);
      g_assert_nonnull (refused);
    }
  close (root);
}

static void
test_regular (Tree *tree, gconstpointer data)
{
  int root = open_root (tree);
  const char *bad[] = { "d/hard", "d/fifo", "d" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    int fd = banger_safe_openat (root, bad[i], O_PATH, 0, 0, &error);
    g_assert_no_error (error);
    g_assert_false (banger_safe_check_regular (fd, geteuid (), 0, bad[i], NULL, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
    close (fd);
  }
  int fd = banger_safe_openat (root, "d/f", O_RDWR, 0, 0, NULL);
  g_assert_false (banger_safe_check_regular (fd, geteuid () + 1, 0, "f", NULL, NULL));
  g_assert_cmpint (ftruncate (fd, 4097), ==, 0);
  g_assert_false (banger_safe_check_regular (fd, geteuid (), 4096, "f", NULL, NULL));
  g_assert_true (banger_safe_check_regular (fd, geteuid (), 4097, "f", NULL, NULL));
  close (fd);
  close (root);
}

/* A folder and a link to the outside change places all the time: nothing outside is ever opened. */
static void
test_swap (Tree *tree, gconstpointer data)
{
  int root = open_root (tree);
  pid_t child = fork ();
  if (child == 0) {
    for (;;)
      if (syscall (SYS_renameat2, root, "d", root, "middle", 2 /* RENAME_EXCHANGE */) < 0)
        _exit (1);
  }
  struct stat outside;
  g_assert_cmpint (fstatat (tree->fd, "outside/f", &outside, 0), ==, 0);
  unsigned opened = 0;
  for (int i = 0; i < SWAPS; i++) {
    struct stat st;
    int fd = banger_safe_openat (root, "d/f", O_RDONLY, 0, 0, NULL);
    if (fd < 0)
      continue;
    opened++;
    g_assert_cmpint (fstat (fd, &st), ==, 0);
    g_assert_true (st.st_ino != outside.st_ino);
    close (fd);
  }
  kill (child, SIGKILL);
  waitpid (child, NULL, 0);
  g_test_message ("%u of %d tries opened the right file", opened, SWAPS);
  close (root);
}

static void
test_remove (Tree *tree, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  int root = open_root (tree); /* from here, as "..", so that no more than this tree goes where the check is gone */
  g_assert_false (banger_safe_remove_tree (root, "..", NULL));
  close (root);
  g_assert_true (banger_safe_remove_tree (tree->fd, "root", &error));
  g_assert_no_error (error);
  g_assert_cmpint (faccessat (tree->fd, "root", F_OK, 0), <, 0);
  g_assert_cmpint (faccessat (tree->fd, "outside/f", F_OK, 0), ==, 0);
  g_assert_true (banger_safe_remove_tree (tree->fd, "root", &error));
  g_assert_false (banger_safe_remove_tree (tree->fd, "outside/f", NULL));
  g_assert_cmpint (faccessat (tree->fd, "outside/f", F_OK, 0), ==, 0);
}

/* seccomp(2): the same cases again on the component walk. */
static void
block_openat2 (void)
{
  struct sock_filter filter[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { G_N_ELEMENTS (filter), filter };
  g_assert_cmpint (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
  g_assert_cmpint (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), ==, 0);
}

static void
test_walk (void)
{
  block_openat2 ();
  g_assert_cmpint ((int)syscall (SYS_openat2, AT_FDCWD, "/", NULL, (size_t)0), ==, -1);
  g_assert_cmpint (errno, ==, ENOSYS);
  void (*const cases[]) (Tree *, gconstpointer) = { test_open, test_regular, test_swap, test_remove };
  for (size_t i = 0; i < G_N_ELEMENTS (cases); i++) {
    Tree tree;
    tree_set_up (&tree, NULL);
    cases[i](&tree, NULL);
    tree_tear_down (&tree, NULL);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add ("/safe-path/open", Tree, NULL, tree_set_up, test_open, tree_tear_down);
  g_test_add ("/safe-path/regular", Tree, NULL, tree_set_up, test_regular, tree_tear_down);
  g_test_add ("/safe-path/swap", Tree, NULL, tree_set_up, test_swap, tree_tear_down);
  g_test_add ("/safe-path/remove", Tree, NULL, tree_set_up, test_remove, tree_tear_down);
  g_test_add_func ("/safe-path/without-openat2", test_walk); /* last: the filter stays */
  return g_test_run ();
}
