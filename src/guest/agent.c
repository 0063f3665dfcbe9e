/* One process, one poll(2): vsock clients, the virtio-serial port, the ready socket, child processes.
 * Never blocks but on its way to the restart. */
#include "guest/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/guest-protocol.h"
#include "common/mux.h"
#include "guest/clock.h"
#include "guest/configure.h"
#include "guest/connect.h"
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/fstab.h"
#include "guest/identity.h"
#include "guest/keeper.h"
#include "guest/power.h"
#include "guest/protocol.h"
#include "guest/ready.h"
#include "guest/report.h"
#include "guest/request.h"
#include "guest/session.h"
#include "guest/settings.h"
#include "guest/usage.h"

#define MAX_CLIENTS 64
#define MAX_SESSIONS 64
#define MAX_CONNECTS 64
#define MAX_BEHIND 16
#define SERIAL_WAIT_MS 15000
#define CAN BANGER_GUEST_CAN_EXEC " " BANGER_GUEST_CAN_IDENTITY " " BANGER_GUEST_CAN_NAMES " " BANGER_GUEST_CAN_RECEIVE
#define LISTENER_LOOK_MS 250          /* images without systemd */
#define LISTENER_LOOK_SYSTEMD_MS 2000 /* images whose ssh has another unit name */

typedef struct {
  int fd; /* -1: free */
  unsigned serial;
  int stream;                      /* of a session that is still to begin: 1 stdin, 2 stdout, 3 stderr; else 0 */
  char token[GUEST_MAX_TOKEN + 1]; /* of that session */
  int too_long;
  size_t used, taken; /* of @line */
  char line[BANGER_GUEST_MAX_LINE];
  size_t out_used; /* answers that could not be written yet */
  char out[1024];
} Client;

typedef struct {
  pid_t pid; /* 0: free */
  unsigned client;
  char token[GUEST_MAX_TOKEN + 1];
  const char *problem; /* what is said if it fails */
} Behind;

typedef struct {
  int listener, ready_socket, signals, uevents;
  int port; /* the virtio-serial port: stays open when the host leaves */
  int port_hung_up;
  BangerMux *mux; /* of it */
  int sessions;
  const GuestInitKind *init;
  int no_sshd, is_ready, parent_died;
  char boot_token[65]; /* "": the boot id, which an identity may change */
  long long serial_deadline, next_look;
  unsigned last_serial;
  pid_t connects[MAX_CONNECTS]; /* 0: free */
  Client clients[MAX_CLIENTS];
  Behind behind[MAX_BEHIND];
} Agent;

static Agent agent = { .listener = -1, .ready_socket = -1, .signals = -1, .uevents = -1, .port = -1 };

int
guest_agent_listen (void)
{
  int fd = socket (AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_port = BANGER_GUEST_PORT, .svm_cid = VMADDR_CID_ANY };
  if (bind (fd, (struct sockaddr *)&address, sizeof address) == 0 && listen (fd, MAX_CLIENTS) == 0)
    return fd;
  int saved = errno;
  close (fd);
  errno = saved;
  return -1;
}

static void
drop_client (Client *client)
{
  client->used = 0;
  client->too_long = 0;
  close (client->fd);
  client->fd = -1;
}

static void
flush_client (Client *client)
{
  while (client->fd >= 0 && client->out_used > 0) {
    ssize_t n = write (client->fd, client->out, client->out_used);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      drop_client (client);
      return;
    }
    client->out_used -= (size_t)n;
    memmove (client->out, client->out + n, client->out_used);
  }
}

static void
answer (Client *client, const char *token, const char *text)
{
  char line[256];
  size_t length = (size_t)snprintf (line, sizeof line, "%s %s\n", token, text);
  if (client->out_used + length > sizeof client->out) {
    drop_client (client); /* nobody listens */
    return;
  }
  memcpy (client->out + client->out_used, line, length);
  client->out_used += length;
  flush_client (client);
}

/* A stream whose session has not begun for the longest time makes room: the host has forgotten it. */
static Client *
free_client (void)
{
  Client *oldest = NULL;
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++) {
    if (client->fd < 0)
      return client;
    if (client->stream > 0 && (!oldest || client->serial < oldest->serial))
      oldest = client;
  }
  if (oldest)
    drop_client (oldest);
  return oldest;
}

static Client *
add_client (int fd)
{
  Client *client = free_client ();
  if (!client) {
    close (fd);
    return NULL;
  }
  *client = (Client){ .fd = fd, .serial = ++agent.last_serial };
  return client;
}

static Client *
find_client (unsigned serial)
{
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
    if (client->fd >= 0 && client->serial == serial)
      return client;
  return NULL;
}

static void
tell_ready (Client *client)
{
  char id[65] = "";
  if (agent.boot_token[0] == '\0')
    guest_read_word (GUEST_BOOT_ID_FILE, id, sizeof id);
  answer (client, "ready", agent.boot_token[0] == '\0' ? id : agent.boot_token);
}

static void
become_ready (void)
{
  if (agent.is_ready)
    return;
  agent.is_ready = 1;
  guest_note (agent.no_sshd ? "ready, without an ssh server" : "ssh answers");
  if (!agent.no_sshd)
    guest_fstab_uncover (); /* inits that do not tell when they have read it have by now */
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
    if (client->fd >= 0)
      tell_ready (client);
}

static void
handle_hello (Client *client, const GuestRequest *request)
{
  static const char ok[] = "ok banger-guest " BANGER_VERSION " " CAN;
  static const char no_sshd[] = "ok banger-guest " BANGER_VERSION " " CAN " " BANGER_GUEST_NO_SSHD;
  answer (client, request->token, agent.no_sshd ? no_sshd : ok);
  if (agent.is_ready && client->fd >= 0)
    tell_ready (client);
}

static void
handle_ping (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
}

/* A disk may take long, and the agent must still hear a poweroff. @child: answered for when it ends. */
static void
answer_behind (const Client *client, const GuestRequest *request, Behind *slot, pid_t child, const char *problem)
{
  slot->pid = child;
  slot->client = client->serial;
  slot->problem = problem;
  strcpy (slot->token, request->token);
}

/* Returns: a free one, or NULL; also if there is one that says @problem (nullable) when it fails. */
static Behind *
free_behind (const char *problem)
{
  Behind *found = NULL;
  for (Behind *slot = agent.behind; slot < agent.behind + MAX_BEHIND; slot++) {
    if (slot->pid != 0 && slot->problem == problem)
      return NULL;
    if (slot->pid == 0 && !found)
      found = slot;
  }
  return found;
}

static void
handle_sync (Client *client, const GuestRequest *request)
{
  Behind *slot = free_behind (NULL);
  pid_t pid = slot ? guest_sync_start () : -1;
  if (pid < 0)
    answer (client, request->token, "error cannot start another sync");
  else
    answer_behind (client, request, slot, pid, "error sync failed");
}

/* One after the other: the last one told is what the file says. */
static void
handle_names (Client *client, const GuestRequest *request)
{
  static const char problem[] = "error /etc/hosts cannot be written";
  if (!guest_names_ok (request->rest)) {
    answer (client, request->token, "error names are ADDRESS=NAME,ADDRESS=NAME");
    return;
  }
  Behind *slot = free_behind (problem);
  pid_t pid = slot ? fork () : -1;
  if (pid == 0)
    _exit (guest_configure_reach (request->rest) < 0);
  if (pid < 0)
    answer (client, request->token, "error names are being written, or no process can be made");
  else
    answer_behind (client, request, slot, pid, problem);
}

static void
handle_shutdown (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
  guest_note ("the host asks for a shutdown");
  if (guest_ask_init_to_restart (agent.init) < 0 && fork () == 0)
    guest_end_all ();
}

static void
handle_poweroff (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
  guest_note ("the host asks for a power-off");
  guest_restart_now ();
}

/* The host knows how long its question took on the way, so it tells the difference and not the time. */
static void
handle_clock (Client *client, const GuestRequest *request)
{
  char text[64];
  long long delta;
  if (request->argument[0] != '\0') {
    if (guest_clock_parse (request->argument, &delta) < 0 || guest_clock_adjust (delta) < 0) {
      answer (client, request->token, "error the clock cannot be set by that");
      return;
    }
  }
  snprintf (text, sizeof text, "ok %lld", guest_clock_usec ());
  answer (client, request->token, text);
}

static void
handle_stats (Client *client, const GuestRequest *request)
{
  char text[128] = "ok ";
  int r = guest_usage (text + strlen (text), sizeof text - strlen (text));
  answer (client, request->token, r == 0 ? text : "error it is not known");
}

static void
handle_stream (Client *client, const GuestRequest *request)
{
  static const char *const names[] = { "stdin", "stdout", "stderr" };
  for (int i = 0; i < 3; i++)
    if (strcmp (request->argument, names[i]) == 0) {
      client->stream = i + 1;
      strcpy (client->token, request->token);
      answer (client, request->token, "ok");
      return;
    }
  answer (client, request->token, "error a stream is stdin, stdout or stderr");
}

static Client *
find_stream (const char *token, int stream)
{
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
    if (client->fd >= 0 && client->stream == stream && strcmp (client->token, token) == 0)
      return client;
  return NULL;
}

/* What is behind the line is the beginning of the request. */
static void
begin_session (Client *client, const GuestRequest *request, long most, void (*run) (const GuestSession *session))
{
  char *end;
  long length = strtol (request->argument, &end, 10);
  size_t early = client->used - client->taken;
  if (*end != '\0' || request->argument[0] == '\0' || length <= 0 || length > most || early > (size_t)length
      || agent.sessions == MAX_SESSIONS)
  {
    answer (client, request->token,
            agent.sessions == MAX_SESSIONS ? "error too many commands run at once"
                                           : "error the request has no length that it can have");
    drop_client (client);
    return;
  }
  Client *streams[] = { find_stream (request->token, 1), find_stream (request->token, 2),
                        find_stream (request->token, 3) };
  GuestSession session = {
    .control = client->fd,
    .streams = { streams[0] ? streams[0]->fd : -1, streams[1] ? streams[1]->fd : -1, streams[2] ? streams[2]->fd : -1 },
    .token = request->token,
    .early = client->line + client->taken,
    .early_length = early,
    .request_length = (size_t)length,
  };
  pid_t pid = fork ();
  if (pid == 0)
    run (&session);
  if (pid < 0)
    answer (client, request->token, "error no process can be made");
  else
    agent.sessions++;
  for (int i = 0; i < 3; i++)
    if (streams[i])
      drop_client (streams[i]);
  if (client->fd >= 0)
    drop_client (client);
}

static void
handle_exec (Client *client, const GuestRequest *request)
{
  begin_session (client, request, GUEST_MAX_REQUEST, guest_session_main);
}

static void
handle_identity (Client *client, const GuestRequest *request)
{
  begin_session (client, request, BANGER_GUEST_MAX_IDENTITY, guest_identity_main);
}

/* The connection is the child's from here on. */
static void
handle_connect (Client *client, const GuestRequest *request)
{
  char *end;
  long port = strtol (request->argument, &end, 10);
  pid_t *slot = agent.connects;
  while (slot < agent.connects + MAX_CONNECTS && *slot != 0)
    slot++;
  const char *problem = *end != '\0' || request->argument[0] == '\0' || port < 1 || port > 65535
                            ? "error a port is 1 to 65535"
                        : client->used > client->taken          ? "error the host speaks too early"
                        : slot == agent.connects + MAX_CONNECTS ? "error too many connections are open at once"
                                                                : NULL;
  pid_t pid = problem ? -1 : fork ();
  if (pid == 0)
    guest_connect_main (client->fd, request->token, (unsigned)port);
  if (pid < 0)
    answer (client, request->token, problem ? problem : "error no process can be made");
  else
    *slot = pid;
  if (client->fd >= 0)
    drop_client (client);
}

static void
handle_unknown (Client *client, const GuestRequest *request)
{
  answer (
      client, request->token,
      "error not understood: hello, ping, sync, clock, stats, names, stream, exec, connect, identity, shutdown, poweroff and a token");
}

static void
handle_line (Client *client, const char *line)
{
  static void (*const handlers[]) (Client *, const GuestRequest *) = {
    [GUEST_VERB_UNKNOWN] = handle_unknown,   [GUEST_VERB_HELLO] = handle_hello,
    [GUEST_VERB_PING] = handle_ping,         [GUEST_VERB_SYNC] = handle_sync,
    [GUEST_VERB_SHUTDOWN] = handle_shutdown, [GUEST_VERB_POWEROFF] = handle_poweroff,
    [GUEST_VERB_CLOCK] = handle_clock,       [GUEST_VERB_STREAM] = handle_stream,
    [GUEST_VERB_EXEC] = handle_exec,         [GUEST_VERB_CONNECT] = handle_connect,
    [GUEST_VERB_IDENTITY] = handle_identity, [GUEST_VERB_STATS] = handle_stats,
    [GUEST_VERB_NAMES] = handle_names,
  };
  GuestRequest request;
  guest_request_parse (line, &request);
  if (handlers[request.verb])
    handlers[request.verb](client, &request);
}

/* Handles the whole lines of the buffer; what is too long for it is dropped up to its end. */
static void
handle_lines (Client *client)
{
  char *end;
  client->taken = 0;
  while (client->fd >= 0 && client->stream == 0
         && (end = memchr (client->line + client->taken, '\n', client->used - client->taken)))
  {
    const char *line = client->line + client->taken;
    *end = '\0';
    client->taken = (size_t)(end + 1 - client->line);
    if (!client->too_long)
      handle_line (client, line);
    client->too_long = 0;
  }
  if (client->fd < 0)
    return; /* dropped on the way */
  client->used -= client->taken;
  memmove (client->line, client->line + client->taken, client->used);
  if (client->stream > 0 && client->used > 0) {
    drop_client (client); /* its bytes are the session's, which has not begun */
    return;
  }
  if (client->used == sizeof client->line) {
    client->used = 0;
    client->too_long = 1;
  }
}

static void
read_client (Client *client)
{
  ssize_t n = read (client->fd, client->line + client->used, sizeof client->line - client->used);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    drop_client (client);
    return;
  }
  client->used += (size_t)n;
  handle_lines (client);
}

static void
handle_client_events (Client *client, short events)
{
  if (events & POLLOUT)
    flush_client (client);
  if ((events & ~POLLOUT) == 0 || client->fd < 0)
    return;
  if (client->stream > 0)
    drop_client (client);
  else
    read_client (client);
}

static void
accept_client (void)
{
  struct sockaddr_storage from = { 0 };
  socklen_t length = sizeof from;
  int fd = accept4 (agent.listener, (struct sockaddr *)&from, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0 && guest_is_host (&from))
    add_client (fd);
  else if (fd >= 0)
    close (fd);
}

/* Returns: whether it was the child of a connection. */
static int
reap_connect (pid_t pid)
{
  for (pid_t *slot = agent.connects; slot < agent.connects + MAX_CONNECTS; slot++)
    if (*slot == pid) {
      *slot = 0;
      return 1;
    }
  return 0;
}

static void
reap_children (void)
{
  int status;
  for (pid_t pid = waitpid (-1, &status, WNOHANG); pid > 0; pid = waitpid (-1, &status, WNOHANG)) {
    Behind *slot = agent.behind;
    while (slot < agent.behind + MAX_BEHIND && slot->pid != pid)
      slot++;
    if (slot == agent.behind + MAX_BEHIND) {
      agent.sessions -= !reap_connect (pid);
      continue;
    }
    slot->pid = 0;
    Client *client = find_client (slot->client);
    if (client)
      answer (client, slot->token, status == 0 ? "ok" : slot->problem);
  }
}

/* SIGIO is how the port says that its host end was opened or closed, see virtio_console.c of the kernel. */
static void
read_signals (void)
{
  struct signalfd_siginfo info;
  while (read (agent.signals, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == GUEST_KEEPER_DIED)
      agent.parent_died = 1;
    if (info.ssi_signo == SIGIO)
      agent.port_hung_up = 0;
  }
  reap_children ();
}

static void
stop_looking_for_port (void)
{
  if (agent.uevents >= 0)
    close (agent.uevents);
  agent.uevents = -1;
}

/* A stream of the port is a client as any other. */
static int
accept_stream (void *data)
{
  int ends[2];
  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
    return -1;
  if (add_client (ends[0]))
    return ends[1];
  close (ends[1]);
  return -1;
}

static void
run_mux (void)
{
  if (banger_mux_run (agent.mux) < 0)
    agent.port_hung_up = 1;
}

/* Opens the port if it is there by now. */
static void
look_for_port (void)
{
  char path[80];
  guest_uevents_drain (agent.uevents);
  if (guest_serial_port_find (BANGER_GUEST_SERIAL_PORT, path, sizeof path) < 0)
    return;
  int fd = open (path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return; /* the node may come with the next event */
  static const BangerMuxCalls calls = { .opened = accept_stream };
  fcntl (fd, F_SETOWN, getpid ());
  fcntl (fd, F_SETFL, O_NONBLOCK | O_ASYNC);
  agent.port = fd;
  agent.mux = banger_mux_new (fd, &calls, NULL);
  if (!agent.mux)
    guest_warn ("the agent's port cannot be served: %s", strerror (errno));
  stop_looking_for_port ();
}

static void
look_later (void)
{
  agent.next_look = guest_now_ms ()
                    + (guest_init_is_systemd (agent.init) ? LISTENER_LOOK_SYSTEMD_MS : LISTENER_LOOK_MS);
}

static void
look_for_listener (void)
{
  if (guest_ssh_listening (0))
    become_ready ();
  look_later ();
}

static void
read_ready_socket (void)
{
  char word[16] = "";
  if (recv (agent.ready_socket, word, sizeof word - 1, MSG_DONTWAIT) < 0)
    return;
  if (strcmp (word, GUEST_TELLS_READY) == 0)
    become_ready ();
  if (strcmp (word, GUEST_TELLS_WAIT) == 0 && !agent.no_sshd) {
    agent.is_ready = 0;
    look_later ();
  }
}

static int
poll_timeout (void)
{
  long long now = guest_now_ms (), next = -1;
  if (!agent.is_ready)
    next = agent.next_look;
  if (agent.uevents >= 0 && (next < 0 || agent.serial_deadline < next))
    next = agent.serial_deadline;
  if (next < 0)
    return -1;
  return next <= now ? 0 : (int)(next - now);
}

static void
handle_timeouts (void)
{
  long long now = guest_now_ms ();
  if (agent.uevents >= 0 && now >= agent.serial_deadline)
    stop_looking_for_port ();
  if (!agent.is_ready && now >= agent.next_look)
    look_for_listener ();
}

static void
run_once (void)
{
  enum { LISTENER, READY_SOCKET, SIGNALS, UEVENTS, MUX, FIRST_CLIENT };
  static void (*const handlers[]) (void) = { accept_client, read_ready_socket, read_signals, look_for_port, run_mux };
  struct pollfd fds[FIRST_CLIENT + MAX_CLIENTS] = {
    [LISTENER] = { .fd = agent.listener, .events = POLLIN },
    [READY_SOCKET] = { .fd = agent.ready_socket, .events = POLLIN },
    [SIGNALS] = { .fd = agent.signals, .events = POLLIN },
    [UEVENTS] = { .fd = agent.uevents, .events = POLLIN },
    [MUX] = { .fd = agent.mux && !agent.port_hung_up ? banger_mux_fd (agent.mux) : -1, .events = POLLIN },
  };
  for (int i = 0; i < MAX_CLIENTS; i++) {
    const Client *client = &agent.clients[i];
    short events = client->stream > 0 ? POLLRDHUP : POLLIN;
    fds[FIRST_CLIENT + i].fd = client->fd;
    fds[FIRST_CLIENT + i].events = client->out_used > 0 ? events | POLLOUT : events;
  }

  if (poll (fds, FIRST_CLIENT + MAX_CLIENTS, poll_timeout ()) > 0) {
    for (int i = 0; i < MAX_CLIENTS; i++)
      handle_client_events (&agent.clients[i], fds[FIRST_CLIENT + i].revents);
    for (int i = 0; i < FIRST_CLIENT; i++)
      if (fds[i].revents != 0)
        handlers[i]();
  }
  handle_timeouts ();
}

static int
open_signals (void)
{
  sigset_t set;
  sigemptyset (&set);
  sigaddset (&set, SIGCHLD);
  sigaddset (&set, SIGIO);
  sigaddset (&set, GUEST_KEEPER_DIED);
  if (sigprocmask (SIG_BLOCK, &set, NULL) < 0)
    return -1;
  return signalfd (-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int
open_ready_socket (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = GUEST_AGENT_SOCKET };
  int fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -1;
  unlink (GUEST_AGENT_SOCKET);
  mode_t old = umask (0177);
  int r = bind (fd, (struct sockaddr *)&address, sizeof address);
  umask (old);
  if (r == 0)
    return fd;
  close (fd);
  return -1;
}

/* Returns: when it cannot work, or its parent has died. */
static void
serve (void)
{
  agent.signals = open_signals ();
  agent.ready_socket = open_ready_socket ();
  agent.uevents = guest_uevents_open ();
  if (agent.signals < 0 || agent.ready_socket < 0 || agent.uevents < 0) {
    guest_warn ("the agent cannot work: %s", strerror (errno));
    return;
  }
  agent.serial_deadline = guest_now_ms () + SERIAL_WAIT_MS;
  if (agent.no_sshd)
    become_ready ();
  else
    look_for_listener (); /* an agent that was started again finds ssh there */
  look_for_port ();
  while (!agent.parent_died)
    run_once ();
}

int
guest_agent_main (char **arguments)
{
  if (!arguments[0] || !arguments[1] || !arguments[2])
    return 125;
  agent.listener = atoi (arguments[0]);
  agent.init = guest_init_kind_of_word (arguments[1]);
  agent.no_sshd = arguments[3] && strcmp (arguments[3], BANGER_GUEST_NO_SSHD) == 0;
  snprintf (agent.boot_token, sizeof agent.boot_token, "%s", arguments[2]);
  for (int i = 0; i < MAX_CLIENTS; i++)
    agent.clients[i].fd = -1;

  if (agent.listener >= 0)
    fcntl (agent.listener, F_SETFD, FD_CLOEXEC);
  signal (SIGPIPE, SIG_IGN); /* the host closes between question and answer */
  const GuestAgentOptions options = { agent.listener, agent.init, agent.no_sshd, agent.boot_token };
  guest_keep_serving (&options, serve);
}
