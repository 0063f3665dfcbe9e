/* Files of root's with what VMs wrote: made, opened, counted, deleted, and whose are swept. Needs root. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/safe-path.h"
#include "privileged/cow.h"
#include "privileged/disk-use.h"

#define VM "0123456789ab"
#define OTHER "ba9876543210"
#define OWNER 65534
#define MIB (1 << 20)

typedef struct {
  char *path;
  int top;
  BangerInstall install;
  BangerRoot root;
} Fixture;

static int
folder (int at, const char *name)
{
  g_assert_cmpint (mkdirat (at, name, 0700), ==, 0);
  return openat (at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
setup (Fixture *f, gconstpointer data)
{
  f->path = g_dir_make_tmp ("cow-XXXXXX", NULL);
  f->top = open (f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  f->install = (BangerInstall){ .owner_uid = OWNER, .state_dir = f->path, .max_snapshot_memory_mib = 1024 };
  f->root = (BangerRoot){ .install = &f->install };
  f->root.cow_fd = folder (f->top, "cow");
  f->root.leases_fd = folder (f->top, "leases");
  f->root.owner_fd = folder (f->top, "owner");
  close (folder (f->root.owner_fd, "vms"));
}

static void
teardown (Fixture *f, gconstpointer data)
{
  g_autofree char *parent = g_path_get_dirname (f->path), *name = g_path_get_basename (f->path);
  banger_autofd int dir = open (parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_true (banger_safe_remove_tree (dir, name, NULL));
  int fds[] = { f->top, f->root.cow_fd, f->root.leases_fd, f->root.owner_fd };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
  g_free (f->path);
}

static gboolean
there (Fixture *f, const char *vm)
{
  struct stat st;
  return fstatat (f->root.cow_fd, vm, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
make (Fixture *f, const char *vm, guint64 bytes)
{
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = banger_cow_make (&f->root, vm, bytes, &error);
  g_assert_no_error (error);
}

static void
test_make (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL, gone = NULL;
  char head[16] = "SnAp";
  struct stat st;
  make (f, VM, 16 * MIB);
  banger_autofd int fd = banger_cow_open (&f->root, VM, &error);
  g_assert_no_error (error);
  g_assert_cmpint (fstat (fd, &st), ==, 0);
  g_assert_cmpuint (st.st_mode, ==, S_IFREG | 0600);
  g_assert_cmpuint (st.st_uid, ==, 0);
  g_assert_cmpint (st.st_size, ==, 16 * MIB);
  g_assert_cmpint (st.st_blocks, ==, 0);
  g_assert_cmpint (pwrite (fd, head, sizeof head, 0), ==, sizeof head);
  g_assert_true (banger_cow_sync (&f->root, VM, &error));
  make (f, VM, 16 * MIB); /* of a VM that never ran: nothing of before is in it */
  banger_autofd int anew = banger_cow_open (&f->root, VM, &error);
  g_assert_cmpint (pread (anew, head, sizeof head, 0), ==, sizeof head);
  g_assert_cmpint (head[0], ==, 0);
  g_assert_true (banger_cow_delete (&f->root, VM, &error));
  g_assert_true (banger_cow_delete (&f->root, VM, &error));
  g_assert_cmpint (banger_cow_open (&f->root, VM, &gone), <, 0);
  g_assert_error (gone, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  g_assert_nonnull (strstr (gone->message, "is gone"));
  g_assert_false (there (f, VM)); /* no empty one in its place */
}

/* What anybody else could have written is not believed. */
static void
test_foreign (Fixture *f, gconstpointer data)
{
  const char *const ways[] = { "owner", "link", "second name" };
  for (guint i = 0; i < G_N_ELEMENTS (ways); i++) {
    g_autoptr (GError) error = NULL;
    make (f, VM, 16 * MIB);
    if (i == 0)
      g_assert_cmpint (fchownat (f->root.cow_fd, VM, OWNER, OWNER, 0), ==, 0);
    else if (i == 1)
      g_assert_true (renameat (f->root.cow_fd, VM, f->root.cow_fd, OTHER) == 0
                     && symlinkat (OTHER, f->root.cow_fd, VM) == 0);
    else
      g_assert_cmpint (linkat (f->root.cow_fd, VM, f->root.owner_fd, "mine", 0), ==, 0);
    g_assert_cmpint (banger_cow_open (&f->root, VM, &error), <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
    g_assert_true (banger_cow_delete (&f->root, VM, NULL));
  }
}

/* With a new disk of @bytes; 0: with the one that is there. */
static gboolean
fits (Fixture *f, guint64 bytes, const char *key)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_cow_check_room (&f->root, VM, bytes, &error);
  if (!ok) {
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
    g_assert_nonnull (strstr (error->message, key));
  }
  return ok;
}

static void
hold (Fixture *f, const char *vm)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *dm = g_strconcat ("fc-rootfs-", vm, NULL);
  BangerLease lease = { .vm = (char *)vm, .uid = OWNER, .dm = dm, .image = (char *)OTHER };
  g_assert_true (banger_lease_save (&f->root, &lease, &error));
}

/* The last that fits, and one byte more. */
static void
test_memory (Fixture *f, gconstpointer data)
{
  const char *const key = "limits.snapshot-memory-mib";
  const guint64 per_mib = 128;
  g_autoptr (GError) error = NULL;
  f->install.max_snapshot_memory_mib = 20;
  g_assert_cmpuint (banger_cow_kernel_bytes (0), ==, 3 * MIB);
  g_assert_true (fits (f, 17 * MIB * per_mib, key));
  g_assert_false (fits (f, 17 * MIB * per_mib + per_mib, key));
  make (f, OTHER, 7 * MIB * per_mib); /* needs ten of the twenty, when it is mapped */
  g_assert_true (fits (f, 17 * MIB * per_mib, key));
  hold (f, OTHER);
  g_assert_true (fits (f, 7 * MIB * per_mib, key));
  g_assert_false (fits (f, 7 * MIB * per_mib + per_mib, key));
  make (f, VM, 8 * MIB * per_mib); /* counts as what it is, whatever a new one would be */
  g_assert_false (fits (f, 0, key));
  g_assert_true (fits (f, 16 * MIB, key)); /* in its place */
  g_assert_true (banger_cow_delete (&f->root, OTHER, &error));
  g_assert_true (fits (f, 0, key));
}

static void
fill (Fixture *f, const char *vm, int mib)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *piece = g_strnfill (MIB, 'x');
  banger_autofd int fd = banger_cow_open (&f->root, vm, &error);
  for (int i = 0; i < mib; i++)
    g_assert_cmpint (pwrite (fd, piece, MIB, i * MIB), ==, MIB);
  g_assert_cmpint (fsync (fd), ==, 0);
}

/* What is held may be written all over while it runs, what is not takes what it takes. */
static void
test_disk (Fixture *f, gconstpointer data)
{
  const char *const key = "limits.disk-mib";
  g_autofree char *lost = g_strconcat (f->path, "/leases/" OTHER ".json", NULL);
  f->install.max_disk_mib = 100;
  g_assert_true (fits (f, 100 * MIB, key));
  g_assert_false (fits (f, 100 * MIB + 512, key));
  make (f, OTHER, 64 * MIB);
  g_assert_true (fits (f, 100 * MIB, key)); /* sparse */
  fill (f, OTHER, 10);
  g_assert_false (fits (f, 95 * MIB, key));
  g_assert_true (fits (f, 80 * MIB, key));
  hold (f, OTHER);
  g_assert_true (fits (f, 36 * MIB, key));
  g_assert_false (fits (f, 36 * MIB + 512, key));
  g_assert_true (g_file_set_contents (lost, "{", -1, NULL)); /* it may hold a snapshot */
  g_assert_true (fits (f, 36 * MIB, key));
  g_assert_false (fits (f, 36 * MIB + 512, key));
  make (f, VM, 40 * MIB);
  g_assert_false (fits (f, 0, key)); /* again, on the disk that it has */
  g_assert_cmpint (unlinkat (f->root.leases_fd, OTHER ".json", 0), ==, 0);
  g_assert_true (fits (f, 0, key));
  f->install.max_disk_mib = 55;
  g_assert_true (fits (f, 0, key));
  const char *const own = "owner/vms/" VM, *const others = "owner/vms/" OTHER;
  g_assert_cmpint (mkdirat (f->top, own, 0700) | mkdirat (f->top, others, 0700), ==, 0);
  g_autofree char *guest = g_strnfill (10 * MIB, 'g'), *memory = g_strconcat (f->path, "/saved", NULL);
  g_assert_true (g_file_set_contents (memory, guest, 10 * MIB, NULL));
  g_assert_cmpint (renameat (f->top, "saved", f->top, "owner/vms/" VM "/suspended.memory"), ==, 0);
  g_assert_true (fits (f, 0, key)); /* it is to go on, and that goes */
  g_assert_cmpint (symlinkat ("../" VM "/suspended.memory", f->top, "owner/vms/" OTHER "/suspended.memory"), ==, 0);
  g_assert_true (fits (f, 0, key));
  g_assert_cmpint (
      renameat (f->top, "owner/vms/" VM "/suspended.memory", f->top, "owner/vms/" OTHER "/suspended.memory"), ==, 0);
  g_assert_false (fits (f, 0, key));
  f->install.max_disk_mib = 1000;
  for (guint i = 2; i < 16384; i++) {
    g_autofree char *more = g_strdup_printf ("owner/vms/%u", i);
    g_assert_cmpint (mkdirat (f->top, more, 0700), ==, 0);
  }
  g_assert_true (fits (f, 0, key));
  g_assert_cmpint (mkdirat (f->top, "owner/vms/more", 0700), ==, 0);
  g_assert_false (fits (f, 0, "cannot list"));
  g_assert_cmpint (unlinkat (f->top, "owner/vms/more", AT_REMOVEDIR), ==, 0);
  f->install.max_disk_mib = 0;
  g_assert_true (fits (f, G_GUINT64_CONSTANT (1) << 36, key)); /* as sparse as root lets them be */
}

static gboolean
guest_fits (Fixture *f, guint64 bytes)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_cow_check_guest (&f->root, VM, bytes, &error);
  if (!ok) {
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
    g_assert_nonnull (strstr (error->message, "limits.disk-mib"));
  }
  return ok;
}

/* A guest is suspended beside all that disks can come to, and all that others were suspended into. */
static void
test_guest (Fixture *f, gconstpointer data)
{
  g_autofree char *guest = g_strnfill (10 * MIB, 'g'), *memory = g_strconcat (f->path, "/saved", NULL);
  g_assert_true (guest_fits (f, G_GUINT64_CONSTANT (1) << 40)); /* there is no quota */
  f->install.max_disk_mib = 100;
  g_assert_true (guest_fits (f, 100 * MIB));
  g_assert_false (guest_fits (f, 100 * MIB + 1));
  make (f, VM, 40 * MIB); /* its own disk, as its lease holds it */
  hold (f, VM);
  g_assert_true (guest_fits (f, 60 * MIB));
  g_assert_false (guest_fits (f, 60 * MIB + 1));
  g_assert_cmpint (mkdirat (f->top, "owner/vms/" OTHER, 0700), ==, 0);
  g_assert_true (g_file_set_contents (memory, guest, 10 * MIB, NULL));
  g_assert_cmpint (renameat (f->top, "saved", f->top, "owner/vms/" OTHER "/suspended.memory"), ==, 0);
  g_assert_true (guest_fits (f, 49 * MIB)); /* a file system has blocks of its own beside the bytes */
  g_assert_false (guest_fits (f, 50 * MIB + 1));
  g_assert_cmpint (mkdirat (f->top, "owner/snapshots", 0700) | mkdirat (f->top, "owner/snapshots/" OTHER, 0700), ==, 0);
  g_assert_true (g_file_set_contents (memory, guest, 10 * MIB, NULL));
  g_assert_cmpint (renameat (f->top, "saved", f->top, "owner/snapshots/" OTHER "/memory"), ==, 0);
  g_assert_true (guest_fits (f, 39 * MIB));
  g_assert_false (guest_fits (f, 40 * MIB + 1));
}

/* A file system of which exactly so much is left: 16 MiB are enough, one block less is not. */
static void
test_space (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL, full = NULL;
  g_autofree char *cow = g_strconcat (f->path, "/cow", NULL), *ballast = g_strconcat (cow, "/.ballast", NULL);
  struct statvfs fs;
  if (unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
      || mount ("none", cow, "tmpfs", 0, "size=24m,mode=700") < 0)
  {
    g_test_skip ("needs a mount namespace");
    return;
  }
  banger_clear_fd (&f->root.cow_fd);
  f->root.cow_fd = open (cow, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  banger_autofd int fd = open (ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  g_assert_cmpint (fstatvfs (fd, &fs), ==, 0);
  off_t room = (off_t)(fs.f_bavail * fs.f_frsize) - 16 * MIB, block = (off_t)fs.f_frsize;
  g_assert_cmpint (posix_fallocate (fd, 0, room), ==, 0);
  g_assert_true (banger_cow_check_room (&f->root, VM, 16 * MIB, &error));
  g_assert_cmpint (posix_fallocate (fd, room, block), ==, 0);
  g_assert_false (banger_cow_check_room (&f->root, VM, 16 * MIB, &full));
  g_assert_error (full, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  g_assert_cmpint (ftruncate (fd, room), ==, 0);
  g_assert_true (banger_cow_check_room (&f->root, VM, 16 * MIB, &error));
  g_assert_cmpint (umount2 (cow, MNT_DETACH), ==, 0);
}

static void
test_sweep (Fixture *f, gconstpointer data)
{
  static const char *const kept[] = { "00000000aaaa", "00000000bbbb", "00000000cccc" };
  g_autoptr (GError) error = NULL;
  make (f, VM, 16 * MIB);
  for (guint i = 0; i < G_N_ELEMENTS (kept); i++)
    make (f, kept[i], 16 * MIB);
  BangerLease lease = { .vm = (char *)kept[0], .uid = OWNER };
  g_assert_true (banger_lease_save (&f->root, &lease, &error));
  banger_cow_sweep (&f->root);
  g_assert_true (there (f, VM)); /* no VM at all: that may be a disk that is not mounted */
  banger_autofd int vms = openat (f->root.owner_fd, "vms", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  close (folder (vms, kept[1]));
  close (folder (vms, "00000000cccc.unreadable"));
  banger_cow_sweep (&f->root);
  g_assert_false (there (f, VM));
  for (guint i = 0; i < G_N_ELEMENTS (kept); i++)
    g_assert_true (there (f, kept[i]));
}

static void
write_word (Fixture *f, const char *vm, const char *word, off_t at)
{
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = banger_cow_open (&f->root, vm, &error);
  g_assert_no_error (error);
  gssize length = (gssize)strlen (word) + 1;
  g_assert_cmpint (pwrite (fd, word, (gsize)length, at), ==, length);
}

static void
assert_word (Fixture *f, const char *vm, const char *word, off_t at)
{
  char found[16] = "";
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = banger_cow_open (&f->root, vm, &error);
  g_assert_no_error (error);
  g_assert_cmpint (pread (fd, found, strlen (word) + 1, at), ==, strlen (word) + 1);
  g_assert_cmpstr (found, ==, word);
}

/* Root's, sparse, of the same size; and neither knows the other afterwards. */
static void
test_copy (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL, none = NULL, nobody = NULL;
  struct stat st;
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, FALSE, NULL, &none));
  g_assert_error (none, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  g_assert_false (there (f, OTHER));
  make (f, VM, 64 * MIB);
  write_word (f, VM, "first", 40 * MIB);
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, FALSE, NULL, &nobody)); /* nobody would ever delete it */
  g_assert_error (nobody, BANGER_ERROR, BANGER_ERROR_NO_SUCH_VM);
  g_assert_false (there (f, OTHER) || there (f, OTHER ".part"));
  g_assert_cmpint (mkdirat (f->top, "owner/vms/" OTHER, 0700), ==, 0);
  g_assert_true (banger_cow_copy (&f->root, VM, OTHER, FALSE, NULL, &error));
  write_word (f, VM, "later", 40 * MIB);
  assert_word (f, OTHER, "first", 40 * MIB);
  g_assert_cmpint (fstatat (f->root.cow_fd, OTHER, &st, 0), ==, 0);
  g_assert_cmpuint (st.st_mode, ==, S_IFREG | 0600);
  g_assert_cmpuint (st.st_uid, ==, 0);
  g_assert_cmpint (st.st_size, ==, 64 * MIB);
  g_assert_cmpint (st.st_blocks, <, MIB / 512);
  guint64 bytes = 0, taken = 0;
  g_assert_true (banger_cow_size (&f->root, OTHER, &bytes, &taken, &error));
  g_assert_cmpuint (bytes, ==, 64 * MIB);
  g_assert_cmpuint (taken, ==, (guint64)st.st_blocks * 512);
}

static void
assert_takes_nothing (int fd)
{
  struct stat st;
  g_assert_cmpint (fd, >=, 0);
  g_assert_cmpint (fstat (fd, &st), ==, 0);
  g_assert_cmpint (st.st_nlink, ==, 0);
  g_assert_cmpint (st.st_blocks, ==, 0);
}

/* Who keeps what OpenDisk gave keeps no room on the disk that is counted nowhere. */
static void
test_kept_open (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  make (f, VM, 16 * MIB);
  fill (f, VM, 2);
  banger_autofd int reader = banger_cow_open_to_read (&f->root, VM, &error);
  g_assert_true (banger_cow_delete (&f->root, VM, &error));
  assert_takes_nothing (reader);
}

/* What is there goes only where that is asked for, and stays where the copy fails. */
static void
test_copy_over (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL, taken = NULL, foreign = NULL;
  make (f, VM, 16 * MIB);
  make (f, OTHER, 16 * MIB);
  write_word (f, VM, "new", 0);
  write_word (f, OTHER, "old", 0);
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, FALSE, NULL, &taken));
  g_assert_error (taken, BANGER_ERROR, BANGER_ERROR_IN_USE);
  assert_word (f, OTHER, "old", 0);
  banger_autofd int reader = banger_cow_open_to_read (&f->root, OTHER, &error);
  g_assert_true (banger_cow_copy (&f->root, VM, OTHER, TRUE, NULL, &error));
  assert_word (f, OTHER, "new", 0);
  assert_takes_nothing (reader);
  g_assert_cmpint (fchownat (f->root.cow_fd, VM, OWNER, OWNER, 0), ==, 0);
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, TRUE, NULL, &foreign)); /* the kernel would believe it */
  g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  assert_word (f, OTHER, "new", 0);
}

/* A copy that is full before its end, or not wanted, has no name; nor has one that a loss of power has left. */
static void
test_copy_half (Fixture *f, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *cow = g_strconcat (f->path, "/cow", NULL);
  if (unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
      || mount ("none", cow, "tmpfs", 0, "size=40m,mode=700") < 0)
  {
    g_test_skip ("needs a mount namespace");
    return;
  }
  banger_clear_fd (&f->root.cow_fd);
  f->root.cow_fd = open (cow, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  make (f, VM, 16 * MIB);
  fill (f, VM, 15);
  guint64 bytes = 0, taken = 0;
  g_autoptr (GCancellable) unwanted = g_cancellable_new ();
  g_autoptr (GError) no_room = NULL, cancelled = NULL;
  g_assert_false (banger_cow_check_copy (&f->root, VM, OTHER, &taken, &bytes, &no_room));
  g_assert_error (no_room, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  make (f, "ballast", 16 * MIB);
  fill (f, "ballast", 15);
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, TRUE, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  g_assert_false (there (f, OTHER) || there (f, OTHER ".part"));
  g_assert_cmpint (unlinkat (f->root.cow_fd, "ballast", 0), ==, 0);
  g_cancellable_cancel (unwanted);
  g_assert_false (banger_cow_copy (&f->root, VM, OTHER, TRUE, unwanted, &cancelled));
  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (there (f, OTHER) || there (f, OTHER ".part"));
  make (f, OTHER ".part", 16 * MIB);
  banger_cow_sweep (&f->root);
  g_assert_false (there (f, OTHER ".part"));
  g_assert_true (there (f, VM));
  g_assert_cmpint (umount2 (cow, MNT_DETACH), ==, 0);
}

static gboolean
copy_fits (Fixture *f, guint64 *ret_taken, guint64 *ret_bytes)
{
  g_autoptr (GError) error = NULL;
  gboolean ok = banger_cow_check_copy (&f->root, VM, OTHER, ret_taken, ret_bytes, &error);
  if (!ok) {
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_LIMITS_EXCEEDED);
    g_assert_nonnull (strstr (error->message, "limits.disk-mib"));
  }
  return ok;
}

/* What is being copied counts as what it will be: of two for which there is room alone not both are made. */
static void
test_expected (Fixture *f, gconstpointer data)
{
  const char *const key = "limits.disk-mib";
  guint64 taken = 0, bytes = 0;
  f->install.max_disk_mib = 50;
  make (f, VM, 30 * MIB);
  fill (f, VM, 20);
  g_assert_true (copy_fits (f, &taken, &bytes));
  g_assert_cmpuint (bytes, ==, 30 * MIB);
  BangerDiskUse use = { .id = OTHER, .other = VM };
  banger_disk_use_begin (&use);
  banger_disk_use_expect (&use, taken, bytes);
  g_assert_false (copy_fits (f, &taken, &bytes));
  make (f, OTHER ".part", 30 * MIB);
  fill (f, OTHER ".part", 5); /* is of it */
  g_assert_true (fits (f, 30 * MIB, key));
  g_assert_false (fits (f, 31 * MIB, key));
  make (f, OTHER, 30 * MIB);
  fill (f, OTHER, 20); /* is it */
  g_assert_true (fits (f, 30 * MIB, key));
  use.replaces = TRUE; /* is beside it */
  g_assert_false (fits (f, 30 * MIB, key));
  use.replaces = FALSE;
  use.held = TRUE; /* may become as large as it is */
  g_assert_true (fits (f, 20 * MIB, key));
  g_assert_false (fits (f, 21 * MIB, key));
  f->install.max_snapshot_memory_mib = 6;
  f->install.max_disk_mib = 0;
  g_assert_false (fits (f, 1 * MIB, "limits.snapshot-memory-mib"));
  banger_disk_use_end (&use);
  g_assert_true (fits (f, 1 * MIB, key));
}

typedef struct {
  BangerDiskUse use;
  gint begun; /* atomic */
} Waiter;

static gpointer
wait_in_thread (gpointer data)
{
  Waiter *waiter = data;
  banger_disk_use_begin (&waiter->use);
  g_atomic_int_set (&waiter->begun, TRUE);
  banger_disk_use_end (&waiter->use);
  return NULL;
}

/* Two are at one disk one after the other, whichever of the two it is of each; others do not wait; one that is not wanted is told. */
static void
test_use (Fixture *f, gconstpointer data)
{
  g_autoptr (GCancellable) stop = g_cancellable_new ();
  BangerDiskUse copy = { .id = OTHER, .other = VM, .stop = stop }, third = { .id = "00000000aaaa" };
  Waiter waiters[] = { { .use = { .id = VM } },
                       { .use = { .id = OTHER } },
                       { .use = { .id = "00000000bbbb", .other = VM } },
                       { .use = { .id = VM, .other = "00000000cccc" } } };
  GThread *threads[G_N_ELEMENTS (waiters)];
  banger_disk_use_begin (&copy);
  for (guint i = 0; i < G_N_ELEMENTS (waiters); i++)
    threads[i] = g_thread_new ("waiter", wait_in_thread, &waiters[i]);
  banger_disk_use_begin (&third);
  banger_disk_use_end (&third);
  banger_disk_use_stop (VM); /* it is only read */
  g_assert_false (g_cancellable_is_cancelled (stop));
  banger_disk_use_stop (OTHER);
  g_assert_true (g_cancellable_is_cancelled (stop));
  for (guint i = 0; i < G_N_ELEMENTS (waiters); i++)
    g_assert_false (g_atomic_int_get (&waiters[i].begun));
  banger_disk_use_end (&copy);
  for (guint i = 0; i < G_N_ELEMENTS (waiters); i++) {
    g_thread_join (threads[i]);
    g_assert_true (g_atomic_int_get (&waiters[i].begun));
  }
}

/* Whose disk it may be: a folder, by no link, of the three. */
static void
test_owner (Fixture *f, gconstpointer data)
{
  static const char *const places[] = { "vms", "templates", "snapshots" };
  g_assert_false (banger_cow_check_owner (&f->root, VM, NULL));
  for (guint i = 0; i < G_N_ELEMENTS (places); i++) {
    (void)mkdirat (f->root.owner_fd, places[i], 0700);
    banger_autofd int place = openat (f->root.owner_fd, places[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint (symlinkat ("/", place, VM), ==, 0);
    g_assert_false (banger_cow_check_owner (&f->root, VM, NULL));
    g_assert_cmpint (unlinkat (place, VM, 0), ==, 0);
    close (folder (place, VM));
    g_assert_true (banger_cow_check_owner (&f->root, VM, NULL));
    make (f, VM, 16 * MIB);
    make (f, OTHER, 16 * MIB);
    banger_cow_sweep (&f->root);
    g_assert_true (there (f, VM));
    g_assert_false (there (f, OTHER));
    g_assert_cmpint (unlinkat (place, VM, AT_REMOVEDIR), ==, 0);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (geteuid () != 0)
    return 77; /* meson's for skipped */
  g_test_add ("/cow/make", Fixture, NULL, setup, test_make, teardown);
  g_test_add ("/cow/foreign", Fixture, NULL, setup, test_foreign, teardown);
  g_test_add ("/cow/memory", Fixture, NULL, setup, test_memory, teardown);
  g_test_add ("/cow/disk", Fixture, NULL, setup, test_disk, teardown);
  g_test_add ("/cow/guest", Fixture, NULL, setup, test_guest, teardown);
  g_test_add ("/cow/space", Fixture, NULL, setup, test_space, teardown);
  g_test_add ("/cow/sweep", Fixture, NULL, setup, test_sweep, teardown);
  g_test_add ("/cow/copy", Fixture, NULL, setup, test_copy, teardown);
  g_test_add ("/cow/copy-over", Fixture, NULL, setup, test_copy_over, teardown);
  g_test_add ("/cow/kept-open", Fixture, NULL, setup, test_kept_open, teardown);
  g_test_add ("/cow/copy-half", Fixture, NULL, setup, test_copy_half, teardown);
  g_test_add ("/cow/owner", Fixture, NULL, setup, test_owner, teardown);
  g_test_add ("/cow/expected", Fixture, NULL, setup, test_expected, teardown);
  g_test_add ("/cow/use", Fixture, NULL, setup, test_use, teardown);
  return g_test_run ();
}
