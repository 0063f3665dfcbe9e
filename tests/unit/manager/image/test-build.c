/* The real thing: a Debian by mmdebstrap from the host's apt sources, as an ordinary user.
 * Run by meson test; root becomes a user that has subordinate ids first.
 * Never passes silently where network, mmdebstrap or such a user is missing: it skips with the reason. */
#include "fixture.h"

#include "common/error.h"
#include "common/fd.h"
#include "intake/protocol.h"
#include "manager/image/build.h"
#include "manager/image/mmdebstrap.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static gboolean
become (const struct passwd *user)
{
  return initgroups (user->pw_name, user->pw_gid) == 0 && setgid (user->pw_gid) == 0 && setuid (user->pw_uid) == 0;
}

/* Root has its own powers: the test would show nothing. */
static void
drop_root (void)
{
  g_autofree char *subuid = NULL, *subgid = NULL;
  if (!is_root () || !g_file_get_contents ("/etc/subuid", &subuid, NULL, NULL)
      || !g_file_get_contents ("/etc/subgid", &subgid, NULL, NULL))
    return;
  setpwent ();
  for (struct passwd *user = getpwent (); user != NULL; user = getpwent ())
    if (user->pw_uid != 0 && banger_subids_enough (subuid, user->pw_name, user->pw_uid)
        && banger_subids_enough (subgid, user->pw_name, user->pw_uid))
    {
      if (!become (user))
        g_error ("cannot become %s", user->pw_name);
      break;
    }
  endpwent ();
}

static gboolean
can_build (void)
{
  g_autoptr (GError) error = NULL;
  if (is_root ())
    g_test_skip ("no user but root has 65536 subordinate ids in /etc/subuid and /etc/subgid");
  else if (!banger_image_check_host (&error))
    g_test_skip (error->message);
  else
    return TRUE;
  return FALSE;
}

static gboolean
is_network_failure (const GError *error)
{
  static const char *const signs[] = { "Failed to fetch",   "Could not resolve", "Could not connect",
                                       "Temporary failure", "Unable to connect", "Some index files failed" };
  for (guint i = 0; error != NULL && i < G_N_ELEMENTS (signs); i++)
    if (strstr (error->message, signs[i]) != NULL)
      return TRUE;
  return FALSE;
}

typedef struct {
  double last;
  guint reports, stages;
} Watched;

static void
watch_progress (double fraction, gpointer data)
{
  Watched *watched = data;
  g_assert_cmpfloat (fraction, >, watched->last);
  g_assert_cmpfloat (fraction, <=, 1.0);
  watched->last = fraction;
  watched->reports++;
}

static void
watch_stage (const char *stage, gpointer data)
{
  Watched *watched = data;
  g_test_message ("%s", stage);
  watched->stages++;
}

/* Of another build on this machine, which holds its lock. */
static gboolean
in_use (const char *path)
{
  banger_autofd int fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) < 0;
}

/* Nothing of mmdebstrap's may be left: neither its directory nor a process that names it. */
static void
assert_no_leftovers (int dir_fd)
{
  g_autoptr (GDir) directory = g_dir_open ("/var/tmp", 0, NULL);
  g_autoptr (GDir) processes = g_dir_open ("/proc", 0, NULL);
  const char *name;
  while ((name = g_dir_read_name (directory)) != NULL) {
    struct stat st;
    g_autofree char *path = g_build_filename ("/var/tmp", name, NULL);
    if (g_str_has_prefix (name, "banger-image-") && stat (path, &st) == 0 && st.st_uid == getuid () && !in_use (path))
      g_error ("%s is left", path);
  }
  while ((name = g_dir_read_name (processes)) != NULL) {
    g_autofree char *path = g_build_filename ("/proc", name, "environ", NULL), *text = NULL;
    gsize length;
    const char *folder = g_ascii_isdigit (name[0]) && g_file_get_contents (path, &text, &length, NULL) ? memmem (
                             text, length, "TMPDIR=/var/tmp/banger-image-", strlen ("TMPDIR=/var/tmp/banger-image-"))
                                                                                                       : NULL;
    if (folder && !in_use (folder + strlen ("TMPDIR=")))
      g_error ("process %s is left", name);
  }
  g_assert_cmpint (faccessat (dir_fd, "rootfs.ext4", F_OK, 0), ==, -1);
  g_assert_cmpint (faccessat (dir_fd, "seed.ext4", F_OK, 0), ==, -1);
}

static void
assert_has (const char *dump, const char *path, const char *start, const char *end)
{
  g_autofree char *line = dump_line (dump, path);
  if (line == NULL || !g_str_has_prefix (line, start) || !g_str_has_suffix (line, end))
    g_error ("%s: '%s', expected '%s'...'%s'", path, line, start, end);
}

static void
check_debian (const char *rootfs, const char *seed)
{
  assert_clean (rootfs);
  assert_clean (seed);
  g_autofree char *dump = dump_ext4 (rootfs), *root = dump_ext4 (seed);
  const struct {
    const char *path, *start, *end;
  } rows[] = { { "usr/bin/su", "104755 0 0 ", "" },
               { "usr/sbin/sshd", "100755 0 0 ", "" },
               { "usr/bin/git", "100755 0 0 ", "" },
               { "usr/bin/make", "100755 0 0 ", "" },
               { "usr/sbin/init", "120777 0 0 ", "/lib/systemd/systemd" },
               { "sbin", "120777 0 0 ", "usr/sbin" },
               { "etc/machine-id", "100644 0 0 ", "d41d8cd98f00b204e9800998ecf8427e" }, /* empty */
               { "etc/systemd/system/default.target", "120777 ", "multi-user.target" },
               { "etc/systemd/system/apt-daily.timer", "120777 ", "/dev/null" },
               { "etc/systemd/system/multi-user.target.wants/ssh.service", "120777 ", "ssh.service" },
               { "etc/systemd/system/multi-user.target.wants/systemd-logind.service", "120777 ", "/dev/null" },
               { "etc/ssh/sshd_config.d/banger.conf", "100644 0 0 ", "" },
               { "var/lib/apt/lists", "40755 0 0 ", "" },
               { "tmp", "41777 0 0 ", "" },
               { "root", "40700 0 0 ", "" } };
  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    assert_has (dump, rows[i].path, rows[i].start, rows[i].end);
  const char *const absent[] = { "\netc/ssh/ssh_host", "\netc/hostname ", "\netc/resolv.conf ", "_Packages",
                                 "\nusr/share/man/man1/" };
  for (guint i = 0; i < G_N_ELEMENTS (absent); i++)
    if (strstr (dump, absent[i]) != NULL)
      g_error ("%s is in the image", absent[i]);
  assert_has (root, "", "40700 0 0 ", "");
  assert_has (root, ".bashrc", "100644 0 0 ", "");
  assert_has (root, ".profile", "100644 0 0 ", "");
}

static void
test_debian (void)
{
  if (!can_build ())
    return;
  g_auto (Fixture) fixture;
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (GError) error = NULL;
  fixture_init (&fixture);
  banger_autofd int dir = open (fixture.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Watched watched = { .last = -1 };
  BangerImageBuildOptions options = { .stage = watch_stage, .stage_data = &watched };
  gint64 start = g_get_monotonic_time ();
  if (!banger_image_build (dir, &options, watch_progress, &watched, NULL, &info, &error) && is_network_failure (error))
  {
    assert_no_leftovers (dir);
    g_test_skip (error->message);
    return;
  }
  g_assert_no_error (error);
  g_test_message ("%.1f s, %" G_GUINT64_FORMAT " MiB used", (double)(g_get_monotonic_time () - start) / 1e6,
                  info.used_bytes >> 20);
  g_assert_cmpuint (info.size_bytes, ==, BANGER_IMAGE_DEFAULT_BYTES);
  g_assert_cmpuint (info.used_bytes, <, (guint64)800 << 20);
  g_assert_cmpfloat (watched.last, ==, 1.0);
  g_assert_cmpuint (watched.reports, >, 100);
  g_assert_cmpuint (watched.stages, >=, 6);
  g_autofree char *rootfs = g_build_filename (fixture.dir, "rootfs.ext4", NULL);
  g_autofree char *seed = g_build_filename (fixture.dir, "seed.ext4", NULL);
  check_debian (rootfs, seed);
  g_assert_cmpint (unlink (rootfs) | unlink (seed), ==, 0);
  assert_no_leftovers (dir);
}

static gpointer
cancel_later (gpointer data)
{
  g_usleep (8 * G_USEC_PER_SEC);
  g_cancellable_cancel (data);
  return NULL;
}

static void
test_cancel (void)
{
  if (!can_build ())
    return;
  g_auto (Fixture) fixture;
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (GError) error = NULL;
  fixture_init (&fixture);
  banger_autofd int dir = open (fixture.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  BangerImageBuildOptions options = { 0 };
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  GThread *thread = g_thread_new ("cancel", cancel_later, cancellable);
  gint64 start = g_get_monotonic_time ();
  g_assert_false (banger_image_build (dir, &options, NULL, NULL, cancellable, &info, &error));
  gint64 took = g_get_monotonic_time () - start;
  g_thread_join (thread);
  assert_no_leftovers (dir);
  if (is_network_failure (error)) {
    g_test_skip (error->message);
    return;
  }
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_cmpint (took, <, 40 * G_USEC_PER_SEC);
}

static void
test_failure (void)
{
  if (!can_build ())
    return;
  g_auto (Fixture) fixture;
  g_auto (BangerImageInfo) info = { 0 };
  g_autoptr (GError) error = NULL;
  fixture_init (&fixture);
  banger_autofd int dir = open (fixture.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  /* Nothing listens there: fails in the first seconds. */
  BangerImageBuildOptions options = { .mirror = "http://127.0.0.1:9/debian" };
  g_assert_false (banger_image_build (dir, &options, NULL, NULL, NULL, &info, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_FAILED);
  g_assert_nonnull (strstr (error->message, "127.0.0.1:9"));
  assert_no_leftovers (dir);
}

static gboolean
exists (const char *path)
{
  return g_file_test (path, G_FILE_TEST_IS_DIR);
}

/* What a killed bangerd left goes; what another one is using stays, and so does what is called otherwise. */
static void
test_sweep (void)
{
  const char *const templates[] = { "/var/tmp/banger-image-XXXXXX", "/var/tmp/banger-image-XXXXXX",
                                    "/var/tmp/banger-other-XXXXXX" };
  char *paths[G_N_ELEMENTS (templates)];
  for (guint i = 0; i < G_N_ELEMENTS (templates); i++) {
    paths[i] = g_mkdtemp (g_strdup (templates[i]));
    g_assert_nonnull (paths[i]);
  }
  g_autofree char *inside = g_build_filename (paths[0], "mmdebstrap.x", NULL);
  g_autofree char *file = g_build_filename (inside, "trustdb.gpg", NULL);
  g_assert_cmpint (mkdir (inside, 0700), ==, 0);
  g_assert_true (g_file_set_contents (file, "x", -1, NULL)); /* ours: mmdebstrap's helper could not remove it */
  banger_autofd int used = open (paths[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_assert_cmpint (flock (used, LOCK_EX), ==, 0);
  GThread *sweeper = banger_mmdebstrap_sweep ();
  g_assert_nonnull (sweeper);
  g_thread_join (sweeper);
  g_assert_false (exists (paths[0]));
  g_assert_true (exists (paths[1]));
  g_assert_true (exists (paths[2]));
  for (guint i = 0; i < G_N_ELEMENTS (templates); i++) {
    rmdir (paths[i]);
    g_free (paths[i]);
  }
}

int
main (int argc, char **argv)
{
  drop_root ();
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/build/sweep", test_sweep);
  g_test_add_func ("/build/failure", test_failure);
  g_test_add_func ("/build/cancel", test_cancel);
  g_test_add_func ("/build/debian", test_debian);
  return g_test_run ();
}
