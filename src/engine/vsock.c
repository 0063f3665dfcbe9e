/* Firecracker's vsock socket: clients say "CONNECT <port>", then have a stream to the guest.
 * Used by the instance.
 * Never reports OK before the guest's side accepted. See Firecracker's docs/vsock.md. */
#include "engine/vsock.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "engine/body.h"
#include "engine/engine-log.h"
#include "engine/listener.h"
#include "engine/relay.h"

#define COMMAND_LIMIT 64
#define CLIENT_LIMIT 256
#define CONNECT_TIMEOUT_SECONDS 600

typedef struct {
  BangerVsock *vsock;
  int fd;
  char input[COMMAND_LIMIT];
  gsize length;
  guint32 port;
  int guest_fd;       /* vhost: while connecting */
  guint source;       /* on fd or guest_fd */
  BangerRelay *relay; /* once connected */
} Client;

struct BangerVsock {
  char *path;
  int listener;
  guint accept_source;
  GList *clients; /* Client *, oldest first */

  gboolean vhost;
  guint32 cid;

  int serial_fd; /* while no client has it */
  guint serial_source;
  gboolean serial, serial_open;
};

static void serve_waiting (BangerVsock *vsock);

static void
client_free (Client *client)
{
  BangerVsock *vsock = client->vsock;
  vsock->clients = g_list_remove (vsock->clients, client);
  if (client->source != 0)
    g_source_remove (client->source);
  if (client->relay != NULL) {
    if (vsock->serial)
      vsock->serial_fd = banger_relay_steal_b (client->relay);
    banger_relay_free (client->relay);
  }
  banger_clear_fd (&client->fd);
  banger_clear_fd (&client->guest_fd);
  g_free (client);
}

static void
handle_relay_done (BangerRelay *relay, gpointer user_data)
{
  Client *client = user_data;
  BangerVsock *vsock = client->vsock;
  client_free (client);
  serve_waiting (vsock);
}

/* The bytes that came with the command line belong to the stream. */
static void
start_relay (Client *client, int guest_fd, guint32 host_port)
{
  char ok[32];
  int n = snprintf (ok, sizeof ok, "OK %u\n", host_port);
  if (send (client->fd, ok, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
    if (guest_fd != client->vsock->serial_fd)
      close (guest_fd);
    client_free (client);
    return;
  }
  if (client->vsock->serial)
    client->vsock->serial_fd = -1;
  client->relay = banger_relay_new (banger_steal_fd (&client->fd), guest_fd, client->input, client->length,
                                    client->vsock->serial, handle_relay_done, client);
}

static gboolean
handle_connected (int fd, GIOCondition condition, gpointer user_data)
{
  Client *client = user_data;
  int failure = 0;
  socklen_t length = sizeof failure;
  struct sockaddr_vm local = { 0 };
  socklen_t local_length = sizeof local;
  client->source = 0;
  getsockopt (fd, SOL_SOCKET, SO_ERROR, &failure, &length);
  if (failure != 0) {
    vmm_info ("vsock: port %u of the guest: %s", client->port, g_strerror (failure));
    client_free (client);
    return G_SOURCE_REMOVE;
  }
  getsockname (fd, (struct sockaddr *)&local, &local_length);
  start_relay (client, banger_steal_fd (&client->guest_fd), local.svm_port);
  return G_SOURCE_REMOVE;
}

static void
connect_vhost (Client *client)
{
  struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = client->vsock->cid, .svm_port = client->port };
  struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT_SECONDS };
  client->guest_fd = socket (AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (client->guest_fd >= 0)
    setsockopt (client->guest_fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof timeout);
  if (client->guest_fd < 0
      || (connect (client->guest_fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS))
  {
    vmm_warning ("vsock: connecting to port %u of the guest: %s", client->port, g_strerror (errno));
    client_free (client);
    return;
  }
  client->source = g_unix_fd_add (client->guest_fd, G_IO_OUT | G_IO_ERR | G_IO_HUP, handle_connected, client);
}

static gboolean
handle_waiting_gone (int fd, GIOCondition condition, gpointer user_data)
{
  Client *client = user_data;
  client->source = 0;
  client_free (client);
  return G_SOURCE_REMOVE;
}

/* What the guest says while nobody listens is dropped, so that its writes never block. */
static gboolean
handle_unheard (int fd, GIOCondition condition, gpointer user_data)
{
  BangerVsock *vsock = user_data;
  char buffer[4096];
  ssize_t n = recv (fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
    return G_SOURCE_CONTINUE;
  /* QEMU is gone; its exit is noticed elsewhere. */
  vsock->serial_source = 0;
  return G_SOURCE_REMOVE;
}

static Client *
first_waiting (const BangerVsock *vsock)
{
  for (GList *l = vsock->clients; l != NULL; l = l->next) {
    Client *client = l->data;
    if (client->port != 0 && client->relay == NULL)
      return client;
  }
  return NULL;
}

/* The serial port: the oldest client that asked for the agent gets it. */
static void
serve_waiting (BangerVsock *vsock)
{
  Client *client;
  while (vsock->serial && vsock->serial_open && vsock->serial_fd >= 0 && (client = first_waiting (vsock)) != NULL) {
    if (client->source != 0)
      g_source_remove (client->source);
    client->source = 0;
    if (vsock->serial_source != 0)
      g_source_remove (vsock->serial_source);
    vsock->serial_source = 0;
    start_relay (client, vsock->serial_fd, BANGER_GUEST_PORT);
  }
  if (vsock->serial && vsock->serial_fd >= 0 && vsock->serial_source == 0)
    vsock->serial_source = g_unix_fd_add (vsock->serial_fd, G_IO_IN | G_IO_HUP | G_IO_ERR, handle_unheard, vsock);
}

static void
place_client (Client *client)
{
  BangerVsock *vsock = client->vsock;
  if (vsock->vhost) {
    connect_vhost (client);
    return;
  }
  if (client->port != BANGER_GUEST_PORT) {
    vmm_info ("vsock: port %u is not served over the serial port", client->port);
    client_free (client);
    return;
  }
  client->source = g_unix_fd_add (client->fd, G_IO_HUP | G_IO_ERR, handle_waiting_gone, client);
  serve_waiting (vsock);
}

/* Returns: the port of "CONNECT <port>", 0 if the line is anything else. */
static guint32
parse_command (const char *line)
{
  guint64 port = 0;
  if (!g_str_has_prefix (line, "CONNECT ")
      || !g_ascii_string_to_unsigned (line + strlen ("CONNECT "), 10, 1, G_MAXUINT32 - 1, &port, NULL))
    return 0;
  return (guint32)port;
}

static gboolean
handle_command (int fd, GIOCondition condition, gpointer user_data)
{
  Client *client = user_data;
  ssize_t n = recv (fd, client->input + client->length, sizeof client->input - client->length, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  char *end = NULL;
  if (n > 0) {
    client->length += (gsize)n;
    end = memchr (client->input, '\n', client->length);
  }
  if (n > 0 && end == NULL && client->length < sizeof client->input)
    return G_SOURCE_CONTINUE;

  client->source = 0;
  if (end != NULL) {
    *end = '\0';
    client->port = parse_command (client->input);
  }
  if (client->port == 0) {
    if (n > 0)
      vmm_info ("vsock: a client did not say CONNECT <port>");
    client_free (client);
    return G_SOURCE_REMOVE;
  }
  client->length -= (gsize)(end + 1 - client->input);
  memmove (client->input, end + 1, client->length);
  place_client (client);
  return G_SOURCE_REMOVE;
}

static gboolean
handle_accept (int fd, GIOCondition condition, gpointer user_data)
{
  BangerVsock *vsock = user_data;
  banger_autofd int connection = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection < 0 || g_list_length (vsock->clients) >= CLIENT_LIMIT)
    return G_SOURCE_CONTINUE;
  Client *client = g_new0 (Client, 1);
  client->vsock = vsock;
  client->fd = banger_steal_fd (&connection);
  client->guest_fd = -1;
  vsock->clients = g_list_append (vsock->clients, client);
  client->source = g_unix_fd_add (client->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, handle_command, client);
  return G_SOURCE_CONTINUE;
}

BangerVsock *
banger_vsock_new (const char *uds_path, GError **error)
{
  int fd = banger_listen_unix (uds_path, 64);
  if (fd < 0) {
    g_set_error (error, BANGER_VMM_ERROR, BANGER_VMM_ERROR_HOST,
                 "Vsock config error: Cannot create backend for vsock device: Error binding to the host-side Unix "
                 "socket: %s: %s",
                 uds_path, g_strerror (errno));
    return NULL;
  }
  BangerVsock *vsock = g_new0 (BangerVsock, 1);
  vsock->path = g_strdup (uds_path);
  vsock->listener = fd;
  vsock->serial_fd = -1;
  return vsock;
}

static void
start_accepting (BangerVsock *vsock)
{
  vsock->accept_source = g_unix_fd_add (vsock->listener, G_IO_IN, handle_accept, vsock);
}

void
banger_vsock_use_vhost (BangerVsock *vsock, guint32 cid)
{
  vsock->vhost = TRUE;
  vsock->cid = cid;
  start_accepting (vsock);
}

void
banger_vsock_use_serial (BangerVsock *vsock, int fd)
{
  vsock->serial = TRUE;
  vsock->serial_fd = fd;
  g_unix_set_fd_nonblocking (fd, TRUE, NULL);
  start_accepting (vsock);
  serve_waiting (vsock);
}

void
banger_vsock_serial_opened (BangerVsock *vsock, gboolean opened)
{
  vsock->serial_open = opened;
  if (opened) {
    serve_waiting (vsock);
    return;
  }
  for (GList *l = vsock->clients; l != NULL; l = l->next) {
    Client *client = l->data;
    if (client->relay == NULL)
      continue;
    client_free (client);
    break;
  }
  serve_waiting (vsock);
}

void
banger_vsock_free (BangerVsock *vsock)
{
  if (vsock->accept_source != 0)
    g_source_remove (vsock->accept_source);
  while (vsock->clients != NULL)
    client_free (vsock->clients->data);
  if (vsock->serial_source != 0)
    g_source_remove (vsock->serial_source);
  banger_clear_fd (&vsock->serial_fd);
  banger_clear_fd (&vsock->listener);
  unlink (vsock->path);
  g_free (vsock->path);
  g_free (vsock);
}
