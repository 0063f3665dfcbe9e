/* A session: reads its request, starts the command, carries its bytes, obeys, tells how it ended.
 * Forked by the agent.
 * Never leaves a command behind that nobody waits for. */
#include "guest/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/pump.h"
#include "guest/command.h"
#include "guest/descendants.h"
#include "guest/report.h"
#include "guest/request.h"

#define REQUEST_MS 10000
#define TAKEN_STEP_US 20000
#define CONTROL_LINE 64
#define MAX_DESCRIPTORS 1024
#define REST_MS 20 /* that a terminal may take for what was written to it */
#define REST_BYTES (1 << 20)

enum { IN, OUT, ERR, N_STREAMS };

typedef struct {
  int control; /* -1: the host has left */
  int signals;
  const char *token;
  GuestRun run;
  pid_t command;         /* 0: ended */
  int terminal;          /* the master's end; -1: none */
  int told;              /* the signal that the host sent last */
  int direct[N_STREAMS]; /* that the command has itself, with no pump between; -1: none */
  int status;            /* as of waitpid(2) */
  size_t used;
  char line[CONTROL_LINE];
  BangerPump pumps[N_STREAMS];
} Session;

static Session session;

/* Text of the command's end is short, and fits into a socket that nothing else was written to. */
static void
say (const char *format, ...)
{
  char line[256];
  va_list arguments;
  va_start (arguments, format);
  int length = vsnprintf (line, sizeof line, format, arguments);
  va_end (arguments);
  if (session.control >= 0 && write (session.control, line, (size_t)length) < 0)
    guest_note ("a session's host has left: %s", strerror (errno));
}

static void
fail (const char *why)
{
  say ("%s error %s\n", session.token, why);
  _exit (1);
}

int
guest_session_read (const GuestSession *given, char *text)
{
  size_t count = given->early_length;
  long long deadline = guest_now_ms () + REQUEST_MS;
  memcpy (text, given->early, count);
  while (count < given->request_length) {
    long long left = deadline - guest_now_ms ();
    struct pollfd readable = { .fd = given->control, .events = POLLIN };
    if (left <= 0 || poll (&readable, 1, (int)left) <= 0)
      return -1;
    ssize_t n = read (given->control, text + count, given->request_length - count);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      return -1;
    count += n > 0 ? (size_t)n : 0;
  }
  return 0;
}

static void
close_from_to (unsigned from, unsigned to)
{
  if (from > to || syscall (SYS_close_range, from, to, 0) == 0)
    return;
  for (unsigned fd = from; fd <= to && fd < MAX_DESCRIPTORS; fd++) /* before Linux 5.9 */
    close ((int)fd);
}

void
guest_close_all_but (const int *kept, size_t count)
{
  unsigned from = STDERR_FILENO + 1, next = 0;
  for (; next != UINT_MAX; from = next + 1) {
    next = UINT_MAX;
    for (size_t i = 0; i < count; i++)
      if (kept[i] >= (int)from && (unsigned)kept[i] < next)
        next = (unsigned)kept[i];
    close_from_to (from, next - 1);
  }
}

static void
open_signals (void)
{
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGCHLD);
  sigprocmask (SIG_SETMASK, &set, NULL);
  prctl (PR_SET_PDEATHSIG, 0);
  session.signals = signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (session.signals < 0)
    fail ("no descriptor for signals");
}

static void
set_window (unsigned rows, unsigned columns)
{
  struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };
  if (session.terminal >= 0)
    ioctl (session.terminal, TIOCSWINSZ, &size);
}

/* Its streams are the terminal's, both ways. Returns: what it has as 0, 1 and 2. */
static void
prepare_terminal (const GuestSession *given, int *ret_theirs)
{
  session.terminal = posix_openpt (O_RDWR | O_NOCTTY | O_CLOEXEC);
  int slave = session.terminal >= 0 && unlockpt (session.terminal) == 0
                  ? ioctl (session.terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)
                  : -1;
  if (slave < 0)
    fail ("no terminal can be opened: is /dev/pts mounted?");
  set_window (session.run.rows, session.run.columns);
  for (int i = 0; i < N_STREAMS; i++)
    ret_theirs[i] = slave;
  session.pumps[IN].from = given->streams[IN];
  session.pumps[IN].to = fcntl (session.terminal, F_DUPFD_CLOEXEC, 3);
  session.pumps[OUT].from = fcntl (session.terminal, F_DUPFD_CLOEXEC, 3);
  session.pumps[OUT].to = given->streams[OUT];
}

/* What is ours does not mind a socket, and takes the stream itself: each byte goes through a process less. */
static int
hand_over (int stream, int i)
{
  fcntl (stream, F_SETFL, fcntl (stream, F_GETFL) & ~O_NONBLOCK);
  if (i != IN)
    session.direct[i] = fcntl (stream, F_DUPFD_CLOEXEC, 3);
  return stream;
}

static void
prepare_pipes (const GuestSession *given, int *ret_theirs)
{
  int ours_runs = strcmp (session.run.arguments[0], BANGER_GUEST_BINARY) == 0;
  for (int i = 0; i < N_STREAMS; i++) {
    int ends[2];
    if (given->streams[i] < 0) {
      ret_theirs[i] = open ("/dev/null", O_RDWR | O_CLOEXEC);
      continue;
    }
    if (ours_runs) {
      ret_theirs[i] = hand_over (given->streams[i], i);
      continue;
    }
    if (pipe2 (ends, O_CLOEXEC) < 0)
      fail ("no pipe can be made");
    int ours = i == IN;
    ret_theirs[i] = ends[!ours];
    fcntl (ends[ours], F_SETFL, O_NONBLOCK);
    session.pumps[i].from = i == IN ? given->streams[i] : ends[ours];
    session.pumps[i].to = i == IN ? ends[ours] : given->streams[i];
  }
}

static void
start (const GuestSession *given)
{
  int theirs[N_STREAMS], apart[2];
  char byte;
  for (int i = 0; i < N_STREAMS; i++) {
    session.pumps[i] = (BangerPump){ .from = -1, .to = -1, .limit = SIZE_MAX };
    session.direct[i] = -1;
  }
  if (session.run.terminal)
    prepare_terminal (given, theirs);
  else
    prepare_pipes (given, theirs);
  session.command = pipe2 (apart, O_CLOEXEC) < 0 ? -1 : fork ();
  if (session.command < 0)
    fail ("no process can be made");
  if (session.command == 0)
    guest_command_become (&session.run, theirs, apart[1]);
  close (apart[1]);
  while (read (apart[0], &byte, 1) < 0 && errno == EINTR)
    continue; /* a signal before that would reach nobody */
  close (apart[0]);
  for (int i = 0; i < N_STREAMS; i++)
    if (i == 0 || theirs[i] != theirs[0])
      close (theirs[i]);
  for (int i = 0; i < N_STREAMS; i++) {
    int fds[] = { session.pumps[i].from, session.pumps[i].to };
    for (size_t j = 0; j < 2; j++)
      if (fds[j] >= 0)
        fcntl (fds[j], F_SETFL, fcntl (fds[j], F_GETFL) | O_NONBLOCK);
  }
}

/* A terminal's own: what is in front there. */
static void
send_signal (int number)
{
  pid_t group = session.terminal >= 0 ? tcgetpgrp (session.terminal) : -1;
  if (session.command == 0)
    return;
  session.told = number;
  prctl (PR_SET_CHILD_SUBREAPER, 1); /* whose parent ends by it comes to us */
  kill (group > 0 ? -group : -session.command, number);
  if (number == SIGINT || number == SIGTERM || number == SIGHUP)
    kill (-session.command, SIGCONT); /* a stopped one would not hear of it */
}

static void
obey (const char *line)
{
  GuestOrder order = guest_order_parse (line);
  if (order.kind == GUEST_ORDER_SIGNAL)
    send_signal (order.number);
  else if (order.kind == GUEST_ORDER_RESIZE)
    set_window (order.rows, order.columns);
}

static void
read_control (void)
{
  char *end;
  ssize_t n = read (session.control, session.line + session.used, sizeof session.line - session.used);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    banger_clear_fd (&session.control);
    return;
  }
  session.used += (size_t)n;
  while ((end = memchr (session.line, '\n', session.used))) {
    *end = '\0';
    obey (session.line);
    session.used -= (size_t)(end + 1 - session.line);
    memmove (session.line, end + 1, session.used);
  }
  if (session.used == sizeof session.line)
    session.used = 0;
}

static void
reap (void)
{
  struct signalfd_siginfo info;
  int status;
  while (read (session.signals, &info, sizeof info) > 0)
    continue;
  for (pid_t pid = waitpid (-1, &status, WNOHANG); pid > 0; pid = waitpid (-1, &status, WNOHANG))
    if (pid == session.command) {
      session.command = 0;
      session.status = status;
    }
}

/* The host has left before the command's end: nobody waits for it, nor reads what it says. */
static void
end_command (void)
{
  int number = session.run.terminal ? SIGHUP : SIGTERM;
  pid_t command = session.command;
  prctl (PR_SET_CHILD_SUBREAPER, 1); /* the end of a terminal is a signal, too */
  for (int i = 0; i < N_STREAMS; i++) {
    banger_clear_fd (&session.pumps[i].from);
    banger_clear_fd (&session.pumps[i].to);
  }
  banger_clear_fd (&session.terminal);
  kill (-command, number);
  guest_end_descendants (number);
  kill (-command, SIGKILL);
  _exit (0);
}

/* A terminal has no end of its input but a key. */
static void
end_input (void)
{
  static const char end_of_file = 4; /* ^D, see termios(3) */
  BangerPump *input = &session.pumps[IN];
  if (input->to < 0 || !banger_pump_is_over (input))
    return;
  if (session.run.terminal)
    (void)!write (input->to, &end_of_file, 1);
  banger_clear_fd (&input->to);
}

static void
carry (void)
{
  enum { CONTROL, SIGNALS, FIRST };
  struct pollfd fds[FIRST + 2 * N_STREAMS] = {
    [CONTROL] = { .fd = session.command > 0 ? session.control : -1, .events = POLLIN },
    [SIGNALS] = { .fd = session.signals, .events = POLLIN },
  };
  for (int i = 0; i < N_STREAMS; i++)
    banger_pump_prepare (&session.pumps[i], &fds[FIRST + 2 * i]);
  if (poll (fds, FIRST + 2 * N_STREAMS, -1) <= 0)
    return;
  if (fds[SIGNALS].revents != 0)
    reap ();
  if (fds[CONTROL].revents != 0)
    read_control ();
  for (int i = 0; i < N_STREAMS; i++)
    if (fds[FIRST + 2 * i].revents != 0 || fds[FIRST + 2 * i + 1].revents != 0)
      banger_pump_run (&session.pumps[i]);
  end_input ();
}

/* What the command has written before its end goes out; what its children write after it does not: a service that was
 * started by it keeps nobody waiting. */
static void
carry_rest (BangerPump *pump)
{
  int rest = REST_BYTES;
  if (pump->from >= 0 && !session.run.terminal && ioctl (pump->from, FIONREAD, &rest) < 0)
    rest = 0;
  pump->limit = (size_t)rest;
  for (banger_pump_run (pump); !banger_pump_is_over (pump); banger_pump_run (pump)) {
    struct pollfd fds[2];
    banger_pump_prepare (pump, fds);
    if (poll (fds, 2, fds[0].fd >= 0 ? REST_MS : -1) == 0)
      return;
  }
}

/* Firecracker drops what it holds of a connection two seconds after the guest has closed it. Kernels that cannot say
 * what is still on its way (before 6.12) leave it at that. */
static void
wait_until_taken (int fd)
{
  int domain = 0, left = 0;
  socklen_t length = sizeof domain;
  if (getsockopt (fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_VSOCK)
    return;
  struct pollfd gone = { .fd = fd };
  while (ioctl (fd, SIOCOUTQ, &left) == 0 && left > 0 && poll (&gone, 1, 0) == 0)
    usleep (TAKEN_STEP_US);
}

static void
tell_end (void)
{
  if (WIFSIGNALED (session.status))
    say ("killed %d\n", WTERMSIG (session.status));
  else
    say ("exit %d\n", WEXITSTATUS (session.status));
}

void
guest_session_main (const GuestSession *given)
{
  const char *problem = NULL;
  session.control = given->control;
  session.token = given->token;
  session.terminal = -1;
  prctl (PR_SET_NAME, "banger-session");
  const int kept[] = { given->control, given->streams[IN], given->streams[OUT], given->streams[ERR] };
  guest_close_all_but (kept, sizeof kept / sizeof kept[0]);
  open_signals ();
  char *text = malloc (given->request_length);
  if (!text || guest_session_read (given, text) < 0)
    fail ("the request did not come");
  if (guest_run_parse (text, given->request_length, &session.run, &problem) < 0)
    fail (problem);
  start (given);
  say ("%s ok\n", session.token);
  while (session.command > 0 && session.control >= 0)
    carry ();
  if (session.command > 0)
    end_command ();
  banger_clear_fd (&session.pumps[IN].from);
  carry_rest (&session.pumps[OUT]);
  carry_rest (&session.pumps[ERR]);
  tell_end ();
  for (int i = OUT; i < N_STREAMS; i++) {
    wait_until_taken (session.direct[i] >= 0 ? session.direct[i] : session.pumps[i].to);
    banger_clear_fd (&session.direct[i]);
    banger_clear_fd (&session.pumps[i].to);
    banger_clear_fd (&session.pumps[i].from);
  }
  if (WIFSIGNALED (session.status) && WTERMSIG (session.status) == session.told)
    guest_end_descendants (session.told);
  _exit (0);
}
