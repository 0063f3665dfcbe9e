/* Guest to host: what a guest calls a tar is read by banger-intake, which may do nothing but read and write what it holds,
 * and a thread writes what that makes of it below the folder that the user named.
 * Called by vm-cp.c.
 * Never lets a guest choose where a file goes, how it is called, or what it says on the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cp.h"
#include "cli/signals.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/log.h"
#include "intake/entries.h"

#define PROGRAM BANGER_LIBEXECDIR "/banger-intake"
#define MEMORY_BYTES ((rlim_t)256 << 20)
#define OPEN_FILES 64
#define TOLD_LINES 10
#define FILE_BYTES ((rlim_t)1 << 20) /* libseccomp writes its program to a memfd */

typedef struct {
  int frames, done; /* @done: closed when the thread has ended; its other end is waited for */
  BangerTreeWriter *writer;
  gboolean whole;   /* the tar had its end, and all of it is written */
  gboolean written; /* nothing failed here */
  char *failed;     /* what is wrong with the tar */
  GPtrArray *lost;  /* lines on what could not be written; the first few */
  guint n_lost;
} Receiver;

/* What the thread does */

static gssize
read_frames (void *bytes, gsize length, gpointer data)
{
  gsize done = 0;
  while (done < length) {
    ssize_t n = read (((Receiver *)data)->frames, (char *)bytes + done, length - done);
    if (n < 0 && errno != EINTR)
      return -1;
    if (n == 0)
      break;
    done += n > 0 ? (gsize)n : 0;
  }
  return (gssize)done;
}

static char *
say_problem (const Receiver *receiver)
{
  const BangerTreeProblem *problem = banger_tree_problem (receiver->writer);
  g_autofree char *shown = banger_log_escape (problem->path ? problem->path : "", PATH_MAX);
  return g_strdup_printf (_ ("cannot write '%s': %s"), shown,
                          problem->text ? _ (problem->text) : g_strerror (problem->number));
}

/* What cannot be written is passed over and said, as long as there is a point in going on. @entry: NULL: the end. */
static gboolean
put (Receiver *receiver, const BangerTreeEntry *entry)
{
  for (;;) {
    if ((entry ? banger_tree_entry (receiver->writer, entry) : banger_tree_finish (receiver->writer)) == 0)
      return TRUE;
    g_autofree char *line = say_problem (receiver);
    int next = banger_tree_skip (receiver->writer);
    if (next < 0)
      return FALSE;
    if (receiver->n_lost++ < TOLD_LINES)
      g_ptr_array_add (receiver->lost, g_steal_pointer (&line));
    if (next == 0)
      return TRUE;
  }
}

static gboolean
take_frame (Receiver *receiver, const BangerEntriesFrame *frame)
{
  switch (frame->kind) {
    case BANGER_ENTRIES_ENTRY:
      return put (receiver, &frame->entry);
    case BANGER_ENTRIES_DATA:
      return banger_tree_data (receiver->writer, frame->bytes, frame->length, frame->offset) == 0;
    case BANGER_ENTRIES_FAILED:
      receiver->failed = g_strdup (frame->text);
      return TRUE;
    case BANGER_ENTRIES_END:
      receiver->whole = put (receiver, NULL);
      return receiver->whole;
  }
  return FALSE;
}

static gpointer
receive (gpointer data)
{
  Receiver *receiver = data;
  BangerEntriesFrame frame;
  g_autoptr (BangerEntriesReader) reader = banger_entries_reader_new (read_frames, receiver);
  receiver->written = TRUE;
  while (receiver->written && banger_entries_next (reader, &frame))
    receiver->written = take_frame (receiver, &frame);
  banger_clear_fd (&receiver->frames); /* whoever still sends hears of it */
  banger_clear_fd (&receiver->done);
  return NULL;
}

/* The program without rights */

static gboolean
limit (int resource, rlim_t value)
{
  const struct rlimit both = { value, value };
  return setrlimit (resource, &both) == 0;
}

static void
set_up_child (gpointer data)
{
  gboolean done = setsid () >= 0 && limit (RLIMIT_CORE, 0) && limit (RLIMIT_FSIZE, FILE_BYTES)
                  && limit (RLIMIT_NOFILE, OPEN_FILES) && prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                  && prctl (PR_SET_PDEATHSIG, SIGKILL) == 0;
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is larger than any limit */
  done = done && limit (RLIMIT_AS, MEMORY_BYTES);
#endif
  if (!done || getppid () != *(const pid_t *)data)
    _exit (127);
}

/* Its stderr is not the user's: a terminal can be read, too. Returns: its pid, 0 with @error. Both descriptors are its own
 * from here on. */
static GPid
spawn (int source, int answer, GError **error)
{
  const char *other = g_getenv ("BANGER_INTAKE"); /* of builds that are not installed */
  const char *const argv[] = { other ? other : PROGRAM, BANGER_INTAKE_FILES, "0", NULL };
  const char *const env[] = { "LANG=C.UTF-8", NULL };
  g_autoptr (GError) failure = NULL;
  pid_t parent = getpid ();
  GPid pid = 0;
  if (!g_spawn_async_with_pipes_and_fds ("/", argv, env, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                                         set_up_child, &parent, source, answer, -1, NULL, NULL, 0, &pid, NULL, NULL,
                                         NULL, &failure))
    banger_set_error (error, BANGER_ERROR_FAILED, _ ("cannot run %s: %s"), argv[0], failure->message);
  close (source);
  close (answer);
  return pid;
}

/* What came of it */

static void
tell_count (const char *what, guint64 count)
{
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, count);
  if (count > 0)
    g_printerr ("%s: %s\n", what, number);
}

static void
tell_counts (const BangerCopy *copy, const Receiver *receiver)
{
  BangerTreeCounts counts = banger_tree_counts (receiver->writer);
  if (copy->quiet)
    return;
  tell_count (_ ("devices, sockets and pipes that were passed over"), counts.passed_over);
  tell_count (_ ("files that lost a set-user-id or set-group-id bit"), counts.stripped);
}

static void
tell_unfinished (const Receiver *receiver)
{
  const char *path = banger_tree_unfinished (receiver->writer);
  g_autofree char *shown = path ? banger_log_escape (path, PATH_MAX) : NULL;
  if (shown)
    g_printerr (_ ("banger: '%s' is not whole\n"), shown);
}

static gboolean
cannot_write (const Receiver *receiver, GError **error)
{
  const BangerTreeProblem *problem = banger_tree_problem (receiver->writer);
  g_autofree char *line = say_problem (receiver);
  gboolean full = problem->number == ENOSPC || problem->number == EDQUOT;
  return banger_set_error (error,
                           problem->text ? BANGER_ERROR_UNSAFE_FILE
                           : full        ? BANGER_ERROR_NO_SPACE
                                         : BANGER_ERROR_FAILED,
                           "%s", line);
}

static void
tell_lost (const Receiver *receiver)
{
  for (guint i = 0; i < receiver->lost->len; i++)
    g_printerr ("banger: %s\n", (const char *)receiver->lost->pdata[i]);
}

/* @known: whether it is known how the guest's command ended; else @error is set. */
static gboolean
check (BangerCopy *copy, const Receiver *receiver, gboolean known, int status, const char *said, GError **error)
{
  g_clear_pointer (&copy->view, banger_progress_view_free);
  tell_unfinished (receiver);
  tell_lost (receiver);
  if (!receiver->written && banger_signals_first () == 0) {
    g_clear_error (error);
    return cannot_write (receiver, error);
  }
  if (!known || !banger_copy_check (copy, status, said, error))
    return FALSE;
  g_autofree char *why = banger_log_escape (receiver->failed ? receiver->failed : "", BANGER_INTAKE_MAX_TEXT);
  if (!receiver->whole)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("what %s sends cannot be read: %s"), copy->guest.name,
                             *why ? why : _ ("it ended the program that reads it"));
  if (banger_tree_counts (receiver->writer).entries == 0)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("%s sent nothing"), copy->guest.name);
  tell_counts (copy, receiver);
  return receiver->n_lost == 0
         || banger_set_error (error, BANGER_ERROR_FAILED,
                              g_dngettext (NULL, "not all of it could be written: %u file or folder is missing",
                                           "not all of it could be written: %u files or folders are missing",
                                           receiver->n_lost),
                              receiver->n_lost);
}

/* Whoever interrupts is not kept waiting by a program that reads, or a disk that is slow. */
static void
wait_for (BangerCopy *copy, int done, GPid pid)
{
  while (!(banger_client_wait (copy->guest.client, done, -1) & BANGER_WOKE_FD))
    if (banger_signals_take () != 0)
      (void)kill (pid, SIGKILL);
}

static gboolean
run (BangerCopy *copy, Receiver *receiver, const char *const *words, GError **error)
{
  g_autofree char *said = NULL;
  int source[2], frames[2], done[2], status = 0;
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, source) < 0
      || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, frames) < 0 || pipe2 (done, O_CLOEXEC) < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, errno, _ ("cannot make a socket"));
  banger_signals_block ();
  GPid pid = spawn (source[1], frames[1], error);
  if (pid == 0)
    return FALSE;
  receiver->frames = frames[0];
  receiver->done = done[1];
  GThread *thread = g_thread_new ("receive", receive, receiver);
  gboolean known = banger_copy_run (copy, words, -1, source[0], &status, &said, error);
  close (source[0]); /* the end of what it reads */
  wait_for (copy, done[0], pid);
  g_thread_join (thread);
  close (done[0]);
  (void)kill (pid, SIGKILL); /* not reaped: it is its pid */
  (void)waitpid (pid, NULL, 0);
  return check (copy, receiver, known, status, said ? said : "", error);
}

static gboolean
copy_files (BangerCopy *copy, GError **error)
{
  g_autofree char *name = NULL;
  char *missing = NULL; /* of malloc(3) */
  BangerTreePlace place;
  BangerTreeKind kind = banger_copy_kind (copy->from, &name);
  if (banger_tree_place (copy->to, kind, name, &place, &missing) < 0) {
    int number = errno;
    g_autofree char *shown = banger_log_escape (missing ? missing : copy->to, PATH_MAX);
    free (missing);
    return banger_set_error_errno (error, BANGER_ERROR_INVALID_PATH, number, _ ("cannot enter '%s'"), shown);
  }
  Receiver receiver = { .writer = banger_tree_writer_new (&place), .lost = g_ptr_array_new_with_free_func (g_free) };
  const char *const words[] = { BANGER_GUEST_BINARY, "pack", *copy->from ? copy->from : ".",
                                kind == BANGER_TREE_NAMED ? name : "contents", NULL };
  gboolean fine = receiver.writer && run (copy, &receiver, words, error);
  banger_tree_writer_free (receiver.writer);
  g_free (receiver.failed);
  g_ptr_array_unref (receiver.lost);
  return fine;
}

static gboolean
copy_stream (BangerCopy *copy, GError **error)
{
  g_autofree char *said = NULL;
  const char *const words[] = { BANGER_GUEST_BINARY, "pack", *copy->from ? copy->from : ".", NULL };
  int status = 0;
  return banger_copy_run (copy, words, -1, STDOUT_FILENO, &status, &said, error)
         && banger_copy_check (copy, status, said, error);
}

gboolean
banger_copy_out (BangerCopy *copy, GError **error)
{
  return strcmp (copy->to, "-") == 0 ? copy_stream (copy, error) : copy_files (copy, error);
}
