/* Starting banger-intake, feeding it, listening to it, ending it.
 * Runs in worker threads.
 * Never passes on a descriptor that it was not told to, never reads a byte of the source but to digest it. */
#include "manager/disk/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/fd.h"
#include "common/pidfd.h"

#define PROGRAM BANGER_LIBEXECDIR "/banger-intake"
#define MEMORY_BYTES ((rlim_t)2 << 30)
#define CPU_SECONDS 7200
#define QUIET_SECONDS 600
#define LOOK_MSEC 200
#define LATER_MSEC 20 /* until a file that comes is looked for again */
#define KILLED_MSEC 5000
#define BUFFER_BYTES ((gsize)256 << 10)
#define RESERVE_BYTES ((guint64)256 << 20) /* of the disk, for everybody else */

typedef struct {
  const BangerIntake *intake;
  pid_t pid;
  int pidfd, answer, feed; /* feed: -1 when the program has all, or wants no more */
  int files;               /* by which it gets what it asks for; -1: it cannot ask */
  char *asked;             /* what it waits for */
  BangerIntakeReader *reader;
  BangerDigest *digest;
  guint8 *buffer;
  gsize at, filled;        /* of the buffer, not sent yet */
  guint64 streamed, total; /* total 0: unknown */
  gboolean source_ended;
  guint64 room, before, floor; /* bytes of the disk: that the targets may take, that they took, that stay free */
  gint64 alive_at;             /* monotonic, µs */
} Run;

/* The child, between fork and exec */

typedef struct {
  pid_t parent;
  rlim_t file_bytes;
} Setup;

static int
limit (int resource, rlim_t value)
{
  const struct rlimit both = { value, value };
  return setrlimit (resource, &both);
}

static void
set_up_child (gpointer data)
{
  const Setup *setup = data;
  gboolean done = setsid () >= 0 && limit (RLIMIT_CORE, 0) == 0 && limit (RLIMIT_CPU, CPU_SECONDS) == 0
                  && limit (RLIMIT_FSIZE, setup->file_bytes) == 0 && limit (RLIMIT_NOFILE, 64) == 0
                  && limit (RLIMIT_MEMLOCK, 0) == 0 && prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                  && prctl (PR_SET_PDEATHSIG, SIGKILL) == 0;
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is larger than any limit */
  done = done && limit (RLIMIT_AS, MEMORY_BYTES) == 0;
#endif
  if (!done || getppid () != setup->parent)
    _exit (127);
}

/* Starting and ending */

static void
run_init (Run *run, const BangerIntake *intake)
{
  struct stat st;
  *run = (Run){
    .intake = intake, .pid = -1, .pidfd = -1, .answer = -1, .feed = -1, .files = -1, .total = intake->expected_bytes
  };
  run->reader = banger_intake_reader_new ();
  run->alive_at = g_get_monotonic_time ();
  if (!intake->stream)
    return;
  run->digest = banger_digest_new ();
  run->buffer = g_malloc (BUFFER_BYTES);
  if (run->total == 0 && fstat (intake->source_fd, &st) == 0 && S_ISREG (st.st_mode))
    run->total = (guint64)st.st_size;
}

/* It has ended; whoever traces it (a sanitizer's own helper does) may hold it a moment longer, ptrace(2). */
static gboolean
reap (int pidfd, siginfo_t *info)
{
  for (gint64 end = g_get_monotonic_time () + KILLED_MSEC * 1000; g_get_monotonic_time () < end; g_usleep (10000)) {
    *info = (siginfo_t){ 0 };
    if (waitid (P_PIDFD, (id_t)pidfd, info, WEXITED | WNOHANG) < 0)
      return FALSE;
    if (info->si_pid != 0)
      return TRUE;
  }
  return FALSE;
}

/* Nothing is left of a program that ended; what did not is killed. */
static void
run_clear (Run *run)
{
  siginfo_t info;
  if (run->pidfd >= 0) {
    struct pollfd ended = { .fd = run->pidfd, .events = POLLIN };
    (void)banger_pidfd_send_signal (run->pidfd, SIGKILL);
    while (poll (&ended, 1, KILLED_MSEC) < 0 && errno == EINTR)
      ;
    (void)reap (run->pidfd, &info);
  }
  banger_clear_fd (&run->pidfd);
  banger_clear_fd (&run->answer);
  banger_clear_fd (&run->feed);
  banger_clear_fd (&run->files);
  g_clear_pointer (&run->asked, g_free);
  g_clear_pointer (&run->reader, banger_intake_reader_free);
  g_clear_pointer (&run->digest, banger_digest_free);
  g_clear_pointer (&run->buffer, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Run, run_clear)

static const char *
program (void)
{
  const char *other = g_getenv ("BANGER_INTAKE"); /* of builds that are not installed */
  return other ? other : PROGRAM;
}

static gboolean
spawn (Run *run, int source, GError **error)
{
  const BangerIntake *intake = run->intake;
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, intake->number);
  const char *const argv[] = { program (), intake->verb, number, intake->reference, NULL };
  const char *const env[] = { "LANG=C.UTF-8", NULL };
  const int from[] = { intake->target_fds[0], intake->target_fds[1], intake->extra_fd };
  const int to[] = { BANGER_INTAKE_TARGET_FD, BANGER_INTAKE_TARGET_FD + 1, BANGER_INTAKE_EXTRA_FD };
#ifdef __SANITIZE_ADDRESS__ /* whose reports go there */
  const GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD;
#else /* journald believes what a line of the daemon's begins with, sd-daemon(3) */
  const GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL;
#endif
  Setup setup = { getpid (), intake->target_bytes > 0 ? (rlim_t)intake->target_bytes : RLIM_INFINITY };
  int answer[2];
  g_autoptr (GError) failure = NULL;
  if (pipe2 (answer, O_CLOEXEC | O_NONBLOCK) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a pipe");
  run->answer = answer[0];
  (void)fcntl (answer[1], F_SETFL, 0); /* the program waits until it is heard */
  gboolean started = g_spawn_async_with_pipes_and_fds ("/", argv, env, flags, set_up_child, &setup, source, answer[1],
                                                       -1, from, to, intake->extra_fd >= 0 ? 3 : 2, &run->pid, NULL,
                                                       NULL, NULL, &failure);
  close (answer[1]);
  if (!started)
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot run %s: %s", argv[0], failure->message);
  run->pidfd = banger_pidfd_open (run->pid);
  return run->pidfd >= 0 || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot follow %s", argv[0]);
}

static gboolean
start (Run *run, GError **error)
{
  int ends[2];
  const int room = 1 << 20;
  if (!run->intake->stream && !run->intake->open)
    return spawn (run, run->intake->source_fd, error);
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot make a socket");
  *(run->intake->open ? &run->files : &run->feed) = ends[0];
  if (run->feed >= 0)
    (void)setsockopt (ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  gboolean started = spawn (run, ends[1], error);
  close (ends[1]);
  return started;
}

/* The disk's room */

static guint64
taken (const BangerIntake *intake)
{
  struct stat st;
  guint64 bytes = 0;
  const int fds[] = { intake->target_fds[0], intake->target_fds[1], intake->extra_fd };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fds[i] >= 0 && fstat (fds[i], &st) == 0)
      bytes += (guint64)st.st_blocks * 512;
  return bytes;
}

static guint64
available (const BangerIntake *intake)
{
  struct statvfs disk;
  return fstatvfs (intake->target_fds[1], &disk) < 0 ? G_MAXUINT64 : (guint64)disk.f_bavail * disk.f_frsize;
}

static void
measure_room (Run *run)
{
  guint64 bytes = available (run->intake);
  run->before = taken (run->intake);
  run->room = G_MAXUINT64;
  if (bytes == G_MAXUINT64)
    return;
  run->floor = MIN (RESERVE_BYTES, bytes / 2);
  run->room = bytes - run->floor;
}

/* Others take of the disk meanwhile: what of an image is still being downloaded, for one. */
static gboolean
check_room (const Run *run, GError **error)
{
  guint64 takes = taken (run->intake);
  if (run->room == G_MAXUINT64 || takes <= run->before)
    return TRUE;
  if (takes - run->before > run->room)
    return banger_set_error (error, BANGER_ERROR_NO_SPACE,
                             "%s unpacks to more than the %" G_GUINT64_FORMAT " MiB that are free for it",
                             run->intake->what, run->room >> 20);
  return available (run->intake) >= run->floor
         || banger_set_error (error, BANGER_ERROR_NO_SPACE,
                              "%s leaves less than %" G_GUINT64_FORMAT
                              " MiB of the disk free, of which others take, too",
                              run->intake->what, run->floor >> 20);
}

/* Following it */

/* Reads the source once the program has what came before. */
static gboolean
read_source (Run *run, GError **error)
{
  ssize_t n = read (run->intake->source_fd, run->buffer, BUFFER_BYTES);
  if (n < 0)
    return errno == EINTR || errno == EAGAIN
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read %s", run->intake->what);
  run->source_ended = n == 0;
  if (n == 0) {
    banger_clear_fd (&run->feed);
    run->alive_at = g_get_monotonic_time ();
    return TRUE;
  }
  banger_digest_update (run->digest, run->buffer, (gsize)n);
  run->at = 0;
  run->filled = (gsize)n;
  run->streamed += (guint64)n;
  if (run->intake->progress)
    run->intake->progress (run->total > 0 ? MIN ((double)run->streamed / (double)run->total, 1.0) : -1.0,
                           run->intake->progress_data);
  return TRUE;
}

/* A program that has closed its end says why by its answer. */
static gboolean
send_on (Run *run, GError **error)
{
  ssize_t n = send (run->feed, run->buffer + run->at, run->filled - run->at, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return TRUE;
  if (n < 0) {
    banger_clear_fd (&run->feed);
    return TRUE;
  }
  run->at += (gsize)n;
  run->alive_at = g_get_monotonic_time ();
  return TRUE;
}

static gboolean
not_ours (const Run *run, GError **error)
{
  return banger_set_error (error, run->intake->bad, "cannot read %s: the program that reads it talks nonsense",
                           run->intake->what);
}

/* It waits for the answer, so that one at a time is asked for. */
static gboolean
answer_asked (Run *run, GError **error)
{
  if (!run->asked)
    run->asked = banger_intake_reader_take_asked (run->reader);
  if (!run->asked)
    return TRUE;
  if (run->files < 0)
    return not_ours (run, error);
  banger_autofd int fd = run->intake->open (run->asked, run->intake->open_data);
  if (fd == BANGER_INTAKE_LATER) {
    run->alive_at = g_get_monotonic_time ();
    return TRUE;
  }
  g_clear_pointer (&run->asked, g_free);
  /* One that has ended is told by its end; one that asks and takes no answer is not waited for. */
  return banger_intake_reply (run->files, fd) || errno != EAGAIN || not_ours (run, error);
}

static gboolean
listen_to (Run *run, gboolean *ret_closed, GError **error)
{
  guint8 bytes[4096];
  ssize_t n = read (run->answer, bytes, sizeof bytes);
  *ret_closed = n == 0;
  if (n < 0)
    return errno == EINTR || errno == EAGAIN
           || banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot listen to %s", PROGRAM);
  run->alive_at = g_get_monotonic_time ();
  if (!banger_intake_reader_feed (run->reader, bytes, (gsize)n))
    return not_ours (run, error);
  if (!answer_asked (run, error))
    return FALSE;
  if (!run->intake->stream && run->intake->progress)
    run->intake->progress (banger_intake_reader_fraction (run->reader), run->intake->progress_data);
  return TRUE;
}

/* Waiting for a pipe's writer is nobody's fault. */
static gboolean
check_quiet (const Run *run, GError **error)
{
  guint seconds = run->intake->quiet_seconds > 0 ? run->intake->quiet_seconds : QUIET_SECONDS;
  gboolean waits = run->feed >= 0 && run->at == run->filled;
  if (waits || g_get_monotonic_time () - run->alive_at < (gint64)seconds * G_USEC_PER_SEC)
    return TRUE;
  return banger_set_error (error, BANGER_ERROR_TIMEOUT, "cannot read %s: nothing came of it for %u seconds",
                           run->intake->what, seconds);
}

enum { PIDFD, ANSWER, SOURCE, FEED, CANCEL, N_FDS };

/* Returns: as poll(2). */
static int
look (const Run *run, struct pollfd fds[N_FDS])
{
  GPollFD cancel = { .fd = -1 };
  gboolean hungry = run->feed >= 0 && run->at == run->filled;
  gboolean pollable = run->intake->cancellable && g_cancellable_make_pollfd (run->intake->cancellable, &cancel);
  fds[PIDFD] = (struct pollfd){ .fd = run->pidfd, .events = POLLIN };
  fds[ANSWER] = (struct pollfd){ .fd = run->answer, .events = POLLIN };
  fds[SOURCE] = (struct pollfd){ .fd = hungry ? run->intake->source_fd : -1, .events = POLLIN };
  fds[FEED] = (struct pollfd){ .fd = run->feed >= 0 && !hungry ? run->feed : -1, .events = POLLOUT };
  fds[CANCEL] = (struct pollfd){ .fd = cancel.fd, .events = POLLIN };
  int r = poll (fds, N_FDS, run->asked ? LATER_MSEC : LOOK_MSEC);
  if (pollable)
    g_cancellable_release_fd (run->intake->cancellable);
  return r;
}

static gboolean
serve (Run *run, const struct pollfd fds[N_FDS], GError **error)
{
  gboolean closed = FALSE;
  if (fds[ANSWER].revents && !listen_to (run, &closed, error))
    return FALSE;
  if (closed)
    banger_clear_fd (&run->answer);
  if (fds[FEED].revents && run->feed >= 0 && !send_on (run, error))
    return FALSE;
  return fds[SOURCE].revents == 0 || run->feed < 0 || read_source (run, error);
}

/* Until it has ended and all that it said is read. */
static gboolean
follow (Run *run, GError **error)
{
  struct pollfd fds[N_FDS];
  gint64 looked_at = 0;
  for (;;) {
    int r = look (run, fds);
    if (g_cancellable_is_cancelled (run->intake->cancellable))
      return banger_set_cancelled (error);
    if (r < 0 && errno != EINTR)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot wait for %s", PROGRAM);
    if ((r > 0 && !serve (run, fds, error)) || (run->asked && !answer_asked (run, error)))
      return FALSE;
    gint64 now = g_get_monotonic_time ();
    if (now - looked_at >= LOOK_MSEC * 1000) {
      looked_at = now;
      if (!check_room (run, error) || !check_quiet (run, error))
        return FALSE;
    }
    if (r > 0 && fds[PIDFD].revents && (run->answer < 0 || fds[ANSWER].revents == 0))
      return TRUE;
  }
}

/* How it ended */

static gboolean
died (const Run *run, int sig, GError **error)
{
  const char *what = run->intake->what;
  if (sig == SIGXCPU)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s takes more than %d s of processor time", what,
                             CPU_SECONDS);
  if (sig == SIGXFSZ)
    return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, "%s unpacks to more than it may", what);
  return banger_set_error (
      error, run->intake->bad,
      "cannot read %s: it ended the program that reads it by signal %d, so it is damaged, or needs "
      "more than %u MiB of memory",
      what, sig, (guint)(MEMORY_BYTES >> 20));
}

static gboolean
take_end (Run *run, BangerIntakeResult *ret_result, GError **error)
{
  siginfo_t info;
  g_autoptr (GError) said = NULL;
  if (!reap (run->pidfd, &info))
    return banger_set_error (error, BANGER_ERROR_FAILED, "cannot learn how %s ended", PROGRAM);
  banger_clear_fd (&run->pidfd);
  if (info.si_code != CLD_EXITED)
    return died (run, info.si_status, error);
  if (!banger_intake_reader_finish (run->reader, ret_result, &said)) {
    g_propagate_error (error, g_steal_pointer (&said));
    return FALSE;
  }
  if (info.si_status != 0 || (run->intake->stream && !run->source_ended))
    return not_ours (run, error);
  return TRUE;
}

static char **
texts_of (const GPtrArray *texts)
{
  char **copies = g_new0 (char *, texts->len + 1);
  for (guint i = 0; i < texts->len; i++)
    copies[i] = g_strdup (texts->pdata[i]);
  return copies;
}

gboolean
banger_intake_run (const BangerIntake *intake, BangerIntakeAnswer *ret_answer, GError **error)
{
  g_auto (Run) run;
  BangerIntakeResult result;
  run_init (&run, intake);
  measure_room (&run);
  if (!start (&run, error) || !follow (&run, error) || !take_end (&run, &result, error) || !check_room (&run, error))
    return FALSE;
  GPtrArray *warnings = banger_intake_reader_warnings (run.reader);
  ret_answer->result = result;
  ret_answer->digest = run.digest ? banger_digest_finish (run.digest) : NULL;
  ret_answer->warnings = texts_of (warnings);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    ret_answer->settings[i] = texts_of (banger_intake_reader_settings (run.reader, i));
  return TRUE;
}

void
banger_intake_answer_clear (BangerIntakeAnswer *answer)
{
  g_clear_pointer (&answer->digest, g_free);
  g_clear_pointer (&answer->warnings, g_strfreev);
  for (guint i = 0; i < BANGER_N_INTAKE_SETTINGS; i++)
    g_clear_pointer (&answer->settings[i], g_strfreev);
}

/* Returns: how many bytes of a hole are at @at, which nobody has to read; 0: none, or nobody knows. */
static guint64
hole_at (int fd, off_t at)
{
  struct stat st;
  off_t data = lseek (fd, at, SEEK_DATA);
  if (data < 0 && errno == ENXIO && fstat (fd, &st) == 0)
    data = st.st_size;
  return data > at ? (guint64)(data - at) : 0;
}

/* Returns: as read(2). */
static ssize_t
digest_next (BangerDigest *digest, int fd, guint8 *buffer, off_t at)
{
  guint64 hole = hole_at (fd, at);
  ssize_t n = hole > 0 ? (ssize_t)MIN (hole, BUFFER_BYTES) : banger_read_at (fd, buffer, BUFFER_BYTES, at);
  if (hole > 0)
    memset (buffer, 0, (gsize)n);
  if (n > 0)
    banger_digest_update (digest, buffer, (gsize)n);
  return n;
}

char *
banger_digest_file (int fd, GCancellable *cancellable, GError **error)
{
  g_autoptr (BangerDigest) digest = banger_digest_new ();
  g_autofree guint8 *buffer = g_malloc (BUFFER_BYTES);
  ssize_t n = 0;
  off_t at = 0;
  do {
    if (g_cancellable_is_cancelled (cancellable)) {
      banger_set_cancelled (error);
      return NULL;
    }
    n = digest_next (digest, fd, buffer, at);
    at += n;
  } while (n > 0);
  if (n == 0)
    return banger_digest_finish (digest);
  banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, "cannot read the copy");
  return NULL;
}
