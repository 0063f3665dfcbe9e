/* Names of VMs, served on 127.0.0.1 by UDP and TCP.
 * Never blocks the main loop: what cannot be sent at once is not sent. */
#include "manager/net/dns.h"

#include <errno.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "common/error.h"
#include "common/fd.h"

#define MAX_CLIENTS 32   /* over TCP; one more ends the oldest */
#define CLIENT_SECONDS 5 /* for each question */
#define BACKLOG 32
#define TURN 32                /* packets, or connections, before others have their turn */
#define NO_DESCRIPTOR_MSEC 500 /* that nobody is let in after there was none left */
#define SEND_BYTES 8192        /* of answers that nobody reads, in the kernel */
#define PREFIX 2               /* bytes: the length before each message over TCP, RFC 1035 4.2.2 */

struct BangerDns {
  BangerZone *zone;
  int udp, tcp;
  guint udp_source, tcp_source, pause_id;
  GQueue clients; /* Client, the oldest first */
};

typedef struct {
  BangerDns *dns;
  int fd;
  guint source, timeout_id;
  gsize have;
  guint8 in[PREFIX + BANGER_ZONE_MAX_QUERY];
} Client;

static guint
watch (int fd, GUnixFDSourceFunc func, gpointer user_data)
{
  GSource *source = g_unix_fd_source_new (fd, G_IO_IN);
  g_source_set_priority (source, G_PRIORITY_DEFAULT_IDLE);
  g_source_set_callback (source, G_SOURCE_FUNC (func), user_data, NULL);
  guint id = g_source_attach (source, NULL);
  g_source_unref (source);
  return id;
}

static void
client_free (gpointer data)
{
  Client *client = data;
  g_queue_remove (&client->dns->clients, client);
  g_clear_handle_id (&client->source, g_source_remove);
  g_clear_handle_id (&client->timeout_id, g_source_remove);
  banger_clear_fd (&client->fd);
  g_free (client);
}

static gboolean
on_client_timeout (gpointer data)
{
  Client *client = data;
  client->timeout_id = 0;
  client_free (client);
  return G_SOURCE_REMOVE;
}

static void
client_wait (Client *client)
{
  g_clear_handle_id (&client->timeout_id, g_source_remove);
  client->timeout_id = g_timeout_add_seconds (CLIENT_SECONDS, on_client_timeout, client);
}

/* Whoever does not read its answers, or asks what no one would, is let go. */
static gboolean
client_answer (Client *client, gsize length)
{
  gsize n = 0;
  guint8 out[PREFIX + BANGER_ZONE_MAX_REPLY];
  g_autofree guint8 *reply = banger_zone_answer (client->dns->zone, client->in + PREFIX, length, &n);
  if (!reply)
    return FALSE;
  out[0] = (guint8)(n >> 8);
  out[1] = (guint8)n;
  memcpy (out + PREFIX, reply, n);
  return send (client->fd, out, PREFIX + n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)(PREFIX + n);
}

/* All whole messages that are there. */
static gboolean
client_take (Client *client)
{
  while (client->have >= PREFIX) {
    gsize length = (gsize)client->in[0] << 8 | client->in[1], whole = PREFIX + length;
    if (whole > sizeof client->in)
      return FALSE;
    if (client->have < whole)
      return TRUE;
    if (!client_answer (client, length))
      return FALSE;
    client->have -= whole;
    memmove (client->in, client->in + whole, client->have);
    client_wait (client);
  }
  return TRUE;
}

static gboolean
on_client (int fd, GIOCondition condition, gpointer data)
{
  Client *client = data;
  ssize_t n = recv (fd, client->in + client->have, sizeof client->in - client->have, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return G_SOURCE_CONTINUE;
  if (n > 0) {
    client->have += (gsize)n;
    if (client_take (client))
      return G_SOURCE_CONTINUE;
  }
  client_free (client);
  return G_SOURCE_REMOVE;
}

static void
add_client (BangerDns *dns, int fd)
{
  if (g_queue_get_length (&dns->clients) >= MAX_CLIENTS)
    client_free (g_queue_peek_head (&dns->clients));
  static const int little = SEND_BYTES;
  (void)setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
  Client *client = g_new0 (Client, 1);
  client->dns = dns;
  client->fd = fd;
  client->source = watch (fd, on_client, client);
  client_wait (client);
  g_queue_push_tail (&dns->clients, client);
}

static gboolean on_tcp (int fd, GIOCondition condition, gpointer data);

static gboolean
on_pause_over (gpointer data)
{
  BangerDns *dns = data;
  dns->pause_id = 0;
  dns->tcp_source = watch (dns->tcp, on_tcp, dns);
  return G_SOURCE_REMOVE;
}

static gboolean
on_tcp (int fd, GIOCondition condition, gpointer data)
{
  BangerDns *dns = data;
  for (guint i = 0; i < TURN; i++) {
    int client = accept4 (fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0)
      add_client (dns, client);
    else if (errno == EAGAIN)
      return G_SOURCE_CONTINUE;
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      dns->tcp_source = 0; /* it stays readable */
      dns->pause_id = g_timeout_add (NO_DESCRIPTOR_MSEC, on_pause_over, dns);
      return G_SOURCE_REMOVE;
    }
  }
  return G_SOURCE_CONTINUE;
}

static gboolean
on_udp (int fd, GIOCondition condition, gpointer data)
{
  BangerDns *dns = data;
  for (guint i = 0; i < TURN; i++) {
    guint8 query[BANGER_ZONE_MAX_QUERY];
    struct sockaddr_in from;
    socklen_t from_length = sizeof from;
    ssize_t n = recvfrom (fd, query, sizeof query, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &from_length);
    gsize length = 0;
    if (n < 0 && errno == EAGAIN)
      break;
    if (n < 0 || (gsize)n > sizeof query)
      continue;
    g_autofree guint8 *reply = banger_zone_answer (dns->zone, query, (gsize)n, &length);
    if (reply)
      (void)sendto (fd, reply, length, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&from, from_length);
  }
  return G_SOURCE_CONTINUE;
}

/* Without SO_REUSEADDR for UDP: with it anybody could have the port too. For TCP it only means that connections which
 * have ended do not keep it. */
static int
open_socket (int type, guint16 port, GError **error)
{
  static const int yes = 1;
  const struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons (port),
                                       .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  banger_autofd int fd = socket (AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && (type != SOCK_STREAM || setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0)
      && bind (fd, (const struct sockaddr *)&address, sizeof address) == 0
      && (type != SOCK_STREAM || listen (fd, BACKLOG) == 0))
    return banger_steal_fd (&fd);
  banger_set_error_errno (error, errno == EADDRINUSE ? BANGER_ERROR_IN_USE : BANGER_ERROR_FAILED, errno,
                          "cannot listen on port %u of 127.0.0.1 (%s)", port, type == SOCK_STREAM ? "TCP" : "UDP");
  return -1;
}

BangerDns *
banger_dns_new (BangerZone *zone, guint16 port, GError **error)
{
  g_autoptr (BangerDns) dns = g_new0 (BangerDns, 1);
  dns->zone = zone;
  dns->tcp = -1;
  g_queue_init (&dns->clients);
  dns->udp = open_socket (SOCK_DGRAM, port, error);
  if (dns->udp >= 0)
    dns->tcp = open_socket (SOCK_STREAM, port, error);
  if (dns->tcp < 0)
    return NULL;
  dns->udp_source = watch (dns->udp, on_udp, dns);
  dns->tcp_source = watch (dns->tcp, on_tcp, dns);
  return g_steal_pointer (&dns);
}

void
banger_dns_free (BangerDns *dns)
{
  if (!dns)
    return;
  while (!g_queue_is_empty (&dns->clients))
    client_free (g_queue_peek_head (&dns->clients));
  g_clear_handle_id (&dns->udp_source, g_source_remove);
  g_clear_handle_id (&dns->tcp_source, g_source_remove);
  g_clear_handle_id (&dns->pause_id, g_source_remove);
  banger_clear_fd (&dns->udp);
  banger_clear_fd (&dns->tcp);
  g_free (dns);
}
