/* Keys and known_hosts.
 * Run by meson test.
 * Never touches the caller's own keys: everything is in a temporary folder. */
#include "manager/peer/ssh-keys.h"

#include <glib/gstdio.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"

/* Stand before libc's: what was synced, by inode; and a link that takes a while. */
static GHashTable *synced;
static gboolean slow_link;

int
link (const char *from, const char *to)
{
  if (slow_link)
    g_usleep (100000);
  return linkat (AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
fsync (int fd)
{
  struct stat st;
  if (synced && fstat (fd, &st) == 0)
    g_hash_table_add (synced, GSIZE_TO_POINTER (st.st_ino));
  return 0;
}

static gboolean
was_synced (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  struct stat st;
  g_assert_cmpint (stat (path, &st), ==, 0);
  return g_hash_table_contains (synced, GSIZE_TO_POINTER (st.st_ino));
}

typedef struct {
  char *config, *vm;
  BangerSshPaths *paths;
} World;

static void
world_up (World *world, gconstpointer data)
{
  world->config = g_dir_make_tmp ("ssh 50%h-XXXXXX", NULL);
  world->vm = g_build_filename (world->config, "vm", NULL);
  g_assert_cmpint (g_mkdir (world->vm, 0700), ==, 0);
  world->paths = banger_ssh_paths_new (world->config);
}

static void
world_down (World *world, gconstpointer data)
{
  const char *argv[] = { "rm", "-r", "--", world->config, NULL };
  g_assert_true (g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
  banger_ssh_paths_free (world->paths);
  g_free (world->vm);
  g_free (world->config);
}

static gpointer
prepare_one (gpointer data)
{
  World *world = data;
  g_autoptr (GError) error = NULL;
  g_assert_true (banger_ssh_prepare (world->paths, world->vm, NULL, &error));
  g_assert_no_error (error);
  return NULL;
}

/* As workers do. */
static void
prepare (World *world, guint times)
{
  GThread *threads[4];
  for (guint i = 0; i < times; i++)
    threads[i] = g_thread_new ("worker", prepare_one, world);
  for (guint i = 0; i < times; i++)
    g_thread_join (threads[i]);
}

static char *
contents (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  char *text = NULL;
  g_file_get_contents (path, &text, NULL, NULL);
  return text;
}

static guint
count_files (const char *folder)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  guint n = 0;
  while (g_dir_read_name (dir))
    n++;
  return n;
}

static void
test_keys (World *world, gconstpointer data)
{
  prepare (world, 1);
  struct stat st;
  g_assert_cmpint (stat (world->paths->dir, &st), ==, 0);
  g_assert_cmpint (st.st_mode & 0777, ==, 0700);
  g_assert_cmpint (stat (world->paths->identity_file, &st), ==, 0);
  g_assert_cmpint (st.st_mode & 0777, ==, 0600);
  g_autofree char *client = contents (world->paths->dir, "id_ed25519");
  g_autofree char *host = contents (world->vm, BANGER_FILE_VM_HOST_KEY);
  g_assert_true (g_str_has_prefix (client, "-----BEGIN OPENSSH PRIVATE KEY-----"));
  g_assert_cmpstr (client, !=, host);
  prepare (world, 1); /* a second time changes nothing */
  g_autofree char *again = contents (world->paths->dir, "id_ed25519");
  g_assert_cmpstr (client, ==, again);
}

/* A key that a power loss emptied would stay empty: it is there. */
static void
test_durable (World *world, gconstpointer data)
{
  static const char *const names[] = { "id_ed25519", "id_ed25519.pub", "." };
  synced = g_hash_table_new (NULL, NULL);
  prepare (world, 1);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    g_assert_true (was_synced (world->paths->dir, names[i]));
  g_assert_true (was_synced (world->vm, BANGER_FILE_VM_HOST_KEY));
  g_assert_true (was_synced (world->vm, BANGER_FILE_VM_HOST_KEY ".pub"));
  g_assert_true (was_synced (world->vm, "."));
  g_clear_pointer (&synced, g_hash_table_unref);
}

static void
assert_pair (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder, name, NULL), *of_private = NULL;
  g_autofree char *public_name = g_strconcat (name, ".pub", NULL);
  g_autofree char *public = contents (folder, public_name);
  const char *argv[] = { "ssh-keygen", "-y", "-f", path, NULL };
  g_assert_true (
      g_spawn_sync (NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &of_private, NULL, NULL, NULL));
  g_assert_cmpstr (public, ==, of_private);
}

/* Several VMs at once on a fresh account: one client key, both halves of one pair, no rest of the losers. */
static void
test_race (World *world, gconstpointer data)
{
  slow_link = TRUE;
  prepare (world, 4);
  slow_link = FALSE;
  g_assert_cmpuint (count_files (world->paths->dir), ==, 2);
  g_assert_cmpuint (count_files (world->vm), ==, 2);
  assert_pair (world->paths->dir, "id_ed25519");
  assert_pair (world->vm, BANGER_FILE_VM_HOST_KEY);
}

/* One that says it went well: nothing of it is taken, nothing waited for, and a key is made once there is a good one. */
static void
test_bad_keygen (World *world, gconstpointer data)
{
  static const char *const made[] = {
    "true",
    ": > $2; : > $2.pub",
    "echo key > $2; echo ssh-rsa AAAA > $2.pub",
    "mkfifo $2 $2.pub",
    "ln -s /etc/hostname $2; echo ssh-ed25519 AAAA > $2.pub",
    "echo key > $2; head -c 100000 /dev/zero > $2.pub",
  };
  g_autofree char *path = g_strdup (g_getenv ("PATH")), *tool = g_build_filename (world->config, "ssh-keygen", NULL);
  g_autofree char *first = g_strconcat (world->config, ":", path, NULL);
  g_setenv ("PATH", first, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (made); i++) {
    g_autofree char *text = g_strdup_printf ("#!/bin/sh\nwhile [ x$1 != x-f ]; do shift; done\n%s\n", made[i]);
    g_autoptr (GError) error = NULL;
    g_assert_true (g_file_set_contents (tool, text, -1, NULL));
    g_assert_cmpint (chmod (tool, 0700), ==, 0);
    g_assert_false (banger_ssh_prepare (world->paths, world->vm, NULL, &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
    g_assert_cmpuint (count_files (world->paths->dir), ==, 0);
  }
  g_setenv ("PATH", path, TRUE);
  prepare (world, 1);
  assert_pair (world->paths->dir, "id_ed25519");
}

/* Another one would be made for each VM, and none kept. */
static void
test_link_to_nothing (World *world, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  g_assert_cmpint (g_mkdir_with_parents (world->paths->dir, 0700), ==, 0);
  g_assert_cmpint (symlink ("/nowhere/key", world->paths->identity_file), ==, 0);
  g_assert_false (banger_ssh_prepare (world->paths, world->vm, NULL, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_assert_nonnull (strstr (error->message, "a link to nothing"));
  g_assert_cmpuint (count_files (world->paths->dir), ==, 1);
}

/* @id: of a VM, whose folder may not be there. */
static gboolean
set (World *world, const char *id, const char *public_key, GError **error)
{
  g_autofree char *alias = g_strconcat ("banger-", id, NULL), *folder = g_build_filename (world->config, id, NULL);
  return banger_ssh_known_hosts_set (world->paths, alias, folder, public_key, error);
}

static void
add_folder (World *world, const char *id)
{
  g_autofree char *folder = g_build_filename (world->config, id, NULL);
  g_assert_cmpint (g_mkdir (folder, 0700), ==, 0);
}

static void
assert_known_hosts (World *world, const char *format)
{
  g_autofree char *text = contents (world->paths->dir, "known_hosts");
  g_auto (GStrv) parts = g_strsplit (format, "@", -1);
  g_autofree char *expected = g_strjoinv (world->config, parts);
  g_assert_cmpstr (text, ==, expected);
}

static void
test_known_hosts (World *world, gconstpointer data)
{
  g_autoptr (GError) error = NULL;
  add_folder (world, "aa");
  add_folder (world, "aab");
  g_assert_true (set (world, "aa", "ssh-ed25519 AAAA1 banger guest\n", &error));
  g_assert_no_error (error);
  g_assert_true (set (world, "aab", "ssh-ed25519 AAAA2\n", NULL));
  g_assert_true (set (world, "aa", "ssh-ed25519 AAAA3 x", NULL));
  assert_known_hosts (world, "banger-aab ssh-ed25519 AAAA2 @/aab\nbanger-aa ssh-ed25519 AAAA3 @/aa\n");
  g_assert_true (set (world, "aab", NULL, NULL));
  g_assert_true (set (world, "zz", NULL, NULL));
  assert_known_hosts (world, "banger-aa ssh-ed25519 AAAA3 @/aa\n");
}

/* What a bangerd left that was ended before it could write goes; what is not known to be ours stays. */
static void
test_known_hosts_left_over (World *world, gconstpointer data)
{
  add_folder (world, "aa");
  g_assert_true (set (world, "gone", "ssh-ed25519 AAAA1", NULL));
  g_autofree char *path = g_build_filename (world->paths->dir, "known_hosts", NULL);
  g_autofree char *text = contents (world->paths->dir, "known_hosts");
  g_autofree char *more = g_strconcat (
      text, "banger-old ssh-ed25519 AAAA2\nbanger-other ssh-ed25519 AAAA3 /nowhere/x\n", NULL);
  g_assert_true (g_file_set_contents (path, more, -1, NULL));
  g_assert_true (set (world, "aa", "ssh-ed25519 AAAA4", NULL));
  assert_known_hosts (world, "banger-old ssh-ed25519 AAAA2\nbanger-other ssh-ed25519 AAAA3 /nowhere/x\n"
                             "banger-aa ssh-ed25519 AAAA4 @/aa\n");
}

static void
test_known_hosts_refuses (World *world, gconstpointer data)
{
  static const char *const bad[] = { "", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 \nbanger-xx ssh-ed25519 BBBB" };
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_false (set (world, "aa", bad[i], &error));
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_STATE_CORRUPT);
  }
}

static gboolean
has (GPtrArray *argv, const char *word)
{
  return g_ptr_array_find_with_equal_func (argv, word, g_str_equal, NULL);
}

static void
test_argv (World *world, gconstpointer data)
{
  g_autoptr (GPtrArray) argv = banger_ssh_argv (world->paths, "banger-aa", "banger-exec", "10.0.0.2");
  g_assert_true (has (argv, "StrictHostKeyChecking=yes"));
  g_assert_true (has (argv, "HostKeyAlias=banger-aa"));
  g_assert_true (has (argv, "none"));
  g_assert_cmpstr (argv->pdata[argv->len - 1], ==, "banger-exec@10.0.0.2");
  g_autofree char *identity = g_strdup_printf ("IdentityFile=\"%s\"", world->paths->identity_file);
  g_autoptr (GString) doubled = g_string_new (identity);
  g_string_replace (doubled, "%", "%%", 0);
  g_assert_true (has (argv, doubled->str));

  /* What ssh makes of it: no words of its own in place of the %h. */
  g_ptr_array_insert (argv, 1, g_strdup ("-G"));
  g_ptr_array_add (argv, NULL);
  g_autofree char *out = NULL;
  g_autofree char *line = g_strdup_printf ("\nuserknownhostsfile %s\n", world->paths->known_hosts_file);
  g_assert_true (
      g_spawn_sync (NULL, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, NULL, NULL));
  g_assert_nonnull (strstr (out, line));
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(name, func) g_test_add ("/ssh-keys/" name, World, NULL, world_up, func, world_down)
  ADD ("keys", test_keys);
  ADD ("durable", test_durable);
  ADD ("race", test_race);
  ADD ("bad-keygen", test_bad_keygen);
  ADD ("link-to-nothing", test_link_to_nothing);
  ADD ("known-hosts", test_known_hosts);
  ADD ("known-hosts-left-over", test_known_hosts_left_over);
  ADD ("known-hosts-refuses", test_known_hosts_refuses);
  ADD ("argv", test_argv);
  return g_test_run ();
}
