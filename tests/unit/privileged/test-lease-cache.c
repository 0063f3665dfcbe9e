/* The list of leases is what is on the disk, whoever wrote it, and costs the reading of what has changed.
 * Never touches a folder outside its own temporary one. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "common/safe-path.h"
#include "privileged/lease-cache.h"
#include "privileged/lease.h"

#define OTHERS 200
#define BARE "{\"version\":1,\"uid\":1000}"
#define WITH_JAIL "{\"version\":1,\"uid\":1000,\"jail\":1}"

static int reads; /* of leases, by this process */
static gboolean no_watch;

/* In place of libc's. */
int
openat (int dir_fd, const char *name, int flags, ...)
{
  int (*real) (int, const char *, int, ...) = (int (*) (int, const char *, int, ...))dlsym (RTLD_NEXT, "openat64");
  va_list args;
  va_start (args, flags);
  mode_t mode = flags & O_CREAT ? va_arg (args, mode_t) : 0;
  va_end (args);
  if (g_str_has_suffix (name, BANGER_LEASE_SUFFIX))
    g_atomic_int_inc (&reads);
  return real (dir_fd, name, flags, mode);
}

int
inotify_init1 (int flags)
{
  int (*real) (int) = (int (*) (int))dlsym (RTLD_NEXT, "inotify_init1");
  errno = EMFILE;
  return no_watch ? -1 : real (flags);
}

typedef struct {
  char *dir;
  BangerInstall install;
  BangerRoot root;
} Fixture;

static void
setup (Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp ("banger-leases-XXXXXX", NULL);
  f->install.max_vms = 240;
  f->root.install = &f->install;
  f->root.leases_fd = open (f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  no_watch = data != NULL;
  f->root.leases = banger_lease_cache_new (f->root.leases_fd, TRUE);
}

static void
teardown (Fixture *f, gconstpointer data)
{
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (f->dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  banger_lease_cache_free (f->root.leases);
  close (f->root.leases_fd);
  g_free (f->dir);
}

static char *
path_of (const Fixture *f, const char *name)
{
  return g_build_filename (f->dir, name, NULL);
}

/* As an editor that keeps the file: no name changes. */
static void
put (const Fixture *f, const char *name, const char *text)
{
  g_autofree char *path = path_of (f, name);
  banger_autofd int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  g_assert_cmpint (write (fd, text, strlen (text)), ==, (ssize_t)strlen (text));
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *)a, *(char *const *)b);
}

/* "id+" with a jail, "id" without, "id!" unreadable. */
static void
assert_list (const Fixture *f, const char *expected)
{
  g_autoptr (GPtrArray) broken = NULL, words = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GPtrArray) leases = banger_lease_list (&f->root, &broken, NULL);
  for (guint i = 0; i < leases->len; i++) {
    const BangerLease *lease = leases->pdata[i];
    g_ptr_array_add (words, g_strconcat (lease->vm, lease->jail ? "+" : "", NULL));
  }
  for (guint i = 0; i < broken->len; i++)
    g_ptr_array_add (words, g_strconcat (broken->pdata[i], "!", NULL));
  g_ptr_array_sort (words, by_name);
  g_ptr_array_add (words, NULL);
  g_autofree char *text = g_strjoinv (" ", (char **)words->pdata);
  g_assert_cmpstr (text, ==, expected);
}

/* What is listed is what is there, by whatever way it came, at once. */
static void
test_by_hand (Fixture *f, gconstpointer data)
{
  g_autofree char *a = path_of (f, "aaaaaaaa.json"), *b = path_of (f, "bbbbbbbb.json"), *away = path_of (f, "away");
  assert_list (f, "");
  put (f, "aaaaaaaa.json", BARE);
  assert_list (f, "aaaaaaaa");
  put (f, "aaaaaaaa.json", WITH_JAIL);
  assert_list (f, "aaaaaaaa+");
  g_assert_cmpint (truncate (a, 10), ==, 0);
  assert_list (f, "aaaaaaaa!");
  g_assert_cmpint (truncate (a, 0), ==, 0);
  put (f, "aaaaaaaa.json", BARE);
  assert_list (f, "aaaaaaaa");
  g_assert_cmpint (g_rename (a, b), ==, 0);
  assert_list (f, "bbbbbbbb");
  g_assert_cmpint (link (b, a), ==, 0);
  assert_list (f, "aaaaaaaa bbbbbbbb");
  g_assert_cmpint (g_rename (b, away), ==, 0);
  assert_list (f, "aaaaaaaa");
  put (f, "stranger.json", BARE);
  put (f, ".aaaaaaaa.json.tmp", WITH_JAIL);
  assert_list (f, "aaaaaaaa");
  g_assert_cmpint (g_unlink (a), ==, 0);
  assert_list (f, "");
  g_assert_cmpint (g_mkdir (b, 0700), ==, 0);
  assert_list (f, "bbbbbbbb!");
  g_assert_cmpint (g_rmdir (b), ==, 0);
  assert_list (f, "");
}

/* Beside 200 others a list costs the reading of the one that has changed. */
static void
test_cost (Fixture *f, gconstpointer data)
{
  g_autofree char *last = NULL;
  for (guint i = 0; i < OTHERS; i++) {
    g_autofree char *name = g_strdup_printf ("%08x" BANGER_LEASE_SUFFIX, i);
    put (f, name, BARE);
  }
  g_autoptr (GPtrArray) first = banger_lease_list (&f->root, NULL, NULL);
  g_assert_cmpuint (first->len, ==, OTHERS);
  reads = 0;
  for (int i = 0; i < 3; i++) {
    g_autoptr (GPtrArray) again = banger_lease_list (&f->root, NULL, NULL);
    g_assert_cmpuint (again->len, ==, OTHERS);
  }
  g_assert_cmpint (reads, ==, data ? 3 * OTHERS : 0);
  g_autoptr (BangerLease) own = banger_lease_load (&f->root, "00000007", NULL, NULL);
  own->jail = TRUE;
  g_assert_true (banger_lease_save (&f->root, own, NULL));
  reads = 0;
  g_autoptr (GPtrArray) changed = banger_lease_list (&f->root, NULL, NULL);
  g_assert_cmpuint (changed->len, ==, OTHERS);
  g_assert_cmpint (reads, ==, data ? OTHERS : 1);
  guint jails = 0;
  for (guint i = 0; i < changed->len; i++)
    jails += ((BangerLease *)changed->pdata[i])->jail;
  g_assert_cmpuint (jails, ==, 1);
}

/* The kernel's queue is bounded: what it lost is looked up. */
static void
test_overflow (Fixture *f, gconstpointer data)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents ("/proc/sys/fs/inotify/max_queued_events", &text, NULL, NULL) || atoi (text) > 100000) {
    g_test_skip ("the queue is too long to be filled");
    return;
  }
  put (f, "aaaaaaaa.json", BARE);
  assert_list (f, "aaaaaaaa");
  for (int i = atoi (text) / 2 + 10; i > 0; i--)
    for (int which = 0; which < 2; which++)
      put (f, which ? "one" : "other", "x"); /* the same event twice is one */
  put (f, "aaaaaaaa.json", WITH_JAIL);
  put (f, "bbbbbbbb.json", BARE);
  assert_list (f, "aaaaaaaa+ bbbbbbbb");
  put (f, "aaaaaaaa.json", BARE);
  assert_list (f, "aaaaaaaa bbbbbbbb");
}

/* A list is never older than what was saved before it was asked for. */
static gpointer
save_and_list (gpointer data)
{
  const Fixture *f = data;
  static int next;
  g_autofree char *vm = g_strdup_printf ("%08x", (guint)g_atomic_int_add (&next, 1));
  g_autoptr (BangerLease) lease = banger_lease_new (vm, 1000);
  for (guint i = 1; i <= 12; i++) {
    lease->memory_mib = i;
    g_assert_true (banger_lease_save (&f->root, lease, NULL));
    g_autoptr (GPtrArray) leases = banger_lease_list (&f->root, NULL, NULL);
    guint seen = 0;
    for (guint j = 0; j < leases->len; j++) {
      const BangerLease *other = leases->pdata[j];
      if (g_str_equal (other->vm, vm))
        seen = other->memory_mib;
    }
    g_assert_cmpuint (seen, ==, i);
  }
  g_assert_true (banger_lease_remove (&f->root, vm, NULL));
  return NULL;
}

static void
test_threads (Fixture *f, gconstpointer data)
{
  GThread *threads[4];
  for (size_t i = 0; i < G_N_ELEMENTS (threads); i++)
    threads[i] = g_thread_new ("lease", save_and_list, f);
  for (size_t i = 0; i < G_N_ELEMENTS (threads); i++)
    g_thread_join (threads[i]);
  assert_list (f, "");
}

int
main (int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*test) (Fixture *f, gconstpointer data);
  } tests[] = {
    { "by-hand", test_by_hand }, { "cost", test_cost }, { "overflow", test_overflow }, { "threads", test_threads }
  };
  g_test_init (&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS (tests); i++) {
    g_autofree char *watched = g_strconcat ("/lease-cache/", tests[i].name, NULL);
    g_autofree char *plain = g_strconcat ("/lease-cache/without-inotify/", tests[i].name, NULL);
    g_test_add (watched, Fixture, NULL, setup, tests[i].test, teardown);
    g_test_add (plain, Fixture, "", setup, tests[i].test, teardown);
  }
  return g_test_run ();
}
