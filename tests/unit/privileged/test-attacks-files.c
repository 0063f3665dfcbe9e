/* Attacks on files that an id names, on programs that root executes, and on what root makes and removes for an owner.
 * Run by meson test as root, in a mount namespace of its own.
 * Never leaves its temporary folder. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/safe-path.h"
#include "privileged/gate.h"

#define ID "0123456789ab"
#define OWNER 54321
#define TRIES 10000
#define EXCHANGE 2 /* RENAME_EXCHANGE */

typedef struct {
  char *dir;
  int top;    /* the temporary folder */
  int owner;  /* <top>/owner, what the helper holds */
  ino_t good; /* kernels/<ID>/vmlinux */
} Fixture;

static void
put (int dir, const char *path, uid_t uid)
{
  int fd = openat (dir, path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (write (fd, path, strlen (path)), >, 0);
  g_assert_cmpint (fchown (fd, uid, uid), ==, 0);
  close (fd);
}

static void
folder (int dir, const char *path, uid_t uid)
{
  g_assert_cmpint (mkdirat (dir, path, 0755), ==, 0);
  g_assert_cmpint (fchownat (dir, path, uid, uid, 0), ==, 0);
}

static ino_t
inode (int dir, const char *path)
{
  struct stat st;
  g_assert_cmpint (fstatat (dir, path, &st, AT_SYMLINK_NOFOLLOW), ==, 0);
  return st.st_ino;
}

/* Below /root: /tmp is writable by others, which the gate on programs refuses. "elsewhere" is the owner's as well, so
 * that nothing but the way there tells it from what is inside. */
static void
set_up (Fixture *f, gconstpointer data)
{
  f->dir = g_strdup ("/root/banger-attack-XXXXXX");
  g_assert_nonnull (g_mkdtemp_full (f->dir, 0755));
  f->top = open (f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const char *folders[] = { "owner",         "owner/kernels", "owner/vms",    "owner/kernels/" ID,
                            "owner/vms/" ID, "elsewhere",     "elsewhere/" ID };
  for (size_t i = 0; i < G_N_ELEMENTS (folders); i++)
    folder (f->top, folders[i], OWNER);
  put (f->top, "owner/kernels/" ID "/vmlinux", OWNER);
  put (f->top, "elsewhere/vmlinux", OWNER);
  put (f->top, "elsewhere/" ID "/vmlinux", OWNER);
  f->owner = openat (f->top, "owner", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  f->good = inode (f->owner, "kernels/" ID "/vmlinux");
}

static void
tear_down (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *name = g_path_get_basename (f->dir), *parent = g_path_get_dirname (f->dir);
  banger_autofd int dir = open (parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  close (f->owner);
  g_assert_true (banger_safe_remove_tree (dir, name, &error));
  g_assert_no_error (error);
  close (f->top);
  g_free (f->dir);
}

static int
open_kernel (Fixture *f, GError **error)
{
  return banger_gate_file (f->owner, OWNER, BANGER_MANAGED_KERNEL, ID, NULL, error);
}

/* What can be put under an id. Each leaves kernels/<ID>/vmlinux or a folder on the way to it as something else. */

static int
leaf_folder (Fixture *f)
{
  return openat (f->owner, "kernels/" ID, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
make_link (Fixture *f, int leaf)
{
  g_assert_cmpint (symlinkat ("../../../elsewhere/vmlinux", leaf, "vmlinux"), ==, 0);
}

static void
make_dangling_link (Fixture *f, int leaf)
{
  g_assert_cmpint (symlinkat ("nothing", leaf, "vmlinux"), ==, 0);
}

static void
make_magic_link (Fixture *f, int leaf)
{
  g_autofree char *target = g_strdup_printf ("/proc/self/fd/%d", f->top);
  g_assert_cmpint (symlinkat (target, leaf, "vmlinux"), ==, 0);
}

static void
make_hard_link (Fixture *f, int leaf)
{
  g_assert_cmpint (linkat (f->top, "elsewhere/vmlinux", leaf, "vmlinux", 0), ==, 0);
}

static void
make_block_device (Fixture *f, int leaf)
{
  g_assert_cmpint (mknodat (leaf, "vmlinux", S_IFBLK | 0600, makedev (7, 0)), ==, 0);
  g_assert_cmpint (fchownat (leaf, "vmlinux", OWNER, OWNER, 0), ==, 0);
}

static void
make_character_device (Fixture *f, int leaf)
{
  g_assert_cmpint (mknodat (leaf, "vmlinux", S_IFCHR | 0666, makedev (1, 5)), ==, 0);
  g_assert_cmpint (fchownat (leaf, "vmlinux", OWNER, OWNER, 0), ==, 0);
}

static void
make_fifo (Fixture *f, int leaf)
{
  g_assert_cmpint (mkfifoat (leaf, "vmlinux", 0600), ==, 0);
  g_assert_cmpint (fchownat (leaf, "vmlinux", OWNER, OWNER, 0), ==, 0);
}

static void
make_folder (Fixture *f, int leaf)
{
  folder (leaf, "vmlinux", OWNER);
}

static void
make_socket (Fixture *f, int leaf)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  banger_autofd int s = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_snprintf (address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/vmlinux", leaf);
  g_assert_cmpint (bind (s, (const struct sockaddr *)(const void *)&address, sizeof address), ==, 0);
  g_assert_cmpint (fchownat (leaf, "vmlinux", OWNER, OWNER, 0), ==, 0);
}

static void
make_foreign (Fixture *f, int leaf)
{
  put (leaf, "vmlinux", OWNER + 1);
}

static void
make_roots (Fixture *f, int leaf)
{
  put (leaf, "vmlinux", 0);
}

static void
make_huge (Fixture *f, int leaf)
{
  put (leaf, "vmlinux", OWNER);
  banger_autofd int fd = openat (leaf, "vmlinux", O_WRONLY | O_CLOEXEC);
  g_assert_cmpint (ftruncate (fd, (512 << 20) + 1), ==, 0);
}

static const struct {
  const char *what;
  void (*make) (Fixture *f, int leaf);
} leaves[] = {
  { "link", make_link },
  { "dangling link", make_dangling_link },
  { "magic link", make_magic_link },
  { "hard link", make_hard_link },
  { "block device", make_block_device },
  { "character device", make_character_device },
  { "FIFO", make_fifo },
  { "folder", make_folder },
  { "socket", make_socket },
  { "foreign file", make_foreign },
  { "root's file", make_roots },
  { "huge sparse file", make_huge },
};

static void
expect_refused (Fixture *f, const char *what)
{
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = open_kernel (f, &error);
  if (fd >= 0)
    g_error ("%s was opened", what);
  if (!g_error_matches (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE))
    g_error ("%s: %s", what, error->message);
}

static void
test_leaves (Fixture *f, gconstpointer data)
{
  banger_autofd int leaf = leaf_folder (f);
  for (size_t i = 0; i < G_N_ELEMENTS (leaves); i++) {
    (void)unlinkat (leaf, "vmlinux", 0);
    (void)unlinkat (leaf, "vmlinux", AT_REMOVEDIR);
    leaves[i].make (f, leaf);
    expect_refused (f, leaves[i].what);
  }
}

/* Each kind of file at its limit, and one byte beyond. */
static void
test_sizes (Fixture *f, gconstpointer data)
{
  const guint64 mib = 1 << 20, tib = mib << 20;
  const struct {
    BangerManagedFile kind;
    const char *path;
    guint64 max;
  } rows[] = {
    { BANGER_MANAGED_KERNEL, "kernels/" ID "/vmlinux", 512 * mib },
    { BANGER_MANAGED_INITRD, "vms/" ID "/initrd", 2048 * mib },
    { BANGER_MANAGED_ROOTFS, "vms/" ID "/rootfs.ext4", 4 * tib },
    { BANGER_MANAGED_WORK, "vms/" ID "/work.ext4", 4 * tib },
    { BANGER_MANAGED_IMAGE, "images/" ID "/rootfs.ext4", 4 * tib },
    { BANGER_MANAGED_SAVE_STATE, "vms/" ID "/suspending.state", 256 * mib },
    { BANGER_MANAGED_SAVE_MEMORY, "vms/" ID "/suspending.memory", 2 * tib },
    { BANGER_MANAGED_SAVED_STATE, "vms/" ID "/suspended.state", 256 * mib },
    { BANGER_MANAGED_SAVED_MEMORY, "vms/" ID "/suspended.memory", 2 * tib },
  };
  folder (f->owner, "images", OWNER);
  folder (f->owner, "images/" ID, OWNER);
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) fits = NULL, beyond = NULL;
    put (f->owner, rows[i].path, OWNER);
    banger_autofd int file = openat (f->owner, rows[i].path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint (ftruncate (file, (off_t)rows[i].max), ==, 0);
    banger_autofd int fd = banger_gate_file (f->owner, OWNER, rows[i].kind, ID, NULL, &fits);
    g_assert_no_error (fits);
    g_assert_cmpint (ftruncate (file, (off_t)rows[i].max + 1), ==, 0);
    g_assert_cmpint (banger_gate_file (f->owner, OWNER, rows[i].kind, ID, NULL, &beyond), <, 0);
    g_assert_error (beyond, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
    g_assert_cmpint (ftruncate (file, 0), ==, 0);
  }
}

static void
test_middle_links (Fixture *f, gconstpointer data)
{
  g_assert_cmpint (renameat (f->owner, "kernels/" ID, f->owner, "kernels/aside"), ==, 0);
  g_assert_cmpint (symlinkat ("../../elsewhere", f->owner, "kernels/" ID), ==, 0);
  expect_refused (f, "a link in place of the id's folder");
  g_assert_cmpint (unlinkat (f->owner, "kernels/" ID, 0), ==, 0);
  g_assert_cmpint (symlinkat ("aside", f->owner, "kernels/" ID), ==, 0);
  expect_refused (f, "a link that stays inside");
  g_assert_cmpint (renameat (f->owner, "kernels", f->owner, "away"), ==, 0);
  g_assert_cmpint (symlinkat ("../elsewhere", f->owner, "kernels"), ==, 0);
  expect_refused (f, "a link in place of the kernels' folder");
}

/* mount(2): only root could make one, so one that is there is not what the owner was given. */
static void
test_mounts (Fixture *f, gconstpointer data)
{
  g_autofree char *file = g_build_filename (f->dir, "owner/kernels/" ID "/vmlinux", NULL);
  g_autofree char *id = g_path_get_dirname (file), *kernels = g_path_get_dirname (id);
  g_autofree char *elsewhere = g_build_filename (f->dir, "elsewhere", NULL);
  g_autofree char *other = g_build_filename (elsewhere, "vmlinux", NULL);
  const struct {
    const char *what, *source, *target;
  } rows[] = {
    { "a file mounted over the file", other, file },
    { "a folder mounted over the id's", elsewhere, id },
    { "a folder mounted over the kernels'", elsewhere, kernels },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_assert_cmpint (mount (rows[i].source, rows[i].target, NULL, MS_BIND, NULL), ==, 0);
    expect_refused (f, rows[i].what);
    g_assert_cmpint (umount2 (rows[i].target, MNT_DETACH), ==, 0);
  }
  g_assert_cmpint (mount ("banger", id, "tmpfs", 0, NULL), ==, 0);
  put (f->owner, "kernels/" ID "/vmlinux", OWNER);
  expect_refused (f, "another file system");
  g_assert_cmpint (umount2 (id, MNT_DETACH), ==, 0);
  banger_autofd int fd = open_kernel (f, NULL);
  g_assert_cmpint (fd, >=, 0);
}

static void
test_ids (Fixture *f, gconstpointer data)
{
  g_autofree char *longer = g_strnfill (33, 'a'), *endless = g_strnfill (1 << 20, 'a');
  const char *bad[] = { "",
                        ".",
                        "..",
                        "../" ID,
                        ID "/",
                        "/" ID,
                        "aside",
                        longer,
                        endless,
                        "%s%s%s%n%n",
                        "0123456\n",
                        "0123456\xff",
                        "\xe2\x80\xae" ID,
                        "0123456A",
                        "01234567 ",
                        "0123456",
                        "0x1234567" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    gboolean missing = TRUE;
    g_assert_cmpint (banger_gate_file (f->owner, OWNER, BANGER_MANAGED_KERNEL, bad[i], &missing, &error), <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_ID);
    g_assert_false (missing);
    g_assert_cmpuint (strlen (error->message), <, 400);
    g_assert_true (g_utf8_validate (error->message, -1, NULL));
    for (const char *c = error->message; *c; c++)
      g_assert_false (g_ascii_iscntrl (*c));
  }
}

/* Two names change places in a loop, until told to stop. */
static pid_t
swap (int dir, const char *a, const char *b)
{
  pid_t child = fork ();
  if (child == 0)
    prctl (PR_SET_PDEATHSIG, SIGKILL); /* also where the test fails */
  if (child == 0)
    for (;;)
      if (syscall (SYS_renameat2, dir, a, dir, b, EXCHANGE) < 0)
        _exit (1);
  return child;
}

static void
stop (pid_t child)
{
  int status;
  kill (child, SIGKILL);
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  g_assert_true (WIFSIGNALED (status)); /* it swapped to the end */
}

static void
race_open (Fixture *f, int dir, const char *a, const char *b)
{
  unsigned opened = 0;
  pid_t child = swap (dir, a, b);
  for (int i = 0; i < TRIES; i++) {
    struct stat st;
    banger_autofd int fd = open_kernel (f, NULL);
    if (fd < 0)
      continue;
    opened++;
    g_assert_cmpint (fstat (fd, &st), ==, 0);
    g_assert_cmpuint (st.st_ino, ==, f->good);
  }
  stop (child);
  g_test_message ("%u of %d tries opened the right file, none another", opened, TRIES);
}

static void
test_swap_leaf (Fixture *f, gconstpointer data)
{
  banger_autofd int leaf = leaf_folder (f);
  g_assert_cmpint (symlinkat ("../../../elsewhere/vmlinux", leaf, "evil"), ==, 0);
  race_open (f, leaf, "vmlinux", "evil");
}

static void
test_swap_middle (Fixture *f, gconstpointer data)
{
  g_assert_cmpint (symlinkat ("../../elsewhere", f->owner, "kernels/evil"), ==, 0);
  race_open (f, f->owner, "kernels/" ID, "kernels/evil");
}

static void
test_swap_top (Fixture *f, gconstpointer data)
{
  g_assert_cmpint (symlinkat ("../elsewhere", f->owner, "evil"), ==, 0);
  race_open (f, f->owner, "kernels", "evil");
}

/* What root makes for the owner, while the owner's folder and a link out of it change places. */
static void
test_swap_create (Fixture *f, gconstpointer data)
{
  BangerInstall install = { .owner_uid = OWNER, .owner_gid = OWNER };
  BangerRoot root = { .install = &install, .owner_fd = f->owner };
  unsigned made = 0;
  g_assert_cmpint (symlinkat ("../../elsewhere", f->owner, "vms/evil"), ==, 0);
  pid_t child = swap (f->owner, "vms/" ID, "vms/evil");
  for (int i = 0; i < TRIES; i++) {
    banger_autofd int fd = banger_root_create_file (&root, "vms/" ID "/console.log", O_RDWR, 4096, NULL);
    made += fd >= 0;
    g_assert_cmpint (faccessat (f->top, "elsewhere/console.log", F_OK, 0), <, 0);
    (void)unlinkat (f->owner, "vms/" ID "/console.log", 0);
    (void)unlinkat (f->owner, "vms/evil/console.log", 0);
  }
  stop (child);
  g_assert_cmpuint (made, >, 0);
}

/* Removal, while a folder in the tree and a link out of it change places. */
static void
test_swap_remove (Fixture *f, gconstpointer data)
{
  ino_t kept = inode (f->top, "elsewhere/vmlinux");
  for (int i = 0; i < TRIES / 10; i++) {
    folder (f->top, "tree", 0);
    folder (f->top, "tree/a", 0);
    put (f->top, "tree/a/vmlinux", 0);
    g_assert_cmpint (symlinkat ("../elsewhere", f->top, "tree/b"), ==, 0);
    banger_autofd int tree = openat (f->top, "tree", O_PATH | O_DIRECTORY | O_CLOEXEC);
    pid_t child = swap (tree, "a", "b");
    for (int k = 0; k < 10; k++)
      (void)banger_safe_remove_tree (f->top, "tree", NULL);
    kill (child, SIGKILL);
    g_assert_cmpint (waitpid (child, NULL, 0), ==, child);
    g_assert_true (banger_safe_remove_tree (f->top, "tree", NULL));
    g_assert_cmpuint (inode (f->top, "elsewhere/vmlinux"), ==, kept);
    g_assert_cmpuint (inode (f->top, "elsewhere/" ID "/vmlinux"), >, 0);
  }
}

/* What is mounted in a tree is not emptied with it, and stays. */
static void
test_remove_mount (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *source = g_build_filename (f->dir, "elsewhere", NULL);
  g_autofree char *target = g_build_filename (f->dir, "tree", "a", NULL);
  folder (f->top, "tree", 0);
  folder (f->top, "tree/a", 0);
  g_assert_cmpint (mount (source, target, NULL, MS_BIND, NULL), ==, 0);
  g_assert_false (banger_safe_remove_tree (f->top, "tree", &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpuint (inode (f->top, "elsewhere/" ID "/vmlinux"), >, 0);
  g_assert_cmpint (umount2 (target, MNT_DETACH), ==, 0);
  g_assert_true (banger_safe_remove_tree (f->top, "tree", NULL));
}

/* @depth folders, each in the one before. Returns: the last one. */
static int
nest (int dir, guint depth, uid_t uid)
{
  folder (dir, "tree", uid);
  int last = openat (dir, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (guint i = 0; i < depth; i++) {
    folder (last, "x", uid);
    put (last, "file", uid);
    int next = openat (last, "x", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close (last);
    last = next;
  }
  return last;
}

/* 140 folders in one another were once the owner's veto: depth costs no descriptor, and no stack. */
static void
test_remove_deep (Fixture *f, gconstpointer data)
{
  static const guint depths[] = { 0, 1, 140, 5000 };
  struct rlimit old, few = { 32, 32 };
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &old), ==, 0);
  few.rlim_max = old.rlim_max;
  for (size_t i = 0; i < G_N_ELEMENTS (depths); i++) {
    g_autoptr (GError) error = NULL;
    banger_autofd int last = nest (f->top, depths[i], 0);
    put (last, ".removed-1", 0); /* a name that is used while it goes */
    g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &few), ==, 0);
    gboolean ok = banger_safe_remove_tree (f->top, "tree", &error);
    g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &old), ==, 0);
    g_assert_no_error (error);
    g_assert_true (ok);
    g_assert_cmpint (faccessat (f->top, "tree", F_OK, 0), <, 0);
  }
}

/* Fills both folders and moves what it made from one to the other, for as long as it may. */
static void
fill (int top, int last)
{
  for (guint i = 0;; i++) {
    char name[24];
    g_snprintf (name, sizeof name, "made-%u", i);
    close (openat (top, name, O_CREAT | O_CLOEXEC, 0600));
    (void)mkdirat (last, name, 0700);
    (void)renameat (last, name, top, "moved");
    (void)renameat (top, "x", last, "y");
    (void)renameat (top, "moved", last, name);
  }
}

/* The owner fills the tree, through descriptors that the owner has of it, while root takes it away. */
static void
test_remove_filled (Fixture *f, gconstpointer data)
{
  for (guint i = 0; i < 8; i++) {
    g_autoptr (GError) error = NULL;
    banger_autofd int last = nest (f->top, 3, 65534);
    banger_autofd int top = openat (f->top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pid_t child = fork ();
    if (child == 0) {
      prctl (PR_SET_PDEATHSIG, SIGKILL);
      if (setgroups (0, NULL) == 0 && setresgid (65534, 65534, 65534) == 0 && setresuid (65534, 65534, 65534) == 0)
        fill (top, last);
      _exit (1);
    }
    while (faccessat (top, "made-9", F_OK, 0) < 0)
      g_usleep (1000);
    gboolean ok = banger_safe_remove_tree (f->top, "tree", &error);
    g_assert_cmpint (waitpid (child, NULL, WNOHANG), ==, 0); /* it is still at it */
    kill (child, SIGKILL);
    g_assert_cmpint (waitpid (child, NULL, 0), ==, child);
    g_assert_no_error (error);
    g_assert_true (ok);
    g_assert_cmpint (faccessat (f->top, "tree", F_OK, 0), <, 0);
  }
}

/* Programs */

static void
program (int dir, const char *path, const char *word, uid_t uid)
{
  g_autofree char *text = g_strdup_printf ("#!/bin/sh\necho %s\n", word);
  int fd = openat (dir, path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0755);
  g_assert_cmpint (write (fd, text, strlen (text)), ==, (ssize_t)strlen (text));
  g_assert_cmpint (fchown (fd, uid, uid), ==, 0);
  g_assert_cmpint (fchmod (fd, 0755), ==, 0);
  close (fd);
}

static char *
run (int fd)
{
  int out[2];
  char text[64] = "";
  g_assert_cmpint (pipe (out), ==, 0);
  pid_t child = fork ();
  if (child == 0) {
    dup2 (out[1], 1);
    syscall (SYS_execveat, fcntl (fd, F_DUPFD, 100), "", (char *[]){ (char *)"x", NULL }, (char *[]){ NULL },
             AT_EMPTY_PATH);
    _exit (127);
  }
  close (out[1]);
  ssize_t n = read (out[0], text, sizeof text - 1);
  close (out[0]);
  g_assert_cmpint (waitpid (child, NULL, 0), ==, child);
  return g_strndup (text, (gsize)MAX (n, 0));
}

static void
test_program_swapped (Fixture *f, gconstpointer data)
{
  g_autofree char *path = g_build_filename (f->dir, "program", NULL);
  program (f->top, "program", "good", 0);
  program (f->top, "evil", "evil", 0);
  banger_autofd int fd = banger_gate_exec (path, NULL);
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (renameat (f->top, "evil", f->top, "program"), ==, 0);
  g_autofree char *said = run (fd);
  g_assert_cmpstr (said, ==, "good\n");
}

static void
race_exec (const char *path, ino_t good)
{
  unsigned passed = 0;
  for (int i = 0; i < TRIES; i++) {
    struct stat st;
    banger_autofd int fd = banger_gate_exec (path, NULL);
    if (fd < 0)
      continue;
    passed++;
    g_assert_cmpint (fstat (fd, &st), ==, 0);
    g_assert_cmpuint (st.st_ino, ==, good);
  }
  g_test_message ("%u of %d tries passed, none with the other file", passed, TRIES);
}

static void
test_program_race (Fixture *f, gconstpointer data)
{
  g_autofree char *path = g_build_filename (f->dir, "bin", "program", NULL);
  folder (f->top, "bin", 0);
  folder (f->top, "users", OWNER);
  program (f->top, "bin/program", "good", 0);
  program (f->top, "bin/evil", "evil", OWNER);
  program (f->top, "users/program", "evil", 0);
  ino_t good = inode (f->top, "bin/program");
  g_assert_cmpint (symlinkat ("../users/program", f->top, "bin/link"), ==, 0);
  const char *pairs[][2] = { { "bin/program", "bin/evil" }, { "bin/program", "bin/link" }, { "bin", "users" } };
  for (size_t i = 0; i < G_N_ELEMENTS (pairs); i++) {
    pid_t child = swap (f->top, pairs[i][0], pairs[i][1]);
    race_exec (path, good);
    stop (child);
    if (inode (f->top, i == 2 ? "bin/program" : pairs[i][0]) != good)
      g_assert_cmpint ((int)syscall (SYS_renameat2, f->top, pairs[i][0], f->top, pairs[i][1], EXCHANGE), ==, 0);
  }
}

/* Whoever can write the root folder can put another "usr" there. */
static void
test_program_root (Fixture *f, gconstpointer data)
{
  int status;
  program (f->top, "program", "good", 0);
  for (int loose = 0; loose < 2; loose++) {
    g_assert_cmpint (fchmodat (f->top, ".", loose ? 0777 : 0755, 0), ==, 0);
    pid_t child = fork ();
    if (child == 0)
      _exit (chroot (f->dir) == 0 ? banger_gate_exec ("/program", NULL) >= 0 : 77);
    g_assert_cmpint (waitpid (child, &status, 0), ==, child);
    g_assert_true (WIFEXITED (status));
    g_assert_cmpint (WEXITSTATUS (status), ==, !loose);
  }
}

/* acl(5): an entry for a user shows in the group's bits. The value is the one of linux/posix_acl_xattr.h. */
static void
test_program_acl (Fixture *f, gconstpointer data)
{
  static const struct {
    guint32 version;
    struct {
      guint16 tag, perm;
      guint32 id;
    } entries[5];
  } acl = { 2, { { 0x01, 7, ~0u }, { 0x02, 7, OWNER }, { 0x04, 5, ~0u }, { 0x10, 7, ~0u }, { 0x20, 5, ~0u } } };
  g_autofree char *path = g_build_filename (f->dir, "program", NULL);
  program (f->top, "program", "good", 0);
  if (setxattr (path, "system.posix_acl_access", &acl, sizeof acl, 0) < 0) {
    g_test_skip ("needs a file system with access control lists");
    return;
  }
  g_assert_cmpint (banger_gate_exec (path, NULL), <, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (geteuid () != 0 || unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
    printf ("1..0 # SKIP needs root for files of other users and for mounts\n");
    return 0;
  }
  const struct {
    const char *name;
    void (*test) (Fixture *f, gconstpointer data);
  } tests[] = {
    { "/attacks/files/leaves", test_leaves },
    { "/attacks/files/sizes", test_sizes },
    { "/attacks/files/middle-links", test_middle_links },
    { "/attacks/files/mounts", test_mounts },
    { "/attacks/files/ids", test_ids },
    { "/attacks/files/swap-leaf", test_swap_leaf },
    { "/attacks/files/swap-middle", test_swap_middle },
    { "/attacks/files/swap-top", test_swap_top },
    { "/attacks/files/swap-create", test_swap_create },
    { "/attacks/files/swap-remove", test_swap_remove },
    { "/attacks/files/remove-mount", test_remove_mount },
    { "/attacks/files/remove-deep", test_remove_deep },
    { "/attacks/files/remove-filled", test_remove_filled },
    { "/attacks/programs/swapped", test_program_swapped },
    { "/attacks/programs/race", test_program_race },
    { "/attacks/programs/root", test_program_root },
    { "/attacks/programs/acl", test_program_acl },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (tests); i++)
    g_test_add (tests[i].name, Fixture, NULL, set_up, tests[i].test, tear_down);
  return g_test_run ();
}
