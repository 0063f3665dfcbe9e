/* One command under way: three copies of bytes, the end that the manager tells, our signals, our terminal.
 * Called by vm-ssh.c and vm-run.c.
 * Never waits in a write: what takes nothing must not keep us from hearing a signal. */
#include "cli/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "cli/objects.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "cli/watch.h"
#include "common/error.h"
#include "common/exec-words.h"
#include "common/fd.h"
#include "common/names.h"

#define BUFFER 65536
#define SAID_BYTES 4096
#define PIPE_BYTES 4096 /* what poll(2) says there is room for in a pipe, see pipe(7) */
#define START_USEC (40 * G_USEC_PER_SEC)
#define OBEYS_USEC (3 * G_USEC_PER_SEC) /* once the command was sent a signal */
#define OVER_USEC G_USEC_PER_SEC        /* that the streams of a VM that is gone may take to end */
#define TOLD_USEC (10 * G_USEC_PER_SEC) /* between the end of its streams and what the manager says of it */

enum { IN, OUT, ERR, COPIES };

typedef struct {
  int from, to;  /* -1: at its end */
  gboolean ours; /* @to is: a file, a pipe or a terminal that others have, too */
  GString *text; /* in place of @to */
  guint64 moved, max;
  gboolean over; /* more than @max came */
  int lost;      /* errno of what did not come from, or get to, our side */
  gsize start, end;
  char buffer[BUFFER];
} Copy;

typedef struct {
  BangerVmWatch watch;
  BangerClient *client;
  const BangerExecCommand *command;
  sd_bus_slot *exited;
  char *process; /* its path */
  int streams[COPIES];
  int windows; /* signalfd of SIGWINCH, -1: no terminal */
  struct termios terminal;
  gboolean raw;
  gboolean ended;
  int status, number;
  char *lost; /* why it is not known how it ended */
  Copy copies[COPIES];
} Session;

static void
session_free (Session *session)
{
  if (session->raw)
    tcsetattr (STDIN_FILENO, TCSADRAIN, &session->terminal);
  for (int i = 0; i < COPIES; i++)
    banger_clear_fd (&session->streams[i]);
  banger_clear_fd (&session->windows);
  sd_bus_slot_unref (session->exited);
  banger_vm_watch_clear (&session->watch);
  g_free (session->process);
  g_free (session->lost);
  g_free (session);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Session, session_free)

/* What the manager says */

static int
on_exited (sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
  Session *session = userdata;
  const char *lost = "";
  guint32 number = 0;
  if (g_strcmp0 (sd_bus_message_get_path (message), session->process) != 0
      || sd_bus_message_read (message, "ius", &session->status, &number, &lost) < 0)
    return 0;
  session->number = (int)number;
  session->lost = *lost != '\0' ? g_strdup (lost) : NULL;
  session->ended = TRUE;
  return 0;
}

static int
append_coded (sd_bus_message *call, const char *const *words)
{
  int r = sd_bus_message_open_container (call, 'a', "s");
  for (; r >= 0 && words && *words; words++) {
    char *coded = banger_exec_word_encode (*words); /* of malloc(3) */
    r = coded ? sd_bus_message_append (call, "s", coded) : -ENOMEM;
    free (coded);
  }
  return r < 0 ? r : sd_bus_message_close_container (call);
}

static void
append_environment (sd_bus_message *call, const char *const *environment)
{
  sd_bus_message_open_container (call, 'e', "sv");
  sd_bus_message_append (call, "s", "environment");
  sd_bus_message_open_container (call, 'v', "as");
  append_coded (call, environment);
  sd_bus_message_close_container (call);
  sd_bus_message_close_container (call);
}

static sd_bus_message *
make_call (const Session *session)
{
  const BangerExecCommand *command = session->command;
  struct winsize window = { 0 };
  sd_bus_message *call = banger_client_message (session->client, session->command->path, BANGER_VM_INTERFACE, "Exec");
  append_coded (call, command->words);
  sd_bus_message_open_container (call, 'a', "{sv}");
  sd_bus_message_append (call, "{sv}", "coded", "b", TRUE);
  if (command->environment && *command->environment)
    append_environment (call, command->environment);
  if (command->cwd && g_utf8_validate (command->cwd, -1, NULL))
    sd_bus_message_append (call, "{sv}", "cwd", "s", command->cwd);
  else if (command->cwd)
    banger_append_path_bytes (call, "cwd", command->cwd);
  if (command->user)
    sd_bus_message_append (call, "{sv}", "user", "s", command->user);
  if (command->image_settings)
    sd_bus_message_append (call, "{sv}", "image-settings", "b", TRUE);
  if (command->no_stdin)
    sd_bus_message_append (call, "{sv}", "stdin", "b", FALSE);
  if (command->terminal) {
    ioctl (STDIN_FILENO, TIOCGWINSZ, &window);
    sd_bus_message_append (call, "{sv}{sv}{sv}", "terminal", "b", TRUE, "rows", "u", (guint32)window.ws_row, "columns",
                           "u", (guint32)window.ws_col);
  }
  sd_bus_message_close_container (call);
  return call;
}

static gboolean
start (Session *session, GError **error)
{
  int fds[COPIES];
  const char *process;
  g_autoptr (sd_bus_message) call = make_call (session);
  g_autoptr (sd_bus_message) reply = banger_client_call (session->client, call, START_USEC, error);
  if (!reply)
    return FALSE;
  int r = sd_bus_message_read (reply, "hhho", &fds[IN], &fds[OUT], &fds[ERR], &process);
  for (int i = 0; r >= 0 && i < COPIES; i++) {
    session->streams[i] = fcntl (fds[i], F_DUPFD_CLOEXEC, 3);
    r = session->streams[i] < 0 ? -errno : 0;
  }
  if (r < 0)
    return banger_set_error_errno (error, BANGER_ERROR_FAILED, -r, _ ("cannot take the streams of the command"));
  session->process = g_strdup (process);
  return TRUE;
}

/* Its answer is not waited for: what has ended by then needs no orders. */
static void
order (Session *session, const char *member, guint n, guint32 first, guint32 second)
{
  g_autoptr (sd_bus_message) call = banger_client_message (session->client, session->process, BANGER_PROCESS_INTERFACE,
                                                           member);
  sd_bus_message_set_expect_reply (call, FALSE);
  sd_bus_message_append (call, "u", first);
  if (n > 1)
    sd_bus_message_append (call, "u", second);
  sd_bus_message_append (call, "a{sv}", 0);
  sd_bus_send (banger_client_bus (session->client), call, NULL);
}

/* Our terminal */

static void
take_terminal (Session *session)
{
  sigset_t windows;
  struct termios raw;
  if (!session->command->terminal || tcgetattr (STDIN_FILENO, &session->terminal) < 0)
    return;
  sigemptyset (&windows);
  sigaddset (&windows, SIGWINCH);
  sigprocmask (SIG_BLOCK, &windows, NULL);
  session->windows = signalfd (-1, &windows, SFD_CLOEXEC | SFD_NONBLOCK);
  raw = session->terminal;
  cfmakeraw (&raw);
  session->raw = tcsetattr (STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

static void
tell_window (Session *session)
{
  struct signalfd_siginfo info;
  struct winsize window;
  while (read (session->windows, &info, sizeof info) > 0)
    continue;
  if (ioctl (STDIN_FILENO, TIOCGWINSZ, &window) == 0)
    order (session, "Resize", 2, window.ws_row, window.ws_col);
}

/* Bytes */

static gboolean
is_socket (int fd)
{
  struct stat st;
  return fstat (fd, &st) == 0 && S_ISSOCK (st.st_mode);
}

static void
begin_copies (Session *session)
{
  const Copy copies[] = { { .from = STDIN_FILENO, .to = session->streams[IN] },
                          { .from = session->streams[OUT], .to = STDOUT_FILENO, .ours = TRUE },
                          { .from = session->streams[ERR], .to = STDERR_FILENO, .ours = TRUE } };
  for (int i = 0; i < COPIES; i++)
    session->copies[i] = copies[i];
  if (session->command->no_stdin)
    session->copies[IN].from = -1;
  const BangerExecEnds *ends = session->command->ends;
  if (!ends)
    return;
  session->copies[IN].from = ends->in;
  session->copies[OUT].to = ends->out;
  session->copies[OUT].ours = !is_socket (ends->out);
  session->copies[OUT].max = ends->max_out;
  session->copies[ERR].text = ends->err;
}

static void
prepare (const Copy *copy, struct pollfd *fd)
{
  gboolean full = copy->start < copy->end;
  *fd = (struct pollfd){ .fd = full ? copy->to : copy->from, .events = full ? POLLOUT : POLLIN };
}

static gsize
most_of (const Copy *copy)
{
  struct stat st;
  gboolean whole = fstat (copy->to, &st) == 0 && (S_ISREG (st.st_mode) || (S_ISCHR (st.st_mode) && !isatty (copy->to)));
  return whole ? BUFFER : PIPE_BYTES;
}

/* Returns: whether it goes on. */
static gboolean
give (Copy *copy)
{
  gsize left = copy->end - copy->start;
  ssize_t n = copy->ours ? write (copy->to, copy->buffer + copy->start, MIN (left, most_of (copy)))
                         : send (copy->to, copy->buffer + copy->start, left, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0)
    copy->start += (gsize)n;
  else if (errno != EAGAIN && errno != EINTR) {
    copy->lost = copy->ours && errno != EPIPE ? errno : 0;
    return FALSE;
  }
  return TRUE;
}

/* A stdin that is closed, or a terminal that is gone, is at its end. */
static gboolean
take (Copy *copy)
{
  ssize_t n = read (copy->from, copy->buffer, sizeof copy->buffer);
  int number = n < 0 ? errno : 0;
  if (number == EAGAIN || number == EINTR)
    return TRUE;
  if (number != 0) {
    copy->lost = copy->ours || number == EBADF || isatty (copy->from) ? 0 : number;
    return FALSE;
  }
  copy->start = 0;
  copy->end = (gsize)n;
  copy->moved += (guint64)n;
  copy->over = copy->max > 0 && copy->moved > copy->max;
  if (copy->text || copy->to < 0) {
    if (copy->text)
      g_string_append_len (copy->text, copy->buffer, MIN (n, SAID_BYTES - (gssize)copy->text->len));
    copy->end = 0;
  }
  return n > 0 && !copy->over;
}

/* The end of a copy is told to the guest: nothing more comes, or nobody reads. */
static void
end_copy (Session *session, int which)
{
  Copy *copy = &session->copies[which];
  copy->from = copy->to = -1;
  copy->start = copy->end = 0;
  banger_clear_fd (&session->streams[which]);
}

static void
move (Session *session, int which)
{
  Copy *copy = &session->copies[which];
  const BangerExecEnds *ends = session->command->ends;
  gboolean refused = FALSE;
  if (copy->start < copy->end ? (refused = !give (copy)) : !take (copy))
    end_copy (session, which);
  if (refused && which == OUT && ends) /* a guest that talks on is not waited for */
    end_copy (session, ERR);
  if (ends && ends->moved)
    ends->moved (session->copies[IN].moved + session->copies[OUT].moved, ends->data);
}

static gboolean
has_output (const Session *session)
{
  return session->copies[OUT].from >= 0 || session->copies[ERR].from >= 0;
}

/* Returns: the bus's, the signals' and the copies' news were dealt with, or @timeout µs are over. */
static void
turn (Session *session, gint64 timeout)
{
  enum { WINDOWS = COPIES, FDS };
  struct pollfd fds[FDS];
  for (int i = 0; i < COPIES; i++)
    prepare (&session->copies[i], &fds[i]);
  fds[WINDOWS] = (struct pollfd){ .fd = session->windows, .events = POLLIN };
  BangerWoke woke = banger_client_poll (session->client, fds, FDS, timeout);
  if (!(woke & BANGER_WOKE_FD))
    return;
  for (int i = 0; i < COPIES; i++)
    if (fds[i].fd >= 0 && fds[i].revents != 0)
      move (session, i);
  if (session->windows >= 0 && fds[WINDOWS].revents != 0)
    tell_window (session);
}

/* Returns: whether the command was told of a signal so often, or so long ago, that it is not waited for any more. */
static gboolean
hand_on_signals (Session *session, gint64 *deadline)
{
  for (int number = banger_signals_take (); number != 0; number = banger_signals_take ()) {
    if (*deadline >= 0)
      return TRUE;
    order (session, "Signal", 1, (guint32)number, 0);
    *deadline = g_get_monotonic_time () + OBEYS_USEC;
  }
  return *deadline >= 0 && g_get_monotonic_time () >= *deadline;
}

/* The guest took a pipe that ends for its whole input, and for a reader who has enough: only we know better. */
static void
tell_loss (const Session *session, int *status)
{
  int in = session->copies[IN].lost, out = session->copies[OUT].lost;
  if (in != 0)
    g_printerr (_ ("banger: cannot read stdin: %s\n"), g_strerror (in));
  if (out != 0)
    g_printerr (_ ("banger: cannot write to stdout: %s\n"), g_strerror (out));
  if ((in != 0 || out != 0) && *status == 0)
    *status = 1;
}

static gboolean
tell_end (Session *session, int *ret_status, GError **error)
{
  const char *name = session->command->name;
  if (session->ended && !session->lost) {
    *ret_status = session->number != 0 ? 128 + session->number : session->status;
    int lost = session->copies[IN].lost ? session->copies[IN].lost : session->copies[OUT].lost;
    if (session->command->ends && lost)
      return banger_set_error_errno (error, BANGER_ERROR_FAILED, lost, _ ("cannot copy what %s sends or takes"), name);
    tell_loss (session, ret_status);
    return TRUE;
  }
  if (!session->watch.over && !session->watch.manager_gone)
    banger_vm_watch_wait_over (&session->watch);
  if (session->watch.over)
    return banger_vm_watch_error (&session->watch, error);
  if (session->watch.manager_gone)
    return banger_set_error (error, BANGER_ERROR_GUEST_FAILED,
                             _ ("the manager (bangerd) has ended, and with it the command in %s"), name);
  return banger_set_error (error, BANGER_ERROR_GUEST_FAILED, _ ("it is not known how the command in %s ended: %s"),
                           name, session->lost ? session->lost : _ ("its connection was lost"));
}

static gboolean
run (Session *session, int *ret_status, GError **error)
{
  gint64 deadline = -1; /* of a command that was sent a signal */
  gint64 told = -1;     /* by when the manager should have said something */
  while (has_output (session) || !(session->ended || session->watch.over || session->watch.manager_gone)) {
    if (hand_on_signals (session, &deadline)) {
      *ret_status = 128 + banger_signals_first ();
      return TRUE;
    }
    gint64 now = g_get_monotonic_time (), next = deadline;
    if (told < 0 && (!has_output (session) || session->watch.over))
      told = now + (session->watch.over ? OVER_USEC : TOLD_USEC);
    if (told >= 0 && now >= told)
      break;
    if (told >= 0 && (next < 0 || told < next))
      next = told;
    turn (session, next < 0 ? -1 : MAX (next - now, 0));
    if (session->copies[OUT].over) {
      g_autofree char *most = g_strdup_printf ("%" G_GUINT64_FORMAT, session->copies[OUT].max);
      return banger_set_error (error, BANGER_ERROR_LIMITS_EXCEEDED, _ ("the command in %s says more than %s bytes"),
                               session->command->name, most);
    }
  }
  return tell_end (session, ret_status, error);
}

gboolean
banger_exec_run (BangerClient *client, const BangerExecCommand *command, int *ret_status, GError **error)
{
  g_autoptr (Session) session = g_new0 (Session, 1);
  session->client = client;
  session->command = command;
  session->windows = session->streams[IN] = session->streams[OUT] = session->streams[ERR] = -1;
  banger_signals_block ();
  banger_vm_watch_begin (&session->watch, client, command->name, command->path);
  sd_bus_add_match_async (banger_client_bus (client), &session->exited,
                          "type='signal',sender='" BANGER_MANAGER_BUS_NAME "',interface='" BANGER_PROCESS_INTERFACE
                          "',member='Exited'",
                          on_exited, NULL, session);
  if (!start (session, error))
    return FALSE;
  take_terminal (session);
  begin_copies (session);
  return run (session, ret_status, error);
}
