/* Attacks on the gate of processes that may be signalled: reused numbers, borrowed names, cgroups of a user's own.
 * Run by meson test as root.
 * Never signals a process that is not its own child. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/pidfd.h"
#include "privileged/cgroup.h"
#include "privileged/gate.h"

#define OWNER 54321
#define OTHER 54322

static void
nap (void)
{
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  for (;;)
    pause ();
}

static pid_t
child_of (uid_t uid)
{
  pid_t pid = fork ();
  if (pid == 0) {
    if (uid && setresuid (uid, uid, uid) < 0)
      _exit (1);
    nap ();
  }
  /* Until it has changed its uid. */
  g_autofree char *path = g_strdup_printf ("/proc/%d", pid);
  struct stat st = { 0 };
  for (int i = 0; i < 1000 && (stat (path, &st) < 0 || st.st_uid != uid); i++)
    g_usleep (1000);
  g_assert_cmpuint (st.st_uid, ==, uid);
  return pid;
}

static void
end (pid_t pid)
{
  g_assert_cmpint (kill (pid, SIGKILL), ==, 0);
  g_assert_cmpint (waitpid (pid, NULL, 0), ==, pid);
}

static guint64
start_of (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/stat", pid), *text = NULL;
  char state;
  guint64 start = 0;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL) && banger_gate_proc_stat (text, &state, &start));
  return start;
}

static char *
cgroup_of (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/cgroup", pid), *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, NULL, NULL));
  return banger_gate_cgroup_path (text);
}

static void
expect_not_ours (const BangerProcessClaim *claim, const char *what)
{
  g_autoptr (GError) error = NULL;
  if (banger_gate_process (claim, &error) >= 0)
    g_error ("%s was taken for the VMM", what);
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_ACCESS_DENIED);
}

static void
expect_ours (const BangerProcessClaim *claim)
{
  g_autoptr (GError) error = NULL;
  banger_autofd int fd = banger_gate_process (claim, &error);
  g_assert_no_error (error);
  g_assert_cmpint (fd, >=, 0);
}

/* clone3(2): a process with the number of one that has ended. */
static pid_t
child_numbered (pid_t number)
{
  struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (guint64)(uintptr_t)&number, .set_tid_size = 1 };
  pid_t pid = (pid_t)syscall (SYS_clone3, &args, sizeof args);
  if (pid == 0)
    nap ();
  return pid;
}

static void
test_reused_number (void)
{
  pid_t first = child_of (0);
  g_autofree char *cgroup = cgroup_of (first);
  const BangerProcessClaim claim = { first, start_of (first), OWNER, cgroup };
  banger_autofd int pinned = banger_gate_process (&claim, NULL);
  g_assert_cmpint (pinned, >=, 0);
  end (first);
  g_usleep (50000); /* several clock ticks */
  pid_t second = child_numbered (first);
  if (second < 0) {
    g_test_skip ("needs clone3 with set_tid");
    return;
  }
  g_assert_cmpint (second, ==, first);
  g_assert_cmpuint (start_of (second), !=, claim.start);
  expect_not_ours (&claim, "a process with a reused number");
  /* The signal that was on its way to the first one. */
  g_assert_cmpint (banger_pidfd_send_signal (pinned, SIGKILL), <, 0);
  g_assert_cmpint (errno, ==, ESRCH);
  g_usleep (10000);
  g_assert_cmpint (waitpid (second, NULL, WNOHANG), ==, 0);
  end (second);
}

static void
test_other_user (void)
{
  pid_t own = child_of (OWNER), other = child_of (OTHER), roots = child_of (0);
  g_autofree char *cgroup = cgroup_of (own);
  const BangerProcessClaim claims[] = { { own, start_of (own), OWNER, cgroup },
                                        { roots, start_of (roots), OWNER, cgroup }, /* the jailer before it drops */
                                        { other, start_of (other), OWNER, cgroup } };
  expect_ours (&claims[0]);
  expect_ours (&claims[1]);
  expect_not_ours (&claims[2], "a process of another user");
  end (own);
  end (other);
  end (roots);
}

/* A set-uid program of another user: its uids differ. */
static void
test_mixed_uids (void)
{
  pid_t pid = fork ();
  if (pid == 0) {
    if (setresuid (OWNER, OTHER, OWNER) < 0)
      _exit (1);
    nap ();
  }
  g_usleep (100000);
  g_autofree char *cgroup = cgroup_of (pid);
  const BangerProcessClaim claim = { pid, start_of (pid), OWNER, cgroup };
  expect_not_ours (&claim, "a process with two uids");
  end (pid);
}

/* A command line that says "firecracker" proves nothing. */
static void
test_command_line (void)
{
  pid_t pid = fork ();
  if (pid == 0) {
    if (setresuid (OTHER, OTHER, OTHER) < 0)
      _exit (1);
    execl ("/bin/sh", "firecracker", "-c", "kill -STOP $$; :", "firecracker", "--api-sock",
           "/run/banger/54321/x/api.sock", "--id", "0123456789ab", (char *)NULL);
    _exit (127);
  }
  g_usleep (100000);
  g_autofree char *cgroup = cgroup_of (pid);
  const BangerProcessClaim claims[] = {
    { pid, start_of (pid), OWNER, cgroup },
    { pid, start_of (pid), OWNER, "/banger.slice/banger-vm-0123456789ab.scope" },
    { pid, start_of (pid), OTHER, "/banger.slice/banger-vm-0123456789ab.scope" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS (claims); i++)
    expect_not_ours (&claims[i], "a process with a VMM's command line");
  end (pid);
}

/* What a user can name as they like: units and cgroups of their own. */
static void
test_borrowed_cgroups (void)
{
  static const char vm[] = "0123456789ab";
  g_autofree char *root = NULL, *own = NULL;
  banger_autofd int mount = banger_cgroup_find (&root, &own, NULL);
  if (mount < 0) {
    g_test_skip ("needs cgroup2");
    return;
  }
  g_autofree char *scope = banger_cgroup_of_vm (TRUE, "/", vm);
  g_autofree char *top = g_strdup_printf ("/proc/self/fd/%d/banger-attack-%d", mount, getpid ());
  const char *names[] = { "bangerd-root.service", "banger.slice", "banger.slice/banger-vm-0123456789ab.scope",
                          "banger-vm-0123456789ab" };
  g_assert_cmpint (g_mkdir (top, 0755), ==, 0);
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++) {
    g_autofree char *path = g_build_filename (top, names[i], NULL),
                    *procs = g_build_filename (path, "cgroup.procs", NULL);
    g_assert_cmpint (g_mkdir (path, 0755), ==, 0);
    pid_t pid = child_of (OWNER);
    g_autofree char *number = g_strdup_printf ("%d", pid);
    banger_autofd int fd = open (procs, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint (write (fd, number, strlen (number)), >, 0);
    g_autofree char *really = cgroup_of (pid), *shorter = g_strndup (really, strlen (really) - 1);
    const char *claimed[] = { scope, "/system.slice/bangerd-root.service", strrchr (really, '/'), shorter, "/", "" };
    g_assert_nonnull (strstr (really, names[i]));
    for (size_t k = 0; k < G_N_ELEMENTS (claimed); k++) {
      const BangerProcessClaim claim = { pid, start_of (pid), OWNER, claimed[k] };
      expect_not_ours (&claim, names[i]);
    }
    const BangerProcessClaim right = { pid, start_of (pid), OWNER, really };
    expect_ours (&right);
    end (pid);
  }
  for (size_t i = G_N_ELEMENTS (names); i-- > 0;) {
    g_autofree char *path = g_build_filename (top, names[i], NULL);
    g_assert_cmpint (g_rmdir (path), ==, 0);
  }
  g_assert_cmpint (g_rmdir (top), ==, 0);
}

static void
test_never (void)
{
  g_autofree char *init = cgroup_of (1), *own = cgroup_of (getpid ());
  const BangerProcessClaim claims[] = { { 1, start_of (1), 0, init },
                                        { getpid (), start_of (getpid ()), 0, own },
                                        { 0, start_of (1), 0, own },
                                        { -1, start_of (1), 0, own },
                                        { G_MININT, 1, 0, own } };
  for (size_t i = 0; i < G_N_ELEMENTS (claims); i++)
    expect_not_ours (&claims[i], "a process that never is one");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (geteuid () != 0) {
    printf ("1..0 # SKIP needs root for processes of other users\n");
    return 0;
  }
  g_test_add_func ("/attacks/process/never", test_never);
  g_test_add_func ("/attacks/process/reused-number", test_reused_number);
  g_test_add_func ("/attacks/process/other-user", test_other_user);
  g_test_add_func ("/attacks/process/mixed-uids", test_mixed_uids);
  g_test_add_func ("/attacks/process/command-line", test_command_line);
  g_test_add_func ("/attacks/process/borrowed-cgroups", test_borrowed_cgroups);
  return g_test_run ();
}
