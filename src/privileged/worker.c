/* Programs that judge what the owner made, without any right of root.
 * Runs in worker threads.
 * Never allocates, logs or takes a lock between fork and exec: the helper has threads. */
#include "privileged/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/pidfd.h"

#define FIRST_FREE 10 /* descriptors are moved above those that the program gets */
#define KILLED_MS 1000
#define MAX_UNREAPED 8

typedef enum {
  STEP_NAMESPACE,
  STEP_ROOT,
  STEP_STREAMS,
  STEP_LIMITS,
  STEP_RIGHTS,
  STEP_EXEC,
} Step;

static const char *const step_names[] = {
  [STEP_NAMESPACE] = "making its namespaces",    [STEP_ROOT] = "making its root",
  [STEP_STREAMS] = "setting up its descriptors", [STEP_LIMITS] = "setting its limits",
  [STEP_RIGHTS] = "giving up root's rights",     [STEP_EXEC] = "executing it",
};

typedef struct {
  int step, errnum;
} Report;

/* Everything the child uses. */
typedef struct {
  const BangerWorker *worker;
  pid_t parent;
  int program, request, image, null, output, report;
} Child;

static void fail (const Child *child, Step step) G_GNUC_NORETURN;

static void
fail (const Child *child, Step step)
{
  const Report report = { step, errno };
  (void)!write (child->report, &report, sizeof report);
  _exit (127);
}

static int
make_folders (int root)
{
  static const char *const names[] = { "usr", "usr/local", "etc", "dev" };
  for (size_t i = 0; i < G_N_ELEMENTS (names); i++)
    if (mkdirat (root, names[i], 0755) < 0)
      return -1;
  return 0;
}

/* pivot_root(2): the old root lies over the new one, until it is taken away. Both can be done here, or the program does
 * not run. */
static void
enter_root (const Child *child)
{
  const BangerJailPlan *plan = child->worker->root;
  if (unshare (CLONE_NEWNS | CLONE_NEWIPC) < 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
      || mount ("banger-worker", plan->top, "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=0755") < 0)
    fail (child, STEP_NAMESPACE);
  int root = open (plan->top, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (root < 0 || make_folders (root) < 0 || banger_jail_put_binds (plan, root) < 0
      || banger_jail_put_nodes (plan, root) < 0)
    fail (child, STEP_ROOT);
  if (fchdir (root) < 0 || syscall (SYS_pivot_root, ".", ".") < 0 || umount2 (".", MNT_DETACH) < 0 || chdir ("/") < 0)
    fail (child, STEP_ROOT);
}

static int
limit (int resource, rlim_t value)
{
  const struct rlimit both = { value, value };
  return setrlimit (resource, &both);
}

static void
set_limits (const Child *child)
{
  const BangerWorker *worker = child->worker;
  if (limit (RLIMIT_CORE, 0) < 0 || limit (RLIMIT_FSIZE, worker->file_bytes) < 0
      || limit (RLIMIT_CPU, worker->seconds) < 0 || limit (RLIMIT_NOFILE, 32) < 0)
    fail (child, STEP_LIMITS);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is larger than any limit */
  if (limit (RLIMIT_AS, worker->memory_bytes) < 0)
    fail (child, STEP_LIMITS);
#endif
}

/* capabilities(7): leaving uid 0 clears every set. NPROC comes after, as setting the uid counts, too: setrlimit(2). */
static void
give_up_rights (const Child *child)
{
  const BangerWorker *worker = child->worker;
  if (syscall (SYS_setgroups, 0, NULL) < 0 || syscall (SYS_setresgid, worker->gid, worker->gid, worker->gid) < 0
      || syscall (SYS_setresuid, worker->uid, worker->uid, worker->uid) < 0
      || prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || (!worker->cage && limit (RLIMIT_NPROC, 0) < 0)
      || prctl (PR_SET_PDEATHSIG, SIGKILL) < 0)
    fail (child, STEP_RIGHTS);
  if (getppid () != child->parent) /* it died before it could be noticed */
    _exit (127);
  if (worker->cage && banger_cage_enter (worker->cage) < 0)
    fail (child, STEP_RIGHTS);
}

static void
reset_signals (void)
{
  const struct sigaction standard = { .sa_handler = SIG_DFL };
  sigset_t none;
  for (int sig = 1; sig < NSIG; sig++)
    (void)sigaction (sig, &standard, NULL);
  sigemptyset (&none);
  (void)sigprocmask (SIG_SETMASK, &none, NULL);
}

static void run_child (const Child *child) G_GNUC_NORETURN;

static void
run_child (const Child *child)
{
  static char *environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LANG=C.UTF-8",
                                 (char *)"E2FSCK_CONFIG=/dev/null", /* may ask for a log, for which it forks */
                                 NULL };
  reset_signals ();
  umask (022);
  if (setsid () < 0 || chdir ("/") < 0)
    fail (child, STEP_STREAMS);
  if (child->worker->root)
    enter_root (child);
  if (dup2 (child->request >= 0 ? child->request : child->null, 0) < 0 || dup2 (child->output, 1) < 0
      || dup2 (child->null, 2) < 0 || (child->image >= 0 && dup2 (child->image, 3) < 0)
      || syscall (SYS_close_range, child->image >= 0 ? 4u : 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
    fail (child, STEP_STREAMS);
  set_limits (child);
  give_up_rights (child);
  (void)syscall (SYS_execveat, child->program, "", child->worker->argv, environment, AT_EMPTY_PATH);
  fail (child, STEP_EXEC);
}

/* The parent */

typedef struct {
  pid_t pid;
  int pidfd, output, report; /* read ends */
  gint64 end;                /* monotonic, µs */
} Running;

static void
child_clear (Child *child)
{
  int *fds[] = { &child->program, &child->request, &child->image, &child->null, &child->output, &child->report };
  for (size_t i = 0; i < G_N_ELEMENTS (fds); i++)
    banger_clear_fd (fds[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Child, child_clear)

/* The owner may trace a program that runs with the owner's uid: then it ends when its tracer lets it, and is the
 * helper's to reap when the tracer has gone, ptrace(2). Until then its number stays in use. */
static GMutex unreaped_lock;
static GArray *unreaped; /* of pid_t */

static void
reap_later (pid_t pid)
{
  g_mutex_lock (&unreaped_lock);
  if (!unreaped)
    unreaped = g_array_new (FALSE, FALSE, sizeof pid);
  g_array_append_val (unreaped, pid);
  g_mutex_unlock (&unreaped_lock);
}

/* Returns: how many are still there. When the helper ends they are init's. */
static guint
reap_earlier (void)
{
  g_mutex_lock (&unreaped_lock);
  for (guint i = unreaped ? unreaped->len : 0; i-- > 0;) {
    siginfo_t info = { 0 };
    if (waitid (P_PID, (id_t)g_array_index (unreaped, pid_t, i), &info, WEXITED | WNOHANG) < 0 || info.si_pid != 0)
      g_array_remove_index_fast (unreaped, i);
  }
  guint n = unreaped ? unreaped->len : 0;
  g_mutex_unlock (&unreaped_lock);
  return n;
}

/* Kills what is left; nothing is left of a program that ended, unless it is traced. */
static void
running_clear (Running *running)
{
  siginfo_t info = { 0 };
  struct pollfd ended = { .fd = running->pidfd, .events = POLLIN };
  if (running->pidfd >= 0) {
    (void)banger_pidfd_send_signal (running->pidfd, SIGKILL);
    while (poll (&ended, 1, KILLED_MS) < 0 && errno == EINTR)
      ;
    if (waitid (P_PIDFD, (id_t)running->pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
      reap_later (running->pid);
  }
  banger_clear_fd (&running->pidfd);
  banger_clear_fd (&running->output);
  banger_clear_fd (&running->report);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Running, running_clear)

static int
above (int fd)
{
  return fd < 0 ? -1 : fcntl (fd, F_DUPFD_CLOEXEC, FIRST_FREE);
}

/* The helper's end does not block: another child that has not executed yet may hold a copy of the other end open. */
static gboolean
make_pipe (int *ret_read, int *ret_write)
{
  int ends[2];
  if (pipe2 (ends, O_CLOEXEC) < 0)
    return FALSE;
  *ret_read = ends[0];
  *ret_write = above (ends[1]);
  close (ends[1]);
  return *ret_write >= 0 && fcntl (ends[0], F_SETFL, O_NONBLOCK) == 0;
}

static gboolean
start (const BangerWorker *worker, const char *what, Running *running, GError **error)
{
  banger_autofd int null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  banger_autofd int request = worker->request ? worker->request (worker->request_data, error) : -1;
  if (worker->request && request < 0)
    return FALSE;
  g_auto (Child) child = {
    worker, getpid (), above (worker->program_fd), above (request), above (worker->image_fd), above (null), -1, -1
  };
  if (child.program < 0 || child.null < 0 || (request >= 0 && child.request < 0)
      || (worker->image_fd >= 0 && child.image < 0) || !make_pipe (&running->output, &child.output)
      || !make_pipe (&running->report, &child.report))
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot start %s", what);
  running->pid = fork ();
  if (running->pid == 0)
    run_child (&child);
  running->pidfd = running->pid < 0 ? -1 : banger_pidfd_open (running->pid);
  return running->pidfd >= 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot start %s", what);
}

/* Readable for good once the helper ends; -1 if there are no descriptors left, and then nothing is interrupted. */
static int
stop_event (void)
{
  static gsize event;
  if (g_once_init_enter (&event))
    g_once_init_leave (&event, (gsize)eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK) + 2);
  return (int)event - 2;
}

/* Milliseconds that are left; 0 when the time is over. */
static int
left (const Running *running)
{
  gint64 usec = running->end - g_get_monotonic_time ();
  return usec <= 0 ? 0 : (int)(usec / 1000) + 1;
}

/* What is there now. @ret_open: whether more can come. */
static gboolean
take_output (const BangerWorker *worker, const Running *running, const char *what, GByteArray *output,
             gboolean *ret_open, GError **error)
{
  guint8 bytes[16384];
  for (;;) {
    ssize_t n = read (running->output, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR)
      continue;
    *ret_open = n < 0 && errno == EAGAIN;
    if (n <= 0)
      return n == 0 || *ret_open
             || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read what %s says", what);
    if ((size_t)n > worker->max_output - output->len)
      return banger_set_error (error, BANGER_ERROR_FAILED, "%s says more than %zu bytes", what, worker->max_output);
    g_byte_array_append (output, bytes, (guint)n);
  }
}

/* Until it has ended; its output may be closed before, or be held open by others after. */
static gboolean
follow (const BangerWorker *worker, const Running *running, const char *what, GByteArray *output, GError **error)
{
  struct pollfd fds[] = { { .fd = running->pidfd, .events = POLLIN },
                          { .fd = running->output, .events = POLLIN },
                          { .fd = worker->interruptible ? stop_event () : -1, .events = POLLIN } };
  for (;;) {
    gboolean open = TRUE;
    int r = poll (fds, G_N_ELEMENTS (fds), left (running));
    if (r < 0 && errno == EINTR)
      continue;
    if (r <= 0)
      return banger_set_error (error, BANGER_ERROR_TIMEOUT, "%s did not end within %u s", what, worker->seconds);
    if (fds[2].revents)
      return banger_set_error (error, BANGER_ERROR_CANCELLED, "%s was ended, as the helper ends", what);
    if (!take_output (worker, running, what, output, &open, error))
      return FALSE;
    if (fds[0].revents)
      return TRUE;
    if (!open)
      fds[1].fd = -1;
  }
}

/* A step that failed before the program ran. */
static gboolean
check_report (const Running *running, const char *what, GError **error)
{
  Report report;
  ssize_t n = read (running->report, &report, sizeof report);
  if (n != (ssize_t)sizeof report || report.step < 0 || report.step > STEP_EXEC)
    return TRUE;
  return banger_set_error_errno (error, BANGER_ERROR_FAILED, report.errnum, "cannot start %s: %s", what,
                                 step_names[report.step]);
}

static gboolean
take_status (Running *running, const char *what, int *ret_status, GError **error)
{
  siginfo_t info = { 0 };
  if (waitid (P_PIDFD, (id_t)running->pidfd, &info, WEXITED | WNOHANG) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot learn how %s ended", what);
  if (info.si_pid == 0)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot learn how %s ended: another process traces it", what);
  banger_clear_fd (&running->pidfd);
  if (info.si_code != CLD_EXITED)
    return banger_set_error (error, BANGER_ERROR_FAILED, "%s was ended by signal %d", what, info.si_status);
  *ret_status = info.si_status;
  return TRUE;
}

/* Each may take a lot of memory: so many at once, in the order in which they were asked for. Who waits for a turn waits as
 * long as those before may run. */
static GMutex turn_lock;
static GCond turn_over;
static guint64 asked, ended;

static void
take_turn (guint64 at_once)
{
  g_mutex_lock (&turn_lock);
  for (guint64 own = asked++; own - ended >= MAX (1, at_once);)
    g_cond_wait (&turn_over, &turn_lock);
  g_mutex_unlock (&turn_lock);
}

static void
give_turn (void)
{
  g_mutex_lock (&turn_lock);
  ended++;
  g_cond_broadcast (&turn_over);
  g_mutex_unlock (&turn_lock);
}

static GByteArray *
run (const BangerWorker *worker, const char *what, int *ret_status, GError **error)
{
  g_autoptr (GByteArray) output = g_byte_array_new ();
  g_auto (Running) running = { 0, -1, -1, -1, g_get_monotonic_time () + worker->seconds * G_USEC_PER_SEC };
  guint before = reap_earlier ();
  if (before >= MAX_UNREAPED) {
    banger_set_error (error, BANGER_ERROR_FAILED, "cannot start %s: %u programs before it have not ended yet", what,
                      before);
    return NULL;
  }
  if (!start (worker, what, &running, error) || !follow (worker, &running, what, output, error)
      || !check_report (&running, what, error) || !take_status (&running, what, ret_status, error))
    return NULL;
  return g_steal_pointer (&output);
}

GByteArray *
banger_worker_run (const BangerWorker *worker, const char *what, int *ret_status, GError **error)
{
  take_turn (worker->at_once);
  GByteArray *output = run (worker, what, ret_status, error);
  give_turn ();
  return output;
}

void
banger_worker_stop (void)
{
  const guint64 one = 1;
  (void)!write (stop_event (), &one, sizeof one);
}
