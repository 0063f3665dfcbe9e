/* Firecracker's vsock socket: clients say "CONNECT <port>", then have a stream to the guest: one of the mux in its
 * serial port.
 * Never reports OK before the guest's side accepted. See Firecracker's docs/vsock.md. */
#include "engine/vsock.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/guest-protocol.h"
#include "common/mux.h"
#include "engine/body.h"
#include "engine/engine-log.h"
#include "engine/listener.h"

#define COMMAND_LIMIT 64
#define CLIENT_LIMIT 256
#define ASK_AGAIN_MSEC 1000

/* One that has not said its command, or waits for the guest's side of the port. */
typedef struct {
  BangerVsock *vsock;
  int fd;
  char input[COMMAND_LIMIT];
  gsize length;
  guint32 port;
  guint source; /* on fd */
} Client;

struct BangerVsock {
  char *path;
  int listener;
  guint accept_source;
  GList *clients; /* Client *, oldest first */

  int serial_fd; /* -1: not there yet */
  guint serial_source;
  gboolean serial_open; /* the guest has it open */
  BangerMux *mux;       /* while it has */
  guint mux_source, ask_source;
};

static void
client_free (Client *client)
{
  client->vsock->clients = g_list_remove (client->vsock->clients, client);
  if (client->source != 0)
    g_source_remove (client->source);
  banger_clear_fd (&client->fd);
  g_free (client);
}

static void
handle_accepted (int fd, void *data)
{
  char ok[32];
  int n = snprintf (ok, sizeof ok, "OK %d\n", BANGER_GUEST_PORT);
  if (send (fd, ok, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
    shutdown (fd, SHUT_RDWR);
}

static void
stop_mux (BangerVsock *vsock)
{
  g_clear_handle_id (&vsock->mux_source, g_source_remove);
  g_clear_handle_id (&vsock->ask_source, g_source_remove);
  g_clear_pointer (&vsock->mux, banger_mux_free);
}

static gboolean
handle_mux (int fd, GIOCondition condition, gpointer data)
{
  BangerVsock *vsock = data;
  if (banger_mux_run (vsock->mux) == 0)
    return G_SOURCE_CONTINUE;
  /* QEMU is gone; its exit is noticed elsewhere. */
  vsock->mux_source = 0;
  stop_mux (vsock);
  return G_SOURCE_REMOVE;
}

static gboolean
ask_again (gpointer data)
{
  BangerVsock *vsock = data;
  if (banger_mux_sync_again (vsock->mux))
    return G_SOURCE_CONTINUE;
  vsock->ask_source = 0;
  return G_SOURCE_REMOVE;
}

static void
start_mux (BangerVsock *vsock)
{
  static const BangerMuxCalls calls = { .accepted = handle_accepted };
  g_clear_handle_id (&vsock->serial_source, g_source_remove);
  vsock->mux = banger_mux_new (vsock->serial_fd, &calls, vsock);
  if (!vsock->mux) {
    vmm_error ("vsock: %s", g_strerror (errno));
    return;
  }
  guint64 nonce = (guint64)g_random_int () << 32 | g_random_int ();
  banger_mux_sync (vsock->mux, nonce);
  vsock->mux_source = g_unix_fd_add (banger_mux_fd (vsock->mux), G_IO_IN, handle_mux, vsock);
  vsock->ask_source = g_timeout_add (ASK_AGAIN_MSEC, ask_again, vsock);
}

/* What the guest says while nobody listens is dropped, so that its writes never block. */
static gboolean
handle_unheard (int fd, GIOCondition condition, gpointer data)
{
  BangerVsock *vsock = data;
  char buffer[4096];
  ssize_t n = recv (fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
    return G_SOURCE_CONTINUE;
  vsock->serial_source = 0;
  return G_SOURCE_REMOVE;
}

static void
listen_to_serial (BangerVsock *vsock)
{
  if (vsock->serial_fd >= 0 && !vsock->mux && vsock->serial_source == 0)
    vsock->serial_source = g_unix_fd_add (vsock->serial_fd, G_IO_IN | G_IO_HUP | G_IO_ERR, handle_unheard, vsock);
}

static void
open_stream (Client *client)
{
  if (banger_mux_open (client->vsock->mux, client->fd) == 0)
    client->fd = -1;
  else
    vmm_info ("vsock: all streams are in use");
  client_free (client);
}

static gboolean
handle_waiting_gone (int fd, GIOCondition condition, gpointer data)
{
  Client *client = data;
  client->source = 0;
  client_free (client);
  return G_SOURCE_REMOVE;
}

static void
place_client (Client *client)
{
  if (client->port != BANGER_GUEST_PORT) {
    vmm_info ("vsock: port %u is not served over the serial port", client->port);
    client_free (client);
    return;
  }
  if (client->vsock->mux)
    open_stream (client);
  else
    client->source = g_unix_fd_add (client->fd, G_IO_HUP | G_IO_ERR, handle_waiting_gone, client);
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

/* What is behind the line belongs to the stream, and is left there. Returns: as recv(2). */
static ssize_t
read_command (Client *client, gboolean *ret_whole)
{
  char *at = client->input + client->length;
  ssize_t n = recv (client->fd, at, sizeof client->input - client->length, MSG_DONTWAIT | MSG_PEEK);
  if (n <= 0)
    return n;
  char *end = memchr (at, '\n', (gsize)n);
  n = recv (client->fd, at, end ? (gsize)(end + 1 - at) : (gsize)n, MSG_DONTWAIT);
  client->length += n > 0 ? (gsize)n : 0;
  *ret_whole = end != NULL;
  if (end)
    *end = '\0';
  return n;
}

static gboolean
handle_command (int fd, GIOCondition condition, gpointer data)
{
  Client *client = data;
  gboolean whole = FALSE;
  ssize_t n = read_command (client, &whole);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n > 0 && !whole && client->length < sizeof client->input)
    return G_SOURCE_CONTINUE;

  client->source = 0;
  client->port = whole ? parse_command (client->input) : 0;
  if (client->port == 0) {
    if (n > 0)
      vmm_info ("vsock: a client did not say CONNECT <port>");
    client_free (client);
  } else {
    place_client (client);
  }
  return G_SOURCE_REMOVE;
}

static gboolean
handle_accept (int fd, GIOCondition condition, gpointer data)
{
  BangerVsock *vsock = data;
  banger_autofd int connection = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection < 0 || g_list_length (vsock->clients) >= CLIENT_LIMIT)
    return G_SOURCE_CONTINUE;
  Client *client = g_new0 (Client, 1);
  client->vsock = vsock;
  client->fd = banger_steal_fd (&connection);
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

/* Whoever waited for the guest is served now. */
static void
look_at_serial (BangerVsock *vsock)
{
  stop_mux (vsock);
  if (vsock->serial_fd >= 0 && vsock->serial_open)
    start_mux (vsock);
  listen_to_serial (vsock);
  for (GList *l = vsock->clients, *next; l && vsock->mux; l = next) {
    Client *client = l->data;
    next = l->next;
    if (client->port != 0)
      open_stream (client);
  }
}

void
banger_vsock_use_serial (BangerVsock *vsock, int fd)
{
  vsock->serial_fd = fd;
  g_unix_set_fd_nonblocking (fd, TRUE, NULL);
  vsock->accept_source = g_unix_fd_add (vsock->listener, G_IO_IN, handle_accept, vsock);
  look_at_serial (vsock);
}

void
banger_vsock_serial_opened (BangerVsock *vsock, gboolean opened)
{
  vsock->serial_open = opened;
  look_at_serial (vsock);
}

void
banger_vsock_free (BangerVsock *vsock)
{
  if (vsock->accept_source != 0)
    g_source_remove (vsock->accept_source);
  while (vsock->clients)
    client_free (vsock->clients->data);
  stop_mux (vsock);
  if (vsock->serial_source != 0)
    g_source_remove (vsock->serial_source);
  banger_clear_fd (&vsock->serial_fd);
  banger_clear_fd (&vsock->listener);
  unlink (vsock->path);
  g_free (vsock->path);
  g_free (vsock);
}
