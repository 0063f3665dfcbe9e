/* Each gate: what it lets through, what it refuses, and the values on both sides of the border.
 * Run by meson test.
 * Never needs root but for the gate on programs, which then says so. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/ids.h"
#include "common/pidfd.h"
#include "privileged/caller.h"
#include "privileged/cgroup.h"
#include "privileged/engine.h"
#include "privileged/gate.h"

#define VM "0123456789abcdef"

typedef gboolean (*Check) (const char *value, GError **error);

static void
expect (Check check, const char *const *good, const char *const *bad, BangerError code)
{
  for (; *good; good++) {
    g_autoptr (GError) error = NULL;
    g_assert_true (check (*good, &error));
    g_assert_no_error (error);
  }
  for (; *bad; bad++) {
    g_autoptr (GError) error = NULL;
    if (check (*bad, &error))
      g_error ("'%s' was let through", *bad);
    g_assert_error (error, BANGER_ERROR, (int)code);
  }
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static gboolean
check_bridge_address (const char *value, GError **error)
{
  return banger_gate_bridge_address (value, NULL, NULL, error);
}

static void
test_bridge_address (void)
{
  expect (check_bridge_address,
          WORDS ("10.0.0.1/8", "10.213.0.1/24", "172.16.0.1/12", "172.31.255.254/12", "192.168.0.1/16",
                 "192.168.1.1/30", "10.0.0.0/31", "10.0.0.1/32"),
          WORDS ("10.0.0.1/7", "10.0.0.1/33", "10.0.0.1/24x", "10.0.0.1/", "10.0.0.1", "", "9.255.255.255/8",
                 "11.0.0.1/8", "172.15.0.1/16", "172.32.0.1/16", "172.16.0.1/11", "192.168.0.1/15", "192.169.0.1/16",
                 "127.0.0.1/8", "169.254.1.1/16", "10.213.0.0/24", "10.213.0.255/24", "::1/64", "10.0.0.1/+8"),
          BANGER_ERROR_INVALID_NETWORK);
}

static gboolean
check_default_net (const char *value, GError **error)
{
  static const BangerInstall install = { .bridge_address = (char *)"10.213.0.1/24" };
  return banger_gate_bridge_net (&install, value, error);
}

static gboolean
check_pool_net (const char *value, GError **error)
{
  static const BangerInstall install = { .bridge_address = (char *)"10.213.0.1/24",
                                         .network_pool = (char *)"172.20.0.0/16" };
  return banger_gate_bridge_net (&install, value, error);
}

static void
test_bridge_net (void)
{
  expect (check_default_net, WORDS ("10.213.0.1/24", "10.213.0.9/24", "10.213.0.129/25", "10.213.0.1/30"),
          WORDS ("10.213.0.1/23", "10.213.0.1/8", "10.213.1.1/24", "10.212.255.1/24", "10.0.0.1/8", "172.16.0.1/12",
                 "192.168.0.1/16", "192.168.77.1/24", "10.213.0.0/24", "8.8.8.8/24", ""),
          BANGER_ERROR_INVALID_NETWORK);
  expect (
      check_pool_net, WORDS ("10.213.0.1/24", "172.20.0.1/16", "172.20.255.1/24"),
      WORDS ("10.213.0.9/24", "10.213.0.1/25", "172.20.0.1/15", "172.21.0.1/24", "172.19.255.1/24", "172.16.0.1/12"),
      BANGER_ERROR_INVALID_NETWORK);
}

static gboolean
check_guest (const char *value, GError **error)
{
  return banger_gate_guest_address (value, "10.213.0.1/24", error);
}

static void
test_guest_address (void)
{
  expect (check_guest, WORDS ("10.213.0.2", "10.213.0.254"),
          WORDS ("10.213.0.0", "10.213.0.1", "10.213.0.255", "10.213.1.1", "10.212.255.255", "10.213.0.2/24", "", "x"),
          BANGER_ERROR_INVALID_NETWORK);
}

static void
test_overlap (void)
{
  const struct {
    const char *a;
    guint a_prefix;
    const char *b;
    guint b_prefix;
    gboolean overlap;
  } rows[] = {
    { "10.0.0.1", 24, "10.0.0.200", 24, TRUE },    { "10.0.0.1", 24, "10.0.1.1", 24, FALSE },
    { "10.0.0.1", 8, "10.200.1.1", 24, TRUE },     { "10.200.1.1", 24, "10.0.0.1", 8, TRUE },
    { "0.0.0.0", 0, "10.0.0.1", 32, TRUE },        { "10.0.0.1", 32, "10.0.0.2", 32, FALSE },
    { "10.0.0.127", 25, "10.0.0.128", 25, FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    struct in_addr a, b;
    inet_pton (AF_INET, rows[i].a, &a);
    inet_pton (AF_INET, rows[i].b, &b);
    g_assert_cmpint (banger_gate_nets_overlap (a, rows[i].a_prefix, b, rows[i].b_prefix), ==, rows[i].overlap);
  }
}

static gboolean
check_tap (const char *value, GError **error)
{
  return banger_gate_tap_name (value, VM, error);
}

static gboolean
check_dm (const char *value, GError **error)
{
  return banger_gate_dm_name (value, VM, error);
}

static void
test_names (void)
{
  expect (check_tap, WORDS ("tap-fc-01234567"),
          WORDS ("tap-fc-0123456", "tap-fc-012345678", "tap-fc-ffffffff", "tap0", "eth0", "", "tap-fc-01234567 "),
          BANGER_ERROR_INVALID_NETWORK);
  expect (check_dm, WORDS ("fc-rootfs-" VM),
          WORDS ("fc-rootfs-", "fc-rootfs-../x", "/dev/mapper/other", "/dev/sda1", "fc-rootfs-" VM "0", "other", ""),
          BANGER_ERROR_INVALID_ARGS);
  expect (banger_gate_loop_path, WORDS ("/dev/loop0", "/dev/loop17", "/dev/loop1048575"),
          WORDS ("/dev/loop", "/dev/loop1p1", "/dev/loop-control", "/dev/loop01", "/dev/loop1048576", "loop0",
                 "/dev/loop+1", "/dev/../dev/loop0", "/dev/sda", "/tmp/loop0", ""),
          BANGER_ERROR_INVALID_ARGS);
}

static gboolean
check_signal (const char *value, GError **error)
{
  int number = 0;
  return banger_gate_signal (value, &number, error) && number > 0;
}

static void
test_signals (void)
{
  int number = 0;
  expect (check_signal,
          WORDS ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT", "term", "SIGTERM", "sigKill", "Sigusr1"),
          WORDS ("STOP", "CONT", "9", "15", "RTMIN+1", "SIGRTMIN", "SIGSIGTERM", "", "SIG", "TERM ", " TERM", "TERMX",
                 "SEGV", "CHLD", "-9"),
          BANGER_ERROR_INVALID_SIGNAL);
  g_assert_true (banger_gate_signal ("sigusr2", &number, NULL));
  g_assert_cmpint (number, ==, SIGUSR2);
}

static void
test_caller (void)
{
  const struct {
    uid_t uid, owner;
    gboolean ok;
  } rows[] = {
    { 0, 1000, TRUE },
    { 1000, 1000, TRUE },
    { 1001, 1000, FALSE },
    { (uid_t)-1, 1000, FALSE },
    { (uid_t)-1, (uid_t)-1, FALSE },
    { 65534, 1000, FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    g_assert_cmpint (banger_caller_check (rows[i].uid, rows[i].owner, NULL), ==, rows[i].ok);
}

static void
test_exec_stat (void)
{
  const struct {
    mode_t mode;
    uid_t uid;
    gboolean ok;
  } rows[] = {
    { S_IFREG | 0755, 0, TRUE },  { S_IFREG | 0500, 0, TRUE },  { S_IFREG | 0755, 1000, FALSE },
    { S_IFREG | 0775, 0, FALSE }, { S_IFREG | 0757, 0, FALSE }, { S_IFREG | 0644, 0, FALSE },
    { S_IFDIR | 0755, 0, FALSE }, { S_IFCHR | 0755, 0, FALSE }, { S_IFLNK | 0755, 0, FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    const struct stat st = { .st_mode = rows[i].mode, .st_uid = rows[i].uid };
    g_assert_cmpint (banger_gate_exec_stat (&st, "x", NULL), ==, rows[i].ok);
  }
}

static gboolean
check_exec (const char *path, GError **error)
{
  banger_autofd int fd = banger_gate_exec (path, error);
  return fd >= 0;
}

static void
test_exec (void)
{
  if (geteuid () != 0) {
    g_test_skip ("needs root to own programs");
    return;
  }
  g_autofree char *dir = g_strdup ("/root/banger-gate-XXXXXX");
  g_assert_nonnull (g_mkdtemp_full (dir, 0755));
  g_autofree char *good = g_build_filename (dir, "good", NULL), *link = g_build_filename (dir, "link", NULL);
  g_autofree char *open_dir = g_build_filename (dir, "open", NULL), *loose = g_build_filename (open_dir, "loose", NULL);
  g_autofree char *linked = g_build_filename (dir, "folder", NULL), *below = g_build_filename (linked, "good", NULL);
  g_autofree char *dotted = g_build_filename (dir, ".", "good", NULL);
  g_assert_true (g_file_set_contents (good, "#!", 2, NULL));
  g_assert_cmpint (g_chmod (good, 0755), ==, 0);
  g_assert_cmpint (symlink (good, link), ==, 0);
  g_assert_cmpint (symlink (dir, linked), ==, 0);
  g_assert_cmpint (g_mkdir (open_dir, 0755), ==, 0);
  g_assert_true (g_file_set_contents (loose, "#!", 2, NULL));
  g_assert_cmpint (g_chmod (loose, 0755), ==, 0);
  g_assert_true (check_exec (loose, NULL));
  const mode_t loose_modes[] = { 0775, 0757, 01777 };
  for (size_t i = 0; i < G_N_ELEMENTS (loose_modes); i++) {
    g_assert_cmpint (g_chmod (open_dir, loose_modes[i]), ==, 0);
    g_assert_false (check_exec (loose, NULL));
  }
  expect (check_exec, WORDS (good, "/usr/bin/env"),
          WORDS (link, below, dotted, dir, "/dev/null", "usr/bin/env", "xusr/bin/env", "", "/", "/nonexistent",
                 "/usr/bin/../bin/env", "/etc/passwd/x"),
          BANGER_ERROR_UNSAFE_FILE);
  g_autoptr (GError) why = NULL;
  g_assert_false (check_exec (below, &why));
  g_assert_nonnull (strstr (why->message, "configure the real path"));
  g_assert_cmpint (chown (good, 1, 1), ==, 0);
  g_assert_false (check_exec (good, NULL));
  const char *all[] = { loose, open_dir, link, linked, good, dir };
  for (size_t i = 0; i < G_N_ELEMENTS (all); i++)
    g_assert_cmpint (g_remove (all[i]), ==, 0);
}

static void
test_proc_texts (void)
{
  char state;
  guint64 start;
  uid_t uid = 7;
  const char *tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
  g_autofree char *plain = g_strconcat ("12 (vmm)", tail, NULL), *evil = g_strconcat ("12 (a) R 1 (b))", tail, NULL);
  g_assert_true (banger_gate_proc_stat (plain, &state, &start) && state == 'S' && start == 4242);
  g_assert_true (banger_gate_proc_stat (evil, &state, &start) && state == 'S' && start == 4242);
  g_assert_false (banger_gate_proc_stat ("12 (vmm) S 1 2", &state, &start));
  g_assert_false (banger_gate_proc_stat ("", &state, &start));
  g_assert_true (banger_gate_proc_uid ("Name:\tx\nUid:\t5\t5\t5\t5\n", &uid) && uid == 5);
  const char *bad_uids[] = { "Name:\tx\nUid:\t0\t5\t5\t5\n", "Name:\tx\nUid:\t5\t0\t5\t5\n",
                             "Name:\tx\nUid:\t5\t5\t0\t5\n", "Name:\tx\nUid:\t5\t5\t5\t0\n",
                             "Name:\tx\nUid:\t5\t5\t5\n",    "Name:\tUid: 5 5 5 5\n" };
  for (size_t i = 0; i < G_N_ELEMENTS (bad_uids); i++)
    g_assert_false (banger_gate_proc_uid (bad_uids[i], &uid));
  g_autofree char *found = banger_gate_cgroup_path ("9:name=systemd:/x\n0::/banger.slice/a.scope\n");
  g_assert_cmpstr (found, ==, "/banger.slice/a.scope");
  g_assert_null (banger_gate_cgroup_path ("9:name=0::/x\n1:cpu:/y\n"));
}

static void
test_cgroups (void)
{
  g_autofree char *many = g_strnfill (2048, 'a'), *longest = g_strconcat ("/", many, "/banger-vm-" VM, NULL);
  const char *good[] = { "/banger.slice/banger-vm-" VM ".scope", "/a/b/banger-vm-" VM, "/banger-vm-" VM };
  const char *bad[] = { "/",
                        "",
                        "banger-vm-" VM,
                        "/system.slice/bangerd-root.service",
                        "/../banger-vm-" VM,
                        "/a/../banger-vm-" VM,
                        "/a/./banger-vm-" VM,
                        longest,
                        "/user.slice/banger-vm-" VM ".scope/x",
                        "/banger-vm-ffffffff",
                        "//banger-vm-" VM,
                        "/a/banger-vm-" VM ".service" };
  g_autofree char *scope = banger_cgroup_of_vm (TRUE, "/x", VM), *plain = banger_cgroup_of_vm (FALSE, "/x", VM);
  g_autofree char *top = banger_cgroup_of_vm (FALSE, "/", VM);
  for (size_t i = 0; i < G_N_ELEMENTS (good); i++)
    g_assert_true (banger_cgroup_check (good[i], VM, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++)
    if (banger_cgroup_check (bad[i], VM, NULL))
      g_error ("cgroup '%s' was let through", bad[i]);
  g_assert_cmpstr (scope, ==, good[0]);
  g_assert_cmpstr (plain, ==, "/x/banger-vm-" VM);
  g_assert_cmpstr (top, ==, good[2]);
  g_autoptr (GPtrArray) mounts = banger_cgroup_parse_mountinfo (
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n"
      "x 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
      "42 31 0:38 /a\\040b /mnt\\040x rw - cgroup2 none rw\n"
      "43 31 0:38 / /sys rw - cgroup2");
  g_assert_cmpuint (mounts->len, ==, 2);
  const BangerCgroupMount *first = mounts->pdata[0], *second = mounts->pdata[1];
  g_assert_cmpuint (first->id, ==, 41);
  g_assert_cmpstr (first->path, ==, "/sys/fs/cgroup/unified");
  g_assert_cmpstr (first->root, ==, "/");
  g_assert_cmpstr (second->path, ==, "/mnt x");
  g_assert_cmpstr (second->root, ==, "/a b");
}

/* The real thing: a child is the process of the claim only while every part of it is true. */
static gboolean
never_called (gpointer data)
{
  g_assert_not_reached ();
  return G_SOURCE_REMOVE;
}

static void
expect_failed (int fd, GError *error)
{
  g_assert_cmpint (fd, <, 0);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_error_free (error);
}

/* What this process lacks says nothing about that one: it has not ended, nor is it another. */
static void
without_descriptors (const BangerProcessClaim *claim)
{
  struct rlimit before, less;
  g_assert_cmpint (getrlimit (RLIMIT_NOFILE, &before), ==, 0);
  int next = dup (0);
  close (next);
  for (rlim_t left = 0; left < 2; left++) {
    GError *of_claim = NULL, *of_group = NULL;
    g_autoptr (GError) of_watch = NULL;
    less = (struct rlimit){ (rlim_t)next + left, before.rlim_max };
    g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &less), ==, 0);
    int fd = banger_gate_process (claim, &of_claim);
    int group = banger_gate_process_of_group (claim->pid, geteuid (), getegid (), &of_group);
    guint watch = left > 0 ? 0 : banger_pidfd_watch (0, never_called, NULL, &of_watch);
    g_assert_cmpint (setrlimit (RLIMIT_NOFILE, &before), ==, 0);
    expect_failed (fd, of_claim);
    expect_failed (group, of_group);
    g_assert_cmpuint (watch, ==, 0);
    g_assert_true (left > 0 || of_watch);
  }
}

static void
test_process (void)
{
  pid_t pid = fork ();
  if (pid == 0) {
    pause ();
    _exit (0);
  }
  g_autofree char *stat_path = g_strdup_printf ("/proc/%d/stat", pid), *text = NULL, *cgroups = NULL;
  char state;
  guint64 start;
  g_assert_true (g_file_get_contents (stat_path, &text, NULL, NULL) && banger_gate_proc_stat (text, &state, &start));
  g_assert_true (g_file_get_contents ("/proc/self/cgroup", &cgroups, NULL, NULL));
  g_autofree char *cgroup = banger_gate_cgroup_path (cgroups);
  g_autofree char *longer = g_strconcat (cgroup, "x", NULL);
  const BangerProcessClaim right = { pid, start, geteuid (), cgroup };
  banger_autofd int fd = banger_gate_process (&right, NULL);
  g_assert_cmpint (fd, >=, 0);
  const BangerProcessClaim wrong[] = {
    { pid, start + 1, geteuid (), cgroup },
    { pid, start, geteuid (), longer },
    { pid, start, geteuid (),
      "/"
      "nothing" },
    { 1, start, 0, cgroup },
    { 0, start, 0, cgroup },
    { getpid (), start, geteuid (), cgroup },
    { pid, 0, geteuid (), cgroup },
    { pid, start, geteuid (), NULL },
    { -1, start, 0, cgroup },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_cmpint (banger_gate_process (&wrong[i], &error), <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_ACCESS_DENIED);
  }
  without_descriptors (&right);
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  g_autoptr (GError) gone = NULL;
  g_assert_cmpint (banger_gate_process (&right, &gone), <, 0);
  g_assert_error (gone, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
}

static gboolean
check_resolver (const char *value, GError **error)
{
  return banger_gate_resolver (value, NULL, NULL, error);
}

static gboolean
check_bridge_resolver (const char *value, GError **error)
{
  struct in_addr bridge;
  inet_pton (AF_INET, "10.213.0.1", &bridge);
  return banger_gate_resolver (value, &bridge, NULL, error);
}

static void
test_resolver (void)
{
  const char *const everywhere_bad[] = { "8.8.8.8:53",
                                         "8.8.8.8",
                                         "0.0.0.0:53",
                                         "127.0.0.53:53",
                                         "127.0.0.53",
                                         "127.0.0.54:5353",
                                         "126.255.255.255:1",
                                         "128.0.0.1:1",
                                         "127.0.0.1:0",
                                         "127.0.0.1:65536",
                                         "127.0.0.1:",
                                         "127.0.0.1:+1",
                                         "127.0.0.1:053",
                                         "127.0.0.1:53x",
                                         "127.0.0.1:53:53",
                                         ":53",
                                         "localhost:53",
                                         "[::1]:53",
                                         "::1",
                                         "127.1:53",
                                         "127.0.0.01:53",
                                         " 127.0.0.1:53",
                                         "127.0.0.1 :53",
                                         "127.0.0.1:53\n",
                                         "127.0.0.1#53",
                                         "%s:%n",
                                         "",
                                         "10.213.0.1/24",
                                         "169.254.169.254:80",
                                         NULL };
  BangerResolverAddress got;
  /* The value that the daemon sends (127.0.0.1:42069) first. */
  expect (check_resolver, WORDS ("127.0.0.1:42069", "127.0.0.1", "127.255.255.255:65535", "127.0.0.1:1", "10.0.0.1:53"),
          everywhere_bad, BANGER_ERROR_INVALID_NETWORK);
  expect (check_bridge_resolver, WORDS ("127.0.0.1:42069", "10.213.0.1:53", "10.213.0.1"), everywhere_bad,
          BANGER_ERROR_INVALID_NETWORK);
  /* Another private address is somebody else's once the bridge's is known. */
  expect (check_bridge_resolver, WORDS ("10.213.0.1:5353"), WORDS ("10.213.0.2:53", "10.213.0.0:53", "192.168.0.1:53"),
          BANGER_ERROR_INVALID_NETWORK);
  g_assert_true (banger_gate_resolver ("127.0.0.1:42069", NULL, &got, NULL));
  g_assert_cmphex (got.address, ==, 0x7f000001);
  g_assert_cmpuint (got.port, ==, 42069);
  g_assert_true (banger_gate_resolver ("127.0.0.2", NULL, &got, NULL));
  g_assert_cmpuint (got.port, ==, 53);
}

static void
test_disk_paths (void)
{
  g_autofree char *component = g_strnfill (255, 'x'), *fits = g_strconcat ("/", component, NULL);
  g_autofree char *wide = g_strconcat ("/", component, "x", NULL);
  g_autofree char *deep = g_strdup_printf ("/%s/%s/%s/%s", component, component, component, component);
  g_autofree char *deeper = g_strconcat (deep, "x", NULL);
  g_assert_cmpuint (strlen (deep), ==, BANGER_DISK_MAX_PATH + 1);
  deep[BANGER_DISK_MAX_PATH] = '\0';
  expect (banger_gate_disk_path, WORDS ("/etc/hostname", "/x", "/a b", "/%s", "/..x", "/...", "/\303\244", fits, deep),
          WORDS ("", "/", "etc/hostname", "//etc", "/etc/", "/etc//x", "/..", "/../x", "/etc/../x", "/etc/..", "/.",
                 "/./x", "/a\nb", "/a\x7f", "/\x1b[2J", wide, deeper),
          BANGER_ERROR_INVALID_PATH);
}

static BangerError
files_error (BangerDiskFile *files, guint n)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) list = g_ptr_array_new ();
  for (guint i = 0; i < n; i++)
    g_ptr_array_add (list, &files[i]);
  if (banger_gate_disk_files (list, &error))
    return BANGER_N_ERRORS;
  return (BangerError)error->code;
}

static void
test_disk_files (void)
{
  BangerDiskFile many[BANGER_DISK_MAX_FILES + 1];
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < G_N_ELEMENTS (many); i++) {
    g_ptr_array_add (names, g_strdup_printf ("/file%u", i));
    many[i] = (BangerDiskFile){ names->pdata[i], 0644, "", 0 };
  }
  g_assert_cmpint (files_error (many, BANGER_DISK_MAX_FILES), ==, BANGER_N_ERRORS);
  g_assert_cmpint (files_error (many, BANGER_DISK_MAX_FILES + 1), ==, BANGER_ERROR_INVALID_ARGS);
  g_assert_cmpint (files_error (many, 0), ==, BANGER_ERROR_INVALID_ARGS);
  BangerDiskFile two[] = { { "/a", 07777, "", BANGER_DISK_MAX_BYTES }, { "/b", 0, "", 0 } };
  g_assert_cmpint (files_error (two, 2), ==, BANGER_N_ERRORS);
  two[1].length = 1; /* their sum is one too many */
  g_assert_cmpint (files_error (two, 2), ==, BANGER_ERROR_INVALID_SIZE);
  two[1].length = G_MAXSIZE; /* and cannot wrap around */
  g_assert_cmpint (files_error (two, 2), ==, BANGER_ERROR_INVALID_SIZE);
  two[1] = (BangerDiskFile){ "/a", 0, "", 0 };
  g_assert_cmpint (files_error (two, 2), ==, BANGER_ERROR_INVALID_PATH);
  two[1] = (BangerDiskFile){ "/b", 010000, "", 0 };
  g_assert_cmpint (files_error (two, 2), ==, BANGER_ERROR_INVALID_ARGS);
  two[1] = (BangerDiskFile){ "/../b", 0, "", 0 };
  g_assert_cmpint (files_error (two, 2), ==, BANGER_ERROR_INVALID_PATH);
}

#define FOLDER "/run/banger/1000/" VM
#define LINE(...) LINE_ (__VA_ARGS__)
#define LINE_(text) text, sizeof text - 1 /* without the literal's own NUL: each word brings one */

static void
test_orphan (void)
{
  const struct {
    const char *bytes;
    size_t length;
    gboolean ours;
  } rows[] = {
    { LINE ("vmm\0--api-sock\0" FOLDER "/api.sock\0"), TRUE },
    { LINE ("vmm\0--api-sock=" FOLDER "/api.sock\0"), TRUE },
    { LINE ("vmm\0-a\0" FOLDER "/x\0"), TRUE },
    { LINE ("vmm\0--id\0" VM "\0--api-sock\0/run/api.sock\0"), TRUE },
    { LINE ("vmm\0--id=" VM "\0--api-sock\0/run/api.sock\0"), TRUE },
    /* Another VM's, another owner's, another folder. */
    { LINE ("vmm\0--id\0ffffffff\0--api-sock\0/run/api.sock\0"), FALSE },
    { LINE ("vmm\0--id\0" VM "0\0--api-sock\0/run/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0/run/api.sock\0"), FALSE },
    { LINE ("vmm\0--id\0" VM "\0--id\0ffffffff\0--api-sock\0/run/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0/run/banger/1001/" VM "/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "0/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "0api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0/tmp" FOLDER "/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "/../x/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "/..\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "/\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "/a/b\0"), FALSE },
    /* Never a part of a word, never two, never without a value, never after "--". */
    { LINE ("vmm\0x--api-sock\0" FOLDER "/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-socket\0" FOLDER "/api.sock\0"), FALSE },
    { LINE ("vmm --api-sock " FOLDER "/api.sock\0"), FALSE },
    { LINE ("sh\0-c\0firecracker --api-sock " FOLDER "/api.sock\0"), FALSE },
    { LINE ("--api-sock\0" FOLDER "/api.sock\0"), FALSE },
    { LINE ("vmm\0-a\0" FOLDER "/x\0-a\0" FOLDER "/x\0"), FALSE },
    { LINE ("vmm\0--api-sock=" FOLDER "/x\0-a\0/other\0"), FALSE },
    { LINE ("vmm\0--api-sock\0"), FALSE },
    { LINE ("vmm\0--api-sock=\0"), FALSE },
    { LINE ("vmm\0--\0--api-sock\0" FOLDER "/api.sock\0"), FALSE },
    { LINE ("vmm\0--api-sock\0" FOLDER "/api.sock"), FALSE }, /* cut off */
    { LINE ("firecracker\0"), FALSE },
    { LINE (""), FALSE },
    { LINE ("\0"), FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++)
    if (banger_gate_orphan (rows[i].bytes, rows[i].length, FOLDER, VM) != rows[i].ours)
      g_error ("row %zu", i);
}

/* The real thing: a process outside the cgroup of its lease counts only by this rule and only with the owner's uid. */
static void
test_orphan_process (void)
{
  g_autoptr (GSubprocess) child = g_subprocess_new (G_SUBPROCESS_FLAGS_STDIN_PIPE, NULL, "/bin/sh", "-c",
                                                    "read x; exit", "--api-sock", FOLDER "/api.sock", NULL);
  pid_t pid = atoi (g_subprocess_get_identifier (child));
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", pid), *text = NULL;
  char state;
  guint64 start;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL) && banger_gate_proc_stat (text, &state, &start));
  const BangerProcessClaim right = { pid, start, geteuid (), "/banger.slice/x.scope", VM, FOLDER };
  banger_autofd int fd = banger_gate_process (&right, NULL);
  g_assert_cmpint (fd, >=, 0);
  const BangerProcessClaim wrong[] = {
    { pid, start, geteuid (), "/banger.slice/x.scope", NULL, NULL },
    { pid, start, geteuid () + 1, "/banger.slice/x.scope", VM, FOLDER },
    { pid, start + 1, geteuid (), "/banger.slice/x.scope", VM, FOLDER },
    { pid, start, geteuid (), "/banger.slice/x.scope", VM, FOLDER "0" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (wrong); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_cmpint (banger_gate_process (&wrong[i], &error), <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_ACCESS_DENIED);
  }
  g_subprocess_force_exit (child);
  g_assert_true (g_subprocess_wait (child, NULL, NULL));
}

static int
listen_at (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  g_assert_cmpint (bind (fd, (struct sockaddr *)&address, sizeof address), ==, 0);
  g_assert_cmpint (listen (fd, 1), ==, 0);
  return fd;
}

static void
test_socket (void)
{
  g_autofree char *dir = g_dir_make_tmp ("banger-socket-XXXXXX", NULL), *real = g_build_filename (dir, "real", NULL);
  g_autofree char *link_path = g_build_filename (dir, "link", NULL), *twin = g_build_filename (dir, "twin", NULL);
  g_autofree char *file = g_build_filename (dir, "file", NULL), *fifo = g_build_filename (dir, "fifo", NULL);
  banger_autofd int folder = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), server = listen_at (real);
  g_autoptr (GError) missing = NULL, two = NULL;
  g_assert_cmpint (symlink ("real", link_path), ==, 0);
  g_assert_true (g_file_set_contents (file, "x", 1, NULL));
  g_assert_cmpint (mkfifo (fifo, 0600), ==, 0);
  banger_autofd int fd = banger_gate_socket (folder, "real", geteuid (), NULL);
  g_assert_cmpint (fd, >=, 0);
  const char *bad[] = { "link", "file", "fifo", "." };
  for (size_t i = 0; i < G_N_ELEMENTS (bad); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_cmpint (banger_gate_socket (folder, bad[i], geteuid (), &error), <, 0);
    g_assert_error (error, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  }
  g_assert_cmpint (banger_gate_socket (folder, "nothing", geteuid (), &missing), <, 0);
  g_assert_error (missing, BANGER_ERROR, BANGER_ERROR_WRONG_STATE);
  g_assert_cmpint (link (real, twin), ==, 0);
  g_assert_cmpint (banger_gate_socket (folder, "real", geteuid (), &two), <, 0);
  g_assert_error (two, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  g_assert_cmpint (unlink (twin), ==, 0);
  if (geteuid () == 0) { /* a third user's */
    g_autoptr (GError) foreign = NULL;
    g_assert_cmpint (chown (real, 4242, 4242), ==, 0);
    g_assert_cmpint (banger_gate_socket (folder, "real", 1000, &foreign), <, 0);
    g_assert_error (foreign, BANGER_ERROR, BANGER_ERROR_UNSAFE_FILE);
  }
  const char *all[] = { real, link_path, file, fifo, dir };
  for (size_t i = 0; i < G_N_ELEMENTS (all); i++)
    g_assert_cmpint (g_remove (all[i]), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/gate/bridge-address", test_bridge_address);
  g_test_add_func ("/gate/bridge-net", test_bridge_net);
  g_test_add_func ("/gate/guest-address", test_guest_address);
  g_test_add_func ("/gate/overlap", test_overlap);
  g_test_add_func ("/gate/resolver", test_resolver);
  g_test_add_func ("/gate/disk-paths", test_disk_paths);
  g_test_add_func ("/gate/disk-files", test_disk_files);
  g_test_add_func ("/gate/orphan", test_orphan);
  g_test_add_func ("/gate/orphan-process", test_orphan_process);
  g_test_add_func ("/gate/socket", test_socket);
  g_test_add_func ("/gate/names", test_names);
  g_test_add_func ("/gate/signals", test_signals);
  g_test_add_func ("/gate/caller", test_caller);
  g_test_add_func ("/gate/exec-stat", test_exec_stat);
  g_test_add_func ("/gate/exec", test_exec);
  g_test_add_func ("/gate/proc-texts", test_proc_texts);
  g_test_add_func ("/gate/cgroups", test_cgroups);
  g_test_add_func ("/gate/process", test_process);
  return g_test_run ();
}
