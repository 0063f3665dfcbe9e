/* banger-intake from outside: what it may, and what the manager makes of one that was taken over.
 * Run by meson test with $BANGER_INTAKE and $FAKE_INTAKE.
 * Never leaves a process behind. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/safe-path.h"
#include "manager/disk/intake.h"

typedef struct {
  char *dir, *program; /* of the test; what is $BANGER_INTAKE for everybody else */
  int dir_fd, source, targets[2];
} Fixture;

static int
create (Fixture *fixture, const char *name)
{
  int fd = openat (fixture->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  g_assert_cmpint (fd, >=, 0);
  return fd;
}

static void
set_up (Fixture *fixture, gconstpointer data)
{
  fixture->dir = g_dir_make_tmp ("banger-intake-XXXXXX", NULL);
  fixture->dir_fd = open (fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  fixture->source = create (fixture, "source");
  g_assert_cmpint (ftruncate (fixture->source, 4 << 20), ==, 0); /* more than a socket takes */
  for (guint i = 0; i < 2; i++)
    fixture->targets[i] = create (fixture, i == 0 ? "first" : "second");
  fixture->program = g_strdup (g_getenv ("BANGER_INTAKE"));
}

static void
tear_down (Fixture *fixture, gconstpointer data)
{
  g_setenv ("BANGER_INTAKE", fixture->program, TRUE);
  g_assert_cmpint (waitpid (-1, NULL, WNOHANG), ==, -1); /* nothing is left */
  g_assert_cmpint (errno, ==, ECHILD);
  banger_autofd int tmp = open (g_get_tmp_dir (), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  g_autofree char *name = g_path_get_basename (fixture->dir);
  g_assert_true (banger_safe_remove_tree (tmp, name, NULL));
  int *fds[] = { &fixture->dir_fd, &fixture->source, &fixture->targets[0], &fixture->targets[1] };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    banger_clear_fd (fds[i]);
  g_free (fixture->dir);
  g_free (fixture->program);
}

/* From now on the program is the one of this name in fake-intake.c. */
static void
take_over (Fixture *fixture, const char *name)
{
  g_autofree char *path = g_build_filename (fixture->dir, name, NULL);
  if (symlink (g_getenv ("FAKE_INTAKE"), path) < 0)
    g_assert_cmpint (errno, ==, EEXIST);
  g_setenv ("BANGER_INTAKE", path, TRUE);
}

static BangerIntake
intake_of (Fixture *fixture)
{
  return (BangerIntake){ .verb = BANGER_INTAKE_TAR,
                         .what = "the tar",
                         .bad = BANGER_ERROR_INVALID_IMAGE,
                         .source_fd = fixture->source,
                         .stream = TRUE,
                         .target_fds = { fixture->targets[0], fixture->targets[1] },
                         .extra_fd = -1,
                         .target_bytes = (guint64)1 << 40,
                         .quiet_seconds = 1 };
}

static void
test_honest (Fixture *fixture, gconstpointer data)
{
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  take_over (fixture, "honest");
  const BangerIntake intake = intake_of (fixture);
  banger_intake_run (&intake, &answer, &error);
  g_assert_no_error (error);
  g_autofree char *zeros = g_malloc0 (4 << 20);
  g_autofree char *sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *)zeros, 4 << 20);
  g_assert_cmpstr (answer.digest + strlen ("sha256:"), ==, sum);
  g_assert_cmpuint (answer.result.seed_bytes, ==, 128 << 20);
  g_assert_cmpstr (answer.result.version, ==, "6.1.0");
}

static const struct {
  const char *name;
  int code;
  const char *words;
} taken_over[] = { { "hang", BANGER_ERROR_TIMEOUT, "nothing came of it for 1 seconds" },
                   { "babble", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
                   { "nonsense", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
                   { "endless-frame", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
                   { "half-a-frame", BANGER_ERROR_FAILED, "without an answer" },
                   { "die", BANGER_ERROR_INVALID_IMAGE, "by signal 9" },
                   { "mute", BANGER_ERROR_FAILED, "without an answer" },
                   { "early", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
                   { "twice", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
                   { "bad-status", BANGER_ERROR_INVALID_IMAGE, "nonsense" },
#ifndef __SANITIZE_ADDRESS__ /* has no bound for memory */
                   { "greedy", BANGER_ERROR_INVALID_IMAGE, "by signal 9" },
#endif
                   { "long-file", BANGER_ERROR_LIMITS_EXCEEDED, "more than it may" },
                   { "code", BANGER_ERROR_FAILED, "ask " },
                   { "not-there", BANGER_ERROR_FAILED, "cannot run" } };

static void
test_taken_over (Fixture *fixture, gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  take_over (fixture, taken_over[row].name);
  if (g_str_equal (taken_over[row].name, "not-there"))
    g_setenv ("BANGER_INTAKE", "/nonexistent/program", TRUE);
  const BangerIntake intake = intake_of (fixture);
  g_assert_false (banger_intake_run (&intake, &answer, &error));
  g_test_message ("%s", error->message);
  g_assert_error (error, BANGER_ERROR, taken_over[row].code);
  g_assert_nonnull (strstr (error->message, taken_over[row].words));
  g_assert_true (g_utf8_validate (error->message, -1, NULL));
  g_assert_null (strpbrk (error->message, "\033\n"));
  g_assert_null (answer.warnings);
}

static gpointer
cancel_later (gpointer data)
{
  g_usleep (100000);
  g_cancellable_cancel (data);
  return NULL;
}

static void
test_cancelled (Fixture *fixture, gconstpointer data)
{
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  take_over (fixture, "hang");
  BangerIntake intake = intake_of (fixture);
  intake.cancellable = cancellable;
  intake.quiet_seconds = 60;
  GThread *thread = g_thread_new ("cancel", cancel_later, cancellable);
  g_assert_false (banger_intake_run (&intake, &answer, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_CANCELLED);
  g_thread_join (thread);
}

static int
open_none (const char *name, gpointer data)
{
  return -1;
}

/* It takes no answer: nobody waits until it does. */
static void
test_asks (Fixture *fixture, gconstpointer data)
{
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  take_over (fixture, "ask");
  BangerIntake intake = intake_of (fixture);
  intake.stream = FALSE;
  intake.open = open_none;
  intake.quiet_seconds = 60;
  g_assert_false (banger_intake_run (&intake, &answer, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE);
  g_assert_nonnull (strstr (error->message, "nonsense"));
}

/* A pipe whose writer takes its time is waited for. */
static void
test_patience (Fixture *fixture, gconstpointer data)
{
  int ends[2];
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  take_over (fixture, "honest");
  g_assert_cmpint (pipe2 (ends, O_CLOEXEC), ==, 0);
  pid_t writer = fork ();
  if (writer == 0) {
    g_usleep (1500000);
    _exit (write (ends[1], "x", 1) != 1);
  }
  close (ends[1]);
  BangerIntake intake = intake_of (fixture);
  intake.source_fd = ends[0];
  banger_intake_run (&intake, &answer, &error);
  g_assert_no_error (error);
  close (ends[0]);
  g_assert_cmpint (waitpid (writer, NULL, 0), ==, writer);
}

/* What a pull still downloads. */
static void
take_much (double fraction, gpointer other)
{
  g_assert_cmpint (posix_fallocate (*(int *)other, 0, 40 << 20), ==, 0);
}

static const struct {
  const char *name, *words;
  BangerProgress meanwhile;
} full_disks[] = { { "fill", "unpacks to more than", NULL }, { "some", "of which others take, too", take_much } };

/* It ends before the disk is full. */
static void
test_full_disk (Fixture *fixture, gconstpointer data)
{
  guint row = GPOINTER_TO_UINT (data);
  if (unshare (CLONE_NEWNS) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
      || mount ("intake", fixture->dir, "tmpfs", 0, "size=64m") < 0)
  {
    g_test_skip ("mounting a small disk needs root");
    return;
  }
  g_auto (BangerIntakeAnswer) answer = { 0 };
  g_autoptr (GError) error = NULL;
  banger_autofd int dir = open (fixture->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  banger_autofd int first = openat (dir, "first", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  banger_autofd int second = openat (dir, "second", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  banger_autofd int other = openat (dir, "other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  take_over (fixture, full_disks[row].name);
  BangerIntake intake = intake_of (fixture);
  intake.target_fds[0] = first;
  intake.target_fds[1] = second;
  intake.quiet_seconds = 60;
  intake.progress = full_disks[row].meanwhile;
  intake.progress_data = &other;
  g_assert_false (banger_intake_run (&intake, &answer, &error));
  g_assert_error (error, BANGER_ERROR, BANGER_ERROR_NO_SPACE);
  g_assert_nonnull (strstr (error->message, full_disks[row].words));
  banger_clear_fd (&first);
  banger_clear_fd (&second);
  banger_clear_fd (&other);
  banger_clear_fd (&dir);
  g_assert_cmpint (umount (fixture->dir), ==, 0);
}

/* bangerd is killed: nothing works on for it. */
static void
test_parent_dies (Fixture *fixture, gconstpointer data)
{
  pid_t child = 0;
  take_over (fixture, "hang");
  pid_t manager = fork ();
  if (manager == 0) {
    BangerIntake intake = intake_of (fixture);
    g_auto (BangerIntakeAnswer) answer = { 0 };
    intake.quiet_seconds = 60;
    (void)banger_intake_run (&intake, &answer, NULL);
    _exit (0);
  }
  while (pread (fixture->targets[0], &child, sizeof child, 0) != (ssize_t)sizeof child)
    g_usleep (1000);
  int pidfd = (int)syscall (SYS_pidfd_open, child, 0);
  g_assert_cmpint (pidfd, >=, 0);
  kill (manager, SIGKILL);
  g_assert_cmpint (waitpid (manager, NULL, 0), ==, manager);
  GPollFD ended = { .fd = pidfd, .events = G_IO_IN };
  g_assert_cmpint (g_poll (&ended, 1, 10000), ==, 1);
  close (pidfd);
}

/* The real one */

typedef struct {
  BangerIntake intake;
  gboolean ok;
  GError *error;
} Thread;

static G_GNUC_UNUSED gpointer
run_thread (gpointer data)
{
  Thread *thread = data;
  g_auto (BangerIntakeAnswer) answer = { 0 };
  thread->ok = banger_intake_run (&thread->intake, &answer, &thread->error);
  return NULL;
}

static char *
proc_file (pid_t pid, const char *name, gsize *ret_length)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/%s", pid, name);
  char *text = NULL;
  g_assert_true (g_file_get_contents (path, &text, ret_length, NULL));
  return text;
}

static G_GNUC_UNUSED pid_t
child_of_ours (void)
{
  for (;;) {
    g_autoptr (GDir) tasks = g_dir_open ("/proc/self/task", 0, NULL);
    for (const char *name; (name = g_dir_read_name (tasks)) != NULL;) {
      g_autofree char *path = g_strdup_printf ("/proc/self/task/%s/children", name), *text = NULL;
      if (g_file_get_contents (path, &text, NULL, NULL) && atoi (text) > 0)
        return atoi (text);
    }
    g_usleep (1000);
  }
}

/* It is in its cage and waits for the tar. */
static G_GNUC_UNUSED void
wait_until_it_reads (pid_t pid)
{
  for (;;) {
    g_autofree char *call = proc_file (pid, "syscall", NULL);
    if (g_str_has_prefix (call, "7 ")) /* poll(2) */
      return;
    g_usleep (1000);
  }
}

static G_GNUC_UNUSED void
check_surroundings (pid_t pid)
{
  gsize length;
  g_autofree char *status = proc_file (pid, "status", NULL), *environment = proc_file (pid, "environ", &length),
                  *limits = proc_file (pid, "limits", NULL), *stat = proc_file (pid, "stat", NULL);
  g_assert_nonnull (strstr (status, "\nSeccomp:\t2\n"));
  g_assert_nonnull (strstr (status, "\nNoNewPrivs:\t1\n"));
  g_assert_cmpmem (environment, length, "LANG=C.UTF-8", strlen ("LANG=C.UTF-8") + 1);
  g_assert_true (g_regex_match_simple ("Max address space +2147483648 ", limits, 0, 0));
  g_assert_true (g_regex_match_simple ("Max cpu time +7200 ", limits, 0, 0));
  g_assert_true (g_regex_match_simple ("Max core file size +0 ", limits, 0, 0));
  g_assert_cmpint (getsid (pid), ==, pid);
  static const char *const targets[] = { [3] = "first", [4] = "second" };
  for (int fd = 0; fd < 64; fd++) {
    g_autofree char *path = g_strdup_printf ("/proc/%d/fd/%d", pid, fd), *link = g_file_read_link (path, NULL);
    g_assert_true ((link != NULL) == (fd <= 4));
    if (fd >= 3 && fd <= 4)
      g_assert_true (g_str_has_suffix (link, targets[fd]));
  }
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
/* As if its code had been taken over: makes it make a call. It stands in poll(2), whose instruction is used. */
static long
make_it (pid_t pid, long number, const long arguments[6])
{
  int status;
  struct user_regs_struct saved, regs;
  g_assert_cmpint (ptrace (PTRACE_GETREGS, pid, NULL, &saved), ==, 0);
  regs = saved;
  regs.rip -= 2;
  regs.orig_rax = ~0ull;
  regs.rax = (unsigned long long)number;
  unsigned long long *const registers[] = { &regs.rdi, &regs.rsi, &regs.rdx, &regs.r10, &regs.r8, &regs.r9 };
  for (guint i = 0; i < 6; i++)
    *registers[i] = (unsigned long long)arguments[i];
  g_assert_cmpint (ptrace (PTRACE_SETREGS, pid, NULL, &regs), ==, 0);
  g_assert_cmpint (ptrace (PTRACE_SINGLESTEP, pid, NULL, NULL), ==, 0);
  g_assert_cmpint (waitpid (pid, &status, __WALL), ==, pid);
  g_assert_true (WIFSTOPPED (status));
  g_assert_cmpint (ptrace (PTRACE_GETREGS, pid, NULL, &regs), ==, 0);
  g_assert_cmpint (ptrace (PTRACE_SETREGS, pid, NULL, &saved), ==, 0);
  return (long)regs.rax;
}

/* Returns: where "/etc/passwd" stands in its memory: far below its stack pointer. */
static long
put_path (pid_t pid)
{
  static const char path[16] = "/etc/passwd";
  struct user_regs_struct regs;
  g_assert_cmpint (ptrace (PTRACE_GETREGS, pid, NULL, &regs), ==, 0);
  for (guint i = 0; i < 2; i++) {
    long word;
    memcpy (&word, path + i * sizeof word, sizeof word);
    g_assert_cmpint (ptrace (PTRACE_POKEDATA, pid, (void *)(regs.rsp - 4096 + i * sizeof word), (void *)word), ==, 0);
  }
  return (long)(regs.rsp - 4096);
}

static G_GNUC_UNUSED void
check_cage (pid_t pid)
{
  int status;
  g_assert_cmpint (ptrace (PTRACE_SEIZE, pid, NULL, NULL), ==, 0);
  g_assert_cmpint (ptrace (PTRACE_INTERRUPT, pid, NULL, NULL), ==, 0);
  g_assert_cmpint (waitpid (pid, &status, __WALL), ==, pid);
  long path = put_path (pid);
  const struct {
    const char *name;
    long number, arguments[6];
  } calls[] = {
    { "openat", SYS_openat, { AT_FDCWD, path, O_RDONLY } },
    { "open", SYS_open, { path, O_RDONLY } },
    { "openat2", SYS_openat2, { AT_FDCWD, path } },
    { "socket", SYS_socket, { 1, 1 } },
    { "socketpair", SYS_socketpair, { 1, 1, 0, path } },
    { "connect", SYS_connect, { 0, path, 2 } },
    { "sendmsg", SYS_sendmsg, { 0, path } },
    { "execve", SYS_execve, { path } },
    { "execveat", SYS_execveat, { 3, path } },
    { "fork", SYS_fork, { 0 } },
    { "vfork", SYS_vfork, { 0 } },
    { "clone", SYS_clone, { SIGCHLD } },
    { "kill", SYS_kill, { -1, 0 } },
    { "kill parent", SYS_kill, { getpid (), 0 } },
    { "tgkill", SYS_tgkill, { getpid (), getpid (), 0 } },
    { "pidfd_open", SYS_pidfd_open, { getpid () } },
    { "ptrace", SYS_ptrace, { PTRACE_TRACEME } },
    { "process_vm_readv", SYS_process_vm_readv, { getpid () } },
    { "io_uring_setup", SYS_io_uring_setup, { 1, path } },
    { "unshare", SYS_unshare, { CLONE_NEWUSER } },
    { "mount", SYS_mount, { path, path } },
    { "stat", SYS_newfstatat, { AT_FDCWD, path, path - 4096 } },
    { "readlink", SYS_readlink, { path, path, 10 } },
    { "unlink", SYS_unlink, { path } },
    { "fchmod", SYS_fchmod, { 3, 06755 } },
    { "memfd_create", SYS_memfd_create, { path } },
    { "prctl", SYS_prctl, { 4, 1 } },
    { "setrlimit", SYS_setrlimit, { 0, path } },
  };
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++) {
    long answer = make_it (pid, calls[i].number, calls[i].arguments);
    if (answer != -EPERM && answer != -ENOSYS)
      g_error ("%s is answered with %ld", calls[i].name, answer);
  }
  g_assert_cmpint (make_it (pid, SYS_getpid, (const long[6]){ 0 }), ==, pid); /* the way of asking works */
  g_assert_cmpint (ptrace (PTRACE_DETACH, pid, NULL, NULL), ==, 0);
}
#else
static G_GNUC_UNUSED void
check_cage (pid_t pid)
{
}
#endif

static void
test_cage (Fixture *fixture, gconstpointer data)
{
#ifdef __SANITIZE_ADDRESS__
  g_test_skip ("sanitizers have no cage");
#else
  int ends[2];
  g_assert_cmpint (pipe2 (ends, O_CLOEXEC), ==, 0);
  Thread thread = { .intake = intake_of (fixture) };
  thread.intake.source_fd = ends[0];
  thread.intake.quiet_seconds = 60;
  GThread *runner = g_thread_new ("intake", run_thread, &thread);
  pid_t pid = child_of_ours ();
  if (geteuid () == 0) {
    wait_until_it_reads (pid);
    check_surroundings (pid);
    check_cage (pid);
  }
  g_assert_cmpint (write (ends[1], "not a tar", 9), ==, 9);
  close (ends[1]);
  g_thread_join (runner);
  close (ends[0]);
  g_assert_error (thread.error, BANGER_ERROR, BANGER_ERROR_INVALID_IMAGE);
  g_assert_nonnull (strstr (thread.error->message, "not a good tar"));
  g_clear_error (&thread.error);
  if (geteuid () != 0)
    g_test_skip ("only root may look into a program that is not dumpable");
#endif
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
#define ADD(path, data, func) g_test_add (path, Fixture, data, set_up, func, tear_down)
  ADD ("/intake/honest", NULL, test_honest);
  for (guint i = 0; i < G_N_ELEMENTS (taken_over); i++) {
    g_autofree char *path = g_strconcat ("/intake/taken-over/", taken_over[i].name, NULL);
    ADD (path, GUINT_TO_POINTER (i), test_taken_over);
  }
  ADD ("/intake/cancelled", NULL, test_cancelled);
  ADD ("/intake/asks", NULL, test_asks);
  ADD ("/intake/patience", NULL, test_patience);
  ADD ("/intake/parent-dies", NULL, test_parent_dies);
  ADD ("/intake/cage", NULL, test_cage);
  for (guint i = 0; i < G_N_ELEMENTS (full_disks); i++) {
    g_autofree char *path = g_strconcat ("/intake/full-disk/", full_disks[i].name, NULL);
    ADD (path, GUINT_TO_POINTER (i), test_full_disk);
  }
  return g_test_run ();
}
