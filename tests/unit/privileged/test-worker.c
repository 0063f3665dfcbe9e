/* The sandbox that root's worker programs run in. This program is its own probe.
 * Run by meson test; needs root and then says so. */
#include <dirent.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/fd.h"
#include "privileged/cages.h"
#include "privileged/worker.h"
#include "need-root.h"

#define NOBODY 65534

static int
count_descriptors (void)
{
  int n = -3; /* ".", ".." and the folder itself */
  DIR *dir = opendir ("/proc/self/fd");
  while (dir && readdir (dir))
    n++;
  if (dir)
    closedir (dir);
  return n;
}

static gboolean
traced (void)
{
  g_autofree char *status = NULL;
  g_assert_true (g_file_get_contents ("/proc/self/status", &status, NULL, NULL));
  return strstr (status, "\nTracerPid:\t0\n") == NULL;
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
static gpointer
itself (gpointer data)
{
  return data;
}

static int
errno_of (long pid)
{
  if (pid == 0)
    _exit (0);
  return pid < 0 ? errno : 0;
}

/* As a 32-bit program calls getpid(2). */
static int
getpid_32 (void)
{
  int r;
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
  return r;
}

/* Each way to a process by its errno, 0 where it is open; and a thread. */
static void
probe_processes (void)
{
  char *argv[] = { (char *)"true", NULL }, *environment[] = { NULL };
  pid_t pid;
  g_print ("spawn %d\n", posix_spawn (&pid, "/bin/true", NULL, NULL, argv, environment));
  g_print ("fork %d\n", errno_of (fork ()));
  g_print ("fork(2) %d\n", errno_of (syscall (SYS_fork)));
  g_print ("vfork %d\n", errno_of (vfork ()));
  g_print ("clone %d\n", errno_of (syscall (SYS_clone, SIGCHLD, 0, 0, 0, 0)));
  g_print ("clone with VM %d\n", errno_of (syscall (SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)));
  g_print ("clone3 %d\n", errno_of (syscall (SYS_clone3, NULL, 0)));
  g_print ("x32 %d\n", errno_of (syscall (0x40000000 | SYS_getpid)));
  g_autoptr (GThread) thread = g_thread_new ("probe", itself, &pid);
  g_print ("thread %d\n", g_thread_join (g_steal_pointer (&thread)) == &pid);
}
#endif

static int
probe (const char *what)
{
  prctl (PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* where Yama would refuse */
  if (g_str_equal (what, "traced")) {
    while (!traced ())
      g_usleep (1000);
    _exit (7);
  }
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
  if (g_str_equal (what, "processes"))
    probe_processes ();
  if (g_str_equal (what, "processes-32"))
    g_print ("getpid %d\n", getpid_32 ());
#endif
  if (g_str_equal (what, "hold"))
    g_usleep (500000);
  if (g_str_equal (what, "hang") || g_str_equal (what, "wait"))
    for (;;)
      pause ();
  if (g_str_equal (what, "flood"))
    for (;;)
      (void)!write (1, "0123456789abcdef", 16);
  if (g_str_equal (what, "die"))
    raise (SIGKILL); /* sanitizers have a handler for most others */
  pid_t child = fork ();
  if (child == 0)
    _exit (0);
  g_autofree char *status = NULL;
  g_file_get_contents ("/proc/self/status", &status, NULL, NULL);
  g_print ("fork %d\nfds %d\ngroups %d\n%s", child >= 0, count_descriptors (), getgroups (0, NULL), status);
  fflush (stdout);
  _exit (7); /* not exit(3): the search for leaks there starts a thread */
}

static GByteArray *
run_probe (const char *what, int *ret_status, GError **error)
{
  const char *argv[] = { "probe", "--probe", what, NULL };
  banger_autofd int program = open ("/proc/self/exe", O_PATH | O_CLOEXEC);
  const BangerWorker worker = { .program_fd = program,
                                .argv = argv,
                                .uid = NOBODY,
                                .gid = NOBODY,
                                .image_fd = -1,
                                .file_bytes = 1 << 20,
                                .cage = g_str_has_prefix (what, "processes") ? banger_cage_of_check (NULL) : NULL,
                                .memory_bytes = G_GUINT64_CONSTANT (1) << 30,
                                .seconds = g_str_equal (what, "hang") ? 1 : 30,
                                .interruptible = g_str_equal (what, "wait"),
                                .max_output = 65536 };
  return banger_worker_run (&worker, "the probe", ret_status, error);
}

static void
test_sandbox (void)
{
  int status = 0;
  g_autoptr (GError) error = NULL;
  if (!need_root ())
    return;
  banger_autofd int loose = fcntl (0, F_DUPFD, 20); /* without close-on-exec, as a careless parent leaves one */
  g_assert_cmpint (loose, >=, 20);
  g_autoptr (GByteArray) output = run_probe ("look", &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 7);
  g_byte_array_append (output, (const guint8 *)"", 1);
  const char *text = (const char *)output->data;
  const char *wanted[] = { "fork 0\n",
                           "fds 3\n",
                           "groups 0\n",
                           "\nUid:\t65534\t65534\t65534\t65534\n",
                           "\nGid:\t65534\t65534\t65534\t65534\n",
                           "\nCapInh:\t0000000000000000\n",
                           "\nCapPrm:\t0000000000000000\n",
                           "\nCapEff:\t0000000000000000\n",
                           "\nCapAmb:\t0000000000000000\n",
                           "\nNoNewPrivs:\t1\n" };
  for (size_t i = 0; i < G_N_ELEMENTS (wanted); i++)
    if (!strstr (text, wanted[i]))
      g_error ("no %s in %s", wanted[i], text);
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
static gboolean
kernel_has_32_bit (void)
{
  int status = 0;
  pid_t pid = fork ();
  if (pid == 0) {
    signal (SIGSEGV, SIG_DFL); /* a sanitizer's */
    _exit (getpid_32 () == getpid () ? 0 : 1);
  }
  g_assert_cmpint (waitpid (pid, &status, 0), ==, pid);
  return status == 0;
}

static void
expect_probe (const char *what, const char *wanted)
{
  int status = 0;
  g_autoptr (GError) error = NULL;
  g_autoptr (GByteArray) output = run_probe (what, &status, &error);
  g_assert_no_error (error);
  g_byte_array_append (output, (const guint8 *)"", 1);
  if (!g_str_has_prefix ((const char *)output->data, wanted))
    g_error ("%s", (const char *)output->data);
}
#endif

/* A program that may start threads starts no process all the same, which could outlive it. */
static void
test_threads (void)
{
  if (!need_root ())
    return;
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
  g_autofree char *wanted = g_strdup_printf (
      "spawn %d\nfork %d\nfork(2) %d\nvfork %d\nclone %d\nclone with VM %d\nclone3 %d\nx32 %d\nthread 1\n", EPERM,
      EPERM, EPERM, EPERM, EPERM, EPERM, ENOSYS, ENOSYS);
  expect_probe ("processes", wanted);
  if (kernel_has_32_bit ())
    expect_probe ("processes-32", "getpid -1\n");
#else
  g_test_skip ("this test is for x86-64, and for a program that no sanitizer is in");
#endif
}

/* Forks once a probe runs; the child keeps every descriptor and waits. */
static gpointer
fork_while_running (gpointer data)
{
  g_usleep (200000);
  pid_t pid = fork ();
  if (pid == 0)
    for (;;)
      pause ();
  return GINT_TO_POINTER (pid);
}

static void
test_sandbox_ends (void)
{
  int status = 0;
  const struct {
    const char *what;
    BangerError code;
  } rows[] = { { "hang", BANGER_ERROR_TIMEOUT }, { "flood", BANGER_ERROR_FAILED }, { "die", BANGER_ERROR_FAILED } };
  if (!need_root ())
    return;
  for (size_t i = 0; i < G_N_ELEMENTS (rows); i++) {
    g_autoptr (GError) error = NULL;
    g_assert_null (run_probe (rows[i].what, &status, &error));
    g_assert_error (error, BANGER_ERROR, (int)rows[i].code);
  }
  g_assert_cmpint (waitpid (-1, NULL, WNOHANG), ==, -1); /* no child is left */
  g_assert_cmpint (errno, ==, ECHILD);
}

/* A process of the worker's uid that takes hold of whatever this one starts, for at most 20 s. */
static pid_t
trace_children (unsigned long options)
{
  pid_t tracer = fork ();
  if (tracer != 0)
    return tracer;
  g_autofree char *children = g_strdup_printf ("/proc/%d/task/%d/children", getppid (), getppid ());
  if (setresgid (NOBODY, NOBODY, NOBODY) < 0 || setresuid (NOBODY, NOBODY, NOBODY) < 0
      || prctl (PR_SET_PDEATHSIG, SIGKILL) < 0)
    _exit (1);
  for (int i = 0; i < 10000; i++) {
    g_autofree char *text = NULL;
    g_file_get_contents (children, &text, NULL, NULL);
    g_auto (GStrv) pids = g_strsplit (text ? text : "", " ", -1);
    for (char **pid = pids; *pid; pid++)
      (void)ptrace (PTRACE_SEIZE, atoi (*pid), NULL, options);
    g_usleep (2000);
  }
  _exit (0);
}

static void
expect_traced (const char *what, BangerError code, const char *words)
{
  int status = 0;
  gint64 begin = g_get_monotonic_time ();
  g_autoptr (GError) error = NULL;
  g_assert_null (run_probe (what, &status, &error));
  g_assert_cmpint (g_get_monotonic_time () - begin, <, 10 * G_USEC_PER_SEC);
  g_assert_error (error, BANGER_ERROR, (int)code);
  g_assert_nonnull (strstr (error->message, words));
}

static void
end_tracer (pid_t tracer)
{
  kill (tracer, SIGKILL);
  g_assert_cmpint (waitpid (tracer, NULL, 0), ==, tracer);
}

/* ptrace(2): who traces a program holds it at its end, and then its zombie. The worker comes back all the same, not
 * without end, and reaps it once it can. */
static void
test_traced (void)
{
  int status = 0;
  g_autoptr (GError) error = NULL;
  if (!need_root ())
    return;
  pid_t tracer = trace_children (PTRACE_O_TRACEEXIT);
  expect_traced ("hang", BANGER_ERROR_TIMEOUT, "did not end within");
  end_tracer (tracer);
  siginfo_t info;
  g_assert_cmpint (waitid (P_ALL, 0, &info, WEXITED | WNOWAIT), ==, 0); /* now it has ended */
  tracer = trace_children (0);
  for (int i = 0; i < 8; i++)
    expect_traced ("traced", BANGER_ERROR_FAILED, "traces it");
  expect_traced ("traced", BANGER_ERROR_FAILED, "8 programs before it");
  end_tracer (tracer);
  g_autoptr (GByteArray) output = run_probe ("look", &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (waitpid (-1, NULL, WNOHANG), ==, -1);
  g_assert_cmpint (errno, ==, ECHILD);
}

/* Another child that waits before it executes, as a VMM does for its cgroup, holds copies of every pipe: the end of the
 * program is seen all the same. */
static void
test_pipes_held_open (void)
{
  int status = 0;
  g_autoptr (GError) error = NULL;
  if (!need_root ())
    return;
  g_autoptr (GThread) thread = g_thread_new ("holder", fork_while_running, NULL);
  g_autoptr (GByteArray) output = run_probe ("hold", &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 7);
  pid_t holder = GPOINTER_TO_INT (g_thread_join (g_steal_pointer (&thread)));
  g_assert_cmpint (waitpid (holder, NULL, WNOHANG), ==, 0); /* it still held them */
  kill (holder, SIGKILL);
  waitpid (holder, NULL, 0);
}

/* The helper ends while a check runs. */
static gpointer
stop_soon (gpointer data)
{
  g_usleep (300000);
  banger_worker_stop ();
  return NULL;
}

static void
test_stop (void)
{
  int status = 0;
  g_autoptr (GError) error = NULL, again = NULL;
  if (!need_root ())
    return;
  g_autoptr (GThread) thread = g_thread_new ("stop", stop_soon, NULL);
  g_assert_null (run_probe ("wait", &status, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_assert_null (run_probe ("wait", &status, &again)); /* and no other begins */
  g_assert_error (again, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_thread_join (g_steal_pointer (&thread));
  g_autoptr (GByteArray) output = run_probe ("look", &status, &error); /* what may not be interrupted is not */
  g_assert_nonnull (output);
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--probe"))
    return probe (argv[2]);
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/worker/sandbox", test_sandbox);
  g_test_add_func ("/worker/threads", test_threads);
  g_test_add_func ("/worker/ends", test_sandbox_ends);
  g_test_add_func ("/worker/traced", test_traced);
  g_test_add_func ("/worker/pipes-held-open", test_pipes_held_open);
  g_test_add_func ("/worker/stop", test_stop); /* last: it cannot be taken back */
  return g_test_run ();
}
