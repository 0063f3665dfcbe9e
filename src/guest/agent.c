/* One process, one poll(2): vsock clients, the virtio-serial port, the ready socket, child processes.
 * Forked by the start-up code, kept until the machine ends.
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
#include "guest/devices.h"
#include "guest/file.h"
#include "guest/power.h"
#include "guest/protocol.h"
#include "guest/ready.h"
#include "guest/report.h"

#define MAX_CLIENTS 16
#define MAX_SYNCS 16
#define SERIAL_WAIT_MS 15000
#define LISTENER_LOOK_MS 250          /* images without systemd */
#define LISTENER_LOOK_SYSTEMD_MS 2000 /* images whose ssh has another unit name */

typedef struct {
  int fd; /* -1: free */
  unsigned serial;
  int is_port; /* the virtio-serial port: stays open when the host leaves */
  int hung_up; /* the host end of the port is closed */
  int too_long;
  size_t used;
  char line[BANGER_GUEST_MAX_LINE];
  size_t out_used; /* answers that could not be written yet */
  char out[1024];
} Client;

typedef struct {
  pid_t pid; /* 0: free */
  unsigned client;
  char token[GUEST_MAX_TOKEN + 1];
} Sync;

typedef struct {
  int listener, ready_socket, signals, uevents;
  int is_systemd, is_ready;
  char boot_id[65];
  long long serial_deadline, next_look;
  unsigned last_serial;
  Client clients[MAX_CLIENTS];
  Sync syncs[MAX_SYNCS];
} Agent;

static Agent agent = { .listener = -1, .ready_socket = -1, .signals = -1, .uevents = -1 };

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

int
guest_agent_spawn (int listener, int is_systemd, const char *boot_token)
{
  pid_t pid = fork ();
  if (pid != 0)
    return pid < 0 ? -1 : 0;

  char number[16];
  snprintf (number, sizeof number, "%d", listener);
  guest_stop_watchdog ();
  setsid ();
  if (listener >= 0)
    fcntl (listener, F_SETFD, 0);
  /* systemd spares a process whose name begins with '@' when it kills what is left before the restart, see
   * https://systemd.io/ROOT_STORAGE_DAEMONS. */
  execl (BANGER_GUEST_BINARY, "@banger-guest", GUEST_AGENT_COMMAND, number, is_systemd ? "systemd" : "other",
         boot_token, NULL);
  guest_warn ("cannot run " BANGER_GUEST_BINARY ": %s", strerror (errno));
  _exit (1);
}

static void
drop_client (Client *client)
{
  client->used = 0;
  client->too_long = 0;
  if (client->is_port) {
    client->hung_up = 1;
    return;
  }
  close (client->fd);
  client->fd = -1;
}

static void
flush_client (Client *client)
{
  while (client->fd >= 0 && client->out_used > 0) {
    ssize_t n = write (client->fd, client->out, client->out_used);
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

/* The port can bring a request before the kernel has heard that its host end is open, and then takes no answer yet. */
static void
answer (Client *client, const char *token, const char *text)
{
  char line[256];
  size_t length = (size_t)snprintf (line, sizeof line, "%s %s\n", token, text);
  if (client->out_used + length > sizeof client->out) {
    client->out_used = 0; /* nobody listens */
    if (!client->is_port) {
      drop_client (client);
      return;
    }
  }
  memcpy (client->out + client->out_used, line, length);
  client->out_used += length;
  flush_client (client);
}

static Client *
add_client (int fd, int is_port)
{
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
    if (client->fd < 0) {
      *client = (Client){ .fd = fd, .is_port = is_port, .serial = ++agent.last_serial };
      return client;
    }
  close (fd);
  return NULL;
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
become_ready (void)
{
  if (agent.is_ready)
    return;
  agent.is_ready = 1;
  guest_note ("ssh answers");
  for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
    if (client->fd >= 0)
      answer (client, "ready", agent.boot_id);
}

static void
handle_hello (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok banger-guest " BANGER_VERSION);
  if (agent.is_ready && client->fd >= 0)
    answer (client, "ready", agent.boot_id);
}

static void
handle_ping (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
}

/* In a child: sync(2) may take long, and the agent must still hear a poweroff. */
static void
handle_sync (Client *client, const GuestRequest *request)
{
  for (Sync *slot = agent.syncs; slot < agent.syncs + MAX_SYNCS; slot++) {
    if (slot->pid != 0)
      continue;
    pid_t pid = guest_sync_start ();
    if (pid < 0)
      break;
    slot->pid = pid;
    slot->client = client->serial;
    strcpy (slot->token, request->token);
    return;
  }
  answer (client, request->token, "error cannot start another sync");
}

static void
handle_shutdown (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
  guest_note ("the host asks for a shutdown");
  guest_ask_init_to_restart (agent.is_systemd);
}

static void
handle_poweroff (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "ok");
  guest_note ("the host asks for a power-off");
  guest_restart_now ();
}

static void
handle_unknown (Client *client, const GuestRequest *request)
{
  answer (client, request->token, "error not understood: hello, ping, sync, shutdown, poweroff and a token");
}

static void
handle_line (Client *client, const char *line)
{
  static void (*const handlers[]) (Client *, const GuestRequest *) = {
    [GUEST_VERB_UNKNOWN] = handle_unknown,   [GUEST_VERB_HELLO] = handle_hello,
    [GUEST_VERB_PING] = handle_ping,         [GUEST_VERB_SYNC] = handle_sync,
    [GUEST_VERB_SHUTDOWN] = handle_shutdown, [GUEST_VERB_POWEROFF] = handle_poweroff,
  };
  GuestRequest request;
  guest_request_parse (line, &request);
  if (handlers[request.verb] != NULL)
    handlers[request.verb](client, &request);
}

/* Handles the whole lines of the buffer; what is too long for it is dropped up to its end. */
static void
handle_lines (Client *client)
{
  char *start = client->line, *end;
  while (client->fd >= 0 && (end = memchr (start, '\n', client->used - (size_t)(start - client->line))) != NULL) {
    *end = '\0';
    if (!client->too_long)
      handle_line (client, start);
    client->too_long = 0;
    start = end + 1;
  }
  if (client->used < (size_t)(start - client->line))
    return; /* dropped on the way */
  client->used -= (size_t)(start - client->line);
  memmove (client->line, start, client->used);
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
  if ((events & ~POLLOUT) != 0 && client->fd >= 0)
    read_client (client);
}

static void
accept_client (void)
{
  int fd = accept4 (agent.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0)
    add_client (fd, 0);
}

static void
read_ready_socket (void)
{
  char word[16];
  ssize_t n = recv (agent.ready_socket, word, sizeof word, MSG_DONTWAIT);
  if (n == 5 && memcmp (word, "ready", 5) == 0)
    become_ready ();
}

static void
reap_children (void)
{
  int status;
  for (pid_t pid = waitpid (-1, &status, WNOHANG); pid > 0; pid = waitpid (-1, &status, WNOHANG))
    for (Sync *slot = agent.syncs; slot < agent.syncs + MAX_SYNCS; slot++) {
      if (slot->pid != pid)
        continue;
      slot->pid = 0;
      Client *client = find_client (slot->client);
      if (client != NULL)
        answer (client, slot->token, status == 0 ? "ok" : "error sync failed");
    }
}

/* SIGIO is how the port says that its host end was opened or closed, see virtio_console.c of the kernel. */
static void
read_signals (void)
{
  struct signalfd_siginfo info;
  while (read (agent.signals, &info, sizeof info) == sizeof info)
    if (info.ssi_signo == SIGIO)
      for (Client *client = agent.clients; client < agent.clients + MAX_CLIENTS; client++)
        client->hung_up = 0;
  reap_children ();
}

static void
stop_looking_for_port (void)
{
  if (agent.uevents >= 0)
    close (agent.uevents);
  agent.uevents = -1;
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
  fcntl (fd, F_SETOWN, getpid ());
  fcntl (fd, F_SETFL, O_NONBLOCK | O_ASYNC);
  add_client (fd, 1);
  stop_looking_for_port ();
}

static void
look_for_listener (void)
{
  if (guest_ssh_listening ())
    become_ready ();
  agent.next_look = guest_now_ms () + (agent.is_systemd ? LISTENER_LOOK_SYSTEMD_MS : LISTENER_LOOK_MS);
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
  enum { LISTENER, READY_SOCKET, SIGNALS, UEVENTS, FIRST_CLIENT };
  static void (*const handlers[]) (void) = { accept_client, read_ready_socket, read_signals, look_for_port };
  struct pollfd fds[FIRST_CLIENT + MAX_CLIENTS] = {
    [LISTENER] = { .fd = agent.listener, .events = POLLIN },
    [READY_SOCKET] = { .fd = agent.ready_socket, .events = POLLIN },
    [SIGNALS] = { .fd = agent.signals, .events = POLLIN },
    [UEVENTS] = { .fd = agent.uevents, .events = POLLIN },
  };
  for (int i = 0; i < MAX_CLIENTS; i++) {
    const Client *client = &agent.clients[i];
    fds[FIRST_CLIENT + i].fd = client->hung_up ? -1 : client->fd;
    fds[FIRST_CLIENT + i].events = client->out_used > 0 ? POLLIN | POLLOUT : POLLIN;
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

static void
leave_the_console (void)
{
  int fd = open ("/dev/null", O_RDWR);
  for (int target = 0; fd >= 0 && target < 3; target++)
    dup2 (fd, target);
  if (fd > 2)
    close (fd);
}

/* Without the agent a stop would have to wait for ssh. */
static void
survive_memory_pressure (void)
{
  int fd = open ("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return;
  if (write (fd, "-1000", 5) != 5)
    guest_note ("cannot lower the agent's oom score");
  close (fd);
}

int
guest_agent_main (char **arguments)
{
  if (arguments[0] == NULL || arguments[1] == NULL || arguments[2] == NULL)
    return 125;
  agent.listener = atoi (arguments[0]);
  agent.is_systemd = strcmp (arguments[1], "systemd") == 0;
  snprintf (agent.boot_id, sizeof agent.boot_id, "%s", arguments[2]);
  if (agent.boot_id[0] == '\0')
    guest_read_word ("/proc/sys/kernel/random/boot_id", agent.boot_id, sizeof agent.boot_id);
  for (int i = 0; i < MAX_CLIENTS; i++)
    agent.clients[i].fd = -1;

  if (agent.listener >= 0)
    fcntl (agent.listener, F_SETFD, FD_CLOEXEC);
  leave_the_console ();
  survive_memory_pressure ();
  agent.signals = open_signals ();
  agent.ready_socket = open_ready_socket ();
  agent.uevents = guest_uevents_open ();
  if (agent.signals < 0 || agent.ready_socket < 0 || agent.uevents < 0) {
    guest_warn ("the agent cannot work: %s", strerror (errno));
    return 1;
  }
  agent.serial_deadline = guest_now_ms () + SERIAL_WAIT_MS;
  agent.next_look = guest_now_ms () + (agent.is_systemd ? LISTENER_LOOK_SYSTEMD_MS : LISTENER_LOOK_MS);
  look_for_port ();
  for (;;)
    run_once ();
}
