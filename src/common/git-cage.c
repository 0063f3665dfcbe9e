/* The host's own git, asked about a repository that nobody vouches for. See git-cage.h.
 * Runs in worker threads.
 * Never trusts a configuration: the filter below is loaded before git is, and holds for all that git would start. */
#include "common/git-cage.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cage-rows.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/log.h"

#define GIT_FD 3 /* where the launching child holds git's binary; closed by the one exec that is allowed */
#define MAX_SECONDS 600
#define MAX_SAID 4096
#define MAX_SAID_WRITING (1 << 20) /* a line for each file */
#define MAX_HEAP (G_GUINT64_CONSTANT (4) << 30)
#define MAX_HEAP_WRITING (G_GUINT64_CONSTANT (2) << 30) /* it keeps all that it writes in there first */

/* clang-format off */
/* What git takes, whatever it does. Everything else fails with EPERM: fork, execve, sockets, modes and owners changed,
 * signals, namespaces, whatever a later kernel invents. */
static const BangerCageRow rows[] = {
  ALLOW ("read"), ALLOW ("pread64"), ALLOW ("readv"), ALLOW ("close"), ALLOW ("fstat"), ALLOW ("stat"), ALLOW ("lstat"),
  ALLOW ("newfstatat"), ALLOW ("statx"), ALLOW ("fstatfs"), ALLOW ("statfs"), ALLOW ("lseek"), ALLOW ("munmap"), ALLOW ("mremap"),
  ALLOW ("brk"), ALLOW ("madvise"), ALLOW ("fadvise64"), ALLOW ("access"), ALLOW ("faccessat"), ALLOW ("faccessat2"),
  ALLOW ("getcwd"), ALLOW ("chdir"), ALLOW ("fchdir"), ALLOW ("getdents64"), ALLOW ("readlink"), ALLOW ("readlinkat"),
  ALLOW ("umask"), ALLOW ("dup"), ALLOW ("dup2"), ALLOW ("dup3"), ALLOW ("poll"), ALLOW ("ppoll"), ALLOW ("rt_sigaction"),
  ALLOW ("rt_sigprocmask"), ALLOW ("rt_sigreturn"), ALLOW ("sigaltstack"), ALLOW ("getpid"), ALLOW ("gettid"), ALLOW ("getppid"),
  ALLOW ("getpgrp"), ALLOW ("getuid"), ALLOW ("geteuid"), ALLOW ("getgid"), ALLOW ("getegid"), ALLOW ("getrandom"), ALLOW ("futex"),
  ALLOW ("set_tid_address"), ALLOW ("arch_prctl"), ALLOW ("sched_getaffinity"), ALLOW ("sched_yield"), ALLOW ("uname"),
  ALLOW ("sysinfo"), ALLOW ("getrlimit"), ALLOW ("getrusage"), ALLOW ("clock_gettime"), ALLOW ("clock_nanosleep"),
  ALLOW ("nanosleep"), ALLOW ("gettimeofday"), ALLOW ("time"), ALLOW ("setitimer"), ALLOW ("restart_syscall"), ALLOW ("exit"),
  ALLOW ("exit_group"),
  ALLOW_IF ("mmap", 3, SCMP_CMP_MASKED_EQ, MAP_SHARED | MAP_PRIVATE, MAP_PRIVATE), ALLOW_NONE ("mmap", 2, PROT_WRITE),
  ALLOW_NONE ("mprotect", 2, PROT_EXEC),
  ALLOW_IF ("fcntl", 1, SCMP_CMP_LE, F_GETFL, 0), /* F_DUPFD, F_GETFD, F_SETFD, F_GETFL */
  ALLOW_VALUE ("fcntl", 1, F_DUPFD_CLOEXEC),
  ALLOW_VALUE ("prlimit64", 2, 0), /* asked, not set */
  ALWAYS ("ioctl", ENOTTY),        /* what isatty(3) makes of it: no pager, no progress */
  /* The one exec. What git would start, it would start with execve(2). */
  { "execveat", 0, 2, { { 0, SCMP_CMP_EQ, GIT_FD, 0 }, { 4, SCMP_CMP_EQ, AT_EMPTY_PATH, 0 } } },
  END_OF_ROWS,
};

/* Beside it, where git says what is in a repository: no file is made, changed or removed. */
static const BangerCageRow reading[] = {
  /* Its answer and its complaints; no other file is ever written. */
  ALLOW_IF ("write", 0, SCMP_CMP_LE, 2, 0), ALLOW_IF ("writev", 0, SCMP_CMP_LE, 2, 0),
  /* git opens /dev/null for both ways at its start, for streams that it has already: it believes that it got one of
   * them. Whatever else is open for both ways could be made its answer, and be written. */
  ALLOW_NONE ("openat", 2, O_ACCMODE | O_CREAT | O_TRUNC), ALLOW_NONE ("open", 1, O_ACCMODE | O_CREAT | O_TRUNC),
  ROW ("openat", BANGER_CAGE_NOTHING, 2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDWR),
  ROW ("open", BANGER_CAGE_NOTHING, 1, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDWR),
  END_OF_ROWS,
};

/* Beside it, where git works on a repository that was made for that. Where files are is not what this can see: Landlock
 * does, but only of files that are opened to be written. With O_TRUNC a file loses what is in it also if it is opened to be
 * read, or for nothing (3). */
static const BangerCageRow writing[] = {
  ALLOW_NONE ("openat", 2, O_ACCMODE | O_TRUNC), ALLOW_NONE ("open", 1, O_ACCMODE | O_TRUNC),
  ALLOW_IF ("openat", 2, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_WRONLY), ALLOW_IF ("open", 1, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_WRONLY),
  ALLOW_IF ("openat", 2, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_RDWR), ALLOW_IF ("open", 1, SCMP_CMP_MASKED_EQ, O_ACCMODE, O_RDWR),
  ALLOW ("write"), ALLOW ("writev"), ALLOW ("pwrite64"), ALLOW ("ftruncate"), ALLOW ("fsync"),
  ALLOW ("fdatasync"), ALLOW ("mkdir"), ALLOW ("mkdirat"), ALLOW ("rmdir"), ALLOW ("unlink"), ALLOW ("unlinkat"), ALLOW ("rename"),
  ALLOW ("renameat"), ALLOW ("renameat2"), ALLOW ("link"), ALLOW ("linkat"), ALLOW ("symlink"), ALLOW ("symlinkat"),
  END_OF_ROWS,
};

/* clang-format on */

static const BangerCageTable tables[] = {
  { EPERM, { rows, reading, banger_cage_threads } },
  { EPERM, { rows, writing, banger_cage_threads } },
};

/* The same for all: built once, before any child needs them. */
static const BangerCage *
get_cage (gboolean writes, GError **error)
{
  static BangerCage *cages[G_N_ELEMENTS (tables)];
  static int failed;
  static gsize once;
  if (g_once_init_enter (&once)) {
    for (guint i = 0; i < G_N_ELEMENTS (tables); i++)
      if (!(cages[i] = banger_cage_new (&tables[i])))
        failed = errno;
    g_once_init_leave (&once, 1);
  }
  if (!cages[writes])
    banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, failed, "cannot build the cage that git runs in");
  return cages[writes];
}

#define LANDLOCK_FILES                                                                                                 \
  (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE                      \
   | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define LANDLOCK_NEVER                                                                                                 \
  (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO                          \
   | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

static gboolean
add_place (int rules, const char *path, guint64 access)
{
  banger_autofd int fd = open (path, O_PATH | O_CLOEXEC);
  const struct landlock_path_beneath_attr place = { .allowed_access = access, .parent_fd = fd };
  return fd >= 0 && syscall (SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &place, 0) == 0;
}

/* What may be written: below @folder. git opens /dev/null for both ways. Returns: -1 with @error. */
static int
make_rules (const char *folder, GError **error)
{
  const struct landlock_ruleset_attr wanted = { .handled_access_fs = LANDLOCK_FILES | LANDLOCK_NEVER };
  banger_autofd int rules = (int)syscall (SYS_landlock_create_ruleset, &wanted, sizeof wanted, 0);
  if (rules < 0 || !add_place (rules, folder, LANDLOCK_FILES)
      || !add_place (rules, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE))
  {
    banger_set_error_errno (error, BANGER_ERROR_NOT_SUPPORTED, errno,
                            "cannot keep git in one folder: this kernel lacks Landlock");
    return -1;
  }
  return banger_steal_fd (&rules);
}

/* Nothing but what is in the folder itself. */
static char **
make_empty_environment (void)
{
  static const char *const fixed[] = { "LC_ALL=C",
                                       "PATH=/nonexistent",
                                       "HOME=/nonexistent",
                                       "GIT_CONFIG_NOSYSTEM=1",
                                       "GIT_CONFIG_GLOBAL=/dev/null",
                                       "GIT_ATTR_NOSYSTEM=1",
                                       "GIT_DIR=.git",
                                       "GIT_WORK_TREE=.",
                                       "GIT_TERMINAL_PROMPT=0",
                                       "GIT_NO_LAZY_FETCH=1",
                                       NULL };
  return g_strdupv ((char **)fixed);
}

/* The owner's own choices of which configuration holds; everything else that could steer git is left out. */
static char **
make_environment (void)
{
  static const char *const kept[] = { "XDG_CONFIG_HOME",         "GIT_CONFIG_GLOBAL",
                                      "GIT_CONFIG_SYSTEM",       "GIT_CONFIG_NOSYSTEM",
                                      "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM" };
  GStrvBuilder *builder = g_strv_builder_new ();
  static const char *const fixed[] = {
    "LC_ALL=C", "PATH=/nonexistent", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", NULL
  };
  g_strv_builder_addv (builder, (const char **)fixed);
  g_autofree char *home = g_strconcat ("HOME=", g_get_home_dir (), NULL);
  g_strv_builder_add (builder, home);
  for (guint i = 0; i < G_N_ELEMENTS (kept); i++) {
    const char *value = g_getenv (kept[i]);
    g_autofree char *pair = g_strconcat (kept[i], "=", value, NULL);
    if (value)
      g_strv_builder_add (builder, pair);
  }
  char **environment = g_strv_builder_end (builder);
  g_strv_builder_unref (builder);
  return environment;
}

typedef struct {
  int git_fd, null_fd, out[2], err[2];
  int rules_fd; /* where it may write; -1: it may not */
  int in_fd;    /* its stdin, not ours; -1: /dev/null */
  char **argv, **envp;
  const BangerCage *cage;
  pid_t pid;
} Launch;

#define LAUNCH_INIT                                                                                                    \
  {                                                                                                                    \
    .git_fd = -1, .null_fd = -1, .out = { -1, -1 }, .err = { -1, -1 }, .rules_fd = -1, .in_fd = -1                     \
  }

static void
launch_clear (Launch *launch)
{
  banger_clear_fd (&launch->git_fd);
  banger_clear_fd (&launch->null_fd);
  banger_clear_fd (&launch->rules_fd);
  for (guint i = 0; i < 2; i++) {
    banger_clear_fd (&launch->out[i]);
    banger_clear_fd (&launch->err[i]);
  }
  g_free (launch->argv);
  g_strfreev (launch->envp);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Launch, launch_clear)

static gboolean
launch_prepare (Launch *launch, const char *folder, const char *const *words, gboolean writes, GError **error)
{
  g_autofree char *program = g_find_program_in_path ("git");
  if (!program)
    return banger_set_error (error, BANGER_ERROR_NOT_SUPPORTED, "git is not installed: apt-get install git");
  if (!(launch->cage = get_cage (writes, error)) || (writes && (launch->rules_fd = make_rules (folder, error)) < 0))
    return FALSE;
  launch->git_fd = open (program, O_PATH | O_CLOEXEC);
  launch->null_fd = open ("/dev/null", O_RDWR | O_CLOEXEC);
  if (launch->git_fd < 0 || launch->null_fd < 0 || pipe2 (launch->out, O_CLOEXEC) < 0
      || pipe2 (launch->err, O_CLOEXEC) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot run %s", program);
  /* Without this the cage refuses git's fsmonitor, and git says so on each call. */
  static const char *const first[] = { "git", "--no-pager", "-c", "core.fsmonitor=false", "-C" };
  GPtrArray *argv = g_ptr_array_new ();
  for (guint i = 0; i < G_N_ELEMENTS (first); i++)
    g_ptr_array_add (argv, (gpointer)first[i]);
  g_ptr_array_add (argv, (gpointer)folder);
  for (; *words; words++)
    g_ptr_array_add (argv, (gpointer)*words);
  g_ptr_array_add (argv, NULL);
  launch->argv = (char **)g_ptr_array_free (argv, FALSE);
  launch->envp = writes ? make_empty_environment () : make_environment ();
  return TRUE;
}

/* In the child: nothing that takes a lock or memory. */
static G_NORETURN void
launch_child (const Launch *launch)
{
  static const struct rlimit no_core = { 0, 0 },
                             heaps[] = { { MAX_HEAP, MAX_HEAP }, { MAX_HEAP_WRITING, MAX_HEAP_WRITING } };
  gboolean writes = launch->rules_fd >= 0;
  sigset_t none;
  sigemptyset (&none);
  for (int number = 1; number < NSIG; number++)
    signal (number, SIG_DFL);
  sigprocmask (SIG_SETMASK, &none, NULL);
  setpgid (0, 0);
  int git = fcntl (launch->git_fd, F_DUPFD_CLOEXEC, 10);
  int out = fcntl (launch->out[1], F_DUPFD_CLOEXEC, 10), err = fcntl (launch->err[1], F_DUPFD_CLOEXEC, 10);
  int in = fcntl (launch->in_fd >= 0 ? launch->in_fd : launch->null_fd, F_DUPFD_CLOEXEC, 10);
  int rules = writes ? fcntl (launch->rules_fd, F_DUPFD_CLOEXEC, 10) : -1;
  gboolean fine = !writes
                  || (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                      && syscall (SYS_landlock_restrict_self, rules, 0) == 0);
  fine = fine && dup2 (in, 0) == 0 && dup2 (out, 1) == 1 && dup2 (err, 2) == 2
         && dup3 (git, GIT_FD, O_CLOEXEC) == GIT_FD && syscall (SYS_close_range, GIT_FD + 1, ~0U, 0) == 0
         && setrlimit (RLIMIT_CORE, &no_core) == 0 && setrlimit (RLIMIT_DATA, &heaps[writes]) == 0
         && prctl (PR_SET_PDEATHSIG, SIGKILL) == 0 && banger_cage_enter (launch->cage) == 0;
  if (fine)
    syscall (SYS_execveat, GIT_FD, "", launch->argv, launch->envp, AT_EMPTY_PATH);
  static const char text[] = "git cannot be caged: this kernel lacks seccomp, or git is not a plain program\n";
  if (write (2, text, sizeof text - 1) < 0)
    _exit (126);
  _exit (127);
}

static void
end_group (pid_t pid)
{
  kill (-pid, SIGKILL);
  kill (pid, SIGKILL); /* it may not have made its group yet */
}

/* @fd: -1 afterwards at the end of the file. What is over @max is read and dropped, and the length is max + 1 then. */
static gboolean
take (int *fd, GString *text, gsize max, GError **error)
{
  char buffer[65536];
  ssize_t n = read (*fd, buffer, sizeof buffer);
  if (n < 0)
    return errno == EINTR || errno == EAGAIN
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read what git says");
  if (n == 0)
    *fd = -1;
  if (text->len <= max)
    g_string_append_len (text, buffer, (gssize)MIN ((gsize)n, max + 1 - text->len));
  return TRUE;
}

/* Until both pipes end, @cancellable ends it, the answer is too long or the time is over. */
static gboolean
collect (Launch *launch, GString *out, GString *err, gsize max, int wake_fd, GCancellable *cancellable, GError **error)
{
  gint64 end = g_get_monotonic_time () + MAX_SECONDS * G_TIME_SPAN_SECOND;
  GPollFD cancelled = { .fd = wake_fd };
  gboolean watched = cancellable && g_cancellable_make_pollfd (cancellable, &cancelled);
  struct pollfd fds[] = { { launch->out[0], POLLIN, 0 }, { launch->err[0], POLLIN, 0 }, { cancelled.fd, POLLIN, 0 } };
  gboolean fine = TRUE;
  while (fine && (fds[0].fd >= 0 || fds[1].fd >= 0)) {
    int n = poll (fds, G_N_ELEMENTS (fds), 1000);
    if (n > 0 && fds[0].revents)
      fine = take (&fds[0].fd, out, max, error);
    if (n > 0 && fds[1].revents)
      fine = fine && take (&fds[1].fd, err, launch->rules_fd >= 0 ? MAX_SAID_WRITING : MAX_SAID, error);
    if (!fine)
      break;
    if (g_cancellable_set_error_if_cancelled (cancellable, error))
      fine = FALSE;
    else if (wake_fd >= 0 && n > 0 && fds[2].revents)
      fine = banger_set_error (error, BANGER_ERROR_CANCELLED, "interrupted");
    else if (out->len > max)
      fine = banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED,
                               "git says more about this repository than %" G_GSIZE_FORMAT " bytes", max);
    else if (g_get_monotonic_time () > end)
      fine = banger_set_error (error, BANGER_ERROR_TIMEOUT, "git has not ended after %d s", MAX_SECONDS);
  }
  if (watched)
    g_cancellable_release_fd (cancellable);
  return fine;
}

/* git's words as one line, without the word that begins them. */
static gboolean
git_said (const char *folder, GString *err, GError **error)
{
  g_auto (GStrv) words = g_strsplit_set (err->str, " \t\n", -1);
  GString *line = g_string_new (NULL);
  for (char **word = words; *word; word++) {
    if (**word == '\0' || (line->len == 0 && g_str_equal (*word, "fatal:")))
      continue;
    g_string_append_printf (line, "%s%s", line->len > 0 ? " " : "", *word);
  }
  g_autofree char *raw = g_string_free (line, FALSE);
  g_autofree char *text = banger_log_escape (raw, 1024), *where = banger_log_escape (folder, PATH_MAX);
  return banger_set_error (error, BANGER_ERROR_INVALID_PATH, "git cannot use '%s': %s", where,
                           *text ? text : "it said nothing");
}

/* Whole lines alone: what was over the bound is cut. */
static void
take_warnings (const GString *err, GPtrArray *warnings)
{
  static const char word[] = "warning: ";
  g_auto (GStrv) lines = g_strsplit (err->str, "\n", -1);
  for (char **line = lines; *line && line[1]; line++)
    if (g_str_has_prefix (*line, word))
      g_ptr_array_add (warnings, g_strdup (*line + strlen (word)));
}

GString *
banger_git_run (const char *folder, const char *const *words, gsize max, GCancellable *cancellable, GError **error)
{
  return banger_git_run_warned (folder, words, max, NULL, cancellable, error);
}

/* Returns: whether it ended by itself; then @ret_status is as of waitpid(2). */
static gboolean
launch_run (Launch *launch, GString *out, GString *err, gsize max, int wake_fd, GCancellable *cancellable,
            int *ret_status, GError **error)
{
  launch->pid = fork ();
  if (launch->pid == 0)
    launch_child (launch);
  if (launch->pid < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot start git");
  banger_clear_fd (&launch->out[1]);
  banger_clear_fd (&launch->err[1]);
  gboolean fine = collect (launch, out, err, max, wake_fd, cancellable, error);
  if (!fine)
    end_group (launch->pid);
  while (waitpid (launch->pid, ret_status, 0) < 0 && errno == EINTR)
    ;
  return fine;
}

GString *
banger_git_run_warned (const char *folder, const char *const *words, gsize max, GPtrArray *warnings,
                       GCancellable *cancellable, GError **error)
{
  g_auto (Launch) launch = LAUNCH_INIT;
  if (g_cancellable_set_error_if_cancelled (cancellable, error)
      || !launch_prepare (&launch, folder, words, FALSE, error))
    return NULL;
  g_autoptr (GString) out = g_string_new (NULL);
  g_autoptr (GString) err = g_string_new (NULL);
  int status = 0;
  gboolean fine = launch_run (&launch, out, err, max, -1, cancellable, &status, error);
  if (fine && status != 0)
    fine = git_said (folder, err, error);
  if (fine && warnings)
    take_warnings (err, warnings);
  return fine ? g_steal_pointer (&out) : NULL;
}

GString *
banger_git_run_within (const char *folder, const char *const *words, const BangerGitEnds *ends, GError **error)
{
  g_auto (Launch) launch = LAUNCH_INIT;
  if (!launch_prepare (&launch, folder, words, TRUE, error))
    return NULL;
  launch.in_fd = ends->in;
  g_autoptr (GString) out = g_string_new (NULL);
  int status = 0;
  gboolean fine = launch_run (&launch, out, ends->said, ends->max, ends->wake, NULL, &status, error);
  if (fine && status != 0)
    fine = git_said (folder, ends->said, error);
  return fine ? g_steal_pointer (&out) : NULL;
}
